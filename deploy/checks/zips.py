"""The zips of a plan: `terraform show -json PLAN | python3 -m checks.zips STACK` before it is reviewed, and before it is applied.

A plan names the zips and holds the hash of each, but Terraform reads them only when it applies, and takes what lies there then. So
nothing else shows that they are what was planned, that they were built for the functions' processor, and that they are a release.
"""

import base64
import hashlib
import importlib.util
import io
import json
import pathlib
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from typing import Any

from checks.failure import Failed

# `e_machine` in the header of an ELF file, by Lambda's name of the processor.
MACHINES = {"x86_64": 0x3E, "arm64": 0xB7}
PACKER = pathlib.Path(__file__).resolve().parents[2] / "scripts/lambda_zips.py"
# What only a build for tests has: points at which it can be told to fail.
FAULTS = b"STARLIFT_FAULT"


def functions(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """The functions that a plan leaves."""
    resources = plan.get("planned_values", {}).get("root_module", {}).get("resources", [])
    return [resource["values"] for resource in resources if resource["type"] == "aws_lambda_function"]


def check(plan: dict[str, Any], stack: pathlib.Path) -> str:
    """Every zip of a plan is there, is what was planned, and is fit for its function."""
    found = functions(plan)
    wrong = [f"{function['function_name']}: {what}" for function in found for what in _wrong(function, stack)]
    if wrong:
        raise Failed("zips", "; ".join(wrong))
    return f"{len(found)} zips are those of the plan"


def _wrong(function: dict[str, Any], stack: pathlib.Path) -> Iterable[str]:
    path = stack / function["filename"]
    try:
        content = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            program = packed.read("bootstrap")
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        yield f"{path} cannot be used: {error}; `make lambda-zips` makes it"
        return
    if base64.b64encode(hashlib.sha256(content).digest()).decode() != function["source_code_hash"]:
        yield f"{path} is another one than was planned; plan again"
    (architecture,) = function["architectures"]
    if program[:4] != b"\x7fELF" or int.from_bytes(program[18:20], "little") != MACHINES[architecture]:
        yield f'{path} was not built for {architecture}; `make lambda-zips ZIPS="--target {architecture}"` does it'
    if FAULTS in program:
        yield f"{path} has fault points in it: it is a build for tests"


def example(folder: pathlib.Path, change: dict[str, Any]) -> dict[str, Any]:
    """A plan of one function and its zip in a folder, with something changed of them."""
    folder.mkdir(exist_ok=True)
    header = b"\x7fELF" + bytes(14) + MACHINES["arm64"].to_bytes(2, "little") + bytes(44)
    program = change.get("program", header) + (FAULTS if change.get("faults") else b"")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr(change.get("name", "bootstrap"), program)
    (folder / "load.zip").write_bytes(packed.getvalue())
    planned = base64.b64encode(hashlib.sha256(packed.getvalue()).digest()).decode()
    function = {
        "function_name": "totesys-dev-load",
        "filename": "load.zip",
        "architectures": [change.get("architecture", "arm64")],
        "source_code_hash": change.get("planned", planned),
    }
    resource = {"type": "aws_lambda_function", "values": function}
    return {"planned_values": {"root_module": {"resources": [resource, {"type": "aws_s3_bucket", "values": {}}]}}}


def check_packing() -> str:
    """What `scripts/lambda-zips` takes of a project, and that a plan with such a zip passes."""
    spec = importlib.util.spec_from_file_location("lambda_zips", PACKER)
    packer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(packer)
    with tempfile.TemporaryDirectory() as name:
        project = pathlib.Path(name) / "project"
        taken = ["certs/rds.pem", "models/dim.sql", "seeds/days.csv", "starlift.toml", "warehouse.sql"]
        for file in [*taken, "db_credentials.json", "email.txt", "certs/rds.key", "lake/ingest/x.parquet", "models/notes.md"]:
            (project / file).parent.mkdir(parents=True, exist_ok=True)
            (project / file).write_text(f"-----BEGIN CERTIFICATE-----{file}")
        files = packer.project_files(project)
        if sorted(files) != [f"project/{file}" for file in taken] or packer.private_keys(files):
            raise Failed("zips", f"a zip would hold {sorted(files)}")
        (project / "certs/server.pem").write_text("-----BEGIN PRIVATE KEY-----")
        if packer.private_keys(packer.project_files(project)) != ["project/certs/server.pem"]:
            raise Failed("zips", "a private key would be packed")
        check(example(pathlib.Path(name), {}), pathlib.Path(name))
    return f"{len(taken)} files of a project"


def main() -> int:
    """Exit code 1 where a zip is not what it has to be."""
    try:
        print(check(json.load(sys.stdin), pathlib.Path(sys.argv[1])))
    except Failed as failure:
        print(f"deploy: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
