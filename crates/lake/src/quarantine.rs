//! The refused rows of one table or model, before and after one run.
//!
//! A refused row is an entry of its key: the count of keys knows it, and it hides the older row, so that nothing stale stays
//! current. One that stood aside before is not counted as new, and written again only where it has another reason. One that
//! only waits is not counted, so that it is new once something is wrong with itself.
//! Memory: about 60 bytes for each refused row.

use std::collections::{HashMap, HashSet};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use futures::TryStreamExt;
use sha2::{Digest, Sha256};
use starlift_core::refused::{RefusedRows, is_waiting};
use starlift_core::{Error, Result, TableSchema};

use crate::difference::Gone;
use crate::digest::{Digests, KeyDigest, RowDigest};
use crate::key_text::key_text;
use crate::state::State;

/// Where column and reason are in a refused row, behind the key.
const COLUMN: usize = 0;
const REASON: usize = 1;

/// Which rows of a table or model are refused, as a run goes on.
pub struct Quarantine {
    schema: TableSchema,
    digests: Digests,
    standing: HashMap<KeyDigest, RowDigest>,
    /// Those of `standing` that were counted; the others only waited.
    counted: HashSet<KeyDigest>,
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
            for (row, (key, digest)) in quarantine.entries(&batch)?.into_iter().enumerate() {
                quarantine.current.insert(key, digest);
                if !is_waiting(quarantine.said(&batch, REASON, row)) {
                    quarantine.counted.insert(key);
                }
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
            counted: HashSet::new(),
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
        let (standing, counted) = if same_key { (self.standing, self.counted) } else { Default::default() };
        Ok(Quarantine { standing, counted, replaces: true, ..Quarantine::empty(schema)? })
    }

    /// What stood in another state too is not new, where that has the same key: the state before the one that chunks replace.
    pub fn knowing(mut self, other: Quarantine) -> Quarantine {
        if self.schema.key_to_arrow() == other.schema.key_to_arrow() {
            self.counted.extend(other.counted);
        }
        self
    }

    /// Of refused rows of the state, those that stand as they stood: neither came as a good row, nor is gone, nor is refused
    /// for another reason. A run that names the state's files anew has to write them again.
    ///
    /// Errors: Internal for other columns than those of [`TableSchema::refused_to_arrow`].
    pub fn unchanged(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let stands = |(key, digest): (KeyDigest, RowDigest)| {
            self.standing.get(&key) == Some(&digest) && self.current.get(&key) == Some(&digest)
        };
        let entries = self.digests.refused(batch)?;
        let mask: BooleanArray = entries.into_iter().map(|entry| Some(stands(entry))).collect();
        filter_record_batch(batch, &mask).map_err(|e| Error::internal("refused rows cannot be filtered").with_source(e))
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

    /// The rows that have to be written, and the positions of those that were not counted before.
    fn enter(&mut self, batch: &RecordBatch) -> Result<(RecordBatch, Vec<usize>)> {
        let entries = self.entries(batch)?;
        let mut written = Vec::with_capacity(entries.len());
        let mut new = Vec::new();
        for (row, (key, digest)) in entries.into_iter().enumerate() {
            if !self.counted.contains(&key) {
                new.push(row);
            }
            written.push(self.replaces || self.standing.get(&key) != Some(&digest));
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
    ///
    /// Errors: those of [`Gone::contains`].
    pub fn gone(&mut self, keys: &mut Gone) -> Result<()> {
        let mut failed = Ok(());
        self.current.retain(|key, _| match keys.contains(key) {
            Ok(is_gone) => !is_gone,
            Err(error) => {
                failed = Err(error);
                true
            }
        });
        failed
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

    /// The rows that did not stand aside before, or only waited.
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
        for row in rows {
            let (column, reason) = (self.said(batch, COLUMN, *row), self.said(batch, REASON, *row));
            self.new.count(column, reason, || key_text(&self.schema, batch, *row));
        }
    }

    /// What is said of a refused row in a column behind those of the key.
    fn said<'a>(&self, batch: &'a RecordBatch, column: usize, row: usize) -> &'a str {
        let array: Option<&ArrayRef> = batch.columns().get(self.schema.key.len() + column);
        let texts = array.and_then(|array| array.as_string_opt::<i32>()).filter(|texts| texts.is_valid(row));
        texts.map_or("?", |texts| texts.value(row))
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
