# ingest, transform, load: always all three, because each works off what is pending and `{}` is a valid event.

locals {
  machine_name = local.name
  machine_arn  = "arn:${local.partition}:states:${local.here}:stateMachine:${local.machine_name}"
}

resource "aws_sfn_state_machine" "this" {
  name     = local.machine_name
  role_arn = aws_iam_role.machine.arn

  definition = templatefile("${path.module}/templates/state_machine.asl.json", {
    partition       = local.partition
    machine_timeout = local.machine_timeout_seconds
    functions       = { for stage, alias in aws_lambda_alias.live : stage => alias.arn }
    # The function ends first and says why; the state machine ends it only if it hangs.
    task_timeouts = { for stage, seconds in var.stage_timeout_seconds : stage => seconds + 5 }
  })

  # Without the data: results name tables, and errors keys of rows.
  logging_configuration {
    level                  = "ERROR"
    include_execution_data = false
    log_destination        = "${aws_cloudwatch_log_group.machine.arn}:*"
  }

  tracing_configuration {
    enabled = true
  }

  depends_on = [aws_iam_role_policy.machine]
}

resource "aws_iam_role" "machine" {
  name                 = "${local.name}-machine"
  path                 = local.role_path
  description          = "starlift ${local.name}: the state machine"
  permissions_boundary = local.immutable.boundary_arn

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "states.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        StringEquals = { "aws:SourceAccount" = local.account }
        ArnLike      = { "aws:SourceArn" = local.machine_arn }
      }
    }]
  })
}

resource "aws_iam_role_policy" "machine" {
  name   = "machine"
  role   = aws_iam_role.machine.name
  policy = local.machine_policy
}

locals {
  machine_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "RunStages"
        Effect   = "Allow"
        Action   = ["lambda:InvokeFunction"]
        Resource = [for stage in sort(local.stages) : "arn:${local.partition}:lambda:${local.here}:function:${local.name}-${stage}:live"]
      },
      {
        # The delivery of logs is an arrangement of the account: these calls know no resource.
        Sid    = "DeliverLogs"
        Effect = "Allow"
        Action = [
          "logs:CreateLogDelivery", "logs:DeleteLogDelivery", "logs:DescribeLogGroups", "logs:DescribeResourcePolicies", "logs:GetLogDelivery",
          "logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:UpdateLogDelivery",
        ]
        Resource = "*"
      },
      {
        Sid      = "Trace"
        Effect   = "Allow"
        Action   = ["xray:GetSamplingRules", "xray:GetSamplingTargets", "xray:PutTelemetryRecords", "xray:PutTraceSegments"]
        Resource = "*"
      },
    ]
  })
}
