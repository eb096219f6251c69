//! A table of ratios with goals and verdicts, as Markdown.

use crate::measure::Several;

/// What a figure is to be at most.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// So many times the limit.
    Ratio(f64),
    /// So many seconds.
    Seconds(f64),
}

pub(crate) struct Table {
    title: String,
    rows: Vec<String>,
    notes: Vec<String>,
}

impl Table {
    pub(crate) fn new(title: String) -> Table {
        Table { title, rows: Vec::new(), notes: Vec::new() }
    }

    /// What the others are compared with.
    pub(crate) fn limit(&mut self, name: &str, taken: &Several) {
        self.row(name, taken, Some(1.0), None);
    }

    /// Something beside its limit.
    pub(crate) fn line(&mut self, name: &str, taken: &Several, limit: &Several, goal: Option<Goal>) {
        self.row(name, taken, Some(taken.ratio(limit)), goal);
    }

    /// Something without a limit.
    pub(crate) fn alone(&mut self, name: &str, taken: &Several, goal: Option<Goal>) {
        self.row(name, taken, None, goal);
    }

    /// A ratio of two figures that are no times, such as of memory.
    pub(crate) fn figure(&mut self, name: &str, ratio: f64, goal: f64) {
        let verdict = verdict(ratio <= goal);
        self.rows.push(format!("| {name} | | | {ratio:.2} | {goal:.2} x | {verdict} | | |"));
    }

    /// A sentence below the table.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    fn row(&mut self, name: &str, taken: &Several, ratio: Option<f64>, goal: Option<Goal>) {
        let median = taken.median();
        let (least, most) = taken.spread();
        let of_ratio = ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        let (goal, verdict) = match goal {
            None => (String::new(), ""),
            Some(Goal::Ratio(goal)) => (format!("{goal:.2} x"), verdict(ratio.is_some_and(|ratio| ratio <= goal))),
            Some(Goal::Seconds(goal)) => (format!("{goal:.3} s"), verdict(median.seconds <= goal)),
        };
        self.rows.push(format!(
            "| {name} | {:.3} | {least:.3} to {most:.3} ({}) | {of_ratio} | {goal} | {verdict} | {:.2} | {:.0} |",
            median.seconds,
            taken.len(),
            median.cpu,
            median.peak as f64 / 1e6
        ));
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "\n### {}\n\n| | seconds | spread (times) | x limit | goal | verdict | cpu s | peak MB |\n\
             | --- | ---: | ---: | ---: | ---: | --- | ---: | ---: |\n",
            self.title
        );
        self.rows.iter().for_each(|row| text += &format!("{row}\n"));
        self.notes.iter().for_each(|note| text += &format!("\n{note}\n"));
        text
    }
}

fn verdict(reached: bool) -> &'static str {
    if reached { "reached" } else { "missed" }
}
