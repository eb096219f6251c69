//! The difference between rows that were read or evaluated and the state before: what has to be written.
//!
//! Rows are compared by digest, so the state before is a set of [`Keys`], made by [`State::index`] or of [`State::find`]. Each
//! key may come once: one that comes twice, or holds a null, is a Data error that names it. Memory: that of [`Keys`], whatever
//! the number of rows.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use starlift_core::{Error, Result, TableSchema};

use crate::digest::{Digests, KeyDigest};
use crate::key_text::short_key_text;
use crate::keys::{Keys, Mark};
use crate::state::State;

/// Compares the rows of one run with the state before, batch by batch.
pub struct Difference {
    relation: String,
    schema: TableSchema,
    digests: Digests,
    keys: Keys,
    rows_seen: u64,
    rows_changed: u64,
}

impl Difference {
    /// `relation` is what errors call the table or model. `before` holds every key that may come and had a row.
    ///
    /// Errors: Internal for a schema without a key, or whose key names no column.
    pub fn new(relation: &str, schema: TableSchema, before: Keys) -> Result<Difference> {
        if schema.key.is_empty() {
            return Err(Error::internal(format!("`{relation}` has no key to compare its rows by")));
        }
        Ok(Difference {
            relation: relation.to_string(),
            digests: Digests::new(&schema)?,
            schema,
            keys: before,
            rows_seen: 0,
            rows_changed: 0,
        })
    }

    /// The rows of a batch that are new or differ from their row before; perhaps none.
    ///
    /// Errors: Data where a key comes a second time or holds a null, with the first such key of the batch and how many
    /// there are in it; Internal for a batch of another schema.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let keys = self.digests.keys(batch)?;
        self.refuse_nulls(batch)?;
        let rows = self.digests.rows(batch)?;
        let mut changed = vec![true; keys.len()];
        let mut repeated = Vec::new();
        for position in self.order(&keys) {
            let (Some(key), Some(row)) = (keys.get(position), rows.get(position)) else { continue };
            match self.keys.come(*key)? {
                Some((before, Mark::Unseen)) => {
                    if let Some(slot) = changed.get_mut(position) {
                        *slot = before != *row;
                    }
                }
                Some(_) => repeated.push(position),
                None => {}
            }
        }
        repeated.sort_unstable();
        if let Some(first) = repeated.first() {
            return Err(self.repeated(batch, &self.schema.key_positions(), *first, repeated.len()));
        }
        self.rows_seen += batch.num_rows() as u64;
        self.rows_changed += changed.iter().filter(|c| **c).count() as u64;
        filter_record_batch(batch, &BooleanArray::from(changed))
            .map_err(|e| Error::internal("rows cannot be filtered").with_source(e))
    }

    /// Takes note of refused rows, a batch with the columns of [`TableSchema::refused_to_arrow`]: their keys have come.
    ///
    /// Errors: Data where a key comes a second time or holds a null.
    pub fn refuse(&mut self, batch: &RecordBatch) -> Result<()> {
        let keys = self.digests.keys_of_refused(batch)?;
        let nulls = |row: &usize| (0..self.schema.key.len()).any(|column| batch.column(column).is_null(*row));
        if let Some(first) = (0..batch.num_rows()).find(nulls) {
            return Err(self.null_key(batch, &(0..self.schema.key.len()).collect::<Vec<_>>(), first, 1));
        }
        for (position, key) in keys.into_iter().enumerate() {
            if matches!(self.keys.come(key)?, Some((_, Mark::Seen | Mark::New))) {
                return Err(self.repeated(batch, &(0..self.schema.key.len()).collect::<Vec<_>>(), position, 1));
            }
        }
        Ok(())
    }

    /// The positions of keys in the order in which they are looked for: that of the keys, where most are on disk.
    fn order(&self, keys: &[KeyDigest]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..keys.len()).collect();
        if self.keys.is_aside() {
            order.sort_by_key(|position| keys.get(*position));
        }
        order
    }

    /// How many keys came that had no entry before.
    pub fn new_keys(&self) -> u64 {
        self.keys.new_keys()
    }

    /// How many keys of the state before have not come: after a whole read or evaluation, those that are gone.
    pub fn unseen(&self) -> u64 {
        self.keys.unseen()
    }

    /// All keys, those of the state before and those that came.
    pub fn into_keys(self) -> Keys {
        self.keys
    }

    /// Rows that came.
    pub fn rows_seen(&self) -> u64 {
        self.rows_seen
    }

    /// Rows that are new or differ.
    pub fn rows_changed(&self) -> u64 {
        self.rows_changed
    }

    fn refuse_nulls(&self, batch: &RecordBatch) -> Result<()> {
        let key = self.schema.key_positions();
        let holds_null = |row: usize| key.iter().any(|p| batch.column(*p).is_null(row));
        if key.iter().all(|p| batch.column(*p).null_count() == 0) {
            return Ok(());
        }
        let rows: Vec<usize> = (0..batch.num_rows()).filter(|row| holds_null(*row)).collect();
        let Some(first) = rows.first() else { return Ok(()) };
        Err(self.null_key(batch, &key, *first, rows.len()))
    }

    fn null_key(&self, batch: &RecordBatch, key: &[usize], first: usize, count: usize) -> Error {
        Error::data(format!("the key of `{}` holds a null", self.relation))
            .with_detail(format!(
                "{count} of {} rows that came together, the first with {}",
                batch.num_rows(),
                self.named(batch, key, first)
            ))
            .with_hint("choose key columns that are never null, or leave such rows out")
            .with_context("relation", self.relation.clone())
    }

    fn repeated(&self, batch: &RecordBatch, key: &[usize], first: usize, count: usize) -> Error {
        Error::data(format!("a key of `{}` yields more than one row", self.relation))
            .with_detail(format!(
                "{} comes again; {count} such rows among {} that came together",
                self.named(batch, key, first),
                batch.num_rows()
            ))
            .with_hint("check that the key names the grain of the rows, and that no join multiplies them")
            .with_context("relation", self.relation.clone())
    }

    /// The key of a row, whose columns are at the positions of `key`, as `name=value, …`.
    fn named(&self, batch: &RecordBatch, key: &[usize], row: usize) -> String {
        short_key_text(&self.schema, batch, key, row)
    }
}

