//! The walk over the entries of a state, newest first.
//!
//! Of every file but the oldest the key digests are kept, so that an older entry of the same key is passed over; the oldest,
//! which is the base, streams through. They are [`Keys`]: what does not fit in memory is put aside.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use starlift_core::index::{Unit, newness};
use starlift_core::manifest::{DataFile, FileMode, LiveFile};
use starlift_core::{Error, Result};

use super::{State, filtering};
use crate::digest::{Digests, KeyDigest, RowDigest};
use crate::index::{self, Entry};
use crate::keys::Keys;
use crate::reader::{Verified, damaged, fetch_all, project_schema};

/// Bytes up to which a file is read whole for a few of its rows.
const WHOLE_BYTES: u64 = 256 << 10;
/// Units of the key index that are asked side by side: compactions leave a few of each size, and runs some more.
const UNITS_AT_ONCE: usize = 4;

/// What a walk asks for.
#[derive(Clone)]
pub(super) struct Wanted {
    /// These keys; all, where there are none.
    pub(super) keys: Option<Arc<HashSet<KeyDigest>>>,
    /// What is wanted of rows.
    pub(super) ask: Ask,
    /// Whether refused rows are wanted.
    pub(super) refused: bool,
}

#[derive(Clone)]
pub(super) enum Ask {
    /// The columns at these positions.
    Rows(Vec<usize>),
    /// The digests of key and row, or what they are made of: all columns.
    Digests,
    /// The digests of the keys, or what they are made of: the columns of the key.
    Keys,
    /// Rows are not wanted.
    Nothing,
}

/// Some entries of a state.
pub(super) enum Entries {
    Rows(RecordBatch),
    /// With the columns of [`starlift_core::TableSchema::refused_to_arrow`].
    Refused(RecordBatch),
    /// What the index says of rows and refused rows.
    Digests(Vec<(KeyDigest, RowDigest)>),
}

/// Neighbouring files that are looked at in one way.
enum Layer {
    Files(Vec<LiveFile>),
    Index(Unit),
}

impl State {
    /// The files by how they are read for this: by the index where it knows what is asked for.
    fn layers(&self, wanted: &Wanted) -> Vec<Layer> {
        let by_index = wanted.keys.is_some() || matches!(wanted.ask, Ask::Digests | Ask::Keys);
        if !by_index || self.schema.key.is_empty() {
            return vec![Layer::Files(self.files.to_vec())];
        }
        let mut layers: Vec<Layer> = Vec::new();
        for unit in self.units.iter() {
            match layers.last_mut() {
                _ if !unit.parts.is_empty() => layers.push(Layer::Index(unit.clone())),
                Some(Layer::Files(files)) => files.extend(unit.files.iter().cloned()),
                _ => layers.push(Layer::Files(unit.files.clone())),
            }
        }
        layers
    }

