//! One run: entries in the order of their keys, in a spill file.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use starlift_core::{Error, Result};

use super::Mark;
use crate::digest::{KeyDigest, RowDigest};
use crate::spill::{Spill, SpillFile};

/// Bytes of an entry: key, digest of the row, mark.
const ENTRY: usize = 33;
/// Entries of a block.
const BLOCK: u64 = 256;
const BLOCK_BYTES: usize = BLOCK as usize * ENTRY;
/// Blocks that are written at once.
const BLOCKS_WRITTEN: usize = 16;

/// A key with what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: KeyDigest,
    pub(super) row: RowDigest,
    pub(super) mark: Mark,
}

impl Entry {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key.0);
        out.extend_from_slice(&self.row.0);
        out.push(self.mark as u8);
    }

    fn read(bytes: &[u8]) -> Option<Entry> {
        let (key, rest) = bytes.split_first_chunk::<16>()?;
        let (row, rest) = rest.split_first_chunk::<16>()?;
        let mark = match rest.first()? {
            0 => Mark::Unseen,
            1 => Mark::Seen,
            _ => Mark::New,
        };
        Some(Entry { key: KeyDigest(*key), row: RowDigest(*row), mark })
    }
}

/// Entries on disk, and one block of them in memory.
pub(super) struct Run {
    file: SpillFile,
    entries: u64,
    /// How often it was merged: runs of one size hold about as many entries.
    size: u32,
    /// The first key of each block.
    firsts: Vec<KeyDigest>,
    last: KeyDigest,
    /// The block in memory, which holds marks that the file does not have if it is changed.
    block: Vec<u8>,
    at: Option<usize>,
    is_changed: bool,
}

impl Run {
    /// Writes entries, which come in the order of their keys; none where there are none.
    pub(super) fn write(spill: &Spill, size: u32, entries: impl Iterator<Item = Result<Entry>>) -> Result<Option<Run>> {
        let file = spill.file()?.ok_or_else(|| Error::internal("keys have no folder to be put aside in"))?;
        let mut run = Run {
            file,
            entries: 0,
            size,
            firsts: Vec::new(),
            last: KeyDigest([0; 16]),
            block: Vec::new(),
            at: None,
            is_changed: false,
        };
        let mut buffer = Vec::with_capacity(BLOCKS_WRITTEN * BLOCK_BYTES);
        for entry in entries {
            let entry = entry?;
            if run.entries.is_multiple_of(BLOCK) {
                run.firsts.push(entry.key);
            }
            run.last = entry.key;
            run.entries += 1;
            entry.write(&mut buffer);
            if buffer.len() >= BLOCKS_WRITTEN * BLOCK_BYTES {
                run.file.append(&buffer)?;
                buffer.clear();
            }
        }
        run.file.append(&buffer)?;
        Ok((run.entries > 0).then_some(run))
    }

    /// How often it was merged.
    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// The entry of a key.
    pub(super) fn find(&mut self, key: &KeyDigest) -> Result<Option<Entry>> {
        Ok(self.position(key)?.and_then(|position| self.entry(position)))
    }

    /// A key comes: what was known of it before.
    pub(super) fn meet(&mut self, key: &KeyDigest) -> Result<Option<(RowDigest, Mark)>> {
        let Some(position) = self.position(key)? else { return Ok(None) };
        let Some(entry) = self.entry(position) else { return Ok(None) };
        if entry.mark == Mark::Unseen
            && let Some(mark) = self.block.get_mut(position * ENTRY + ENTRY - 1)
        {
            *mark = Mark::Seen as u8;
            self.is_changed = true;
        }
        Ok(Some((entry.row, entry.mark)))
    }

    /// Every entry in the order of the keys.
    pub(super) fn each(&mut self, mut visit: impl FnMut(Entry)) -> Result<()> {
        for number in 0..self.firsts.len() {
            self.load(number)?;
            self.block.chunks_exact(ENTRY).filter_map(Entry::read).for_each(&mut visit);
        }
        Ok(())
    }

    /// Where a key is in its block, which is in memory afterwards.
    fn position(&mut self, key: &KeyDigest) -> Result<Option<usize>> {
        if *key > self.last {
            return Ok(None);
        }
        let Some(number) = self.firsts.partition_point(|first| first <= key).checked_sub(1) else { return Ok(None) };
        self.load(number)?;
        let count = self.block.len() / ENTRY;
        let key_at = |position: usize| self.block.get(position * ENTRY..position * ENTRY + 16);
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low.midpoint(high);
            match key_at(middle).unwrap_or_default().cmp(key.0.as_slice()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(Some(middle)),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }

    fn entry(&self, position: usize) -> Option<Entry> {
        Entry::read(self.block.get(position * ENTRY..(position + 1) * ENTRY)?)
    }

    /// Brings a block into memory, and the marks of the one before to the file.
    fn load(&mut self, number: usize) -> Result<()> {
        if self.at == Some(number) {
            return Ok(());
        }
        self.keep_marks()?;
        let start = number as u64 * BLOCK_BYTES as u64;
        let length = (self.file.bytes().saturating_sub(start)).min(BLOCK_BYTES as u64);
        self.at = None;
        self.block.resize(length as usize, 0);
        self.file.read_at(&mut self.block, start)?;
        self.at = Some(number);
        Ok(())
    }

    fn keep_marks(&mut self) -> Result<()> {
        if let (Some(number), true) = (self.at, self.is_changed) {
            self.file.write_at(&self.block, number as u64 * BLOCK_BYTES as u64)?;
        }
        self.is_changed = false;
        Ok(())
    }
}

/// The entries of several runs as one, in the order of their keys.
pub(super) struct Runs<'a> {
    runs: &'a mut [Run],
    /// The next key of each run that has one, with the run and its position in it.
    next: BinaryHeap<Reverse<(KeyDigest, usize, u64)>>,
}

impl<'a> Runs<'a> {
    pub(super) fn of(runs: &'a mut [Run]) -> Result<Runs<'a>> {
        let mut all = Runs { runs, next: BinaryHeap::new() };
        for run in 0..all.runs.len() {
            all.enter(run, 0)?;
        }
        Ok(all)
    }

    fn enter(&mut self, run: usize, position: u64) -> Result<()> {
        if let Some(entry) = self.at(run, position)? {
            self.next.push(Reverse((entry.key, run, position)));
        }
        Ok(())
    }

    fn at(&mut self, run: usize, position: u64) -> Result<Option<Entry>> {
        let Some(run) = self.runs.get_mut(run).filter(|run| position < run.entries) else { return Ok(None) };
        run.load((position / BLOCK) as usize)?;
        Ok(run.entry((position % BLOCK) as usize))
    }

    fn pull(&mut self) -> Result<Option<Entry>> {
        let Some(Reverse((_, run, position))) = self.next.pop() else { return Ok(None) };
        let entry = self.at(run, position)?;
        self.enter(run, position + 1)?;
        Ok(entry)
    }
}

impl Iterator for Runs<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        self.pull().transpose()
    }
}
