//! The key index and the merging of files: what a part covers, whether it may be used, and what is due. Decided from the
//! list of live files alone.
//!
//! A *part* of the key index lists the entries of some live files in the order of their keys, and where each of them is. It
//! covers the files from one seq to another, and names them by a hash: where the live files of these seqs are others, the
//! part is passed over, and the files themselves are read. So an index that is missing, old or of another form costs time
//! and never a row.
//!
//! *Merging* replaces neighbouring small files by one that holds the newest entry of each key. It is no change: what a table
//! or model holds as of any manifest stays the same. Files are merged when there are several of about one size, so that a row
//! is written again a few times in its life, and the number of files grows with the logarithm of what was written.

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
/// Units of about one size that are merged together.
const MERGED_AT: usize = 4;
/// A unit of the next size has so many times the entries.
const SIZE_STEP: u64 = 4;
/// Entries, and stored bytes, beyond which files are not merged: what is merged is held in memory.
const MERGED_ROWS: u64 = 256 << 10;
const MERGED_BYTES: u64 = 8 << 20;

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

    /// 0, 1, 2, … as the number of entries grows.
    fn size(&self) -> u32 {
        (self.rows() / (SMALL_ROWS / SIZE_STEP)).max(1).ilog(SIZE_STEP)
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

/// What is due for a table or model with a key. Files of seqs after `settled` stay as they are, because the next stage may not
/// have seen them yet. `all` asks for everything that can be done at all.
pub fn due(live: &[LiveFile], settled: u64, all: bool) -> Vec<Upkeep> {
    let units = units(live);
    let small = if fault::planted("small_index") { 2 } else { SMALL_ROWS };
    let open = units.iter().take_while(|unit| unit.upto > settled).count();
    let rest = units.get(open..).unwrap_or_default();
    let merged = merged(rest, if all || fault::planted("small_index") { 2 } else { MERGED_AT });
    let mut due = Vec::new();
    if let (Some(newest), Some(oldest)) = (rest.first(), rest.get(merged.wrapping_sub(1))) {
        let files = rest.iter().take(merged).flat_map(|unit| unit.files.clone()).collect();
        due.push(Upkeep::Merge(Unit { from: oldest.from, upto: newest.upto, files, parts: vec![] }));
    }
    let unlisted = |unit: &&Unit| unit.parts.is_empty() && unit.rows() > small;
    due.extend(rest.iter().skip(merged).filter(unlisted).cloned().map(Upkeep::Index));
    due
}

/// Whether an index of so many entries saves anything.
pub fn is_worth_it(rows: u64) -> bool {
    rows > if fault::planted("small_index") { 2 } else { SMALL_ROWS }
}

/// How many of the newest units are merged: as many as there are of about one size, or smaller, where these are `enough`;
/// and then those of the next size, where the merged ones make these enough.
fn merged(units: &[Unit], enough: usize) -> usize {
    let mut may = 0;
    let (mut rows, mut bytes) = (0, 0);
    for unit in units {
        (rows, bytes) = (rows + unit.rows(), bytes + unit.bytes());
        if rows > MERGED_ROWS || bytes > MERGED_BYTES {
            break;
        }
        may += 1;
    }
    let mut merged = 0;
    for size in 0..=MERGED_ROWS.ilog2() {
        let upto = units.iter().take(may).take_while(|unit| unit.size() <= size).count();
        let count = if merged == 0 { upto } else { upto - merged + 1 };
        if upto > merged && count >= enough {
            merged = upto;
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
mod tests {
    use super::*;
    use crate::manifest::DataFile;

    fn file(seq: u64, mode: FileMode, rows: u64) -> LiveFile {
        let file =
            DataFile { key: format!("t/{seq}{mode:?}"), rows, bytes: rows, sha256: String::new(), mode, tail: None };
        LiveFile::new(seq, file)
    }

    fn part(from: u64, upto: u64, of: &[LiveFile]) -> LiveFile {
        let covers = Covers { form: FORM, files: covered(of), first: String::new(), last: String::new() };
        LiveFile { from: Some(from), covers: Some(covers), ..file(upto, FileMode::Index, 1) }
    }

    fn spans(live: &[LiveFile]) -> Vec<(u64, u64, usize, bool)> {
        units(live).iter().map(|u| (u.from, u.upto, u.files.len(), !u.parts.is_empty())).collect()
    }

    #[test]
    fn a_part_is_used_only_where_it_covers_exactly_the_live_files_of_its_seqs() {
        let (one, two, three) =
            (file(1, FileMode::Full, 9), file(2, FileMode::Window, 1), file(3, FileMode::Window, 1));
        let newest_first = [two.clone(), one.clone()];
        let index = part(1, 2, &newest_first);
        let live = [one.clone(), index.clone(), three.clone(), two.clone()];
        assert_eq!(spans(&live), [(3, 3, 1, false), (1, 2, 2, true)]);
        let other = [one.clone(), index.clone(), three];
        assert_eq!(spans(&other), [(3, 3, 1, false), (1, 1, 1, false)], "a file of its seqs is not there");
        let mut strange = index;
        strange.covers.as_mut().unwrap().form = FORM + 1;
        assert_eq!(spans(&[one, strange, two]), [(2, 2, 1, false), (1, 1, 1, false)], "another form");
    }

    #[test]
    fn several_units_of_one_size_are_merged_and_larger_ones_when_there_are_enough() {
        let of = |rows: &[u64]| -> Vec<LiveFile> {
            rows.iter().enumerate().map(|(n, rows)| file(n as u64 + 1, FileMode::Window, *rows)).collect()
        };
        let merges = |rows: &[u64]| match due(&of(rows), u64::MAX, false).first() {
            Some(Upkeep::Merge(unit)) => Some((unit.from, unit.upto)),
            _ => None,
        };
        assert_eq!(merges(&[1_000_000, 9, 9, 9]), None);
        assert_eq!(merges(&[1_000_000, 9, 9, 9, 9]), Some((2, 5)));
        assert_eq!(merges(&[1_000_000, 2_000, 9, 9, 9, 9]), Some((3, 6)));
        assert_eq!(merges(&[2_000, 2_000, 2_000, 9, 9, 9, 9]), Some((1, 7)), "with the merged ones they are four");
        assert_eq!(merges(&[MERGED_ROWS, 9, 9, 9, 9]), Some((2, 5)), "what is too large stays");
    }

    #[test]
    fn what_the_next_stage_may_not_have_seen_stays_and_large_files_are_listed() {
        let live: Vec<LiveFile> = (1..=6).map(|seq| file(seq, FileMode::Window, 9)).collect();
        assert!(matches!(&due(&live, 5, false)[..], [Upkeep::Merge(unit)] if (unit.from, unit.upto) == (1, 5)));
        assert_eq!(due(&live, 3, false), []);
        let large = [file(1, FileMode::Full, 1_000_000), file(2, FileMode::Window, 9)];
        assert!(matches!(&due(&large, 9, false)[..], [Upkeep::Index(unit)] if unit.upto == 1));
        let listed = [large.to_vec(), vec![part(1, 1, &large[..1])]].concat();
        assert_eq!(due(&listed, 9, false), []);
    }

    #[test]
    fn what_replaces_a_unit_takes_the_place_of_its_files_and_parts() {
        let live: Vec<LiveFile> = (1..=4).map(|seq| file(seq, FileMode::Window, 9)).collect();
        let unit = Unit { from: 2, upto: 3, files: live[1..3].to_vec(), parts: vec![] };
        let merged = LiveFile { from: Some(2), ..file(3, FileMode::Window, 15) };
        let live = replaced(&[live, vec![part(2, 2, &[])]].concat(), &unit, vec![merged.clone()]);
        let seqs: Vec<u64> = live.iter().map(|file| file.seq).collect();
        assert_eq!((seqs, &live[1]), (vec![1, 3, 4], &merged));
    }
}
