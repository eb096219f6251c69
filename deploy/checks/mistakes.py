"""Mistakes for the planted ones of `plants.py`: what is changed, and what the check has to say to it."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from checks.failure import Failed


class Edit(NamedTuple):
    """One text of a file, and what stands there instead."""

    file: str
    old: str
    new: str
    # What the check has to say, so that it is not something else that fails.
    says: str

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
    "an argument that does not exist": Edit(
        "immutable/buckets.tf", "block_public_policy ", "block_public_policies ", says="not expected here"
    ),
    "a nested argument that does not exist": Edit(
        "immutable/buckets.tf", "days_after_initiation", "days_after_start", says="not expected here"
    ),
    "a required block that is missing": Edit(
        "main/schedule.tf", '  flexible_time_window {\n    mode = "OFF"\n  }\n', "", says="Insufficient flexible_time_window"
    ),
    "an attribute that does not exist": Edit(
        "main/outputs.tf", "aws_sfn_state_machine.this.arn", "aws_sfn_state_machine.this.arnn", says="arnn"
    ),
    "a variable that nobody declared": Edit("main/schedule.tf", "var.schedule_enabled", "var.enabled", says="undeclared input variable"),
}

# Found by `terraform test`.
UNTESTED = {
    "a bucket that may become public": Edit(
        "immutable/buckets.tf", "restrict_public_buckets = true", "restrict_public_buckets = false", says="no bucket may become public"
    ),
    "manifests that may be replaced": Edit(
        "immutable/buckets.tf", '"s3:if-none-match" = "true"', '"s3:if-none-match" = "false"', says="manifests are created, never replaced"
    ),
    "an alarm that cannot use the topic's key": Edit(
        "immutable/encryption.tf",
        '["kms:Decrypt", "kms:GenerateDataKey"]',
        '["kms:Decrypt"]',
        says="an alarm must be able to use the topic's key",
    ),
    "data that expires": Edit(
        "immutable/buckets.tf", "expired_object_delete_marker = true", "days = 365", says="no current object may expire"
    ),
    "a deployment from any branch": Edit(
        "immutable/github.tf", ":environment:${var.github_environment}", ":*", says="only jobs of the environment with reviewers may deploy"
    ),
    "a plan that may replace the state": Edit(
        "immutable/github.tf",
        'Action = ["s3:GetObject"], Resource = local.state_arn',
        'Action = ["s3:GetObject", "s3:PutObject"], Resource = local.state_arn',
        says="a plan changes nothing but its lock",
    ),
    "a deployment that makes itself an administrator": Edit(
        "immutable/github.tf",
        '        Condition = { ArnEquals = { "iam:PermissionsBoundary" = local.boundary_arn } }\n',
        "",
        says="roles are made within the boundary",
    ),
    "a boundary that can be taken away": Edit(
        "immutable/github.tf",
        '"iam:DeleteRolePolicy", ',
        '"iam:DeleteRolePolicy", "iam:DeleteRolePermissionsBoundary", ',
        says="nobody may take the boundary away",
    ),
    "a role without the boundary": Edit(
        "main/schedule.tf", "  permissions_boundary = local.immutable.boundary_arn\n", "", says="no role without the boundary"
    ),
    "a second provider of one kind": Edit(
        "immutable/github.tf", ' && var.github_oidc_provider_arn == ""', "", says="an account has one provider of a kind"
    ),
    "a pattern that names a position": Edit(
        "main/templates/critical.pattern",
        '{ ($.level = "CRITICAL") || ($.severity = "CRITICAL") }',
        "[CRITICAL]",
        says="the pattern of JSON lines",
    ),
    "zeros that count as samples": Edit(
        "main/logs.tf", '    unit      = "Count"', '    unit          = "Count"\n    default_value = "0"', says="no zeros as samples"
    ),
    "an alarm that counts samples": Edit(
        "main/alarms.tf", 'statistic           = "Sum"', 'statistic           = "SampleCount"', says="one critical line is enough"
    ),
    "an alarm that is over after each failure": Edit(
        "main/alarms.tf", "period              = local.interval_seconds", "period              = 60", says="one alarm, and not two messages"
    ),
    "a last success that counts for an hour": Edit("main/alarms.tf", '"FILL(m1, 0)"', '"m1"', says="missing samples are zeros"),
    "silence of one minute": Edit(
        "main/alarms.tf",
        "evaluation_periods  = var.silence_minutes",
        "evaluation_periods  = 1",
        says="a quarter of an hour in which no minute had a success",
    ),
    "silence in whole intervals": Edit(
        "main/alarms.tf",
        "evaluation_periods  = var.silence_minutes",
        "evaluation_periods  = floor(var.silence_minutes / var.interval_minutes) * var.interval_minutes",
        says="as many minutes as were asked for",
    ),
    "silence that is no alarm": Edit("main/alarms.tf", '"breaching"', '"notBreaching"', says="no data is no success"),
    "critical lines that Lambda drops": Edit(
        "main/functions.tf", 'application_log_level = "INFO"', 'application_log_level = "WARN"', says="above INFO"
    ),
    "no queue for starts that fail": Edit(
        "main/schedule.tf",
        "    dead_letter_config {\n      arn = aws_sqs_queue.dead_letters.arn\n    }\n",
        "",
        says="a start that fails is kept",
    ),
    "execution data in logs": Edit(
        "main/state_machine.tf", "include_execution_data = false", "include_execution_data = true", says="errors without data"
    ),
    "stages that take longer than the interval": Edit(
        "main/variables.tf",
        "sum(values(var.stage_timeout_seconds)) <=",
        "0 * sum(values(var.stage_timeout_seconds)) <=",
        says="stages_longer_than_the_interval",
    ),
    "a machine that runs into the next one": Edit(
        "main/main.tf", "var.interval_minutes * 60 - 15", "var.interval_minutes * 60 + 15", says="a run ends before the next one starts"
    ),
}

# Found by checkov.
RISKY = {
    "a bucket without versions": Edit("immutable/buckets.tf", 'status = "Enabled"', 'status = "Suspended"', says="CKV_AWS_21"),
    "a key that never changes": Edit(
        "immutable/encryption.tf", "enable_key_rotation     = true", "enable_key_rotation     = false", says="CKV_AWS_7"
    ),
    "a topic that is not encrypted": Edit(
        "immutable/notifications.tf", "  kms_master_key_id = aws_kms_key.this.arn\n", "", says="CKV_AWS_26"
    ),
    "logs without a key": Edit("main/logs.tf", "  kms_key_id        = local.immutable.key_arn\n", "", says="CKV_AWS_158"),
}

# Found in the workflows.
CARELESS = {
    "an action by its tag": Edit(
        "deploy.yml", "actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683", "actions/checkout@v4", says="unpinned-uses"
    ),
    "a token that may write": Edit("checks.yml", "permissions:\n  contents: read", "permissions: write-all", says="excessive-permissions"),
    "credentials left in the work tree": Edit("deploy.yml", "persist-credentials: false", "persist-credentials: true", says="artipacked"),
    "text of a pull request in a command": Edit(
        "checks.yml", "run: make setup", "run: echo ${{ github.event.pull_request.title }}", says="template-injection"
    ),
    "a key that GitHub does not know": Edit("checks.yml", "timeout-minutes: 90", "timeout-minute: 90", says="timeout-minute"),
    "a pull request's code with the target's rights": Edit(
        "checks.yml", "  pull_request:", "  pull_request_target:", says="dangerous-triggers"
    ),
    "a deployment of what was not checked": Edit("deploy.yml", "needs: [zips, checks]", "needs: [zips]", says="waits for the checks"),
    "a deployment from another branch": Edit(
        "deploy.yml", "needs: plan\n    if: github.ref == 'refs/heads/main'", "needs: plan", says="from main alone"
    ),
    "pushes that nobody checks": Edit("checks.yml", "  push:\n", "  push:\n    branches: [main]\n", says="every push"),
    "checks of main that are cut off": Edit(
        "checks.yml",
        "cancel-in-progress: ${{ github.ref != 'refs/heads/main' }}",
        "cancel-in-progress: true",
        says="no check of main is cut off",
    ),
}

# Found in `scripts/deploy`.
UNDEPLOYED = {
    "zips that nobody looks at": Edit(
        "deploy", "check_zips() {\n", "check_zips() {\n    return 0\n", says="a zip that changed after the plan"
    ),
    "a plan that stays although its zips are wrong": Edit(
        "deploy", 'check_zips || { rm -f "$plan"; exit 1; }', "check_zips", says="was planned"
    ),
    "settings that are left out": Edit("deploy", '${settings[@]+"${settings[@]}"} ', "", says="settings are left out"),
    "settings of all pipelines that win": Edit(
        "deploy",
        'for name in "$ENVIRONMENT" "$pipeline-$ENVIRONMENT"',
        'for name in "$pipeline-$ENVIRONMENT" "$ENVIRONMENT"',
        says="in this order",
    ),
    "settings of another pipeline": Edit("deploy", '"$pipeline-$ENVIRONMENT"; do', '"other-$ENVIRONMENT"; do', says="of another pipeline"),
    "a plan for any environment": Edit(
        "deploy", "deploy/$pipeline-$ENVIRONMENT", "deploy", says="the plan of another environment was applied"
    ),
}

# Found in the zips of a plan, by `zips.py`: what is changed of a program, its zip, or the function that it is for.
SHIPPED: dict[str, tuple[dict[str, Any], str]] = {
    "a zip for another processor": ({"architecture": "x86_64"}, "was not built for x86_64"),
    "a script instead of a program": ({"program": b"#!/bin/sh\n" + bytes(64)}, "was not built for arm64"),
    "a build for tests": ({"faults": True}, "has fault points in it"),
    "a zip that was built anew after the plan": ({"planned": "another"}, "is another one than was planned"),
    "a zip without a program": ({"name": "main"}, "cannot be used"),
}


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
