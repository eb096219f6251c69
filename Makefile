# `make demo` and `make test` need nothing but a Debian or Ubuntu machine with Rust: what is missing gets installed.
SHELL := /bin/bash
TARGET := $(or $(CARGO_TARGET_DIR),target)
BENCH_PYTHON := $(abspath $(TARGET))/bench-tools/bin/python
S3_PYTHON := $(abspath $(TARGET))/s3-server/bin/python
MOTO_PYTHON := $(abspath $(TARGET))/moto-server/bin/python
.PHONY: lambda-zips demo test test-versions soak fuzz check security-checks build release bench clean

## the whole pipeline on a private PostgreSQL: DEMO="--scale 2 --keep" passes options on
demo:
	@scripts/install-missing compiler postgresql
	cargo build --locked --workspace --bins
	@$(TARGET)/debug/starlift demo $(DEMO)

## all tests, on a private PostgreSQL and private servers that stand in for AWS
test: $(S3_PYTHON) $(MOTO_PYTHON)
	@scripts/install-missing compiler postgresql
	STARLIFT_TEST_S3_PYTHON=$(S3_PYTHON) STARLIFT_TEST_MOTO_PYTHON=$(MOTO_PYTHON) cargo test --locked --workspace

## the tests that meet PostgreSQL on other versions of it, from packages of npm: VERSIONS="13 18" names them, SUITES="postgres" the crates
test-versions: $(S3_PYTHON) $(MOTO_PYTHON)
	@scripts/install-missing compiler python
	STARLIFT_TEST_S3_PYTHON=$(S3_PYTHON) STARLIFT_TEST_MOTO_PYTHON=$(MOTO_PYTHON) scripts/test-versions $(VERSIONS)

## the long tests, fitted into MINUTES=30: a table of what was reached; SOAK_PROFILE=soak builds longer and reaches several times as much
soak: $(S3_PYTHON) $(MOTO_PYTHON)
	@scripts/install-missing compiler postgresql
	STARLIFT_TEST_S3_PYTHON=$(S3_PYTHON) STARLIFT_TEST_MOTO_PYTHON=$(MOTO_PYTHON) STARLIFT_SOAK_PROFILE=$(or $(SOAK_PROFILE),dev) scripts/soak $(or $(MINUTES),30)

## arbitrary bytes for every reader of what comes from outside, MINUTES=10 for each; takes a nightly Rust and cargo-fuzz
fuzz:
	@scripts/install-missing compiler
	@scripts/fuzz $(or $(MINUTES),10)

## what CI checks besides the tests
check:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	scripts/architecture
	scripts/forbids-unsafe

## what may enter the program: licences, sources, banned crates, advisories, and no unsafe code of ours
security-checks:
	scripts/security-checks $(TARGET)/tools

## an optimised binary: target/release/starlift
release:
	@scripts/install-missing compiler
	cargo build --locked --release --package starlift-cli
	@! grep --quiet --binary-files=text STARLIFT_FAULT $(TARGET)/release/starlift || { echo "the release has fault points in it" >&2; exit 1; }

## the benchmarks, in an optimised build: BENCH="--short extract load" passes options on, see benches/README.md
bench: release $(BENCH_PYTHON)
	@scripts/install-missing postgresql
	STARLIFT_BENCH_PYTHON=$(BENCH_PYTHON) cargo bench --locked --package starlift-cli --bench performance $(if $(BENCH),-- $(BENCH))

# What cannot be installed is said, and by the bench again: the other measurements do not wait for it.
$(BENCH_PYTHON): scripts/bench-requirements.txt
	@scripts/install-missing python
	python3 -m venv $(abspath $(TARGET))/bench-tools
	@grep -v '^#' $< | while read -r tool; do \
		$@ -m pip install --quiet --disable-pip-version-check "$$tool" || echo "not installed: $$tool" >&2; done
	@touch $@

## the functions of AWS Lambda as zips: target/lambda/{ingest,transform,load}.zip; ZIPS="--target arm64" passes options on
lambda-zips:
	@scripts/install-missing compiler python
	scripts/lambda-zips $(ZIPS)

include deploy/deploy.mk

$(S3_PYTHON): scripts/s3-requirements.txt
	@scripts/install-missing python
	python3 -m venv $(TARGET)/s3-server
	$(TARGET)/s3-server/bin/pip install --quiet --disable-pip-version-check --requirement scripts/s3-requirements.txt
	@touch $@

$(MOTO_PYTHON): scripts/moto-requirements.txt
	@scripts/install-missing python
	python3 -m venv $(TARGET)/moto-server
	$(TARGET)/moto-server/bin/pip install --quiet --disable-pip-version-check --requirement scripts/moto-requirements.txt
	@touch $@

clean:
	cargo clean
