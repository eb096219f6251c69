//! Hashes of the blocks of a file, so that a part of it can be read without reading and hashing all of it.
//!
//! A file is a *body* (the row groups) and a *tail* (page index and footer, and perhaps the last bytes of the last row group). The body is cut
//! into blocks of [`BLOCK_BYTES`]; the footer holds the hashes of all of them, and the manifest that of the tail. So every byte
//! that is parsed is known to be what was written, whatever else of the file is altered.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use starlift_core::digest::{hex, sha256_hex};
use starlift_core::index::Tail;

/// Bytes of a block; the last one of a body may have fewer.
pub(crate) const BLOCK_BYTES: u64 = 64 << 10;
/// The key of a file's metadata that holds the hashes of its blocks, each 32 hexadecimal digits.
pub(crate) const BLOCKS: &str = "starlift.blocks";

const HASH_DIGITS: usize = 32;

/// Hashes a file while it is written. Clones hash the same file.
#[derive(Clone, Default)]
pub(crate) struct Hashing(Arc<Mutex<Hashed>>);

#[derive(Default)]
struct Hashed {
    block: Sha256,
    filled: u64,
    hashes: String,
    tail: Option<(Sha256, u64)>,
}

impl Hashing {
    pub(crate) fn update(&self, mut bytes: &[u8]) {
        let mut hashed = self.lock();
        if let Some((tail, count)) = &mut hashed.tail {
            tail.update(bytes);
            *count += bytes.len() as u64;
            return;
        }
        while !bytes.is_empty() {
            let room = usize::try_from(BLOCK_BYTES - hashed.filled).unwrap_or(usize::MAX).min(bytes.len());
            let (here, rest) = bytes.split_at(room);
            hashed.block.update(here);
            hashed.filled += here.len() as u64;
            bytes = rest;
            if hashed.filled == BLOCK_BYTES {
                hashed.end_block();
            }
        }
    }

    /// Ends the body: what comes now is the tail. Returns the hashes of the blocks.
    pub(crate) fn end_body(&self) -> String {
        let mut hashed = self.lock();
        if hashed.filled > 0 {
            hashed.end_block();
        }
        hashed.tail = Some((Sha256::new(), 0));
        hashed.hashes.clone()
    }

    /// The tail, once all is written; none where the body was not ended.
    pub(crate) fn tail(&self) -> Option<Tail> {
        let hashed = self.lock();
        hashed.tail.as_ref().map(|(hash, bytes)| Tail { bytes: *bytes, sha256: hex(&hash.clone().finalize()) })
    }

    fn lock(&self) -> MutexGuard<'_, Hashed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hashed {
    fn end_block(&mut self) {
        let hash = std::mem::take(&mut self.block).finalize();
        self.hashes.push_str(&hex(&hash).chars().take(HASH_DIGITS).collect::<String>());
        self.filled = 0;
    }
}

/// The hashes of the blocks of one body.
#[derive(Debug, Clone)]
pub(crate) struct Blocks {
    body: u64,
    hashes: Arc<str>,
}

impl Blocks {
    /// From the text in a footer; none where it does not fit a body of so many bytes.
    pub(crate) fn parse(text: &str, body: u64) -> Option<Blocks> {
        let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let fits = text.len() as u64 == body.div_ceil(BLOCK_BYTES).checked_mul(HASH_DIGITS as u64)?;
        (digits && fits).then(|| Blocks { body, hashes: text.into() })
    }

    /// The whole blocks that hold a range of the body.
    pub(crate) fn around(&self, range: &Range<u64>) -> Range<u64> {
        let start = range.start / BLOCK_BYTES * BLOCK_BYTES;
        start..(range.end.div_ceil(BLOCK_BYTES) * BLOCK_BYTES).min(self.body)
    }

    /// The first block that is altered, of bytes that begin with a block at this place; none where all are as written.
    pub(crate) fn altered(&self, start: u64, bytes: &[u8]) -> Option<u64> {
        let first = start / BLOCK_BYTES;
        let blocks = bytes.chunks(BLOCK_BYTES as usize).zip(first..);
        let is_altered = |(block, number): (&[u8], u64)| {
            let at = usize::try_from(number).ok()?.checked_mul(HASH_DIGITS)?;
            let expected = self.hashes.get(at..at + HASH_DIGITS).unwrap_or_default();
            let same = sha256_hex(block).starts_with(expected) && !expected.is_empty();
            (!same).then_some(number)
        };
        blocks.into_iter().find_map(is_altered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_body_and_tail_is_hashed_however_it_came() {
        let body: Vec<u8> = (0..3 * BLOCK_BYTES + 5).map(|n| (n % 251) as u8).collect();
        let mut seen = Vec::new();
        for step in [1_000, 65_536, 1_000_000] {
            let hashing = Hashing::default();
            body.chunks(step).for_each(|bytes| hashing.update(bytes));
            let text = hashing.end_body();
            hashing.update(b"ta");
            hashing.update(b"il");
            assert_eq!(hashing.tail(), Some(Tail { bytes: 4, sha256: sha256_hex(b"tail") }));
            seen.push(text);
        }
        assert!(seen.iter().all(|text| *text == seen[0] && text.len() == 4 * HASH_DIGITS));
        let blocks = Blocks::parse(&seen[0], body.len() as u64).unwrap();
        assert_eq!(blocks.around(&(70_000..70_001)), BLOCK_BYTES..2 * BLOCK_BYTES);
        assert_eq!(blocks.around(&(0..body.len() as u64)), 0..body.len() as u64);
        assert_eq!(blocks.altered(0, &body), None);
        for at in [0, 65_535, 65_536, body.len() - 1] {
            let mut other = body.clone();
            other[at] ^= 1;
            assert_eq!(blocks.altered(0, &other), Some(at as u64 / BLOCK_BYTES), "byte {at}");
            let start = at as u64 / BLOCK_BYTES * BLOCK_BYTES;
            assert!(blocks.altered(start, &other[start as usize..]).is_some(), "byte {at}");
        }
        for (text, bytes) in [(&seen[0][1..], body.len() as u64), (&seen[0], 1), (&"g".repeat(32), 1), ("", 1)] {
            assert!(Blocks::parse(text, bytes).is_none());
        }
    }
}
