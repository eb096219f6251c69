# How the stack `main` finds what is here, without reading this stack's state. Names and ARNs only: no secrets.

resource "aws_ssm_parameter" "this" {
  for_each = {
    ingest_bucket        = aws_s3_bucket.this["ingest"].bucket
    transform_bucket     = aws_s3_bucket.this["transform"].bucket
    source_secret_arn    = aws_secretsmanager_secret.this["source"].arn
    warehouse_secret_arn = aws_secretsmanager_secret.this["warehouse"].arn
    alarm_topic_arn      = aws_sns_topic.alarms.arn
    key_arn              = aws_kms_key.this.arn
    boundary_arn         = aws_iam_policy.boundary.arn
  }

  name        = "${local.parameters}/${each.key}"
  description = "starlift ${local.name}: ${replace(each.key, "_", " ")}"
  type        = "String"
  value       = each.value
}
