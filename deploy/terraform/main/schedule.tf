# EventBridge Scheduler starts the state machine. A start that fails is tried again for less than the interval, then kept in
# the queue, which an alarm watches; the next start does its work.

locals {
  schedule_group_arn = "arn:${local.partition}:scheduler:${local.here}:schedule-group/${local.name}"
  queue_name         = "${local.name}-dead-letters"
  queue_arn          = "arn:${local.partition}:sqs:${local.here}:${local.queue_name}"
}

resource "aws_scheduler_schedule_group" "this" {
  name = local.name
}

resource "aws_scheduler_schedule" "this" {
  name        = "${local.name}-run"
  group_name  = aws_scheduler_schedule_group.this.name
  description = "Starts a run of ${local.name}"
  state       = var.schedule_enabled ? "ENABLED" : "DISABLED"

  schedule_expression = "rate(${var.interval_minutes} minutes)"

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_sfn_state_machine.this.arn
    role_arn = aws_iam_role.schedule.arn
    # No list: every table.
    input = jsonencode({ tables_to_query = [] })

    retry_policy {
      maximum_event_age_in_seconds = max(60, var.interval_minutes * 60 - 60)
      maximum_retry_attempts       = 3
    }

    dead_letter_config {
      arn = aws_sqs_queue.dead_letters.arn
    }
  }

  depends_on = [aws_iam_role_policy.schedule]
}

resource "aws_sqs_queue" "dead_letters" {
  name                      = local.queue_name
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
}

resource "aws_sqs_queue_policy" "dead_letters" {
  queue_url = aws_sqs_queue.dead_letters.id
  policy    = local.queue_policy
}

resource "aws_iam_role" "schedule" {
  name                 = "${local.name}-schedule"
  path                 = local.role_path
  description          = "starlift ${local.name}: the schedule"
  permissions_boundary = local.immutable.boundary_arn

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "scheduler.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = {
        "aws:SourceAccount" = local.account
        "aws:SourceArn"     = local.schedule_group_arn
      } }
    }]
  })
}

resource "aws_iam_role_policy" "schedule" {
  name   = "schedule"
  role   = aws_iam_role.schedule.name
  policy = local.schedule_policy
}

locals {
  schedule_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Sid = "Start", Effect = "Allow", Action = ["states:StartExecution"], Resource = local.machine_arn },
      { Sid = "KeepWhatCouldNotStart", Effect = "Allow", Action = ["sqs:SendMessage"], Resource = local.queue_arn },
    ]
  })

  queue_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "EncryptedConnectionsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "sqs:*"
      Resource  = local.queue_arn
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}
