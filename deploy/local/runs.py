"""Starts runs of the state machine and reads what they left: their end, their logs, their alarms."""

import json
import time
import uuid
from typing import Any

from checks import pattern
from local.cloud import until
from local.stack import Stack

EVERYTHING: dict[str, Any] = {"tables_to_query": []}


class Run:
    """One execution, by its name, which is the run id of its stages."""

    def __init__(self, stack: Stack, arn: str) -> None:
        self.stack = stack
        self.arn = arn
        self.id = arn.rsplit(":", 1)[1]

    def wait(self, seconds: float = 300) -> dict[str, Any]:
        """How it ended: status, output, error and cause."""
        client = self.stack.cloud.client("stepfunctions")

        def ended() -> dict[str, Any] | None:
            found = client.describe_execution(executionArn=self.arn)
            return found if found["status"] != "RUNNING" else None

        return until(ended, f"run {self.id} to end", seconds)

    def history(self) -> list[dict[str, Any]]:
        """What happened in it."""
        return self.stack.cloud.client("stepfunctions").get_execution_history(executionArn=self.arn, maxResults=1000)["events"]

    def failures(self) -> list[str]:
        """The errors of tasks, in order, retried ones included."""
        return [e["taskFailedEventDetails"]["error"] for e in self.history() if "taskFailedEventDetails" in e]

    def states(self) -> list[str]:
        """The states that it entered, in order."""
        return [e["stateEnteredEventDetails"]["name"] for e in self.history() if "stateEnteredEventDetails" in e]


def start(stack: Stack, event: dict[str, Any] | None = None, name: str | None = None) -> Run:
    """Starts a run."""
    client = stack.cloud.client("stepfunctions")
    made = client.start_execution(
        stateMachineArn=stack.machine, name=name or f"run-{uuid.uuid4()}", input=json.dumps(EVERYTHING if event is None else event)
    )
    return Run(stack, made["executionArn"])


def newest(stack: Stack, besides: set[str]) -> Run | None:
    """A run that somebody else started: the schedule."""
    found = stack.cloud.client("stepfunctions").list_executions(stateMachineArn=stack.machine)["executions"]
    for execution in found:
        if execution["executionArn"] not in besides:
            return Run(stack, execution["executionArn"])
    return None


def lines(stack: Stack, stage: str, since: float = 0) -> list[dict[str, Any]]:
    """The JSON lines of a function, oldest first."""
    client = stack.cloud.client("logs")
    group = f"/aws/lambda/{stack.names.name}-{stage}"
    found: list[dict[str, Any]] = []
    for page in client.get_paginator("filter_log_events").paginate(logGroupName=group, startTime=int(since * 1000)):
        for event in page["events"]:
            for line in event["message"].splitlines():
                if line.startswith("{"):
                    found.append(json.loads(line))
    return found


def critical(stack: Stack, stage: str, since: float = 0) -> list[dict[str, Any]]:
    """The lines that the shipped metric filter finds. No local server evaluates filters, so this does."""
    found = pattern.shipped()
    return [line for line in lines(stack, stage, since) if pattern.matches(found, json.dumps(line))]


class Inbox:
    """A queue behind the topic, in the place of a person's mail."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.client = stack.cloud.client("sqs")
        self.url = self.client.create_queue(QueueName="inbox")["QueueUrl"]
        arn = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        may_send = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn}],
        }
        self.client.set_queue_attributes(QueueUrl=self.url, Attributes={"Policy": json.dumps(may_send)})
        stack.cloud.client("sns").subscribe(TopicArn=stack.topic, Protocol="sqs", Endpoint=arn)

    def evaluate(self, stage: str, since: float) -> list[dict[str, Any]]:
        """What CloudWatch would do: the filter over the lines, and the alarm if it found one. Returns the lines."""
        found = critical(self.stack, stage, since)
        if found:
            self.stack.cloud.client("cloudwatch").set_alarm_state(
                AlarmName=f"{self.stack.names.name}-critical", StateValue="ALARM", StateReason=f"{len(found)} critical lines"
            )
        return found

    def next(self, seconds: float = 20) -> dict[str, Any]:
        """The next message, which is removed."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for message in self.client.receive_message(QueueUrl=self.url, WaitTimeSeconds=1).get("Messages", []):
                self.client.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
                return json.loads(json.loads(message["Body"])["Message"])
        raise TimeoutError(f"nothing arrived within {seconds} s")
