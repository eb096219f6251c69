variable "region" {
  description = "AWS region of everything; the same as the stack `immutable` has."
  type        = string
  default     = "eu-west-2"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region)) && !startswith(var.region, "cn-")
    error_message = "A region looks like eu-west-2. Those of China have services under other names, which these stacks do not know."
  }
}

variable "environment" {
  description = "Name of the environment, as in the stack `immutable`."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,11}$", var.environment))
    error_message = "2 to 12 lower-case letters and digits, beginning with a letter."
  }
}

variable "pipeline" {
  description = "Name of the pipeline, as in the stack `immutable`."
  type        = string
  default     = "totesys"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,15}$", var.pipeline)) && !endswith(var.pipeline, "-")
    error_message = "2 to 16 lower-case letters, digits and hyphens."
  }
}

variable "zip_dir" {
  description = "Folder with ingest.zip, transform.zip and load.zip, as `make lambda-zips` leaves them."
  type        = string
  default     = "../../../target/lambda"
}

variable "architecture" {
  description = "Processor that the zips were built for: arm64 or x86_64."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "arm64 or x86_64."
  }
}

variable "interval_minutes" {
  description = "Minutes between two runs."
  type        = number
  default     = 5

  validation {
    condition     = var.interval_minutes >= 2 && var.interval_minutes <= 60 && floor(var.interval_minutes) == var.interval_minutes
    error_message = "2 to 60 whole minutes."
  }
}

variable "schedule_enabled" {
  description = "Whether the schedule starts runs: false stops the pipeline without removing anything."
  type        = bool
  default     = true
}

variable "stage_timeout_seconds" {
  description = "Seconds that each stage may take. Together they fit into the interval; a stage that stops there goes on in the next run."
  type = object({
    ingest    = optional(number, 90)
    transform = optional(number, 100)
    load      = optional(number, 75)
  })
  default = {}

  validation {
    condition     = alltrue([for seconds in values(var.stage_timeout_seconds) : seconds >= 15 && seconds <= 900 && floor(seconds) == seconds])
    error_message = "15 to 900 whole seconds each: 900 is Lambda's limit."
  }

  validation {
    condition     = sum(values(var.stage_timeout_seconds)) <= var.interval_minutes * 60 - 30
    error_message = "Together the stages may take 30 seconds less than the interval; raise interval_minutes, or lower them."
  }
}

variable "memory_mb" {
  description = "Memory of each function in MiB; processor time comes in proportion (1,769 are one processor)."
  type = object({
    ingest    = optional(number, 512)
    transform = optional(number, 2048)
    load      = optional(number, 512)
  })
  default = {}

  validation {
    condition     = alltrue([for megabytes in values(var.memory_mb) : megabytes >= 128 && megabytes <= 10240 && floor(megabytes) == megabytes])
    error_message = "128 to 10240 whole MiB each."
  }
}

variable "spill_mb" {
  description = "Disk of transform in MiB, where joins go that do not fit into memory."
  type        = number
  default     = 1024

  validation {
    condition     = var.spill_mb >= 512 && var.spill_mb <= 10240 && floor(var.spill_mb) == var.spill_mb
    error_message = "512 to 10240 whole MiB."
  }
}

variable "concurrency" {
  description = "How many of each function may run at once; null reserves nothing. Overlapping runs do no harm, and a new account has too few to reserve any."
  type        = number
  default     = null

  validation {
    condition     = var.concurrency == null ? true : var.concurrency >= 1 && var.concurrency <= 10
    error_message = "1 to 10, or null."
  }
}

variable "subnet_ids" {
  description = "Private subnets of the databases; empty where both have public addresses. With subnets, S3 and Secrets Manager need endpoints or NAT."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.subnet_ids : can(regex("^subnet-[0-9a-f]{8,17}$", id))])
    error_message = "Each is a subnet-… id."
  }
}

variable "security_group_ids" {
  description = "Security groups of the functions; needed with subnet_ids."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.security_group_ids : can(regex("^sg-[0-9a-f]{8,17}$", id))])
    error_message = "Each is an sg-… id."
  }

  validation {
    condition     = (length(var.subnet_ids) > 0) == (length(var.security_group_ids) > 0)
    error_message = "subnet_ids and security_group_ids go together."
  }
}

variable "log_retention_days" {
  description = "Days for which logs are kept."
  type        = number
  default     = 90

  validation {
    condition     = contains([7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "CloudWatch knows 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 and 3653 days."
  }
}

variable "silence_minutes" {
  description = "Minutes without a successful run after which a person hears of it; three intervals or more."
  type        = number
  default     = 15

  validation {
    condition     = var.silence_minutes >= 3 * var.interval_minutes && var.silence_minutes <= 1440 && floor(var.silence_minutes) == var.silence_minutes
    error_message = "Whole minutes: three intervals at least, a day at most."
  }
}

variable "tags" {
  description = "More tags for everything."
  type        = map(string)
  default     = {}
}
