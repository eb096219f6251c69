//! Upkeep: the files of lake and star stay few, and the key index knows where entries are. Runs do it for what they changed,
//! `lake compact` for everything. What it is, and that it changes nothing, is told in `starlift_core::index`.

use std::collections::BTreeMap;

use serde::Serialize;
use starlift_core::manifest::LiveFile;
use starlift_core::state::{self, LiveFiles};
use starlift_core::{Micros, Result};
use starlift_lake::compact::{Compaction, Labels};
use starlift_lake::upkeep::Done;
use starlift_lake::{Head, Store};

use crate::context::{Context, new_id, now};
use crate::transform::Relations;

/// What reports call it.
pub(crate) const NAME: &str = "compact";

/// Looks after the tables or models that a run changed, before it commits: `at` is its claimed time, and `relations` are those
/// of its manifest. What cannot be done now is said, and left to a later run: it costs time and no row.
pub(crate) async fn of_run(
    ctx: &Context,
    (stage, store): (&'static str, &Store),
    head: &Head,
    (seq, at): (u64, Micros),
    relations: &Relations,
) -> BTreeMap<String, LiveFiles> {
    let mut upkept = BTreeMap::new();
    let changed = relations.iter().filter(|(_, relation)| relation.last_change == seq && relation.base != seq);
    for (name, relation) in changed.filter(|_| ctx.config.lake_compact) {
        let mut live = head.live_of(name);
        let written = relation.run.iter().flat_map(|run| run.all_files());
        live.extend(written.map(|file| LiveFile::new(seq, file.clone())));
        let before = seq.saturating_sub(1);
        match starlift_lake::upkeep(store, (name, at), &relation.schema, &live, (before, false)).await {
            Ok(None) => {}
            Ok(Some(done)) => {
                upkept.insert(name.clone(), done.live);
            }
            Err(error) => {
                tracing::warn!(stage, run_id = ctx.run_id, table = name, "its files were not looked after: {error}");
            }
        }
    }
    upkept
}

/// What `lake compact` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CompactReport {
    /// Lake and star.
    pub places: Vec<Compacted>,
}

/// What was done in a lake or star.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// `lake` or `star`.
    pub name: &'static str,
    /// Where it is.
    pub url: String,
    /// The manifest that says so; none where there was nothing to do, or another run committed first.
    pub seq: Option<u64>,
    /// Whether another run committed first: nothing was done then, and running again does it.
    pub superseded: bool,
    /// Tables or models that there was something to do for.
    pub relations: Vec<CompactedRelation>,
}

/// What was done for one table or model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CompactedRelation {
    /// The table or model.
    pub name: String,
    /// Live files before.
    pub files_before: u64,
    /// Live files afterwards.
    pub files: u64,
    /// Stored bytes of the live files before.
    pub bytes_before: u64,
    /// Stored bytes of the live files afterwards.
    pub bytes: u64,
    /// Entries that new parts of the key index list.
    pub indexed: u64,
}

/// Merges the small files of lake and star, and lists the large ones in the key index.
///
/// It is safe at any time, beside any run: what it does is no change, and where another run commits first it commits nothing.
/// A crash leaves files that `lake vacuum` removes. Errors: Data for a damaged file; Config where a place is another
/// pipeline's; those of the store.
pub async fn compact(ctx: &Context) -> Result<CompactReport> {
    let mut report = CompactReport { places: Vec::new() };
    let star = Head::read(&ctx.star()?, &ctx.config.pipeline).await?;
    // What transform has not seen yet stays as it is, or it would have to evaluate whole models.
    let covered = star.manifest().and_then(|manifest| manifest.covers_upto()).unwrap_or(u64::MAX);
    for (name, store, settled) in [("lake", ctx.lake()?, covered), ("star", ctx.star()?, u64::MAX)] {
        report.places.push(ctx.in_time(NAME, place(ctx, name, &store, settled)).await?);
    }
    Ok(report)
}

async fn place(ctx: &Context, name: &'static str, store: &Store, settled: u64) -> Result<Compacted> {
    let url = store.url().to_string();
    let mut compacted = Compacted { name, url, seq: None, superseded: false, relations: Vec::new() };
    let labels = Labels {
        owner: new_id(),
        run_id: new_id(),
        write_id: new_id(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        started: now(),
    };
    match starlift_lake::compact(store, &ctx.config.pipeline, settled, labels, now).await? {
        Compaction::Nothing => {}
        Compaction::Superseded => compacted.superseded = true,
        Compaction::Committed { stored, relations } => {
            tracing::info!(run_id = ctx.run_id, place = name, seq = stored.seq(), "files were merged and indexed");
            compacted.seq = Some(stored.seq());
            compacted.relations = relations.into_iter().map(of_relation).collect();
        }
    }
    Ok(compacted)
}

fn of_relation((name, before, done): (String, LiveFiles, Done)) -> CompactedRelation {
    CompactedRelation {
        name,
        files_before: state::entries(&before).count() as u64,
        files: state::entries(&done.live).count() as u64,
        bytes_before: state::bytes(&before),
        bytes: state::bytes(&done.live),
        indexed: done.indexed,
    }
}
