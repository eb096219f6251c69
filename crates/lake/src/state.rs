//! A table or model as of a manifest: per key the newest entry, row, refused row or tombstone.
//!
//! Files are read newest first. Of every file but the oldest the key digests are kept, so that an older entry of the same
//! key is passed over; the oldest, which is the base, streams through. They are [`Keys`]: what does not fit in memory is put
//! aside, and so is the index of a whole table ([`State::index`]).
//!
//! Within one manifest a tombstone comes before a refused row, that before a row of a window, and that before a row of a
//! full read: the closing window of a full read in chunks is newer than its chunks. A table without a key is the rows of
//! its files. A refused row is an entry of its key like any other: it hides the older row, and key counts know it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use starlift_core::manifest::{DataFile, FileMode, LiveFile};
use starlift_core::{Error, Result, TableSchema, fault};

use crate::digest::{Digests, KeyDigest, RowDigest};
use crate::keys::Keys;
use crate::multiset::Multiset;
use crate::reader::{VerifiedFile, fetch_all, project_schema};
use crate::spill::Spill;
use crate::store::Store;

/// What a walk over the entries of a state asks for.
#[derive(Clone)]
struct Wanted {
    /// These keys; all, where there are none.
    keys: Option<Arc<HashSet<KeyDigest>>>,
    /// Rows, with these columns; no rows, where there are none.
    rows: Option<Vec<usize>>,
    /// Whether refused rows are wanted.
    refused: bool,
}

/// Some entries of a state.
enum Entries {
    Rows(RecordBatch),
    /// With the columns of [`TableSchema::refused_to_arrow`].
    Refused(RecordBatch),
}

/// A table or model as of a manifest. Cloning is cheap; nothing is read before one of its methods asks.
#[derive(Debug, Clone)]
pub struct State {
    store: Store,
    schema: Arc<TableSchema>,
    arrow: SchemaRef,
    /// Newest first, without tombstones that are older than every row.
    files: Arc<[LiveFile]>,
}

impl State {
    /// The state that these files hold: `core::state::live_files` of a chain of manifests.
    ///
    /// Errors: Data for tombstones of a table without a key; Internal for a key that names no column.
    pub fn new(store: &Store, schema: TableSchema, files: Vec<LiveFile>) -> Result<State> {
        Digests::new(&schema)?;
        let mut files = files;
        files.sort_by_key(newness);
        let deleted = |file: &LiveFile| file.file.mode == FileMode::Deleted;
        if schema.key.is_empty() && files.iter().any(deleted) {
            return Err(Error::data("a table without a key has tombstones"));
        }
        files.retain(|file| !(deleted(file) && fault::planted("tombstones_ignored")));
        let oldest_row = files.iter().position(|file| !deleted(file)).unwrap_or(files.len());
        let files = files.split_off(oldest_row).into_iter().rev().collect();
        Ok(State { store: store.clone(), arrow: schema.to_arrow(), schema: Arc::new(schema), files })
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
        if !self.has_refused_files() {
            return futures::stream::empty().boxed();
        }
        let wanted = Wanted { keys: None, rows: None, refused: true };
        self.entries(wanted).map_ok(|(Entries::Rows(batch) | Entries::Refused(batch))| batch).boxed()
    }

    /// The digests of the row, or of the refused row, of these keys; keys without an entry are left out.
    ///
    /// Errors: as in the stream of [`State::scan`].
    pub async fn find(&self, keys: &HashSet<KeyDigest>) -> Result<HashMap<KeyDigest, RowDigest>> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let mut digests = self.digests_of(Some(Arc::new(keys.clone())));
        let mut found = HashMap::new();
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
        let mut digests = self.digests_of(None);
        while let Some(some) = digests.try_next().await? {
            some.into_iter().try_for_each(|(key, row)| keys.add_before(key, row))?;
        }
        keys.complete()?;
        Ok(keys)
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

    fn has_refused_files(&self) -> bool {
        self.files.iter().any(|file| file.file.mode == FileMode::Refused)
    }

