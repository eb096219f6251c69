//! Two sides of a comparison, matched by key: no database is needed, so that every verdict can be tested.
//!
//! Memory: up to [`HELD_ROWS`] rows are held, 33 bytes each. More are put aside by their digests in 256 parts, which are matched
//! one after the other: then the rows of one part are held, in 40 to 90 bytes each.

use std::collections::{HashMap, HashSet};

use starlift_core::Result;
use starlift_lake::{Partitions, Spill};

use super::row_digest::RowDigest;

/// How many differing keys are looked at to find the first ones.
pub(super) const CANDIDATES: usize = 1_000;

/// What is wrong with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    OnlyLeft,
    OnlyRight,
    Differs,
    TwiceLeft,
    TwiceRight,
}

/// What a finding counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counts {
    Pending,
    Difference,
    /// As nothing: it is as it should be.
    Nothing,
}

/// Rows that are held before they are put aside.
const HELD_ROWS: usize = 100_000;

/// Bytes of a row: key, content, and which side it is of.
const ROW: usize = 33;

/// The rows of two sides: all of the left one are added first.
pub(super) struct Matching {
    has_key: bool,
    spill: Spill,
    held_rows: usize,
    held: Vec<[u8; ROW]>,
    aside: Option<Partitions<ROW>>,
    /// Why rows could not be put aside.
    failed: Result<()>,
}

/// Which side a row is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Left,
    LeftFlagged,
    Right,
}

/// The rows of both sides that are held at once.
enum Held {
    Keyed(Keyed),
    Keyless(Keyless),
}

/// What a comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) rows_left: u64,
    pub(super) rows_right: u64,
    pub(super) pending: u64,
    pub(super) differences: u64,
    /// At most [`CANDIDATES`] of the differences.
    pub(super) candidates: Vec<(RowDigest, What)>,
    /// Keys that only the right side has and that count as pending.
    pub(super) gone: HashSet<RowDigest>,
}

impl Matching {
    /// No rows. `spill` says where more than a few are put aside.
    pub(super) fn new(has_key: bool, spill: &Spill) -> Matching {
        Matching { has_key, spill: spill.clone(), held_rows: HELD_ROWS, held: Vec::new(), aside: None, failed: Ok(()) }
    }

    /// Adds a row of the left side; a flagged one may have changed since the right side was written.
    pub(super) fn left(&mut self, key: RowDigest, content: RowDigest, flagged: bool) {
        self.add(&key, &content, if flagged { Of::LeftFlagged } else { Of::Left });
    }

    /// Adds a row of the right side.
    pub(super) fn right(&mut self, key: RowDigest, content: RowDigest) {
        self.add(&key, &content, Of::Right);
    }

    fn add(&mut self, key: &RowDigest, content: &RowDigest, of: Of) {
        if self.failed.is_err() {
            return;
        }
        // The first bytes say which part a row belongs to: those that are matched go together.
        let (first, second) = if self.has_key { (key, content) } else { (content, key) };
        let mut row = [of as u8; ROW];
        row[..16].copy_from_slice(first);
        row[16..32].copy_from_slice(second);
        self.failed = self.put(row);
    }

    fn put(&mut self, row: [u8; ROW]) -> Result<()> {
        if let Some(aside) = &mut self.aside {
            return aside.add(&row);
        }
        self.held.push(row);
        if self.held.len() > self.held_rows {
            self.aside = Partitions::new(&self.spill)?;
            match &mut self.aside {
                Some(aside) => std::mem::take(&mut self.held).iter().try_for_each(|row| aside.add(row))?,
                None => self.held_rows = usize::MAX,
            }
        }
        Ok(())
    }

    /// What differs. `counts` judges a finding by its key (the content, where there is no key) and whether its left row
    /// is flagged.
    ///
    /// Errors: Unavailable or Config where rows could not be put aside.
    pub(super) fn finish(self, counts: impl Fn(What, &RowDigest, bool) -> Counts) -> Result<Found> {
        self.failed?;
        let mut found = Found::default();
        let mut take = |rows: &mut dyn Iterator<Item = [u8; ROW]>| {
            let mut held = Held::new(self.has_key);
            rows.for_each(|row| held.add(&row));
            found.merge(held.finish(&counts));
            Ok(())
        };
        match self.aside {
            Some(aside) => aside.each_part(take)?,
            None => take(&mut self.held.into_iter())?,
        }
        // A hash map's order changes from run to run.
        found.candidates.sort_unstable();
        found.candidates.truncate(CANDIDATES);
        Ok(found)
    }
}

impl Held {
    fn new(has_key: bool) -> Held {
        if has_key { Held::Keyed(Keyed::default()) } else { Held::Keyless(Keyless::default()) }
    }

