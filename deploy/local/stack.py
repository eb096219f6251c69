"""Makes the rendered stacks in a local AWS server: every resource that it knows, with the values that Terraform would give.

What is made is read off the plan, never written here again, so that a change of the stacks is what the demo and the tests run. Left
out is what no local server acts on: the dashboard, tracing, log delivery.
"""

import json
import pathlib
import platform
from typing import Any

from checks.arns import Names
from checks.terraform import Resource, Terraform
from local.cloud import Cloud


class Stack:
    """Both stacks in a server."""

    def __init__(self, cloud: Cloud, zips: pathlib.Path, variables: dict[str, Any] | None = None) -> None:
        """Makes the secrets, whose ARNs have a part of the server's own, and renders both stacks; makes nothing else."""
        architecture = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
        main = {"environment": "local", "architecture": architecture, "zip_dir": str(zips), **(variables or {})}
        self.cloud = cloud
        self.zips = zips
        self.names = Names(main)
        terraform = Terraform(cloud.folder / "terraform")
        terraform.init()
        self.immutable = terraform.render("immutable", {"environment": main["environment"], "alarm_email": "someone@example.com"})
        self.main: list[Resource] = []
        self.main = terraform.render("main", main, {**self.names.parameters(), **self._secrets()})
        self.machine = self.names.arn("states", f"stateMachine:{self.names.name}")

    def of(self, kind: str) -> list[Resource]:
        """The resources of a kind, of both stacks."""
        return [resource for resource in self.immutable + self.main if resource["type"] == kind]

    def make(self, schedule: bool = False) -> None:
        """Makes everything; the schedule only where it is asked for, so that tests start runs themselves."""
        self._buckets()
        self._topic()
        self._roles()
        self._functions()
        self._logs_and_alarms()
        self._machine()
        if schedule:
            self.schedule()

    def put_secret(self, of: str, credentials: dict[str, Any]) -> None:
        """Gives one of the two secrets its value, as a person does with `aws secretsmanager put-secret-value`."""
        client = self.cloud.client("secretsmanager")
        name = next(r["values"]["name"] for r in self.of("aws_secretsmanager_secret") if r["index"] == of)
        client.put_secret_value(SecretId=name, SecretString=json.dumps(credentials))

    def schedule(self, expression: str | None = None) -> None:
        """Starts the schedule; `expression` instead of the rendered one, for who does not want to wait."""
        client = self.cloud.client("scheduler")
        (group,) = self.of("aws_scheduler_schedule_group")
        (schedule,) = (resource["values"] for resource in self.of("aws_scheduler_schedule"))
        (target,) = schedule["target"]
        client.create_schedule_group(Name=group["values"]["name"])
        client.create_schedule(
            Name=schedule["name"],
            GroupName=schedule["group_name"],
            ScheduleExpression=expression or schedule["schedule_expression"],
            FlexibleTimeWindow={"Mode": schedule["flexible_time_window"][0]["mode"]},
            State=schedule["state"],
            Target={
                "Arn": target["arn"],
                "RoleArn": target["role_arn"],
                "Input": target["input"],
                "DeadLetterConfig": {"Arn": target["dead_letter_config"][0]["arn"]},
                "RetryPolicy": {
                    "MaximumEventAgeInSeconds": target["retry_policy"][0]["maximum_event_age_in_seconds"],
                    "MaximumRetryAttempts": target["retry_policy"][0]["maximum_retry_attempts"],
                },
            },
        )

    def _secrets(self) -> dict[str, str]:
        client = self.cloud.client("secretsmanager")
        found = {}
        for resource in self.of("aws_secretsmanager_secret"):
            made = client.create_secret(Name=resource["values"]["name"], Description=resource["values"]["description"])
            found[f"{resource['index']}_secret_arn"] = made["ARN"]
        return found

    def _buckets(self) -> None:
        client = self.cloud.client("s3")
        for resource in self.of("aws_s3_bucket"):
            where = {"LocationConstraint": self.names.region}
            client.create_bucket(Bucket=resource["values"]["bucket"], CreateBucketConfiguration=where)
        for resource in self.of("aws_s3_bucket_versioning"):
            client.put_bucket_versioning(
                Bucket=resource["values"]["bucket"],
                VersioningConfiguration={"Status": resource["values"]["versioning_configuration"][0]["status"]},
            )
        for resource in self.of("aws_s3_bucket_policy"):
            client.put_bucket_policy(Bucket=resource["values"]["bucket"], Policy=_over_http(resource["values"]["policy"]))

    def _topic(self) -> None:
        (topic,) = self.of("aws_sns_topic")
        (policy,) = self.of("aws_sns_topic_policy")
        client = self.cloud.client("sns")
        self.topic = client.create_topic(Name=topic["values"]["name"])["TopicArn"]
        client.set_topic_attributes(TopicArn=self.topic, AttributeName="Policy", AttributeValue=_over_http(policy["values"]["policy"]))

    def _roles(self) -> None:
        client = self.cloud.client("iam")
        for resource in self.of("aws_iam_policy"):
            values = resource["values"]
            client.create_policy(PolicyName=values["name"], Path=values["path"], PolicyDocument=values["policy"])
        for resource in self.of("aws_iam_role"):
            values = resource["values"]
            boundary = values.get("permissions_boundary")
            client.create_role(
                RoleName=values["name"],
                Path=values["path"] or "/",
                AssumeRolePolicyDocument=values["assume_role_policy"],
                **({"PermissionsBoundary": boundary} if boundary else {}),
            )
        for resource in self.of("aws_iam_role_policy"):
            values = resource["values"]
            client.put_role_policy(RoleName=values["role"], PolicyName=values["name"], PolicyDocument=values["policy"])

    def _functions(self) -> None:
        client = self.cloud.client("lambda")
        for resource in self.of("aws_lambda_function"):
            values = resource["values"]
            client.create_function(
                FunctionName=values["function_name"],
                Runtime=values["runtime"],
                Role=values["role"],
                Handler=values["handler"],
                Code={"ZipFile": (self.zips / f"{resource['index']}.zip").read_bytes()},
                Timeout=values["timeout"],
                MemorySize=values["memory_size"],
                Architectures=values["architectures"],
                Environment={"Variables": {**values["environment"][0]["variables"], **self._local_environment()}},
            )
            self.publish(resource["index"])

    def publish(self, stage: str) -> None:
        """Publishes a version of a stage's function and has the alias name it."""
        client = self.cloud.client("lambda")
        name = f"{self.names.name}-{stage}"
        version = client.publish_version(FunctionName=name)["Version"]
        (alias,) = (r["values"]["name"] for r in self.of("aws_lambda_alias") if r["index"] == stage)
        try:
            client.update_alias(FunctionName=name, Name=alias, FunctionVersion=version)
        except client.exceptions.ResourceNotFoundException:
            client.create_alias(FunctionName=name, Name=alias, FunctionVersion=version)

    def configure(self, stage: str, timeout: int | None = None, environment: dict[str, str] | None = None) -> None:
        """Changes a function for a test, and has the alias name the change."""
        client = self.cloud.client("lambda")
        name = f"{self.names.name}-{stage}"
        now = client.get_function_configuration(FunctionName=name)
        variables = {**now["Environment"]["Variables"], **(environment or {})}
        client.update_function_configuration(
            FunctionName=name,
            Timeout=timeout or now["Timeout"],
            Environment={"Variables": {key: value for key, value in variables.items() if value != ""}},
        )
        self.publish(stage)

    def _local_environment(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL": self.cloud.endpoint, "AWS_ALLOW_HTTP": "true"}

    def _logs_and_alarms(self) -> None:
        logs, watch = self.cloud.client("logs"), self.cloud.client("cloudwatch")
        for resource in self.of("aws_cloudwatch_log_group"):
            logs.create_log_group(logGroupName=resource["values"]["name"])
        for resource in self.of("aws_cloudwatch_log_metric_filter"):
            values = resource["values"]
            (metric,) = values["metric_transformation"]
            logs.put_metric_filter(
                logGroupName=values["log_group_name"],
                filterName=values["name"],
                filterPattern=values["pattern"],
                metricTransformations=[
                    {"metricNamespace": metric["namespace"], "metricName": metric["name"], "metricValue": metric["value"]}
                ],
            )
        for resource in self.of("aws_cloudwatch_metric_alarm"):
            values = resource["values"]
            watch.put_metric_alarm(
                AlarmName=values["alarm_name"],
                **(_queries(values["metric_query"]) if values.get("metric_query") else _metric(values)),
                EvaluationPeriods=values["evaluation_periods"],
                DatapointsToAlarm=values.get("datapoints_to_alarm") or values["evaluation_periods"],
                Threshold=values["threshold"],
                ComparisonOperator=values["comparison_operator"],
                TreatMissingData=values["treat_missing_data"],
                AlarmActions=values["alarm_actions"],
            )
        for resource in self.of("aws_sqs_queue"):
            self.cloud.client("sqs").create_queue(QueueName=resource["values"]["name"])

    def _machine(self) -> None:
        (machine,) = (resource["values"] for resource in self.of("aws_sfn_state_machine"))
        made = self.cloud.client("stepfunctions").create_state_machine(
            name=machine["name"], definition=machine["definition"], roleArn=machine["role_arn"]
        )
        if made["stateMachineArn"] != self.machine:
            raise AssertionError(f"the state machine is {made['stateMachineArn']}, its policies say {self.machine}")


def _metric(values: dict[str, Any]) -> dict[str, Any]:
    """The one metric of an alarm."""
    return {
        "Namespace": values["namespace"],
        "MetricName": values["metric_name"],
        "Dimensions": [{"Name": name, "Value": value} for name, value in (values["dimensions"] or {}).items()],
        "Statistic": values["statistic"],
        "Period": values["period"],
    }


def _queries(queries: list[dict[str, Any]]) -> dict[str, Any]:
    """The metrics and the expression over them of an alarm that has several."""
    metrics = []
    for query in queries:
        found: dict[str, Any] = {"Id": query["id"], "ReturnData": bool(query["return_data"])}
        if query["expression"]:
            found["Expression"] = query["expression"]
        for metric in query["metric"]:
            one = _metric({**metric, "statistic": metric["stat"]})
            of = {name: one[name] for name in ("Namespace", "MetricName", "Dimensions")}
            found["MetricStat"] = {"Metric": of, "Period": one["Period"], "Stat": one["Statistic"]}
        metrics.append(found)
    return {"Metrics": metrics}


def _over_http(policy: str) -> str:
    """A policy without its refusal of plain HTTP, which is what everything on loopback speaks."""
    parsed = json.loads(policy)
    parsed["Statement"] = [s for s in parsed["Statement"] if s["Sid"] != "EncryptedConnectionsOnly"]
    return json.dumps(parsed)
