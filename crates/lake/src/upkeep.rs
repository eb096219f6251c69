//! Upkeep of the files of a table or model: small ones are merged, large ones are listed in the key index. No change: what the
//! state is as of any manifest stays the same (`starlift_core::index` decides what is due).
//!
//! **Crash story.** What is written here is named by no manifest until its run commits: a run that dies, or is superseded,
//! leaves files that vacuum removes. What was merged stays where it is: manifests before name it. A step that fails or has no
//! time left is as if it had never begun, and the steps before it stay: the run commits without it.
//!
//! Memory: rows of [`SORTED_BYTES`] three times over and as much for the row groups of what is merged, and the entries of one
//! part of the index. Keys are [`Keys`].

use std::collections::VecDeque;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use starlift_core::index::{self as decide, Extent, Unit, Upkeep};
use starlift_core::manifest::{FileMode, LiveFile};
use starlift_core::state::LiveFiles;
use starlift_core::{Error, Micros, Result, TableSchema, fault};
use tokio::time::Instant;

use crate::digest::{Digests, KeyDigest};
use crate::index;
use crate::keys::Keys;
use crate::reader;
use crate::store::Store;
use crate::writer::{FileWriter, PartNumbers, WriterOptions};

/// Bytes of merged rows, as Arrow holds them, that are sorted at once; what is more is sorted by itself.
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

/// Does what is due for a table or model; none where nothing is. `at` must be claimed.
///
/// Errors: Data for a damaged file; those of the store. Then nothing of it is to be used.
pub async fn upkeep(
    store: &Store,
    of: (&str, Micros),
    schema: &TableSchema,
    live: &[LiveFile],
    extent: Extent,
) -> Result<Option<Done>> {
    match in_time(store, of, schema, live, extent, None).await {
        (_, Some(error)) => Err(error),
        (done, None) => Ok(done),
    }
}

/// As [`upkeep`], but for those whose commit must not wait for it: what is not done by `until`, or fails, is left, and why comes
/// with what was done before it.
pub async fn in_time(
    store: &Store,
    (name, at): (&str, Micros),
    schema: &TableSchema,
    live: &[LiveFile],
    extent: Extent,
    until: Option<Instant>,
) -> (Option<Done>, Option<Error>) {
    if schema.key.is_empty() {
        return (None, None);
    }
    let mut due = VecDeque::from(decide::due(live, extent));
    let work = Work { store, name, at, schema, merges: PartNumbers::default(), lists: PartNumbers::default() };
    let mut done: Option<Done> = None;
    while let Some(what) = due.pop_front() {
        let complete = work.complete();
        let before = done.clone().unwrap_or_else(|| Done { live: live.to_vec(), ..Done::default() });
        // Boxed: its state is large, and a stack of debug builds small.
        let step = Box::pin(work.step(before, what, Pace { begun: Instant::now(), until }));
        let outcome = match until {
            None => step.await,
            Some(until) => tokio::time::timeout_at(until, step).await.unwrap_or_else(|_| Err(no_time())),
        };
        match outcome {
            Ok((after, next)) => {
                done = Some(after);
                if let Some(next) = next {
                    due.push_front(next);
                }
            }
            Err(error) => {
                work.give_back(&complete).await;
                return (done, Some(error));
            }
        }
    }
    (done, None)
}

/// How a step comes on that has to be over at some time: one that will not is given up early, not again in each run at the end.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    begun: Instant,
    until: Option<Instant>,
}

impl Pace {
    /// Errors: Unavailable where what is left will take longer than there is time.
    pub(crate) fn check(&self, done: u64, of: u64) -> Result<()> {
        let Some(until) = self.until else { return Ok(()) };
        let given = until.saturating_duration_since(self.begun);
        if decide::is_hopeless((done, of), self.begun.elapsed(), given) { Err(no_time()) } else { Ok(()) }
    }
}

fn no_time() -> Error {
    Error::unavailable("the run's time is needed for its commit")
        .with_detail("merging files and listing their keys takes a share of the time that is left")
        .with_hint("`starlift lake compact` does it without a limit")
}

/// What the steps for one table or model have in common.
struct Work<'a> {
    store: &'a Store,
    name: &'a str,
    at: Micros,
    schema: &'a TableSchema,
    merges: PartNumbers,
    lists: PartNumbers,
}

