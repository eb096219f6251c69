//! Refused values: what a column cannot hold, by column and reason, with the keys of a few rows.

use std::fmt::Write as _;

use starlift_core::{Error, Result};

/// Examples that are kept for each column and reason; the rest is counted.
pub const EXAMPLES_KEPT: usize = 5;

pub(super) const NOT_A_NUMBER: &str = "it is NaN";
pub(super) const INFINITE: &str = "it is infinite";
pub(super) const TOO_MANY_DECIMALS: &str = "it has more decimals than the column carries";
pub(super) const TOO_MANY_DIGITS: &str = "it has more digits than the column carries";
pub(super) const OUT_OF_RANGE: &str = "it is out of the range that the column carries";
pub(super) const DIMENSIONS: &str = "it is an array of more than one dimension";
pub(super) const LOWER_BOUND: &str = "it is an array that does not start at 1";
pub(super) const NOT_UTF8: &str = "it is not valid UTF-8";
pub(super) const ZERO_BYTE: &str = "it has a zero byte, which PostgreSQL cannot store";
pub(super) const NO_UUID: &str = "it is no UUID";
pub(super) const TOO_LARGE: &str = "it is larger than the limit of one value";
pub(super) const NULL_IN_NOT_NULL: &str = "it is null in a column that is declared not null";

/// One row that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its position in the stream, from 1.
    pub row_in_stream: u64,
    /// Its key as `name=value` pairs; empty for a table without a key.
    pub key: String,
}

/// The rows that one column refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedGroup {
    /// The column.
    pub column: String,
    /// Why: a sentence about the value, which never holds the value.
    pub reason: &'static str,
    /// How many rows.
    pub rows: u64,
    /// The first few of them.
    pub examples: Vec<Refusal>,
}

/// All refusals of one stream. A row that two columns refuse is in two groups and counts once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusals {
    groups: Vec<RefusedGroup>,
    rows: u64,
}

impl Refusals {
    /// Rows that were refused.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether nothing was refused.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The refusals by column and reason, in the order of their first row.
    pub fn groups(&self) -> &[RefusedGroup] {
        &self.groups
    }

    /// Adds those of another stream of the same table.
    pub fn merge(&mut self, other: Refusals) {
        self.rows += other.rows;
        for group in other.groups {
            match self.groups.iter_mut().find(|known| known.reason == group.reason && known.column == group.column) {
                Some(known) => {
                    known.rows += group.rows;
                    known.examples.extend(group.examples);
                    known.examples.truncate(EXAMPLES_KEPT);
                }
                None => self.groups.push(group),
            }
        }
    }

    /// Nothing where nothing was refused, else a Data error that names table, columns, reasons and keys.
    /// `rows_read` is the number of rows of the stream, refused ones included.
    pub fn into_result(self, table: &str, rows_read: u64) -> Result<()> {
        let Some(first) = self.groups.first() else { return Ok(()) };
        let message = match self.groups.as_slice() {
            [only] => format!("column `{}` of table `{table}` cannot be stored without loss", only.column),
            _ => format!("{} rows of table `{table}` cannot be stored without loss", self.rows),
        };
        let mut detail = String::new();
        for group in &self.groups {
            let keys: Vec<&str> = group.examples.iter().map(|e| e.key.as_str()).filter(|k| !k.is_empty()).collect();
            let separator = if detail.is_empty() { "" } else { "; " };
            // Writing to a String cannot fail.
            let _ =
                write!(detail, "{separator}`{}` in {} of {rows_read} rows: {}", group.column, group.rows, group.reason);
            if !keys.is_empty() {
                let more = if group.rows > keys.len() as u64 { ", …" } else { "" };
                let _ = write!(detail, " ({}{more})", keys.join("; "));
            }
        }
        Err(Error::data(message)
            .with_detail(detail)
            .with_hint(hint(&first.column, first.reason))
            .with_context("table", table)
            .with_context("column", first.column.clone()))
    }

    /// Counts a row once, whatever number of columns refused it.
    pub(super) fn count_row(&mut self) {
        self.rows += 1;
    }

    /// Counts a refusal; `example` is asked for only while examples are kept.
    pub(super) fn add(&mut self, column: &str, reason: &'static str, example: impl FnOnce() -> Refusal) {
        let found = self.groups.iter().position(|g| g.reason == reason && g.column == column);
        let position = found.unwrap_or_else(|| {
            self.groups.push(RefusedGroup { column: column.into(), reason, rows: 0, examples: Vec::new() });
            self.groups.len() - 1
        });
        if let Some(group) = self.groups.get_mut(position) {
            group.rows += 1;
            if group.examples.len() < EXAMPLES_KEPT {
                group.examples.push(example());
            }
        }
    }
}

fn hint(column: &str, reason: &'static str) -> String {
    match reason {
        TOO_MANY_DECIMALS | TOO_MANY_DIGITS => format!(
            "set `columns.{column} = {{ numeric = \"text\" }}` for this table in starlift.toml, or `\"decimal(38,s)\"` with \
             enough decimals, or give the column a precision in the source"
        ),
        NULL_IN_NOT_NULL => format!("mend these rows in the source, then validate that `{column}` is not null"),
        NOT_UTF8 => {
            format!("mend these rows in the source, or convert the database to UTF8; `{column}` holds other bytes")
        }
        TOO_LARGE => "raise the limit of one value, or mend these rows in the source".to_string(),
        _ => format!(
            "set `columns.{column} = {{ as = \"text\" }}` for this table in starlift.toml, or mend these rows in the source"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_in_full_and_shown_in_part() {
        let mut refusals = Refusals::default();
        for row in 1..=7 {
            refusals.count_row();
            refusals.add("amount", TOO_MANY_DECIMALS, || Refusal { row_in_stream: row, key: format!("id={row}") });
        }
        assert_eq!((refusals.rows(), refusals.groups()[0].examples.len()), (7, EXAMPLES_KEPT));
        let error = refusals.into_result("public.payment", 8_214).unwrap_err();
        assert_eq!(
            error.render(),
            "error: column `amount` of table `public.payment` cannot be stored without loss\n\
             detail: `amount` in 7 of 8214 rows: it has more decimals than the column carries (id=1; id=2; id=3; id=4; id=5, …)\n\
             hint: set `columns.amount = { numeric = \"text\" }` for this table in starlift.toml, or `\"decimal(38,s)\"` with \
             enough decimals, or give the column a precision in the source"
        );
    }

    #[test]
    fn no_refusal_is_no_error() {
        assert!(Refusals::default().into_result("t", 0).is_ok());
    }
}
