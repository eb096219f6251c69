# What concerns AWS: included by the Makefile of the root.
DEPLOY_TARGET := $(abspath $(TARGET))
AWS_CHECKS := $(DEPLOY_TARGET)/aws-checks
AWS_LOCAL := $(DEPLOY_TARGET)/aws-local
ASL := $(DEPLOY_TARGET)/asl-validator
IN_DEPLOY := cd deploy && PYTHONDONTWRITEBYTECODE=1
HOST := $(if $(filter aarch64 arm64,$(shell uname -m)),arm64,x86_64)
MEASURED := $(DEPLOY_TARGET)/lambda-measured
.PHONY: setup lint terraform-check machine-test demo-aws test-aws measure-functions deploy-plan deploy-apply

## what everything here needs, where it is missing: compiler, PostgreSQL, Python, the pinned environments
setup: $(S3_PYTHON) $(AWS_LOCAL)/.made
	@scripts/install-missing compiler postgresql python

## format and lints of Rust, Python and Terraform, and the directions between crates
lint: check $(AWS_CHECKS)/.made
	$(IN_DEPLOY) $(AWS_CHECKS)/bin/ruff check . && $(AWS_CHECKS)/bin/ruff format --check .
	terraform fmt -check -recursive deploy/terraform

## all offline checks of Terraform, policies, state machine and workflows, and mistakes planted to show that each can fail
terraform-check: $(AWS_CHECKS)/.made $(ASL)/node_modules/.bin/asl-validator
	$(IN_DEPLOY) $(AWS_CHECKS)/bin/ruff check . && $(AWS_CHECKS)/bin/ruff format --check .
	$(IN_DEPLOY) $(AWS_CHECKS)/bin/python -m checks --scratch $(DEPLOY_TARGET)/terraform-check --asl-validator $(ASL)/node_modules/.bin/asl-validator

## the rendered state machine on a local AWS server, with stand-ins for the functions: each error to its retry or catch
machine-test: $(AWS_LOCAL)/.made
	$(IN_DEPLOY) $(AWS_LOCAL)/bin/python -m unittest discover --start-directory local/tests --top-level-directory . --pattern 'test_machine*.py' --verbose

## the whole service on this machine: real functions, the rendered stacks, real PostgreSQL; ends with an alarm that arrives
demo-aws: $(AWS_LOCAL)/.made
	@scripts/install-missing compiler postgresql
	scripts/lambda-zips --profile dev --target $(HOST)
	$(IN_DEPLOY) $(AWS_LOCAL)/bin/python -m local.demo

## the tests of that service: parity with the command line, kills, overlaps, rotation, rights, bad settings
test-aws: $(AWS_LOCAL)/.made
	@scripts/install-missing compiler postgresql
	scripts/lambda-zips --profile dev --target $(HOST)
	$(IN_DEPLOY) $(AWS_LOCAL)/bin/python -m unittest discover --start-directory local/tests --top-level-directory . --pattern 'test_service*.py' --verbose

## size, cold start and peak memory of the functions as they are released, built for this machine; takes an optimised build of all of it
measure-functions: $(S3_PYTHON)
	@scripts/install-missing compiler postgresql python
	rm -rf $(MEASURED)
	@# A build for this machine may need its glibc: that is said, and no reason not to measure.
	-scripts/lambda-zips --target $(HOST) --output $(MEASURED)
	@for stage in ingest transform load; do \
		python3 -m zipfile --extract $(MEASURED)/$$stage.zip $(MEASURED)/$$stage && chmod +x $(MEASURED)/$$stage/bootstrap || exit 1; done
	STARLIFT_TEST_S3_PYTHON=$(S3_PYTHON) STARLIFT_TEST_FUNCTIONS=$(MEASURED) \
		cargo test --locked --workspace --test it -- --nocapture --test-threads 1 figures::a_function

## a plan of a stack, for review: STATE_BUCKET=… ENVIRONMENT=dev; STACK=immutable for the other one
deploy-plan:
	scripts/deploy plan $(or $(STACK),main)

## applies the plan that `make deploy-plan` made, and nothing else
deploy-apply:
	scripts/deploy apply $(or $(STACK),main)

$(AWS_CHECKS)/.made: scripts/aws-checks-requirements.txt
	@scripts/install-missing python
	python3 -m venv $(AWS_CHECKS)
	$(AWS_CHECKS)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

$(AWS_LOCAL)/.made: scripts/aws-local-requirements.txt
	@scripts/install-missing python
	python3 -m venv $(AWS_LOCAL)
	$(AWS_LOCAL)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

$(ASL)/node_modules/.bin/asl-validator: deploy/checks/package-lock.json
	@command -v npm >/dev/null || { echo "Please install Node.js with npm." >&2; exit 1; }
	mkdir -p $(ASL)
	cp deploy/checks/package.json deploy/checks/package-lock.json $(ASL)/
	npm ci --prefix $(ASL) --no-audit --no-fund
	@touch $@
