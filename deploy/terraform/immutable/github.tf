# Two roles for GitHub Actions, trusted through OIDC: no access key exists. `plan` may look; `deploy` may change what the stack
# `main` is made of, and is trusted by jobs of one GitHub environment alone, where reviewers approve. This stack is applied
# by a person: neither role can change buckets, key or secrets.

locals {
  github = var.github_repository == "" ? {} : {
    plan   = "repo:${var.github_repository}:ref:refs/heads/main"
    deploy = "repo:${var.github_repository}:environment:${var.github_environment}"
  }
  partition = data.aws_partition.current.partition
  here      = "${var.region}:${local.account}"

  state_statements = [
    {
      Sid       = "FindState"
      Effect    = "Allow"
      Action    = ["s3:ListBucket"]
      Resource  = "arn:${local.partition}:s3:::${var.state_bucket}"
      Condition = { StringLike = { "s3:prefix" = "${var.pipeline}/${var.environment}/main.tfstate*" } }
    },
    {
      Sid      = "State"
      Effect   = "Allow"
      Action   = ["s3:GetObject", "s3:PutObject"]
      Resource = "arn:${local.partition}:s3:::${var.state_bucket}/${var.pipeline}/${var.environment}/main.tfstate"
    },
    {
      Sid      = "Lock"
      Effect   = "Allow"
      Action   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
      Resource = "arn:${local.partition}:s3:::${var.state_bucket}/${var.pipeline}/${var.environment}/main.tfstate.tflock"
    },
  ]

  look_statements = [
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
    {
      Sid    = "LookAtOurs"
      Effect = "Allow"
      Action = [
        "cloudwatch:GetDashboard", "cloudwatch:ListTagsForResource",
        "iam:GetRole", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies", "iam:ListRolePolicies",
        "lambda:GetAlias", "lambda:GetFunction", "lambda:GetFunctionCodeSigningConfig", "lambda:GetFunctionConfiguration",
        "lambda:ListTags", "lambda:ListVersionsByFunction",
        "logs:ListTagsForResource",
        "scheduler:GetSchedule", "scheduler:GetScheduleGroup", "scheduler:ListTagsForResource",
        "sqs:GetQueueAttributes", "sqs:ListQueueTags",
        "states:DescribeStateMachine", "states:ListStateMachineVersions", "states:ListTagsForResource",
      ]
      Resource = local.ours
    },
  ]

  change_statements = [
    {
      Sid    = "ChangeOurs"
      Effect = "Allow"
      Action = [
        "cloudwatch:DeleteAlarms", "cloudwatch:DeleteDashboards", "cloudwatch:PutDashboard", "cloudwatch:PutMetricAlarm",
        "cloudwatch:TagResource", "cloudwatch:UntagResource",
        "lambda:CreateAlias", "lambda:CreateFunction", "lambda:DeleteAlias", "lambda:DeleteFunction",
        "lambda:DeleteFunctionConcurrency", "lambda:PublishVersion", "lambda:PutFunctionConcurrency", "lambda:TagResource",
        "lambda:UntagResource", "lambda:UpdateAlias", "lambda:UpdateFunctionCode", "lambda:UpdateFunctionConfiguration",
        "logs:AssociateKmsKey", "logs:CreateLogGroup", "logs:DeleteLogGroup", "logs:DeleteMetricFilter", "logs:PutMetricFilter",
        "logs:PutRetentionPolicy", "logs:TagResource", "logs:UntagResource",
        "scheduler:CreateSchedule", "scheduler:CreateScheduleGroup", "scheduler:DeleteSchedule", "scheduler:DeleteScheduleGroup",
        "scheduler:TagResource", "scheduler:UntagResource", "scheduler:UpdateSchedule",
        "sqs:CreateQueue", "sqs:DeleteQueue", "sqs:SetQueueAttributes", "sqs:TagQueue", "sqs:UntagQueue",
        "states:CreateStateMachine", "states:DeleteStateMachine", "states:TagResource", "states:UntagResource",
        "states:UpdateStateMachine",
      ]
      Resource = local.ours
    },
    {
      Sid    = "ChangeRolesOfOurs"
      Effect = "Allow"
      Action = [
        "iam:CreateRole", "iam:DeleteRole", "iam:DeleteRolePolicy", "iam:ListInstanceProfilesForRole", "iam:PutRolePolicy", "iam:TagRole",
        "iam:UntagRole", "iam:UpdateAssumeRolePolicy", "iam:UpdateRole",
      ]
      Resource = "arn:${local.partition}:iam::${local.account}:role/starlift/${local.name}/*"
    },
    {
      Sid      = "HandRolesToServices"
      Effect   = "Allow"
      Action   = ["iam:PassRole"]
      Resource = "arn:${local.partition}:iam::${local.account}:role/starlift/${local.name}/*"
      Condition = { StringEquals = {
        "iam:PassedToService" = ["lambda.amazonaws.com", "states.amazonaws.com", "scheduler.amazonaws.com"]
      } }
    },
    {
      # A state machine's log delivery is an arrangement of the account, without a resource of its own.
      Sid    = "LogDelivery"
      Effect = "Allow"
      Action = [
        "logs:CreateLogDelivery", "logs:DeleteLogDelivery", "logs:DescribeResourcePolicies", "logs:GetLogDelivery", "logs:ListLogDeliveries",
        "logs:PutResourcePolicy", "logs:UpdateLogDelivery",
      ]
      Resource = "*"
    },
  ]

  github_statements = {
    plan   = concat(local.state_statements, local.look_statements)
    deploy = concat(local.state_statements, local.look_statements, local.change_statements)
  }

  ours = [
    "arn:${local.partition}:cloudwatch:${local.here}:alarm:${local.name}-*",
    "arn:${local.partition}:cloudwatch::${local.account}:dashboard/${local.name}",
    "arn:${local.partition}:iam::${local.account}:role/starlift/${local.name}/*",
    "arn:${local.partition}:lambda:${local.here}:function:${local.name}-*",
    "arn:${local.partition}:logs:${local.here}:log-group:/aws/lambda/${local.name}-*",
    "arn:${local.partition}:logs:${local.here}:log-group:/aws/vendedlogs/states/${local.name}*",
    "arn:${local.partition}:scheduler:${local.here}:schedule-group/${local.name}",
    "arn:${local.partition}:scheduler:${local.here}:schedule/${local.name}/*",
    "arn:${local.partition}:sqs:${local.here}:${local.name}-*",
    "arn:${local.partition}:states:${local.here}:stateMachine:${local.name}",
    "arn:${local.partition}:states:${local.here}:stateMachine:${local.name}:*",
  ]
}

resource "aws_iam_openid_connect_provider" "github" {
  count = var.github_repository == "" ? 0 : 1

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
      Principal = { Federated = aws_iam_openid_connect_provider.github[0].arn }
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
