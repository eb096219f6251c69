//! How one table is read where the default does not do: an entry `[source.tables.NAME]`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{drift, no_number_of_runs};
use crate::capture::CaptureMode;
use crate::drift::DriftPolicy;
use crate::event::printable;
use crate::types::MAX_PRECISION;
use crate::{ColumnType, Error, Result};

/// An entry as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Entry {
    capture: Option<String>,
    cursor: Option<String>,
    xid_pass_every: Option<u32>,
    drift: Option<String>,
    columns: BTreeMap<String, ColumnEntry>,
}

/// The entry of a column as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ColumnEntry {
    numeric: Option<String>,
    #[serde(rename = "as")]
    read_as: Option<String>,
}

/// How one table is read where the default does not do.
#[derive(Debug, Clone, Default)]
pub struct TableConfig {
    /// How it is captured; none where its size decides.
    pub capture: Option<CaptureMode>,
    /// The column that a cursor follows; none for the default.
    pub cursor: Option<String>,
    /// One of so many runs makes an xid pass; none for what the source's setting says.
    pub xid_pass_every: Option<u32>,
    /// What is done when its definition changed; none for what the source's setting says.
    pub drift: Option<DriftPolicy>,
    /// Settings by column.
    pub columns: BTreeMap<String, ColumnSetting>,
}

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

impl Entry {
    /// The entry of table `name`, its words understood.
    pub(super) fn checked(&self, name: &str) -> Result<TableConfig> {
        let at = |error: Error| error.with_context("table", name);
        let capture = match self.capture.as_deref() {
            None | Some("auto") => None,
            Some("xid") => Some(CaptureMode::Xid),
            Some("cursor") => Some(CaptureMode::Cursor),
            Some("full") => Some(CaptureMode::Full),
            Some("none") => Some(CaptureMode::None),
            Some(word) => {
                return Err(at(Error::config(format!(
                    "`capture = \"{}\"` of table `{name}` is unknown",
                    printable(word)
                ))
                .with_hint("use `auto`, `xid`, `cursor`, `full` or `none`")));
            }
        };
        if self.xid_pass_every == Some(0) {
            return Err(at(no_number_of_runs(&format!("[source.tables.{name}]"))));
        }
        let columns = self.columns.iter().map(|(column, entry)| {
            let setting = entry.checked().ok_or_else(|| {
                at(Error::config(format!("the setting of column `{column}` of table `{name}` cannot be used")).with_hint(format!(
                    "use {{ numeric = \"decimal(38,4)\" }} (at most {MAX_PRECISION} digits), {{ numeric = \"text\" }} or {{ as = \"text\" }}"
                )))
            })?;
            Ok((column.clone(), setting))
        });
        Ok(TableConfig {
            capture,
            cursor: self.cursor.clone(),
            xid_pass_every: self.xid_pass_every,
            drift: drift(self.drift.as_deref()).map_err(at)?,
            columns: columns.collect::<Result<_>>()?,
        })
    }
}

impl ColumnEntry {
    fn checked(&self) -> Option<ColumnSetting> {
        match (self.numeric.as_deref(), self.read_as.as_deref()) {
            (Some("text"), None) => Some(ColumnSetting::NumericText),
            (Some(decimal), None) => match decimal.replace("decimal", "numeric").replace(' ', "").parse() {
                Ok(ColumnType::Numeric { precision, scale }) => Some(ColumnSetting::Decimal { precision, scale }),
                _ => None,
            },
            (None, Some("text")) => Some(ColumnSetting::AsText),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Result<TableConfig> {
        toml::from_str::<Entry>(text).unwrap().checked("orders")
    }

    #[test]
    fn the_words_of_an_entry_are_understood() {
        let read = entry("capture = \"cursor\"\ncursor = \"seen\"\ndrift = \"fail\"\nxid_pass_every = 7").unwrap();
        assert_eq!((read.capture, read.cursor.as_deref()), (Some(CaptureMode::Cursor), Some("seen")));
        assert_eq!((read.drift, read.xid_pass_every), (Some(DriftPolicy::Fail), Some(7)));
        assert_eq!(entry("capture = \"auto\"").unwrap().capture, None);
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_table() {
        for wrong in ["capture = \"sometimes\"", "drift = \"maybe\"", "xid_pass_every = 0", "columns.a = {}"] {
            let error = entry(wrong).unwrap_err();
            assert!(error.hint().is_some() && format!("{error:?}").contains("orders"), "{wrong}: {error:?}");
        }
    }

    #[test]
    fn settings_of_columns_are_digits_or_text() {
        let read =
            entry("columns.a = { numeric = \"decimal(38, 4)\" }\ncolumns.b = { numeric = \"text\" }\ncolumns.c = { as = \"text\" }")
                .unwrap();
        assert_eq!(read.columns["a"], ColumnSetting::Decimal { precision: 38, scale: 4 });
        assert_eq!(read.columns["b"], ColumnSetting::NumericText);
        assert_eq!(read.columns["c"], ColumnSetting::AsText);
        for wrong in
            ["{ numeric = \"decimal(39,1)\" }", "{ numeric = \"int\" }", "{ numeric = \"text\", as = \"text\" }"]
        {
            assert!(entry(&format!("columns.a = {wrong}")).is_err(), "{wrong}");
        }
    }
}
