"""The ARNs that AWS would give, for a stack that is rendered against a mocked provider."""

from typing import Any

PARTITION = "aws"


class Names:
    """What is called how in one environment of one pipeline."""

    def __init__(self, variables: dict[str, Any], account: str = "000000000000") -> None:
        self.account = account
        self.region: str = variables.get("region", "eu-west-2")
        self.name = f"{variables.get('pipeline', 'totesys')}-{variables['environment']}"

    def arn(self, service: str, resource: str, region: bool = True) -> str:
        """An ARN of this account."""
        return f"arn:{PARTITION}:{service}:{self.region if region else ''}:{self.account}:{resource}"

    def bucket(self, stage: str) -> str:
        """Name of a bucket."""
        return f"{self.name}-{stage}-{self.account}"

    def parameters(self) -> dict[str, str]:
        """What the stack `immutable` leaves for the stack `main`."""
        return {
            "ingest_bucket": self.bucket("ingest"),
            "transform_bucket": self.bucket("transform"),
            "source_secret_arn": self.arn("secretsmanager", "secret:totesys_db_credentials-AbCdEf"),
            "warehouse_secret_arn": self.arn("secretsmanager", "secret:totesys_warehouse_credentials-GhIjKl"),
            "alarm_topic_arn": self.arn("sns", f"{self.name}-alarms"),
            "key_arn": self.arn("kms", "key/11111111-2222-3333-4444-555555555555"),
            "boundary_arn": self.arn("iam", f"policy/starlift/{self.name}-boundary", region=False),
        }


def overrides(stack: str, variables: dict[str, Any], parameters: dict[str, str] | None = None) -> str:
    """The mocked provider of a stack: everything that AWS would fill in and the stack uses.

    `parameters` are what the stack `immutable` really left, where it was made somewhere.
    """
    names = Names(variables)
    blocks = [
        _override("data", "data.aws_caller_identity.current", account_id=names.account),
        _override("data", "data.aws_partition.current", partition=PARTITION),
    ]
    blocks += _immutable(names) if stack == "immutable" else _main(names, parameters or names.parameters())
    return 'mock_provider "aws" {\n  override_during = plan\n\n' + "\n".join(blocks) + "\n}\n"


def _immutable(names: Names) -> list[str]:
    given = names.parameters()
    blocks = [
        _override("resource", "aws_kms_key.this", arn=given["key_arn"], key_id=given["key_arn"].rsplit("/", 1)[1]),
        _override("resource", "aws_sns_topic.alarms", arn=given["alarm_topic_arn"]),
        _override("resource", "aws_iam_policy.boundary", arn=given["boundary_arn"]),
        _override("resource", 'aws_secretsmanager_secret.this["source"]', arn=given["source_secret_arn"]),
        _override("resource", 'aws_secretsmanager_secret.this["warehouse"]', arn=given["warehouse_secret_arn"]),
        _override(
            "resource",
            "aws_iam_openid_connect_provider.github[0]",
            arn=names.arn("iam", "oidc-provider/token.actions.githubusercontent.com", region=False),
        ),
    ]
    for stage in ("ingest", "transform"):
        bucket = names.bucket(stage)
        blocks.append(_override("resource", f'aws_s3_bucket.this["{stage}"]', id=bucket, arn=f"arn:{PARTITION}:s3:::{bucket}"))
    return blocks


def _main(names: Names, parameters: dict[str, str]) -> list[str]:
    blocks = [_override("data", f'data.aws_ssm_parameter.immutable["{key}"]', value=value) for key, value in parameters.items()]
    for stage in ("ingest", "transform", "load"):
        function = names.arn("lambda", f"function:{names.name}-{stage}")
        role = names.arn("iam", f"role/starlift/{names.name}/{names.name}-{stage}", region=False)
        group = names.arn("logs", f"log-group:/aws/lambda/{names.name}-{stage}")
        blocks += [
            _override("resource", f'aws_lambda_function.stage["{stage}"]', arn=function, version="1"),
            _override("resource", f'aws_lambda_alias.live["{stage}"]', arn=f"{function}:live"),
            _override("resource", f'aws_iam_role.stage["{stage}"]', arn=role),
            _override("resource", f'aws_cloudwatch_log_group.stage["{stage}"]', arn=group),
        ]
    for role in ("machine", "schedule"):
        arn = names.arn("iam", f"role/starlift/{names.name}/{names.name}-{role}", region=False)
        blocks.append(_override("resource", f"aws_iam_role.{role}", arn=arn))
    blocks += [
        _override("resource", "aws_sfn_state_machine.this", arn=names.arn("states", f"stateMachine:{names.name}")),
        _override("resource", "aws_cloudwatch_log_group.machine", arn=names.arn("logs", f"log-group:/aws/vendedlogs/states/{names.name}")),
        _override(
            "resource",
            "aws_sqs_queue.dead_letters",
            arn=names.arn("sqs", f"{names.name}-dead-letters"),
            id=f"https://sqs.{names.region}.amazonaws.com/{names.account}/{names.name}-dead-letters",
        ),
        _override("resource", "aws_scheduler_schedule_group.this", arn=names.arn("scheduler", f"schedule-group/{names.name}")),
    ]
    return blocks


def _override(kind: str, target: str, **values: str) -> str:
    given = "\n".join(f'      {name} = "{value}"' for name, value in values.items())
    return f"  override_{kind} {{\n    target = {target}\n    values = {{\n{given}\n    }}\n  }}"
