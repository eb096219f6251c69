"""Mistakes that are planted into copies, each of which one check has to find: a check that cannot fail shows nothing."""

import copy
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

from checks import machine, pattern, policies, rights, tools
from checks.arns import Names
from checks.failure import Failed
from checks.terraform import Resource, Terraform


class Edit(NamedTuple):
    """One text of a file, and what stands there instead."""

    file: str
    old: str
    new: str

    def plant(self, folder: pathlib.Path) -> str:
        """Plants it; returns what the file was."""
        path = folder / self.file
        before = path.read_text()
        if before.count(self.old) < 1:
            raise Failed("planted mistakes", f"{self.file} does not have `{self.old}` any more")
        path.write_text(before.replace(self.old, self.new, 1))
        return before


# Found by `terraform validate`: names, nesting, what is required, references.
INVALID = {
    "an argument that does not exist": Edit("immutable/buckets.tf", "block_public_policy ", "block_public_policies "),
    "a nested argument that does not exist": Edit("immutable/buckets.tf", "days_after_initiation", "days_after_start"),
    "a required block that is missing": Edit("main/schedule.tf", '  flexible_time_window {\n    mode = "OFF"\n  }\n', ""),
    "an attribute that does not exist": Edit("main/outputs.tf", "aws_sfn_state_machine.this.arn", "aws_sfn_state_machine.this.arnn"),
    "a variable that nobody declared": Edit("main/schedule.tf", "var.schedule_enabled", "var.enabled"),
}

# Found by `terraform test`.
UNTESTED = {
    "a bucket that may become public": Edit("immutable/buckets.tf", "restrict_public_buckets = true", "restrict_public_buckets = false"),
    "manifests that may be replaced": Edit("immutable/buckets.tf", '"s3:if-none-match" = "true"', '"s3:if-none-match" = "false"'),
    "an alarm that cannot use the topic's key": Edit(
        "immutable/encryption.tf", '["kms:Decrypt", "kms:GenerateDataKey"]', '["kms:Decrypt"]'
    ),
    "data that expires": Edit("immutable/buckets.tf", "expired_object_delete_marker = true", "days = 365"),
    "a deployment from any branch": Edit("immutable/github.tf", ":environment:${var.github_environment}", ":*"),
    "a pattern that names a position": Edit("main/templates/critical.pattern", '{ $.level = "CRITICAL" }', "[CRITICAL]"),
    "zeros that count as samples": Edit("main/logs.tf", '    unit      = "Count"', '    unit          = "Count"\n    default_value = "0"'),
    "an alarm that counts samples": Edit("main/alarms.tf", 'statistic           = "Sum"', 'statistic           = "SampleCount"'),
    "silence that is no alarm": Edit("main/alarms.tf", '"breaching"', '"notBreaching"'),
    "critical lines that Lambda drops": Edit("main/functions.tf", 'application_log_level = "INFO"', 'application_log_level = "WARN"'),
    "no queue for starts that fail": Edit(
        "main/schedule.tf", "    dead_letter_config {\n      arn = aws_sqs_queue.dead_letters.arn\n    }\n", ""
    ),
    "execution data in logs": Edit("main/state_machine.tf", "include_execution_data = false", "include_execution_data = true"),
    "stages that take longer than the interval": Edit(
        "main/variables.tf", "sum(values(var.stage_timeout_seconds)) <=", "0 * sum(values(var.stage_timeout_seconds)) <="
    ),
    "a machine that runs into the next one": Edit("main/main.tf", "var.interval_minutes * 60 - 15", "var.interval_minutes * 60 + 15"),
}

# Found by checkov.
RISKY = {
    "a bucket without versions": Edit("immutable/buckets.tf", 'status = "Enabled"', 'status = "Suspended"'),
    "a key that never changes": Edit("immutable/encryption.tf", "enable_key_rotation     = true", "enable_key_rotation     = false"),
    "a right to everything": Edit("main/roles.tf", 'Action = ["s3:ListBucket"], Resource = arn', 'Action = ["s3:*"], Resource = "*"'),
    "logs without a key": Edit("main/logs.tf", "  kms_key_id        = local.immutable.key_arn\n", ""),
}

# Found in the workflows.
CARELESS = {
    "an action by its tag": Edit("deploy.yml", "actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683", "actions/checkout@v4"),
    "a token that may write": Edit("checks.yml", "permissions:\n  contents: read", "permissions: write-all"),
    "credentials left in the work tree": Edit("deploy.yml", "persist-credentials: false", "persist-credentials: true"),
    "text of a pull request in a command": Edit("checks.yml", "run: make setup", "run: echo ${{ github.event.pull_request.title }}"),
    "a key that GitHub does not know": Edit("checks.yml", "timeout-minutes: 90", "timeout-minute: 90"),
    "a pull request's code with the target's rights": Edit("checks.yml", "  pull_request:", "  pull_request_target:"),
}


