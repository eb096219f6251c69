//! The store: immutable objects by key, in a folder, a bucket or memory.
//!
//! Guarantees:
//! * *create-only*: an object is created whole or not at all, and never replaced;
//! * *honest outcome*: [`Store::create`] says Created only where the stored bytes are the caller's, also after a
//!   timeout, a 5xx or a 409, because it reads the object back before it believes any of them;
//! * *order*: listings are in byte order of the keys;
//! * *durable*: in a folder, object and folder are synced before a call returns;
//! * *nothing on opening*: a folder is made by the first write.
//!
//! A crash leaves whole objects, and in a folder perhaps a staging file (`…#1`) that no listing shows.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use starlift_core::{Error, ErrorKind, Result, fault, key};

use crate::bucket::{Bucket, PutAnswer};
use crate::content::{Content, HELD_BYTES};
use crate::folder::Folder;
use crate::location::{Location, check_key};
use crate::spill::Spill;
use crate::upload::Upload;

const CREATE_TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A lake or a star. Cloning is cheap, and clones share their connections.
#[derive(Clone)]
pub struct Store {
    backend: Backend,
    url: Arc<str>,
    spill: Spill,
}

#[derive(Clone)]
pub(crate) enum Backend {
    Folder(Folder),
    Bucket(Bucket),
}

/// What a create-only put came to. Both are ordinary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateOutcome {
    /// The object holds the caller's bytes, and nobody else's were replaced.
    Created,
    /// The key is taken by other bytes, which stay.
    Exists,
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) key: String,
    pub(crate) bytes: u64,
}

/// An object that was asked for with its size.
pub(crate) enum Found<T = Bytes> {
    /// What was asked for: all of it, or a range.
    Whole(T),
    /// It has this many bytes instead, and was not read.
    OtherSize(u64),
}

impl Store {
    /// Opens a folder (`lake/ingest`, `/srv/lake`, `file:///srv/lake`) or `s3://bucket/prefix`; writes nothing, and asks
    /// the store nothing.
    ///
    /// `options` are AWS settings under their environment names (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
    /// `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`, …); unknown ones
    /// are left alone, so a caller may pass every variable that starts with `AWS_`. An endpoint with `http://` allows
    /// plain HTTP. Where no credentials are given, those of the machine's role are used.
    ///
    /// Errors: Config.
    pub fn open(url: &str, options: &BTreeMap<String, String>) -> Result<Store> {
        let backend = match Location::parse(url)? {
            Location::Folder(path) => Backend::Folder(Folder::new(path)),
            Location::S3 { bucket, prefix } => Backend::Bucket(Bucket::s3(&bucket, &prefix, url.to_string(), options)?),
        };
        Ok(Store { backend, url: url.into(), spill: Spill::never() })
    }

    /// A store in memory, which ends with its last clone.
    pub fn in_memory() -> Store {
        Store::from_object_store(Arc::new(InMemory::new()), "memory://lake")
    }

    /// A store over any implementation, such as one that injects faults; `url` is what errors print.
    pub fn from_object_store(store: Arc<dyn ObjectStore>, url: &str) -> Store {
        let bucket = Bucket::new(store, Path::default(), url.to_string());
        Store { backend: Backend::Bucket(bucket), url: url.into(), spill: Spill::never() }
    }

    /// Where what is read of it is put aside where it does not fit in memory; without this nowhere.
    pub fn spilling(self, spill: Spill) -> Store {
        Store { spill, ..self }
    }

    /// Where what does not fit in memory is put aside.
    pub fn spill(&self) -> &Spill {
        &self.spill
    }

