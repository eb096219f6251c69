//! A store in a folder of a local file system.
//!
//! An object is written to a staging file beside it (`<name>#<n>`, which no listing shows), synced, and linked to its
//! name, which fails where the name is taken (link(2): atomic, and it never replaces). Then the folder is synced. So
//! an object is whole or absent, also after a power cut; a crash leaves at most a staging file, which nothing reads.
//! object_store's own local store has no sync, follows symbolic links out of its root, and needs the root to exist.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind as IoKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use starlift_core::vacuum::STAGING_MARK;
use starlift_core::{Error, Result, fault, key};
use tokio::io::AsyncWriteExt;

use crate::content::Content;
use crate::failure::{Doing, from_io};
use crate::store::{CreateOutcome, Found, Listed};

const STAGING_TRIES: u32 = 10_000;

/// A folder that is made when the first object is written.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    root: Arc<PathBuf>,
}

impl Folder {
    pub(crate) fn new(root: PathBuf) -> Folder {
        Folder { root: Arc::new(root) }
    }

    pub(crate) fn place(&self, key: &str) -> String {
        self.path(key).display().to_string()
    }

    /// The object's bytes where it has `expected` of them, or its size; none where it does not exist.
    pub(crate) async fn get(&self, key: &str, expected: Option<u64>) -> Result<Option<Found>> {
        let path = self.path(key);
        let folder = self.clone();
        blocking(move || {
            folder.refuse_links(&path, Doing::Read)?;
            read_whole(&path, expected).map_err(|e| from_io(e, Doing::Read, &path))
        })
        .await
    }

    /// The object as a file, where it has `expected` bytes, or its size; none where it does not exist.
    pub(crate) async fn open(&self, key: &str, expected: u64) -> Result<Option<Found<Content>>> {
        let path = self.path(key);
        let folder = self.clone();
        blocking(move || {
            folder.refuse_links(&path, Doing::Read)?;
            open_sized(&path, expected).map_err(|e| from_io(e, Doing::Read, &path))
        })
        .await
    }

    /// A range of the object's bytes where it has `expected` of them, or its size; none where it does not exist.
    pub(crate) async fn get_range(&self, key: &str, range: Range<u64>, expected: u64) -> Result<Option<Found>> {
        let path = self.path(key);
        let folder = self.clone();
        blocking(move || {
            folder.refuse_links(&path, Doing::Read)?;
            read_range(&path, range, expected).map_err(|e| from_io(e, Doing::Read, &path))
        })
        .await
    }

    /// Creates an object; what exists stays.
    pub(crate) async fn create(&self, key: &str, content: Bytes) -> Result<CreateOutcome> {
        let path = self.path(key);
        let folder = self.clone();
        blocking(move || {
            folder.refuse_links(&path, Doing::Write)?;
            let written = (|| {
                let (mut file, staging) = stage(&path)?;
                file.write_all(&content)?;
                file.sync_all()?;
                link(&staging, &path)
            })();
            written.map_err(|e| from_io(e, Doing::Write, &path))
        })
        .await
    }

    /// Opens an object for writing; it is visible only when it is published.
    pub(crate) async fn open_staged(&self, key: &str) -> Result<StagedFile> {
        let path = self.path(key);
        let folder = self.clone();
        blocking(move || {
            folder.refuse_links(&path, Doing::Write)?;
            let (file, staging) = stage(&path).map_err(|e| from_io(e, Doing::Write, &path))?;
            Ok(StagedFile { file: tokio::fs::File::from_std(file), staging, path })
        })
        .await
    }

