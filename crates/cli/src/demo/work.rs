//! What a stage carried in one run, without anything that differs from one demo to the next.

use serde::Serialize;
use starlift::StageReport;

use crate::style::Style;
use crate::table::{Align, Table};
use starlift::count;

/// What one stage did in one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct StageWork {
    /// `ingest`, `transform` or `load`.
    pub(super) stage: &'static str,
    /// Tables or models that changed.
    pub(super) changed: u64,
    /// Rows that came in.
    pub(super) read: u64,
    /// Rows that were written.
    pub(super) written: u64,
    /// Tombstones or retractions.
    pub(super) deleted: u64,
}

impl StageWork {
    /// The sums of a stage's report.
    pub(super) fn of(report: &StageReport) -> StageWork {
        let mut work = StageWork { stage: report.stage, changed: 0, read: 0, written: 0, deleted: 0 };
        for relation in &report.relations {
            work.changed += u64::from(relation.rows_written + relation.rows_deleted > 0);
            work.read += relation.rows_read;
            work.written += relation.rows_written;
            work.deleted += relation.rows_deleted;
        }
        work
    }

    /// `75/70/3`
    pub(super) fn short(&self) -> String {
        [self.read, self.written, self.deleted].map(count::of).join("/")
    }
}

/// The stages of one run as a table.
pub(super) fn table(style: Style, stages: &[StageWork]) -> String {
    let mut table = Table::new([
        ("stage", Align::Left),
        ("changed", Align::Left),
        ("rows read", Align::Right),
        ("written", Align::Right),
        ("deleted", Align::Right),
    ]);
    for work in stages {
        let noun = if work.stage == "ingest" { "table" } else { "model" };
        table.row([
            work.stage.to_string(),
            count::with(work.changed, noun),
            count::of(work.read),
            count::of(work.written),
            count::of(work.deleted),
        ]);
    }
    table.render(style, "  ").trim_end().to_string()
}
