"""`scripts/deploy` with a Terraform that only writes down what it is asked.

Settings of the environment are given, and wrong zips are neither planned nor applied.
"""

import json
import os
import pathlib
import shutil
import subprocess

from checks import zips
from checks.failure import Failed
from checks.terraform import CHECKS

SCRIPT = CHECKS.parents[1] / "scripts/deploy"
# Writes its arguments down; makes the plan that `-out` names, and shows the one that the test gives it.
TERRAFORM = """#!/bin/sh
echo "$@" >> "$ASKED"
for argument; do case $argument in -out=*) echo plan > "${argument#-out=}";; esac; done
case "$*" in *'show -json'*) cat "$SHOWN";; esac
"""


class Place:
    """A folder like the repository's, with the script in it."""

    def __init__(self, root: pathlib.Path, script: pathlib.Path) -> None:
        shutil.rmtree(root, ignore_errors=True)
        for folder in ("bin", "scripts", "deploy/terraform/main", "deploy/terraform/immutable", "target/lambda"):
            (root / folder).mkdir(parents=True)
        shutil.copy(script, root / "scripts/deploy")
        (root / "deploy/checks").symlink_to(CHECKS)
        (root / "bin/terraform").write_text(TERRAFORM)
        (root / "bin/terraform").chmod(0o755)
        self.root = root

    def shows(self, change: dict[str, object]) -> None:
        """Makes a zip and the plan that Terraform shows from now on."""
        plan = zips.example(self.root / "target/lambda", change)
        plan["planned_values"]["root_module"]["resources"][0]["values"]["filename"] = "../../../target/lambda/load.zip"
        (self.root / "shown.json").write_text(json.dumps(plan))

    def has_plan(self) -> bool:
        """Whether there is a plan that waits to be applied."""
        return any((self.root / "target/deploy").rglob("main.tfplan"))

    def run(self, what: str, stack: str, environment_name: str = "dev") -> tuple[bool, list[str]]:
        """Whether the script succeeded, and what it asked Terraform."""
        asked = self.root / "asked"
        asked.unlink(missing_ok=True)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TF_", "AWS_", "CARGO_"))},
            "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}",
            "STATE_BUCKET": "states",
            "ENVIRONMENT": environment_name,
            "ASKED": str(asked),
            "SHOWN": str(self.root / "shown.json"),
        }
        done = subprocess.run([self.root / "scripts/deploy", what, stack], env=environment, capture_output=True, timeout=60, check=False)
        return done.returncode == 0, asked.read_text().splitlines()


def check(scratch: pathlib.Path, script: pathlib.Path = SCRIPT) -> str:
    """What is planned is applied, with the settings of the environment, and nothing else is."""
    place = Place(scratch / "deploying", script)

    def expect(condition: bool, found: str) -> None:
        if not condition:
            raise Failed("scripts/deploy", found)

    place.shows({})
    done, asked = place.run("plan", "main")
    expect(done and place.has_plan(), f"no plan: {asked}")
    expect(not any("-var-file" in line for line in asked), f"settings that nobody made: {asked}")
    done, asked = place.run("apply", "main")
    expect(done and any(" apply " in line for line in asked) and not place.has_plan(), f"the plan was not applied: {asked}")
    for stack in ("main", "immutable"):
        (place.root / f"deploy/terraform/{stack}/dev.tfvars").write_text("")
        done, asked = place.run("plan", stack)
        expect(done and sum(" plan " in line and "-var-file=dev.tfvars" in line for line in asked) == 1, f"settings are left out: {asked}")
        for other in ("totesys-prod", "other-dev"):
            (place.root / f"deploy/terraform/{stack}/{other}.tfvars").write_text("")
        done, asked = place.run("plan", stack)
        expect(done and not any("-var-file=other" in line or "prod" in line for line in asked), f"settings of another pipeline: {asked}")
        (place.root / f"deploy/terraform/{stack}/totesys-dev.tfvars").write_text("")
        done, asked = place.run("plan", stack)
        both = "-var-file=dev.tfvars -var-file=totesys-dev.tfvars"
        expect(
            done and sum(both in line for line in asked) == 1, f"the environment's settings, then the pipeline's, in this order: {asked}"
        )
    done, asked = place.run("apply", "main", "prod")
    expect(not done and not any(" apply " in line for line in asked), "the plan of another environment was applied")
    place.shows({"faults": True})
    done, asked = place.run("apply", "main")
    expect(not done and not any(" apply " in line for line in asked), "a zip that changed after the plan was applied")
    done, asked = place.run("plan", "main")
    expect(not done and not place.has_plan(), "a build for tests was planned")
    done, asked = place.run("apply", "main")
    expect(not done and not any(" apply " in line for line in asked), "something was applied that was not planned")
    return "settings are given, wrong zips refused"
