//! A side of a comparison that lives in Parquet files: the state of a table or model as of a manifest.

use std::collections::{HashMap, HashSet};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Date32Type, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use starlift_core::{Error, Result, TableSchema};
use starlift_lake::{Spill, State};
use starlift_postgres::render::arrow_text;

use super::report::ASIDE;
use super::row_digest::{self, RowDigest};
use super::side::{Detail, Visit};
use super::sql_side::SqlColumn;
use crate::count;

/// Rows of a state.
pub(super) struct LakeSide {
    state: State,
    /// What is read of each row: positions among the state's columns.
    projection: Vec<usize>,
    /// The key's columns.
    key: Vec<Part>,
    /// The columns that are compared.
    columns: Vec<Part>,
    /// The keys of rows that are left out.
    aside: HashSet<RowDigest>,
    /// Inner joins: a column, as a position in the projection, and the digests of its values that have a partner.
    partners: Vec<(usize, HashSet<RowDigest>)>,
}

/// A column of a digest.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// Its position in the projection.
    position: usize,
    /// Whether the other side holds it as `char(n)`, without blanks at the end.
    padded: bool,
}

impl Part {
    fn text(self, texts: &[Option<String>]) -> Option<&str> {
        texts.get(self.position).and_then(Option::as_deref).map(|text| without_blanks(text, self.padded))
    }
}

fn without_blanks(text: &str, padded: bool) -> &str {
    if padded { text.trim_end_matches(' ') } else { text }
}

impl LakeSide {
    /// The columns `columns` of a state, its rows named by `key`; no key for rows without one.
    ///
    /// Errors: Internal for a name that the state does not have.
    pub(super) fn new(state: State, key: &[&str], columns: &[&str]) -> Result<LakeSide> {
        let mut side = LakeSide {
            state,
            projection: vec![],
            key: vec![],
            columns: vec![],
            aside: HashSet::new(),
            partners: vec![],
        };
        side.key = key.iter().map(|name| side.read(name)).collect::<Result<_>>()?;
        side.columns = columns.iter().map(|name| side.read(name)).collect::<Result<_>>()?;
        Ok(side)
    }

    /// Compares key and columns as the other side holds them.
    pub(super) fn held_as(mut self, key: &[SqlColumn], columns: &[SqlColumn]) -> LakeSide {
        for (parts, held) in [(&mut self.key, key), (&mut self.columns, columns)] {
            parts.iter_mut().zip(held).for_each(|(part, held)| part.padded = held.padded);
        }
        self
    }

    /// Where rows are put aside.
    pub(super) fn spill(&self) -> &Spill {
        self.state.spill()
    }

    /// Leaves out the rows whose `column` is not among these values, as an inner join does.
    pub(super) fn with_partners(mut self, column: &str, values: HashSet<RowDigest>) -> Result<LakeSide> {
        let Part { position, .. } = self.read(column)?;
        self.partners.push((position, values));
        Ok(self)
    }

    /// Leaves out the rows with these keys.
    pub(super) fn without(self, aside: HashSet<RowDigest>) -> LakeSide {
        LakeSide { aside, ..self }
    }

    fn read(&mut self, name: &str) -> Result<Part> {
        let position = position(self.state.schema(), name)?;
        let position = self.projection.iter().position(|p| *p == position).unwrap_or_else(|| {
            self.projection.push(position);
            self.projection.len() - 1
        });
        Ok(Part { position, padded: false })
    }

    /// Calls `visit` for every row.
    pub(super) async fn each(&self, visit: &mut Visit<'_>) -> Result<()> {
        let mut batches = self.state.scan(Some(self.projection.clone()));
        while let Some(batch) = batches.try_next().await? {
            for row in 0..batch.num_rows() {
                let texts = texts(&batch, row);
                let key = self.key_digest(&texts);
                if self.has_partners(&texts) && !self.aside.contains(&key) {
                    visit(key, digest(&self.columns, &texts), false);
                }
            }
        }
        Ok(())
    }

    /// The keys, as people read them, and the digest of each column, of the rows with these keys.
    pub(super) async fn details(&self, keys: &[RowDigest]) -> Result<HashMap<RowDigest, Detail>> {
        let wanted: HashSet<&RowDigest> = keys.iter().collect();
        let mut details = HashMap::new();
        let mut batches = self.state.scan(Some(self.projection.clone()));
        while let Some(batch) = batches.try_next().await? {
            for row in 0..batch.num_rows() {
                let texts = texts(&batch, row);
                let key = self.key_digest(&texts);
                if wanted.contains(&key) && self.has_partners(&texts) && !self.aside.contains(&key) {
                    let shown = self.key.iter().map(|part| shown(&batch, part.position, row)).collect();
                    let columns = self.columns.iter().map(|part| digest(&[*part], &texts)).collect();
                    details.entry(key).or_insert(Detail { key: shown, columns });
                }
            }
        }
        Ok(details)
    }

