//! Run: the three stages in order, each doing all that is pending, also what an earlier, broken run left.

use serde::Serialize;
use starlift_core::{Error, ErrorKind};

use crate::context::Context;
use crate::load::LoadRequest;
use crate::report::StageReport;

/// What a run did.
#[derive(Debug, Serialize)]
pub struct RunReport {
    /// The run.
    pub run_id: String,
    /// The stages that came through, in order.
    pub stages: Vec<StageReport>,
    /// What stopped it, or what made ingest wait.
    #[serde(skip)]
    pub error: Option<Error>,
}

/// Runs ingest, transform and load.
///
/// Where the source is away, transform and load still do what is pending, because neither needs it; the error is reported
/// at the end.
pub async fn run(ctx: &Context) -> RunReport {
    let mut report = RunReport { run_id: ctx.run_id.clone(), stages: Vec::new(), error: None };
    match crate::ingest(ctx, None).await {
        Ok(stage) => report.stages.push(stage),
        Err(error) if error.kind() == ErrorKind::Unavailable => report.error = Some(error),
        Err(error) => {
            report.error = Some(error);
            return report;
        }
    }
    for stage in ["transform", "load"] {
        let done = match stage {
            "transform" => crate::transform(ctx, None).await,
            _ => crate::load(ctx, &LoadRequest::default()).await,
        };
        match done {
            Ok(stage) => report.stages.push(stage),
            Err(error) => {
                // What stops the run now is nearer to the reader than what made ingest wait.
                report.error = Some(error);
                break;
            }
        }
    }
    report
}
