//! The newest state of a lake or star, and the keys that an event may name.

use std::collections::BTreeMap;

use starlift_core::event::{StageResult, printable};
use starlift_core::manifest::Manifest;
use starlift_core::state::{self, LiveFiles};
use starlift_core::{Error, Result};
use starlift_lake::{Store, Stored, manifests};

/// The newest state of a lake or star: its manifests since the checkpoint and the live files that they add up to.
pub struct Head {
    /// Oldest first; empty for a store without manifests.
    pub chain: Vec<Stored>,
    /// Live files by table or model.
    pub live: BTreeMap<String, LiveFiles>,
}

impl Head {
    /// Reads the newest manifests of a store and checks that they belong to this pipeline.
    pub async fn read(store: &Store, pipeline: &str) -> Result<Head> {
        match manifests::newest(store).await? {
            None => Ok(Head { chain: Vec::new(), live: BTreeMap::new() }),
            Some(newest) => Head::of(store, pipeline, newest).await,
        }
    }

    /// The state as of an earlier manifest.
    pub async fn at(store: &Store, pipeline: &str, seq: u64) -> Result<Head> {
        let manifest = manifests::read(store, seq).await?;
        Head::of(store, pipeline, manifest).await
    }

    async fn of(store: &Store, pipeline: &str, newest: Stored) -> Result<Head> {
        if newest.manifest.pipeline != pipeline {
            return Err(Error::config(format!("`{}` belongs to another pipeline", store.url()))
                .with_detail(format!(
                    "its manifests are of `{}`, this project is `{pipeline}`",
                    newest.manifest.pipeline
                ))
                .with_hint("give each pipeline folders of its own under `[lake]`"));
        }
        let chain = manifests::chain(store, &newest).await?;
        let plain: Vec<Manifest> = chain.iter().map(|s| s.manifest.clone()).collect();
        Ok(Head { live: state::live_files(&plain)?, chain })
    }

    /// The manifest that an earlier call with the same run id committed, if there is one.
    pub async fn find_run(&self, store: &Store, run_id: &str) -> Result<Option<Stored>> {
        match self.newest() {
            Some(newest) => starlift_lake::commit::find_run(store, newest, run_id).await,
            None => Ok(None),
        }
    }

    /// The newest manifest with its hash.
    pub fn newest(&self) -> Option<&Stored> {
        self.chain.last()
    }

    /// The newest manifest.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.chain.last().map(|s| &s.manifest)
    }

    /// The live files of a table or model.
    pub fn live_of(&self, name: &str) -> LiveFiles {
        self.live.get(name).cloned().unwrap_or_default()
    }

    /// Whether every key of an event is named by a manifest. The event steers nothing; a key that no run wrote shows that
    /// something is mixed up, and saying so beats ignoring it.
    pub async fn check_event(&self, store: &Store, event: &StageResult) -> Result<()> {
        for (name, key) in event {
            let in_chain = self.chain.iter().any(|s| names(&s.manifest, name, key));
            if !in_chain && !self.named_before(store, name, key).await? {
                return Err(Error::config(format!(
                    "the event names a file of `{}` that no manifest names",
                    printable(name)
                ))
                .with_detail(format!("`{}` is not in `{}`", printable(key), store.url()))
                .with_hint("give what the stage before printed, or `{}` for all there is to do"));
            }
        }
        Ok(())
    }

    /// Looks beyond the checkpoint: an event may be old.
    async fn named_before(&self, store: &Store, name: &str, key: &str) -> Result<bool> {
        let mut seq = self.chain.first().map_or(0, |s| s.manifest.seq);
        while seq > 1 {
            seq -= 1;
            if names(&manifests::read(store, seq).await?.manifest, name, key) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn names(manifest: &Manifest, name: &str, key: &str) -> bool {
    manifest.files_of(name).iter().any(|file| file.file.key == key)
}
