"""What each role may do: exactly the calls that are made, on exactly the things that they are made on, under exactly these conditions.

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

# An action, the resource that it is needed on, and the condition as text; empty where there is none.
Right = tuple[str, str, str]
Policies = dict[str, dict[str, Any]]
STAGES = ("ingest", "transform", "load")
IN_VPC = " in a VPC"
BOUNDARY = "boundary"


def each(actions: str, *resources: str, **condition: dict[str, Any]) -> set[Right]:
    """Every one of these actions on every one of these resources."""
    return {(action, resource, _text(condition)) for action in actions.split() for resource in resources}


def expected(names: Names) -> dict[str, set[Right]]:
    """What the roles of the stack `main` need."""
    given = names.parameters()
    lake, star = (f"arn:aws:s3:::{given[f'{stage}_bucket']}" for stage in ("ingest", "transform"))
    # Through these services alone.
    via = {"StringEquals": {"kms:ViaService": [f"{service}.{names.region}.amazonaws.com" for service in ("s3", "secretsmanager")]}}

    def reading(bucket: str) -> set[Right]:
        return each("s3:ListBucket", bucket) | each("s3:GetObject", f"{bucket}/*")

    def writing(bucket: str) -> set[Right]:
        return each("s3:PutObject s3:AbortMultipartUpload", f"{bucket}/*") | each("kms:GenerateDataKey", given["key_arn"], **via)

    def every(stage: str) -> set[Right]:
        group = names.arn("logs", f"log-group:/aws/lambda/{names.name}-{stage}:*")
        return (
            each("logs:CreateLogStream logs:PutLogEvents", group)
            | each("xray:PutTraceSegments xray:PutTelemetryRecords", "*")
            # Of objects and secrets.
            | each("kms:Decrypt", given["key_arn"], **via)
        )

    delivery = (
        "CreateLogDelivery", "DeleteLogDelivery", "DescribeLogGroups", "DescribeResourcePolicies", "GetLogDelivery",
        "ListLogDeliveries", "PutResourcePolicy", "UpdateLogDelivery",
    )  # fmt: skip
    tracing = ("GetSamplingRules", "GetSamplingTargets", "PutTelemetryRecords", "PutTraceSegments")
    network = (
        "AssignPrivateIpAddresses", "CreateNetworkInterface", "DeleteNetworkInterface", "DescribeNetworkInterfaces", "DescribeSubnets",
        "UnassignPrivateIpAddresses",
    )  # fmt: skip
    table = {
        "ingest": every("ingest") | reading(lake) | writing(lake) | each("secretsmanager:GetSecretValue", given["source_secret_arn"]),
        "transform": every("transform") | reading(lake) | reading(star) | writing(star),
        "load": every("load") | reading(star) | each("secretsmanager:GetSecretValue", given["warehouse_secret_arn"]),
        "machine": each("lambda:InvokeFunction", *(names.arn("lambda", f"function:{names.name}-{stage}:live") for stage in STAGES))
        | each(" ".join(f"logs:{action}" for action in delivery), "*")
        | each(" ".join(f"xray:{action}" for action in tracing), "*"),
        "schedule": each("states:StartExecution", names.arn("states", f"stateMachine:{names.name}"))
        | each("sqs:SendMessage", names.arn("sqs", f"{names.name}-dead-letters")),
    }
    in_vpc = each(" ".join(f"ec2:{action}" for action in network), "*")
    return table | {f"{role}{IN_VPC}": rights | (in_vpc if role in STAGES else set()) for role, rights in table.items()}


def role_policies(rendered: dict[str, list[Resource]]) -> Policies:
    """The rendered policies of all roles, by stage, `machine` and `schedule`, once in a VPC as well; of GitHub's; and the boundary."""
    found: Policies = {}
    for stack, after in (("main", ""), ("vpc", IN_VPC), ("immutable", "")):
        for resource in rendered[stack]:
            if resource["type"] not in ("aws_iam_role_policy", "aws_iam_policy"):
                continue
            name, index = resource["name"], resource.get("index")
            role = f"github {index}" if name == "github" else str(index or name)
            found[role + after] = json.loads(resource["values"]["policy"])
    return found


def granted(policy: dict[str, Any]) -> set[Right]:
    """The rights that a policy allows."""
    return {
        (action, resource, _text(statement.get("Condition", {})))
        for statement in policy["Statement"]
        if statement["Effect"] == "Allow"
        for action in _list(statement["Action"])
        for resource in _list(statement["Resource"])
    }


def check(policies: Policies, names: Names, state_bucket: str) -> int:
    """Every role has the rights of the table and no others, and the boundary lets through what they have together and no more.

    Returns how many rights there are."""
    from checks import github

    table = expected(names) | github.expected(names, state_bucket)
    if set(policies) != {*table, BOUNDARY}:
        raise Failed("rights", f"roles are {sorted(policies)}, the table knows {sorted(table)}")
    for role, wanted in table.items():
        has = granted(policies[role])
        missing = {right for right in wanted if not any(_covers(allowed, right) for allowed in has)}
        too_many = has - wanted
        if missing or too_many:
            raise Failed("rights", f"role {role} lacks {sorted(missing)} and has {sorted(too_many)} that nobody calls")
    _check_boundary(granted(policies[BOUNDARY]), {right for role in expected(names) for right in granted(policies[role])})
    return sum(len(granted(policy)) for policy in policies.values())


def _check_boundary(allowed: set[Right], used: set[Right]) -> None:
    missing = {right for right in used if not any(_covers(may, right) for may in allowed)}
    too_many = {may for may in allowed if not any(_covers(may, right) for right in used)}
    if missing or too_many:
        raise Failed("rights", f"the boundary takes {sorted(missing)} away and has {sorted(too_many)} that no role has")


def each_removed(policies: Policies) -> Iterable[tuple[str, Policies]]:
    """The policies with one action or condition of one statement taken away, once for every one: what the check has to notice."""
    for role, policy in policies.items():
        for number, statement in enumerate(policy["Statement"]):
            where = f"of {statement.get('Sid', number)} of {role}"
            for action in _list(statement["Action"]):
                left = [other for other in _list(statement["Action"]) if other != action]
                yield f"without {action} {where}", _changed(policies, role, number, Action=left)
            if "Condition" in statement:
                yield f"without the condition {where}", _changed(policies, role, number, Condition={})
                yield f"another condition {where}", _changed(policies, role, number, Condition=_other(statement["Condition"]))


def _changed(policies: Policies, role: str, number: int, **values: Any) -> Policies:
    changed = json.loads(json.dumps(policies))
    changed[role]["Statement"][number].update(values)
    return changed


def _other(condition: dict[str, Any]) -> dict[str, Any]:
    """A condition of the same keys with other values, such as another service that a key may be used through."""
    return {operator: {key: "other" for key in keys} for operator, keys in condition.items()}


def _covers(allowed: Right, wanted: Right) -> bool:
    return allowed[0] == wanted[0] and allowed[2] == wanted[2] and fnmatchcase(wanted[1], allowed[1].replace("[", "[[]"))


def _text(condition: dict[str, Any]) -> str:
    """Equal conditions, equal texts."""
    sorted_values = {operator: {key: sorted(_list(values)) for key, values in keys.items()} for operator, keys in condition.items()}
    return json.dumps(sorted_values, sort_keys=True) if condition else ""


def _list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]
