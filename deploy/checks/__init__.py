"""Checks of everything under deploy/ that need neither an AWS account nor a registry of providers: see README.md."""
