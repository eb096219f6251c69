//! Refused rows: how many, why, and a few examples by key.

use std::collections::BTreeMap;

/// One refused value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The key of its row, as `sales_order_id=5`, several columns separated by a comma.
    pub key: String,
    /// The column of the model.
    pub column: String,
    /// Why it was refused; it never holds the value.
    pub reason: String,
}

/// The refused values of one column with one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalGroup {
    /// The column of the model.
    pub column: String,
    /// Why they were refused.
    pub reason: String,
    /// How many rows have such a value.
    pub rows: u64,
    /// The first of them, at most [`Refusals::EXAMPLES`].
    pub examples: Vec<Refusal>,
}

/// All refused rows of an evaluation, counted. Memory depends on the model's columns, not on its rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusals {
    rows: u64,
    groups: BTreeMap<(String, String), RefusalGroup>,
}

impl Refusals {
    /// Examples that are kept of each column and reason.
    pub const EXAMPLES: usize = 5;

    /// Refused rows; a row with two refused values counts once here and once in each group.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether no row was refused.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The groups, sorted by column and reason.
    pub fn groups(&self) -> impl Iterator<Item = &RefusalGroup> {
        self.groups.values()
    }

    /// Counts refused rows.
    pub(crate) fn count_rows(&mut self, rows: u64) {
        self.rows += rows;
    }

    /// Counts one refused value of a row; its key is asked for only where it becomes an example.
    pub(crate) fn count_value(&mut self, column: &str, reason: &str, key: impl FnOnce() -> String) {
        let group = self.groups.entry((column.to_string(), reason.to_string())).or_insert_with(|| RefusalGroup {
            column: column.to_string(),
            reason: reason.to_string(),
            rows: 0,
            examples: Vec::new(),
        });
        group.rows += 1;
        if group.examples.len() < Refusals::EXAMPLES {
            group.examples.push(Refusal { key: key(), column: column.to_string(), reason: reason.to_string() });
        }
    }
}
