"""Parliament on every rendered policy: actions that do not exist, resources that they do not know, conditions that never hold."""

import contextlib
import io
import json
from collections.abc import Iterable
from typing import Any

from checks.failure import Failed
from checks.terraform import Resource

# What parliament says that is so on purpose, with the reason.
ACCEPTED = {
    # Trust policies and policies of resources have principals, which parliament does not know.
    "MALFORMED": "it knows identity policies only",
    "RESOURCE_STAR": "the actions know no resources",
}
KINDS = {
    "aws_iam_role_policy": "policy",
    "aws_iam_policy": "policy",
}


def check(resources: Iterable[Resource]) -> int:
    """Every identity policy is sound; returns how many there were."""
    count = 0
    for resource in resources:
        if resource["type"] in KINDS:
            count += 1
            check_policy(resource["address"], json.loads(resource["values"][KINDS[resource["type"]]]))
    if count == 0:
        raise Failed("parliament", "no policies were rendered")
    return count


def check_policy(address: str, policy: dict[str, Any]) -> None:
    """One policy."""
    from parliament import analyze_policy_string

    with contextlib.redirect_stdout(io.StringIO()):
        findings = analyze_policy_string(json.dumps(policy)).findings
    found = [f"{finding.issue}: {finding.detail or ''} {finding.location}" for finding in findings if finding.issue not in ACCEPTED]
    if found:
        raise Failed("parliament", f"{address}: " + "; ".join(found))
