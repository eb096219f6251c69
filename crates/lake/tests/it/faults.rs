//! A store that fails on purpose: before it writes, after it wrote, or with the wrong answer.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use starlift_core::{ErrorKind, key};
use starlift_lake::{Commit, CreateOutcome, Store, claim, commit, manifests};

use crate::fixture::{AT, first};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// 5xx, nothing written.
    NotWritten,
    /// The object was written, and the answer was a 5xx.
    Written,
    /// 409: the store says that the object exists, and it does not.
    Conflict,
    /// The object was written, a repeated request met it, and the answer is 412.
    OwnConflict,
    /// The put replaces what is there, as a store without conditional puts does.
    Replaces,
    Denied,
}

#[derive(Debug)]
struct Faulty {
    inner: InMemory,
    faults: Mutex<VecDeque<Fault>>,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

fn store(faults: &[Fault]) -> Store {
    let faults = Mutex::new(faults.iter().copied().collect());
    Store::from_object_store(Arc::new(Faulty { inner: InMemory::new(), faults }), "faulty://lake")
}

fn outage() -> Error {
    Error::Generic { store: "S3", source: "status code: 503 Service Unavailable: <Code>SlowDown</Code>".into() }
}

fn conflict(location: &Path) -> Error {
    Error::AlreadyExists { path: location.to_string(), source: "409".into() }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let fault = self.faults.lock().unwrap().pop_front();
        match fault {
            None => self.inner.put_opts(location, payload, opts).await,
            Some(Fault::NotWritten) => Err(outage()),
            Some(Fault::Conflict) => Err(conflict(location)),
            Some(Fault::Denied) => Err(Error::PermissionDenied { path: location.to_string(), source: "403".into() }),
            Some(Fault::Written) => self.inner.put_opts(location, payload, opts).await.and(Err(outage())),
            Some(Fault::OwnConflict) => self.inner.put_opts(location, payload, opts).await.and(Err(conflict(location))),
            Some(Fault::Replaces) => self.inner.put_opts(location, payload, PutMode::Overwrite.into()).await,
        }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_survives_every_unclear_answer() {
    use Fault::{Conflict, NotWritten, OwnConflict, Written};
    for faults in [
        &[NotWritten][..],
        &[Written],
        &[Conflict],
        &[OwnConflict],
        &[Conflict, NotWritten, Written],
        &[NotWritten, Conflict, OwnConflict],
        &[NotWritten; 5],
    ] {
        let store = store(faults);
        let outcome = commit(&store, first("w")).await.unwrap();
        assert!(matches!(&outcome, Commit::Committed(s) if s.manifest.write_id == "w"), "{faults:?}");
        assert_eq!(manifests::newest(&store).await.unwrap().unwrap().manifest.write_id, "w", "{faults:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unclear_answer_never_hides_that_another_run_won() {
    use Fault::{Conflict, NotWritten, OwnConflict, Written};
    for fault in [NotWritten, Written, Conflict, OwnConflict] {
        let store = store(&[]);
        let winner = commit(&store, first("winner")).await.unwrap();
        // The same objects behind a store that fails.
        let faulty = Faulty { inner: InMemory::new(), faults: Mutex::new([fault].into()) };
        let key = key::manifest(1);
        let bytes = store.get(&key).await.unwrap().unwrap();
        faulty.inner.put_opts(&Path::from(key), bytes.into(), PutOptions::default()).await.unwrap();
        let store = Store::from_object_store(Arc::new(faulty), "faulty://lake");
        match (commit(&store, first("loser")).await.unwrap(), winner) {
            (Commit::Superseded(theirs), Commit::Committed(winner)) => assert_eq!(theirs, winner, "{fault:?}"),
            other => panic!("{fault:?}: {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_lasts_is_to_be_tried_again() {
    let store = store(&[Fault::NotWritten; 100]);
    let error = commit(&store, first("w")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.render().contains("cannot tell whether"), "{error:?}");
    assert!(error.render().contains("the store answered SlowDown"), "{error:?}");
    assert_eq!(manifests::newest(&store).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_denied_put_is_not_tried_again() {
    let store = store(&[Fault::Denied]);
    let error = store.create("x", Bytes::from("x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert!(error.message().contains("faulty://lake/x") && error.hint().unwrap().contains("s3:PutObject"), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_claim_survives_unclear_answers_without_using_up_two_times() {
    for fault in [Fault::NotWritten, Fault::Written, Fault::Conflict, Fault::OwnConflict] {
        let store = store(&[fault]);
        assert_eq!(claim(&store, AT, None, "a").await.unwrap(), AT, "{fault:?}");
        assert_eq!(claim(&store, AT, None, "b").await.unwrap(), AT.next(), "{fault:?}");
        assert_eq!(store.list(key::CLAIMS, 9).await.unwrap().len(), 2, "{fault:?}");
    }
}

#[tokio::test]
async fn a_store_that_replaces_objects_is_found_by_the_probe() {
    let store = store(&[Fault::Replaces, Fault::Replaces]);
    let error = store.probe_writable("p").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("replaces"), "{error:?}");
    assert_eq!(store.list("", 9).await.unwrap(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn the_outcome_of_a_create_is_that_of_the_stored_bytes() {
    let store = store(&[Fault::Written]);
    assert_eq!(store.create("x", Bytes::from("mine")).await.unwrap(), CreateOutcome::Created);
    assert_eq!(store.create("x", Bytes::from("other")).await.unwrap(), CreateOutcome::Exists);
    assert_eq!(store.get("x").await.unwrap().unwrap(), "mine");
}
