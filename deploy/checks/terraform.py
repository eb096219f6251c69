"""Terraform without a registry: copies of the stacks, validated, tested and rendered with the stand-in provider.

Nothing is written into the stacks themselves. In particular no lock file: the stand-in's hashes are not the real provider's.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

from checks.failure import Failed

CHECKS = pathlib.Path(__file__).resolve().parent
STACKS = CHECKS.parent / "terraform"
NAMES = ("immutable", "main")
PROVIDER_VERSION = "6.25.0"
# The account that the local server and the rendered stacks have; 000000000000 is what the server calls its own.
ACCOUNT = "000000000000"

Resource = dict[str, Any]


def binary() -> str:
    """The program, or why there is none."""
    found = shutil.which("terraform")
    if found is None:
        raise Failed("terraform", "it is not installed, and no package registry has it: see developer.hashicorp.com/terraform/install")
    return found


class Terraform:
    """Copies of the stacks in a scratch folder, with the stand-in provider beside them."""

    def __init__(self, scratch: pathlib.Path) -> None:
        self.scratch = scratch
        self.stacks = scratch / "terraform"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        self._install_provider()
        shutil.copytree(STACKS, self.stacks, ignore=shutil.ignore_patterns(".terraform*", "*.tfvars", "backend.hcl"))

    def _install_provider(self) -> None:
        folder = self.scratch / f"mirror/registry.terraform.io/hashicorp/aws/{PROVIDER_VERSION}/linux_{_architecture()}"
        folder.mkdir(parents=True)
        program = folder / f"terraform-provider-aws_v{PROVIDER_VERSION}"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{CHECKS / "provider/server.py"}"\n')
        program.chmod(0o755)
        config = f'disable_checkpoint = true\nprovider_installation {{\n  filesystem_mirror {{ path = "{self.scratch}/mirror" }}\n}}\n'
        (self.scratch / "terraform.rc").write_text(config)

    def run(self, stack: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs Terraform in the copy of a stack; its output is both streams."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TF_", "AWS_"))},
            "TF_CLI_CONFIG_FILE": str(self.scratch / "terraform.rc"),
            "TF_IN_AUTOMATION": "1",
            # The stand-in's library keeps a certificate in the home folder.
            "HOME": str(self.scratch),
        }
        return subprocess.run(
            [binary(), f"-chdir={self.stacks / stack}", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )

    def must(self, what: str, stack: str, *arguments: str) -> str:
        """Runs it and fails with its output where it fails."""
        done = self.run(stack, *arguments)
        if done.returncode != 0:
            raise Failed(f"terraform {what} of {stack}", done.stdout)
        return done.stdout

    def init(self) -> None:
        """Makes the copies ready."""
        for stack in NAMES:
            self.must("init", stack, "init", "-backend=false", "-input=false", "-no-color")

    def formatted(self) -> None:
        """Every file is as `terraform fmt` writes it."""
        self.must("fmt", ".", "fmt", "-check", "-recursive", "-diff", "-no-color")

    def validate(self) -> None:
        """Names, nesting, types and references of both stacks are right."""
        for stack in NAMES:
            self.must("validate", stack, "validate", "-no-color")

    def test(self) -> None:
        """The stacks' own tests, with a mocked provider."""
        for stack in NAMES:
            self.must("test", stack, "test", "-no-color")

    def render(self, stack: str, variables: dict[str, Any], parameters: dict[str, str] | None = None) -> list[Resource]:
        """Every resource of a stack with the values that it would be made with, ARNs included.

        They come from a plan against a mocked provider, as Terraform prints it; ARNs of what a stack makes are filled in from the
        names, as AWS does. (Not from an apply: a test destroys what it applied, and `prevent_destroy` refuses.)
        """
        from checks.arns import overrides

        file = self.stacks / stack / "tests/rendered.tftest.hcl"
        given = "\n".join(f"  {name} = {json.dumps(value)}" for name, value in variables.items())
        file.write_text(
            f'{overrides(stack, variables, parameters)}\nvariables {{\n{given}\n}}\n\nrun "rendered" {{\n  command = plan\n}}\n'
        )
        try:
            done = self.run(stack, "test", "-json", "-verbose", "-filter=tests/rendered.tftest.hcl")
        finally:
            file.unlink()
        for line in done.stdout.splitlines():
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("type") == "test_plan" and done.returncode == 0:
                changes = [change for change in event["test_plan"]["resource_changes"] if change["mode"] == "managed"]
                return [{**change, "values": change["change"]["after"]} for change in changes]
        raise Failed(f"rendering {stack}", done.stdout)


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
