//! Which capture mode a table has, and why: from its settings, its size and its indexes.

use std::collections::BTreeSet;

use super::CaptureMode;
use crate::error::{Error, Result};
use crate::schema::TableSchema;
use crate::types::ColumnType;

/// The column that a cursor follows, unless a setting names another.
pub const DEFAULT_CURSOR: &str = "last_updated";
/// From so many MiB on, a table is large: not every run scans it.
pub const DEFAULT_LARGE_FROM_MB: u64 = 2_048;
/// A large table is scanned by one of so many runs: once an hour, where a run comes every five minutes. A lying stamp and a
/// delete show within that hour, and a day scans 24 times the table instead of 288 times.
pub const DEFAULT_XID_PASS_EVERY: u32 = 12;

/// What a project says about how a table is captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The mode; none leaves it to the table's size and indexes (`auto`).
    pub mode: Option<CaptureMode>,
    /// The column that a cursor follows; none for [`DEFAULT_CURSOR`], if the table has it.
    pub cursor: Option<String>,
    /// One of so many runs makes an xid pass of a table that not every run reads completely.
    pub xid_pass_every: u32,
    /// From so many MiB on a table is large.
    pub large_from_mb: u64,
}

/// What the source shows of a table.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// Its columns and key.
    pub schema: &'a TableSchema,
    /// Bytes on disk, indexes not included.
    pub bytes: u64,
    /// Columns that an index over all rows begins with.
    pub indexed: &'a BTreeSet<String>,
    /// Whether the source is a standby, which does not show what is open on its primary.
    pub in_recovery: bool,
}

/// How a table is captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// `xid`, `cursor` or `full`.
    pub mode: CaptureMode,
    /// One of so many runs makes an xid pass; the others follow the cursor or leave the table alone. None where every run
    /// reads the table completely.
    pub xid_pass_every: Option<u32>,
    /// The column that the cursor follows, in mode `cursor`.
    pub cursor: Option<String>,
    /// Why, in words.
    pub why: String,
}

/// Chooses the capture mode of a table.
///
/// Errors: Config that names table and column, where a setting asks for a cursor over a column that is not there or holds
/// no time.
pub fn choose(wish: &Wish, table: &Offer<'_>) -> Result<Choice> {
    const SET: &str = "set in starlift.toml";
    let complete = |mode, why: &str| Choice { mode, xid_pass_every: None, cursor: None, why: why.into() };
    let column = wish.cursor.as_deref().unwrap_or(DEFAULT_CURSOR);
    let unfit = unfit(column, table);
    let is_asked_for = wish.cursor.is_some() || wish.mode == Some(CaptureMode::Cursor);
    if let Some(why) = unfit.as_ref().filter(|_| is_asked_for) {
        return Err(Error::config(format!("the cursor of table `{}` cannot follow column `{column}`", table.name))
            .with_detail(why.clone())
            .with_hint(format!(
                "set `cursor` for `{}` in starlift.toml to a column of type timestamp, timestamptz or date, or remove the setting",
                table.name
            ))
            .with_context("table", table.name)
            .with_context("column", column));
    }
    if table.schema.key.is_empty() {
        return Ok(complete(CaptureMode::Full, "it has no key"));
    }
    let large = match wish.mode {
        Some(mode @ (CaptureMode::Xid | CaptureMode::Full | CaptureMode::None)) => return Ok(complete(mode, SET)),
        None if table.bytes < wish.large_from_mb.saturating_mul(1 << 20) => {
            return Ok(complete(CaptureMode::Xid, &format!("smaller than {} MiB", wish.large_from_mb)));
        }
        Some(CaptureMode::Cursor) => SET.to_string(),
        None => format!("{} MiB or larger", wish.large_from_mb),
    };
    let xid_pass_every = Some(wish.xid_pass_every.max(1));
    let no_cursor = if table.in_recovery {
        Some("a standby does not show what is open on its primary".to_string())
    } else if unfit.is_some() {
        unfit
    } else if !table.indexed.contains(column) {
        Some(format!("no index begins with `{column}`"))
    } else {
        None
    };
    Ok(match no_cursor {
        Some(why) => Choice { mode: CaptureMode::Xid, xid_pass_every, cursor: None, why: format!("{large}; {why}") },
        None => Choice {
            mode: CaptureMode::Cursor,
            xid_pass_every,
            cursor: Some(column.into()),
            why: format!("{large}; indexed by `{column}`"),
        },
    })
}

