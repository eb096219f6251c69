"""What each role may do: exactly the calls that are made, on exactly the things that they are made on.

The table is written by hand from what the code calls. A right that is missing from a policy stops the pipeline on AWS, where no
test runs; one that is too many is one that an intruder has as well. Either fails.
"""

import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from checks.arns import Names
from checks.failure import Failed
from checks.terraform import Resource

Right = tuple[str, str]


def expected(names: Names) -> dict[str, set[Right]]:
    """By role: pairs of an action and the resource it is needed on."""
    given = names.parameters()
    lake, star = (f"arn:aws:s3:::{given[f'{stage}_bucket']}" for stage in ("ingest", "transform"))
    key = given["key_arn"]

    def reading(bucket: str) -> set[Right]:
        return {("s3:ListBucket", bucket), ("s3:GetObject", f"{bucket}/*")}

    def writing(bucket: str) -> set[Right]:
        return {("s3:PutObject", f"{bucket}/*"), ("s3:AbortMultipartUpload", f"{bucket}/*")}

    def every(stage: str) -> set[Right]:
        group = names.arn("logs", f"log-group:/aws/lambda/{names.name}-{stage}:*")
        return {
            ("logs:CreateLogStream", group),
            ("logs:PutLogEvents", group),
            ("xray:PutTraceSegments", "*"),
            ("xray:PutTelemetryRecords", "*"),
            # Of objects and secrets.
            ("kms:Decrypt", key),
        }

    delivery = (
        "CreateLogDelivery", "DeleteLogDelivery", "DescribeLogGroups", "DescribeResourcePolicies", "GetLogDelivery",
        "ListLogDeliveries", "PutResourcePolicy", "UpdateLogDelivery",
    )  # fmt: skip
    tracing = ("GetSamplingRules", "GetSamplingTargets", "PutTelemetryRecords", "PutTraceSegments")
    return {
        "ingest": every("ingest")
        | reading(lake)
        | writing(lake)
        | {("secretsmanager:GetSecretValue", given["source_secret_arn"]), ("kms:GenerateDataKey", key)},
        "transform": every("transform") | reading(lake) | reading(star) | writing(star) | {("kms:GenerateDataKey", key)},
        "load": every("load") | reading(star) | {("secretsmanager:GetSecretValue", given["warehouse_secret_arn"])},
        "machine": {
            ("lambda:InvokeFunction", names.arn("lambda", f"function:{names.name}-{stage}:live"))
            for stage in ("ingest", "transform", "load")
        }
        | {(f"logs:{action}", "*") for action in delivery}
        | {(f"xray:{action}", "*") for action in tracing},
        "schedule": {
            ("states:StartExecution", names.arn("states", f"stateMachine:{names.name}")),
            ("sqs:SendMessage", names.arn("sqs", f"{names.name}-dead-letters")),
        },
    }


def role_policies(resources: Iterable[Resource]) -> dict[str, dict[str, Any]]:
    """The rendered policies of the roles of the stack `main`, by stage, `machine` and `schedule`."""
    found = [resource for resource in resources if resource["type"] == "aws_iam_role_policy"]
    return {str(resource.get("index", resource["name"])): json.loads(resource["values"]["policy"]) for resource in found}


def granted(policy: dict[str, Any]) -> set[Right]:
    """The pairs that a policy allows."""
    return {
        (action, resource)
        for statement in policy["Statement"]
        if statement["Effect"] == "Allow"
        for action in _list(statement["Action"])
        for resource in _list(statement["Resource"])
    }


def check(policies: dict[str, dict[str, Any]], names: Names) -> None:
    """Every role has the rights of the table and no others."""
    table = expected(names)
    if set(policies) != set(table):
        raise Failed("rights", f"roles are {sorted(policies)}, the table knows {sorted(table)}")
    for role, wanted in table.items():
        has = granted(policies[role])
        missing = {right for right in wanted if not any(_covers(allowed, right) for allowed in has)}
        too_many = has - wanted
        if missing or too_many:
            raise Failed("rights", f"role {role} lacks {sorted(missing)} and has {sorted(too_many)} that nobody calls")


def each_removed(policies: dict[str, dict[str, Any]]) -> Iterable[tuple[str, dict[str, dict[str, Any]]]]:
    """The policies with one action of one statement taken away, once for every action: what the check has to notice."""
    for role, policy in policies.items():
        for number, statement in enumerate(policy["Statement"]):
            for action in _list(statement["Action"]):
                changed = json.loads(json.dumps(policies))
                left = [other for other in _list(statement["Action"]) if other != action]
                changed[role]["Statement"][number]["Action"] = left
                yield f"{role}: {action} of {statement.get('Sid', number)}", changed


def _covers(allowed: Right, wanted: Right) -> bool:
    return allowed[0] == wanted[0] and fnmatchcase(wanted[1], allowed[1].replace("[", "[[]"))


def _list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]
