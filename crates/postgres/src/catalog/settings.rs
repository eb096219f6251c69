//! What a project says about single columns.

use std::collections::BTreeMap;

/// How one column is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnSetting {
    /// `{ numeric = "text" }`: a numeric as its text, for values that no 38 digits hold.
    NumericText,
    /// `{ numeric = "decimal(p,s)" }`: a numeric with these digits.
    Decimal {
        /// All digits, 1 to 38.
        precision: u8,
        /// Digits after the point, 0 to `precision`.
        scale: u8,
    },
    /// `{ as = "text" }`: whatever it is, as PostgreSQL casts it to text.
    AsText,
}

/// Settings by table, then by column.
pub type TableSettings = BTreeMap<String, BTreeMap<String, ColumnSetting>>;
