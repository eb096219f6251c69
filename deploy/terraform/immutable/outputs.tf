output "buckets" {
  description = "Names of the buckets: lake (`ingest`) and star (`transform`)."
  value       = { for stage, bucket in aws_s3_bucket.this : stage => bucket.bucket }
}

output "secret_names" {
  description = "Names of the secrets that wait for their values."
  value       = { for of, secret in aws_secretsmanager_secret.this : of => secret.name }
}

output "alarm_topic_arn" {
  description = "Topic that tells people."
  value       = aws_sns_topic.alarms.arn
}

output "key_arn" {
  description = "Key that encrypts lake, secrets, topic and logs."
  value       = aws_kms_key.this.arn
}

output "parameters" {
  description = "Folder of the parameters that the stack `main` reads."
  value       = local.parameters
}

output "deploy_role_arns" {
  description = "Roles for GitHub Actions: repository variables AWS_PLAN_ROLE_ARN and AWS_DEPLOY_ROLE_ARN; null without github_repository."
  value       = var.github_repository == "" ? null : { for job, role in aws_iam_role.github : job => role.arn }
}
