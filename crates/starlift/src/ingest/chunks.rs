//! Which tables one pass of ingest reads, and when a run goes on with another pass.
//!
//! A run is one pass, unless a table has to be read in chunks. Then
//! * the pass that *opens* reads the first chunk, and with it all tables that need none, as ever;
//! * each further pass locks and reads that one table, until all of its pages are read, and so for the next large one;
//! * the pass that *closes* reads all tables at one snapshot: of large ones their closing window, of the others their
//!   window. So what transform sees next is one snapshot again.
//!
//! Each pass is a transaction, a claim and a manifest of its own. A run that dies, is superseded or has no time left goes on in the
//! next one, whatever its id, after the newest manifest.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use starlift_core::capture::{CaptureMode, FullReason, Read, Turn};
use starlift_core::chunk::{self, Chunk, Heap, Room, Step};
use starlift_core::manifest::Manifest;
use starlift_core::xid::XidWindow;
use starlift_core::{Error, Micros, Result, fault};
use starlift_lake::Spill;
use starlift_postgres::catalog::SourceTable;
use starlift_postgres::extract::SourceSession;

use super::Selection;
use super::doubled::Once;
use super::table::Task;
use crate::context::Context;
use crate::report::StageReport;

/// What is left for the end of a run that was given so much time.
const RESERVE: (Duration, u32) = (Duration::from_secs(5), 20);

/// What one pass came to.
pub(super) enum Passed {
    /// The run is over.
    Done(StageReport),
    /// A chunk is committed.
    GoesOn(Box<GoesOn>),
    /// The table that was to be read by itself is another one under its lock: all have to be looked at.
    LookAgain,
    /// A base holds a key twice that the source has once: nothing is committed, and its chunks are read anew.
    StartsOver {
        /// The table.
        table: String,
        /// The seq of the base's first chunk.
        base: u64,
        /// What was found.
        error: Error,
    },
}

/// A pass after which its run goes on.
pub(super) struct GoesOn {
    pub(super) report: StageReport,
    /// Whether the next pass closes all bases.
    pub(super) closes_next: bool,
    /// Rows that tables without chunks set aside, as they count.
    pub(super) counted: u64,
    /// What waits for the rest.
    pub(super) waits: String,
}

/// What one pass reads.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The chunk, with where its table's rows are and why it is read in full.
    pub(super) chunk: Option<(String, (Chunk, Heap, FullReason))>,
    /// Whether more chunks follow, of this or another table, as far as is known.
    pub(super) more_chunks: bool,
    /// Tables that are read otherwise, those that are closed among them.
    pub(super) others: Vec<String>,
}

/// The table whose chunk comes next, as far as can be told before the locks: one that has begun, and not all of whose pages are
/// read. It alone is locked then.
pub(super) fn alone(newest: Option<&Manifest>, selection: &Selection) -> Option<String> {
    let bases = &newest?.unfinished;
    let goes_on = |name: &String| {
        let base = bases.get(name).filter(|base| !base.is_read())?;
        let table = selection.table(name).ok()?;
        let fingerprint = table.schema.but_for_partitions(Some(&base.schema)).fingerprint();
        (table.kind.is_lockable() && fingerprint == base.fingerprint).then_some(())
    };
    selection.tables().into_iter().find(|name| goes_on(name).is_some())
}

