//! Plan: what a run would do now, found without writing anything anywhere.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use starlift_core::capture::{self, PassReason, Read, Turn};
use starlift_core::coverage::{Evaluate, TransformPlan};
use starlift_core::drift::DriftPolicy;
use starlift_core::load_plan::LoadPlan;
use starlift_core::model::ModelKind;
use starlift_core::unfinished::Unfinished;
use starlift_core::{Error, ErrorKind, Result, succession};
use starlift_lake::Head;
use starlift_postgres::catalog::SourceTable;
use starlift_postgres::load as ledger;

use crate::config::Side;
use crate::context::Context;
use crate::ingest::{Seen, look};
use crate::scans::Scans;
use crate::transform::coverable::Coverable;
use crate::{count, secrets};

/// What a run would do.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Plan {
    /// What ingest would read; empty too where that is not known.
    pub ingest: Vec<PlannedTable>,
    /// Whether it is known; if not, a note says why.
    #[serde(skip)]
    pub ingest_known: bool,
    /// What transform would evaluate, given the lake as it is now.
    pub transform: Vec<PlannedModel>,
    /// What load would do, given the star as it is now, in words.
    pub load: String,
    /// What could not be found out.
    pub notes: Vec<String>,
}

/// What ingest would do with one table.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedTable {
    /// The table.
    pub name: String,
    /// `xid`, `cursor` or `full`; `?` where its setting cannot be followed.
    pub capture: String,
    /// Why it is captured so.
    pub because: String,
    /// `window`, `full`, `cursor`, or `wait` where the run would leave it alone.
    pub mode: String,
    /// Why it would be read in full, or by an xid pass where not every run makes one; when the next pass is due.
    pub reason: Option<String>,
    /// Rows that the source's statistics estimate; none where it was never analysed.
    pub estimated_rows: Option<u64>,
    /// Bytes that PostgreSQL would scan: the table, or, by a cursor, at most a page for each row that the source's statistics
    /// expect.
    pub scan_bytes: u64,
    /// Bytes that 288 runs, one every five minutes, would scan.
    pub day_bytes: u64,
}

/// What transform would do with one model.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedModel {
    /// The model.
    pub name: String,
    /// Whether it would be evaluated, given the lake as it is now.
    pub evaluate: bool,
    /// Why; or what it waits for.
    pub reason: Option<String>,
    /// `whole` or `incremental`: how it would be evaluated now, or after the coming ingest. Where very much changed, or a
    /// table is read anew, transform turns from the second to the first. None where that is not known yet.
    pub how: Option<String>,
    /// Why it is `whole`, where the reason does not say so.
    pub whole_because: Option<String>,
    /// The inputs whose changes in the coming ingest would have it evaluated.
    pub follows: Vec<String>,
}

/// Finds out what a run would do now.
///
/// Errors: Config as ingest has it, Config and Data as transform has them; what the databases cannot tell becomes a note.
pub async fn plan(ctx: &Context) -> Result<Plan> {
    let mut plan = Plan::default();
    // The star before the lake that it covers, as transform does.
    let star_store = ctx.star()?;
    let star = ctx.star_head().await?;
    let lake_store = ctx.lake()?;
    let lake = ctx.lake_head().await?;
    let mut followed = BTreeSet::new();
    match look(ctx, lake.manifest()).await {
        Ok(seen) => {
            plan.ingest_known = true;
            for table in seen.tables() {
                plan.ingest.push(planned_table(&lake, &seen, table));
            }
            let drift = crate::ingest::drift::drift(&ctx.project.graph, lake.manifest(), &seen.selection);
            followed = crate::ingest::drift::followed(ctx, &drift);
            plan.notes.extend(drift.iter().map(|drift| match ctx.config.drift(&drift.table) {
                DriftPolicy::Evolve => format!("the source changed: {}", drift.text()),
                DriftPolicy::Fail => format!("ingest would stop: {}", drift.text()),
            }));
            if let Err(error) = seen.selection.check(ctx) {
                plan.notes.push(format!("ingest would stop: {}", secrets::message(&error)));
            }
        }
        Err(error) if error.kind() == ErrorKind::Unavailable => {
            plan.notes.push(format!("the source was not asked: {}", secrets::message(&error)));
        }
        // It knows more about what a model reads in vain than the lake can tell.
        Err(error) if error.kind() == ErrorKind::Config => return Err(error),
        Err(error) => plan.notes.push(format!("ingest would stop: {}", secrets::message(&error))),
    }
    let may_mend = |error: &Error| crate::ingest::drift::may_mend(&ctx.project.graph, &followed, error);

    if let Err(error) = ctx.project.graph.check_referred_keys() {
        plan.notes.push(format!("transform would stop: {}", secrets::with_detail(&error)));
    }
    match crate::transform::check_inputs(&ctx.project, lake.manifest()) {
        // The coming ingest may bring what is missing.
        Err(error) if may_mend(&error) => plan.notes.push(before_ingest(&error)),
        checked => checked?,
    }
    let coverable = Coverable::of(&lake_store, &ctx.config.pipeline, lake, star.manifest()).await?;
    plan.notes.extend(coverable.waits.iter().map(|waits| format!("transform waits: {waits}")));
    let waits_for_chunks = coverable.waits.filter(|_| coverable.head.is_none());
    let lake = coverable.head.unwrap_or_default();
    let planned = lake.manifest().map(|m| crate::transform::plan(ctx, m, star.manifest())).transpose()?;
    let ways = match crate::transform::ways(ctx, &lake).await {
        Ok(ways) => ways,
        Err(error) => {
            plan.notes.push(match may_mend(&error) {
                // The model may have been mended for it.
                true => before_ingest(&error),
                false => format!("transform would stop: {}", secrets::with_detail(&error)),
            });
            BTreeMap::new()
        }
    };
    for model in ctx.project.graph.models() {
        let evaluate = |p: &TransformPlan| {
            p.evaluate.iter().find(|(name, _)| *name == model.name).map(|(_, evaluate)| evaluate.clone())
        };
        let evaluate = planned.as_ref().map(evaluate);
        let reason = match &evaluate {
            None => Some("first read".to_string()),
            Some(evaluate) => evaluate.as_ref().map(Evaluate::text),
        };
        let (how, whole_because) = match (&evaluate, ways.get(&model.name)) {
            (None, _) => (Some("whole"), None),
            (Some(Some(evaluate)), _) if !matches!(evaluate, Evaluate::Input(_)) => (Some("whole"), None),
            (_, None) if model.header.kind == ModelKind::Calendar => (Some("whole"), None),
            (_, None) => (None, None),
            (_, Some(None)) => (Some("incremental"), None),
            (_, Some(why)) => (Some("whole"), why.clone()),
        };
        let waits = planned.as_ref().and_then(|p| p.waiting.get(&model.name));
        plan.transform.push(PlannedModel {
            name: model.name.clone(),
            evaluate: reason.is_some() && waits.is_none() && waits_for_chunks.is_none(),
            reason: waits.map(|tables| format!("waits for {}", tables.join(", "))).or(reason),
            how: how.filter(|_| waits.is_none()).map(str::to_string),
            whole_because: whole_because.filter(|_| waits.is_none()),
            follows: ctx.project.inputs_of(model),
        });
    }
    plan.load = match load(ctx, &star_store, &star).await {
        Ok(text) => text,
        Err(error) => {
            plan.notes.push(format!("the warehouse was not asked: {}", secrets::message(&error)));
            "unknown".into()
        }
    };
    Ok(plan)
}

