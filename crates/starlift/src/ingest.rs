//! Ingest: what changed in the source becomes data files and tombstones in the lake, committed by one manifest.
//!
//! # Order of things
//!
//! 1. The newest manifest gives the state: watermarks, fingerprints, row counts.
//! 2. One `REPEATABLE READ READ ONLY` transaction, with every table locked in `ACCESS SHARE` before the first query.
//! 3. A claim makes the end of the window this run's own, and with it the keys of its files.
//! 4. Each table: its window or all of it; then its count; then, where the count shows a difference, its keys. Of a large
//!    table, between such passes, the rows that its stamps show to be new, or nothing (docs/capture.md).
//! 5. The source's WAL is flushed up to the snapshot: a crash of the source takes nothing back that the lake has.
//! 6. One create-only put of the manifest.
//!
//! # Tables that are too large for one transaction
//!
//! A full read that replaces the state of a large table goes in chunks, each in a pass of its own through these steps
//! (`ingest/chunks.rs`), recorded in its manifest as part of an unfinished base that no reader of states sees. A run makes passes
//! until the base is closed or its time is nearly over.
//!
//! # What a crash leaves behind
//!
//! Before step 6 nothing of a pass is visible: a claim and files that no manifest names stay until `lake vacuum`. After it the
//! pass is complete, and with the last one the run. Two runs at once both read the same state; one creates the manifest, the
//! other is superseded and the next run covers its rows, because the watermark moves only inside a manifest.

mod chunk;
mod chunks;
pub(crate) mod commit;
mod doubled;
pub(crate) mod drift;
mod incoming;
mod looks;
mod pages;
mod readers;
mod reconcile;
mod references;
mod selection;
mod sink;
mod stamped;
mod table;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use starlift_core::capture::{Choice, PassReason};
use starlift_core::manifest::{Manifest, Relation, Source};
use starlift_core::{Error, Result, capture, event, fault, succession};
use starlift_lake::{Head, Store, claim};
use starlift_postgres::extract::SourceSession;

use crate::config::Side;
use crate::context::{Context, new_id, now};
use crate::quarantine::{self, Allowance};
use crate::report::{Outcome, StageReport};
use crate::upkeep;

use self::chunks::{GoesOn, Passed, Passes, Plan};
use self::looks::Looks;
use self::table::{Done, Numbers};
pub(crate) use selection::Selection;

pub(crate) const STAGE: &str = "ingest";

/// The source as a look from outside finds it, without locks: for `plan` and `doctor`.
pub(crate) struct Seen {
    /// The source at the look's snapshot.
    pub(crate) source: Source,
    /// All tables that the pipeline captures; not yet checked for grants and types.
    pub(crate) selection: Selection,
    /// Whether our role sees when the transactions of others began.
    pub(crate) sees_activity: bool,
    /// About how many rows a cursor would read now, by table.
    pub(crate) stamped: BTreeMap<String, u64>,
    /// How each table is captured; an error where a setting cannot be followed.
    pub(crate) choices: Result<BTreeMap<String, Choice>>,
}

impl Seen {
    /// The captured tables.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &starlift_postgres::catalog::SourceTable> {
        self.selection.chosen()
    }
}

/// Looks at the source without reading a table. `newest` is the lake's newest manifest.
pub(crate) async fn look(ctx: &Context, newest: Option<&Manifest>) -> Result<Seen> {
    let mut session = open(ctx).await?;
    let mut looks = Looks::begin(&session, newest).await?;
    let selection = selection::select(ctx, &session, &[]).await?;
    let sees_activity = session.sees_activity().await?;
    looks.end(&session, follows_cursor(ctx, &selection)).await?;
    let snapshot = session.begin(&[]).await?;
    let horizon = looks.horizon(newest, &snapshot.source);
    let source = Source { horizon, ..snapshot.source };
    let choices = selection.choices(ctx, source.in_recovery);
    let mut stamped = BTreeMap::new();
    for table in selection.chosen().filter(|table| table.may_select) {
        let column = choices.as_ref().ok().and_then(|c| c.get(&table.name)?.cursor.as_deref());
        let state = newest.and_then(|m| m.relations.get(&table.name)?.capture.as_ref()?.passes.as_ref()?.safe);
        if let (Some(column), Some(from)) = (column, state.and_then(|safe| safe.in_line(source.horizon.as_ref()))) {
            stamped.insert(table.name.clone(), session.estimate_stamped(table, column, from).await?);
        }
    }
    session.end().await?;
    Ok(Seen { source, selection, sees_activity, stamped, choices })
}

/// Whether a table would follow its stamps, if the source is no standby.
fn follows_cursor(ctx: &Context, selection: &Selection) -> bool {
    selection.choices(ctx, false).is_ok_and(|choices| choices.values().any(|choice| choice.cursor.is_some()))
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
    ctx.in_time(STAGE, ingest_with(ctx, event, &Asked::default())).await
}

