//! The key index and the merging of files: what a part covers, whether it may be used, and what is due. Decided from the
//! list of live files alone.
//!
//! A *part* of the key index lists the entries of some live files in the order of their keys, and where each of them is. It
//! covers the files from one seq to another, and names them by a hash: where the live files of these seqs are others, the
//! part is passed over, and the files themselves are read. So an index that is missing, old or of another form costs time
//! and never a row.
//!
//! *Merging* replaces neighbouring files by one that holds the newest entry of each key. It is no change: what a table or model
//! holds as of any manifest stays the same. Files are merged when there are several of about one size, so that a row is written
//! again only when its file has grown to three times as much, and the number of files grows with the logarithm of what was written. A run
//! does so up to an [`Extent`]: what is beyond waits for a compaction, which has no limit.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::sha256_hex;
use crate::fault;
use crate::manifest::{FileMode, LiveFile};
use crate::state::LiveFiles;

/// The form of index parts that this version writes, and the only one that it uses: of their columns, and of the digests in
/// them.
pub const FORM: u32 = 1;

/// Entries up to which files are read as they are: an index of them would save nothing.
const SMALL_ROWS: u64 = 1_024;
/// Units that are merged together, at least, and that are of about one size: the largest has a third of their entries at most.
const MERGED_AT: usize = 4;
/// Units with fewer entries are all of one size.
const LEAST_ROWS: u64 = 256;
/// Entries, and stored bytes, up to which a compaction merges whatever there is: more is merged when there are several of one
/// size, or one new row would have all of them written again.
const ANY_ROWS: u64 = 256 << 10;
const ANY_BYTES: u64 = 8 << 20;
/// Entries, and stored bytes, up to which a run merges files: it commits only afterwards.
const RUN_ROWS: u64 = 2 << 20;
const RUN_BYTES: u64 = 64 << 20;
/// Stored bytes up to which a run lists the entries of files.
const RUN_LISTED_BYTES: u64 = 512 << 20;

/// How far upkeep goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Files of seqs after this one stay as they are, because the next stage may not have seen them yet.
    pub settled: u64,
    /// Whether all that can be done is done, as a compaction does; else what is due in a run.
    pub all: bool,
}

impl Extent {
    /// Of a run, which commits afterwards, or of a compaction.
    pub fn new(settled: u64, all: bool) -> Extent {
        Extent { settled, all }
    }

    /// What is due in a run.
    pub fn of_run(settled: u64) -> Extent {
        Extent::new(settled, false)
    }

    /// Everything that can be done.
    pub fn of_compaction(settled: u64) -> Extent {
        Extent::new(settled, true)
    }

    fn merges(&self, rows: u64, bytes: u64) -> bool {
        let most = if fault::planted("small_index") { 64 } else { RUN_ROWS };
        self.all || (rows <= most && bytes <= RUN_BYTES)
    }

    fn lists(&self, unit: &Unit) -> bool {
        unit.parts.is_empty() && is_worth_it(unit.rows()) && (self.all || unit.bytes() <= RUN_LISTED_BYTES)
    }
}

/// The last bytes of a file, with all that is needed to read single pages of it and to tell whether they are altered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    /// How many bytes.
    pub bytes: u64,
    /// Their SHA-256.
    pub sha256: String,
}

/// What a part of the key index covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covers {
    /// [`FORM`].
    pub form: u32,
    /// Names the live files that it covers: [`covered`].
    pub files: String,
    /// The digest of the first key, in hexadecimal.
    pub first: String,
    /// The digest of the last key.
    pub last: String,
}

/// Names some files, in their order.
pub fn covered<'a>(files: impl IntoIterator<Item = &'a LiveFile>) -> String {
    let keys: Vec<&str> = files.into_iter().map(|file| file.file.key.as_str()).collect();
    sha256_hex(keys.join("\n").as_bytes()).chars().take(32).collect()
}

/// Later files hide earlier ones; greater is newer. Within one manifest a tombstone comes before a refused row, that before a
/// row of a window, and that before a row of a full read.
pub fn newness(file: &LiveFile) -> (u64, u8) {
    let mode = match file.file.mode {
        FileMode::Full => 0,
        FileMode::Window => 1,
        FileMode::Refused => 2,
        FileMode::Deleted => 3,
        FileMode::Index => 4,
    };
    (file.seq, mode)
}

/// Neighbouring files of a state that are looked at together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The oldest seq.
    pub from: u64,
    /// The newest seq.
    pub upto: u64,
    /// Newest first.
    pub files: Vec<LiveFile>,
    /// The parts of the index that cover all of these files; empty where there is none to be used.
    pub parts: Vec<LiveFile>,
}

impl Unit {
    fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.file.rows).sum()
    }

    fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.file.bytes).sum()
    }
}

