"""The rendered state machine: asl-validator, and what it does not know."""

import json
import pathlib
import re
import subprocess
from collections.abc import Iterable
from typing import Any

from checks.failure import Failed
from checks.terraform import CHECKS, Resource

ERRORS = CHECKS.parents[1] / "crates/core/src/error.rs"
STAGES = ("Ingest", "Transform", "Load")
# After these nothing is known of what the function did; a run that is played again under its own id does no harm.
UNKNOWN_ENDS = {"Runtime.ExitError", "Runtime.OutOfMemory", "Sandbox.Timedout", "Lambda.Unknown", "States.Timeout"}
# What AWS says to retry with every function, its answer when there are too many at once, and what passes while the network of a
# function in a VPC is made.
SERVICE = {
    "Lambda.ClientExecutionTimeoutException", "Lambda.ServiceException", "Lambda.AWSLambdaException", "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException", "Lambda.EC2ThrottledException", "Lambda.ENILimitReachedException",
    "Lambda.ResourceNotReadyException",
}  # fmt: skip


def error_types() -> dict[str, bool]:
    """The error types of stages, and whether trying again may help, from the function that decides both."""
    found = re.findall(r'ErrorKind::\w+ => \(\d+, (true|false), "(Starlift\.\w+)"\)', ERRORS.read_text())
    if len(found) < 2:
        raise Failed("machine", f"{ERRORS.name} does not name its error types as this check expects")
    return {name: again == "true" for again, name in found}


def definition(resources: Iterable[Resource]) -> dict[str, Any]:
    """The state machine of the stack `main`."""
    return json.loads(_one(resources, "aws_sfn_state_machine")["definition"])


def validate(machine: dict[str, Any], validator: pathlib.Path, scratch: pathlib.Path) -> None:
    """What asl-validator says."""
    file = scratch / "state_machine.asl.json"
    file.write_text(json.dumps(machine))
    done = subprocess.run([str(validator), "--json-path", str(file)], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise Failed("asl-validator", done.stdout + done.stderr)


def check(resources: list[Resource]) -> None:
    """Every error has its answer, every wait its end, and a run ends before the next begins."""
    machine = definition(resources)
    wrong: list[str] = []
    for name in STAGES:
        wrong += [f"{name}: {what}" for what in _answers(machine["States"][name])]
    wrong += [*_order(machine), *_times(machine, resources)]
    if wrong:
        raise Failed("machine", "; ".join(wrong))


def _answers(task: dict[str, Any]) -> Iterable[str]:
    retried: list[str] = []
    for retry in task["Retry"]:
        errors = retry["ErrorEquals"]
        retried += errors
        if "States.ALL" in errors or "States.TaskFailed" in errors:
            yield "a retry of everything repeats what no try can mend"
        if retry.get("JitterStrategy") != "FULL" or retry.get("BackoffRate", 0) <= 1 or "MaxDelaySeconds" not in retry:
            yield f"retries of {errors[0]} need growing waits, a limit to them, and jitter"
        if not 1 <= retry.get("MaxAttempts", 0) <= 5:
            yield f"retries of {errors[0]} need a number"
    types = error_types()
    wanted = {name for name, again in types.items() if again} | UNKNOWN_ENDS | SERVICE
    if set(retried) != wanted:
        yield f"retried are {sorted(set(retried) ^ wanted)} too many or too few"
    catches = task.get("Catch", [])
    caught = [error for catch in catches[:-1] for error in catch["ErrorEquals"]]
    if not catches or catches[-1]["ErrorEquals"] != ["States.ALL"] or "States.ALL" in caught:
        yield "the last catch takes everything, and no other does"
    for error in set(types) - {"Starlift.Internal"} - set(caught):
        yield f"{error} has no catch"
    if task["Arguments"].get("ClientContext", "").count("$states.context.Execution.Name") != 1:
        yield "the run id has to be the execution's name, or a retry is a new run"
    if not task["Arguments"]["FunctionName"].endswith(":live"):
        yield "it calls something else than the alias"


def _order(machine: dict[str, Any]) -> Iterable[str]:
    states = machine["States"]
    follows = [machine["StartAt"], states["Ingest"].get("Next"), states["Transform"].get("Next"), states["Load"].get("End")]
    return [] if follows == ["Ingest", "Transform", "Load", True] else [f"stages follow each other as {follows}"]


def _times(machine: dict[str, Any], resources: list[Resource]) -> Iterable[str]:
    rate = re.fullmatch(r"rate\((\d+) minutes\)", _one(resources, "aws_scheduler_schedule")["schedule_expression"])
    if rate is None:
        yield "the schedule is no rate in minutes"
        return
    interval = int(rate[1]) * 60
    limit = machine.get("TimeoutSeconds", interval)
    if limit >= interval:
        yield f"a run may take {limit} s, and the next one starts after {interval} s"
    functions = {resource["index"]: resource["values"] for resource in resources if resource["type"] == "aws_lambda_function"}
    if sum(function["timeout"] for function in functions.values()) > limit:
        yield "the stages' limits together exceed the run's"
    for name in STAGES:
        if machine["States"][name].get("TimeoutSeconds", 0) <= functions[name.lower()]["timeout"]:
            yield f"{name} is ended before its function can say why"


def _one(resources: Iterable[Resource], kind: str) -> dict[str, Any]:
    found = [resource["values"] for resource in resources if resource["type"] == kind]
    if len(found) != 1:
        raise Failed("machine", f"expected one {kind}, found {len(found)}")
    return found[0]