    /// Where it is, as the caller wrote it; never with credentials.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The whole object, or none where there is no such key.
    ///
    /// Errors: Permission, also where S3 hides a missing key because `s3:ListBucket` is not granted; Config for a
    /// missing bucket or a symbolic link in a folder; Unavailable.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        match self.get_sized(key, None).await? {
            Some(Found::Whole(bytes)) => Ok(Some(bytes)),
            Some(Found::OtherSize(_)) | None => Ok(None),
        }
    }

    /// The object where it has the expected size, which is checked before it is fetched.
    pub(crate) async fn get_sized(&self, key: &str, expected: Option<u64>) -> Result<Option<Found>> {
        check_key(key)?;
        match &self.backend {
            Backend::Folder(folder) => folder.get(key, expected).await,
            Backend::Bucket(bucket) => bucket.get(key, expected).await,
        }
    }

    /// As [`Store::get_sized`], with a large object as a file.
    pub(crate) async fn open_sized(&self, key: &str, expected: u64) -> Result<Option<Found<Content>>> {
        if expected <= HELD_BYTES {
            return Ok(self.get_sized(key, Some(expected)).await?.map(|found| match found {
                Found::Whole(bytes) => Found::Whole(Content::Held(bytes)),
                Found::OtherSize(size) => Found::OtherSize(size),
            }));
        }
        check_key(key)?;
        match &self.backend {
            Backend::Folder(folder) => folder.open(key, expected).await,
            Backend::Bucket(bucket) => bucket.open(key, expected, &self.spill).await,
        }
    }

    /// A range of the object where it has the expected size; none where it does not exist.
    pub(crate) async fn get_range(&self, key: &str, range: Range<u64>, expected: u64) -> Result<Option<Found>> {
        check_key(key)?;
        match &self.backend {
            Backend::Folder(folder) => folder.get_range(key, range, expected).await,
            Backend::Bucket(bucket) => bucket.get_range(key, range, expected).await,
        }
    }

    /// Creates an object; one that exists stays as it is.
    ///
    /// Two callers with equal bytes may both see Created, so bytes that decide a race must hold something of their
    /// writer (a manifest has its `write_id`, a claim its owner).
    ///
    /// Errors: Permission, Config, or Unavailable where the outcome is still unknown after several tries; then the
    /// object may exist.
    pub async fn create(&self, key: &str, content: Bytes) -> Result<CreateOutcome> {
        check_key(key)?;
        let mut pause = FIRST_PAUSE;
        let mut last = None;
        for attempt in 0..CREATE_TRIES {
            if attempt > 0 {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            let unclear = match &self.backend {
                Backend::Folder(folder) => match folder.create(key, content.clone()).await? {
                    CreateOutcome::Created => return Ok(CreateOutcome::Created),
                    CreateOutcome::Exists => None,
                },
                Backend::Bucket(bucket) => match bucket.put(key, content.clone()).await? {
                    PutAnswer::Created => return Ok(CreateOutcome::Created),
                    PutAnswer::Unclear(error) => Some(error),
                },
            };
            match self.get(key).await {
                Ok(Some(stored)) if stored == content => return Ok(CreateOutcome::Created),
                Ok(Some(_)) if fault::planted("exists_is_success") => return Ok(CreateOutcome::Created),
                Ok(Some(_)) => return Ok(CreateOutcome::Exists),
                Ok(None) => last = unclear,
                Err(e) if e.kind() == ErrorKind::Unavailable => last = Some(e),
                Err(e) => return Err(e),
            }
        }
        let error = Error::unavailable(format!("cannot tell whether `{}` was created", self.place(key)))
            .with_hint("run again; a run finds out by itself what the one before it did");
        Err(match last {
            // What the store answered says why, throttling above all.
            Some(last) => match last.detail() {
                Some(answer) => error.with_detail(format!("{last}: {answer}")).with_source(last),
                None => error.with_source(last),
            },
            None => error,
        })
    }

    /// The first `limit` keys of a folder such as `_manifests` (or `""` for all), in byte order.
    ///
    /// Errors: Permission, Config, Unavailable.
    pub async fn list(&self, folder: &str, limit: usize) -> Result<Vec<String>> {
        self.list_from(folder, None, limit).await
    }

    /// The first `limit` keys of a folder that come after a key, in byte order.
    pub async fn list_after(&self, folder: &str, after: &str, limit: usize) -> Result<Vec<String>> {
        self.list_from(folder, Some(after), limit).await
    }

    async fn list_from(&self, folder: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        if !folder.is_empty() {
            check_key(folder)?;
        }
        match &self.backend {
            Backend::Folder(files) => files.list(folder, after, limit).await,
            Backend::Bucket(bucket) => bucket.list(folder, after, limit).await,
        }
    }

    /// Every object with its size, in no particular order; in a folder also what is staged for an object.
    pub(crate) async fn walk(&self) -> Result<BoxStream<'static, Result<Listed>>> {
        match &self.backend {
            Backend::Folder(folder) => Ok(stream::iter(folder.walk().await?.into_iter().map(Ok)).boxed()),
            Backend::Bucket(bucket) => bucket.walk(),
        }
    }

    /// Removes objects; those that are gone already are passed over.
    ///
    /// For vacuum alone: what a manifest names must never come here.
    pub(crate) async fn remove(&self, keys: Vec<String>) -> Result<()> {
        match &self.backend {
            Backend::Folder(folder) => {
                for key in keys {
                    folder.delete(&key).await?;
                }
                Ok(())
            }
            Backend::Bucket(bucket) => bucket.delete_all(keys).await,
        }
    }

    /// Removes what a run wrote under its own claim and gives up, where it takes the space of a disk that the run still needs.
    /// Whatever cannot be removed stays for vacuum, as it does in a bucket, where roles may not delete.
    pub(crate) async fn give_back(&self, keys: Vec<String>) {
        let Backend::Folder(folder) = &self.backend else { return };
        for key in keys {
            if let Err(error) = folder.delete(&key).await {
                tracing::debug!(key, "not removed: {error}");
            }
        }
    }

    /// Shows that this store can be written and keeps its create-only promise: creates `_claims/probe-<id>`, tries to
    /// replace it, reads it back and deletes it. Returns its key where it could not be deleted, which a role without
    /// `s3:DeleteObject` may not; it does no harm there.
    ///
    /// `id` must be new each time. Errors: Permission, Config (also where the store replaced the probe), Unavailable.
    pub async fn probe_writable(&self, id: &str) -> Result<Option<String>> {
        let key = format!("{}/probe-{}", key::CLAIMS, key::segment(id));
        let first = Bytes::from(format!("{id} first"));
        if self.create(&key, first.clone()).await? == CreateOutcome::Exists {
            return Err(Error::internal(format!("the probe `{key}` exists")).with_hint("run again"));
        }
        let second = self.create(&key, Bytes::from(format!("{id} second"))).await?;
        let kept = self.get(&key).await?.is_some_and(|stored| stored == first);
        let deleted = match &self.backend {
            Backend::Folder(folder) => folder.delete(&key).await,
            Backend::Bucket(bucket) => bucket.delete(&key).await,
        };
        if second == CreateOutcome::Created || !kept {
            return Err(Error::config(format!("`{}` replaces objects that were to be created once", self.url))
                .with_detail("it does not honour `If-None-Match: *`, so two runs could commit the same manifest")
                .with_hint("use a store that has create-only puts"));
        }
        Ok(deleted.err().map(|_| key))
    }

    /// Opens an object for streaming. Its key must belong to the caller alone, by its claim.
    pub(crate) async fn upload(&self, key: &str) -> Result<Upload> {
        check_key(key)?;
        Upload::open(self.clone(), key).await
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }

    /// The printable name of one object.
    pub(crate) fn place(&self, key: &str) -> String {
        match &self.backend {
            Backend::Folder(folder) => folder.place(key),
            Backend::Bucket(bucket) => bucket.place(key),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.url).finish()
    }
}
