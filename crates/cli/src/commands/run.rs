//! `run`: the three stages in order, and a card of what they did.

use starlift::{Context, RunReport};

use super::{document::RunDocument, report_file, summary};
use crate::args::Run;
use crate::failure::{Ended, Exit, Failure};
use crate::shell::Shell;
use crate::stdout;

/// The stages in the order of a run.
const STAGES: [&str; 3] = ["ingest", "transform", "load"];

/// Runs the stages once.
pub(crate) async fn run(shell: &Shell, args: &Run) -> Ended {
    let context = shell.context(args.places.overrides(), args.run_id.clone())?;
    let report = starlift::run(&context).await;
    show(shell, args, &context, &report)?;
    let stage = failed_stage(&report);
    match report.error {
        None => Ok(Exit::Done),
        Some(error) => Err(Failure::Stage { stage, run_id: report.run_id, error }),
    }
}

/// Writes the report and prints the card or the document.
pub(super) fn show(shell: &Shell, args: &Run, context: &Context, report: &RunReport) -> Result<(), Failure> {
    shell.bars.clear();
    report_file::write(args.report.as_ref(), &RunDocument::of(report))?;
    if args.print.json {
        stdout::json(&RunDocument::of(report))
    } else {
        stdout::print(&summary::card(shell.out, &context.config.pipeline, report))
    }
}

/// The stage that stopped a run: the first that did not come through.
pub(super) fn failed_stage(report: &RunReport) -> &'static str {
    let done = |stage: &&'static str| report.stages.iter().any(|s| s.stage == *stage);
    STAGES.into_iter().find(|stage| !done(stage)).unwrap_or("load")
}
