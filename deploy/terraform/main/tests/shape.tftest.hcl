# What has to hold of this stack whatever else changes in it. `make terraform-check` runs it without a registry; with the real
# provider `terraform test` runs it unchanged.

mock_provider "aws" {
  override_during = plan

  override_data {
    target = data.aws_caller_identity.current
    values = { account_id = "000000000000" }
  }
  override_data {
    target = data.aws_partition.current
    values = { partition = "aws" }
  }
  override_data {
    target = data.aws_ssm_parameter.immutable["ingest_bucket"]
    values = { value = "totesys-dev-ingest-000000000000" }
  }
  override_data {
    target = data.aws_ssm_parameter.immutable["transform_bucket"]
    values = { value = "totesys-dev-transform-000000000000" }
  }
  override_data {
    target = data.aws_ssm_parameter.immutable["source_secret_arn"]
    values = { value = "arn:aws:secretsmanager:eu-west-2:000000000000:secret:totesys_db_credentials-AbCdEf" }
  }
  override_data {
    target = data.aws_ssm_parameter.immutable["warehouse_secret_arn"]
    values = { value = "arn:aws:secretsmanager:eu-west-2:000000000000:secret:totesys_warehouse_credentials-GhIjKl" }
  }
  override_data {
    target = data.aws_ssm_parameter.immutable["alarm_topic_arn"]
    values = { value = "arn:aws:sns:eu-west-2:000000000000:totesys-dev-alarms" }
  }
  override_data {
    target = data.aws_ssm_parameter.immutable["key_arn"]
    values = { value = "arn:aws:kms:eu-west-2:000000000000:key/11111111-2222-3333-4444-555555555555" }
  }
  override_data {
    target = data.aws_ssm_parameter.immutable["boundary_arn"]
    values = { value = "arn:aws:iam::000000000000:policy/starlift/totesys-dev-boundary" }
  }
  override_resource {
    target = aws_sfn_state_machine.this
    values = { arn = "arn:aws:states:eu-west-2:000000000000:stateMachine:totesys-dev" }
  }
  override_resource {
    target = aws_lambda_alias.live["ingest"]
    values = { arn = "arn:aws:lambda:eu-west-2:000000000000:function:totesys-dev-ingest:live" }
  }
  override_resource {
    target = aws_lambda_alias.live["transform"]
    values = { arn = "arn:aws:lambda:eu-west-2:000000000000:function:totesys-dev-transform:live" }
  }
  override_resource {
    target = aws_lambda_alias.live["load"]
    values = { arn = "arn:aws:lambda:eu-west-2:000000000000:function:totesys-dev-load:live" }
  }
}

variables {
  environment = "dev"
  zip_dir     = "tests/zips"
}

run "functions" {
  command = plan

  assert {
    condition     = alltrue([for f in aws_lambda_function.stage : f.runtime == "provided.al2023" && f.architectures == tolist(["arm64"]) && f.publish])
    error_message = "arm64 on provided.al2023, published"
  }
  assert {
    condition     = alltrue([for a in aws_lambda_alias.live : a.name == "live"])
    error_message = "the alias that the state machine calls"
  }
  assert {
    condition     = alltrue([for f in aws_lambda_function.stage : f.logging_config[0].log_format == "JSON" && f.logging_config[0].application_log_level == "INFO"])
    error_message = "above INFO, Lambda would drop CRITICAL"
  }
  assert {
    condition     = aws_lambda_function.stage["ingest"].environment[0].variables["STARLIFT_SOURCE_CREDENTIALS"] == "aws-secretsmanager:totesys_db_credentials"
    error_message = "the secret's name, out of its ARN"
  }
  assert {
    condition     = !contains(keys(aws_lambda_function.stage["ingest"].environment[0].variables), "STARLIFT_WAREHOUSE_CREDENTIALS") && !contains(keys(aws_lambda_function.stage["load"].environment[0].variables), "STARLIFT_SOURCE_CREDENTIALS")
    error_message = "no function knows a secret that it does not need"
  }
}

