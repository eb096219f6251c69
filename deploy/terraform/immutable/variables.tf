variable "region" {
  description = "AWS region of everything."
  type        = string
  default     = "eu-west-2"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region)) && !startswith(var.region, "cn-")
    error_message = "A region looks like eu-west-2. Those of China have services under other names, which these stacks do not know."
  }
}

variable "environment" {
  description = "Name of the environment, such as dev or prod: part of every name, so that several fit into one account."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,11}$", var.environment))
    error_message = "2 to 12 lower-case letters and digits, beginning with a letter."
  }
}

variable "pipeline" {
  description = "Name of the pipeline: the `name` in its starlift.toml."
  type        = string
  default     = "totesys"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,15}$", var.pipeline)) && !endswith(var.pipeline, "-")
    error_message = "2 to 16 lower-case letters, digits and hyphens: the names of buckets are made of it."
  }
}

variable "alarm_email" {
  description = "Address that hears of problems. AWS sends it one message to confirm; until then nothing arrives."
  type        = string
  sensitive   = true

  validation {
    condition     = can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s.]+$", var.alarm_email))
    error_message = "An e-mail address."
  }
}

variable "source_secret_name" {
  description = "Name of the secret with the credentials of the source database. A second environment in one account needs another name."
  type        = string
  default     = "totesys_db_credentials"

  validation {
    condition     = can(regex("^[A-Za-z0-9/_+=.@-]{1,128}$", var.source_secret_name))
    error_message = "Letters, digits and /_+=.@- only, at most 128."
  }
}

variable "warehouse_secret_name" {
  description = "Name of the secret with the credentials of the warehouse. A second environment in one account needs another name."
  type        = string
  default     = "totesys_warehouse_credentials"

  validation {
    condition     = can(regex("^[A-Za-z0-9/_+=.@-]{1,128}$", var.warehouse_secret_name)) && var.warehouse_secret_name != var.source_secret_name
    error_message = "Letters, digits and /_+=.@- only, at most 128, and not the name of the source's secret."
  }
}

variable "noncurrent_days" {
  description = "Days for which S3 keeps what was deleted or replaced: the time to notice a mistake."
  type        = number
  default     = 30

  validation {
    condition     = var.noncurrent_days >= 7 && var.noncurrent_days <= 365 && floor(var.noncurrent_days) == var.noncurrent_days
    error_message = "7 to 365 whole days."
  }
}

variable "github_repository" {
  description = "owner/name of the GitHub repository that may deploy through OIDC, as its tokens name it: owner@id/name@id for one made or renamed since July 2026 (docs/aws.md); empty for none."
  type        = string
  default     = ""

  validation {
    condition     = var.github_repository == "" || can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$|^[A-Za-z0-9-]+@[0-9]+/[A-Za-z0-9._-]+@[0-9]+$", var.github_repository))
    error_message = "owner/name, owner@id/name@id, or empty."
  }
}

variable "github_environment" {
  description = "GitHub environment whose reviewers approve a deployment; the deploying role trusts no other job."
  type        = string
  default     = "production"

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,64}$", var.github_environment))
    error_message = "Letters, digits, _ and - only."
  }
}

variable "github_oidc_provider_arn" {
  description = "ARN of the account's OIDC provider of GitHub where there is one already, of another environment say; empty: it is made here."
  type        = string
  default     = ""

  validation {
    condition     = var.github_oidc_provider_arn == "" || can(regex("^arn:[a-z-]+:iam::[0-9]{12}:oidc-provider/token[.]actions[.]githubusercontent[.]com$", var.github_oidc_provider_arn))
    error_message = "The ARN of the provider token.actions.githubusercontent.com, or empty."
  }
}

variable "state_bucket" {
  description = "Bucket of Terraform's states, which the deploying role reads and writes. Needed with github_repository."
  type        = string
  default     = ""

  validation {
    condition     = var.github_repository == "" || can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.state_bucket))
    error_message = "With github_repository, the name of the bucket that holds the states."
  }
}

variable "tags" {
  description = "More tags for everything."
  type        = map(string)
  default     = {}
}
