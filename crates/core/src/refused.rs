//! Rows that were set aside: how many, for which column and reason, and the keys of a few.

use std::collections::BTreeMap;

/// Rows that one column refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedGroup {
    /// The column.
    pub column: String,
    /// Why: a sentence about the value, which never holds the value.
    pub reason: String,
    /// How many rows.
    pub rows: u64,
    /// The keys of the first of them, at most [`RefusedRows::EXAMPLES`], as `name=value, …`.
    pub examples: Vec<String>,
}

/// Refused rows by column and reason. Memory depends on columns and reasons, not on rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RefusedRows {
    groups: BTreeMap<(String, String), RefusedGroup>,
}

impl RefusedRows {
    /// Examples that are kept of each column and reason.
    pub const EXAMPLES: usize = 5;

    /// How many there are.
    pub fn rows(&self) -> u64 {
        self.groups.values().map(|group| group.rows).sum()
    }

    /// The groups, sorted by column and reason.
    pub fn groups(&self) -> impl Iterator<Item = &RefusedGroup> {
        self.groups.values()
    }

    /// Counts one row; its key is asked for only where it becomes an example.
    pub fn count(&mut self, column: &str, reason: &str, key: impl FnOnce() -> String) {
        let group = self.groups.entry((column.to_string(), reason.to_string())).or_insert_with(|| RefusedGroup {
            column: column.to_string(),
            reason: reason.to_string(),
            rows: 0,
            examples: Vec::new(),
        });
        group.rows += 1;
        if group.examples.len() < RefusedRows::EXAMPLES {
            group.examples.push(key());
        }
    }

    /// One sentence for each column and reason, with some keys.
    pub fn summary(&self) -> String {
        let line = |group: &RefusedGroup| {
            let more = if group.rows > group.examples.len() as u64 { ", …" } else { "" };
            let keys = group.examples.join("; ");
            let rows = if group.rows == 1 { "1 row".to_string() } else { format!("{} rows", group.rows) };
            format!("column `{}`: {} in {} ({keys}{more})", group.column, group.reason, rows)
        };
        self.groups().map(line).collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_in_full_and_named_in_part() {
        let mut refused = RefusedRows::default();
        for id in 1..=7 {
            refused.count("paid", "it is no date", || format!("id={id}"));
        }
        refused.count("amount", "it is NaN", || "id=9".into());
        assert_eq!(refused.rows(), 8);
        assert_eq!(
            refused.summary(),
            "column `amount`: it is NaN in 1 row (id=9); \
             column `paid`: it is no date in 7 rows (id=1; id=2; id=3; id=4; id=5, …)"
        );
    }
}