fn before_ingest(error: &Error) -> String {
    let why = secrets::with_detail(error);
    format!("transform would stop over the lake as it is, before ingest brings the change: {why}")
}

fn planned_table(lake: &Head, seen: &Seen, table: &SourceTable) -> PlannedTable {
    let name = &table.name;
    let mut planned = PlannedTable {
        name: name.clone(),
        capture: "?".into(),
        because: String::new(),
        mode: "full".into(),
        reason: None,
        estimated_rows: table.estimated_rows,
        scan_bytes: table.bytes,
        day_bytes: 0,
    };
    let Some(choice) = seen.choices.as_ref().ok().and_then(|choices| choices.get(name)) else { return planned };
    let before = lake.manifest().and_then(|m| m.relations.get(name));
    let seq = succession::next_seq(lake.manifest());
    let turn = capture::decide_turn(choice, &table.schema, table.names.as_deref(), before, &seen.source, seq, None);
    let passes = before.and_then(|b| b.capture.as_ref()?.passes.as_ref());
    let scans = Scans::of(table, choice, seen.stamped.get(name).copied());
    (planned.capture, planned.because) = (choice.mode.name().into(), choice.why.clone());
    planned.day_bytes = scans.a_day();
    let (mode, reason) = match turn {
        Turn::Complete(Read::Window(_), why) => ("window", why.map(|why| PassReason::text(why).to_string())),
        Turn::Complete(Read::Full { reason, replaces }, _) => {
            let base = lake.manifest().and_then(|m| m.unfinished.get(name));
            let is_same = |base: &&Unfinished| {
                base.fingerprint == table.schema.but_for_partitions(Some(&base.schema)).fingerprint()
                    && capture::same_names(&base.capture, table.names.as_deref())
            };
            let base = base.filter(|base| replaces && is_same(base));
            ("full", Some(base.map_or_else(|| reason.text().to_string(), Unfinished::text)))
        }
        Turn::Cursor(from) => ("cursor", Some(format!("stamped since {from}"))),
        Turn::Wait => ("wait", None),
    };
    let due = passes.filter(|_| matches!(turn, Turn::Cursor(_) | Turn::Wait)).map(|passes| {
        let runs = passes.due().saturating_sub(seq);
        format!("next xid pass in {}", count::with(runs, "run"))
    });
    planned.mode = mode.into();
    planned.reason = match (reason, due) {
        (Some(reason), Some(due)) => Some(format!("{reason}; {due}")),
        (reason, due) => reason.or(due),
    };
    planned.scan_bytes = match turn {
        Turn::Complete(..) => scans.pass,
        Turn::Cursor(_) => scans.between,
        Turn::Wait => 0,
    };
    planned
}

async fn load(ctx: &Context, store: &starlift_lake::Store, star: &Head) -> Result<String> {
    let Some(newest) = star.newest() else { return Ok("nothing: the star is empty".into()) };
    let connection = ctx.connect(Side::Warehouse).await?;
    let head = ledger::head(connection.client(), &ctx.config.pipeline, &newest.manifest.id).await?;
    Ok(match crate::load::plan(store, Some(newest), head.as_ref(), false).await {
        Ok(LoadPlan::Nothing) => "nothing: the warehouse holds the star".into(),
        Ok(LoadPlan::Adopt { seq }) => format!("adopt the warehouse with the star as of manifest {seq}"),
        Ok(LoadPlan::Follow { first, last }) if first == last => format!("load star manifest {first}"),
        Ok(LoadPlan::Follow { first, last }) => format!("load star manifests {first} to {last}, one transaction each"),
        Err(error) => format!("stop: {}", secrets::message(&error)),
    })
}
