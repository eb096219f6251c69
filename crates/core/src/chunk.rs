//! Full reads in chunks: what a run reads next of a table that is too large for one transaction, and why the chunks and the
//! window that closes them are together the table's image at the closing snapshot.
//!
//! # What is read
//!
//! A chunk is a range of the table's pages, read in a snapshot of its own, *without* the rows whose `xmin` is at or after
//! `low`, the `xmin` of the first chunk's snapshot `S1`. When all pages are read that the table had after `S1`, the base is
//! closed at a snapshot `Sn`: the window `[low, xmax(Sn))` is read over the whole table, the rows are counted, and where
//! the numbers differ the keys are compared in both directions, as in every ingest of the xid window.
//!
//! # Why nothing is missing, stale or doubled
//!
//! Take a row version `v` that is visible in `Sn`, written by transaction `x`.
//! * *`x` is at or after `low`*: `v` is in the closing window (`crate::xid`).
//! * *`x` is before `low`*: `x` was over at `S1`, so `v` was there already, in one of the pages that the table had then. Nobody
//!   had deleted it at `Sn`, so it is visible in every snapshot between. A row version never leaves its page while the
//!   table's file is the same; a rewrite (`VACUUM FULL`, `CLUSTER`, `TRUNCATE`, `ALTER TABLE`) gives it another, which
//!   starts the base over. So the one chunk that has this page holds `v`.
//!
//! What else is in the chunks are versions that were visible in `S1` too, by the same argument, and are gone at `Sn`. All of
//! the chunks together are a part of the image at `S1`, in which each key is once: so no key is in two chunks, and no
//! chunk need be compared with another. An updated row whose key stayed is in the closing window, which hides the chunk's
//! version. A deleted row, or one that has another key now, is a key that only the lake has: the counts differ, and the
//! comparison of keys gives it a tombstone.
//!
//! A row that moves from unread to read pages, or has a key that others have passed, is an update: it is in the window. One
//! that moves from read to unread pages is left out there, because its `xmin` is not before `low`, and is in the window too.
//!
//! Were the window to start at the last chunk's `xmin`, all that was written between the first and the last chunk into pages
//! that were read already would be lost or stale: `closing_from_last_chunk` plants that.
//!
//! # Partitions
//!
//! The pages of a chunk are those of each partition. A partition that was attached in the window which a chunk leaves out is left
//! out with it, and read as a whole by the closing window, which holds that window: so the argument above is about the
//! partitions that were there from `S1` on, of which no chunk left one out. One that goes takes its rows with it, which is
//! what a delete looks like; one that returns was attached since. Each partition has a file of its own: another one of a partition that
//! was there before starts the base over.
//!
//! # Why pages and not ranges of keys
//!
//! A range of keys needs an index that is sorted as the rows lie on disk: otherwise every chunk reads pages all over the
//! table, and a page is read as often as it has rows, as with uuid keys. Pages need no index, no order
//! of keys and so no collation that an operating system may change between two chunks, and no value of a row in a manifest.
//! What it costs: a rewrite of the table starts the base over, and a server older than PostgreSQL 14 cannot read pages
//! without looking at the rest, so there the read is not in chunks.
//!
//! A transaction that is open since before most rows were written holds `low` back: these rows are left to the closing window,
//! which then reads as much as a read at once would. Chunks save nothing there, and lose nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::capture;
use crate::fault;
use crate::manifest::{CaptureState, Manifest, RelationRun, Source};
use crate::schema::TableSchema;
use crate::unfinished::Unfinished;
use crate::xid::XidWindow;

/// Pages of a chunk where a test lowers it.
const FEW_PAGES: u32 = 4;
/// Bytes of tables that a second is sure to be enough for, written to the lake. What one pass reads has to follow from the time
/// of its run: what is not committed by its end is read again by the next run, and by the one after it.
const BYTES_A_SECOND: u128 = 4 << 20;
/// A chunk has as many, however little time there is.
const FEWEST_BYTES: u64 = 1 << 20;

/// Where the rows of a table are on the source's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heap {
    /// Its pages; of a partitioned table those of the largest partition.
    pub pages: u32,
    /// Its bytes, those of large values and all partitions included.
    pub bytes: u64,
    /// Names its files: another name means that rows may be in other pages.
    pub storage: String,
    /// The files of a table with partitions one by one, by the oid of the partition.
    pub files: Vec<(u32, u32)>,
}

