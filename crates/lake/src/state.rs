//! A table or model as of a manifest: per key the newest entry, row, refused row or tombstone.
//!
//! Who wants all rows reads all files, newest first (`walk.rs`). Who wants a few keys, or digests alone, asks the key index
//! (`index.rs`) for what it covers, and reads the files that are newer than it; of files that it covers, only the pages that
//! hold wanted rows are read. Without an index all of this comes from the files, and to the same.
//!
//! Keys that are kept on the way, and those of a whole table ([`State::index`]), are [`Keys`]: what does not fit in memory is
//! put aside.
//!
//! Within one manifest a tombstone comes before a refused row, that before a row of a window, and that before a row of a
//! full read: the closing window of a full read in chunks is newer than its chunks. A table without a key is the rows of
//! its files. A refused row is an entry of its key like any other: it hides the older row, and key counts know it.

mod walk;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use starlift_core::index::{Unit, newness, units};
use starlift_core::manifest::{FileMode, LiveFile};
use starlift_core::{Error, Result, TableSchema, fault};

use self::walk::{Ask, Entries, Wanted};
use crate::digest::{Digests, KeyDigest, RowDigest};
use crate::keys::Keys;
use crate::multiset::Multiset;
use crate::reader;
use crate::spill::Spill;
use crate::store::Store;

/// A table or model as of a manifest. Cloning is cheap; nothing is read before one of its methods asks.
#[derive(Debug, Clone)]
pub struct State {
    store: Store,
    schema: Arc<TableSchema>,
    arrow: SchemaRef,
    /// Newest first, without tombstones that are older than every row.
    files: Arc<[LiveFile]>,
    /// The same, with what the key index covers.
    units: Arc<[Unit]>,
}

