//! One line per day: what happened in the source, and what the run after it carried.

use serde::Serialize;
use starlift_sandbox::totesys::{Change, DayReport, Effect};

use super::work::StageWork;
use crate::style::Style;
use starlift::count;

/// A day and the run after it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Day {
    date: String,
    inserted: u64,
    updated: u64,
    deleted: u64,
    rolled_back: u64,
    special: Vec<&'static str>,
    run: Vec<StageWork>,
}

/// The heading above the days.
pub(super) fn heading(style: Style, days: u32) -> String {
    let columns = format!(
        "  {:<10}  {:^27}  {:<40}\n  {:<10}  {:>5} {:>7} {:>5} {:>7}  {:<12}  {:<13}  {:<12}",
        "",
        "in ToteSys",
        "the run: rows read/written/deleted",
        "day",
        "new",
        "changed",
        "gone",
        "undone",
        "ingest",
        "transform",
        "load"
    );
    let columns: Vec<String> = columns.lines().map(|line| style.dim(line.trim_end())).collect();
    format!(
        "Then {}, with a run after each. Every day one transaction opens before all others,\n\
         stays open over the run and commits after it. Its rows are stamped earlier than rows that\n\
         the run has carried: a copy that goes by time stamps loses them.\n\n{}",
        count::with(u64::from(days), "working day"),
        columns.join("\n")
    )
}

impl Day {
    /// What happened on a day, and what the run after it did.
    pub(super) fn of(lived: &DayReport, run: Vec<StageWork>) -> Day {
        Day {
            date: lived.date.clone(),
            inserted: lived.rows(Effect::Insert),
            updated: lived.rows(Effect::Update),
            deleted: lived.rows(Effect::Delete),
            rolled_back: lived.rolled_back,
            // What happens every day is in the counts.
            special: lived.changes.keys().filter(|c| **c >= Change::AddressAdded).map(|c| c.label()).collect(),
            run,
        }
    }

    /// A line has room for two.
    fn special(&self) -> String {
        let shown: Vec<&str> = self.special.iter().take(2).copied().collect();
        let more = if self.special.len() > 2 { ", …" } else { "" };
        format!("{}{more}", shown.join(", "))
    }

    /// The day's line.
    pub(super) fn line(&self) -> String {
        let work = |stage: &str| self.run.iter().find(|w| w.stage == stage).map(StageWork::short).unwrap_or_default();
        let line = format!(
            "  {:<10}  {:>5} {:>7} {:>5} {:>7}  {:<12}  {:<13}  {:<12}  {}",
            self.date,
            self.inserted,
            self.updated,
            self.deleted,
            self.rolled_back,
            work("ingest"),
            work("transform"),
            work("load"),
            self.special()
        );
        line.trim_end().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_stands_under_its_heading() {
        let work = |stage, read| StageWork { stage, changed: 1, read, written: 70, deleted: 3 };
        let day = Day {
            date: "2025-11-03".into(),
            inserted: 54,
            updated: 21,
            deleted: 3,
            rolled_back: 5,
            special: vec!["design added"],
            run: vec![work("ingest", 75), work("transform", 6_000), work("load", 73)],
        };
        let line = day.line();
        assert_eq!(
            line,
            "  2025-11-03     54      21     3       5  75/70/3       6,000/70/3     73/70/3       design added"
        );
        let heading = heading(Style::PLAIN, 1);
        let columns = heading.lines().last().unwrap();
        assert_eq!(columns.find("transform"), line.find("6,000"));
        assert_eq!(columns.find("gone").map(|at| at + 4), line.find(" 3 ").map(|at| at + 2));
    }
}