    /// The newest entries of keys.
    pub(super) fn entries(&self, wanted: Wanted) -> BoxStream<'static, Result<Entries>> {
        let state = self.clone();
        async_stream::try_stream! {
            let digests = Digests::new(&state.schema)?;
            let mut settled = Keys::empty(state.store.spill());
            let mut layers = state.layers(&wanted).into_iter().peekable();
            while let Some(layer) = layers.next() {
                if wanted.keys.as_ref().is_some_and(|keys| settled.len() >= keys.len() as u64) {
                    break;
                }
                let is_last = layers.peek().is_none();
                match layer {
                    Layer::Files(files) => {
                        let mut entries = std::pin::pin!(state.of_files(files, is_last, &wanted, &digests, &mut settled));
                        while let Some(entries) = entries.try_next().await? {
                            yield entries;
                        }
                    }
                    Layer::Index(unit) => {
                        let Some(keys) = wanted.keys.clone() else {
                            let mut entries = std::pin::pin!(state.all_of_unit(unit, is_last, &mut settled));
                            while let Some(entries) = entries.try_next().await? {
                                yield entries;
                            }
                            continue;
                        };
                        let mut units = vec![unit];
                        while units.len() < UNITS_AT_ONCE {
                            match layers.next_if(|layer| matches!(layer, Layer::Index(_))) {
                                Some(Layer::Index(unit)) => units.push(unit),
                                _ => break,
                            }
                        }
                        let mut entries = std::pin::pin!(state.of_units(units, keys, &wanted, &digests, &mut settled));
                        while let Some(entries) = entries.try_next().await? {
                            yield entries;
                        }
                    }
                }
            }
            // A wrong projection is an error also where there is no file to find it in.
            if let Ask::Rows(columns) = &wanted.ask {
                project_schema(&state.arrow, columns)?;
            }
        }
        .boxed()
    }

    /// The entries of files that are read themselves.
    fn of_files<'a>(
        &'a self,
        files: Vec<LiveFile>,
        is_last: bool,
        wanted: &'a Wanted,
        digests: &'a Digests,
        settled: &'a mut Keys,
    ) -> impl futures::Stream<Item = Result<Entries>> + Send + 'a {
        async_stream::try_stream! {
            let Wanted { keys: wanted, ask, refused } = wanted;
            let key_columns = self.schema.key_positions();
            let projection = match ask {
                Ask::Rows(columns) => Some(columns.clone()),
                Ask::Digests => Some((0..self.arrow.fields().len()).collect()),
                Ask::Keys => Some(key_columns.clone()),
                Ask::Nothing => None,
            };
            let base = files.last().map(newness).filter(|_| is_last);
            let mut contents = fetch_all(&self.store, files.iter().map(|f| f.file.clone()).collect());
            for live in &files {
                if wanted.as_ref().is_some_and(|wanted| settled.len() >= wanted.len() as u64) {
                    break;
                }
                let content = contents.try_next().await?.ok_or_else(|| missing_content(&live.file))?;
                let is_wanted = |key: &KeyDigest| wanted.as_ref().is_none_or(|wanted| wanted.contains(key));
                if live.file.mode == FileMode::Deleted {
                    let mut keys = content.batches(self.schema.key_to_arrow(), None, None);
                    while let Some(batch) = keys.try_next().await? {
                        settle(settled, digests.keys_of_key_batch(&batch)?.into_iter().filter(is_wanted))?;
                    }
                    continue;
                }
                if live.file.mode == FileMode::Refused {
                    let mut rows = content.batches(self.schema.refused_to_arrow(), None, None);
                    while let Some(batch) = rows.try_next().await? {
                        if key_columns.is_empty() {
                            if *refused {
                                yield Entries::Refused(batch);
                            }
                            continue;
                        }
                        let keys = digests.keys_of_refused(&batch)?;
                        let mask = masked(keys, |key| Ok(is_wanted(&key) && settled.insert(key)?))?;
                        if *refused && mask.true_count() > 0 {
                            yield Entries::Refused(filter_record_batch(&batch, &mask).map_err(filtering)?);
                        }
                    }
                    continue;
                }
                let is_base = base == Some(newness(live));
                let Some(columns) = projection.clone() else {
                    // Only refused rows are wanted: newer rows hide them, and the base hides nothing.
                    if !is_base && !key_columns.is_empty() {
                        let mut keys = content.batches(Arc::clone(&self.arrow), Some(key_columns.clone()), None);
                        while let Some(batch) = keys.try_next().await? {
                            settle(settled, digests.keys_of_key_batch(&batch)?.into_iter().filter(is_wanted))?;
                        }
                    }
                    continue;
                };
                let as_it_is = wanted.is_none() && (key_columns.is_empty() || (is_base && settled.is_empty()));
                if as_it_is {
                    let mut rows = content.batches(Arc::clone(&self.arrow), Some(columns), None);
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
                    let chosen = choose_rows(&content, self, digests, &mut choose).await?;
                    if let Some(selection) = chosen {
                        let mut rows = content.batches(Arc::clone(&self.arrow), Some(columns), Some(selection));
                        while let Some(batch) = rows.try_next().await? {
                            yield Entries::Rows(batch);
                        }
                    }
                    continue;
                }
                let read: Vec<usize> = columns.iter().chain(&key_columns).copied().collect();
                let yielded: Vec<usize> = (0..columns.len()).collect();
                let mut rows = content.batches(Arc::clone(&self.arrow), Some(read), None);
                while let Some(batch) = rows.try_next().await? {
                    let keys = digests.keys_of_columns(&batch.columns()[columns.len()..])?;
                    let mask = masked(keys, &mut choose)?;
                    if mask.true_count() > 0 {
                        let batch = batch.project(&yielded).and_then(|b| filter_record_batch(&b, &mask));
                        yield Entries::Rows(batch.map_err(filtering)?);
                    }
                }
            }
        }
    }

    /// All entries of what the index covers, as it says.
    fn all_of_unit<'a>(
        &'a self,
        unit: Unit,
        is_last: bool,
        settled: &'a mut Keys,
    ) -> impl futures::Stream<Item = Result<Entries>> + Send + 'a {
        async_stream::try_stream! {
            let mut parts = index::all(&self.store, &unit);
            while let Some(entries) = parts.try_next().await? {
                let mut found = Vec::with_capacity(entries.len());
                for entry in entries {
                    let is_newest =
                        if is_last { !settled.contains(&entry.key)? } else { settled.insert(entry.key)? };
                    found.extend(entry.row.filter(|_| is_newest).map(|row| (entry.key, row)));
                }
                yield Entries::Digests(found);
            }
        }
    }

    /// The entries of these keys in what the index covers. The units, newest first, are asked side by side for all keys that
    /// are open: what a newer one has is passed over in older ones.
    fn of_units<'a>(
        &'a self,
        units: Vec<Unit>,
        keys: Arc<HashSet<KeyDigest>>,
        wanted: &'a Wanted,
        digests: &'a Digests,
        settled: &'a mut Keys,
    ) -> impl futures::Stream<Item = Result<Entries>> + Send + 'a {
        async_stream::try_stream! {
            let mut open: Vec<KeyDigest> = Vec::new();
            for key in keys.iter() {
                if !settled.contains(key)? {
                    open.push(*key);
                }
            }
            open.sort_unstable();
            let (open, store) = (Arc::<[KeyDigest]>::from(open), self.store.clone());
            let asked = stream::iter(units.clone()).map(move |unit| index::find(store.clone(), unit, Arc::clone(&open)));
            // All answers are there before the first row is given on: who takes it may take long.
            let asked: Vec<Vec<Entry>> = asked.buffered(UNITS_AT_ONCE).try_collect().await?;
            for (unit, of_unit) in units.into_iter().zip(asked) {
                let mut found: Vec<Entry> = Vec::with_capacity(of_unit.len());
                for entry in of_unit {
                    if settled.insert(entry.key)? {
                        found.push(entry);
                    }
                }
                if matches!(wanted.ask, Ask::Digests | Ask::Keys) {
                    yield Entries::Digests(found.iter().filter_map(|entry| Some((entry.key, entry.row?))).collect());
                    continue;
                }
                let mut by_file: BTreeMap<u32, Vec<Entry>> = BTreeMap::new();
                for entry in found {
                    by_file.entry(entry.file).or_default().push(entry);
                }
                for (file, entries) in by_file {
                    let number = usize::try_from(file).unwrap_or(usize::MAX);
                    let misses = || misled(unit.parts.first(), "names a file that it does not cover");
                    let live = unit.files.get(number).ok_or_else(misses)?;
                    let mut rows = std::pin::pin!(self.rows_at(live, entries, wanted, digests));
                    while let Some(entries) = rows.try_next().await? {
                        yield entries;
                    }
                }
            }
        }
    }

    /// The entries at some places of a file. That they are those of the keys which the index named is looked at again.
    fn rows_at<'a>(
        &'a self,
        live: &'a LiveFile,
        mut entries: Vec<Entry>,
        wanted: &'a Wanted,
        digests: &'a Digests,
    ) -> impl futures::Stream<Item = Result<Entries>> + Send + 'a {
        async_stream::try_stream! {
            let key_columns = self.schema.key_positions();
            let (arrow, columns, keys) = match (live.file.mode, &wanted.ask) {
                (FileMode::Full | FileMode::Window, Ask::Rows(columns)) => (Arc::clone(&self.arrow), columns.clone(), key_columns),
                (FileMode::Refused, _) if wanted.refused => {
                    let arrow = self.schema.refused_to_arrow();
                    let all = (0..arrow.fields().len()).collect();
                    (arrow, all, (0..key_columns.len()).collect())
                }
                _ => return,
            };
            entries.sort_unstable_by_key(|entry| entry.position);
            let positions: Vec<u32> = entries.iter().map(|entry| entry.position).collect();
            if positions.last().is_some_and(|last| u64::from(*last) >= live.file.rows) {
                Err(misled(Some(live), "has fewer rows than the key index says"))?;
            }
            let content = Verified::of_some_rows(&self.store, &live.file, WHOLE_BYTES).await?;
            let read: Vec<usize> = columns.iter().chain(&keys).copied().collect();
            let yielded: Vec<usize> = (0..columns.len()).collect();
            let mut expected = entries.iter().map(|entry| entry.key);
            let mut batches = content.batches(arrow, Some(read), Some(index::select(&positions, live.file.rows)));
            while let Some(batch) = batches.try_next().await? {
                let found = digests.keys_of_columns(&batch.columns()[columns.len()..])?;
                if found.into_iter().any(|key| expected.next() != Some(key)) {
                    Err(misled(Some(live), "does not hold the keys that the key index says"))?;
                }
                let batch = batch.project(&yielded).map_err(filtering)?;
                yield match live.file.mode {
                    FileMode::Refused => Entries::Refused(batch),
                    _ => Entries::Rows(batch),
                };
            }
            if expected.next().is_some() {
                Err(misled(Some(live), "has fewer rows than the key index says"))?;
            }
        }
    }
}

/// Takes note of keys whose newest entry was met.
fn settle(settled: &mut Keys, keys: impl IntoIterator<Item = KeyDigest>) -> Result<()> {
    keys.into_iter().try_for_each(|key| settled.insert(key).map(|_| ()))
}

/// For each key whether it is chosen.
fn masked(keys: Vec<KeyDigest>, choose: impl FnMut(KeyDigest) -> Result<bool>) -> Result<BooleanArray> {
    Ok(keys.into_iter().map(choose).collect::<Result<Vec<bool>>>()?.into())
}

/// The rows of a file whose key is chosen; none where there are none.
async fn choose_rows(
    content: &Verified,
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

fn misled(file: Option<&LiveFile>, detail: &str) -> Error {
    match file {
        Some(live) => damaged(&live.file, detail, "data file and key index do not fit together".into()),
        None => Error::internal("a key index without parts was asked"),
    }
}