/// What comes next of each of these tables that is read in chunks. To be called under their locks. The bases of `anew`, by the seq of
/// their first chunk, are gone on with no more.
pub(super) async fn steps(
    task: &Task<'_>,
    session: &SourceSession,
    names: &[String],
    anew: &BTreeMap<String, u64>,
) -> Result<BTreeMap<String, (Step, Heap, FullReason)>> {
    let mut steps = BTreeMap::new();
    let mut room = Room::of(task.ctx.config.source.chunk_bytes, task.ctx.time_left().map(|(_, given)| given));
    if room.chunk == 0 {
        return Ok(steps);
    }
    let mut candidates = Vec::new();
    for name in names {
        let table = task.selection.table(name)?;
        let Turn::Complete(Read::Full { reason, replaces: true }, _) = task.decide(table, None)? else { continue };
        if table.schema.key.is_empty() || task.choice(name)?.mode == CaptureMode::Full {
            room.must_take(table.bytes);
        } else {
            candidates.push((table, reason));
        }
    }
    // Small ones first, so that as many as can be are read at once.
    candidates.sort_by_key(|(table, _)| (table.bytes, &table.name));
    let bases = task.head.manifest().map(|m| &m.unfinished);
    for (table, reason) in candidates {
        let given_up = anew.get(&table.name);
        let base = bases.and_then(|bases| bases.get(&table.name)).filter(|base| given_up != Some(&base.first));
        let has_room = base.is_some() || room.takes(table.bytes);
        if base.is_none() && has_room && !fault::planted("small_chunks") {
            continue;
        }
        let Some(heap) = session.heap(table).await? else { continue };
        let fingerprint = table.schema.but_for_partitions(base.map(|base| &base.schema)).fingerprint();
        let step =
            chunk::next(base, &fingerprint, table.names.as_deref(), Some(&heap), task.source, room.chunk, has_room);
        if step != Step::AtOnce {
            steps.insert(table.name.clone(), (step, heap, reason));
        }
    }
    Ok(steps)
}

/// The windows of the tables that a pass closes: none while any chunk is missing.
pub(super) fn closing(plan: &Plan, steps: &BTreeMap<String, (Step, Heap, FullReason)>) -> BTreeMap<String, XidWindow> {
    let window = |(name, (step, ..)): (&String, &(Step, Heap, FullReason))| match step {
        Step::Close(window) if plan.chunk.is_none() => Some((name.clone(), *window)),
        _ => None,
    };
    steps.iter().filter_map(window).collect()
}

/// Refused rows of the chunks so far, as they count: a base may set aside no more rows than a read at once could.
pub(super) fn counted(
    newest: Option<&Manifest>,
    selection: &Selection,
    steps: &BTreeMap<String, (Step, Heap, FullReason)>,
) -> u64 {
    let begins = |name: &String| matches!(steps.get(name), Some((Step::Chunk(Chunk { begins: true, .. }), ..)));
    let bases = newest.map(|m| &m.unfinished).into_iter().flatten();
    bases.filter(|(name, _)| selection.holds(name) && !begins(name)).map(|(_, base)| base.counted).sum()
}

impl Plan {
    /// Of a pass that has locked these tables, where `alone` says that it is one for a chunk only.
    pub(super) fn of(locked: Vec<String>, steps: &BTreeMap<String, (Step, Heap, FullReason)>, alone: bool) -> Plan {
        let turn = chunk::whose_turn(steps.iter().map(|(name, (step, ..))| (name.as_str(), *step)));
        let Some((name, chunk)) = turn else {
            return Plan { others: locked, ..Plan::default() };
        };
        let is_chunk = |step: &Step| matches!(step, Step::Chunk(_));
        let begins = |step: &Step| matches!(step, Step::Chunk(Chunk { begins: true, .. }));
        // What has been opened was read then, and is read again when all is closed.
        let opens = !alone && steps.values().all(|(step, ..)| begins(step));
        let others = locked.into_iter().filter(|name| opens && !steps.contains_key(name)).collect();
        let more_chunks = steps.iter().any(|(other, (step, ..))| other != name && is_chunk(step));
        let found = steps.get(name).map(|(_, heap, reason)| (name.to_string(), (chunk, heap.clone(), *reason)));
        Plan { chunk: found, more_chunks, others }
    }
}