    fn key_batches(&self, keys: Option<Arc<HashSet<KeyDigest>>>) -> BoxStream<'static, Result<RecordBatch>> {
        let positions = self.schema.key_positions();
        let of_refused: Vec<usize> = (0..positions.len()).collect();
        let entries = self.entries(Wanted { keys, rows: Some(positions), refused: true });
        entries
            .map(move |entries| match entries? {
                Entries::Rows(batch) => Ok(batch),
                Entries::Refused(batch) => batch.project(&of_refused).map_err(filtering),
            })
            .boxed()
    }

    fn digests_of(
        &self,
        keys: Option<Arc<HashSet<KeyDigest>>>,
    ) -> BoxStream<'static, Result<Vec<(KeyDigest, RowDigest)>>> {
        let rows = Some((0..self.arrow.fields().len()).collect());
        let mut entries = self.entries(Wanted { keys, rows, refused: true });
        let schema = Arc::clone(&self.schema);
        async_stream::try_stream! {
            let digests = Digests::new(&schema)?;
            while let Some(entries) = entries.try_next().await? {
                yield match entries {
                    Entries::Rows(batch) => digests.keys(&batch)?.into_iter().zip(digests.rows(&batch)?).collect(),
                    Entries::Refused(batch) => digests.refused(&batch)?,
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
        let entries = self.entries(Wanted { keys, rows: Some(columns), refused: false });
        entries.map_ok(|(Entries::Rows(batch) | Entries::Refused(batch))| batch).boxed()
    }

    /// The newest entries of keys.
    fn entries(&self, wanted: Wanted) -> BoxStream<'static, Result<Entries>> {
        let state = self.clone();
        async_stream::try_stream! {
            let Wanted { keys: wanted, rows: projection, refused } = wanted;
            let digests = Digests::new(&state.schema)?;
            let key_columns = state.schema.key_positions();
            let base = state.files.last().map(newness);
            let mut settled = Keys::empty(state.store.spill());
            let mut contents = fetch_all(&state.store, state.files.iter().map(|f| f.file.clone()).collect());
            for live in state.files.iter() {
                if wanted.as_ref().is_some_and(|wanted| settled.len() >= wanted.len() as u64) {
                    break;
                }
                let content = contents.try_next().await?.ok_or_else(|| missing_content(&live.file))?;
                let is_wanted = |key: &KeyDigest| wanted.as_ref().is_none_or(|wanted| wanted.contains(key));
                if live.file.mode == FileMode::Deleted {
                    let mut keys = content.batches(state.schema.key_to_arrow(), None, None);
                    while let Some(batch) = keys.try_next().await? {
                        settle(&mut settled, digests.keys_of_key_batch(&batch)?.into_iter().filter(is_wanted))?;
                    }
                    continue;
                }
                if live.file.mode == FileMode::Refused {
                    let mut rows = content.batches(state.schema.refused_to_arrow(), None, None);
                    while let Some(batch) = rows.try_next().await? {
                        if key_columns.is_empty() {
                            if refused {
                                yield Entries::Refused(batch);
                            }
                            continue;
                        }
                        let keys = digests.keys_of_refused(&batch)?;
                        let mask = masked(keys, |key| Ok(is_wanted(&key) && settled.insert(key)?))?;
                        if refused && mask.true_count() > 0 {
                            yield Entries::Refused(filter_record_batch(&batch, &mask).map_err(filtering)?);
                        }
                    }
                    continue;
                }
                let is_base = base == Some(newness(live));
                let Some(columns) = projection.clone() else {
                    // Only refused rows are wanted: newer rows hide them, and the base hides nothing.
                    if !is_base {
                        let mut keys = content.batches(Arc::clone(&state.arrow), Some(key_columns.clone()), None);
                        while let Some(batch) = keys.try_next().await? {
                            settle(&mut settled, digests.keys_of_key_batch(&batch)?)?;
                        }
                    }
                    continue;
                };
                let as_it_is = wanted.is_none() && (state.schema.key.is_empty() || (is_base && settled.is_empty()));
                if as_it_is {
                    let mut rows = content.batches(Arc::clone(&state.arrow), Some(columns), None);
                    while let Some(batch) = rows.try_next().await? {
                        yield Entries::Rows(batch);
                    }
                    continue;
                }
                // Nothing is older than the base, so its keys need not be kept, unless they are counted.
                let keep_keys = !is_base || wanted.is_some();
                let mut choose = |key: KeyDigest| {
                    Ok(is_wanted(&key) && if keep_keys { settled.insert(key)? } else { !settled.contains(&key)? })
                };
                if wanted.is_some() {
                    // Most files hold none of the wanted keys, and then their other columns are not decoded.
                    let chosen = choose_rows(&content, &state, &digests, &mut choose).await?;
                    if let Some(selection) = chosen {
                        let mut rows = content.batches(Arc::clone(&state.arrow), Some(columns), Some(selection));
                        while let Some(batch) = rows.try_next().await? {
                            yield Entries::Rows(batch);
                        }
                    }
                    continue;
                }
                let read: Vec<usize> = columns.iter().chain(&key_columns).copied().collect();
                let yielded: Vec<usize> = (0..columns.len()).collect();
                let mut rows = content.batches(Arc::clone(&state.arrow), Some(read), None);
                while let Some(batch) = rows.try_next().await? {
                    let keys = digests.keys_of_columns(&batch.columns()[columns.len()..])?;
                    let mask = masked(keys, &mut choose)?;
                    if mask.true_count() > 0 {
                        let batch = batch.project(&yielded).and_then(|b| filter_record_batch(&b, &mask));
                        yield Entries::Rows(batch.map_err(filtering)?);
                    }
                }
            }
            // A wrong projection is an error also where there is no file to find it in.
            project_schema(&state.arrow, &projection.unwrap_or_default())?;
        }
        .boxed()
    }
}

