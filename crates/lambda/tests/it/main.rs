//! The built functions, started as Lambda starts them: a runtime of our own hands out events; real PostgreSQL, and a server that
//! stands in for S3 and Secrets Manager, are behind.

#![allow(clippy::disallowed_methods, reason = "a test measures time and passes its environment on")]

mod authorities;
mod chain;
mod failures;
mod figures;
mod function;
mod gate;
mod lab;
mod refusals;
mod rotation;
mod runtime;
