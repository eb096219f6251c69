//! The stages as functions of AWS Lambda: event in, the contract's result or a named error out.
//!
//! A function is a process that asks the Lambda runtime for one event after the other. What does not change from one to the next
//! is made ready once, before the first is asked for: settings, models, the clients of the stores, the secret of its database.
//!
//! Guarantees:
//! * *the run is the caller's*: its id comes in the client context, so that an invocation which is tried again returns what the
//!   first one committed, or goes on where that stopped;
//! * *an error has the name of its kind* (`Starlift.Unavailable`, …), so that a state machine can tell what to try again; a
//!   panic is `Starlift.Internal`, and the process lives on;
//! * *in time*: a stage that cannot end before the function's deadline is given up before it, with its sessions closed;
//! * *what fails at the start heals*: settings and secrets that cannot be read are tried again by each invocation, which says
//!   why it failed;
//! * every line of the log is one JSON object, and a failure is one line of level CRITICAL.
//!
//! A process that is killed leaves what a killed stage leaves: see `starlift`.
//!
//! Each stage is named in its own program alone: what `ingest` and `load` do not name is not linked into them, and that is the
//! engine.

mod invocation;
mod prepared;
mod serve;
mod start;

use std::future::Future;
use std::pin::Pin;

use starlift::{Context, StageReport};
use starlift_core::Result;

pub use serde_json::Value;
pub use starlift::config::{Place, Side};
pub use start::main;

/// One of the functions.
#[derive(Clone, Copy)]
pub struct Function {
    /// Its stage.
    pub stage: &'static str,
    /// The stores that it needs.
    pub places: &'static [Place],
    /// The databases that it needs.
    pub databases: &'static [Side],
    /// Its work, for the bytes of one event.
    pub run: fn(Context, Vec<u8>) -> Running,
}

/// A stage at work; it yields what the function returns.
pub type Running = Pin<Box<dyn Future<Output = Result<Value>> + Send>>;

/// The contract's result of a stage: table or model to its first file.
pub fn result(report: &StageReport) -> Value {
    Value::Object(report.result.iter().map(|(name, key)| (name.clone(), key.clone().into())).collect())
}