run "roles" {
  command = plan

  assert {
    condition = alltrue([for r in concat(values(aws_iam_role.stage), [aws_iam_role.machine, aws_iam_role.schedule]) :
      r.permissions_boundary == "arn:aws:iam::000000000000:policy/starlift/totesys-dev-boundary"
    ])
    error_message = "no role without the boundary: who deploys may make no other"
  }
}

run "machine" {
  command = plan

  assert {
    condition     = jsondecode(aws_sfn_state_machine.this.definition).TimeoutSeconds < var.interval_minutes * 60
    error_message = "a run ends before the next one starts"
  }
  assert {
    condition = alltrue([for stage in ["Ingest", "Transform", "Load"] :
      endswith(jsondecode(aws_sfn_state_machine.this.definition).States[stage].Arguments.FunctionName, ":totesys-dev-${lower(stage)}:live")
    ])
    error_message = "each task calls its own function, by the alias"
  }
  assert {
    condition     = aws_sfn_state_machine.this.logging_configuration[0].include_execution_data == false && aws_sfn_state_machine.this.logging_configuration[0].level == "ERROR"
    error_message = "errors without data"
  }
  assert {
    condition     = jsondecode(aws_iam_role.machine.assume_role_policy).Statement[0].Condition.ArnLike["aws:SourceArn"] == "arn:aws:states:eu-west-2:000000000000:stateMachine:totesys-dev"
    error_message = "trusted for this machine alone"
  }
}

run "schedule" {
  command = plan

  assert {
    condition     = aws_scheduler_schedule.this.schedule_expression == "rate(5 minutes)" && aws_scheduler_schedule.this.flexible_time_window[0].mode == "OFF"
    error_message = "every five minutes, on time"
  }
  assert {
    condition     = aws_scheduler_schedule.this.target[0].retry_policy[0].maximum_event_age_in_seconds < var.interval_minutes * 60
    error_message = "a start that is late is given up before the next one"
  }
  assert {
    condition     = length(aws_scheduler_schedule.this.target[0].dead_letter_config) == 1
    error_message = "a start that fails is kept"
  }
}

run "alarms" {
  command = plan

  assert {
    condition     = alltrue([for f in aws_cloudwatch_log_metric_filter.critical : f.pattern == "{ ($.level = \"CRITICAL\") || ($.severity = \"CRITICAL\") }" && f.metric_transformation[0].default_value == null])
    error_message = "the pattern of JSON lines, and no zeros as samples"
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.critical.statistic == "Sum" && aws_cloudwatch_metric_alarm.critical.threshold == 1
    error_message = "one critical line is enough"
  }
  assert {
    condition = alltrue([for a in concat([aws_cloudwatch_metric_alarm.critical], values(aws_cloudwatch_metric_alarm.machine)) :
      a.period == 300 && a.evaluation_periods == 2 && a.datapoints_to_alarm == 1
    ])
    error_message = "what fails once an interval is one alarm, and not two messages each time"
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.critical.namespace == aws_cloudwatch_log_metric_filter.critical["load"].metric_transformation[0].namespace && aws_cloudwatch_metric_alarm.critical.metric_name == aws_cloudwatch_log_metric_filter.critical["load"].metric_transformation[0].name
    error_message = "the alarm watches what the filter counts"
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.silence.treat_missing_data == "breaching"
    error_message = "no data is no success"
  }
  assert {
    condition = length(aws_cloudwatch_metric_alarm.silence.metric_query) == 2 && anytrue([for q in aws_cloudwatch_metric_alarm.silence.metric_query :
      q.id == "succeeded" && q.expression == "FILL(m1, 0)" && coalesce(q.return_data, false)
    ])
    error_message = "missing samples are zeros, or the last success counts for up to an hour"
  }
  assert {
    condition = anytrue([for q in aws_cloudwatch_metric_alarm.silence.metric_query :
      q.id == "m1" && try(one(q.metric).metric_name, "") == "ExecutionsSucceeded" && try(one(q.metric).stat, "") == "Sum" && try(one(q.metric).period, 0) == 60
    ])
    error_message = "successes of this machine, minute by minute"
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.silence.evaluation_periods == 15 && aws_cloudwatch_metric_alarm.silence.datapoints_to_alarm == 15 && aws_cloudwatch_metric_alarm.silence.threshold == 1
    error_message = "a quarter of an hour in which no minute had a success"
  }
  assert {
    condition = alltrue([for a in concat(
      [aws_cloudwatch_metric_alarm.critical, aws_cloudwatch_metric_alarm.silence, aws_cloudwatch_metric_alarm.dead_letters],
      values(aws_cloudwatch_metric_alarm.machine), values(aws_cloudwatch_metric_alarm.function_errors),
    ) : a.alarm_actions == toset(["arn:aws:sns:eu-west-2:000000000000:totesys-dev-alarms"]) && startswith(a.alarm_name, "totesys-dev-")])
    error_message = "every alarm reaches the topic, whose policy knows alarms by the beginning of their names"
  }
  assert {
    condition     = alltrue([for a in values(aws_cloudwatch_metric_alarm.function_errors) : a.threshold == 5 && a.period == 900])
    error_message = "one error in every run, three or four in any quarter of an hour, is told by other alarms and does not come and go here"
  }
  assert {
    condition     = toset(keys(aws_cloudwatch_metric_alarm.machine)) == toset(["failed", "timed-out", "aborted", "throttled"])
    error_message = "all ends of a run but success"
  }
}