fn filtering(error: arrow::error::ArrowError) -> Error {
    Error::internal("rows cannot be filtered").with_source(error)
}

/// Takes note of keys whose newest entry was met.
fn settle(settled: &mut Keys, keys: impl IntoIterator<Item = KeyDigest>) -> Result<()> {
    keys.into_iter().try_for_each(|key| settled.insert(key).map(|_| ()))
}

/// For each key whether it is chosen.
fn masked(keys: Vec<KeyDigest>, choose: impl FnMut(KeyDigest) -> Result<bool>) -> Result<BooleanArray> {
    Ok(keys.into_iter().map(choose).collect::<Result<Vec<bool>>>()?.into())
}

/// Later files hide earlier ones.
fn newness(file: &LiveFile) -> (u64, u8) {
    let mode = match file.file.mode {
        FileMode::Full => 0,
        FileMode::Window => 1,
        FileMode::Refused => 2,
        FileMode::Deleted => 3,
    };
    (file.seq, mode)
}

/// The rows of a file whose key is chosen; none where there are none.
async fn choose_rows(
    content: &VerifiedFile,
    state: &State,
    digests: &Digests,
    choose: &mut impl FnMut(KeyDigest) -> Result<bool>,
) -> Result<Option<RowSelection>> {
    let mut selectors: Vec<RowSelector> = Vec::new();
    let mut any = false;
    let mut keys = content.batches(Arc::clone(&state.arrow), Some(state.schema.key_positions()), None);
    while let Some(batch) = keys.try_next().await? {
        for key in digests.keys_of_key_batch(&batch)? {
            let chosen = choose(key)?;
            any |= chosen;
            match selectors.last_mut() {
                Some(last) if last.skip != chosen => last.row_count += 1,
                _ => selectors.push(if chosen { RowSelector::select(1) } else { RowSelector::skip(1) }),
            }
        }
    }
    Ok(any.then(|| selectors.into()))
}

fn missing_content(file: &DataFile) -> Error {
    Error::internal(format!("data file `{}` was not fetched", file.key))
}
