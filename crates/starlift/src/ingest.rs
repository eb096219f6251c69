//! Ingest: what changed in the source becomes data files and tombstones in the lake, committed by one manifest.
//!
//! # Order of things
//!
//! 1. The newest manifest gives the state: watermarks, fingerprints, row counts.
//! 2. One `REPEATABLE READ READ ONLY` transaction, with every table locked in `ACCESS SHARE` before the first query.
//! 3. A claim makes the end of the window this run's own, and with it the keys of its files.
//! 4. Each table: its window or all of it; then its count; then, where the count shows a difference, its keys.
//! 5. The source's WAL is flushed up to the snapshot: a crash of the source takes nothing back that the lake has.
//! 6. One create-only put of the manifest.
//!
//! # What a crash leaves behind
//!
//! Before step 6 nothing is visible: a claim and files that no manifest names stay until `lake vacuum`. After it the
//! run is complete. Two runs at once both read the same state; one creates the manifest, the other is superseded and the
//! next run covers its rows, because the watermark moves only inside a manifest.

pub(crate) mod commit;
pub(crate) mod drift;
mod encoders;
mod incoming;
mod pages;
mod readers;
mod reconcile;
mod selection;
mod sink;
mod table;
mod window;

use std::collections::BTreeSet;

use starlift_core::{Result, capture, event, fault, succession};
use starlift_lake::{Head, claim};
use starlift_postgres::extract::SourceSession;

use crate::config::Side;
use crate::context::{Context, new_id, now};
use crate::quarantine::{self, Allowance};
use crate::report::{Outcome, StageReport};
use crate::upkeep;

pub(crate) use selection::Selection;

pub(crate) const STAGE: &str = "ingest";

/// The source as a look from outside finds it, without locks: for `plan` and `doctor`.
pub(crate) struct Seen {
    /// The source at the look's snapshot.
    pub(crate) source: starlift_core::manifest::Source,
    /// All tables that the pipeline captures; not yet checked for grants and types.
    pub(crate) selection: Selection,
}

impl Seen {
    /// The captured tables.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &starlift_postgres::catalog::SourceTable> {
        self.selection.chosen()
    }
}

/// Looks at the source without reading a table.
pub(crate) async fn look(ctx: &Context) -> Result<Seen> {
    let mut session = open(ctx).await?;
    let selection = selection::select(ctx, &session, &[]).await?;
    let snapshot = session.begin(&[]).await?;
    session.end().await?;
    Ok(Seen { source: snapshot.source, selection })
}

async fn open(ctx: &Context) -> Result<SourceSession> {
    let connection = ctx.connect(Side::Source).await?;
    let source = &ctx.config.source;
    SourceSession::open(connection, &source.database.schema, source.statement_timeout_seconds).await
}

/// Runs ingest. `event` is the contract's JSON; none means all tables.
///
/// Errors: as DESIGN names them by kind; whatever fails before the commit leaves the lake as it was.
pub async fn ingest(ctx: &Context, event: Option<&[u8]>) -> Result<StageReport> {
    ctx.in_time(STAGE, ingest_with(ctx, event, &BTreeSet::new())).await
}

/// Runs ingest over all tables, and reads those of `repair` in full: rows and keys of the lake that differ from the source,
/// for whatever reason, are written again or get a tombstone.
///
/// Errors: those of [`ingest`].
pub(crate) async fn ingest_repair(ctx: &Context, repair: &BTreeSet<String>) -> Result<StageReport> {
    ingest_with(ctx, None, repair).await
}

async fn ingest_with(ctx: &Context, event: Option<&[u8]>, repair: &BTreeSet<String>) -> Result<StageReport> {
    let started = now();
    let listed = event.map(event::parse_ingest).transpose()?.unwrap_or_default();
    let lake = ctx.lake()?;
    let head = Head::read(&lake, &ctx.config.pipeline).await?;
    if let Some(done) = head.find_run(&lake, &ctx.run_id).await? {
        return Ok(StageReport::of_manifest(STAGE, &done.manifest, Outcome::Replayed, started, now()));
    }

    #[cfg(debug_assertions)]
    let head = crate::planted::state_from_names(head, &lake).await?;

    let mut session = open(ctx).await?;
    fault::point("ingest.connected");
    let selection = selection::select(ctx, &session, &listed).await?;
    selection.check()?;
    let snapshot = session.begin(&selection.lockable()).await?;
    fault::point("ingest.snapshot");
    // Read again under the locks: what DDL did between the first look and the locks counts, and none can come after.
    let selection = selection.again(ctx, &session).await?;
    let source = starlift_core::manifest::Source { tables: selection.captured(), ..snapshot.source };
    let newest = head.manifest();
    capture::check_lag(newest, &source, snapshot.lsn_before)?;
    drift::check(ctx, newest, &selection)?;
    let at = claim(&lake, snapshot.now, newest.map(|m| m.at), &new_id()).await?;
    fault::point("ingest.claimed");

    let mut relations = succession::carried(newest, |name| source.tables.iter().any(|table| table == name));
    let seq = succession::next_seq(newest);
    #[cfg(debug_assertions)]
    crate::planted::remember_snapshot(&lake, &session, seq, at).await?;
    let allowance = Allowance::of(ctx);
    let mut warnings = Vec::new();
    let task = table::Task {
        ctx,
        lake: &lake,
        head: &head,
        source: &source,
        at,
        seq,
        selection: &selection,
        repair,
        allowance: &allowance,
    };
    for name in selection.tables() {
        ctx.progress.started(STAGE, &name);
        let (relation, refused) =
            task.read(&session, &name).await.map_err(|e| e.with_context("table", name.clone()))?;
        warnings.extend(quarantine::warning("table", &name, &refused));
        relations.insert(name.clone(), relation);
        ctx.progress.finished(STAGE, &name);
        fault::point("ingest.table_done");
    }
    #[cfg(debug_assertions)]
    crate::planted::one_watermark(&mut relations, &source);
    // Nothing was written; ending the transaction before the commit lets the locks and the snapshot go.
    session.end().await?;
    session.await_durable(&source).await?;
    fault::point("ingest.source_released");

    let upkept = upkeep::of_run(ctx, (STAGE, &lake), &head, (seq, at), &relations).await;
    commit::commit(ctx, &lake, &head, commit::Done { source, at, started, relations, upkept, warnings }).await
}
