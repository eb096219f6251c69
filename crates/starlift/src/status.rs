//! Status: where each table and model is, from the manifests and the ledger alone; the source is not asked.

use std::collections::BTreeMap;

use serde::Serialize;
use starlift_core::manifest::{CaptureState, Proof, RUNS_KEPT, Relation};
use starlift_core::{Micros, Result};
use starlift_lake::{Head, Store, Stored, manifests};
use starlift_postgres::load as ledger;

use crate::config::Side;
use crate::context::{Context, now};
use crate::transform::coverable::Coverable;
use crate::{count, secrets};

/// Where the pipeline is.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The pipeline's name.
    pub pipeline: String,
    /// The newest ingest manifest.
    pub ingest_seq: Option<u64>,
    /// The newest star manifest.
    pub star_seq: Option<u64>,
    /// The ingest seq that the star covers.
    pub covered_seq: Option<u64>,
    /// The star seq that the warehouse holds; none where it holds none or is away.
    pub loaded_seq: Option<u64>,
    /// Whether it is known; if not, a note says why.
    #[serde(skip)]
    pub loaded_known: bool,
    /// What is pending, in words; empty when everything is through.
    pub pending: Vec<String>,
    /// Each table of the lake.
    pub tables: Vec<RelationStatus>,
    /// Each model of the star.
    pub models: Vec<RelationStatus>,
    /// What could not be found out.
    pub notes: Vec<String>,
}

/// Where one table or model is.
#[derive(Debug, Clone, Serialize)]
pub struct RelationStatus {
    /// Its name.
    pub name: String,
    /// Capture mode of a table, kind of a model.
    pub mode: String,
    /// Rows of its state.
    pub rows: u64,
    /// Those of them that stand aside, of a model also those that load has set aside.
    pub refused: u64,
    /// When a table was last read; when a model's inputs were.
    pub as_of: Option<Micros>,
    /// Seconds since then, by this machine's clock.
    pub age_seconds: Option<u64>,
    /// The newest seq that changed it.
    pub last_change: u64,
    /// Live files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether a change of it waits for the next stage.
    pub pending: bool,
    /// Of a table that not every run reads completely: its passes.
    pub passes: Option<PassStatus>,
    /// What the last ingest that read a table completely proved about it; none for a model, and where that was before the newest
    /// 16 manifests.
    pub proof: Option<Proof>,
}

/// How a table is captured that not every run reads completely. What its stamps do not show, and what was deleted, the lake
/// knows as of its last xid pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PassStatus {
    /// Why it is captured so.
    pub because: String,
    /// When its last xid pass or full read was, by the source's clock.
    pub last: Micros,
    /// The seq of that run.
    pub last_seq: u64,
    /// The next one is due after so many runs; 0 where it is the next run.
    pub due_in: u64,
    /// No row that the last run did not see has an honest stamp before this time; none where the next run cannot rely on one.
    pub safe: Option<Micros>,
}

impl PassStatus {
    fn of(capture: &CaptureState, seq: u64) -> Option<PassStatus> {
        let passes = capture.passes.as_ref()?;
        Some(PassStatus {
            because: passes.why.clone(),
            last: passes.at,
            last_seq: passes.seq,
            due_in: passes.due().saturating_sub(seq + 1),
            safe: passes.safe.map(|safe| safe.time),
        })
    }
}

