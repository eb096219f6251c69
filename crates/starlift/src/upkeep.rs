//! Upkeep: the files of lake and star stay few, and the key index knows where entries are. Runs do it for what they changed,
//! `lake compact` for everything. What it is, and that it changes nothing, is told in `starlift_core::index`.
//!
//! A run commits only after its upkeep, so that one manifest says both; and so upkeep may never keep it from that. It has a share
//! of the time that is left, steps that are too large for a run wait for `lake compact`, and a step that fails, as on a full disk,
//! is undone and left to a later run.

use std::collections::BTreeMap;

use serde::Serialize;
use starlift_core::index::{self, Extent};
use starlift_core::manifest::LiveFile;
use starlift_core::state::{self, LiveFiles};
use starlift_core::{Micros, Result};
use starlift_lake::compact::{self, Labels};
use starlift_lake::{Head, Store, upkeep};

use crate::context::{Context, new_id, now};
use crate::transform::Relations;

/// What reports call it.
pub(crate) const NAME: &str = "compact";
/// Upkeep takes one of so many parts of the time that is left to a run.
const SHARE: u32 = 4;

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
    if !ctx.config.lake_compact {
        return upkept;
    }
    let until = ctx.share_of_time(SHARE);
    let extent = Extent::of_run(seq.saturating_sub(1));
    let changed = relations.iter().filter(|(_, relation)| relation.last_change == seq && relation.base != seq);
    let mut changed: Vec<_> = changed
        .map(|(name, relation)| {
            let mut live = head.live_of(name);
            let written = relation.run.iter().flat_map(|run| run.all_files());
            live.extend(written.map(|file| LiveFile::new(seq, file.clone())));
            (name, relation, live)
        })
        .collect();
    // One that takes all of the time again and again keeps no other waiting.
    changed.sort_by_key(|(_, _, live)| state::bytes(live));
    for (name, relation, live) in changed {
        let warn = |what: String| tracing::warn!(stage, run_id = ctx.run_id, table = name, "{what}");
        let (done, left) = upkeep::in_time(store, (name, at), &relation.schema, &live, extent, until).await;
        if let Some(error) = left {
            warn(format!("its files were not looked after: {error}"));
        } else if !relation.schema.key.is_empty() && index::waits_for_compaction(&live, extent.settled) {
            let what = "it is too large for a run to list its keys: `starlift lake compact` does, and until then runs read them";
            warn(what.into());
        }
        upkept.extend(done.map(|done| (name.clone(), done.live)));
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
    /// The newest manifest that says so, one for each of `relations`; none where nothing was done.
    pub seq: Option<u64>,
    /// Whether tables or models are left because other runs committed first at each try: running again does them.
    pub superseded: bool,
    /// Those that are left.
    pub left: Vec<String>,
    /// Tables or models that something was done for.
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

/// Merges the files of lake and star, and lists the large ones in the key index.
///
/// It is safe at any time, beside any run: what it does is no change, it commits each table or model by itself, and where another
/// run commits first it begins that one again, a few times. A crash leaves files that `lake vacuum` removes. Errors: Data for a
/// damaged file; Config where a place is another pipeline's; those of the store.
pub async fn compact(ctx: &Context) -> Result<CompactReport> {
    let mut report = CompactReport { places: Vec::new() };
    let (lake_store, star_store) = (ctx.lake()?, ctx.star()?);
    ctx.lake_head().await?;
    let star = ctx.star_head().await?;
    // What transform has not seen yet stays as it is, or it would have to evaluate whole models.
    let covered = star.manifest().and_then(|manifest| manifest.covers_upto()).unwrap_or(u64::MAX);
    for (name, store, settled) in [("lake", lake_store, covered), ("star", star_store, u64::MAX)] {
        report.places.push(ctx.in_time(NAME, place(ctx, name, &store, settled)).await?);
    }
    Ok(report)
}

async fn place(ctx: &Context, name: &'static str, store: &Store, settled: u64) -> Result<Compacted> {
    let labels = || Labels {
        owner: new_id(),
        run_id: new_id(),
        write_id: new_id(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        started: now(),
    };
    let done = compact::compact(store, &ctx.config.pipeline, settled, labels, now).await?;
    let seq = done.committed.last().map(|newest| newest.stored.seq());
    if let Some(seq) = seq {
        tracing::info!(run_id = ctx.run_id, place = name, seq, "files were merged and indexed");
    }
    Ok(Compacted {
        name,
        url: store.url().to_string(),
        seq,
        superseded: !done.superseded.is_empty(),
        left: done.superseded,
        relations: done.committed.into_iter().map(of_relation).collect(),
    })
}

fn of_relation(compacted: compact::Compacted) -> CompactedRelation {
    let compact::Compacted { name, before, done, .. } = compacted;
    CompactedRelation {
        name,
        files_before: state::entries(&before).count() as u64,
        files: state::entries(&done.live).count() as u64,
        bytes_before: state::bytes(&before),
        bytes: state::bytes(&done.live),
        indexed: done.indexed,
    }
}
