# What has to hold of this stack whatever else changes in it. `make terraform-check` runs it without a registry; with the real
# provider `terraform test` runs it unchanged.

mock_provider "aws" {
  override_during = plan

  override_data {
    target = data.aws_caller_identity.current
    values = { account_id = "000000000000" }
  }
  override_data {
    target = data.aws_partition.current
    values = { partition = "aws" }
  }
  mock_resource "aws_iam_openid_connect_provider" {
    defaults = { arn = "arn:aws:iam::000000000000:oidc-provider/token.actions.githubusercontent.com" }
  }
}

variables {
  environment = "dev"
  alarm_email = "someone@example.com"
}

run "buckets" {
  command = plan

  assert {
    condition     = alltrue([for b in aws_s3_bucket_public_access_block.this : b.block_public_acls && b.block_public_policy && b.ignore_public_acls && b.restrict_public_buckets])
    error_message = "no bucket may become public"
  }
  assert {
    condition     = alltrue([for v in aws_s3_bucket_versioning.this : v.versioning_configuration[0].status == "Enabled"])
    error_message = "what was deleted must be there for a while"
  }
  assert {
    condition = alltrue([for e in aws_s3_bucket_server_side_encryption_configuration.this :
      one(e.rule).bucket_key_enabled && one(one(e.rule).apply_server_side_encryption_by_default).sse_algorithm == "aws:kms"
    ])
    error_message = "encrypted with the key, and with a bucket key, or every object costs a call"
  }
  assert {
    condition = alltrue([for p in aws_s3_bucket_policy.this : anytrue([for s in jsondecode(p.policy).Statement :
      s.Effect == "Deny" && s.Action == "s3:*" && try(s.Condition.Bool["aws:SecureTransport"], "") == "false" && length(s.Resource) == 2
    ])])
    error_message = "encrypted connections only, to bucket and objects"
  }
  assert {
    condition = alltrue([for p in aws_s3_bucket_policy.this : anytrue([for s in jsondecode(p.policy).Statement :
      s.Effect == "Deny" && s.Action == "s3:PutObject" && try(s.Condition.Null["s3:if-none-match"], "") == "true"
      && anytrue([for r in s.Resource : endswith(r, "/_manifests/*")])
    ])])
    error_message = "manifests are created, never replaced"
  }
  assert {
    condition     = alltrue([for l in aws_s3_bucket_lifecycle_configuration.this : alltrue([for r in l.rule : alltrue([for e in r.expiration : e.days == null && e.date == null])])])
    error_message = "no current object may expire: manifests name them for ever"
  }
  assert {
    condition     = alltrue([for o in aws_s3_bucket_ownership_controls.this : o.rule[0].object_ownership == "BucketOwnerEnforced"])
    error_message = "no access lists"
  }
}

run "secrets_without_values" {
  command = plan

  assert {
    condition     = toset([for s in aws_secretsmanager_secret.this : s.name]) == toset(["totesys_db_credentials", "totesys_warehouse_credentials"])
    error_message = "the names that the contract fixes"
  }
  assert {
    condition     = alltrue([for s in aws_secretsmanager_secret.this : s.recovery_window_in_days >= 7])
    error_message = "a secret that was deleted by mistake can come back"
  }
  assert {
    condition     = alltrue([for p in aws_ssm_parameter.this : startswith(p.name, "/starlift/dev/totesys/") && p.type == "String"])
    error_message = "parameters live below the environment's name and hold no secrets"
  }
}

run "people_hear" {
  command = plan

  assert {
    condition     = aws_sns_topic_subscription.email.protocol == "email" && aws_sns_topic.alarms.name == "totesys-dev-alarms"
    error_message = "the topic writes to a person"
  }
  assert {
    condition = anytrue([for s in jsondecode(aws_sns_topic_policy.alarms.policy).Statement :
      s.Effect == "Allow" && try(s.Principal.Service, "") == "cloudwatch.amazonaws.com" && try(s.Condition.StringEquals["aws:SourceAccount"], "") == "000000000000"
    ])
    error_message = "alarms of this account, and of no other, may publish"
  }
  assert {
    condition     = anytrue([for s in jsondecode(aws_kms_key.this.policy).Statement : s.Sid == "Alarms" && contains(flatten([s.Action]), "kms:GenerateDataKey")])
    error_message = "an alarm must be able to use the topic's key"
  }
}

run "no_github_without_repository" {
  command = plan

  assert {
    condition     = length(aws_iam_role.github) == 0 && length(aws_iam_openid_connect_provider.github) == 0 && output.deploy_role_arns == null
    error_message = "nobody is trusted unless a repository is named"
  }
}