/// What a run does next with a table whose state a full read replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It reads all of it at its one snapshot.
    AtOnce,
    /// It reads a chunk.
    Chunk(Chunk),
    /// It closes the base with the rows of this window.
    Close(XidWindow),
}

/// How much of full reads one pass takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes of a chunk, at most; 0 where chunks are switched off.
    pub chunk: u64,
    /// Bytes of the tables that it reads at once beside its chunk.
    at_once: u64,
}

impl Room {
    /// Of a run that was given so much time; without a limit nothing ends a pass, and its room has none. `chunk_bytes` is the
    /// setting.
    pub fn of(chunk_bytes: u64, given: Option<Duration>) -> Room {
        let Some(given) = given else { return Room { chunk: chunk_bytes, at_once: u64::MAX } };
        // The pass that opens reads a chunk and whole tables: each has half of the time.
        let bytes = given.as_millis() * BYTES_A_SECOND / 1_000 / 2;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX).max(FEWEST_BYTES);
        Room { chunk: chunk_bytes.min(bytes), at_once: bytes }
    }

    /// Takes note of a table of so many bytes that is read at once, because it cannot be read otherwise.
    pub fn must_take(&mut self, bytes: u64) {
        self.at_once = self.at_once.saturating_sub(bytes);
    }

    /// Whether a table of so many bytes is read at once beside those before it; else it is a chunk of its own, or several.
    pub fn takes(&mut self, bytes: u64) -> bool {
        let takes = bytes <= self.chunk && bytes <= self.at_once;
        if takes {
            self.must_take(bytes);
        }
        takes
    }
}

/// One chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// The first page.
    pub from: u32,
    /// The first page that is not in it.
    pub to: u32,
    /// Rows of this window are left to the one that closes the base.
    pub left_out: XidWindow,
    /// Whether it is the first one.
    pub begins: bool,
}

/// What comes next of a table with this fingerprint [but for partitions](TableSchema::but_for_partitions) and [version of its
/// names](CaptureState::names), given what earlier chunks came to and the source at this snapshot. `heap` is none where rows do
/// not keep their pages, `chunk_bytes` is 0 where chunks are switched off. A table that is no larger than a chunk is one all the
/// same unless the pass has room for it.
pub fn next(
    before: Option<&Unfinished>,
    fingerprint: &str,
    names: Option<&str>,
    heap: Option<&Heap>,
    now: &Source,
    chunk_bytes: u64,
    has_room: bool,
) -> Step {
    let Some(heap) = heap.filter(|_| chunk_bytes > 0) else { return Step::AtOnce };
    let step = heap.pages_of(chunk_bytes);
    let fits = |base: &&Unfinished| {
        base.fingerprint == fingerprint && capture::same_names(&base.capture, names) && heap.keeps_pages_of(base)
    };
    let window = |base: &'_ Unfinished| capture::window(&base.capture, now).ok();
    match before.filter(fits).and_then(|base| Some((base, window(base)?))) {
        Some((base, window)) if base.is_read() => Step::Close(window),
        Some((base, left_out)) => {
            let to = base.read.saturating_add(step).min(base.pages);
            Step::Chunk(Chunk { from: base.read, to, left_out, begins: false })
        }
        None if heap.pages == 0 || (has_room && step >= heap.pages) => Step::AtOnce,
        None => match XidWindow::new(now.xmin, now.xmax) {
            Some(left_out) => Step::Chunk(Chunk { from: 0, to: step.min(heap.pages), left_out, begins: true }),
            // A transaction is open since 2^31 others.
            None => Step::AtOnce,
        },
    }
}

/// The table whose chunk comes next, of the tables that are read in chunks; none once all of them can be closed. What has begun
/// comes first, so that what transform waits for is soon there.
pub fn whose_turn<'a>(steps: impl Iterator<Item = (&'a str, Step)>) -> Option<(&'a str, Chunk)> {
    let chunk = |(name, step)| match step {
        Step::Chunk(chunk) => Some((name, chunk)),
        Step::AtOnce | Step::Close(_) => None,
    };
    steps.filter_map(chunk).min_by_key(|(name, chunk)| (chunk.begins, *name))
}

