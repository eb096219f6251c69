//! Compaction: all that is due of the upkeep of a lake or star, committed by manifests that change nothing, one for each table or
//! model.
//!
//! It may run at any time, beside any run. For each table or model it reads the newest state, claims a time, and commits as runs
//! do: where another run puts its manifest first, this one is superseded and nothing of it is visible; where it is first, a run
//! that started before it is superseded, and the next one covers its rows. What it wrote is never committed after a manifest
//! that it did not start from: its time would not be later than that manifest's, and vacuum might be removing it. So what is
//! superseded is begun again, a few times. A crash leaves a claim and files that no manifest names; what was committed before
//! it stays.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::BoxFuture;
use starlift_core::index::Extent;
use starlift_core::manifest::Manifest;
use starlift_core::state::LiveFiles;
use starlift_core::{Micros, Result, TableSchema, index, succession};

use crate::claim::claim;
use crate::commit::{Commit, commit};
use crate::head::Head;
use crate::manifests::Stored;
use crate::store::Store;
use crate::upkeep::{Done, upkeep};

/// How often a table or model is begun, where others commit meanwhile.
const TRIES: u32 = 4;

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
#[derive(Debug, Default)]
pub struct Compaction {
    /// The tables or models that there was something to do for, in the order of their manifests.
    pub committed: Vec<Compacted>,
    /// Those that other runs were first at each time: nothing was done for them.
    pub superseded: Vec<String>,
}

/// What was done for one table or model.
#[derive(Debug)]
pub struct Compacted {
    /// Its name.
    pub name: String,
    /// The manifest that says so.
    pub stored: Stored,
    /// Its live files before.
    pub before: LiveFiles,
    /// What was done.
    pub done: Done,
}

/// What is asked for of one table or model.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// The claimed time.
    pub at: Micros,
    /// Its columns and key.
    pub schema: TableSchema,
    /// Its live files.
    pub live: LiveFiles,
    /// How far to go.
    pub extent: Extent,
}

/// Merges and indexes all that can be, but not files of seqs after `settled`, which the next stage has not seen yet. `labels`
/// makes up new ones for each manifest, and `finished` tells the time when files are written.
///
/// Errors: Data for a damaged file; Config where the store is another pipeline's; those of the store. What was committed
/// before stays.
pub async fn compact(
    store: &Store,
    pipeline: &str,
    settled: u64,
    labels: impl Fn() -> Labels,
    finished: impl Fn() -> Micros,
) -> Result<Compaction> {
    let work = |task: Task| {
        let store = store.clone();
        async move { upkeep(&store, (&task.name, task.at), &task.schema, &task.live, task.extent).await }.boxed()
    };
    compact_by(store, pipeline, settled, labels, finished, work).await
}

/// As [`compact`], with another hand for the files themselves: the simulator has files of its own.
pub async fn compact_by(
    store: &Store,
    pipeline: &str,
    settled: u64,
    labels: impl Fn() -> Labels,
    finished: impl Fn() -> Micros,
    work: impl Fn(Task) -> BoxFuture<'static, Result<Option<Done>>>,
) -> Result<Compaction> {
    let mut compaction = Compaction::default();
    let mut tries: BTreeMap<String, u32> = BTreeMap::new();
    loop {
        let head = Head::read(store, pipeline).await?;
        let Some(newest) = head.newest() else { break };
        let extent = Extent::of_compaction(settled.min(newest.seq()));
        let is_open = |name: &&String| tries.get(*name).is_none_or(|tries| *tries < TRIES);
        let mut names = newest.manifest.relations.keys().filter(is_open);
        let Some(name) = names.find(|name| has_due(&head, &newest.manifest, extent, name)).cloned() else { break };
        let done = one(store, &head, newest, (&name, extent), labels(), &finished, &work).await?;
        let tried = tries.entry(name.clone()).or_default();
        match done {
            Some(compacted) => {
                *tried = TRIES;
                compaction.committed.push(compacted);
            }
            None => {
                *tried += 1;
                if *tried == TRIES {
                    compaction.superseded.push(name);
                }
            }
        }
    }
    Ok(compaction)
}

/// One table or model; none where another run was first.
async fn one(
    store: &Store,
    head: &Head,
    newest: &Stored,
    (name, extent): (&str, Extent),
    labels: Labels,
    finished: impl Fn() -> Micros,
    work: impl Fn(Task) -> BoxFuture<'static, Result<Option<Done>>>,
) -> Result<Option<Compacted>> {
    let manifest = &newest.manifest;
    let Some(relation) = manifest.relations.get(name) else { return Ok(None) };
    head.check_link(store).await?;
    // Not by the clock of this machine: the time of the next ingest is that of its source, and has to be later.
    let at = claim(store, manifest.at.next(), Some(manifest.at), &labels.owner).await?;
    let before = head.live_of(name);
    let (schema, live) = (relation.schema.clone(), before.clone());
    let Some(done) = work(Task { name: name.to_string(), at, schema, live, extent }).await? else { return Ok(None) };
    let draft = succession::Draft {
        pipeline: manifest.pipeline.clone(),
        new_id: manifest.id.clone(),
        run_id: labels.run_id,
        write_id: labels.write_id,
        version: labels.version,
        at,
        started: labels.started,
        finished: finished(),
        origin: manifest.origin.clone(),
        relations: succession::carried(Some(manifest), |_| true),
        upkept: BTreeMap::from([(name.to_string(), done.live.clone())]),
        compaction: true,
    };
    // Tables that are being read in chunks go on as they were.
    let unfinished = succession::carried_unfinished(Some(manifest), |_| true);
    let files = (head.live.clone(), head.chunks.clone());
    let previous = Some((manifest, newest.sha256.as_str()));
    let next = succession::next_unfinished(previous, files, draft, unfinished, BTreeMap::new());
    Ok(match commit(store, next).await? {
        Commit::Committed(stored) => Some(Compacted { name: name.to_string(), stored, before, done }),
        Commit::Superseded(_) => None,
    })
}

fn has_due(head: &Head, manifest: &Manifest, extent: Extent, name: &str) -> bool {
    let has_key = manifest.relations.get(name).is_some_and(|relation| !relation.schema.key.is_empty());
    has_key && !index::due(&head.live_of(name), extent).is_empty()
}
