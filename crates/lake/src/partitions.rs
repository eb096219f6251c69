//! Records that are put aside by their first byte, and taken out part by part in the order in which they came.
//!
//! Records that begin with a digest fall evenly into 256 parts, and records with the same digest into one, so that what is to be
//! matched is matched a part at a time. Memory: 4 KiB for each part. Not async: see [`crate::spill`].

use starlift_core::{Error, Result};

use crate::spill::{Spill, SpillFile};

const PARTS: usize = 256;
/// Bytes that are collected for a part before they are written.
const BUFFER: usize = 4 << 10;

/// Records of `N` bytes.
pub struct Partitions<const N: usize> {
    parts: Vec<Part>,
}

struct Part {
    file: SpillFile,
    buffer: Vec<u8>,
}

impl<const N: usize> Partitions<N> {
    /// No record; nothing where `spill` has no folder.
    ///
    /// Errors: Config where the folder cannot be used; Unavailable.
    pub fn new(spill: &Spill) -> Result<Option<Partitions<N>>> {
        let mut parts = Vec::with_capacity(PARTS);
        for _ in 0..PARTS {
            let Some(file) = spill.file()? else { return Ok(None) };
            parts.push(Part { file, buffer: Vec::new() });
        }
        Ok(Some(Partitions { parts }))
    }

    /// Puts a record aside.
    ///
    /// Errors: Unavailable where the disk is full.
    pub fn add(&mut self, record: &[u8; N]) -> Result<()> {
        let number = record.first().map_or(0, |first| usize::from(*first));
        let missing = || Error::internal("a record belongs to no part");
        let part = self.parts.get_mut(number).ok_or_else(missing)?;
        part.buffer.extend_from_slice(record);
        if part.buffer.len() >= BUFFER {
            part.file.append(&part.buffer)?;
            part.buffer.clear();
        }
        Ok(())
    }

    /// Takes the records of one part after the other, each part in the order in which they came.
    ///
    /// Errors: those of `take`; Unavailable where they cannot be read.
    pub fn each_part(self, mut take: impl FnMut(&mut dyn Iterator<Item = [u8; N]>) -> Result<()>) -> Result<()> {
        for Part { file, buffer } in self.parts {
            let mut records: Records<'_, N> =
                Records { file: &file, rest: buffer.as_slice(), at: 0, held: Vec::new(), next: 0, failed: None };
            take(&mut records)?;
            if let Some(error) = records.failed {
                return Err(error);
            }
        }
        Ok(())
    }
}

/// The records of one part: those of its file, then those that were not written any more.
struct Records<'a, const N: usize> {
    file: &'a SpillFile,
    rest: &'a [u8],
    at: u64,
    held: Vec<u8>,
    next: usize,
    failed: Option<Error>,
}

impl<const N: usize> Records<'_, N> {
    /// Brings more records into memory; whether there are any.
    fn fill(&mut self) -> Result<bool> {
        let left = self.file.bytes().saturating_sub(self.at);
        // A whole number of records.
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(64 * BUFFER / N.max(1) * N);
        self.next = 0;
        if wanted > 0 {
            self.held.resize(wanted, 0);
            self.file.read_at(&mut self.held, self.at)?;
            self.at += wanted as u64;
        } else {
            self.held = std::mem::take(&mut self.rest).to_vec();
        }
        Ok(!self.held.is_empty())
    }
}

impl<const N: usize> Iterator for Records<'_, N> {
    type Item = [u8; N];

    fn next(&mut self) -> Option<[u8; N]> {
        if self.next >= self.held.len() {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.failed = Some(error);
                    return None;
                }
            }
        }
        let record = self.held.get(self.next..)?.first_chunk::<N>().copied();
        self.next += N;
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_part_by_part_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut partitions = Partitions::<5>::new(&Spill::into(folder.path())).unwrap().unwrap();
        let record = |n: u32| [(n % 3) as u8 * 100, (n >> 24) as u8, (n >> 16) as u8, (n >> 8) as u8, n as u8];
        (0..200_000).for_each(|n| partitions.add(&record(n)).unwrap());
        let mut found: Vec<Vec<[u8; 5]>> = Vec::new();
        partitions
            .each_part(|records| {
                found.push(records.collect());
                Ok(())
            })
            .unwrap();
        found.retain(|part| !part.is_empty());
        let expected = |part: u32| (0..200_000).filter(|n| n % 3 == part).map(record).collect::<Vec<_>>();
        assert_eq!(found, [expected(0), expected(1), expected(2)]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(Partitions::<5>::new(&Spill::never()).unwrap().is_none());
    }
}
