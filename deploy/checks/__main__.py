"""Runs the checks, then shows for each that it fails on a planted mistake. `python -m checks --help` says how."""

import argparse
import pathlib
import sys
import time
from collections.abc import Callable

from checks import deploying, machine, pattern, plants, policies, rights, tools, zips
from checks.arns import Names
from checks.failure import Failed
from checks.terraform import Terraform

MAIN = {"environment": "dev", "zip_dir": "tests/zips"}
IN_VPC = {**MAIN, "subnet_ids": ["subnet-0123456789abcdef0"], "security_group_ids": ["sg-0123456789abcdef0"]}
IMMUTABLE = {
    "environment": "dev",
    "alarm_email": "someone@example.com",
    "github_repository": "someone/starlift",
    "state_bucket": "someones-states",
}


def checks(scratch: pathlib.Path, validator: pathlib.Path) -> list[tuple[str, Callable[[], object]]]:
    """All checks, in the order of what they take."""
    terraform = Terraform(scratch)
    rendered: dict[str, list] = {}

    def render() -> str:
        rendered["main"] = terraform.render("main", MAIN)
        rendered["vpc"] = terraform.render("main", IN_VPC)
        rendered["immutable"] = terraform.render("immutable", IMMUTABLE)
        return f"{sum(len(resources) for resources in rendered.values())} resources"

    def rights_table() -> str:
        return f"{rights.check(rights.role_policies(rendered), Names(MAIN), IMMUTABLE['state_bucket'])} rights"

    return [
        ("terraform fmt", terraform.formatted),
        ("terraform init", terraform.init),
        ("terraform validate", terraform.validate),
        ("terraform test", terraform.test),
        ("rendering both stacks", render),
        ("rights of every role", rights_table),
        ("parliament", lambda: f"{sum(policies.check(resources) for resources in rendered.values())} policies"),
        ("asl-validator", lambda: machine.validate(machine.definition(rendered["main"]), validator, scratch)),
        ("answers and limits of the state machine", lambda: machine.check(rendered["main"])),
        ("pattern of the alarm", pattern.check),
        ("what is in a zip", zips.check_packing),
        ("scripts/deploy", lambda: deploying.check(scratch)),
        ("checkov", tools.checkov),
        ("workflows", tools.workflows),
        ("planted mistakes", lambda: plants.check(terraform, rendered, IMMUTABLE["state_bucket"], validator, scratch / "plants")),
    ]


def main() -> int:
    """Exit code 1 if a check failed."""
    parser = argparse.ArgumentParser(prog="checks", description=__doc__)
    parser.add_argument("--scratch", type=pathlib.Path, required=True, help="folder for copies; emptied first")
    parser.add_argument("--asl-validator", type=pathlib.Path, required=True, help="the program of that name")
    arguments = parser.parse_args()
    passed = failed = 0
    for name, check in checks(arguments.scratch.resolve(), arguments.asl_validator.resolve()):
        begun = time.monotonic()
        try:
            said = check()
        except Failed as failure:
            print(f"FAILED {name}: {failure}", file=sys.stderr)
            failed += 1
            if name in ("terraform init", "rendering both stacks"):
                break
            continue
        passed += 1
        print(f"ok     {name}{f': {said}' if said else ''} ({time.monotonic() - begun:.1f} s)", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
