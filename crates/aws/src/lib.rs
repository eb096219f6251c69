//! Adapter to AWS.