/// Runs ingest over all tables and reads each completely, also those that not every run reads so: afterwards the lake
/// holds the image of all of them.
///
/// Errors: those of [`ingest`].
pub(crate) async fn ingest_complete(ctx: &Context) -> Result<StageReport> {
    let asked = Asked { passes: true, ..Asked::default() };
    ctx.in_time(STAGE, ingest_with(ctx, None, &asked)).await
}

/// Runs ingest over all tables, and reads those of `repair` in full: rows and keys of the lake that differ from the source,
/// for whatever reason, are written again or get a tombstone.
///
/// Errors: those of [`ingest`].
pub(crate) async fn ingest_repair(ctx: &Context, repair: &BTreeSet<String>) -> Result<StageReport> {
    ingest_with(ctx, None, &Asked { repair: repair.clone(), passes: true }).await
}

/// What a run is asked for beyond what is due.
#[derive(Debug, Clone, Default)]
struct Asked {
    /// Tables that are read in full because the lake differed from them.
    repair: BTreeSet<String>,
    /// An xid pass of every table.
    passes: bool,
}

async fn ingest_with(ctx: &Context, event: Option<&[u8]>, asked: &Asked) -> Result<StageReport> {
    let started = now();
    let listed = event.map(event::parse_ingest).transpose()?.unwrap_or_default();
    let lake = ctx.lake()?;
    let mut head = ctx.lake_head().await?;
    if let Some(done) = head.find_run(&lake, &ctx.run_id).await? {
        return Ok(StageReport::of_manifest(STAGE, &done.manifest, Outcome::Replayed, started, now()));
    }

    let mut session = open(ctx).await?;
    fault::point("ingest.connected");
    let work = Work { ctx, lake: &lake, listed: &listed, asked };
    let mut passes = Passes::new(ctx, started);
    loop {
        let begun = now();
        // Boxed, like what it reads: its state is large, and a stack of debug builds small.
        let has_time = match passes.in_time(Box::pin(work.pass(&mut session, head, &passes))).await? {
            Some(Passed::Done(report)) => return Ok(passes.done(report)),
            Some(Passed::LookAgain) => {
                passes.alone = false;
                true
            }
            Some(Passed::StartsOver { table, base, error }) => {
                if !passes.start_over(table, base) {
                    // What was read anew is no better.
                    return Err(error);
                }
                true
            }
            Some(Passed::GoesOn(passed)) => {
                fault::point("ingest.chunk_committed");
                passes.took(*passed, Duration::from_millis(now().millis_since(begun)))
            }
            None => false,
        };
        if !has_time {
            return passes.stopped().ok_or_else(|| Error::internal("a run without time did nothing"));
        }
        head = ctx.lake_head().await?;
    }
}

/// What the passes of one run have in common.
struct Work<'a> {
    ctx: &'a Context,
    lake: &'a Store,
    listed: &'a [String],
    asked: &'a Asked,
}

