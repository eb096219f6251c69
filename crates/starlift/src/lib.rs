//! The stages of starlift, composed from the adapters: ingest, transform, load, and what a person asks about them.

pub mod config;
pub mod context;
pub mod count;
pub mod doctor;
mod encoders;
#[cfg(debug_assertions)]
pub mod faults;
pub mod grants;
pub mod history;
mod ingest;
mod load;
pub mod panic;
pub mod plan;
#[cfg(debug_assertions)]
mod planted;
pub mod quarantine;
pub mod report;
mod run;
mod scans;
pub mod secrets;
pub mod size;
pub mod status;
pub mod telemetry;
mod transform;
pub mod upkeep;
pub mod vacuum;
pub mod verdicts;
pub mod verify;
pub mod warehouse;

pub use context::Context;
pub use ingest::ingest;
pub use load::{LoadRequest, load};
pub use report::{Outcome, RelationReport, StageReport};
pub use run::{RunReport, StageFailure, run};
pub use starlift_lake::Head;
pub use transform::{plan as transform_plan, transform};

/// What a thread of a shell's runtime needs of a stack, in bytes: a model's plan is gone down by recursion, as deep as
/// `starlift_core::model` lets it be. Reserved, and taken only as far as it is used.
pub const STACK: usize = 8 << 20;
