//! Compaction: all that is due of the upkeep of a lake or star, committed by a manifest that changes nothing.
//!
//! It may run at any time, beside any run. It claims a time and commits as runs do: where another run puts its manifest first,
//! the compaction is superseded and nothing of it is visible; where the compaction is first, a run that started before it is
//! superseded, and the next one covers its rows. A crash leaves a claim and files that no manifest names.

use std::collections::BTreeMap;

use starlift_core::manifest::Manifest;
use starlift_core::state::LiveFiles;
use starlift_core::{Micros, Result, index, succession};

use crate::claim::claim;
use crate::commit::{Commit, commit};
use crate::head::Head;
use crate::manifests::Stored;
use crate::store::Store;
use crate::upkeep::{Done, upkeep};

/// What a manifest says of the run that committed it; each id is made up for this one.
#[derive(Debug, Clone)]
pub struct Labels {
    /// Of the claim.
    pub owner: String,
    /// The run.
    pub run_id: String,
    /// The write.
    pub write_id: String,
    /// The version of starlift.
    pub version: String,
    /// When it began.
    pub started: Micros,
}

/// What a compaction came to.
#[derive(Debug)]
pub enum Compaction {
    /// There was nothing to do.
    Nothing,
    /// Another run committed first; nothing was done.
    Superseded,
    /// It is committed.
    Committed {
        /// Its manifest.
        stored: Box<Stored>,
        /// For each table or model that there was something to do for, its live files before, and what was done.
        relations: Vec<(String, LiveFiles, Done)>,
    },
}

/// Merges and indexes all that can be, but not files of seqs after `settled`, which the next stage has not seen yet. `finished`
/// tells the time when files are written.
///
/// Errors: Data for a damaged file; Config where the store is another pipeline's; those of the store.
pub async fn compact(
    store: &Store,
    pipeline: &str,
    settled: u64,
    labels: Labels,
    finished: impl Fn() -> Micros,
) -> Result<Compaction> {
    let head = Head::read(store, pipeline).await?;
    let Some(newest) = head.newest() else { return Ok(Compaction::Nothing) };
    let manifest = &newest.manifest;
    let settled = settled.min(manifest.seq);
    let due: Vec<&String> =
        manifest.relations.keys().filter(|name| has_due(&head, (manifest, settled), name)).collect();
    if due.is_empty() {
        return Ok(Compaction::Nothing);
    }
    head.check_link(store).await?;
    // Not by the clock of this machine: the time of the next ingest is that of its source, and has to be later.
    let at = claim(store, manifest.at.next(), Some(manifest.at), &labels.owner).await?;
    let mut relations = Vec::new();
    for name in due {
        let Some(relation) = manifest.relations.get(name) else { continue };
        let live = head.live_of(name);
        if let Some(done) = upkeep(store, (name, at), &relation.schema, &live, (settled, true)).await? {
            relations.push((name.clone(), live, done));
        }
    }
    let draft = succession::Draft {
        pipeline: pipeline.to_string(),
        new_id: manifest.id.clone(),
        run_id: labels.run_id,
        write_id: labels.write_id,
        version: labels.version,
        at,
        started: labels.started,
        finished: finished(),
        origin: manifest.origin.clone(),
        relations: succession::carried(Some(manifest), |_| true),
        upkept: relations.iter().map(|(name, _, done)| (name.clone(), done.live.clone())).collect::<BTreeMap<_, _>>(),
        compaction: true,
    };
    // Tables that are being read in chunks go on as they were.
    let unfinished = succession::carried_unfinished(Some(manifest), |_| true);
    let files = (head.live.clone(), head.chunks.clone());
    let previous = Some((manifest, newest.sha256.as_str()));
    let next = succession::next_unfinished(previous, files, draft, unfinished, BTreeMap::new());
    Ok(match commit(store, next).await? {
        Commit::Committed(stored) => Compaction::Committed { stored: Box::new(stored), relations },
        Commit::Superseded(_) => Compaction::Superseded,
    })
}

fn has_due(head: &Head, (manifest, settled): (&Manifest, u64), name: &str) -> bool {
    let has_key = manifest.relations.get(name).is_some_and(|relation| !relation.schema.key.is_empty());
    has_key && !index::due(&head.live_of(name), settled, true).is_empty()
}
