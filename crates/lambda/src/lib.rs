//! The stages as AWS Lambda functions.