impl Heap {
    /// Whether the rows that a base has, and those that it has not yet, are in the pages where they were. Partitions that came since are
    /// none of its chunks', and those that went have no rows to be read.
    fn keeps_pages_of(&self, base: &Unfinished) -> bool {
        let known: BTreeMap<u32, u32> = base.files.iter().copied().collect();
        let is_same = |(oid, file): &(u32, u32)| known.get(oid).is_none_or(|known| known == file);
        self.storage == base.storage || (!known.is_empty() && !self.files.is_empty() && self.files.iter().all(is_same))
    }

    /// Pages that hold about so many bytes.
    fn pages_of(&self, chunk_bytes: u64) -> u32 {
        if fault::planted("small_chunks") {
            return FEW_PAGES;
        }
        let pages = u128::from(self.pages) * u128::from(chunk_bytes) / u128::from(self.bytes.max(1));
        u32::try_from(pages).unwrap_or(u32::MAX).max(1)
    }
}

/// What reading a chunk came to.
#[derive(Debug, Clone, PartialEq)]
pub struct ChunkRead {
    /// The table as the catalog has it.
    pub schema: TableSchema,
    /// Why it is read in full.
    pub reason: String,
    /// What [`capture::state_after`] says at the chunk's snapshot.
    pub capture: CaptureState,
    /// Where its rows are.
    pub heap: Heap,
    /// Rows that were read and refused.
    pub refused: u64,
    /// Those that count against `max_quarantine`.
    pub counted: u64,
    /// What the manifest tells of the chunk, with its files.
    pub run: RelationRun,
}

impl Unfinished {
    /// The base with one more chunk, which the run of `seq` has read. `before` is none where it is the first.
    pub fn with(before: Option<&Unfinished>, chunk: Chunk, read: ChunkRead, seq: u64) -> Unfinished {
        let before = before.filter(|_| !chunk.begins);
        let sum = |of: fn(&Unfinished) -> u64| before.map_or(0, of);
        // The closing window starts at the first chunk's xmin; the source must not go back behind the newest one.
        let first = before.map_or(read.capture.watermark, |base| base.capture.watermark);
        let watermark = if fault::planted("closing_from_last_chunk") { read.capture.watermark } else { first };
        Unfinished {
            fingerprint: read.schema.fingerprint(),
            schema: read.schema,
            reason: read.reason,
            first: before.map_or(seq, |base| base.first),
            capture: CaptureState { watermark, ..read.capture },
            storage: read.heap.storage,
            files: read.heap.files,
            pages: before.map_or(read.heap.pages, |base| base.pages),
            read: chunk.to,
            chunks: before.map_or(0, |base| base.chunks) + 1,
            rows: sum(|base| base.rows) + read.run.rows_read,
            refused: sum(|base| base.refused) + read.refused,
            counted: sum(|base| base.counted) + read.counted,
            bytes_read: sum(|base| base.bytes_read) + read.run.bytes_read,
            millis: sum(|base| base.millis) + read.run.millis,
            run: Some(read.run),
        }
    }
}

impl Manifest {
    /// Whether its run went on after it: it read a chunk, and the run's result is in a later manifest. A run that comes again
    /// goes on too.
    pub fn goes_on(&self) -> bool {
        self.unfinished.values().any(|base| base.run.is_some())
    }

    /// The newest seq up to this one at which no table was being read in chunks: how far transform may cover. 0 where there is
    /// none.
    pub fn complete_upto(&self) -> u64 {
        self.complete.unwrap_or(self.seq)
    }

    /// What people are told about the tables that transform waits for: `payment is read in full (first read: 3 of about
    /// 12 chunks)`. None where it waits for nothing.
    pub fn waits_for_chunks(&self) -> Option<String> {
        let of = |(name, base): (&String, &Unfinished)| format!("`{name}` is read in full ({})", base.text());
        let tables: Vec<String> = self.unfinished.iter().map(of).collect();
        (!tables.is_empty()).then(|| tables.join(", "))
    }
}

#[cfg(test)]
mod tests;
