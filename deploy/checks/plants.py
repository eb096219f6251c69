"""Plants mistakes into copies, each of which one check has to find: a check that cannot fail shows nothing."""

import copy
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

from checks import deploying, machine, pattern, policies, rights, tools, zips
from checks.arns import Names
from checks.failure import Failed
from checks.mistakes import CARELESS, INVALID, MACHINES, RISKY, SHIPPED, UNDEPLOYED, UNSOUND, UNTESTED, Edit
from checks.terraform import Resource, Terraform


def check(
    terraform: Terraform, rendered: dict[str, list[Resource]], state_bucket: str, validator: pathlib.Path, scratch: pathlib.Path
) -> str:
    """Every planted mistake is found; says how many there were."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    missed: list[str] = []
    count = 0

    def expect(mistake: str, check_it: Callable[[], object], says: str = "") -> None:
        nonlocal count
        count += 1
        try:
            check_it()
        except Failed as failure:
            if says not in failure.found:
                missed.append(f"{mistake}, but something else: {failure.found[-600:]}")
            return
        missed.append(mistake)

    def planted(edits: dict[str, Edit], folder: pathlib.Path, check_it: Callable[[Edit], object]) -> None:
        for mistake, edit in edits.items():
            before = edit.plant(folder)
            try:
                expect(mistake, lambda edit=edit: check_it(edit), edit.says)
            finally:
                (folder / edit.file).write_text(before)

    planted(
        {"a file that nobody formatted": Edit("main/main.tf", "  region = var", "    region = var", says="main/main.tf")},
        terraform.stacks,
        lambda _: terraform.formatted(),
    )
    planted(INVALID, terraform.stacks, lambda edit: terraform.must("validate", edit.file.split("/")[0], "validate", "-no-color"))
    planted(UNTESTED, terraform.stacks, lambda edit: terraform.must("test", edit.file.split("/")[0], "test", "-no-color"))
    planted(RISKY, terraform.stacks, lambda _: tools.checkov(terraform.stacks))
    workflows = scratch / "workflows"
    shutil.copytree(tools.WORKFLOWS, workflows)
    planted(CARELESS, workflows, lambda _: tools.workflows(workflows))

    script = scratch / "script"
    script.mkdir()
    shutil.copy(deploying.SCRIPT, script / "deploy")
    planted(UNDEPLOYED, script, lambda _: deploying.check(scratch, script / "deploy"))

    names = Names({"environment": "dev"})
    found = rights.role_policies(rendered)
    for mistake, changed in rights.each_removed(found):
        expect(mistake, lambda changed=changed: rights.check(changed, names, state_bucket))
    for role in ("load", f"load{rights.IN_VPC}", "github plan", "github deploy", rights.BOUNDARY):
        more = copy.deepcopy(found)
        more[role]["Statement"].append({"Effect": "Allow", "Action": ["s3:DeleteObject"], "Resource": "arn:aws:s3:::bucket/*"})
        expect(f"a right that nobody uses, of {role}", lambda more=more: rights.check(more, names, state_bucket), "s3:DeleteObject")
    for mistake, (change, says) in SHIPPED.items():
        plan = zips.example(scratch / "zips", change)
        expect(mistake, lambda plan=plan: zips.check(plan, scratch / "zips"), says)
    for mistake, policy in UNSOUND.items():
        expect(mistake, lambda policy=policy: policies.check_policy("planted", policy))
    for mistake, (change, by_validator) in MACHINES.items():
        changed_machine = _with_machine(rendered["main"], change)
        if by_validator:
            expect(mistake, lambda m=changed_machine: machine.validate(machine.definition(m), validator, scratch))
        else:
            expect(mistake, lambda m=changed_machine: machine.check(m))
    expect("a pattern without its field", lambda: pattern.matches("CRITICAL", "{}"))
    if missed:
        raise Failed("planted mistakes", "nobody noticed: " + "; ".join(missed))
    return f"all {count} were found"


def _with_machine(resources: list[Resource], change: Callable[[dict[str, Any]], object]) -> list[Resource]:
    changed = copy.deepcopy(resources)
    for resource in changed:
        if resource["type"] == "aws_sfn_state_machine":
            parsed = json.loads(resource["values"]["definition"])
            change(parsed)
            resource["values"]["definition"] = json.dumps(parsed)
    return changed
