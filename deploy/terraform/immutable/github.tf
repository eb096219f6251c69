# Two roles for GitHub Actions, trusted through OIDC: no access key exists. `plan` may look; `deploy` may change what the stack
# `main` is made of, and is trusted by jobs of one GitHub environment alone, where reviewers approve. This stack is applied
# by a person: neither role can change buckets, key, secrets or the boundary of what roles may do.

locals {
  github = var.github_repository == "" ? {} : {
    plan   = "repo:${var.github_repository}:ref:refs/heads/main"
    deploy = "repo:${var.github_repository}:environment:${var.github_environment}"
  }
  partition = data.aws_partition.current.partition
  here      = "${var.region}:${local.account}"

  makes_provider = var.github_repository != "" && var.github_oidc_provider_arn == ""
  provider_arn   = local.makes_provider ? aws_iam_openid_connect_provider.github[0].arn : var.github_oidc_provider_arn

  state_arn = "arn:${local.partition}:s3:::${var.state_bucket}/${var.pipeline}/${var.environment}/main.tfstate"

  # What the stack `main` is made of, by service.
  ours = {
    alarms     = ["arn:${local.partition}:cloudwatch:${local.here}:alarm:${local.name}-*"]
    dashboards = ["arn:${local.partition}:cloudwatch::${local.account}:dashboard/${local.name}"]
    functions  = ["arn:${local.partition}:lambda:${local.here}:function:${local.name}-*"]
    logs = [
      "arn:${local.partition}:logs:${local.here}:log-group:/aws/lambda/${local.name}-*",
      "arn:${local.partition}:logs:${local.here}:log-group:/aws/vendedlogs/states/${local.name}*",
    ]
    machines = [
      "arn:${local.partition}:states:${local.here}:stateMachine:${local.name}",
      "arn:${local.partition}:states:${local.here}:stateMachine:${local.name}:*",
    ]
    queues = ["arn:${local.partition}:sqs:${local.here}:${local.name}-*"]
    roles  = ["arn:${local.partition}:iam::${local.account}:role/starlift/${local.name}/*"]
    schedules = [
      "arn:${local.partition}:scheduler:${local.here}:schedule-group/${local.name}",
      "arn:${local.partition}:scheduler:${local.here}:schedule/${local.name}/*",
    ]
  }

  look_actions = {
    alarms     = ["cloudwatch:ListTagsForResource"]
    dashboards = ["cloudwatch:GetDashboard"]
    functions = [
      "lambda:GetAlias", "lambda:GetFunction", "lambda:GetFunctionCodeSigningConfig", "lambda:GetFunctionConfiguration", "lambda:ListTags",
      "lambda:ListVersionsByFunction",
    ]
    logs      = ["logs:ListTagsForResource"]
    machines  = ["states:DescribeStateMachine", "states:ListStateMachineVersions", "states:ListTagsForResource"]
    queues    = ["sqs:GetQueueAttributes", "sqs:ListQueueTags"]
    roles     = ["iam:GetRole", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies", "iam:ListRolePolicies"]
    schedules = ["scheduler:GetSchedule", "scheduler:GetScheduleGroup", "scheduler:ListTagsForResource"]
  }

  change_actions = {
    alarms     = ["cloudwatch:DeleteAlarms", "cloudwatch:PutMetricAlarm", "cloudwatch:TagResource", "cloudwatch:UntagResource"]
    dashboards = ["cloudwatch:DeleteDashboards", "cloudwatch:PutDashboard"]
    functions = [
      "lambda:CreateAlias", "lambda:CreateFunction", "lambda:DeleteAlias", "lambda:DeleteFunction", "lambda:DeleteFunctionConcurrency",
      "lambda:PublishVersion", "lambda:PutFunctionConcurrency", "lambda:TagResource", "lambda:UntagResource", "lambda:UpdateAlias",
      "lambda:UpdateFunctionCode", "lambda:UpdateFunctionConfiguration",
    ]
    logs = [
      "logs:AssociateKmsKey", "logs:CreateLogGroup", "logs:DeleteLogGroup", "logs:DeleteMetricFilter", "logs:PutMetricFilter",
      "logs:PutRetentionPolicy", "logs:TagResource", "logs:UntagResource",
    ]
    machines = [
      "states:CreateStateMachine", "states:DeleteStateMachine", "states:TagResource", "states:UntagResource", "states:UpdateStateMachine",
    ]
    queues = ["sqs:CreateQueue", "sqs:DeleteQueue", "sqs:SetQueueAttributes", "sqs:TagQueue", "sqs:UntagQueue"]
    # Making roles and writing their policies is below: that takes the boundary.
    roles = [
      "iam:DeleteRole", "iam:DeleteRolePolicy", "iam:ListInstanceProfilesForRole", "iam:TagRole", "iam:UntagRole",
      "iam:UpdateAssumeRolePolicy", "iam:UpdateRole", "iam:UpdateRoleDescription",
    ]
    schedules = [
      "scheduler:CreateSchedule", "scheduler:CreateScheduleGroup", "scheduler:DeleteSchedule", "scheduler:DeleteScheduleGroup",
      "scheduler:TagResource", "scheduler:UntagResource", "scheduler:UpdateSchedule",
    ]
  }

  state_statements = [
    {
      # Other workspaces, which Terraform looks for below `env:/`, need not be seen: it takes a refusal for none.
      Sid       = "FindState"
      Effect    = "Allow"
      Action    = ["s3:ListBucket"]
      Resource  = "arn:${local.partition}:s3:::${var.state_bucket}"
      Condition = { StringLike = { "s3:prefix" = "${var.pipeline}/${var.environment}/main.tfstate*" } }
    },
    { Sid = "ReadState", Effect = "Allow", Action = ["s3:GetObject"], Resource = local.state_arn },
    {
      Sid      = "Lock"
      Effect   = "Allow"
      Action   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
      Resource = "${local.state_arn}.tflock"
    },
  ]

  look_statements = concat([
    {
      Sid      = "WhatTheOtherStackMade"
      Effect   = "Allow"
      Action   = ["ssm:GetParameter", "ssm:GetParameters"]
      Resource = "arn:${local.partition}:ssm:${local.here}:parameter${local.parameters}/*"
    },
    {
      # These know no resources, or are asked for all of them.
      Sid    = "Look"
      Effect = "Allow"
      Action = [
        "cloudwatch:DescribeAlarms", "logs:DescribeLogGroups", "logs:DescribeMetricFilters", "states:ValidateStateMachineDefinition",
      ]
      Resource = "*"
    },
    ], [for what in sort(keys(local.ours)) :
    { Sid = "LookAt${title(what)}", Effect = "Allow", Action = local.look_actions[what], Resource = local.ours[what] }
  ])

  change_statements = concat(
    [{ Sid = "WriteState", Effect = "Allow", Action = ["s3:PutObject"], Resource = local.state_arn }],
    [for what in sort(keys(local.ours)) :
      { Sid = "Change${title(what)}", Effect = "Allow", Action = local.change_actions[what], Resource = local.ours[what] }
    ],
    [
      {
        # Only roles that have the boundary, and none may lose it: `iam:DeleteRolePermissionsBoundary` is nobody's here.
        Sid       = "MakeRolesWithinTheBoundary"
        Effect    = "Allow"
        Action    = ["iam:CreateRole", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"]
        Resource  = local.ours.roles
        Condition = { ArnEquals = { "iam:PermissionsBoundary" = local.boundary_arn } }
      },
      {
        Sid      = "HandRolesToServices"
        Effect   = "Allow"
        Action   = ["iam:PassRole"]
        Resource = local.ours.roles
        Condition = { StringEquals = {
          "iam:PassedToService" = ["lambda.amazonaws.com", "states.amazonaws.com", "scheduler.amazonaws.com"]
        } }
      },
      {
        # A state machine's log delivery is an arrangement of the account, without a resource of its own; whoever puts a function into a
        # network is asked whether he may see it.
        Sid    = "ChangeWhatHasNoResource"
        Effect = "Allow"
        Action = [
          "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs",
          "logs:CreateLogDelivery", "logs:DeleteLogDelivery", "logs:DescribeResourcePolicies", "logs:GetLogDelivery", "logs:ListLogDeliveries",
          "logs:PutResourcePolicy", "logs:UpdateLogDelivery",
        ]
        Resource = "*"
      },
    ],
  )

  github_statements = {
    plan   = concat(local.state_statements, local.look_statements)
    deploy = concat(local.state_statements, local.look_statements, local.change_statements)
  }
}

resource "aws_iam_openid_connect_provider" "github" {
  count = local.makes_provider ? 1 : 0

  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
}

resource "aws_iam_role" "github" {
  for_each = local.github

  name                 = "${local.name}-github-${each.key}"
  description          = "starlift ${local.name}: what a ${each.key} job of ${var.github_repository} may do"
  max_session_duration = 3600

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Federated = local.provider_arn }
      Action    = "sts:AssumeRoleWithWebIdentity"
      Condition = { StringEquals = {
        "token.actions.githubusercontent.com:aud" = "sts.amazonaws.com"
        "token.actions.githubusercontent.com:sub" = each.value
      } }
    }]
  })
}

resource "aws_iam_role_policy" "github" {
  for_each = local.github

  name = each.key
  role = aws_iam_role.github[each.key].id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = local.github_statements[each.key]
  })
}
