//! The last step of ingest: the manifest, and what the log says about it.

use std::collections::BTreeMap;

use starlift_core::manifest::{Manifest, Origin, Relation, Source};
use starlift_core::state::LiveFiles;
use starlift_core::unfinished::Unfinished;
use starlift_core::{Micros, Result, fault, succession};
use starlift_lake::{Commit, Head, Store, commit as put};

use super::STAGE;
use crate::context::{Context, new_id, now};
use crate::report::{Outcome, StageReport};

/// What a run did before it commits.
pub(super) struct Done {
    pub(super) source: Source,
    pub(super) at: Micros,
    pub(super) started: Micros,
    pub(super) relations: BTreeMap<String, Relation>,
    pub(super) unfinished: BTreeMap<String, Unfinished>,
    /// The live files of tables whose files were merged or indexed.
    pub(super) upkept: BTreeMap<String, LiveFiles>,
    pub(super) warnings: Vec<String>,
}

/// Puts the manifest; with the report of the pass comes what transform waits for from now on.
pub(super) async fn commit(
    ctx: &Context,
    lake: &Store,
    head: &Head,
    done: Done,
) -> Result<(StageReport, Option<String>)> {
    let Done { source, at, started, relations, unfinished, upkept, warnings } = done;
    let draft = succession::Draft {
        pipeline: ctx.config.pipeline.clone(),
        new_id: new_id(),
        run_id: ctx.run_id.clone(),
        write_id: new_id(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        at,
        started,
        finished: now(),
        origin: Origin::Ingest { source },
        relations,
        upkept,
        compaction: false,
    };
    head.check_link(lake).await?;
    let printed = head.printed_by(lake, &ctx.run_id).await?;
    let previous = head.newest().map(|s| (&s.manifest, s.sha256.as_str()));
    fault::point("ingest.before_manifest");
    let files = (head.live.clone(), head.chunks.clone());
    match put(lake, succession::next_unfinished(previous, files, draft, unfinished, printed)).await? {
        Commit::Committed(stored) => {
            fault::point("ingest.after_manifest");
            let mut report = StageReport::of_manifest(STAGE, &stored.manifest, Outcome::Committed, started, now());
            report.warnings = warnings;
            log(&report);
            Ok((report, stored.manifest.waits_for_chunks()))
        }
        Commit::Superseded(other) => Ok((superseded(STAGE, ctx, &other.manifest, started), None)),
    }
}

/// What a stage reports when another run committed its seq first. If it was this run itself, in an attempt that went on
/// beside this one, its result is this run's.
pub(crate) fn superseded(stage: &'static str, ctx: &Context, other: &Manifest, started: Micros) -> StageReport {
    // One that went on after this manifest has no result yet.
    if other.run_id == ctx.run_id && !other.goes_on() {
        return StageReport::of_manifest(stage, other, Outcome::Replayed, started, now());
    }
    let seq = other.seq;
    tracing::warn!(
        stage,
        run_id = ctx.run_id,
        seq,
        "superseded: another run committed first; the next run covers this one's rows"
    );
    let mut report = StageReport::nothing(stage, &ctx.run_id, started, now());
    report.outcome = Outcome::Superseded;
    report.warnings.push("another run committed first; the next run covers this one's rows".into());
    report
}

fn log(report: &StageReport) {
    let (changed, unchanged): (Vec<_>, Vec<_>) =
        report.relations.iter().partition(|r| r.rows_written + r.rows_deleted + r.rows_refused > 0);
    for relation in changed {
        tracing::info!(
            stage = STAGE,
            run_id = report.run_id,
            table = relation.name,
            rows = relation.rows_written,
            deleted = relation.rows_deleted,
            bytes = relation.bytes_written,
            "table is in the lake"
        );
    }
    if !unchanged.is_empty() {
        let names: Vec<&str> = unchanged.iter().map(|r| r.name.as_str()).collect();
        tracing::warn!(
            stage = STAGE,
            run_id = report.run_id,
            tables = names.join(","),
            "nothing new in {}",
            names.join(", ")
        );
    }
    for warning in &report.warnings {
        tracing::warn!(stage = STAGE, run_id = report.run_id, "{warning}");
    }
}