    /// The first `limit` keys below a folder of the store, in byte order, that come after `after`.
    pub(crate) async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        let root = Arc::clone(&self.root);
        let prefix = prefix.to_string();
        let after = after.map(str::to_string);
        let folder = self.clone();
        blocking(move || {
            let start = if prefix.is_empty() { root.to_path_buf() } else { folder.path(&prefix) };
            if !prefix.is_empty() {
                folder.refuse_links(&start, Doing::List)?;
            }
            let mut first = BTreeSet::new();
            walk(&start, &prefix, &mut |key, _| {
                if is_staged(&key) {
                    return Ok(());
                }
                if after.as_deref().is_none_or(|after| key.as_str() > after) {
                    first.insert(key);
                    if first.len() > limit {
                        first.pop_last();
                    }
                }
                Ok(())
            })?;
            Ok(first.into_iter().collect())
        })
        .await
    }

    /// Every file below the root with its size, also what is staged. What goes away meanwhile is passed over.
    pub(crate) async fn walk(&self) -> Result<Vec<Listed>> {
        let root = Arc::clone(&self.root);
        blocking(move || {
            let mut all = Vec::new();
            walk(&root, "", &mut |key, entry| {
                match entry.metadata() {
                    Ok(found) => all.push(Listed { key, bytes: found.len() }),
                    Err(e) if e.kind() == IoKind::NotFound => {}
                    Err(e) => return Err(from_io(e, Doing::List, &entry.path())),
                }
                Ok(())
            })?;
            Ok(all)
        })
        .await
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<()> {
        let path = self.path(key);
        let folder = self.clone();
        blocking(move || {
            folder.refuse_links(&path, Doing::Delete)?;
            match fs::remove_file(&path) {
                Err(e) if e.kind() != IoKind::NotFound => Err(from_io(e, Doing::Delete, &path)),
                _ => Ok(()),
            }
        })
        .await
    }

    fn path(&self, key: &str) -> PathBuf {
        key.split('/').fold(self.root.to_path_buf(), |path, segment| path.join(segment))
    }

    /// A symbolic link below the root could lead anywhere; the root itself may be one.
    fn refuse_links(&self, path: &Path, doing: Doing) -> Result<()> {
        let Ok(below) = path.strip_prefix(self.root.as_path()) else { return Ok(()) };
        let mut current = self.root.to_path_buf();
        for component in below.components() {
            current.push(component);
            match fs::symlink_metadata(&current) {
                Ok(found) if found.file_type().is_symlink() => return Err(link_refused(&current)),
                Ok(_) => {}
                Err(e) if e.kind() == IoKind::NotFound => return Ok(()),
                Err(e) => return Err(from_io(e, doing, &current)),
            }
        }
        Ok(())
    }
}

/// A file that is being written under its staging name. Dropping it removes it.
pub(crate) struct StagedFile {
    file: tokio::fs::File,
    staging: Staging,
    path: PathBuf,
}

impl StagedFile {
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).await.map_err(|e| from_io(e, Doing::Write, &self.path))
    }

    /// Makes the file visible, whole and synced, unless its name is taken.
    pub(crate) async fn publish(mut self) -> Result<CreateOutcome> {
        let flushed = async {
            self.file.flush().await?;
            self.file.sync_all().await
        };
        flushed.await.map_err(|e| from_io(e, Doing::Write, &self.path))?;
        let (staging, path) = (self.staging, self.path);
        blocking(move || link(&staging, &path).map_err(|e| from_io(e, Doing::Write, &path))).await
    }
}

/// Removes the staging name when it is dropped; the object keeps its own name.
#[derive(Debug)]
struct Staging(PathBuf);

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed is an orphan that nothing reads.
        let _ = fs::remove_file(&self.0);
    }
}

fn stage(path: &Path) -> io::Result<(File, Staging)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(IoKind::InvalidFilename.into());
    };
    create_folders(parent)?;
    for number in 1..=STAGING_TRIES {
        let mut staging_name = name.to_os_string();
        staging_name.push(format!("{STAGING_MARK}{number}"));
        let staging = parent.join(staging_name);
        match File::options().write(true).create_new(true).open(&staging) {
            Ok(file) => return Ok((file, Staging(staging))),
            // Another run's, or one that a crash left.
            Err(e) if e.kind() == IoKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::other("too many staging files beside it"))
}