run "github_trusts_one_environment" {
  command = plan

  variables {
    github_repository = "someone/starlift"
    state_bucket      = "someones-states"
  }

  assert {
    condition     = jsondecode(aws_iam_role.github["deploy"].assume_role_policy).Statement[0].Condition.StringEquals["token.actions.githubusercontent.com:sub"] == "repo:someone/starlift:environment:production"
    error_message = "only jobs of the environment with reviewers may deploy"
  }
  assert {
    condition     = jsondecode(aws_iam_role.github["plan"].assume_role_policy).Statement[0].Condition.StringEquals["token.actions.githubusercontent.com:sub"] == "repo:someone/starlift:ref:refs/heads/main"
    error_message = "only jobs of main may plan"
  }
  assert {
    condition = alltrue([for s in jsondecode(aws_iam_role_policy.github["plan"].policy).Statement : alltrue([for a in s.Action :
      !can(regex(":(Create|Delete|Put|Update|Publish|Pass|Tag|Untag|Set)", a)) || s.Sid == "Lock"
    ])])
    error_message = "a plan changes nothing but its lock"
  }
  assert {
    condition     = alltrue([for s in jsondecode(aws_iam_role_policy.github["plan"].policy).Statement : s.Sid != "Lock" || alltrue([for r in flatten([s.Resource]) : endswith(r, ".tflock")])])
    error_message = "the lock, and not the state"
  }
  assert {
    condition = alltrue([for s in jsondecode(aws_iam_role_policy.github["deploy"].policy).Statement :
      length(setintersection(s.Action, ["iam:CreateRole", "iam:PutRolePolicy", "iam:PutRolePermissionsBoundary"])) == 0
      || try(s.Condition.ArnEquals["iam:PermissionsBoundary"], "") == "arn:aws:iam::000000000000:policy/starlift/totesys-dev-boundary"
    ])
    error_message = "roles are made within the boundary, or who deploys is an administrator"
  }
  assert {
    condition = alltrue([for p in aws_iam_role_policy.github : alltrue([for s in jsondecode(p.policy).Statement : alltrue([for a in s.Action :
      !can(regex("^iam:(.*Boundary|Attach.*|.*Policy(Version)?)$", a)) || contains(["iam:PutRolePermissionsBoundary", "iam:PutRolePolicy", "iam:DeleteRolePolicy", "iam:GetRolePolicy", "iam:UpdateAssumeRolePolicy"], a)
    ])])])
    error_message = "nobody may take the boundary away, change it, or attach another policy"
  }
  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 1
    error_message = "the account's provider is made where none is named"
  }
}

run "github_names_a_new_repository_with_ids" {
  command = plan

  variables {
    github_repository = "someone@1234/starlift@567890"
    state_bucket      = "someones-states"
  }

  assert {
    condition     = jsondecode(aws_iam_role.github["deploy"].assume_role_policy).Statement[0].Condition.StringEquals["token.actions.githubusercontent.com:sub"] == "repo:someone@1234/starlift@567890:environment:production"
    error_message = "the subject is the one in the token"
  }
}

run "a_repository_with_half_its_ids" {
  command = plan
  variables {
    github_repository = "someone@1234/starlift"
    state_bucket      = "someones-states"
  }
  expect_failures = [var.github_repository]
}

run "a_provider_that_is_there_already" {
  command = plan

  variables {
    github_repository        = "someone/starlift"
    state_bucket             = "someones-states"
    github_oidc_provider_arn = "arn:aws:iam::000000000000:oidc-provider/token.actions.githubusercontent.com"
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 0
    error_message = "an account has one provider of a kind"
  }
  assert {
    condition     = jsondecode(aws_iam_role.github["deploy"].assume_role_policy).Statement[0].Principal.Federated == "arn:aws:iam::000000000000:oidc-provider/token.actions.githubusercontent.com"
    error_message = "the roles trust the one that is there"
  }
}

run "a_provider_of_somebody_else" {
  command = plan
  variables { github_oidc_provider_arn = "arn:aws:iam::000000000000:oidc-provider/example.com" }
  expect_failures = [var.github_oidc_provider_arn]
}

run "a_region_of_china" {
  command = plan
  variables { region = "cn-north-1" }
  expect_failures = [var.region]
}

run "bad_environment" {
  command = plan
  variables { environment = "Prod_1" }
  expect_failures = [var.environment]
}

run "bad_email" {
  command = plan
  variables { alarm_email = "CHANGE_ME" }
  expect_failures = [var.alarm_email]
}

run "one_secret_for_both" {
  command = plan
  variables { warehouse_secret_name = "totesys_db_credentials" }
  expect_failures = [var.warehouse_secret_name]
}

run "repository_without_state" {
  command = plan
  variables { github_repository = "someone/starlift" }
  expect_failures = [var.state_bucket]
}
