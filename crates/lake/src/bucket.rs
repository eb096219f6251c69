//! A store behind object_store: S3 and what speaks its protocol, or memory for tests and the simulator.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::path::Path;
use object_store::{
    ClientOptions, Error as StoreError, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload, RetryConfig, WriteMultipart,
};
use starlift_core::{Error, ErrorKind, Result};

use crate::content::Content;
use crate::failure::{Doing, from_store, is_absent};
use crate::renewal::{Renewable, SigningAgain};
use crate::spill::Spill;
use crate::store::{Found, Listed};

/// Bytes up to which an object is put at once, and the size of the parts of larger ones.
/// (5 MiB is the least that S3 takes.)
pub(crate) const PART_BYTES: usize = 5 << 20;
const PARTS_IN_FLIGHT: usize = 2;

/// A prefix of a bucket.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    url: String,
}

/// What one create-only put came to.
pub(crate) enum PutAnswer {
    Created,
    /// The store says that the key is taken, or that it cannot tell: the object itself has to be looked at.
    Unclear(Error),
}

impl Bucket {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, prefix: Path, url: String) -> Bucket {
        Bucket { store, prefix, url }
    }

    /// S3 by the settings that the caller took from its environment; names that S3 does not know are left alone.
    pub(crate) fn s3(bucket: &str, prefix: &str, url: String, settings: &BTreeMap<String, String>) -> Result<Bucket> {
        // Long enough for a whole part of 128 MiB over a slow line; `AWS_TIMEOUT` overrides it.
        let client = ClientOptions::new().with_timeout(Duration::from_secs(120));
        let retry = RetryConfig { max_retries: 6, retry_timeout: Duration::from_secs(60), ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::new().with_client_options(client).with_retry(retry);
        for (name, value) in settings {
            let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() else { continue };
            if value.is_empty() {
                continue;
            }
            check_printable(name, &key, value)?;
            if matches!(key, AmazonS3ConfigKey::Endpoint | AmazonS3ConfigKey::S3Endpoint) {
                check_endpoint(name, value)?;
                if value.starts_with("http://") {
                    builder = builder.with_allow_http(true);
                }
            }
            builder = builder.with_config(key, value);
        }
        let wrong = |e: StoreError| {
            Error::config(format!("the AWS settings for `{url}` do not fit together"))
                .with_hint("see `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION` and `AWS_ENDPOINT_URL`")
                .with_source(e)
        };
        let builder = builder.with_bucket_name(bucket).with_conditional_put(S3ConditionalPut::ETagMatch);
        let credentials = Arc::new(Renewable::of(builder.clone()).map_err(wrong)?);
        let store = builder
            .with_credentials(Arc::clone(&credentials) as _)
            .with_http_connector(SigningAgain::with(credentials))
            .build()
            .map_err(wrong)?;
        let prefix = Path::parse(prefix).map_err(|_| Error::config(format!("`{url}` has a prefix that S3 refuses")))?;
        Ok(Bucket::new(Arc::new(store), prefix, url))
    }

    pub(crate) fn place(&self, key: &str) -> String {
        format!("{}/{key}", self.url.trim_end_matches('/'))
    }

    pub(crate) async fn get(&self, key: &str, expected: Option<u64>) -> Result<Option<Found>> {
        let failed = |e: StoreError| from_store(&e, Doing::Read, &self.place(key));
        let found = match self.store.get(&self.path(key)?).await {
            Ok(found) => found,
            Err(e) if is_absent(&e) => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        if expected.is_some_and(|expected| expected != found.meta.size) {
            return Ok(Some(Found::OtherSize(found.meta.size)));
        }
        Ok(Some(Found::Whole(found.bytes().await.map_err(failed)?)))
    }

    /// The object where it has `expected` bytes, fetched into a file where there is a place for it.
    pub(crate) async fn open(&self, key: &str, expected: u64, spill: &Spill) -> Result<Option<Found<Content>>> {
        let failed = |e: StoreError| from_store(&e, Doing::Read, &self.place(key));
        let found = match self.store.get(&self.path(key)?).await {
            Ok(found) => found,
            Err(e) if is_absent(&e) => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        if expected != found.meta.size {
            return Ok(Some(Found::OtherSize(found.meta.size)));
        }
        let Some(mut aside) = spill.file()? else {
            return Ok(Some(Found::Whole(Content::Held(found.bytes().await.map_err(failed)?))));
        };
        let mut chunks = found.into_stream();
        while let Some(chunk) = chunks.try_next().await.map_err(failed)? {
            aside.append(&chunk)?;
        }
        let size = aside.bytes();
        if size != expected {
            return Ok(Some(Found::OtherSize(size)));
        }
        Ok(Some(Found::Whole(Content::File(Arc::new(aside.into_file()), size))))
    }

    pub(crate) async fn get_range(&self, key: &str, range: Range<u64>, expected: u64) -> Result<Option<Found>> {
        let failed = |e: StoreError| from_store(&e, Doing::Read, &self.place(key));
        let path = self.path(key)?;
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let found = match self.store.get_opts(&path, options).await {
            Ok(found) => found,
            Err(e) if is_absent(&e) => return Ok(None),
            // A range behind the end of an object that lost its end is an error of its own.
            Err(e) => match self.store.head(&path).await {
                Ok(meta) if meta.size != expected => return Ok(Some(Found::OtherSize(meta.size))),
                _ => return Err(failed(e)),
            },
        };
        if found.meta.size != expected {
            return Ok(Some(Found::OtherSize(found.meta.size)));
        }
        Ok(Some(Found::Whole(found.bytes().await.map_err(failed)?)))
    }

    pub(crate) async fn put(&self, key: &str, content: Bytes) -> Result<PutAnswer> {
        let options = PutOptions::from(PutMode::Create);
        match self.store.put_opts(&self.path(key)?, PutPayload::from_bytes(content), options).await {
            Ok(_) => Ok(PutAnswer::Created),
            Err(e) => {
                let taken = matches!(e, StoreError::AlreadyExists { .. } | StoreError::Precondition { .. });
                let error = from_store(&e, Doing::Write, &self.place(key));
                // A timeout or 5xx may have written the object all the same; a refusal has not.
                let unclear = taken || error.kind() == ErrorKind::Unavailable;
                if unclear { Ok(PutAnswer::Unclear(error)) } else { Err(error) }
            }
        }
    }

    pub(crate) async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        let failed = |e: StoreError| from_store(&e, Doing::List, &self.place(prefix));
        let below = self.path(prefix)?;
        let below = (!below.is_root()).then_some(below);
        let mut found = match after {
            Some(after) => self.store.list_with_offset(below.as_ref(), &self.path(after)?),
            None => self.store.list(below.as_ref()),
        };
        let mut keys: Vec<String> = Vec::new();
        while keys.len() < limit {
            let Some(meta) = found.try_next().await.map_err(failed)? else { break };
            let Some(key) = self.key(&meta.location) else { continue };
            if keys.last().is_some_and(|last| *last >= key) {
                return Err(Error::config(format!("`{}` does not list its keys in order", self.url))
                    .with_hint("use a store that lists keys in byte order, as S3's general purpose buckets do"));
            }
            keys.push(key);
        }
        Ok(keys)
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<()> {
        match self.store.delete(&self.path(key)?).await {
            Err(e) if !is_absent(&e) => Err(from_store(&e, Doing::Delete, &self.place(key))),
            _ => Ok(()),
        }
    }

    pub(crate) fn walk(&self) -> Result<BoxStream<'static, Result<Listed>>> {
        let below = self.path("")?;
        let below = (!below.is_root()).then_some(below);
        let bucket = self.clone();
        let listed = self.store.list(below.as_ref()).filter_map(move |found| {
            let listed = match found {
                Ok(meta) => bucket.key(&meta.location).map(|key| Ok(Listed { key, bytes: meta.size })),
                Err(e) => Some(Err(from_store(&e, Doing::List, &bucket.place("")))),
            };
            async { listed }
        });
        Ok(listed.boxed())
    }

    pub(crate) async fn delete_all(&self, keys: Vec<String>) -> Result<()> {
        let paths = keys.iter().map(|key| self.path(key)).collect::<Result<Vec<Path>>>()?;
        let mut deleted = self.store.delete_stream(stream::iter(paths.into_iter().map(Ok)).boxed());
        while let Some(outcome) = deleted.next().await {
            match outcome {
                Err(e) if !is_absent(&e) => return Err(from_store(&e, Doing::Delete, &self.place(""))),
                _ => {}
            }
        }
        Ok(())
    }

    /// Starts an upload in parts; it is visible only when it is completed.
    pub(crate) async fn open_parts(&self, key: &str) -> Result<Parts> {
        let place = self.place(key);
        let upload =
            self.store.put_multipart(&self.path(key)?).await.map_err(|e| from_store(&e, Doing::Write, &place))?;
        Ok(Parts { upload: WriteMultipart::new_with_chunk_size(upload, PART_BYTES), place })
    }

    /// Whether a key is free, as far as the store tells.
    pub(crate) async fn is_free(&self, key: &str) -> Result<bool> {
        match self.store.head(&self.path(key)?).await {
            Ok(_) => Ok(false),
            // Without `s3:ListBucket` a free key is answered as denied; the claim protects the key all the same.
            Err(e) if is_absent(&e) || matches!(e, StoreError::PermissionDenied { .. }) => Ok(true),
            Err(e) => Err(from_store(&e, Doing::Read, &self.place(key))),
        }
    }

    /// The key with the prefix before it, as it is: joining parts would encode a `%` in them again.
    fn path(&self, key: &str) -> Result<Path> {
        let path = match (self.prefix.is_root(), key.is_empty()) {
            (true, _) => Path::parse(key),
            (false, true) => Ok(self.prefix.clone()),
            (false, false) => Path::parse(format!("{}/{key}", self.prefix)),
        };
        path.map_err(|_| Error::internal(format!("`{}` is no object key", key.escape_debug())))
    }

    fn key(&self, location: &Path) -> Option<String> {
        let text = location.as_ref();
        if self.prefix.is_root() {
            return Some(text.to_string());
        }
        text.strip_prefix(self.prefix.as_ref())?.strip_prefix('/').map(str::to_string)
    }
}

/// An upload in parts, at most [`PARTS_IN_FLIGHT`] of them under way.
pub(crate) struct Parts {
    upload: WriteMultipart,
    place: String,
}

impl Parts {
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let waited = self.upload.wait_for_capacity(PARTS_IN_FLIGHT).await;
        waited.map_err(|e| from_store(&e, Doing::Write, &self.place))?;
        self.upload.put(bytes);
        Ok(())
    }

    pub(crate) async fn complete(self) -> Result<()> {
        self.upload.finish().await.map(|_| ()).map_err(|e| from_store(&e, Doing::Write, &self.place))
    }

    /// Gives the upload up. What the store keeps of it is invisible, and a lifecycle rule removes it.
    pub(crate) async fn abort(self) {
        if let Err(error) = self.upload.abort().await {
            tracing::debug!(place = self.place, "{}", from_store(&error, Doing::Write, &self.place));
        }
    }
}

/// Refuses what no header of a request can hold: signing with it would end in a panic. The name of a file is in no header.
fn check_printable(name: &str, key: &AmazonS3ConfigKey, value: &str) -> Result<()> {
    use AmazonS3ConfigKey::{ContainerAuthorizationTokenFile, WebIdentityTokenFile};
    let is_path = matches!(key, ContainerAuthorizationTokenFile | WebIdentityTokenFile);
    if is_path || is_printable(value) {
        return Ok(());
    }
    Err(Error::config(format!("`{name}` holds a line break or another character that no request can carry"))
        .with_hint(format!("set `{name}` again; a value that was read from a file may end with a line break")))
}

/// Whether a header of a request can hold it.
pub(crate) fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

fn check_endpoint(name: &str, value: &str) -> Result<()> {
    let wrong = |message: String| {
        Err(Error::config(message).with_hint(format!("set `{name}` to a URL such as `https://s3.example.com`")))
    };
    match url::Url::parse(value) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            wrong(format!("credentials do not belong in `{name}`"))
        }
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(()),
        _ => wrong(format!("`{name}` is no http or https URL")),
    }
}
