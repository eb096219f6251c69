//! What a project says about single columns.

use std::collections::BTreeMap;

pub use starlift_core::settings::ColumnSetting;

/// Settings by table, then by column.
pub type TableSettings = BTreeMap<String, BTreeMap<String, ColumnSetting>>;
