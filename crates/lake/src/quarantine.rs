//! The refused rows of one table or model, before and after one run.
//!
//! A refused row is an entry of its key: the count of keys knows it, and it hides the older row, so that nothing stale stays
//! current. One that stood aside before is not counted as new, and written again only where it has another reason.
//! Memory: about 60 bytes for each refused row.

use std::collections::{HashMap, HashSet};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use sha2::{Digest, Sha256};
use starlift_core::refused::RefusedRows;
use starlift_core::{Error, Result, TableSchema};

use crate::digest::{Digests, KeyDigest, RowDigest};
use crate::state::State;

/// Which rows of a table or model are refused, as a run goes on.
pub struct Quarantine {
    schema: TableSchema,
    digests: Digests,
    standing: HashMap<KeyDigest, RowDigest>,
    current: HashMap<KeyDigest, RowDigest>,
    /// How often the run met what is said of rows without a key.
    numbers: HashMap<RowDigest, u64>,
    /// Whether the run writes all entries, as it replaces the state before.
    replaces: bool,
    new: RefusedRows,
}

impl Quarantine {
    /// What stands in a state. Nothing is read where the state has no refused rows.
    ///
    /// Errors: as in the stream of [`State::scan`].
    pub async fn of(state: &State) -> Result<Quarantine> {
        let mut quarantine = Quarantine::empty(state.schema())?;
        let mut batches = state.refused();
        while let Some(batch) = batches.try_next().await? {
            for (key, digest) in quarantine.entries(&batch)? {
                quarantine.current.insert(key, digest);
            }
        }
        quarantine.standing = quarantine.current.clone();
        quarantine.numbers.clear();
        Ok(quarantine)
    }

    /// No refused row.
    ///
    /// Errors: Internal for a key that names no column.
    pub fn empty(schema: &TableSchema) -> Result<Quarantine> {
        Ok(Quarantine {
            digests: Digests::new(schema)?,
            schema: schema.clone(),
            standing: HashMap::new(),
            current: HashMap::new(),
            numbers: HashMap::new(),
            replaces: false,
            new: RefusedRows::default(),
        })
    }

    /// The run replaces the state: only what is taken from now on is refused, and all of it is written. What stands is
    /// known all the same, where `schema`, the table's or model's own from now on, has the same key.
    ///
    /// Errors: Internal for a key that names no column.
    pub fn replacing(self, schema: &TableSchema) -> Result<Quarantine> {
        let same_key = self.schema.key_to_arrow() == schema.key_to_arrow();
        let standing = if same_key { self.standing } else { HashMap::new() };
        Ok(Quarantine { standing, replaces: true, ..Quarantine::empty(schema)? })
    }

    /// Takes refused rows, with the columns of [`TableSchema::refused_to_arrow`], and returns those that have to be written.
    ///
    /// Errors: Internal for other columns.
    pub fn take(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let (rows, new) = self.enter(batch)?;
        self.count(batch, &new);
        Ok(rows)
    }

    /// Takes rows that wait for others: refused rows that are not counted.
    ///
    /// Errors: as [`Quarantine::take`].
    pub fn take_waiting(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        Ok(self.enter(batch)?.0)
    }

    /// The rows that have to be written, and the positions of those that did not stand.
    fn enter(&mut self, batch: &RecordBatch) -> Result<(RecordBatch, Vec<usize>)> {
        let entries = self.entries(batch)?;
        let mut written = Vec::with_capacity(entries.len());
        let mut new = Vec::new();
        for (row, (key, digest)) in entries.into_iter().enumerate() {
            let stood = self.standing.get(&key);
            if stood.is_none() {
                new.push(row);
            }
            written.push(self.replaces || stood != Some(&digest));
            self.current.insert(key, digest);
        }
        let rows = filter_record_batch(batch, &BooleanArray::from(written))
            .map_err(|e| Error::internal("refused rows cannot be filtered").with_source(e))?;
        Ok((rows, new))
    }

    /// Takes note of rows that came and were good.
    ///
    /// Errors: Internal for a batch of another schema.
    pub fn passed(&mut self, rows: &RecordBatch) -> Result<()> {
        if self.current.is_empty() || self.schema.key.is_empty() {
            return Ok(());
        }
        for key in self.digests.keys(rows)? {
            self.current.remove(&key);
        }
        Ok(())
    }

    /// Takes note of keys that are gone.
    pub fn gone(&mut self, keys: &HashSet<KeyDigest>) {
        self.current.retain(|key, _| !keys.contains(key));
    }

    /// The refused keys as of now.
    pub fn keys(&self) -> HashSet<KeyDigest> {
        self.current.keys().copied().collect()
    }

    /// How many rows are refused as of now.
    pub fn rows(&self) -> u64 {
        self.current.len() as u64
    }

    /// Whether other rows are refused than before the run, or for other reasons.
    pub fn has_changed(&self) -> bool {
        self.current != self.standing
    }

    /// The rows that did not stand aside before.
    pub fn new_rows(&self) -> &RefusedRows {
        &self.new
    }

    /// The digests of each refused row. Rows without a key are told apart by what is said of them, and by their number.
    fn entries(&mut self, batch: &RecordBatch) -> Result<Vec<(KeyDigest, RowDigest)>> {
        if !self.schema.key.is_empty() {
            return self.digests.refused(batch);
        }
        let said = self.digests.said_of_refused(batch)?;
        let number = |digest: RowDigest| {
            let count = self.numbers.entry(digest).and_modify(|n| *n += 1).or_insert(0);
            (numbered(digest, *count), digest)
        };
        Ok(said.into_iter().map(number).collect())
    }

    fn count(&mut self, batch: &RecordBatch, rows: &[usize]) {
        let key = self.schema.key.len();
        let text = |column: usize, row: usize| {
            let array: Option<&ArrayRef> = batch.columns().get(column);
            let texts = array.and_then(|array| array.as_string_opt::<i32>()).filter(|texts| texts.is_valid(row));
            texts.map_or("?", |texts| texts.value(row))
        };
        for row in rows {
            let named = || key_text(&self.schema, batch, *row);
            self.new.count(text(key, *row), text(key + 1, *row), named);
        }
    }
}

fn numbered(digest: RowDigest, number: u64) -> KeyDigest {
    let hash = Sha256::new().chain_update(digest.0).chain_update(number.to_be_bytes()).finalize();
    let mut key = [0; 16];
    for (to, from) in key.iter_mut().zip(hash) {
        *to = from;
    }
    KeyDigest(key)
}

/// The key of a refused row as people read it: `name=value, …`; empty where there is no key.
pub fn key_text(schema: &TableSchema, refused: &RecordBatch, row: usize) -> String {
    const FORM: FormatOptions<'static> = FormatOptions::new().with_null("null").with_display_error(true);
    let value = |array: &ArrayRef| {
        let formatter = ArrayFormatter::try_new(array.as_ref(), &FORM).ok();
        formatter.and_then(|f| f.value(row).try_to_string().ok()).unwrap_or_else(|| "?".into())
    };
    let named = schema.key.iter().zip(refused.columns());
    named.map(|(name, array)| format!("{name}={}", value(array))).collect::<Vec<_>>().join(", ")
}
