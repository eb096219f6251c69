//! The newest state of a lake or star, and the keys that an event may name.
//!
//! While live files are few, every manifest is a checkpoint, and one listing and one read give the whole head.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use futures::TryStreamExt;
use starlift_core::event::{StageResult, printable};
use starlift_core::manifest::{Manifest, RUNS_KEPT};
use starlift_core::state::{self, LiveFiles};
use starlift_core::{Error, Result, fault, key, succession};

use crate::commit::REPLAY_DEPTH;
use crate::manifests::{self, Stored};
use crate::store::Store;

/// The newest state of a lake or star: its manifests since the checkpoint and the live files that they add up to.
#[derive(Default)]
pub struct Head {
    /// Oldest first; empty for a store without manifests.
    pub chain: Vec<Stored>,
    /// Live files by table or model.
    pub live: BTreeMap<String, LiveFiles>,
    /// The chunks of tables that are being read, which no state holds yet.
    pub chunks: BTreeMap<String, LiveFiles>,
}

impl Head {
    /// Reads the newest manifests of a store and checks that they belong to this pipeline.
    pub async fn read(store: &Store, pipeline: &str) -> Result<Head> {
        match manifests::newest(store).await? {
            None => Ok(Head::default()),
            Some(newest) => Head::of(store, pipeline, newest).await,
        }
    }

    /// The state as of an earlier manifest.
    pub async fn at(store: &Store, pipeline: &str, seq: u64) -> Result<Head> {
        let manifest = manifests::read(store, seq).await?;
        Head::of(store, pipeline, manifest).await
    }

    async fn of(store: &Store, pipeline: &str, newest: Stored) -> Result<Head> {
        check_pipeline(store, &newest.manifest, pipeline)?;
        let chain = manifests::chain(store, &newest).await?;
        let plain: Vec<Manifest> = chain.iter().map(|s| s.manifest.clone()).collect();
        Ok(Head { live: state::live_files(&plain)?, chunks: state::chunk_files(&plain), chain })
    }

    /// This head where its manifests, if there are any, are a lake's. The places of lake and star are easily mixed up, and a
    /// commit of the other stage would end what is there.
    ///
    /// Errors: Config where they are a star's.
    pub fn of_lake(self, store: &Store) -> Result<Head> {
        match self.manifest() {
            Some(manifest) if manifest.source().is_none() => Err(mixed_up(store, "star", "lake")),
            _ => Ok(self),
        }
    }

    /// This head where its manifests, if there are any, are a star's. Errors: Config where they are a lake's.
    pub fn of_star(self, store: &Store) -> Result<Head> {
        match self.manifest() {
            Some(manifest) if manifest.source().is_some() => Err(mixed_up(store, "lake", "star")),
            _ => Ok(self),
        }
    }

    /// The manifest that an earlier call with the same run id committed, if there is one among the newest
    /// [`REPLAY_DEPTH`]. Manifests before the newest are read only where the run is one of theirs, or where an older version
    /// did not name them.
    ///
    /// A manifest after which its run went on (it holds a chunk) is not that run's result: who comes again goes on too.
    pub async fn find_run(&self, store: &Store, run_id: &str) -> Result<Option<Stored>> {
        if fault::planted("run_id_ignored") {
            return Ok(None);
        }
        let Some(newest) = self.newest() else { return Ok(None) };
        let is_its = |stored: &Stored| stored.manifest.run_id == run_id && !stored.manifest.goes_on();
        let older = newest.seq().saturating_sub(1).min(RUNS_KEPT as u64);
        if let Some(runs) = newest.manifest.runs_before.as_ref().filter(|runs| runs.len() as u64 >= older) {
            if is_its(newest) {
                return Ok(Some(newest.clone()));
            }
            let Some(back) = runs.iter().position(|run| run == run_id) else { return Ok(None) };
            let seq = newest.seq().saturating_sub(1 + back as u64);
            return manifests::read(store, seq).await.map(|stored| Some(stored).filter(is_its));
        }
        let at_hand = self.chain.iter().rev().take(REPLAY_DEPTH);
        let left = REPLAY_DEPTH - at_hand.len();
        if let Some(found) = at_hand.clone().find(|stored| is_its(stored)) {
            return Ok(Some(found.clone()));
        }
        let Some(first) = self.chain.first().filter(|_| left > 0) else { return Ok(None) };
        let mut before = manifests::back_from(store, first, 1, left + 1);
        while let Some(stored) = before.try_next().await? {
            if is_its(&stored) {
                return Ok(Some(stored));
            }
        }
        Ok(None)
    }