    fn add(&mut self, row: &[u8; ROW]) {
        let (mut first, mut second) = (RowDigest::default(), RowDigest::default());
        first.copy_from_slice(&row[..16]);
        second.copy_from_slice(&row[16..32]);
        let of = row[32];
        match self {
            Held::Keyed(rows) if of == Of::Right as u8 => rows.right(first, second),
            Held::Keyed(rows) => rows.left(first, second, of == Of::LeftFlagged as u8),
            Held::Keyless(rows) if of == Of::Right as u8 => rows.right(first),
            Held::Keyless(rows) => rows.left(first, of == Of::LeftFlagged as u8),
        }
    }

    fn finish(self, counts: impl Fn(What, &RowDigest, bool) -> Counts) -> Found {
        match self {
            Held::Keyed(rows) => rows.finish(counts),
            Held::Keyless(rows) => rows.finish(counts),
        }
    }
}

impl Found {
    /// With what was found among other keys.
    fn merge(&mut self, other: Found) {
        self.rows_left += other.rows_left;
        self.rows_right += other.rows_right;
        self.pending += other.pending;
        self.differences += other.differences;
        self.gone.extend(other.gone);
        self.candidates.extend(other.candidates);
        self.candidates.sort_unstable();
        self.candidates.truncate(CANDIDATES);
    }

    fn add(&mut self, what: What, key: RowDigest, rows: u64, counts: Counts) {
        match counts {
            Counts::Nothing => {}
            Counts::Pending => {
                self.pending += rows;
                if what == What::OnlyRight {
                    self.gone.insert(key);
                }
            }
            Counts::Difference => {
                self.differences += rows;
                // Twice as many as are kept, so that sorting them is rare.
                if self.candidates.len() >= 2 * CANDIDATES {
                    self.candidates.sort_unstable();
                    self.candidates.truncate(CANDIDATES);
                }
                self.candidates.push((key, what));
            }
        }
    }
}

#[derive(Default)]
struct Keyed {
    rows: HashMap<RowDigest, Entry>,
    /// Whether the key came twice.
    only_right: HashMap<RowDigest, bool>,
    rows_left: u64,
    rows_right: u64,
}

struct Entry {
    content: RowDigest,
    flagged: bool,
    met: bool,
    differs: bool,
    twice_left: bool,
    twice_right: bool,
}

impl Keyed {
    fn left(&mut self, key: RowDigest, content: RowDigest, flagged: bool) {
        self.rows_left += 1;
        let new = Entry { content, flagged, met: false, differs: false, twice_left: false, twice_right: false };
        self.rows
            .entry(key)
            .and_modify(|entry| {
                entry.twice_left = true;
                entry.flagged |= flagged;
            })
            .or_insert(new);
    }

    fn right(&mut self, key: RowDigest, content: RowDigest) {
        self.rows_right += 1;
        match self.rows.get_mut(&key) {
            Some(entry) => {
                entry.twice_right |= entry.met;
                entry.met = true;
                entry.differs |= entry.content != content;
            }
            None => {
                self.only_right.entry(key).and_modify(|twice| *twice = true).or_insert(false);
            }
        }
    }

    fn finish(self, counts: impl Fn(What, &RowDigest, bool) -> Counts) -> Found {
        let mut found = Found { rows_left: self.rows_left, rows_right: self.rows_right, ..Found::default() };
        for (key, entry) in self.rows {
            let what = match entry {
                Entry { twice_right: true, .. } => What::TwiceRight,
                Entry { twice_left: true, .. } => What::TwiceLeft,
                Entry { met: false, .. } => What::OnlyLeft,
                Entry { differs: true, .. } => What::Differs,
                _ => continue,
            };
            found.add(what, key, 1, counts(what, &key, entry.flagged));
        }
        for (key, twice) in self.only_right {
            let what = if twice { What::TwiceRight } else { What::OnlyRight };
            found.add(what, key, 1, counts(what, &key, false));
        }
        found
    }
}

/// Rows without a key: what counts is how often each one is there.
#[derive(Default)]
struct Keyless {
    rows: HashMap<RowDigest, Copies>,
}

#[derive(Default)]
struct Copies {
    left: u64,
    left_flagged: u64,
    right: u64,
}

impl Keyless {
    fn left(&mut self, content: RowDigest, flagged: bool) {
        let copies = self.rows.entry(content).or_default();
        if flagged {
            copies.left_flagged += 1;
        } else {
            copies.left += 1;
        }
    }

    fn right(&mut self, content: RowDigest) {
        self.rows.entry(content).or_default().right += 1;
    }

