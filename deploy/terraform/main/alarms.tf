# Every alarm writes to the topic when it begins and when it is over.

# Something that fails in every run fails once an interval. An alarm that looks at single minutes would be over after each, and
# write two messages a run; these are over after two intervals without a failure.
locals {
  interval_seconds = var.interval_minutes * 60
  many_errors      = max(3, floor(900 / local.interval_seconds) + 2)

  machine_alarms = {
    failed    = { metric = "ExecutionsFailed", about = "A run failed. The execution names the stage and the error; the CRITICAL line of its log says what to do." }
    timed-out = { metric = "ExecutionsTimedOut", about = "A run did not end within its interval. The next one goes on where it stopped; if it happens again: docs/aws.md, 'Runs that time out'." }
    aborted   = { metric = "ExecutionsAborted", about = "Somebody stopped a run." }
    throttled = { metric = "ExecutionThrottled", about = "Step Functions throttles the state machine." }
  }
}

resource "aws_cloudwatch_metric_alarm" "critical" {
  alarm_name          = "${local.name}-critical"
  alarm_description   = "A function wrote a CRITICAL line: what happened, and the next command. Logs Insights: filter level = 'CRITICAL'."
  namespace           = local.metrics
  metric_name         = "Critical"
  statistic           = "Sum"
  period              = local.interval_seconds
  evaluation_periods  = 2
  datapoints_to_alarm = 1
  threshold           = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [local.immutable.alarm_topic_arn]
  ok_actions          = [local.immutable.alarm_topic_arn]
}

resource "aws_cloudwatch_metric_alarm" "machine" {
  for_each = local.machine_alarms

  alarm_name          = "${local.name}-runs-${each.key}"
  alarm_description   = each.value.about
  namespace           = "AWS/States"
  metric_name         = each.value.metric
  dimensions          = { StateMachineArn = aws_sfn_state_machine.this.arn }
  statistic           = "Sum"
  period              = local.interval_seconds
  evaluation_periods  = 2
  datapoints_to_alarm = 1
  threshold           = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [local.immutable.alarm_topic_arn]
  ok_actions          = [local.immutable.alarm_topic_arn]
}

# Catches what no other alarm can: a schedule that does not fire. Step Functions publishes nothing where nothing succeeds, and an
# alarm looks further back for samples before it calls one missing: the last success would count for up to an hour. So missing
# samples are made zeros, and what is missing altogether is breaching. It looks at single minutes, all of which have to be empty: so the
# time is what was asked for, whatever the interval, and one success is none too few.
resource "aws_cloudwatch_metric_alarm" "silence" {
  alarm_name          = "${local.name}-no-success"
  alarm_description   = "No run succeeded for ${var.silence_minutes} minutes: what changed in the source is not in the warehouse."
  actions_enabled     = var.schedule_enabled
  evaluation_periods  = var.silence_minutes
  datapoints_to_alarm = var.silence_minutes
  threshold           = 1
  comparison_operator = "LessThanThreshold"
  treat_missing_data  = "breaching"
  alarm_actions       = [local.immutable.alarm_topic_arn]
  ok_actions          = [local.immutable.alarm_topic_arn]

  metric_query {
    id          = "succeeded"
    label       = "Runs that succeeded"
    expression  = "FILL(m1, 0)"
    return_data = true
  }

  metric_query {
    id = "m1"

    metric {
      namespace   = "AWS/States"
      metric_name = "ExecutionsSucceeded"
      dimensions  = { StateMachineArn = aws_sfn_state_machine.this.arn }
      stat        = "Sum"
      period      = 60
    }
  }
}

# One error that the next try heals is no reason to write to anybody; more of them are. What fails once in every run is told by the
# alarms above: its errors in a quarter of an hour, of which a window that slides sees one more or less, stay below the threshold.
resource "aws_cloudwatch_metric_alarm" "function_errors" {
  for_each = local.functions

  alarm_name          = "${local.name}-${each.key}-errors"
  alarm_description   = "The function ${each.key} failed ${local.many_errors} times in a quarter of an hour, or more, even where later tries succeeded."
  namespace           = "AWS/Lambda"
  metric_name         = "Errors"
  dimensions          = { FunctionName = aws_lambda_function.stage[each.key].function_name }
  statistic           = "Sum"
  period              = 900
  evaluation_periods  = 1
  threshold           = local.many_errors
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [local.immutable.alarm_topic_arn]
  ok_actions          = [local.immutable.alarm_topic_arn]
}

resource "aws_cloudwatch_metric_alarm" "dead_letters" {
  alarm_name          = "${local.name}-dead-letters"
  alarm_description   = "The schedule could not start a run. The message in the queue ${local.queue_name} says why; raised until the queue is empty: docs/aws.md, 'See'."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.dead_letters.name }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 1
  threshold           = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [local.immutable.alarm_topic_arn]
  ok_actions          = [local.immutable.alarm_topic_arn]
}
