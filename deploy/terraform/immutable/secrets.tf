# The secrets are made without a value: `aws secretsmanager put-secret-value` brings it, so that Terraform's state never
# holds a password. docs/aws.md has the command.

locals {
  secrets = {
    source    = { name = var.source_secret_name, of = "the source database" }
    warehouse = { name = var.warehouse_secret_name, of = "the warehouse" }
  }
}

resource "aws_secretsmanager_secret" "this" {
  for_each = local.secrets

  name                    = each.value.name
  description             = "starlift ${local.name}: credentials of ${each.value.of}, as JSON with user, password, host, database, port"
  kms_key_id              = aws_kms_key.this.arn
  recovery_window_in_days = 30

  lifecycle {
    prevent_destroy = true
  }
}