    fn finish(self, counts: impl Fn(What, &RowDigest, bool) -> Counts) -> Found {
        let mut found = Found::default();
        for (row, Copies { left, left_flagged, right }) in self.rows {
            found.rows_left += left + left_flagged;
            found.rows_right += right;
            // A flagged copy may be there already, or not yet.
            if right < left {
                found.add(What::OnlyLeft, row, left - right, counts(What::OnlyLeft, &row, false));
            }
            let flagged_missing = (left + left_flagged).saturating_sub(right.max(left));
            if flagged_missing > 0 {
                found.add(What::OnlyLeft, row, flagged_missing, counts(What::OnlyLeft, &row, true));
            }
            if right > left + left_flagged {
                let surplus = right - left - left_flagged;
                found.add(What::OnlyRight, row, surplus, counts(What::OnlyRight, &row, false));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> RowDigest {
        [byte; 16]
    }

    /// Sides as (key, content, flagged) and (key, content); what only the right side has counts as pending.
    fn compare(has_key: bool, left: &[(u8, u8, bool)], right: &[(u8, u8)]) -> Found {
        let folder = tempfile::tempdir().unwrap();
        let found = [usize::MAX, 1].map(|held_rows| {
            let mut matching = Matching { held_rows, ..Matching::new(has_key, &Spill::into(folder.path())) };
            left.iter().for_each(|(k, c, flagged)| matching.left(digest(*k), digest(*c), *flagged));
            right.iter().for_each(|(k, c)| matching.right(digest(*k), digest(*c)));
            let judge = |what, _: &RowDigest, flagged| {
                if flagged || what == What::OnlyRight { Counts::Pending } else { Counts::Difference }
            };
            matching.finish(judge).unwrap()
        });
        let [held, aside] = found;
        assert_eq!(held, aside, "where rows are makes no difference");
        held
    }

    fn findings(found: &Found) -> Vec<(u8, What)> {
        found.candidates.iter().map(|(key, what)| (key[0], *what)).collect()
    }

    #[test]
    fn equal_sides_have_no_finding_in_any_order() {
        let found = compare(true, &[(1, 1, false), (2, 2, true)], &[(2, 2), (1, 1)]);
        assert_eq!(found, Found { rows_left: 2, rows_right: 2, ..Found::default() });
    }

    #[test]
    fn a_changed_a_missing_and_a_doubled_row_are_each_found() {
        let found = compare(true, &[(1, 1, false), (2, 2, false), (3, 3, false)], &[(1, 9), (3, 3), (3, 3)]);
        assert_eq!(findings(&found), [(1, What::Differs), (2, What::OnlyLeft), (3, What::TwiceRight)]);
        assert_eq!((found.differences, found.pending, found.rows_left, found.rows_right), (3, 0, 3, 3));
    }

    #[test]
    fn flagged_rows_and_keys_that_are_gone_are_pending() {
        let found = compare(true, &[(1, 1, true), (2, 2, true)], &[(1, 9), (7, 7)]);
        assert_eq!((found.differences, found.pending), (0, 3));
        assert_eq!(found.gone, [digest(7)].into());
    }

    #[test]
    fn a_key_that_is_twice_on_one_side_and_not_on_the_other_is_a_difference() {
        assert_eq!(findings(&compare(true, &[], &[(7, 7), (7, 7)])), [(7, What::TwiceRight)]);
        assert_eq!(findings(&compare(true, &[(7, 7, false), (7, 7, false)], &[(7, 7)])), [(7, What::TwiceLeft)]);
    }

    #[test]
    fn rows_without_a_key_are_counted() {
        let found = compare(false, &[(0, 1, false), (0, 1, false), (0, 2, false)], &[(0, 1), (0, 2), (0, 2)]);
        assert_eq!(findings(&found), [(1, What::OnlyLeft)]);
        assert_eq!((found.differences, found.pending), (1, 1));
        let flagged = compare(false, &[(0, 1, false), (0, 1, true)], &[(0, 1)]);
        assert_eq!((flagged.differences, flagged.pending, flagged.rows_left), (0, 1, 2));
    }

    #[test]
    fn many_differences_are_all_counted_and_the_candidates_are_always_the_same() {
        let mut matching = Matching::new(true, &Spill::never());
        for n in 0..5_000u32 {
            let mut key = RowDigest::default();
            key[..4].copy_from_slice(&n.to_be_bytes());
            matching.left(key, key, false);
        }
        let found = matching.finish(|_, _, _| Counts::Difference).unwrap();
        assert_eq!((found.differences, found.candidates.len()), (5_000, CANDIDATES));
        assert_eq!(found.candidates[CANDIDATES - 1].0[..4], 999u32.to_be_bytes());
    }
}