fn link(staging: &Staging, path: &Path) -> io::Result<CreateOutcome> {
    fault::point("lake.object_staged");
    if fault::planted("manifest_overwritten") && path.parent().is_some_and(|p| p.ends_with(key::MANIFESTS)) {
        return fs::rename(&staging.0, path).map(|()| CreateOutcome::Created);
    }
    match fs::hard_link(&staging.0, path) {
        Ok(()) => {
            fault::point("lake.object_linked");
            if let Some(parent) = path.parent() {
                sync_folder(parent)?;
            }
            Ok(CreateOutcome::Created)
        }
        Err(e) if e.kind() == IoKind::AlreadyExists => Ok(CreateOutcome::Exists),
        Err(e) => Err(e),
    }
}

/// Like `create_dir_all`, but each new folder is synced into its parent.
fn create_folders(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().filter(|p| !p.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_folders(parent)?;
    }
    match fs::create_dir(folder) {
        Ok(()) => sync_folder(parent.unwrap_or(Path::new("."))),
        Err(e) if e.kind() == IoKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(e) if e.kind() == IoKind::AlreadyExists => Err(IoKind::NotADirectory.into()),
        Err(e) => Err(e),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    // Only Unix can open a folder as a file; elsewhere the file system decides when names are durable.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn read_whole(path: &Path, expected: Option<u64>) -> io::Result<Option<Found>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == IoKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let size = file.metadata()?.len();
    if expected.is_some_and(|expected| expected != size) {
        return Ok(Some(Found::OtherSize(size)));
    }
    let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.read_to_end(&mut content)?;
    Ok(Some(Found::Whole(content.into())))
}

fn read_range(path: &Path, range: Range<u64>, expected: u64) -> io::Result<Option<Found>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == IoKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let size = file.metadata()?.len();
    if expected != size {
        return Ok(Some(Found::OtherSize(size)));
    }
    file.seek(SeekFrom::Start(range.start))?;
    let mut content = vec![0; usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0)];
    file.read_exact(&mut content)?;
    Ok(Some(Found::Whole(content.into())))
}

fn open_sized(path: &Path, expected: u64) -> io::Result<Option<Found<Content>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == IoKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(IoKind::IsADirectory.into());
    }
    Ok(Some(match metadata.len() {
        size if size == expected => Found::Whole(Content::File(Arc::new(file), size)),
        size => Found::OtherSize(size),
    }))
}

fn is_staged(key: &str) -> bool {
    key.contains(STAGING_MARK)
}

fn walk(folder: &Path, prefix: &str, found: &mut dyn FnMut(String, &fs::DirEntry) -> Result<()>) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == IoKind::NotFound => return Ok(()),
        Err(e) => return Err(from_io(e, Doing::List, folder)),
    };
    for entry in entries {
        let entry = entry.map_err(|e| from_io(e, Doing::List, folder))?;
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            Err(e) if e.kind() == IoKind::NotFound => continue,
            Err(e) => return Err(from_io(e, Doing::List, &entry.path())),
        };
        // No key of ours is without a text.
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let key = if prefix.is_empty() { name.to_string() } else { format!("{prefix}/{name}") };
        if is_staged(name) && !kind.is_file() {
            continue;
        } else if kind.is_symlink() {
            return Err(link_refused(&entry.path()));
        } else if kind.is_dir() {
            walk(&entry.path(), &key, found)?;
        } else {
            found(key, &entry)?;
        }
    }
    Ok(())
}

fn link_refused(path: &Path) -> Error {
    Error::config(format!("`{}` is a symbolic link inside a lake", path.display()))
        .with_detail("a link could lead out of the lake's folder")
        .with_hint("put the files themselves there, or point `[lake]` in starlift.toml at another folder")
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(Error::internal("a file operation of the lake stopped half-way")),
    }
}
