# Log groups exist before the functions, or AWS would make them without retention and key.

resource "aws_cloudwatch_log_group" "stage" {
  for_each = local.functions

  name              = "/aws/lambda/${local.name}-${each.key}"
  retention_in_days = var.log_retention_days
  kms_key_id        = local.immutable.key_arn
}

resource "aws_cloudwatch_log_group" "machine" {
  name              = "/aws/vendedlogs/states/${local.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = local.immutable.key_arn
}

# What a person must hear of. The pattern is a file, because the tests apply it to lines that functions wrote. No default
# value: zeros would be samples as well.
resource "aws_cloudwatch_log_metric_filter" "critical" {
  for_each = local.functions

  name           = "${local.name}-${each.key}-critical"
  log_group_name = aws_cloudwatch_log_group.stage[each.key].name
  pattern        = trimspace(file("${path.module}/templates/critical.pattern"))

  metric_transformation {
    namespace = local.metrics
    name      = "Critical"
    value     = "1"
    unit      = "Count"
  }
}

locals {
  metrics = "starlift/${local.name}"
}
