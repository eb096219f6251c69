//! A store that counts what it is asked for.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use starlift_lake::Store;

/// What a store was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) lists: u64,
    pub(crate) gets: u64,
    /// Bytes that were read.
    pub(crate) bytes: u64,
    /// The keys that were read.
    pub(crate) keys: Vec<String>,
    pub(crate) puts: u64,
    /// Bytes that were written.
    pub(crate) written: u64,
}

#[derive(Debug, Default)]
struct Counts {
    lists: AtomicU64,
    puts: AtomicU64,
    written: AtomicU64,
    reads: Mutex<Vec<(String, u64)>>,
}

/// Counts what a store in memory is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Counting {
    inner: Arc<InMemory>,
    counts: Arc<Counts>,
}

impl Counting {
    pub(crate) fn new() -> Counting {
        Counting { inner: Arc::new(InMemory::new()), counts: Arc::default() }
    }

    pub(crate) fn store(&self) -> Store {
        Store::from_object_store(Arc::new(self.clone()), "counting://lake")
    }

    /// What was asked for since the last time.
    pub(crate) fn asked(&self) -> Asked {
        let reads = std::mem::take(&mut *self.counts.reads.lock().unwrap());
        Asked {
            lists: self.counts.lists.swap(0, Relaxed),
            gets: reads.len() as u64,
            bytes: reads.iter().map(|(_, bytes)| bytes).sum(),
            keys: reads.into_iter().map(|(key, _)| key).collect(),
            puts: self.counts.puts.swap(0, Relaxed),
            written: self.counts.written.swap(0, Relaxed),
        }
    }
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("counting")
    }
}

#[async_trait]
impl ObjectStore for Counting {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.counts.puts.fetch_add(1, Relaxed);
        self.counts.written.fetch_add(payload.content_length() as u64, Relaxed);
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let found = self.inner.get_opts(location, options).await?;
        let bytes = found.range.end - found.range.start;
        self.counts.reads.lock().unwrap().push((location.to_string(), bytes));
        Ok(found)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.counts.lists.fetch_add(1, Relaxed);
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
