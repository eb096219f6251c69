# One key for buckets, secrets, topic and logs. With the buckets' own keys it costs its monthly fee and next to nothing more.

resource "aws_kms_key" "this" {
  description             = "starlift ${local.name}: lake, secrets, alarms and logs"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy                  = local.key_policy

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "this" {
  name          = "alias/starlift-${local.name}"
  target_key_id = aws_kms_key.this.key_id
}

locals {
  key_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        # Roles of this account get what their own policies say; without this nobody could change the key.
        Sid       = "Account"
        Effect    = "Allow"
        Principal = { AWS = "arn:${data.aws_partition.current.partition}:iam::${local.account}:root" }
        Action    = "kms:*"
        Resource  = "*"
      },
      {
        # An alarm cannot publish to an encrypted topic otherwise, and says so nowhere.
        Sid       = "Alarms"
        Effect    = "Allow"
        Principal = { Service = "cloudwatch.amazonaws.com" }
        Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource  = "*"
        Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
      },
      {
        Sid       = "Logs"
        Effect    = "Allow"
        Principal = { Service = "logs.${var.region}.amazonaws.com" }
        Action    = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey", "kms:DescribeKey"]
        Resource  = "*"
        Condition = { ArnLike = {
          "kms:EncryptionContext:aws:logs:arn" = "arn:${data.aws_partition.current.partition}:logs:${var.region}:${local.account}:log-group:*"
        } }
      },
    ]
  })
}
