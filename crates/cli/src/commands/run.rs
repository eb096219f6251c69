//! `run`: the three stages in order, and a card of what they did.

use starlift::{Context, RunReport};

use super::{document::RunDocument, report_file, summary};
use crate::args::Run;
use crate::failure::{Ended, Exit, Failure};
use crate::shell::Shell;
use crate::stdout;

/// Runs the stages once.
pub(crate) async fn run(shell: &Shell, args: &Run) -> Ended {
    let context = shell.context(args.places.overrides(), args.run_id.clone()).await?.with_deadline(args.deadline);
    let report = starlift::run(&context).await;
    let shown = show(shell, args, &context, &report);
    ended(shell, &report, shown)
}

/// How a run ends once its report is shown.
pub(super) fn ended(shell: &Shell, report: &RunReport, shown: Result<(), Failure>) -> Ended {
    match report.worst().map(|worst| worst.error.kind()) {
        None => shown.map(|()| Exit::Done),
        Some(kind) => {
            shell.failed(report);
            // What stopped the run decides how it ends, not a report that could not be written.
            if let Err(failure) = shown {
                shell.report(failure);
            }
            Ok(Exit::Failed(kind))
        }
    }
}

/// Writes the report and prints the card or the document.
pub(super) fn show(shell: &Shell, args: &Run, context: &Context, report: &RunReport) -> Result<(), Failure> {
    shell.bars.clear();
    report_file::write(args.report.as_ref(), &RunDocument::of(report))?;
    print(shell, args.print.json, context, report)
}

/// Prints the card or the document.
pub(super) fn print(shell: &Shell, json: bool, context: &Context, report: &RunReport) -> Result<(), Failure> {
    shell.bars.clear();
    if json {
        stdout::json(&RunDocument::of(report))
    } else {
        stdout::print(&summary::card(shell.out, &context.config.pipeline, report))
    }
}
