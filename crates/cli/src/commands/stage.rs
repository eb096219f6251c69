//! `ingest`, `transform` and `load`: the contract's JSON on one line of standard output, and nothing else there.

use serde::Serialize;
use starlift::{Context, LoadRequest, StageReport};
use starlift_core::Result;

use super::{document::FailedStage, event, report_file};
use crate::args::{Load, Stage};
use crate::failure::{Ended, Exit, Failure};
use crate::shell::Shell;
use crate::stdout;

/// Runs ingest and prints its result.
pub(crate) async fn ingest(shell: &Shell, args: &Stage) -> Ended {
    let (context, event) = prepare(shell, args).await?;
    let done = starlift::ingest(&context, event.as_deref()).await;
    let report = kept("ingest", &context, args, done)?;
    print(shell, &report.result)
}

/// Runs transform and prints its result.
pub(crate) async fn transform(shell: &Shell, args: &Stage) -> Ended {
    let (context, event) = prepare(shell, args).await?;
    let done = starlift::transform(&context, event.as_deref()).await;
    let report = kept("transform", &context, args, done)?;
    print(shell, &report.result)
}

/// Runs load and prints its result, which is `null`.
pub(crate) async fn load(shell: &Shell, args: &Load) -> Ended {
    let (context, event) = prepare(shell, &args.stage).await?;
    let done = starlift::load(&context, &LoadRequest { event, adopt: args.adopt, ..LoadRequest::default() }).await;
    kept("load", &context, &args.stage, done)?;
    print(shell, &())
}

async fn prepare(shell: &Shell, args: &Stage) -> Result<(Context, Option<Vec<u8>>)> {
    // Settings first: who waits at a terminal for standard input should not wait for nothing.
    let context = shell.context(args.places.overrides(), args.run_id.clone()).await?.with_deadline(args.deadline);
    let event = event::read(args.event.as_ref()).await?;
    Ok((context, event))
}

/// Writes the report, of a stage that failed too.
fn kept(
    stage: &'static str,
    context: &Context,
    args: &Stage,
    done: Result<StageReport>,
) -> std::result::Result<StageReport, Failure> {
    let failed = |error| Failure::Stage { stage, run_id: context.run_id.clone(), error };
    match done {
        Ok(report) => {
            report_file::write(args.report.as_ref(), &report)?;
            Ok(report)
        }
        Err(error) => {
            // The stage's own error is the one to hear of.
            let _ = report_file::write(args.report.as_ref(), &FailedStage::of(stage, &context.run_id, &error));
            Err(failed(error))
        }
    }
}

fn print(shell: &Shell, result: &impl Serialize) -> Ended {
    shell.bars.clear();
    stdout::json(result)?;
    Ok(Exit::Done)
}