/// The live files of one table or model as units, newest first: what a usable part of the index covers is one unit, and
/// elsewhere the files of one seq are.
pub fn units(live: &[LiveFile]) -> Vec<Unit> {
    let (parts, mut files): (LiveFiles, LiveFiles) =
        live.iter().cloned().partition(|file| file.file.mode == FileMode::Index);
    files.sort_by_key(newness);
    files.reverse();
    let mut ranges = ranges(&parts, &files);
    let mut units: Vec<Unit> = Vec::new();
    for file in files {
        match units.last_mut() {
            Some(unit) if unit.from <= file.seq => unit.files.push(file),
            _ => {
                let range = ranges.iter().position(|unit| (unit.from..=unit.upto).contains(&file.seq));
                let mut unit = match range {
                    Some(range) => ranges.remove(range),
                    None => Unit { from: file.from(), upto: file.seq, files: vec![], parts: vec![] },
                };
                unit.files.push(file);
                units.push(unit);
            }
        }
    }
    units
}

/// The ranges whose parts may be used, without their files.
fn ranges(parts: &[LiveFile], files: &[LiveFile]) -> Vec<Unit> {
    let mut ranges: Vec<Unit> = Vec::new();
    for part in parts {
        let Some(covers) = part.covers.as_ref().filter(|covers| covers.form == FORM) else { continue };
        let (from, upto) = (part.from(), part.seq);
        let same = |unit: &&mut Unit| (unit.from, unit.upto) == (from, upto);
        if let Some(unit) = ranges.iter_mut().find(same) {
            unit.parts.push(part.clone());
            continue;
        }
        let overlaps = ranges.iter().any(|unit| unit.from <= upto && from <= unit.upto);
        let here = files.iter().filter(|file| (from..=upto).contains(&file.seq));
        if !overlaps && (covered(here) == covers.files || fault::planted("index_unchecked")) {
            ranges.push(Unit { from, upto, files: vec![], parts: vec![part.clone()] });
        }
    }
    ranges
}

/// What is to be done with some units of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upkeep {
    /// Replace their files by those of the newest entry of each key.
    Merge(Unit),
    /// List their entries in the key index.
    Index(Unit),
}

/// What is due for a table or model with a key.
pub fn due(live: &[LiveFile], extent: Extent) -> Vec<Upkeep> {
    let units = units(live);
    let rest = settled(&units, extent);
    let merged = merged(rest, extent);
    let mut due = Vec::new();
    if let (Some(newest), Some(oldest)) = (rest.first(), rest.get(merged.wrapping_sub(1))) {
        let files = rest.iter().take(merged).flat_map(|unit| unit.files.clone()).collect();
        due.push(Upkeep::Merge(Unit { from: oldest.from, upto: newest.upto, files, parts: vec![] }));
    }
    let unlisted = rest.iter().skip(merged).filter(|unit| extent.lists(unit));
    due.extend(unlisted.cloned().map(Upkeep::Index));
    due
}

/// Whether there are files that are too large for a run to list their entries: until a compaction does, each run that looks for
/// keys reads them.
pub fn waits_for_compaction(live: &[LiveFile], settled_upto: u64) -> bool {
    let (of_run, of_compaction) = (Extent::of_run(settled_upto), Extent::of_compaction(settled_upto));
    settled(&units(live), of_run).iter().any(|unit| of_compaction.lists(unit) && !of_run.lists(unit))
}

/// Whether a step that has `done` a part `of` all in the time `spent` will not end within what it is `given`. Nobody can tell
/// before a tenth of that is over.
pub fn is_hopeless((done, of): (u64, u64), spent: Duration, given: Duration) -> bool {
    let (done, of) = (u128::from(done), u128::from(of));
    spent >= given / 10 && spent.as_micros().saturating_mul(of) > given.as_micros().saturating_mul(done)
}

fn settled(units: &[Unit], extent: Extent) -> &[Unit] {
    let open = units.iter().take_while(|unit| unit.upto > extent.settled).count();
    units.get(open..).unwrap_or_default()
}

/// Whether an index of so many entries saves anything.
pub fn is_worth_it(rows: u64) -> bool {
    rows > if fault::planted("small_index") { 2 } else { SMALL_ROWS }
}

/// How many of the newest units are merged: as many as there are of about one size together, where these are enough. Then no row
/// is written again before its unit has grown to three times as much.
fn merged(units: &[Unit], extent: Extent) -> usize {
    let mut merged = 0;
    let (mut rows, mut bytes) = (0u64, 0u64);
    let (mut sum, mut most) = (0u64, 0u64);
    for (count, unit) in (1..).zip(units) {
        (rows, bytes) = (rows.saturating_add(unit.rows()), bytes.saturating_add(unit.bytes()));
        if !extent.merges(rows, bytes) {
            break;
        }
        let weight = unit.rows().max(LEAST_ROWS);
        (sum, most) = (sum.saturating_add(weight), most.max(weight));
        let is_any = (extent.all && rows <= ANY_ROWS && bytes <= ANY_BYTES) || fault::planted("small_index");
        let is_one_size = count >= MERGED_AT && (sum - most) / 2 >= most;
        if is_one_size || (is_any && count > 1) {
            merged = count;
        }
    }
    merged
}

/// A list of live files in which `unit` is replaced by what was made of it.
pub fn replaced(live: &[LiveFile], unit: &Unit, files: LiveFiles) -> LiveFiles {
    let stays = |file: &&LiveFile| file.seq < unit.from || file.seq > unit.upto;
    let mut list: LiveFiles = live.iter().filter(stays).cloned().chain(files).collect();
    list.sort_by_key(newness);
    list
}

#[cfg(test)]
mod tests;
