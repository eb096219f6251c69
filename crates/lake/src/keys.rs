//! Keys with the digests of their rows, as many as there are, in memory that does not follow their number.
//!
//! Keys that came and are not in the state before have a [bit each](dense) where they lie close together, as numbers of a sequence
//! do. What else fits is a hash map. Beyond that the map is put aside as a *run*: a [spill file](crate::spill) of entries in the order
//! of their keys, with the first key of each block in memory. A key is looked for in the map, and then, if a filter of fixed
//! size does not rule it out, in the runs whose range it is in: one block is read of each. Runs of one size are merged, so
//! that there are few. Keys that come in their own order, as those of most tables do, find the block that was read last.
//!
//! Memory: the bits (at most 4 MiB), the map (about as much), the filter (2 MiB, once something is put aside), and 16 bytes for
//! each block of 256 keys. Not async: see [`crate::spill`].

mod dense;
mod filter;
mod run;
mod spread;

use std::collections::HashMap;

use starlift_core::Result;

use self::dense::Dense;
use self::filter::Filter;
use self::run::{Entry, Run, Runs};
use self::spread::Spread;
use crate::digest::{KeyDigest, RowDigest};
use crate::spill::Spill;

/// Runs of one size that make one of the next.
const RUNS_MERGED: usize = 8;

/// The digest of the row of a key that is not in the state before.
const NO_ROW: RowDigest = RowDigest([0; 16]);

/// What is known of a key of [`Keys`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It is in the state before, and has not come.
    Unseen,
    /// It is in the state before, and has come.
    Seen,
    /// It came and is not in the state before.
    New,
}

/// Keys, each once, with the digest of its row and a mark.
pub struct Keys {
    spill: Spill,
    /// Keys of the mark `New`.
    dense: Dense,
    held: HashMap<KeyDigest, (RowDigest, Mark), Spread>,
    runs: Vec<Run>,
    filter: Filter,
    unseen: u64,
    seen: u64,
    new: u64,
    doubled: Option<KeyDigest>,
}

impl Keys {
    /// No key. `spill` says where what does not fit in memory goes.
    pub fn empty(spill: &Spill) -> Keys {
        Keys {
            spill: spill.clone(),
            dense: Dense::default(),
            held: HashMap::default(),
            runs: Vec::new(),
            filter: Filter::default(),
            unseen: 0,
            seen: 0,
            new: 0,
            doubled: None,
        }
    }

    /// The keys of a state before with the digests of their rows, none of which has come yet.
    ///
    /// Errors, here and below: Unavailable or Config where keys cannot be put aside.
    pub fn before(spill: &Spill, state: impl IntoIterator<Item = (KeyDigest, RowDigest)>) -> Result<Keys> {
        let mut keys = Keys::empty(spill);
        state.into_iter().try_for_each(|(key, row)| keys.add_before(key, row))?;
        keys.complete()?;
        Ok(keys)
    }

    /// Adds a key of the state before. Each may be added once: that one was added twice, [`Keys::doubled`] tells.
    pub fn add_before(&mut self, key: KeyDigest, row: RowDigest) -> Result<()> {
        self.unseen += 1;
        self.add(key, row, Mark::Unseen)
    }

    /// All keys of the state before are added: from now on they are looked for.
    pub fn complete(&mut self) -> Result<()> {
        self.merge(0)?;
        if self.runs.is_empty() || self.doubled.is_some() {
            return Ok(());
        }
        // In their order, so that each block of the run is read once.
        let mut held: Vec<KeyDigest> = self.held.keys().copied().collect();
        held.sort_unstable();
        for key in held {
            if self.find_aside(&key)?.is_some() {
                self.doubled = Some(key);
                break;
            }
        }
        Ok(())
    }

    /// A key that was added more than once; known when all are added ([`Keys::complete`]). Whatever else is said of these keys is wrong then.
    pub fn doubled(&self) -> Option<KeyDigest> {
        self.doubled
    }

    /// Whether memory holds as many keys as it may: more of those that do not lie close together are put aside.
    pub fn is_full(&self) -> bool {
        self.held.len() >= self.spill.keys_held()
    }

    /// A key comes: what was known of it before, with the digest of its row then; none for one that was not known and is new.
    pub fn come(&mut self, key: KeyDigest) -> Result<Option<(RowDigest, Mark)>> {
        let known = self.meet(&key)?;
        if known.is_none() {
            self.new += 1;
            if !self.dense.add(&key) {
                self.add(key, NO_ROW, Mark::New)?;
            }
        }
        Ok(known)
    }

    /// A key comes that is not kept if it was not known: what was known of it before.
    pub fn meet(&mut self, key: &KeyDigest) -> Result<Option<(RowDigest, Mark)>> {
        if self.dense.holds(key) {
            return Ok(Some((NO_ROW, Mark::New)));
        }
        let known = match self.held.get_mut(key) {
            Some(held) => {
                let known = *held;
                if held.1 == Mark::Unseen {
                    held.1 = Mark::Seen;
                }
                Some(known)
            }
            None => self.meet_aside(key)?,
        };
        if matches!(known, Some((_, Mark::Unseen))) {
            self.unseen -= 1;
            self.seen += 1;
        }
        Ok(known)
    }