/// Finds out where everything is.
pub async fn status(ctx: &Context) -> Result<Status> {
    let lake_store = ctx.lake()?;
    let lake = ctx.lake_head().await?;
    let star = ctx.star_head().await?;
    let star_seq = star.manifest().map(|m| m.seq);
    let covered_seq = star.manifest().and_then(|m| m.covers_upto());
    let mut notes = Vec::new();
    let mut loaded_known = true;
    let (loaded_seq, aside) = match (&star.newest(), loaded(ctx, &star).await) {
        (None, _) => (None, BTreeMap::new()),
        (Some(_), Ok(loaded)) => loaded,
        (Some(_), Err(error)) => {
            loaded_known = false;
            notes.push(format!("the warehouse was not asked: {}", secrets::message(&error)));
            (None, BTreeMap::new())
        }
    };
    let now = now();
    let read = runs(&lake_store, &lake).await?;
    let of = |head: &Head, is_pending: &dyn Fn(u64) -> bool, as_of: &dyn Fn(&str) -> Option<Micros>| {
        let relations = head.manifest().map(|m| m.relations.clone()).unwrap_or_default();
        let seq = head.manifest().map_or(0, |m| m.seq);
        let row = |(name, relation): (String, starlift_core::manifest::Relation)| {
            let files = head.live_of(&name);
            let capture = relation.capture.as_ref().map(|c| c.mode.clone());
            let mode = capture.or_else(|| relation.model.as_ref().map(|m| m.kind.clone())).unwrap_or_default();
            let as_of = as_of(&name);
            RelationStatus {
                mode,
                rows: relation.rows,
                refused: relation.refused,
                as_of,
                age_seconds: as_of.map(|at| now.millis_since(at) / 1000),
                last_change: relation.last_change,
                files: starlift_core::state::entries(&files).count() as u64,
                bytes: starlift_core::state::bytes(&files),
                pending: is_pending(relation.last_change),
                passes: relation.capture.as_ref().and_then(|c| PassStatus::of(c, seq)),
                proof: proof(&read, &name),
                name,
            }
        };
        relations.into_iter().map(row).collect::<Vec<_>>()
    };
    let read_at = |name: &str| {
        let relation = lake.manifest().and_then(|m| m.relations.get(name));
        relation.and_then(|r| r.capture.as_ref()).map(|c| c.read_at)
    };
    let unfinished = lake.manifest().map(|m| m.unfinished.clone()).unwrap_or_default();
    let newest_at = lake.manifest().map(|m| (m.seq, m.at));
    let tables = of(&lake, &|change| change > covered_seq.unwrap_or(0), &read_at);
    let coverable = Coverable::of(&lake_store, &ctx.config.pipeline, lake, star.manifest()).await?;
    let upto = coverable.head.as_ref().and_then(Head::manifest);
    let plan = match upto.map(|upto| crate::transform::plan(ctx, upto, star.manifest())).transpose() {
        Ok(plan) => plan,
        Err(error) => {
            notes.push(format!("what transform would do is not known: {}", secrets::message(&error)));
            None
        }
    };
    // A model is as fresh as the manifest that its star covers, or as the newest where nothing has changed since.
    let covered_at = match (&plan, covered_seq) {
        (Some(plan), _) if plan.settled => upto.map(|m| m.at),
        (_, Some(seq)) if newest_at.is_some_and(|(newest, _)| seq <= newest) => {
            Some(manifests::read(&lake_store, seq).await?.manifest.at)
        }
        _ => None,
    };
    // What a warehouse that is away holds is not known.
    let mut models = of(&star, &|change| loaded_known && change > loaded_seq.unwrap_or(0), &|_| covered_at);
    for model in &mut models {
        model.refused += aside.get(&model.name).copied().unwrap_or(0);
    }

    let mut pending: Vec<String> =
        unfinished.iter().map(|(name, base)| format!("ingest: `{name}`: {}", base.text())).collect();
    if let Some(waits) = coverable.waits {
        pending.push(format!("transform waits: {waits}"));
    }
    if let Some(plan) = plan.filter(|plan| !plan.settled) {
        pending.push(if plan.after < plan.upto {
            format!("transform: ingest {}", manifests_of(plan.after + 1, plan.upto))
        } else {
            let models = (plan.evaluate.len() + plan.dropped.len()) as u64;
            format!("transform: {}", count::with(models, "new, changed or dropped model"))
        });
    }
    if let Some(star_seq) = star_seq.filter(|seq| Some(*seq) != loaded_seq && loaded_known) {
        pending.push(format!("load: star {}", manifests_of(loaded_seq.unwrap_or(0) + 1, star_seq)));
    }
    Ok(Status {
        pipeline: ctx.config.pipeline.clone(),
        ingest_seq: newest_at.map(|(seq, _)| seq),
        star_seq,
        covered_seq,
        loaded_seq,
        loaded_known,
        pending,
        tables,
        models,
        notes,
    })
}

fn manifests_of(first: u64, last: u64) -> String {
    if first == last { format!("manifest {first}") } else { format!("manifests {first} to {last}") }
}

/// What the newest of these runs, newest first, that read a table proved.
fn proof(runs: &[Stored], name: &str) -> Option<Proof> {
    runs.iter().find_map(|stored| stored.manifest.relations.get(name)?.run.as_ref()?.proof)
}

/// The newest manifests of the lake, newest first, as far back as tells what was proved of each table.
async fn runs(store: &Store, lake: &Head) -> Result<Vec<Stored>> {
    let Some(newest) = lake.newest() else { return Ok(Vec::new()) };
    let proved = |relation: &Relation| relation.run.as_ref().is_some_and(|run| run.proof.is_some());
    let back = if newest.manifest.relations.values().all(proved) { 1 } else { RUNS_KEPT };
    manifests::history_from(store, newest, back).await
}

/// The star seq that the warehouse holds, and the rows that load has set aside, by model.
async fn loaded(ctx: &Context, star: &Head) -> Result<(Option<u64>, BTreeMap<String, u64>)> {
    let Some(manifest) = star.manifest() else { return Ok((None, BTreeMap::new())) };
    let connection = ctx.connect(Side::Warehouse).await?;
    let position = ledger::position(connection.client(), &ctx.config.pipeline, &manifest.id).await?;
    let aside = match position.has_refused {
        true => ledger::refused_counts(connection.client(), &ctx.config.pipeline).await?,
        false => BTreeMap::new(),
    };
    Ok((position.head.map(|head| head.seq), aside))
}
