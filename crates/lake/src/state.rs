//! A table or model as of a manifest: per key the newest entry, row or tombstone.
//!
//! Files are read newest first. Of every file but the oldest the key digests are kept, so that an older entry of the same
//! key is passed over; the oldest, which is the base, streams through. So memory follows what was written since the
//! base, about 30 bytes per key, and not the size of the table. [`State::index`] is the exception: it holds the whole
//! table in about 60 bytes per key.
//!
//! Within one manifest a tombstone comes before a row of a window, and that before a row of a full read: the closing
//! window of a full read in chunks is newer than its chunks. A table without a key is the rows of its files.

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
use crate::multiset::Multiset;
use crate::reader::{VerifiedFile, fetch_all, project_schema};
use crate::store::Store;

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

    /// The keys of all rows: batches of the key's columns, in the order of the key.
    pub fn keys(&self) -> BoxStream<'static, Result<RecordBatch>> {
        self.scan(Some(self.schema.key_positions()))
    }

    /// The row digests of these keys; keys without a row are left out.
    ///
    /// Errors: as in the stream of [`State::scan`].
    pub async fn find(&self, keys: &HashSet<KeyDigest>) -> Result<HashMap<KeyDigest, RowDigest>> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        self.digests_of(self.select(Arc::new(keys.clone()), None)).await
    }

    /// The row digests of all keys: about 60 bytes of memory for each.
    ///
    /// Errors: as in the stream of [`State::scan`].
    pub async fn index(&self) -> Result<HashMap<KeyDigest, RowDigest>> {
        self.digests_of(self.scan(None)).await
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

    async fn digests_of(
        &self,
        mut batches: BoxStream<'static, Result<RecordBatch>>,
    ) -> Result<HashMap<KeyDigest, RowDigest>> {
        let digests = Digests::new(&self.schema)?;
        let mut found = HashMap::new();
        while let Some(batch) = batches.try_next().await? {
            found.extend(digests.keys(&batch)?.into_iter().zip(digests.rows(&batch)?));
        }
        Ok(found)
    }

    /// Rows by the newest entry of their key: of the wanted keys, or of all.
    fn newest(
        &self,
        wanted: Option<Arc<HashSet<KeyDigest>>>,
        projection: Option<Vec<usize>>,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        let state = self.clone();
        async_stream::try_stream! {
            let columns = projection.unwrap_or_else(|| (0..state.arrow.fields().len()).collect());
            let digests = Digests::new(&state.schema)?;
            let key_columns = state.schema.key_positions();
            let base = state.files.last().map(newness);
            let mut settled: HashSet<KeyDigest> = HashSet::new();
            let mut contents = fetch_all(&state.store, state.files.iter().map(|f| f.file.clone()).collect());
            for live in state.files.iter() {
                if wanted.as_ref().is_some_and(|wanted| settled.len() >= wanted.len()) {
                    break;
                }
                let content = contents.try_next().await?.ok_or_else(|| missing_content(&live.file))?;
                let is_wanted = |key: &KeyDigest| wanted.as_ref().is_none_or(|wanted| wanted.contains(key));
                if live.file.mode == FileMode::Deleted {
                    let mut keys = content.batches(state.schema.key_to_arrow(), None, None);
                    while let Some(batch) = keys.try_next().await? {
                        settled.extend(digests.keys_of_key_batch(&batch)?.into_iter().filter(is_wanted));
                    }
                    continue;
                }
                let is_base = base == Some(newness(live));
                let as_it_is = wanted.is_none() && (state.schema.key.is_empty() || (is_base && settled.is_empty()));
                if as_it_is {
                    let mut rows = content.batches(Arc::clone(&state.arrow), Some(columns.clone()), None);
                    while let Some(batch) = rows.try_next().await? {
                        yield batch;
                    }
                    continue;
                }
                // Nothing is older than the base, so its keys need not be kept, unless they are counted.
                let keep_keys = !is_base || wanted.is_some();
                let mut choose = |key: KeyDigest| {
                    is_wanted(&key) && if keep_keys { settled.insert(key) } else { !settled.contains(&key) }
                };
                if wanted.is_some() {
                    // Most files hold none of the wanted keys, and then their other columns are not decoded.
                    let chosen = choose_rows(&content, &state, &digests, &mut choose).await?;
                    if let Some(selection) = chosen {
                        let mut rows = content.batches(Arc::clone(&state.arrow), Some(columns.clone()), Some(selection));
                        while let Some(batch) = rows.try_next().await? {
                            yield batch;
                        }
                    }
                    continue;
                }
                let read: Vec<usize> = columns.iter().chain(&key_columns).copied().collect();
                let yielded: Vec<usize> = (0..columns.len()).collect();
                let mut rows = content.batches(Arc::clone(&state.arrow), Some(read), None);
                while let Some(batch) = rows.try_next().await? {
                    let keys = digests.keys_of(&batch.columns()[columns.len()..])?;
                    let mask: BooleanArray = keys.into_iter().map(|key| Some(choose(key))).collect();
                    if mask.true_count() > 0 {
                        let batch = batch.project(&yielded).and_then(|b| filter_record_batch(&b, &mask));
                        yield batch.map_err(|e| Error::internal("rows cannot be filtered").with_source(e))?;
                    }
                }
            }
            // A wrong projection is an error also where there is no file to find it in.
            project_schema(&state.arrow, &columns)?;
        }
        .boxed()
    }
}

/// Later files hide earlier ones.
fn newness(file: &LiveFile) -> (u64, u8) {
    let mode = match file.file.mode {
        FileMode::Full => 0,
        FileMode::Window => 1,
        FileMode::Deleted => 2,
    };
    (file.seq, mode)
}

/// The rows of a file whose key is chosen; none where there are none.
async fn choose_rows(
    content: &VerifiedFile,
    state: &State,
    digests: &Digests,
    choose: &mut impl FnMut(KeyDigest) -> bool,
) -> Result<Option<RowSelection>> {
    let mut selectors: Vec<RowSelector> = Vec::new();
    let mut any = false;
    let mut keys = content.batches(Arc::clone(&state.arrow), Some(state.schema.key_positions()), None);
    while let Some(batch) = keys.try_next().await? {
        for key in digests.keys_of_key_batch(&batch)? {
            let chosen = choose(key);
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