    fn key_digest(&self, texts: &[Option<String>]) -> RowDigest {
        digest(if self.key.is_empty() { &self.columns } else { &self.key }, texts)
    }

    fn has_partners(&self, texts: &[Option<String>]) -> bool {
        self.partners.iter().all(|(position, values)| {
            let value = texts.get(*position).and_then(Option::as_deref);
            value.is_some_and(|value| values.contains(&row_digest::of([Some(value)])))
        })
    }
}

/// The digests of the values of one column, null left out.
pub(super) async fn values(state: &State, column: &str) -> Result<HashSet<RowDigest>> {
    let mut found = HashSet::new();
    let mut batches = state.scan(Some(vec![position(state.schema(), column)?]));
    while let Some(batch) = batches.try_next().await? {
        found.extend(digests_of_keys(&batch, &[]).into_iter().flatten());
    }
    Ok(found)
}

/// The keys of the rows that stand aside, as [`digests_of_keys`]; none of a table without a key.
pub(super) async fn refused_keys(state: &State, padded: &[bool]) -> Result<HashSet<RowDigest>> {
    let key: Vec<usize> = (0..state.schema().key.len()).collect();
    let mut found = HashSet::new();
    let mut batches = state.refused();
    while let Some(batch) = batches.try_next().await?.filter(|_| !key.is_empty()) {
        let keys = batch.project(&key).map_err(|e| Error::internal("refused rows have no key").with_source(e))?;
        found.extend(digests_of_keys(&keys, padded).into_iter().flatten());
    }
    Ok(found)
}

/// What a comparison says of rows that stand aside.
pub(super) fn aside_note(rows: u64) -> Option<String> {
    (rows > 0).then(|| format!("{ASIDE}: {} (`starlift quarantine list`)", count::with(rows, "row")))
}

/// For each row of a batch that holds nothing but a key its digest; none where a column of it is null. `padded` tells which of its
/// columns the other side holds as `char(n)`.
pub(super) fn digests_of_keys(batch: &RecordBatch, padded: &[bool]) -> Vec<Option<RowDigest>> {
    let part = |position: usize| Part { position, padded: padded.get(position).copied().unwrap_or(false) };
    let parts: Vec<Part> = (0..batch.num_columns()).map(part).collect();
    (0..batch.num_rows())
        .map(|row| {
            let texts = texts(batch, row);
            let whole = texts.iter().all(Option::is_some);
            whole.then(|| digest(&parts, &texts))
        })
        .collect()
}

fn position(schema: &TableSchema, name: &str) -> Result<usize> {
    schema
        .columns
        .iter()
        .position(|c| c.name == name)
        .ok_or_else(|| Error::internal(format!("a comparison reads the column `{name}`, which is not there")))
}

fn texts(batch: &RecordBatch, row: usize) -> Vec<Option<String>> {
    batch.columns().iter().map(|column| arrow_text(column.as_ref(), row)).collect()
}

fn digest(parts: &[Part], texts: &[Option<String>]) -> RowDigest {
    row_digest::of(parts.iter().map(|part| part.text(texts)))
}

/// The infinities of dates and timestamps, which stand at the ends of their range.
fn infinity(array: &dyn Array, row: usize) -> Option<&'static str> {
    let (low, high) = match array.data_type() {
        DataType::Date32 => (i32::MIN.into(), i32::MAX.into()),
        DataType::Timestamp(..) => (i64::MIN, i64::MAX),
        _ => return None,
    };
    let value = match array.as_primitive_opt::<Date32Type>() {
        Some(days) => i64::from(days.value(row)),
        None => array.as_primitive_opt::<TimestampMicrosecondType>()?.value(row),
    };
    match value {
        _ if array.is_null(row) => None,
        value if value == low => Some("-infinity"),
        value if value == high => Some("infinity"),
        _ => None,
    }
}

/// A value as PostgreSQL shows it under `DateStyle = ISO`.
fn shown(batch: &RecordBatch, position: usize, row: usize) -> Option<String> {
    let array: &dyn Array = batch.columns().get(position)?.as_ref();
    if let Some(infinity) = infinity(array, row) {
        return Some(infinity.into());
    }
    match array.data_type() {
        DataType::Date32 | DataType::Time64(_) | DataType::Timestamp(..) => {
            let options = FormatOptions::new().with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"));
            let formatter = ArrayFormatter::try_new(array, &options).ok()?;
            (!array.is_null(row)).then(|| formatter.value(row).try_to_string().ok()).flatten()
        }
        _ => arrow_text(array, row),
    }
}