    /// What is known of a key.
    pub fn find(&mut self, key: &KeyDigest) -> Result<Option<(RowDigest, Mark)>> {
        if self.dense.holds(key) {
            return Ok(Some((NO_ROW, Mark::New)));
        }
        if let Some(known) = self.held.get(key) {
            return Ok(Some(*known));
        }
        self.find_aside(key)
    }

    /// Adds a key, unless it is there already; whether it was not.
    pub fn insert(&mut self, key: KeyDigest) -> Result<bool> {
        Ok(self.come(key)?.is_none())
    }

    /// Whether a key is there, whatever is known of it.
    pub fn contains(&mut self, key: &KeyDigest) -> Result<bool> {
        Ok(self.find(key)?.is_some())
    }

    /// Whether a key came that is not in the state before.
    pub fn is_new(&mut self, key: &KeyDigest) -> Result<bool> {
        Ok(matches!(self.find(key)?, Some((_, Mark::New))))
    }

    /// Whether a key is in the state before and has not come.
    pub fn is_unseen(&mut self, key: &KeyDigest) -> Result<bool> {
        Ok(matches!(self.find(key)?, Some((_, Mark::Unseen))))
    }

    /// How many keys there are.
    pub fn len(&self) -> u64 {
        self.unseen + self.seen + self.new
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keys of the state before that have not come.
    pub fn unseen(&self) -> u64 {
        self.unseen
    }

    /// Keys of the state before that have come.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Keys that came and are not in the state before.
    pub fn new_keys(&self) -> u64 {
        self.new
    }

    /// Whether some are put aside, so that looking for many at once pays in the order of their keys.
    pub(crate) fn is_aside(&self) -> bool {
        !self.runs.is_empty()
    }

    /// How many of them memory holds at once.
    pub(crate) fn held_at_once(&self) -> usize {
        self.spill.keys_held()
    }

    /// Every key with what is known of it, in no particular order.
    pub fn each(&mut self, mut visit: impl FnMut(KeyDigest, RowDigest, Mark)) -> Result<()> {
        self.dense.each(|key| visit(key, NO_ROW, Mark::New));
        for (key, (row, mark)) in &self.held {
            visit(*key, *row, *mark);
        }
        for run in &mut self.runs {
            run.each(|entry| visit(entry.key, entry.row, entry.mark))?;
        }
        Ok(())
    }

    fn add(&mut self, key: KeyDigest, row: RowDigest, mark: Mark) -> Result<()> {
        if self.held.len() >= self.spill.keys_held() {
            self.put_aside()?;
        }
        if self.held.insert(key, (row, mark)).is_some() {
            self.doubled = Some(key);
        }
        Ok(())
    }

    fn find_aside(&mut self, key: &KeyDigest) -> Result<Option<(RowDigest, Mark)>> {
        if self.runs.is_empty() || !self.filter.may_hold(key) {
            return Ok(None);
        }
        for run in &mut self.runs {
            if let Some(entry) = run.find(key)? {
                return Ok(Some((entry.row, entry.mark)));
            }
        }
        Ok(None)
    }

    fn meet_aside(&mut self, key: &KeyDigest) -> Result<Option<(RowDigest, Mark)>> {
        if self.runs.is_empty() || !self.filter.may_hold(key) {
            return Ok(None);
        }
        for run in &mut self.runs {
            if let Some(known) = run.meet(key)? {
                return Ok(Some(known));
            }
        }
        Ok(None)
    }

    /// Empties the map into a run.
    fn put_aside(&mut self) -> Result<()> {
        let mut entries: Vec<Entry> = self.held.drain().map(|(key, (row, mark))| Entry { key, row, mark }).collect();
        entries.sort_unstable_by_key(|entry| entry.key);
        for entry in &entries {
            self.filter.add(&entry.key);
        }
        self.runs.extend(Run::write(&self.spill, 0, entries.into_iter().map(Ok))?);
        for size in 0.. {
            let first = self.runs.iter().position(|run| run.size() <= size).unwrap_or(self.runs.len());
            if self.runs.len() - first < RUNS_MERGED {
                break;
            }
            self.merge(first)?;
        }
        Ok(())
    }

    /// Makes one run of all from the one at `first` on, which are the smallest.
    fn merge(&mut self, first: usize) -> Result<()> {
        if self.runs.len() - first < 2 {
            return Ok(());
        }
        let mut merged = self.runs.split_off(first);
        let size = merged.iter().map(Run::size).max().unwrap_or(0) + 1;
        let (mut last, doubled) = (None, &mut self.doubled);
        let in_order = Runs::of(&mut merged)?.inspect(|entry| {
            let key = entry.as_ref().ok().map(|entry| entry.key);
            if key.is_some() && last == key {
                *doubled = key;
            }
            last = key;
        });
        self.runs.extend(Run::write(&self.spill, size, in_order)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
