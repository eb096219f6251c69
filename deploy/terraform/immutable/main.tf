# What must outlive a redeployment: buckets with the data, the key they are encrypted with, secrets, and whom to tell.
# Everything here is protected from `terraform destroy`; the stack `main` can be thrown away and made again at any time.

provider "aws" {
  region = var.region

  default_tags {
    tags = local.tags
  }
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  name    = "${var.pipeline}-${var.environment}"
  account = data.aws_caller_identity.current.account_id

  # The folder of parameters where the stack `main` finds what is made here.
  parameters = "/starlift/${var.environment}/${var.pipeline}"

  tags = merge({
    project     = "starlift"
    pipeline    = var.pipeline
    environment = var.environment
    stack       = "immutable"
  }, var.tags)
}
