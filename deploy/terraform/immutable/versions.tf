terraform {
  required_version = ">= 1.11.0, < 2.0.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }

  # Bucket, key, region, encryption and lock come from `-backend-config`: scripts/deploy gives them.
  backend "s3" {}
}
