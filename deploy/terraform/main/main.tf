# The service: three functions, the state machine that runs them, the schedule that starts it, and the alarms. It holds no
# data: it can be destroyed and made again, and the next run goes on from what lake, star and warehouse say.

provider "aws" {
  region = var.region

  default_tags {
    tags = local.tags
  }
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

# What the stack `immutable` made. The parameters hold names and ARNs, no secrets.
data "aws_ssm_parameter" "immutable" {
  for_each = toset([
    "ingest_bucket", "transform_bucket", "source_secret_arn", "warehouse_secret_arn", "alarm_topic_arn", "key_arn", "boundary_arn",
  ])

  name = "/starlift/${var.environment}/${var.pipeline}/${each.key}"
}

locals {
  name      = "${var.pipeline}-${var.environment}"
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  here      = "${var.region}:${local.account}"
  immutable = { for key, parameter in data.aws_ssm_parameter.immutable : key => nonsensitive(parameter.value) }
  role_path = "/starlift/${local.name}/"

  stages = toset(["ingest", "transform", "load"])

  # The machine ends before the next one starts; every stage fits into the machine.
  machine_timeout_seconds = var.interval_minutes * 60 - 15

  tags = merge({
    project     = "starlift"
    pipeline    = var.pipeline
    environment = var.environment
    stack       = "main"
  }, var.tags)
}