impl Work<'_> {
    /// One step: what is done with it, and what is due because of it.
    async fn step(&self, mut done: Done, what: Upkeep, pace: Pace) -> Result<(Done, Option<Upkeep>)> {
        match what {
            Upkeep::Index(unit) => {
                if fault::planted("endless_index") {
                    std::future::pending::<()>().await;
                }
                let of = (self.name, self.at);
                let parts = index::build(self.store, of, self.schema, &unit, &self.lists, pace).await?;
                done.indexed += parts.iter().map(|part| part.file.rows).sum::<u64>();
                done.live.extend(parts);
                Ok((done, None))
            }
            Upkeep::Merge(unit) => {
                let is_oldest = decide::units(&done.live).last().is_some_and(|oldest| oldest.from >= unit.from);
                let files = self.merge(&unit, is_oldest).await?;
                done.merged += unit.files.len() as u64;
                done.into += files.len() as u64;
                done.live = decide::replaced(&done.live, &unit, files.clone());
                let rows = files.iter().map(|file| file.file.rows).sum();
                // As readers of the state see them.
                let next = decide::units(&files).into_iter().next().filter(|_| decide::is_worth_it(rows));
                Ok((done, next.map(Upkeep::Index)))
            }
        }
    }

    /// The keys of all files that were written.
    fn complete(&self) -> Vec<String> {
        [self.merges.complete(), self.lists.complete()].concat()
    }

    /// Makes room again where a step wrote files that nothing will name: a disk that is full of them would keep the run from
    /// its commit. Those that were there `before` are of steps that stay.
    async fn give_back(&self, before: &[String]) {
        let of_step = self.complete().into_iter().filter(|key| !before.contains(key));
        self.store.give_back(of_step.collect()).await;
    }
}

/// Entries of one mode, with their keys.
struct Kind {
    mode: FileMode,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    keys: Vec<KeyDigest>,
    bytes: usize,
    writer: Option<FileWriter>,
}

impl Kind {
    fn new(mode: FileMode, schema: SchemaRef) -> Kind {
        Kind { mode, schema, batches: Vec::new(), keys: Vec::new(), bytes: 0, writer: None }
    }
}

impl Work<'_> {
    /// Writes the newest entry of each key of a unit, sorted by key as far as [`SORTED_BYTES`] go. Where nothing is older,
    /// tombstones hide nothing.
    async fn merge(&self, unit: &Unit, is_oldest: bool) -> Result<LiveFiles> {
        let (store, schema) = (self.store, self.schema);
        let digests = Digests::new(schema)?;
        // The oldest rows are the base of those that come later, whatever they were before.
        let rows_mode = if is_oldest { FileMode::Full } else { FileMode::Window };
        let mut kinds = [
            Kind::new(rows_mode, schema.to_arrow()),
            Kind::new(FileMode::Refused, schema.refused_to_arrow()),
            Kind::new(FileMode::Deleted, schema.key_to_arrow()),
        ];
        let mut settled = Keys::empty(store.spill());
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
                    self.write(kind).await?;
                }
            }
        }
        let mut merged = LiveFiles::new();
        let live = |file| LiveFile { from: Some(unit.from), ..LiveFile::new(unit.upto, file) };
        for mut kind in kinds {
            self.write(&mut kind).await?;
            if let Some(writer) = kind.writer {
                merged.extend(writer.finish().await?.into_iter().map(live));
            }
        }
        fault::point("lake.merged");
        Ok(merged)
    }

    /// Writes what was gathered of a kind, sorted by key, and empties it.
    async fn write(&self, kind: &mut Kind) -> Result<()> {
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
        let writer = match kind.writer.take() {
            Some(writer) => kind.writer.insert(writer),
            None => {
                let options = WriterOptions { row_group_bytes: SORTED_BYTES, ..WriterOptions::default() };
                let writer = FileWriter::new(self.store, self.name, self.at, kind.schema.clone(), kind.mode, options)?;
                kind.writer.insert(writer.numbered_by(&self.merges).merging())
            }
        };
        writer.write(&batch).await
    }
}

fn bug(error: arrow::error::ArrowError) -> Error {
    Error::internal("rows cannot be merged").with_source(error)
}
