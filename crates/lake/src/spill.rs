//! Files for what does not fit in memory: without a name, so that nothing of them is left when the process ends, however it
//! ends.
//!
//! A file is made in the folder of [`Spill`] and unlinked before anything is written to it (`O_TMPFILE` where the system has
//! it): nobody else can open it, no crash leaves it behind, and its space is free again once it is dropped. Reading and
//! writing block the thread; what is written is read again soon, out of the page cache where there is memory to spare.

use std::fs::File;
use std::io::{self, ErrorKind as IoKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use starlift_core::{Error, ErrorKind, Result};

/// Keys that one set of keys holds in memory before it puts them aside: about 4 MiB of a hash map that is just not full.
const KEYS_HELD: usize = (1 << 17) / 8 * 7;

/// Where is put aside what does not fit in memory, and from which size on. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub struct Spill {
    folder: Option<Arc<Path>>,
    keys_held: usize,
}

impl Spill {
    /// Nothing is put aside: memory grows with what is read.
    pub fn never() -> Spill {
        Spill::default()
    }

    /// Into this folder, which has to exist.
    pub fn into(folder: &Path) -> Spill {
        Spill { folder: Some(folder.into()), keys_held: KEYS_HELD }
    }

    /// With so many keys in memory for each set of them, at least one.
    pub fn with_keys_held(self, keys: usize) -> Spill {
        Spill { keys_held: keys.max(1), ..self }
    }

    /// Keys that one set of keys holds in memory.
    pub(crate) fn keys_held(&self) -> usize {
        if self.folder.is_some() { self.keys_held } else { usize::MAX }
    }

    /// A new file; none where nothing is put aside.
    ///
    /// Errors: Config where the folder is missing or cannot be written; Unavailable.
    pub(crate) fn file(&self) -> Result<Option<SpillFile>> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let file = tempfile::tempfile_in(folder).map_err(|e| failed(e, folder))?;
        Ok(Some(SpillFile { file, folder: Arc::clone(folder), bytes: 0 }))
    }
}

/// A file without a name.
#[derive(Debug)]
pub(crate) struct SpillFile {
    file: File,
    folder: Arc<Path>,
    bytes: u64,
}

impl SpillFile {
    /// Bytes that were appended.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds bytes at its end.
    ///
    /// Errors: Unavailable where the disk is full.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_at(bytes, self.bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Replaces bytes that were appended before.
    pub(crate) fn write_at(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.file.write_all_at(bytes, at).map_err(|e| failed(e, &self.folder))
    }

    /// Reads as many bytes as `buffer` has.
    pub(crate) fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<()> {
        self.file.read_exact_at(buffer, at).map_err(|e| failed(e, &self.folder))
    }

    /// The file itself, once it is written.
    pub(crate) fn into_file(self) -> File {
        self.file
    }
}

fn failed(error: io::Error, folder: &Path) -> Error {
    let message = format!("cannot put aside in `{}` what does not fit in memory", PathBuf::from(folder).display());
    let (kind, hint) = match error.kind() {
        IoKind::StorageFull | IoKind::QuotaExceeded => (
            ErrorKind::Unavailable,
            "free space on this file system, or name a folder with more of it in TMPDIR, then run again",
        ),
        IoKind::NotFound | IoKind::NotADirectory => (ErrorKind::Config, "name a folder that exists in TMPDIR"),
        IoKind::PermissionDenied | IoKind::ReadOnlyFilesystem => {
            (ErrorKind::Config, "name a folder in TMPDIR that this user may write to")
        }
        _ => (ErrorKind::Unavailable, "run again when the file system answers"),
    };
    Error::new(kind, message).with_hint(hint).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_no_name_and_its_bytes_can_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = Spill::into(folder.path()).file().unwrap().unwrap();
        file.append(b"abc").unwrap();
        file.append(b"def").unwrap();
        file.write_at(b"X", 2).unwrap();
        let mut read = [0; 4];
        file.read_at(&mut read, 1).unwrap();
        assert_eq!((&read, file.bytes()), (b"bXde", 6));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(Spill::never().file().unwrap().is_none());
    }

    #[test]
    fn a_folder_that_is_not_there_and_a_full_disk_are_told_with_the_folder() {
        let error = Spill::into(Path::new("/nowhere/at/all")).file().map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("`/nowhere/at/all`") && error.hint().is_some(), "{error:?}");
        // A device of Linux on which there is never room.
        let file = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut full = SpillFile { file, folder: Path::new("/tmp").into(), bytes: 0 };
        let error = full.append(b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.hint().unwrap().contains("free space"), "{error:?}");
    }
}
