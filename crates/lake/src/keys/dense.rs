//! Keys that lie close together, as numbers of a sequence do: a bit for each.
//!
//! A *page* is the 65,536 keys that differ in their last two bytes alone. It takes 8 KiB, so pages are made only as far as
//! they are filled; keys that are strewn about go elsewhere. Of such a key nothing is known but that it is there.
//!
//! Memory: at most 4 MiB, which is 33 million keys without gaps.

use std::collections::HashMap;

use super::spread::Spread;
use crate::digest::KeyDigest;

/// Pages, at most.
const MOST_PAGES: u64 = 512;
/// Pages that are made whatever comes.
const FIRST_PAGES: u64 = 16;
/// One more is made for so many keys: where as few are in each, a bit takes what an entry of a map would.
const KEYS_OF_A_PAGE: u64 = 512;
const WORDS: usize = 1 << 10;

/// A set of keys, without those that it did not take.
#[derive(Default)]
pub(super) struct Dense {
    pages: Vec<(KeyDigest, Box<[u64]>)>,
    /// Where each page is.
    positions: HashMap<KeyDigest, usize, Spread>,
    /// The page of the key before: most keys are in the same.
    last: usize,
    keys: u64,
}

impl Dense {
    /// Whether a key is there.
    pub(super) fn holds(&mut self, key: &KeyDigest) -> bool {
        if self.pages.is_empty() {
            return false;
        }
        let Some(Place { page, word, bit }) = Place::of(key) else { return false };
        self.page(&page).and_then(|words| words.get(word)).is_some_and(|word| word & bit != 0)
    }

    /// Takes a key; `false` where it has no place.
    pub(super) fn add(&mut self, key: &KeyDigest) -> bool {
        let Some(Place { page, word, bit }) = Place::of(key) else { return false };
        if self.page(&page).is_none() {
            let pages = self.pages.len() as u64;
            if pages >= MOST_PAGES.min(FIRST_PAGES + self.keys / KEYS_OF_A_PAGE) {
                return false;
            }
            self.positions.insert(page, self.pages.len());
            self.pages.push((page, vec![0; WORDS].into()));
        }
        let Some(word) = self.page(&page).and_then(|words| words.get_mut(word)) else { return false };
        let is_new = *word & bit == 0;
        *word |= bit;
        self.keys += u64::from(is_new);
        true
    }

    fn page(&mut self, page: &KeyDigest) -> Option<&mut Box<[u64]>> {
        if self.pages.get(self.last).is_none_or(|(last, _)| last != page) {
            self.last = *self.positions.get(page)?;
        }
        self.pages.get_mut(self.last).map(|(_, words)| words)
    }

    /// Every key, in no particular order.
    pub(super) fn each(&self, mut visit: impl FnMut(KeyDigest)) {
        for (page, words) in &self.pages {
            for (number, word) in (0u16..).zip(words) {
                let mut rest = *word;
                while rest != 0 {
                    visit(Place::key(page, number << 6 | rest.trailing_zeros() as u16));
                    rest &= rest - 1;
                }
            }
        }
    }
}

/// Where a key has its bit.
struct Place {
    /// The key without its last two bytes.
    page: KeyDigest,
    word: usize,
    bit: u64,
}

impl Place {
    /// None for a key that is too short, or that is a hash.
    fn of(key: &KeyDigest) -> Option<Place> {
        let last = Place::last(key)?;
        let mut page = *key;
        let low = page.0.get_mut(last - 1..=last)?;
        let number = usize::from(u16::from_be_bytes([*low.first()?, *low.last()?]));
        low.fill(0);
        Some(Place { page, word: number / 64, bit: 1 << (number % 64) })
    }

    /// The key with this number in a page.
    fn key(page: &KeyDigest, number: u16) -> KeyDigest {
        let mut key = *page;
        if let Some(low) = Place::last(page).and_then(|last| key.0.get_mut(last - 1..=last)) {
            low.copy_from_slice(&number.to_be_bytes());
        }
        key
    }

    /// Where the last byte of a key is: the first one of its digest says how many follow.
    fn last(key: &KeyDigest) -> Option<usize> {
        let length = usize::from(*key.0.first()?);
        (2..key.0.len()).contains(&length).then_some(length)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn key(number: u32) -> KeyDigest {
        let mut digest = [0; 16];
        digest[..6].copy_from_slice(&[5, 1, 0, 0, 0, 0]);
        digest[2..6].copy_from_slice(&number.to_be_bytes());
        KeyDigest(digest)
    }

    fn held(dense: &Dense) -> BTreeSet<KeyDigest> {
        let mut held = BTreeSet::new();
        dense.each(|key| assert!(held.insert(key)));
        held
    }

    #[test]
    fn numbers_without_gaps_are_all_taken_and_are_those_that_are_held() {
        let mut dense = Dense::default();
        let keys: BTreeSet<_> = (65_000..400_000).map(key).collect();
        assert!(keys.iter().all(|key| !dense.holds(key) && dense.add(key) && dense.holds(key)));
        assert!(dense.add(&key(65_000)));
        assert_eq!((dense.keys, held(&dense) == keys), (335_000, true));
        assert!(!dense.holds(&key(64_999)) && !dense.holds(&key(400_000)));
        assert!(!dense.holds(&KeyDigest([0; 16])));
    }

    #[test]
    fn keys_that_are_strewn_about_make_few_pages() {
        let mut dense = Dense::default();
        let keys: Vec<_> = (0u32..20_000).map(|number| key(number.wrapping_mul(2_654_435_761))).collect();
        let taken: BTreeSet<_> = keys.iter().filter(|key| dense.add(key)).copied().collect();
        assert!(dense.pages.len() < 20 && taken.len() < 100, "{} {}", dense.pages.len(), taken.len());
        assert_eq!(held(&dense), taken);
        assert!(keys.iter().all(|key| dense.holds(key) == taken.contains(key)));
    }

    #[test]
    fn there_is_an_end_to_the_pages() {
        let mut dense = Dense::default();
        let taken = (0..40_000_000u32).step_by(7).filter(|number| dense.add(&key(*number))).count();
        assert_eq!(dense.pages.len() as u64, MOST_PAGES);
        assert_eq!(taken as u64, dense.keys);
    }

    #[test]
    fn hashes_and_the_shortest_keys_have_no_place() {
        let mut dense = Dense::default();
        for first in [0, 1, 16, 0xff] {
            let mut digest = [3; 16];
            digest[0] = first;
            assert!(!dense.add(&KeyDigest(digest)) && !dense.holds(&KeyDigest(digest)));
        }
        let mut longest = [3; 16];
        longest[0] = 15;
        assert!(dense.add(&KeyDigest(longest)) && dense.holds(&KeyDigest(longest)));
    }
}
