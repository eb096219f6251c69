//! Rows that were set aside: how many, for which column and reason, and the keys of a few.
//!
//! A row that only waits for another one says so in its reason: nothing is wrong with it, and no limit counts it.

use std::collections::BTreeMap;

/// How the reason of a row that waits begins.
const WAITS: &str = "it waits for its row in `";

/// The reason of a row that waits for its row in another table or model.
pub fn waits_for(target: &str) -> String {
    format!("{WAITS}{target}`, which stands aside")
}

/// Whether a row with this reason only waits.
pub fn is_waiting(reason: &str) -> bool {
    reason.starts_with(WAITS)
}

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
    rows: u64,
    groups: BTreeMap<(String, String), RefusedGroup>,
}

impl RefusedRows {
    /// Examples that are kept of each column and reason.
    pub const EXAMPLES: usize = 5;

    /// How many there are. A row that several columns refuse counts once here, and once in each of its groups.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The groups, sorted by column and reason.
    pub fn groups(&self) -> impl Iterator<Item = &RefusedGroup> {
        self.groups.values()
    }

    /// Counts one row; its key is asked for only where it becomes an example.
    pub fn count(&mut self, column: &str, reason: &str, key: impl FnOnce() -> String) {
        self.rows += 1;
        self.count_also(column, reason, key);
    }

    /// Counts a further column, or reason, of a row that is counted already.
    pub fn count_also(&mut self, column: &str, reason: &str, key: impl FnOnce() -> String) {
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

    /// Adds rows of one column and reason, each of which counts.
    pub fn add(&mut self, group: RefusedGroup) {
        self.rows += group.rows;
        let key = (group.column.clone(), group.reason.clone());
        match self.groups.get_mut(&key) {
            None => {
                self.groups.insert(key, group);
            }
            Some(sum) => {
                sum.rows += group.rows;
                let room = RefusedRows::EXAMPLES.saturating_sub(sum.examples.len());
                sum.examples.extend(group.examples.into_iter().take(room));
            }
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
        refused.count_also("paid", "it is no date", || "id=9".into());
        assert_eq!(refused.rows(), 8, "the row of two columns counts once");
        assert_eq!(refused.groups().map(|group| group.rows).collect::<Vec<_>>(), [1, 8]);
    }

    #[test]
    fn groups_that_were_counted_elsewhere_are_added() {
        let group = |rows, examples: &[&str]| RefusedGroup {
            column: "paid".into(),
            reason: "it is no date".into(),
            rows,
            examples: examples.iter().map(|e| e.to_string()).collect(),
        };
        let mut refused = RefusedRows::default();
        refused.add(group(9, &["id=1", "id=2", "id=3", "id=4"]));
        refused.add(group(2, &["id=10", "id=11"]));
        assert_eq!(refused.rows(), 11);
        let summary = "column `paid`: it is no date in 11 rows (id=1; id=2; id=3; id=4; id=10, …)";
        assert_eq!(refused.summary(), summary);
    }

    #[test]
    fn who_waits_says_so() {
        assert!(is_waiting(&waits_for("dim_design")));
        assert!(!is_waiting("it is NaN"));
    }
}