impl State {
    /// The state that these files hold: `core::state::live_files` of a chain of manifests.
    ///
    /// Errors: Data for tombstones of a table without a key; Internal for a key that names no column.
    pub fn new(store: &Store, schema: TableSchema, files: Vec<LiveFile>) -> Result<State> {
        Digests::new(&schema)?;
        let deleted = |file: &LiveFile| file.file.mode == FileMode::Deleted;
        if schema.key.is_empty() && files.iter().any(deleted) {
            return Err(Error::data("a table without a key has tombstones"));
        }
        let (mut parts, mut files): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| file.file.mode == FileMode::Index);
        if fault::planted("tombstones_ignored") {
            files.retain(|file| !deleted(file));
            parts.clear();
        }
        let mut units = units(&[files.clone(), parts].concat());
        files.sort_by_key(newness);
        let oldest_row = files.iter().position(|file| !deleted(file)).unwrap_or(files.len());
        let too_old: Vec<LiveFile> = files.drain(..oldest_row).collect();
        // A part of the index counts the files that it covers: there they stay.
        units.iter_mut().filter(|unit| unit.parts.is_empty()).for_each(|unit| {
            unit.files.retain(|file| !too_old.contains(file));
        });
        units.retain(|unit| !unit.files.is_empty());
        files.reverse();
        let (arrow, schema) = (schema.to_arrow(), Arc::new(schema));
        Ok(State { store: store.clone(), arrow, schema, files: files.into(), units: units.into() })
    }

    /// Its columns and key.
    pub fn schema(&self) -> &TableSchema {
        &self.schema
    }

    /// The Arrow schema of its rows.
    pub fn arrow_schema(&self) -> SchemaRef {
        Arc::clone(&self.arrow)
    }

    /// Where what is read of it is put aside where it does not fit in memory.
    pub fn spill(&self) -> &Spill {
        self.store.spill()
    }

    /// Stored bytes of the files that a scan reads.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.file.bytes).sum()
    }

    /// Every row, in no particular order, with the columns at the positions of `projection` (all, where there is none).
    ///
    /// The stream yields batches of at most 8,192 rows, none of them empty. Errors in it: Data for a damaged file;
    /// those of [`Store::get`].
    pub fn scan(&self, projection: Option<Vec<usize>>) -> BoxStream<'static, Result<RecordBatch>> {
        self.newest(None, projection)
    }

    /// The rows of these keys, as [`State::scan`] yields them; keys without a row are passed over.
    pub fn select(
        &self,
        keys: Arc<HashSet<KeyDigest>>,
        projection: Option<Vec<usize>>,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        self.newest(Some(keys), projection)
    }

    /// The keys of all entries, refused rows included: batches of the key's columns, in the order of the key.
    pub fn keys(&self) -> BoxStream<'static, Result<RecordBatch>> {
        self.key_batches(None)
    }

    /// Those of these keys that have an entry, as [`State::keys`] yields them.
    pub fn select_keys(&self, keys: Arc<HashSet<KeyDigest>>) -> BoxStream<'static, Result<RecordBatch>> {
        self.key_batches(Some(keys))
    }

    /// Every refused row, with the columns of [`TableSchema::refused_to_arrow`].
    pub fn refused(&self) -> BoxStream<'static, Result<RecordBatch>> {
        let of_refused = |file: &&LiveFile| file.file.mode == FileMode::Refused;
        let files: Vec<LiveFile> = self.files.iter().filter(of_refused).cloned().collect();
        if files.is_empty() {
            return futures::stream::empty().boxed();
        }
        let state = self.clone();
        async_stream::try_stream! {
            // They are few, and whether one of them is the newest entry of its key is asked of these keys alone.
            let mut keys = None;
            if !state.schema.key.is_empty() {
                let digests = Digests::new(&state.schema)?;
                let mut found = HashSet::new();
                for live in &files {
                    let mut batches = reader::read(&state.store, &live.file, state.schema.refused_to_arrow(), None);
                    while let Some(batch) = batches.try_next().await? {
                        found.extend(digests.keys_of_refused(&batch)?);
                    }
                }
                keys = Some(Arc::new(found));
            }
            let mut entries = state.entries(Wanted { keys, ask: Ask::Nothing, refused: true });
            while let Some(entries) = entries.try_next().await? {
                if let Entries::Refused(batch) = entries {
                    yield batch;
                }
            }
        }
        .boxed()
    }

    /// The digests of the row, or of the refused row, of these keys; keys without an entry are left out.
    ///
    /// Errors: as in the stream of [`State::scan`].
    pub async fn find(&self, keys: &HashSet<KeyDigest>) -> Result<HashMap<KeyDigest, RowDigest>> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let mut found = HashMap::new();
        let mut digests = self.digest_entries(Some(Arc::new(keys.clone())));
        while let Some(some) = digests.try_next().await? {
            found.extend(some);
        }
        Ok(found)
    }

    /// The digests of the row, or of the refused row, of all keys.
    ///
    /// Errors: as in the stream of [`State::scan`]; Unavailable or Config where they cannot be put aside.
    pub async fn index(&self) -> Result<Keys> {
        let mut keys = Keys::empty(self.store.spill());
        let mut digests = self.digests();
        while let Some(some) = digests.try_next().await? {
            some.into_iter().try_for_each(|(key, row)| keys.add_before(key, row))?;
        }
        keys.complete()?;
        Ok(keys)
    }

    /// The digests of [`State::index`], some at a time, in no particular order; each key comes once.
    pub fn digests(&self) -> BoxStream<'static, Result<Vec<(KeyDigest, RowDigest)>>> {
        self.digest_entries(None)
    }

    /// The digests of the keys of all entries, refused rows included, some at a time; each key comes once.
    pub fn key_digests(&self) -> BoxStream<'static, Result<Vec<KeyDigest>>> {
        let entries = self.entries(Wanted { keys: None, ask: Ask::Keys, refused: true });
        let digests = Digests::new(&self.schema);
        let digests = Arc::new(digests);
        entries
            .map(move |entries| match (entries?, digests.as_ref()) {
                (Entries::Digests(found), _) => Ok(found.into_iter().map(|(key, _)| key).collect()),
                (Entries::Rows(batch), Ok(digests)) => digests.keys_of_key_batch(&batch),
                (Entries::Refused(batch), Ok(digests)) => digests.keys_of_refused(&batch),
                (_, Err(error)) => Err(Error::internal(error.message().to_string())),
            })
            .boxed()
    }

    /// How many rows it has, counted.
    ///
    /// Errors: as in the stream of [`State::scan`].
    pub async fn rows(&self) -> Result<u64> {
        self.scan(Some(Vec::new())).try_fold(0, |sum, batch| async move { Ok(sum + batch.num_rows() as u64) }).await
    }

    /// Its rows as a multiset, to compare tables without a key.
    ///
    /// Errors: as in the stream of [`State::scan`].
    pub async fn multiset(&self) -> Result<Multiset> {
        Multiset::of(&self.schema, self.scan(None)).await
    }

    fn key_batches(&self, keys: Option<Arc<HashSet<KeyDigest>>>) -> BoxStream<'static, Result<RecordBatch>> {
        let positions = self.schema.key_positions();
        let of_refused: Vec<usize> = (0..positions.len()).collect();
        let entries = self.entries(Wanted { keys, ask: Ask::Rows(positions), refused: true });
        entries
            .map(move |entries| match entries? {
                Entries::Rows(batch) => Ok(batch),
                Entries::Refused(batch) => batch.project(&of_refused).map_err(filtering),
                Entries::Digests(_) => Err(Error::internal("digests came where rows were asked for")),
            })
            .boxed()
    }

    fn digest_entries(
        &self,
        keys: Option<Arc<HashSet<KeyDigest>>>,
    ) -> BoxStream<'static, Result<Vec<(KeyDigest, RowDigest)>>> {
        let state = self.clone();
        async_stream::try_stream! {
            let digests = Digests::new(&state.schema)?;
            let mut entries = state.entries(Wanted { keys, ask: Ask::Digests, refused: true });
            while let Some(entries) = entries.try_next().await? {
                yield match entries {
                    Entries::Rows(batch) => digests.keys(&batch)?.into_iter().zip(digests.rows(&batch)?).collect(),
                    Entries::Refused(batch) => digests.refused(&batch)?,
                    Entries::Digests(found) => found,
                };
            }
        }
        .boxed()
    }

    /// Rows by the newest entry of their key: of the wanted keys, or of all.
    fn newest(
        &self,
        keys: Option<Arc<HashSet<KeyDigest>>>,
        projection: Option<Vec<usize>>,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        let columns = projection.unwrap_or_else(|| (0..self.arrow.fields().len()).collect());
        let entries = self.entries(Wanted { keys, ask: Ask::Rows(columns), refused: false });
        entries
            .map(|entries| match entries? {
                Entries::Rows(batch) | Entries::Refused(batch) => Ok(batch),
                Entries::Digests(_) => Err(Error::internal("digests came where rows were asked for")),
            })
            .boxed()
    }
}

fn filtering(error: arrow::error::ArrowError) -> Error {
    Error::internal("rows cannot be filtered").with_source(error)
}
