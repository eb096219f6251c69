# One page: did runs succeed, how long do stages take, is anything critical.

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = local.name
  dashboard_body = jsonencode({ widgets = local.widgets })
}

locals {
  widgets = [
    {
      type = "metric", x = 0, y = 0, width = 12, height = 6
      properties = {
        title = "Runs", region = var.region, view = "timeSeries", stat = "Sum", period = var.interval_minutes * 60
        metrics = [for metric in ["ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsTimedOut"] :
          ["AWS/States", metric, "StateMachineArn", local.machine_arn]
        ]
      }
    },
    {
      type = "metric", x = 12, y = 0, width = 12, height = 6
      properties = {
        title   = "Critical lines", region = var.region, view = "timeSeries", stat = "Sum", period = 300
        metrics = [[local.metrics, "Critical"]]
      }
    },
    {
      type = "metric", x = 0, y = 6, width = 12, height = 6
      properties = {
        title   = "Longest stage (ms)", region = var.region, view = "timeSeries", stat = "Maximum", period = 300
        metrics = [for stage in sort(local.stages) : ["AWS/Lambda", "Duration", "FunctionName", "${local.name}-${stage}"]]
      }
    },
    {
      type = "metric", x = 12, y = 6, width = 12, height = 6
      properties = {
        title   = "A run from start to end (ms)", region = var.region, view = "timeSeries", stat = "Maximum", period = 300
        metrics = [["AWS/States", "ExecutionTime", "StateMachineArn", local.machine_arn]]
      }
    },
    {
      type = "log", x = 0, y = 12, width = 24, height = 8
      properties = {
        title = "What a person should read", region = var.region, view = "table"
        query = join(" | ", concat(
          [for stage in sort(local.stages) : "SOURCE '/aws/lambda/${local.name}-${stage}'"],
          ["fields @timestamp, stage, level, message, detail, hint", "filter level in ['CRITICAL', 'ERROR']", "sort @timestamp desc", "limit 50"],
        ))
      }
    },
  ]
}
