//! Upkeep of the files of a table or model: many small ones are merged, large ones are listed in the key index. No change:
//! what the state is as of any manifest stays the same (`starlift_core::index` decides what is due).
//!
//! **Crash story.** What is written here is named by no manifest until its run commits: a run that dies, or is superseded,
//! leaves files that vacuum removes. What was merged stays where it is: manifests before name it.
//!
//! Memory: rows of [`SORTED_BYTES`] three times over and a row group of what is merged, and the entries of one part of the
//! index. Keys are [`Keys`].

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use starlift_core::index::{self as decide, Unit, Upkeep};
use starlift_core::manifest::{FileMode, LiveFile};
use starlift_core::state::LiveFiles;
use starlift_core::{Error, Micros, Result, TableSchema, fault};

use crate::digest::{Digests, KeyDigest};
use crate::index;
use crate::keys::Keys;
use crate::reader;
use crate::store::Store;
use crate::writer::{FileWriter, PartNumbers, WriterOptions};

/// Bytes of merged rows, as Arrow holds them, that are sorted at once; what is more becomes files of its own.
const SORTED_BYTES: usize = 8 << 20;

/// What was done for one table or model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// Its live files from now on.
    pub live: LiveFiles,
    /// Files that were merged.
    pub merged: u64,
    /// Files that were made of them.
    pub into: u64,
    /// Entries that the new parts of the key index list.
    pub indexed: u64,
}

/// Does what is due for a table or model; none where nothing is. `at` must be claimed. Files of seqs after `settled` stay as
/// they are; `all` asks for everything that can be done at all.
///
/// Errors: Data for a damaged file; those of the store.
pub async fn upkeep(
    store: &Store,
    (name, at): (&str, Micros),
    schema: &TableSchema,
    live: &[LiveFile],
    (settled, all): (u64, bool),
) -> Result<Option<Done>> {
    if schema.key.is_empty() {
        return Ok(None);
    }
    let due = decide::due(live, settled, all);
    if due.is_empty() {
        return Ok(None);
    }
    let mut done = Done { live: live.to_vec(), ..Done::default() };
    let (merges, lists) = (PartNumbers::default(), PartNumbers::default());
    for what in due {
        let unit = match what {
            Upkeep::Index(unit) => unit,
            Upkeep::Merge(unit) => {
                let is_oldest = decide::units(&done.live).last().is_some_and(|oldest| oldest.from >= unit.from);
                let files = merge(store, (name, at), schema, &unit, is_oldest, &merges).await?;
                done.merged += unit.files.len() as u64;
                done.into += files.len() as u64;
                done.live = decide::replaced(&done.live, &unit, files.clone());
                let rows = files.iter().map(|file| file.file.rows).sum();
                // As readers of the state see them.
                match decide::units(&files).into_iter().next().filter(|_| decide::is_worth_it(rows)) {
                    Some(unit) => unit,
                    None => continue,
                }
            }
        };
        let parts = index::build(store, (name, at), schema, &unit, &lists).await?;
        done.indexed += parts.iter().map(|part| part.file.rows).sum::<u64>();
        done.live.extend(parts);
    }
    Ok(Some(done))
}

/// Entries of one mode, with their keys.
struct Kind {
    mode: FileMode,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    keys: Vec<KeyDigest>,
    bytes: usize,
}

/// Writes what is merged.
struct Merged<'a> {
    store: &'a Store,
    name: &'a str,
    at: Micros,
    numbers: &'a PartNumbers,
    /// The oldest and the newest seq of what is merged.
    range: (u64, u64),
    files: LiveFiles,
}

impl Merged<'_> {
    /// Writes what was gathered of a kind, sorted by key, and empties it.
    async fn write(&mut self, kind: &mut Kind) -> Result<()> {
        let (keys, batches) = (std::mem::take(&mut kind.keys), std::mem::take(&mut kind.batches));
        kind.bytes = 0;
        if keys.is_empty() {
            return Ok(());
        }
        let mut order: Vec<u32> = (0..u32::try_from(keys.len()).unwrap_or(u32::MAX)).collect();
        order.sort_unstable_by_key(|at| keys.get(*at as usize));
        let batch = concat_batches(&kind.schema, &batches).map_err(bug)?;
        drop(batches);
        let batch = take_record_batch(&batch, &UInt32Array::from(order)).map_err(bug)?;
        let options = WriterOptions::default();
        let writer = FileWriter::new(self.store, self.name, self.at, kind.schema.clone(), kind.mode, options)?;
        let mut writer = writer.numbered_by(self.numbers).merging();
        writer.write(&batch).await?;
        let (from, upto) = self.range;
        let live = |file| LiveFile { from: Some(from), ..LiveFile::new(upto, file) };
        self.files.extend(writer.finish().await?.into_iter().map(live));
        Ok(())
    }
}

/// Writes the newest entry of each key of a unit, each file sorted by key. Where nothing is older, tombstones hide nothing.
async fn merge(
    store: &Store,
    (name, at): (&str, Micros),
    schema: &TableSchema,
    unit: &Unit,
    is_oldest: bool,
    numbers: &PartNumbers,
) -> Result<LiveFiles> {
    let digests = Digests::new(schema)?;
    // The oldest rows are the base of those that come later, whatever they were before.
    let rows_mode = if is_oldest { FileMode::Full } else { FileMode::Window };
    let kind = |mode, schema| Kind { mode, schema, batches: Vec::new(), keys: Vec::new(), bytes: 0 };
    let mut kinds = [
        kind(rows_mode, schema.to_arrow()),
        kind(FileMode::Refused, schema.refused_to_arrow()),
        kind(FileMode::Deleted, schema.key_to_arrow()),
    ];
    let mut settled = Keys::empty(store.spill());
    let range = (unit.from, unit.upto);
    let mut merged = Merged { store, name, at, numbers, range, files: LiveFiles::new() };
    let mut files: Vec<&LiveFile> = unit.files.iter().collect();
    if fault::planted("merged_keeps_oldest") {
        files.reverse();
    }
    for live in files {
        let [rows, refused, deleted] = &mut kinds;
        let kind = match live.file.mode {
            FileMode::Refused => refused,
            FileMode::Deleted => deleted,
            FileMode::Full | FileMode::Window | FileMode::Index => rows,
        };
        let mut batches = reader::read(store, &live.file, kind.schema.clone(), None);
        while let Some(batch) = batches.try_next().await? {
            let keys = match live.file.mode {
                FileMode::Refused => digests.keys_of_refused(&batch)?,
                FileMode::Deleted => digests.keys_of_key_batch(&batch)?,
                FileMode::Full | FileMode::Window | FileMode::Index => digests.keys(&batch)?,
            };
            let mut newest: Vec<u32> = Vec::new();
            for (at, key) in (0u32..).zip(&keys) {
                if settled.insert(*key)? && !(is_oldest && kind.mode == FileMode::Deleted) {
                    newest.push(at);
                    kind.keys.push(*key);
                }
            }
            let rows = take_record_batch(&batch, &UInt32Array::from(newest)).map_err(bug)?;
            kind.bytes += rows.get_array_memory_size();
            kind.batches.push(rows);
            if kind.bytes >= SORTED_BYTES {
                merged.write(kind).await?;
            }
        }
    }
    for kind in &mut kinds {
        merged.write(kind).await?;
    }
    fault::point("lake.merged");
    Ok(merged.files)
}

fn bug(error: arrow::error::ArrowError) -> Error {
    Error::internal("rows cannot be merged").with_source(error)
}
