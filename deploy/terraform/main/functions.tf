# Three functions from prebuilt zips. The state machine calls the alias `live`, never an unpublished change; the version
# before stays, so that going back is one command.

locals {
  lake = "s3://${local.immutable.ingest_bucket}"
  star = "s3://${local.immutable.transform_bucket}"

  # The last part of a secret's ARN is its name, a hyphen and six characters of AWS's own.
  secret_names = { for of in ["source", "warehouse"] :
    of => replace(element(split(":secret:", local.immutable["${of}_secret_arn"]), 1), "/-[A-Za-z0-9]{6}$/", "")
  }

  functions = {
    ingest = {
      description = "Reads what changed in the source and writes it to the lake."
      environment = {
        STARLIFT_SOURCE_CREDENTIALS = "aws-secretsmanager:${local.secret_names.source}"
        STARLIFT_LAKE_INGEST        = local.lake
      }
      spill_mb = 512
    }
    transform = {
      description = "Evaluates the models over the lake and writes what differs to the star."
      environment = {
        STARLIFT_LAKE_INGEST    = local.lake
        STARLIFT_LAKE_TRANSFORM = local.star
        # The other half is for the program itself and for what it holds of files and keys.
        STARLIFT_TRANSFORM_MEMORY_MB = tostring(floor(var.memory_mb.transform / 2))
      }
      spill_mb = var.spill_mb
    }
    load = {
      description = "Brings what is new in the star into the warehouse, one transaction a manifest."
      environment = {
        STARLIFT_WAREHOUSE_CREDENTIALS = "aws-secretsmanager:${local.secret_names.warehouse}"
        STARLIFT_LAKE_TRANSFORM        = local.star
      }
      spill_mb = 512
    }
  }
}

resource "aws_lambda_function" "stage" {
  for_each = local.functions

  function_name    = "${local.name}-${each.key}"
  description      = each.value.description
  role             = aws_iam_role.stage[each.key].arn
  runtime          = "provided.al2023"
  architectures    = [var.architecture]
  handler          = "bootstrap"
  filename         = "${var.zip_dir}/${each.key}.zip"
  source_code_hash = filebase64sha256("${var.zip_dir}/${each.key}.zip")
  publish          = true

  timeout                        = var.stage_timeout_seconds[each.key]
  memory_size                    = var.memory_mb[each.key]
  reserved_concurrent_executions = var.concurrency

  environment {
    variables = each.value.environment
  }

  ephemeral_storage {
    size = each.value.spill_mb
  }

  # Never above INFO: Lambda takes a level that it does not know, such as CRITICAL, for INFO, and would drop it.
  logging_config {
    log_format            = "JSON"
    application_log_level = "INFO"
    system_log_level      = "INFO"
    log_group             = aws_cloudwatch_log_group.stage[each.key].name
  }

  tracing_config {
    mode = "Active"
  }

  dynamic "vpc_config" {
    for_each = length(var.subnet_ids) > 0 ? [1] : []

    content {
      subnet_ids         = var.subnet_ids
      security_group_ids = var.security_group_ids
    }
  }

  # Without its rights the first run of a new function would fail.
  depends_on = [aws_iam_role_policy.stage]
}

resource "aws_lambda_alias" "live" {
  for_each = local.functions

  name             = "live"
  description      = "What the state machine runs."
  function_name    = aws_lambda_function.stage[each.key].function_name
  function_version = aws_lambda_function.stage[each.key].version
}