/// Why a cursor cannot follow a column; none where it can.
fn unfit(column: &str, table: &Offer<'_>) -> Option<String> {
    let Some(found) = table.schema.column(column) else { return Some(format!("it has no column `{column}`")) };
    match found.column_type {
        ColumnType::Timestamp | ColumnType::TimestampTz | ColumnType::Date => None,
        _ => {
            let declared = found.declared.clone().unwrap_or_else(|| found.column_type.to_string());
            Some(format!("`{column}` is `{declared}`, and no timestamp or date"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Column;

    fn schema(key: &[&str], stamp: ColumnType) -> TableSchema {
        let column = |name: &str, column_type| Column {
            name: name.into(),
            column_type,
            nullable: true,
            declared: None,
            labels: vec![],
        };
        TableSchema {
            columns: vec![column("id", ColumnType::Int4), column("last_updated", stamp)],
            key: key.iter().map(|name| name.to_string()).collect(),
            oid: None,
            partitions: vec![],
            attributes: vec![],
        }
    }

    fn wish(mode: Option<CaptureMode>) -> Wish {
        Wish { mode, cursor: None, xid_pass_every: 12, large_from_mb: 2_048 }
    }

    const GIB: u64 = 1 << 30;

    /// The mode, how often a pass is made, and why.
    fn chosen(wish: &Wish, schema: &TableSchema, bytes: u64, indexed: &[&str]) -> (CaptureMode, Option<u32>, String) {
        let indexed = indexed.iter().map(|name| name.to_string()).collect();
        let offer = Offer { name: "t", schema, bytes, indexed: &indexed, in_recovery: false };
        let choice = choose(wish, &offer).unwrap();
        assert_eq!(choice.cursor.is_some(), choice.mode == CaptureMode::Cursor);
        (choice.mode, choice.xid_pass_every, choice.why)
    }

    #[test]
    fn auto_turns_from_xid_to_cursor_at_the_threshold_where_an_index_is_there() {
        let keyed = schema(&["id"], ColumnType::Timestamp);
        let (auto, indexed) = (wish(None), ["last_updated"]);
        let (mode, every, why) = chosen(&auto, &keyed, 2 * GIB - 1, &indexed);
        assert_eq!((mode, every, why.as_str()), (CaptureMode::Xid, None, "smaller than 2048 MiB"));
        let (mode, every, why) = chosen(&auto, &keyed, 2 * GIB, &indexed);
        assert_eq!((mode, every), (CaptureMode::Cursor, Some(12)));
        assert_eq!(why, "2048 MiB or larger; indexed by `last_updated`");
        let (mode, every, why) = chosen(&auto, &keyed, 2 * GIB, &["id"]);
        assert_eq!((mode, every), (CaptureMode::Xid, Some(12)));
        assert_eq!(why, "2048 MiB or larger; no index begins with `last_updated`");
        let (mode, every, _) = chosen(&auto, &schema(&["id"], ColumnType::Text), 2 * GIB, &indexed);
        assert_eq!((mode, every), (CaptureMode::Xid, Some(12)), "a stamp that is no time is none");
        let (mode, every, why) = chosen(&auto, &schema(&[], ColumnType::Timestamp), 2 * GIB, &indexed);
        assert_eq!((mode, every, why.as_str()), (CaptureMode::Full, None, "it has no key"));
    }

    #[test]
    fn a_setting_wins_over_the_size() {
        let keyed = schema(&["id"], ColumnType::Date);
        let cursor = Some(CaptureMode::Cursor);
        assert_eq!(chosen(&wish(cursor), &keyed, 1, &["last_updated"]).0, CaptureMode::Cursor);
        assert_eq!(chosen(&wish(cursor), &keyed, 1, &[]).0, CaptureMode::Xid);
        assert_eq!(chosen(&wish(cursor), &keyed, 1, &[]).1, Some(12));
        assert_eq!(chosen(&wish(Some(CaptureMode::Xid)), &keyed, 9 * GIB, &["last_updated"]).1, None);
        let other = Wish { large_from_mb: 0, xid_pass_every: 0, ..wish(None) };
        assert_eq!(chosen(&other, &keyed, 0, &["last_updated"]).1, Some(1));
    }

    #[test]
    fn a_standby_has_no_cursor() {
        let keyed = schema(&["id"], ColumnType::Timestamp);
        let indexed = ["last_updated".to_string()].into();
        let offer = Offer { name: "t", schema: &keyed, bytes: 9 * GIB, indexed: &indexed, in_recovery: true };
        let choice = choose(&wish(None), &offer).unwrap();
        assert_eq!((choice.mode, choice.xid_pass_every), (CaptureMode::Xid, Some(12)));
        assert!(choice.why.contains("standby"), "{}", choice.why);
    }

    #[test]
    fn a_cursor_over_what_is_no_time_is_refused_by_name() {
        let keyed = schema(&["id"], ColumnType::Text);
        let indexed = BTreeSet::new();
        let offer = Offer { name: "t", schema: &keyed, bytes: 1, indexed: &indexed, in_recovery: false };
        let by_mode = choose(&wish(Some(CaptureMode::Cursor)), &offer).unwrap_err();
        assert_eq!(by_mode.message(), "the cursor of table `t` cannot follow column `last_updated`");
        assert_eq!(by_mode.detail().as_deref(), Some("`last_updated` is `text`, and no timestamp or date"));
        let missing = Wish { cursor: Some("gone".into()), ..wish(None) };
        assert_eq!(choose(&missing, &offer).unwrap_err().detail().as_deref(), Some("it has no column `gone`"));
        // Unasked, a column that cannot be followed is no error.
        assert!(choose(&wish(None), &offer).is_ok());
    }
}
