//! Two sides of a comparison, matched by key: pure, so that every verdict can be tested without a database.
//!
//! Memory: of each row of the left side its key and its content are kept, 16 bytes each, and of the right side the keys
//! that the left one does not have. With the room that a hash map leaves that is 40 to 90 bytes for each row of the larger
//! side, and half as much again for the moment in which the map grows; for one table at a time.

use std::collections::{HashMap, HashSet};

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

/// The rows of two sides: all of the left one are added first.
pub(super) enum Matching {
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
    pub(super) fn new(has_key: bool) -> Matching {
        if has_key { Matching::Keyed(Keyed::default()) } else { Matching::Keyless(Keyless::default()) }
    }

    /// Adds a row of the left side; a flagged one may have changed since the right side was written.
    pub(super) fn left(&mut self, key: RowDigest, content: RowDigest, flagged: bool) {
        match self {
            Matching::Keyed(rows) => rows.left(key, content, flagged),
            Matching::Keyless(rows) => rows.left(content, flagged),
        }
    }

    /// Adds a row of the right side.
    pub(super) fn right(&mut self, key: RowDigest, content: RowDigest) {
        match self {
            Matching::Keyed(rows) => rows.right(key, content),
            Matching::Keyless(rows) => rows.right(content),
        }
    }

    /// What differs. `counts` judges a finding by its key (the content, where there is no key) and whether its left row
    /// is flagged.
    pub(super) fn finish(self, counts: impl Fn(What, &RowDigest, bool) -> Counts) -> Found {
        let mut found = match self {
            Matching::Keyed(rows) => rows.finish(counts),
            Matching::Keyless(rows) => rows.finish(counts),
        };
        // A hash map's order changes from run to run.
        found.candidates.sort_unstable();
        found.candidates.truncate(CANDIDATES);
        found
    }
}

impl Found {
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
pub(super) struct Keyed {
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
pub(super) struct Keyless {
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
        let mut matching = Matching::new(has_key);
        left.iter().for_each(|(k, c, flagged)| matching.left(digest(*k), digest(*c), *flagged));
        right.iter().for_each(|(k, c)| matching.right(digest(*k), digest(*c)));
        matching.finish(
            |what, _, flagged| {
                if flagged || what == What::OnlyRight { Counts::Pending } else { Counts::Difference }
            },
        )
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
        let mut matching = Matching::new(true);
        for n in 0..5_000u32 {
            let mut key = RowDigest::default();
            key[..4].copy_from_slice(&n.to_be_bytes());
            matching.left(key, key, false);
        }
        let found = matching.finish(|_, _, _| Counts::Difference);
        assert_eq!((found.differences, found.candidates.len()), (5_000, CANDIDATES));
        assert_eq!(found.candidates[CANDIDATES - 1].0[..4], 999u32.to_be_bytes());
    }
}
