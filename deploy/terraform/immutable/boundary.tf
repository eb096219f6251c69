# The most that any role of the stack `main` may ever do, whatever its own policy says. Whoever deploys from GitHub makes roles and
# writes their policies: without this, one deployment could make itself an administrator of the account.

locals {
  boundary_name = "${local.name}-boundary"
  boundary_arn  = "arn:${local.partition}:iam::${local.account}:policy/starlift/${local.boundary_name}"

  bucket_arns = [for stage in sort(keys(local.buckets)) : "arn:${local.partition}:s3:::${local.buckets[stage]}"]

  # What the roles of functions, state machine and schedule have together: `deploy/checks/rights.py` compares. The network is
  # there also where no function is in one.
  boundary_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Sid = "Find", Effect = "Allow", Action = ["s3:ListBucket"], Resource = local.bucket_arns },
      {
        Sid      = "Data"
        Effect   = "Allow"
        Action   = ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"]
        Resource = [for arn in local.bucket_arns : "${arn}/*"]
      },
      {
        # The last six characters of a secret's ARN are AWS's own.
        Sid      = "Credentials"
        Effect   = "Allow"
        Action   = ["secretsmanager:GetSecretValue"]
        Resource = [for of in sort(keys(local.secrets)) : "arn:${local.partition}:secretsmanager:${local.here}:secret:${local.secrets[of].name}-??????"]
      },
      {
        Sid      = "Key"
        Effect   = "Allow"
        Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource = aws_kms_key.this.arn
        Condition = { StringEquals = {
          "kms:ViaService" = ["s3.${var.region}.amazonaws.com", "secretsmanager.${var.region}.amazonaws.com"]
        } }
      },
      {
        Sid      = "Run"
        Effect   = "Allow"
        Action   = ["lambda:InvokeFunction"]
        Resource = "arn:${local.partition}:lambda:${local.here}:function:${local.name}-*"
      },
      {
        Sid      = "Start"
        Effect   = "Allow"
        Action   = ["states:StartExecution"]
        Resource = "arn:${local.partition}:states:${local.here}:stateMachine:${local.name}"
      },
      {
        Sid      = "KeepWhatCouldNotStart"
        Effect   = "Allow"
        Action   = ["sqs:SendMessage"]
        Resource = "arn:${local.partition}:sqs:${local.here}:${local.name}-*"
      },
      {
        Sid      = "Log"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "arn:${local.partition}:logs:${local.here}:log-group:/aws/lambda/${local.name}-*"
      },
      {
        # These know no resources, or the resource is there only afterwards.
        Sid    = "Account"
        Effect = "Allow"
        Action = [
          "ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:DescribeNetworkInterfaces",
          "ec2:DescribeSubnets", "ec2:UnassignPrivateIpAddresses",
          "logs:CreateLogDelivery", "logs:DeleteLogDelivery", "logs:DescribeLogGroups", "logs:DescribeResourcePolicies", "logs:GetLogDelivery",
          "logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:UpdateLogDelivery",
          "xray:GetSamplingRules", "xray:GetSamplingTargets", "xray:PutTelemetryRecords", "xray:PutTraceSegments",
        ]
        Resource = "*"
      },
    ]
  })
}

resource "aws_iam_policy" "boundary" {
  name        = local.boundary_name
  path        = "/starlift/"
  description = "starlift ${local.name}: the most that a role of the stack main may do"
  policy      = local.boundary_policy
}
