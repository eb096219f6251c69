//! What verify found, as data: docs/json.md shows it. It names keys and columns, never a value of a row.

use serde::Serialize;

/// How a note begins that says what a verdict does not cover.
pub const NOT_COMPARED: &str = "not compared";

/// How a note begins that says how many rows stand aside.
pub const ASIDE: &str = "aside";

/// What `starlift verify` found.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport {
    /// The run.
    pub run_id: String,
    /// Whether the stages ran first, so that what differs now cannot be explained by what they had still to do.
    pub settled: bool,
    /// The newest ingest manifest, which the source was compared with; none for an empty lake.
    pub ingest_seq: Option<u64>,
    /// The star manifest that the warehouse holds; none where it holds none.
    pub loaded_seq: Option<u64>,
    /// Each comparison: all of `source-lake`, then of `star-warehouse`, then of `lake-warehouse`, by name.
    pub comparisons: Vec<Comparison>,
    /// What a person should know although it is no difference.
    pub notes: Vec<String>,
}

/// One table or model on two sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Which two sides.
    pub kind: ComparisonKind,
    /// The table (`source-lake`) or model.
    pub name: String,
    /// Columns that were compared.
    pub columns: u64,
    /// What came out.
    pub verdict: Verdict,
    /// Rows of the side that `kind` names first.
    pub rows_left: u64,
    /// Rows of the side that `kind` names second.
    pub rows_right: u64,
    /// Rows that differ and that the next run will look at: they are no differences.
    pub pending: u64,
    /// Keys that differ (rows, where there is no key).
    pub differences: u64,
    /// The first differences by key, at most [`EXAMPLES`].
    pub examples: Vec<Example>,
    /// Columns of the model that were left out, because the warehouse holds a type that has no text in common with theirs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_compared: Vec<String>,
    /// Why rows are pending, and what was left out of the comparison.
    pub notes: Vec<String>,
    /// Time that it took.
    pub millis: u64,
}

/// Which two sides a comparison is of, the left one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComparisonKind {
    /// A table in the source, and its state in the lake.
    SourceLake,
    /// A model's state in the star, and its current rows in the warehouse.
    StarWarehouse,
    /// A table's state in the lake, and the current rows of the model that has one row for each of its rows.
    LakeWarehouse,
}

/// How a comparison came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Both sides hold the same rows.
    Equal,
    /// They differ in rows that the next run will look at, and in no other.
    Pending,
    /// They differ.
    Differs,
    /// One side does not have the table or model at all.
    Missing,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    /// The key, such as `sales_order_id=5`.
    pub key: String,
    /// `only in source`, `only in lake`, `differs in column unit_price`, `twice in warehouse`, …
    pub what: String,
}

/// How many differences a comparison names.
pub const EXAMPLES: usize = 5;

impl ComparisonKind {
    /// The words for its two sides.
    pub fn sides(self) -> (&'static str, &'static str) {
        match self {
            ComparisonKind::SourceLake => ("source", "lake"),
            ComparisonKind::StarWarehouse => ("star", "warehouse"),
            ComparisonKind::LakeWarehouse => ("lake", "warehouse"),
        }
    }

    /// The word that the report uses.
    pub fn name(self) -> &'static str {
        match self {
            ComparisonKind::SourceLake => "source-lake",
            ComparisonKind::StarWarehouse => "star-warehouse",
            ComparisonKind::LakeWarehouse => "lake-warehouse",
        }
    }
}

impl Verdict {
    /// The word that the report uses.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Equal => "equal",
            Verdict::Pending => "pending",
            Verdict::Differs => "differs",
            Verdict::Missing => "missing",
        }
    }
}

impl Comparison {
    /// A comparison that nothing was counted for yet.
    pub(super) fn new(kind: ComparisonKind, name: &str) -> Comparison {
        Comparison {
            kind,
            name: name.to_string(),
            columns: 0,
            verdict: Verdict::Equal,
            rows_left: 0,
            rows_right: 0,
            pending: 0,
            differences: 0,
            examples: Vec::new(),
            not_compared: Vec::new(),
            notes: Vec::new(),
            millis: 0,
        }
    }

    /// With one more note.
    pub(super) fn with_note(mut self, note: impl Into<String>) -> Comparison {
        self.notes.push(note.into());
        self
    }

    /// With a verdict that no count leads to.
    pub(super) fn with_verdict(mut self, verdict: Verdict) -> Comparison {
        self.verdict = verdict;
        self
    }

    /// Sets the verdict that the counts lead to; a missing side stays missing.
    pub(super) fn judge(&mut self) {
        if self.verdict == Verdict::Missing {
            return;
        }
        if self.differences > 0 {
            self.verdict = Verdict::Differs;
        } else if self.pending > 0 {
            self.verdict = Verdict::Pending;
        }
    }
}

impl VerifyReport {
    /// Whether no comparison found a difference. Rows that wait for the next run are none.
    pub fn equal(&self) -> bool {
        self.comparisons.iter().all(|c| matches!(c.verdict, Verdict::Equal | Verdict::Pending))
    }

    /// Keys that differ, in all comparisons.
    pub fn differences(&self) -> u64 {
        self.comparisons.iter().map(|c| c.differences).sum()
    }

    /// Columns that no comparison covers.
    pub fn not_compared(&self) -> u64 {
        self.comparisons.iter().map(|c| c.not_compared.len() as u64).sum()
    }

    /// Rows that the next run will look at, in all comparisons.
    pub fn pending(&self) -> u64 {
        self.comparisons.iter().map(|c| c.pending).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(verdict: Verdict) -> VerifyReport {
        VerifyReport {
            run_id: "r".into(),
            settled: false,
            ingest_seq: Some(1),
            loaded_seq: Some(1),
            comparisons: vec![Comparison::new(ComparisonKind::SourceLake, "t").with_verdict(verdict)],
            notes: vec![],
        }
    }

    #[test]
    fn what_waits_for_the_next_run_is_equal_and_what_is_missing_is_not() {
        assert!(with(Verdict::Equal).equal());
        assert!(with(Verdict::Pending).equal());
        assert!(!with(Verdict::Differs).equal());
        assert!(!with(Verdict::Missing).equal());
    }

    #[test]
    fn a_difference_outweighs_what_is_pending() {
        let mut comparison = Comparison::new(ComparisonKind::StarWarehouse, "m");
        comparison.pending = 3;
        comparison.judge();
        assert_eq!(comparison.verdict, Verdict::Pending);
        comparison.differences = 1;
        comparison.judge();
        assert_eq!(comparison.verdict, Verdict::Differs);
    }

    #[test]
    fn the_report_says_kinds_and_verdicts_in_the_words_of_the_documentation() {
        for kind in [ComparisonKind::SourceLake, ComparisonKind::StarWarehouse, ComparisonKind::LakeWarehouse] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        for verdict in [Verdict::Equal, Verdict::Pending, Verdict::Differs, Verdict::Missing] {
            assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.name());
        }
    }
}