/// The passes of one run.
pub(super) struct Passes<'a> {
    ctx: &'a Context,
    started: Micros,
    last: Option<StageReport>,
    /// What waits for the rest.
    waits: String,
    longest: Duration,
    /// Rows that tables without chunks have set aside so far.
    pub(super) counted: u64,
    /// Bases that are begun anew because they held a key twice: the seq of their first chunk, by table.
    pub(super) anew: BTreeMap<String, u64>,
    /// The table whose chunks are being read, and the keys of those that this run has read.
    once: Mutex<Option<(String, Once)>>,
    /// Whether a pass may lock one table alone.
    pub(super) alone: bool,
}

impl<'a> Passes<'a> {
    /// Of a run that has begun.
    pub(super) fn new(ctx: &'a Context, started: Micros) -> Passes<'a> {
        Passes {
            ctx,
            started,
            last: None,
            waits: String::new(),
            longest: Duration::ZERO,
            counted: 0,
            anew: BTreeMap::new(),
            once: Mutex::default(),
            alone: true,
        }
    }

    /// Gives up a base that begins with this seq; `false` where one of the table was given up before.
    pub(super) fn start_over(&mut self, table: String, base: u64) -> bool {
        tracing::warn!(table, "its chunks hold a key twice that the source has once: they are read anew");
        self.alone = true;
        self.anew.insert(table, base).is_none()
    }

    /// What is known of the keys of the chunks that this run has read of a table.
    pub(super) fn once_of(&self, table: &SourceTable, begins: bool, spill: &Spill) -> Result<Once> {
        let kept = self.once.lock().unwrap_or_else(PoisonError::into_inner).take();
        match kept {
            Some((name, once)) if name == table.name && !begins => Ok(once),
            _ => Once::new(table, spill),
        }
    }

    /// Keeps it for the next chunk.
    pub(super) fn keep_once(&self, name: &str, once: Once) {
        *self.once.lock().unwrap_or_else(PoisonError::into_inner) = Some((name.to_string(), once));
    }

    /// What a pass comes to. Where there was one before, it is given up in time for the run to say what is committed; none then.
    pub(super) async fn in_time<T>(&self, pass: impl Future<Output = Result<T>>) -> Result<Option<T>> {
        let limit = self.last.as_ref().and_then(|_| self.ctx.time_left());
        match limit {
            None => pass.await.map(Some),
            Some((left, given)) => {
                let limit = left.saturating_sub(reserve(given));
                tokio::time::timeout(limit, pass).await.map_or(Ok(None), |passed| passed.map(Some))
            }
        }
    }

    /// Takes in a pass after which the run goes on, and says whether it has time for another one.
    pub(super) fn took(&mut self, passed: GoesOn, time: Duration) -> bool {
        self.longest = self.longest.max(time);
        self.counted += passed.counted;
        self.alone = true;
        self.last = Some(self.merged(passed.report));
        self.waits = passed.waits;
        self.ctx.time_left().is_none_or(|(left, given)| {
            let left = left.saturating_sub(reserve(given));
            // A closing pass is like an ordinary run: it has half of the time, or comes first in the next run.
            if passed.closes_next { left >= given / 2 } else { left >= self.longest + self.longest / 4 }
        })
    }

    /// The report of a run whose time is over, if it has committed anything.
    pub(super) fn stopped(self) -> Option<StageReport> {
        let mut report = self.last?;
        let warning = format!("{}: the next run goes on, and transform waits for it", self.waits);
        tracing::warn!(stage = report.stage, run_id = report.run_id, "{warning}");
        report.warnings.push(warning);
        Some(report)
    }

    /// The run's report with its last pass.
    pub(super) fn done(self, report: StageReport) -> StageReport {
        self.merged(report)
    }

    fn merged(&self, report: StageReport) -> StageReport {
        match &self.last {
            Some(before) => report.after(before, self.started),
            None => report,
        }
    }
}

fn reserve(given: Duration) -> Duration {
    RESERVE.0.min(given / RESERVE.1)
}