/// Keys of a state that are gone.
pub struct Gone {
    keys: Held,
    number: u64,
}

enum Held {
    Few(Arc<HashSet<KeyDigest>>),
    /// Those that have not come.
    Many(Box<Keys>),
}

impl Gone {
    /// The keys of the state before that have not come.
    ///
    /// Errors: Unavailable where they cannot be read from disk.
    pub fn of(mut keys: Keys) -> Result<Gone> {
        let number = keys.unseen();
        if number > keys.held_at_once() as u64 {
            return Ok(Gone { keys: Held::Many(Box::new(keys)), number });
        }
        let mut few = HashSet::new();
        if number > 0 {
            keys.each(|key, _, mark| {
                if mark == Mark::Unseen {
                    few.insert(key);
                }
            })?;
        }
        Ok(Gone { keys: Held::Few(Arc::new(few)), number })
    }

    /// How many keys are gone.
    pub fn len(&self) -> u64 {
        self.number
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.number == 0
    }

    /// Whether a key is one of them.
    ///
    /// Errors: as [`Gone::of`].
    pub fn contains(&mut self, key: &KeyDigest) -> Result<bool> {
        match &mut self.keys {
            Held::Few(keys) => Ok(keys.contains(key)),
            Held::Many(keys) => keys.is_unseen(key),
        }
    }
}

/// The keys that are gone, as batches for a file of tombstones or retractions: the entries of `state` whose key is in
/// `gone`, with the key's columns alone.
///
/// Errors in the stream: Internal, at its end, where the state does not have each of these keys; those of
/// [`State::scan`].
pub fn tombstones(state: &State, gone: Gone) -> BoxStream<'static, Result<RecordBatch>> {
    let wanted = gone.len();
    let state = state.clone();
    async_stream::try_stream! {
        let mut found = 0;
        match gone.keys {
            Held::Few(gone) if gone.is_empty() => {}
            Held::Few(gone) => {
                let mut keys = state.select_keys(gone);
                while let Some(batch) = keys.try_next().await? {
                    found += batch.num_rows() as u64;
                    yield batch;
                }
            }
            Held::Many(mut gone) => {
                let digests = Digests::new(state.schema())?;
                let mut keys = state.keys();
                while let Some(batch) = keys.try_next().await? {
                    let digests = digests.keys_of_key_batch(&batch)?;
                    let is_gone: Vec<bool> = digests.iter().map(|key| gone.is_unseen(key)).collect::<Result<_>>()?;
                    let is_gone = BooleanArray::from(is_gone);
                    let batch = filter_record_batch(&batch, &is_gone)
                        .map_err(|e| Error::internal("keys cannot be filtered").with_source(e))?;
                    found += batch.num_rows() as u64;
                    if batch.num_rows() > 0 {
                        yield batch;
                    }
                }
            }
        }
        if found != wanted {
            Err(Error::internal("keys that are gone were not in the state").with_detail(format!("{found} of {wanted} were")))?;
        }
    }
    .boxed()
}
