//! The store that fails on purpose: `object_store`'s interface over a map, with every answer that S3 is known to give.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::port::Port;

/// A bucket.
#[derive(Debug, Clone, Default)]
pub(crate) struct Objects {
    pub(crate) stored: BTreeMap<String, Bytes>,
    /// Puts that were answered with an error and are on their way all the same.
    pub(crate) late: Vec<(String, Bytes)>,
}

impl Objects {
    /// What `If-None-Match: *` asks for.
    pub(crate) fn create(&mut self, key: &str, content: Bytes) -> bool {
        let is_free = !self.stored.contains_key(key);
        if is_free {
            self.stored.insert(key.to_string(), content);
        }
        is_free
    }

    /// A put that was given up arrives.
    pub(crate) fn deliver(&mut self, position: usize) -> Option<String> {
        if self.late.is_empty() {
            return None;
        }
        let (key, content) = self.late.remove(position % self.late.len());
        self.create(&key, content);
        Some(key)
    }
}

/// What becomes of a put besides what it should.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PutFault {
    /// A timeout or 5xx; nothing is stored.
    Lost,
    /// A timeout or 5xx; the object is stored.
    Stored,
    /// A timeout; the object is stored later, when the caller has looked and not found it.
    Late,
    /// 409: the store says that the object exists, and it does not.
    Conflict,
    /// The object is stored, the client's own repetition meets it, and the answer is 412.
    OwnConflict,
    /// 403.
    Denied,
}

const PUT_FAULTS: [PutFault; 11] = [
    PutFault::Lost,
    PutFault::Lost,
    PutFault::Stored,
    PutFault::Stored,
    PutFault::Late,
    PutFault::Late,
    PutFault::Conflict,
    PutFault::Conflict,
    PutFault::OwnConflict,
    PutFault::OwnConflict,
    PutFault::Denied,
];

/// A bucket as one run reaches it.
#[derive(Debug)]
pub(crate) struct Reach {
    pub(crate) port: Port,
    pub(crate) bucket: usize,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated")
    }
}

fn outage() -> Error {
    Error::Generic { store: "S3", source: "status code: 503 Service Unavailable: <Code>SlowDown</Code>".into() }
}

fn taken(key: &str) -> Error {
    Error::AlreadyExists { path: key.into(), source: "409".into() }
}

fn meta(key: &str, size: usize) -> ObjectMeta {
    let location = Path::from(key);
    ObjectMeta { location, last_modified: Default::default(), size: size as u64, e_tag: None, version: None }
}

impl Reach {
    async fn read_point(&self) -> Result<()> {
        self.port.point().await;
        if self.port.fails(|w| w.settings.read_fault) { Err(outage()) } else { Ok(()) }
    }

    fn objects<T>(&self, work: impl FnOnce(&mut Objects) -> T) -> T {
        self.port.with(|w| work(&mut w.buckets[self.bucket]))
    }

    pub(crate) fn put(&self, key: &str, content: Bytes) -> Result<()> {
        let fault = self.port.fails(|w| w.settings.put_fault).then(|| self.port.with(|w| w.random.one_of(&PUT_FAULTS)));
        self.port.note(|| format!("puts {key}{}", fault.map(|f| format!(": {f:?}")).unwrap_or_default()));
        self.objects(|objects| match fault {
            None => {
                if objects.create(key, content) {
                    Ok(())
                } else {
                    Err(taken(key))
                }
            }
            Some(PutFault::Lost) => Err(outage()),
            Some(PutFault::Late) => {
                objects.late.push((key.to_string(), content));
                Err(outage())
            }
            Some(PutFault::Stored) => {
                objects.create(key, content);
                Err(outage())
            }
            Some(PutFault::Conflict) => Err(taken(key)),
            Some(PutFault::OwnConflict) => {
                objects.create(key, content);
                Err(taken(key))
            }
            Some(PutFault::Denied) => Err(Error::PermissionDenied { path: key.into(), source: "403".into() }),
        })
    }
}

#[async_trait]
impl ObjectStore for Reach {
    async fn put_opts(&self, location: &Path, payload: PutPayload, _: PutOptions) -> Result<PutResult> {
        self.port.point().await;
        self.put(location.as_ref(), payload.into())?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented { operation: "uploads in parts".into(), implementer: "simulator".into() })
    }

    async fn get_opts(&self, location: &Path, _: GetOptions) -> Result<GetResult> {
        self.read_point().await?;
        let key = location.as_ref();
        let found = self.objects(|objects| objects.stored.get(key).cloned());
        let content = found.ok_or_else(|| Error::NotFound { path: key.into(), source: "404".into() })?;
        let range: Range<u64> = 0..content.len() as u64;
        let meta = meta(key, content.len());
        let payload = GetResultPayload::Stream(stream::once(async { Ok(content) }).boxed());
        Ok(GetResult { payload, meta, range, attributes: Attributes::new() })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (port, bucket) = (self.port.clone(), self.bucket);
        locations
            .and_then(move |location| {
                let reach = Reach { port: port.clone(), bucket };
                async move {
                    reach.read_point().await?;
                    reach.port.note(|| format!("deletes {location}"));
                    reach.objects(|objects| objects.stored.remove(location.as_ref()));
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let reach = Reach { port: self.port.clone(), bucket: self.bucket };
        let folder = prefix.map(|p| format!("{p}/")).unwrap_or_default();
        stream::once(async move {
            reach.read_point().await?;
            let found: Vec<Result<ObjectMeta>> = reach.objects(|objects| {
                let below = objects.stored.range(folder.clone()..).take_while(|(key, _)| key.starts_with(&folder));
                below.map(|(key, content)| Ok(meta(key, content.len()))).collect()
            });
            Ok::<_, Error>(stream::iter(found))
        })
        .try_flatten()
        .boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(Error::NotImplemented { operation: "listing of folders".into(), implementer: "simulator".into() })
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: "copies".into(), implementer: "simulator".into() })
    }
}
