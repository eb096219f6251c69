//! A filter that knows which keys are certainly not among some (B. H. Bloom, "Space/time trade-offs in hash coding with
//! allowable errors", 1970). Its size is fixed: the more keys there are, the less it rules out, and never one that is there.

use std::hash::BuildHasher;

use super::spread::Spread;
use crate::digest::KeyDigest;

/// Bits, a power of two: with 5 million keys it rules out nine of ten that are not there, with 20 million every second.
const BITS: u64 = 1 << 24;

/// Nothing at first, and then 2 MiB.
#[derive(Default)]
pub(super) struct Filter {
    words: Vec<u64>,
    spread: Spread,
}

impl Filter {
    pub(super) fn add(&mut self, key: &KeyDigest) {
        if self.words.is_empty() {
            self.words = vec![0; (BITS / 64) as usize];
        }
        for bit in self.bits(key) {
            if let Some(word) = self.words.get_mut((bit / 64) as usize) {
                *word |= 1 << (bit % 64);
            }
        }
    }

    pub(super) fn may_hold(&self, key: &KeyDigest) -> bool {
        let is_set = |bit: u64| self.words.get((bit / 64) as usize).is_some_and(|word| word >> (bit % 64) & 1 == 1);
        self.bits(key).into_iter().all(is_set)
    }

    /// Digests of short keys are the keys themselves: only their hash is spread evenly.
    fn bits(&self, key: &KeyDigest) -> [u64; 2] {
        let hash = self.spread.hash_one(key);
        [hash % BITS, (hash >> 32) % BITS]
    }
}
