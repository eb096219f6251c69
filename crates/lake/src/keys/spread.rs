//! Hashing of keys: a digest is 16 bytes, and hashing them against attackers takes longer than all else that is done with them.
//!
//! Multiplied to 128 bits and folded, as `foldhash` and others do, from a start that differs between processes.

use std::hash::{BuildHasher, Hasher, RandomState};

/// An odd number without a pattern: the golden ratio's fraction in 64 bits.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Makes hashers that begin alike.
#[derive(Debug, Clone)]
pub(super) struct Spread(u64);

impl Default for Spread {
    fn default() -> Spread {
        Spread(RandomState::new().hash_one(FACTOR))
    }
}

impl BuildHasher for Spread {
    type Hasher = SpreadHasher;

    fn build_hasher(&self) -> SpreadHasher {
        SpreadHasher(self.0)
    }
}

/// One hash in the making.
#[derive(Debug)]
pub(super) struct SpreadHasher(u64);

impl Hasher for SpreadHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            let product = u128::from(self.0 ^ u64::from_le_bytes(word)) * u128::from(FACTOR);
            self.0 = (product as u64) ^ ((product >> 64) as u64);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::digest::KeyDigest;

    /// A map takes its place from the lowest bits and a mark from the highest seven.
    #[test]
    fn keys_that_follow_each_other_are_spread_over_low_and_high_bits() {
        let spread = Spread::default();
        for position in [2, 5, 9, 15] {
            let hashes: Vec<u64> = (0u32..65_536)
                .map(|number| {
                    let mut digest = [7; 16];
                    let at = position - 1;
                    digest[at..=position].copy_from_slice(&(number as u16).to_be_bytes());
                    spread.hash_one(KeyDigest(digest))
                })
                .collect();
            let different = |bits: fn(u64) -> u64| hashes.iter().map(|hash| bits(*hash)).collect::<HashSet<_>>().len();
            // Thrown at random into as many places as there are, 63 of 100 places are hit.
            assert!(different(|hash| hash % 65_536) > 35_000, "{position}: {}", different(|hash| hash % 65_536));
            assert!(different(|hash| hash >> 48) > 35_000, "{position}: {}", different(|hash| hash >> 48));
            assert_eq!(different(|hash| hash >> 57), 128);
        }
    }
}