impl Work<'_> {
    /// One transaction and what is committed of it.
    async fn pass(&self, session: &mut SourceSession, head: Head, passes: &Passes<'_>) -> Result<Passed> {
        let (ctx, lake) = (self.ctx, self.lake);
        let started = now();
        #[cfg(debug_assertions)]
        let head = crate::planted::state_from_names(head, lake).await?;

        let newest = head.manifest();
        let mut looks = Looks::begin(session, newest).await?;
        let selection = selection::select(ctx, session, self.listed).await?;
        selection.check(ctx)?;
        let alone = chunks::alone(newest, &selection).filter(|_| passes.alone && ctx.config.source.chunk_bytes > 0);
        let lockable = alone.clone().map_or_else(|| selection.lockable(), |name| vec![name]);
        // Before the snapshot: whatever commits between the two is seen. A pass for one chunk reads no stamps; where the run
        // before looked, the look above carries its line on.
        looks.end(session, alone.is_none() && follows_cursor(ctx, &selection)).await?;
        let snapshot = session.begin(&lockable).await?;
        fault::point("ingest.snapshot");
        // Read again under the locks: what DDL did between the first look and the locks counts, and none can come after.
        let selection = selection.again(ctx, session).await?;
        let horizon = looks.horizon(newest, &snapshot.source);
        let source = Source { tables: selection.captured(), horizon, ..snapshot.source };
        let choices = selection.choices(ctx, source.in_recovery)?;
        capture::check_lag(newest, &source, snapshot.lsn_before)?;
        drift::check(ctx, newest, &selection)?;

        let seq = succession::next_seq(newest);
        let allowance = Allowance::of(ctx);
        let mut task = table::Task {
            ctx,
            lake,
            head: &head,
            source: &source,
            at: snapshot.now,
            seq,
            selection: &selection,
            choices: &choices,
            repair: &self.asked.repair,
            allowance: &allowance,
            numbers: Numbers::default(),
            closing: &BTreeMap::new(),
        };
        let locked = alone.clone().map_or_else(|| selection.tables(), |name| vec![name]);
        let steps = chunks::steps(&task, session, &locked, &passes.anew).await?;
        let plan = Plan::of(locked, &steps, alone.is_some());
        if alone.is_some() && plan.chunk.is_none() {
            session.end().await?;
            return Ok(Passed::LookAgain);
        }
        let closing = chunks::closing(&plan, &steps);
        task.closing = &closing;
        allowance.resume(passes.counted + chunks::counted(newest, &selection, &steps));

        task.at = claim(lake, snapshot.now, newest.map(|m| m.at), &new_id()).await?;
        let at = task.at;
        fault::point("ingest.claimed");
        let is_captured = |name: &str| source.tables.iter().any(|table| table == name);
        let mut relations = succession::carried(newest, is_captured);
        let mut unfinished = succession::carried_unfinished(newest, is_captured);
        if plan.chunk.is_none() {
            // What is read in a window after all, or closed, is finished.
            unfinished.retain(|name, _| !plan.others.contains(name));
        }
        #[cfg(debug_assertions)]
        crate::planted::remember_snapshot(lake, session, seq, at).await?;
        let window = format!("{}..{at}", newest.map(|m| m.at.to_string()).unwrap_or_default());
        let placed = |e: Error, name: &str| e.with_context("table", name).with_context("window", window.clone());
        let turns = Box::pin(self.turns(&task, session, &plan, &placed, &mut relations));
        let done = match session.awake(turns).await {
            Ok(done) => done,
            Err(error) => {
                // A base in chunks: where it is the state that holds a key twice, the turn itself has read the table anew.
                let of = |table: &str| Some((table.to_string(), newest?.unfinished.get(table)?.first));
                let Some((table, base)) = doubled::unsound(&error).and_then(of) else { return Err(error) };
                session.end().await?;
                return Ok(Passed::StartsOver { table, base, error });
            }
        };
        let mut warnings = Vec::new();
        let mut counted = 0;
        for (name, refused) in &done.refused {
            warnings.extend(quarantine::warning("table", name, refused));
            counted += allowance.counted(name, refused);
        }
        let mut closes_next = false;
        if let Some((name, chunk)) = &plan.chunk {
            ctx.progress.started(STAGE, name);
            let mut once = passes.once_of(selection.table(name)?, chunk.0.begins, lake.spill())?;
            let read = session.awake(Box::pin(task.chunk(session, name, chunk.clone(), &mut once))).await;
            let (base, refused) = read.map_err(|e| placed(e, name))?;
            passes.keep_once(name, once);
            warnings.extend(quarantine::warning("table", name, &refused));
            closes_next = base.is_read() && !plan.more_chunks;
            tracing::info!(stage = STAGE, run_id = ctx.run_id, table = name, "{}", base.text());
            unfinished.insert(name.clone(), base);
            ctx.progress.finished(STAGE, name);
        }
        #[cfg(debug_assertions)]
        crate::planted::one_watermark(&mut relations, &source);
        // Nothing was written; ending the transaction before the commit lets the locks and the snapshot go.
        session.end().await?;
        session.await_durable(&source).await?;
        fault::point("ingest.source_released");

        let upkept = upkeep::of_run(ctx, (STAGE, lake), &head, (seq, at), &relations).await;
        let done = commit::Done { source, at, started, relations, unfinished, upkept, warnings };
        let (report, waits) = commit::commit(ctx, lake, &head, done).await?;
        if plan.chunk.is_none() || report.outcome != Outcome::Committed {
            return Ok(Passed::Done(report));
        }
        Ok(Passed::GoesOn(Box::new(GoesOn { report, closes_next, counted, waits: waits.unwrap_or_default() })))
    }

    /// The turns of the tables that a pass reads otherwise than in chunks, and what they refer to.
    async fn turns(
        &self,
        task: &table::Task<'_>,
        session: &SourceSession,
        plan: &Plan,
        placed: &(impl Fn(Error, &str) -> Error + Sync),
        relations: &mut BTreeMap<String, Relation>,
    ) -> Result<Done> {
        let asked = self.asked.passes.then_some(PassReason::Asked);
        let mut done = Done::default();
        for name in &plan.others {
            self.ctx.progress.started(STAGE, name);
            let read = Box::pin(task.turn(session, name, asked)).await.map_err(|e| placed(e, name))?;
            done.take(name, read, relations);
            self.ctx.progress.finished(STAGE, name);
            fault::point("ingest.table_done");
        }
        // A table whose base is unfinished is none of these: the pass that closes it makes its state the image.
        Box::pin(references::complete(task, session, &plan.others, relations, &mut done)).await?;
        Ok(done)
    }
}
