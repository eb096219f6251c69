//! One run of one stage: what it was given, and how it commits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use starlift_core::digest::sha256_hex;
use starlift_core::manifest::{Manifest, Origin, Relation};
use starlift_core::state::LiveFiles;
use starlift_core::{Error, ErrorKind, Micros, Result, key, succession};
use starlift_lake::{Commit, Head, Store, Stored, commit, manifests};

use crate::files::Format;
use crate::keep;
use crate::objects::Reach;
use crate::planted::Planted;
use crate::port::Port;
use crate::record::Reported;
use crate::world::World;

pub(crate) const PIPELINE: &str = "simulated";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Ingest,
    Transform,
    Load,
    Vacuum,
    Compact,
}

/// How a stage ended; each is a success.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ended {
    Committed(u64),
    Nothing,
    Superseded,
    Replayed(u64),
    Vacuumed,
}

/// What a run starts with. The places are those that were set when it started.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) port: Port,
    pub(crate) run_id: String,
    pub(crate) lake: usize,
    pub(crate) star: usize,
    pub(crate) format: Format,
}

impl Run {
    pub(crate) fn new(world: &Arc<Mutex<World>>, number: u32, run_id: String) -> Run {
        let port = Port::new(world, number);
        let (lake, star, format) = port.with(|w| (w.lake, w.star, w.settings.format));
        Run { port, run_id, lake, star, format }
    }

    pub(crate) fn store(&self, bucket: usize) -> Store {
        Store::from_object_store(Arc::new(Reach { port: self.port.clone(), bucket }), "simulated://")
    }

    pub(crate) async fn head(&self, bucket: usize) -> Result<Head> {
        let mut head = Head::read(&self.store(bucket), PIPELINE).await?;
        if self.port.planted(Planted::BaseIgnored) {
            head.live.clear();
            let all = manifests::history(&self.store(bucket), usize::MAX).await?;
            for stored in all.iter().rev() {
                for name in stored.manifest.relations.keys() {
                    head.live.entry(name.clone()).or_default().extend(stored.manifest.files_of(name));
                }
            }
        }
        Ok(head)
    }

    pub(crate) async fn find_run(&self, bucket: usize, head: &Head) -> Result<Option<Stored>> {
        head.find_run(&self.store(bucket), &self.run_id).await
    }

    /// The last step of ingest and transform.
    pub(crate) async fn commit(
        &self,
        bucket: usize,
        head: &Head,
        write_id: String,
        at: Micros,
        origin: Origin,
        relations: BTreeMap<String, Relation>,
    ) -> Result<Ended> {
        let seq = succession::next_seq(head.manifest());
        let upkept = keep::of_run(self, bucket, &head.live, (seq, at), &relations).await;
        let draft = succession::Draft {
            pipeline: PIPELINE.into(),
            new_id: self.port.with(World::new_id),
            run_id: self.run_id.clone(),
            write_id,
            version: "simulated".into(),
            at,
            started: at,
            finished: at,
            origin,
            relations,
            upkept,
            compaction: false,
        };
        let previous = head.newest().map(|s| (&s.manifest, s.sha256.as_str()));
        let manifest = succession::next(previous, head.live.clone(), draft.clone());
        match self.put(bucket, manifest).await {
            Ok(Commit::Committed(stored)) => Ok(self.report(bucket, &stored)),
            Ok(Commit::Superseded(winner)) if self.port.planted(Planted::SupersededGoesOn) => {
                self.go_on(bucket, &winner, head.live.clone(), draft).await
            }
            Ok(Commit::Superseded(_)) => Ok(Ended::Superseded),
            Err(e) if e.kind() == ErrorKind::Unavailable && self.port.planted(Planted::AmbiguousIsFailure) => {
                let newest = self.head(bucket).await?;
                match newest.newest() {
                    Some(newest) => self.go_on(bucket, newest, head.live.clone(), draft).await,
                    None => Err(e),
                }
            }
            Err(e) => Err(e),
        }
    }

    /// For planted bugs: the same content on top of another manifest.
    async fn go_on(
        &self,
        bucket: usize,
        on: &Stored,
        live: BTreeMap<String, LiveFiles>,
        draft: succession::Draft,
    ) -> Result<Ended> {
        let at = draft.at.max(on.manifest.at.next());
        let manifest =
            succession::next(Some((&on.manifest, on.sha256.as_str())), live, succession::Draft { at, ..draft });
        match commit(&self.store(bucket), manifest).await? {
            Commit::Committed(stored) => Ok(self.report(bucket, &stored)),
            Commit::Superseded(_) => Ok(Ended::Superseded),
        }
    }

    async fn put(&self, bucket: usize, manifest: Manifest) -> Result<Commit> {
        let key = key::manifest(manifest.seq);
        let stored = |manifest: &Manifest| -> Result<(Bytes, Stored)> {
            let bytes = manifest.to_bytes()?;
            let sha256 = sha256_hex(&bytes);
            Ok((bytes.into(), Stored { manifest: manifest.clone(), sha256 }))
        };
        if self.port.planted(Planted::ManifestOverwritten) {
            self.port.point().await;
            let (bytes, ours) = stored(&manifest)?;
            self.port.with(|w| w.buckets[bucket].stored.insert(key, bytes));
            return Ok(Commit::Committed(ours));
        }
        if self.port.planted(Planted::AmbiguousIsFailure) {
            let (bytes, ours) = stored(&manifest)?;
            self.port.point().await;
            let put = Reach { port: self.port.clone(), bucket }.put(&key, bytes);
            return match put {
                Ok(()) => Ok(Commit::Committed(ours)),
                Err(object_store::Error::Generic { .. }) => Err(Error::unavailable("a timeout")),
                Err(_) => Ok(Commit::Superseded(manifests::read(&self.store(bucket), manifest.seq).await?)),
            };
        }
        commit(&self.store(bucket), manifest).await
    }

    fn report(&self, bucket: usize, stored: &Stored) -> Ended {
        let (seq, write_id, sha256) = (stored.seq(), stored.manifest.write_id.clone(), stored.sha256.clone());
        self.port.with(|w| w.record.reported.push(Reported { bucket, seq, write_id, sha256 }));
        Ended::Committed(seq)
    }
}
