//! The bytes of a data file: small ones in memory, larger ones where they are, or aside.
//!
//! A file of a folder is opened once, and what is parsed is read from what was opened; an object of a bucket is fetched into a
//! [spill file](crate::spill) as it streams. So a reader's memory does not follow the size of its files. Files are read by
//! position, so that several may read one at once.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};
use sha2::{Digest, Sha256};
use starlift_core::digest::hex;

/// Objects up to this size are held in memory.
pub(crate) const HELD_BYTES: u64 = 1 << 20;
/// Bytes that are hashed at once.
const READ_BYTES: usize = 64 << 10;
/// Bytes that are read ahead: a reader is opened for each header of a page, and few of them are longer.
const HEADER_BYTES: usize = 1 << 10;

/// Bytes of an object.
#[derive(Clone)]
pub(crate) enum Content {
    Held(Bytes),
    /// A file with so many bytes.
    File(Arc<File>, u64),
}

impl Content {
    /// Their SHA-256. Blocks.
    pub(crate) fn sha256_hex(&self) -> io::Result<String> {
        let (file, size) = match self {
            Content::Held(bytes) => return Ok(hex(&Sha256::digest(bytes))),
            Content::File(file, size) => (file, *size),
        };
        let mut hasher = Sha256::new();
        let mut rest = FileReader { file: Arc::clone(file), at: 0, end: size };
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = rest.read(&mut buffer)?;
            if read == 0 {
                return Ok(hex(&hasher.finalize()));
            }
            hasher.update(buffer.get(..read).unwrap_or_default());
        }
    }
}

impl Length for Content {
    fn len(&self) -> u64 {
        match self {
            Content::Held(bytes) => bytes.len() as u64,
            Content::File(_, size) => *size,
        }
    }
}

impl ChunkReader for Content {
    type T = Box<dyn Read + Send>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        match self {
            Content::Held(bytes) => Ok(Box::new(bytes.get_read(start)?)),
            Content::File(file, size) => {
                let reader = FileReader { file: Arc::clone(file), at: start, end: *size };
                Ok(Box::new(io::BufReader::with_capacity(HEADER_BYTES, reader)))
            }
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let (file, size) = match self {
            Content::Held(bytes) => return bytes.get_bytes(start, length),
            Content::File(file, size) => (file, *size),
        };
        // A length out of a damaged file is not to be allocated.
        if start.checked_add(length as u64).is_none_or(|end| end > size) {
            return Err(ParquetError::EOF("a range behind the end of the file".into()));
        }
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}

/// Reads a file from a position on, whatever others read of it.
struct FileReader {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let read = self.file.read_at(buffer.get_mut(..wanted).unwrap_or_default(), self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use starlift_core::digest::sha256_hex;

    #[test]
    fn a_file_is_read_like_bytes_in_memory() {
        let bytes: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &bytes).unwrap();
        let held = Content::Held(bytes.clone().into());
        let stored = Content::File(Arc::new(file), bytes.len() as u64);
        assert_eq!(stored.sha256_hex().unwrap(), sha256_hex(&bytes));
        assert_eq!(held.sha256_hex().unwrap(), sha256_hex(&bytes));
        for (start, length) in [(0, 10), (299_990, 10), (70_000, 150_000)] {
            assert_eq!(stored.get_bytes(start, length).unwrap(), held.get_bytes(start, length).unwrap());
            let (mut one, mut other) = (vec![0; length], vec![0; length]);
            let mut first = stored.get_read(start).unwrap();
            first.read_exact(&mut one[..length / 2]).unwrap();
            // Another reader of the same file does not move the first.
            stored.get_read(start).unwrap().read_exact(&mut other).unwrap();
            first.read_exact(&mut one[length / 2..]).unwrap();
            assert_eq!(
                (&one[..], &other[..]),
                (&bytes[start as usize..][..length], &bytes[start as usize..][..length])
            );
        }
        assert!(stored.get_bytes(299_991, 10).is_err() && stored.get_bytes(u64::MAX, 2).is_err());
        let mut rest = Vec::new();
        stored.get_read(299_999).unwrap().read_to_end(&mut rest).unwrap();
        assert_eq!(rest, bytes[299_999..]);
    }
}