def check(terraform: Terraform, rendered: dict[str, list[Resource]], validator: pathlib.Path, scratch: pathlib.Path) -> str:
    """Every planted mistake is found; says how many there were."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    missed: list[str] = []
    count = 0

    def expect(mistake: str, check_it: Callable[[], object]) -> None:
        nonlocal count
        count += 1
        try:
            check_it()
        except Failed:
            return
        missed.append(mistake)

    def planted(edits: dict[str, Edit], folder: pathlib.Path, check_it: Callable[[Edit], object]) -> None:
        for mistake, edit in edits.items():
            before = edit.plant(folder)
            try:
                expect(mistake, lambda edit=edit: check_it(edit))
            finally:
                (folder / edit.file).write_text(before)

    planted(
        {"a file that nobody formatted": Edit("main/main.tf", "  region = var", "    region = var")},
        terraform.stacks,
        lambda _: terraform.formatted(),
    )
    planted(INVALID, terraform.stacks, lambda edit: terraform.must("validate", edit.file.split("/")[0], "validate", "-no-color"))
    planted(UNTESTED, terraform.stacks, lambda edit: terraform.must("test", edit.file.split("/")[0], "test", "-no-color"))
    planted(RISKY, terraform.stacks, lambda _: tools.checkov(terraform.stacks))
    workflows = scratch / "workflows"
    shutil.copytree(tools.WORKFLOWS, workflows)
    planted(CARELESS, workflows, lambda _: tools.workflows(workflows))

    found = rights.role_policies(rendered["main"])
    for mistake, changed in rights.each_removed(found):
        expect(f"without {mistake}", lambda changed=changed: rights.check(changed, Names({"environment": "dev"})))
    more = copy.deepcopy(found)
    more["load"]["Statement"][0]["Action"] = ["s3:ListBucket", "s3:DeleteObject"]
    expect("a right that nobody uses", lambda: rights.check(more, Names({"environment": "dev"})))
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


def _statement(**values: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **values}]}


# Found by parliament.
UNSOUND = {
    "an action that does not exist": _statement(Action=["s3:PutObjects"], Resource="arn:aws:s3:::bucket/*"),
    "a bucket's action on objects": _statement(Action=["s3:ListBucket"], Resource="arn:aws:s3:::bucket/*"),
    "tracing of a function": _statement(Action=["xray:PutTraceSegments"], Resource="arn:aws:lambda:eu-west-2:000000000000:function:x"),
    "a condition that the action does not know": _statement(
        Action=["s3:GetObject"], Resource="arn:aws:s3:::bucket/*", Condition={"StringEquals": {"s3:no-such-key": "x"}}
    ),
}


def _with_machine(resources: list[Resource], change: Callable[[dict[str, Any]], object]) -> list[Resource]:
    changed = copy.deepcopy(resources)
    for resource in changed:
        if resource["type"] == "aws_sfn_state_machine":
            parsed = json.loads(resource["values"]["definition"])
            change(parsed)
            resource["values"]["definition"] = json.dumps(parsed)
    return changed


def _set(state: str, key: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda parsed: parsed["States"][state].__setitem__(key, value)


# Found by asl-validator (true), or by the checks of our own.
MACHINES: dict[str, tuple[Callable[[dict[str, Any]], object], bool]] = {
    "a state that leads nowhere": (_set("Ingest", "Next", "Transfrom"), True),
    "a field that no task has": (_set("Load", "Timeout", 3), True),
    "JSONPath in a machine of JSONata": (_set("Load", "Parameters", {"a.$": "$.a"}), True),
    "a state that nothing reaches": (lambda parsed: parsed["States"].update(Lonely={"Type": "Succeed"}), True),
    "an error without an answer": (lambda parsed: parsed["States"]["Load"]["Catch"][0]["ErrorEquals"].remove("Starlift.Data"), False),
    "a retry of what no try can mend": (lambda parsed: parsed["States"]["Load"]["Retry"][0]["ErrorEquals"].append("Starlift.Data"), False),
    "retries all at once": (lambda parsed: parsed["States"]["Ingest"]["Retry"][0].pop("JitterStrategy"), False),
    "a catch of everything before the others": (lambda parsed: parsed["States"]["Ingest"]["Catch"].reverse(), False),
    "no catch": (lambda parsed: parsed["States"]["Transform"].update(Catch=[]), False),
    "a retry that is a new run": (lambda parsed: parsed["States"]["Load"]["Arguments"].pop("ClientContext"), False),
    "a stage that is passed over": (_set("Ingest", "Next", "Load"), False),
    "a run that takes longer than the interval": (lambda parsed: parsed.update(TimeoutSeconds=300), False),
    "a run without an end": (lambda parsed: parsed.pop("TimeoutSeconds"), False),
    "a task that ends its function first": (_set("Load", "TimeoutSeconds", 60), False),
    "an unpublished function": (
        lambda parsed: parsed["States"]["Load"]["Arguments"].update(FunctionName="arn:aws:lambda:eu-west-2:000000000000:function:x"),
        False,
    ),
}
