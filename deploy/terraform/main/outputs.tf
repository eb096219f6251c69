output "state_machine_arn" {
  description = "The state machine: `aws stepfunctions start-execution --state-machine-arn …` starts a run by hand."
  value       = aws_sfn_state_machine.this.arn
}

output "function_versions" {
  description = "The version of each function that the alias `live` names."
  value       = { for stage, alias in aws_lambda_alias.live : stage => alias.function_version }
}

output "log_groups" {
  description = "Where each function writes its lines."
  value       = { for stage, group in aws_cloudwatch_log_group.stage : stage => group.name }
}

output "alarms" {
  description = "Names of all alarms."
  value = sort(concat(
    [aws_cloudwatch_metric_alarm.critical.alarm_name, aws_cloudwatch_metric_alarm.silence.alarm_name, aws_cloudwatch_metric_alarm.dead_letters.alarm_name],
    [for alarm in aws_cloudwatch_metric_alarm.machine : alarm.alarm_name],
    [for alarm in aws_cloudwatch_metric_alarm.function_errors : alarm.alarm_name],
  ))
}

output "dead_letter_queue" {
  description = "Queue of starts that failed."
  value       = aws_sqs_queue.dead_letters.name
}

output "dashboard" {
  description = "The page in CloudWatch."
  value       = "https://${var.region}.console.aws.amazon.com/cloudwatch/home?region=${var.region}#dashboards/dashboard/${local.name}"
}
