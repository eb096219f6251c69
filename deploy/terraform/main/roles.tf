# One role a function, each with the calls that its stage makes on the things that it makes them on. No role may delete
# an object: what dead runs left is removed by `starlift lake vacuum`, by a person.

locals {
  buckets = {
    ingest    = "arn:${local.partition}:s3:::${local.immutable.ingest_bucket}"
    transform = "arn:${local.partition}:s3:::${local.immutable.transform_bucket}"
  }

  # The whole bucket is the pipeline's, and a stage lists it from its root when it meets it for the first time: a condition on the
  # prefix would allow everything that is there.
  reads = { for bucket, arn in local.buckets : bucket => [
    { Sid = "Find${title(bucket)}", Effect = "Allow", Action = ["s3:ListBucket"], Resource = arn },
    { Sid = "Read${title(bucket)}", Effect = "Allow", Action = ["s3:GetObject"], Resource = "${arn}/*" },
  ] }
  writes = { for bucket, arn in local.buckets : bucket => [
    { Sid = "Write${title(bucket)}", Effect = "Allow", Action = ["s3:AbortMultipartUpload", "s3:PutObject"], Resource = "${arn}/*" },
  ] }
  secrets = { for of in ["source", "warehouse"] : of => [
    { Sid = "Credentials", Effect = "Allow", Action = ["secretsmanager:GetSecretValue"], Resource = local.immutable["${of}_secret_arn"] },
  ] }

  # Through S3 and Secrets Manager only: the key as such is of no use to a function.
  keys = { for may, actions in { read = ["kms:Decrypt"], write = ["kms:Decrypt", "kms:GenerateDataKey"] } : may => [
    {
      Sid      = "Key"
      Effect   = "Allow"
      Action   = actions
      Resource = local.immutable.key_arn
      Condition = { StringEquals = {
        "kms:ViaService" = ["s3.${var.region}.amazonaws.com", "secretsmanager.${var.region}.amazonaws.com"]
      } }
    },
  ] }

  rights = {
    ingest    = concat(local.reads.ingest, local.writes.ingest, local.secrets.source, local.keys.write)
    transform = concat(local.reads.ingest, local.reads.transform, local.writes.transform, local.keys.write)
    load      = concat(local.reads.transform, local.secrets.warehouse, local.keys.read)
  }

  # The network interfaces of a function in a VPC belong to nobody before they are made.
  vpc_rights = length(var.subnet_ids) == 0 ? [] : [
    {
      Sid    = "Network"
      Effect = "Allow"
      Action = [
        "ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets", "ec2:UnassignPrivateIpAddresses",
      ]
      Resource = "*"
    },
  ]

  stage_policies = { for stage in local.stages : stage => jsonencode({
    Version = "2012-10-17"
    Statement = concat(local.rights[stage], local.vpc_rights, [
      {
        Sid      = "Log"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "arn:${local.partition}:logs:${local.here}:log-group:/aws/lambda/${local.name}-${stage}:*"
      },
      { Sid = "Trace", Effect = "Allow", Action = ["xray:PutTelemetryRecords", "xray:PutTraceSegments"], Resource = "*" },
    ])
  }) }
}

resource "aws_iam_role" "stage" {
  for_each = local.functions

  name                 = "${local.name}-${each.key}"
  path                 = local.role_path
  description          = "starlift ${local.name}: the function ${each.key}"
  permissions_boundary = local.immutable.boundary_arn

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "stage" {
  for_each = local.functions

  name   = "stage"
  role   = aws_iam_role.stage[each.key].name
  policy = local.stage_policies[each.key]
}
