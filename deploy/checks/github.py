"""What the roles of GitHub's jobs need: what Terraform calls to look at the stack `main`, and to change it."""

from checks.arns import Names
from checks.rights import Right, each


def expected(names: Names, state_bucket: str) -> dict[str, set[Right]]:
    """By role, as `rights.expected`."""
    pipeline, environment = names.name.rsplit("-", 1)
    folder = f"{pipeline}/{environment}/main.tfstate"
    state = f"arn:aws:s3:::{state_bucket}/{folder}"
    alarms = [names.arn("cloudwatch", f"alarm:{names.name}-*")]
    dashboards = [names.arn("cloudwatch", f"dashboard/{names.name}", region=False)]
    functions = [names.arn("lambda", f"function:{names.name}-*")]
    logs = [names.arn("logs", f"log-group:{group}") for group in (f"/aws/lambda/{names.name}-*", f"/aws/vendedlogs/states/{names.name}*")]
    machines = [names.arn("states", f"stateMachine:{names.name}{versions}") for versions in ("", ":*")]
    queues = [names.arn("sqs", f"{names.name}-*")]
    roles = [names.arn("iam", f"role/starlift/{names.name}/*", region=False)]
    schedules = [names.arn("scheduler", what) for what in (f"schedule-group/{names.name}", f"schedule/{names.name}/*")]
    boundary = {"ArnEquals": {"iam:PermissionsBoundary": names.parameters()["boundary_arn"]}}
    services = {"StringEquals": {"iam:PassedToService": [f"{name}.amazonaws.com" for name in ("lambda", "states", "scheduler")]}}

    look = (
        each("s3:ListBucket", f"arn:aws:s3:::{state_bucket}", StringLike={"s3:prefix": f"{folder}*"})
        | each("s3:GetObject", state)
        | each("s3:GetObject s3:PutObject s3:DeleteObject", f"{state}.tflock")
        | each("ssm:GetParameter ssm:GetParameters", names.arn("ssm", f"parameter/starlift/{environment}/{pipeline}/*"))
        | each("cloudwatch:DescribeAlarms logs:DescribeLogGroups logs:DescribeMetricFilters states:ValidateStateMachineDefinition", "*")
        | each("cloudwatch:ListTagsForResource", *alarms)
        | each("cloudwatch:GetDashboard", *dashboards)
        | each("lambda:GetAlias lambda:GetFunction lambda:GetFunctionCodeSigningConfig lambda:GetFunctionConfiguration", *functions)
        | each("lambda:ListTags lambda:ListVersionsByFunction", *functions)
        | each("logs:ListTagsForResource", *logs)
        | each("states:DescribeStateMachine states:ListStateMachineVersions states:ListTagsForResource", *machines)
        | each("sqs:GetQueueAttributes sqs:ListQueueTags", *queues)
        | each("iam:GetRole iam:GetRolePolicy iam:ListAttachedRolePolicies iam:ListRolePolicies", *roles)
        | each("scheduler:GetSchedule scheduler:GetScheduleGroup scheduler:ListTagsForResource", *schedules)
    )
    change = (
        each("s3:PutObject", state)
        | each("cloudwatch:DeleteAlarms cloudwatch:PutMetricAlarm cloudwatch:TagResource cloudwatch:UntagResource", *alarms)
        | each("cloudwatch:DeleteDashboards cloudwatch:PutDashboard", *dashboards)
        | each("lambda:CreateFunction lambda:DeleteFunction lambda:UpdateFunctionCode lambda:UpdateFunctionConfiguration", *functions)
        | each("lambda:CreateAlias lambda:DeleteAlias lambda:UpdateAlias lambda:PublishVersion", *functions)
        | each("lambda:DeleteFunctionConcurrency lambda:PutFunctionConcurrency lambda:TagResource lambda:UntagResource", *functions)
        | each("logs:CreateLogGroup logs:DeleteLogGroup logs:AssociateKmsKey logs:PutRetentionPolicy", *logs)
        | each("logs:DeleteMetricFilter logs:PutMetricFilter logs:TagResource logs:UntagResource", *logs)
        | each("states:CreateStateMachine states:DeleteStateMachine states:UpdateStateMachine", *machines)
        | each("states:TagResource states:UntagResource", *machines)
        | each("sqs:CreateQueue sqs:DeleteQueue sqs:SetQueueAttributes sqs:TagQueue sqs:UntagQueue", *queues)
        | each("iam:DeleteRole iam:DeleteRolePolicy iam:ListInstanceProfilesForRole iam:TagRole iam:UntagRole", *roles)
        | each("iam:UpdateAssumeRolePolicy iam:UpdateRole iam:UpdateRoleDescription", *roles)
        # What a role may do, only within the boundary.
        | each("iam:CreateRole iam:PutRolePermissionsBoundary iam:PutRolePolicy", *roles, **boundary)
        | each("iam:PassRole", *roles, **services)
        | each("scheduler:CreateSchedule scheduler:DeleteSchedule scheduler:UpdateSchedule", *schedules)
        | each("scheduler:CreateScheduleGroup scheduler:DeleteScheduleGroup scheduler:TagResource scheduler:UntagResource", *schedules)
        # For whoever puts a function into a network.
        | each("ec2:DescribeSecurityGroups ec2:DescribeSubnets ec2:DescribeVpcs", "*")
        | each("logs:CreateLogDelivery logs:DeleteLogDelivery logs:GetLogDelivery logs:ListLogDeliveries logs:UpdateLogDelivery", "*")
        | each("logs:DescribeResourcePolicies logs:PutResourcePolicy", "*")
    )
    return {"github plan": look, "github deploy": look | change}