    /// What the passes so far of a run that goes on have printed, whichever manifests other runs committed since; nothing where
    /// it has made none. Another manifest is read only where the run is known to have committed one.
    pub async fn printed_by(&self, store: &Store, run_id: &str) -> Result<StageResult> {
        let goes_on = |stored: &&Stored| stored.manifest.run_id == run_id && stored.manifest.goes_on();
        if let Some(at_hand) = self.chain.iter().rev().find(goes_on) {
            return Ok(at_hand.manifest.result.clone());
        }
        let Some(newest) = self.newest() else { return Ok(StageResult::new()) };
        let back = newest.manifest.runs_before.iter().flatten().position(|run| run == run_id);
        let Some(back) = back else { return Ok(StageResult::new()) };
        let stored = manifests::read(store, newest.seq().saturating_sub(1 + back as u64)).await?;
        Ok(Some(stored).filter(|stored| goes_on(&stored)).map(|stored| stored.manifest.result).unwrap_or_default())
    }

    /// Checks that the newest manifest follows from the one before it, which a checkpoint alone does not show. Who commits
    /// another one asks for it first: a broken chain is not gone on with.
    ///
    /// Errors: Data where the one before is missing or another; those of the store.
    pub async fn check_link(&self, store: &Store) -> Result<()> {
        match self.chain.as_slice() {
            [newest] => manifests::history_from(store, newest, 2).await.map(drop),
            _ => Ok(()),
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

    /// The newest seq with changes.
    pub fn newest_change(&self) -> Option<u64> {
        self.manifest().map(|manifest| manifest.newest_change)
    }

    /// SHA-256 of the newest manifest with changes; none where it is not known.
    pub fn change_sha256(&self) -> Option<String> {
        self.newest().and_then(|stored| succession::change_sha256((&stored.manifest, &stored.sha256)))
    }

    /// The live files of a table or model.
    pub fn live_of(&self, name: &str) -> LiveFiles {
        self.live.get(name).cloned().unwrap_or_default()
    }

    /// The files of the chunks of a table so far.
    pub fn chunks_of(&self, name: &str) -> LiveFiles {
        self.chunks.get(name).cloned().unwrap_or_default()
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

    /// Looks beyond the checkpoint, because an event may be old. The window ends of manifests grow with their seq and are
    /// in the keys of their files, so that a few reads find the one that could name the key in years of manifests.
    async fn named_before(&self, store: &Store, name: &str, key: &str) -> Result<bool> {
        let (mut low, mut high) = (1, self.chain.first().map_or(0, |s| s.manifest.seq.saturating_sub(1)));
        while low <= high {
            let middle = low + (high - low) / 2;
            let manifest = manifests::read(store, middle).await?.manifest;
            match stem(key).cmp(stem(&key::data(name, manifest.at, 1))) {
                Ordering::Equal => return Ok(names(&manifest, name, key)),
                Ordering::Less => high = middle - 1,
                Ordering::Greater => low = middle + 1,
            }
        }
        Ok(false)
    }
}

/// A data key without its part and ending: `<name>/<yyyy>/<mm>/<dd>/<hhmmssffffff>`.
fn stem(key: &str) -> &str {
    let file = key.rfind('/').map_or(0, |slash| slash + 1);
    &key[..key[file..].find(['-', '.']).map_or(key.len(), |end| file + end)]
}

/// Errors: Config where a manifest of this store is of another pipeline.
pub(crate) fn check_pipeline(store: &Store, manifest: &Manifest, pipeline: &str) -> Result<()> {
    if manifest.pipeline == pipeline {
        return Ok(());
    }
    Err(Error::config(format!("`{}` belongs to another pipeline", store.url()))
        .with_detail(format!("its manifests are of `{}`, this project is `{pipeline}`", manifest.pipeline))
        .with_hint("give each pipeline folders of its own under `[lake]`"))
}

fn mixed_up(store: &Store, is: &str, should_be: &str) -> Error {
    Error::config(format!("`{}` holds a {is} and no {should_be}", store.url()))
        .with_detail("ingest writes the lake, transform the star, each to a place of its own")
        .with_hint("look at `ingest` and `transform` under `[lake]`, and at what is set over them: `STARLIFT_LAKE_…`, `--lake-…`")
}

fn names(manifest: &Manifest, name: &str, key: &str) -> bool {
    // The first file of a base is named by the manifest of its first chunk, too.
    manifest.files_of(name).iter().chain(&manifest.chunk_of(name)).any(|file| file.file.key == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_one_run_have_one_stem() {
        let first = "payment/2024/11/20/113500000000.parquet";
        assert_eq!(stem(first), "payment/2024/11/20/113500000000");
        assert_eq!(stem("payment/2024/11/20/113500000000-0002.parquet"), stem(first));
        assert_eq!(stem("no key"), "no key");
    }
}