run "stopped" {
  command = plan
  variables { schedule_enabled = false }

  assert {
    condition     = aws_scheduler_schedule.this.state == "DISABLED" && aws_cloudwatch_metric_alarm.silence.actions_enabled == false
    error_message = "a pipeline that was stopped on purpose is silent"
  }
}

run "silence_that_is_no_multiple_of_the_interval" {
  command = plan
  variables {
    interval_minutes = 10
    silence_minutes  = 35
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.silence.evaluation_periods == 35 && aws_cloudwatch_metric_alarm.silence.datapoints_to_alarm == 35
    error_message = "as many minutes as were asked for"
  }
}

run "in_a_vpc" {
  command = plan
  variables {
    subnet_ids         = ["subnet-0123456789abcdef0"]
    security_group_ids = ["sg-0123456789abcdef0"]
  }

  assert {
    condition     = alltrue([for f in aws_lambda_function.stage : length(f.vpc_config) == 1]) && alltrue([for p in aws_iam_role_policy.stage : strcontains(p.policy, "ec2:CreateNetworkInterface")])
    error_message = "functions in the subnets, with the right to be there"
  }
}

run "stages_longer_than_the_interval" {
  command = plan
  variables { stage_timeout_seconds = { ingest = 200 } }
  expect_failures = [var.stage_timeout_seconds]
}

run "bad_retention" {
  command = plan
  variables { log_retention_days = 31 }
  expect_failures = [var.log_retention_days]
}

run "subnets_without_groups" {
  command = plan
  variables { subnet_ids = ["subnet-0123456789abcdef0"] }
  expect_failures = [var.security_group_ids]
}

run "an_hour_is_the_longest_interval" {
  command = plan
  variables {
    interval_minutes = 61
    silence_minutes  = 200
  }
  expect_failures = [var.interval_minutes]
}

run "silence_of_less_than_three_intervals" {
  command = plan
  variables { silence_minutes = 10 }
  expect_failures = [var.silence_minutes]
}

run "a_region_of_china" {
  command = plan
  variables { region = "cn-north-1" }
  expect_failures = [var.region]
}

run "unknown_processor" {
  command = plan
  variables { architecture = "arm" }
  expect_failures = [var.architecture]
}
