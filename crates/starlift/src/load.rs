//! Load: star manifests enter the warehouse in strict order, one transaction each, with their ledger row.
//!
//! The ledger in the warehouse says where to go on, so nothing is kept here. A crash at any point leaves either the
//! whole manifest in the warehouse or nothing of it; a connection that breaks during COMMIT is answered by reading the
//! ledger again, never by sending the rows again blindly.

pub(crate) mod order;
pub(crate) mod star;

use std::collections::BTreeMap;
use std::time::Duration;

use starlift_core::load_plan::{self, LedgerHead, LoadPlan};
use starlift_core::manifest::Manifest;
use starlift_core::{Error, Result, event};
use starlift_lake::{Store, Stored, manifests};
use starlift_postgres::load::{self as warehouse, LoadLimits, LoadOutcome, LoadRun};

use crate::config::Side;
use crate::context::{Context, now};
use crate::head::Head;
use crate::report::{Outcome, RelationReport, StageReport};

pub(crate) const STAGE: &str = "load";
/// How often a load is tried again when the database asks for it (serialisation, deadlock, restart).
const ATTEMPTS: u32 = 5;

/// What a load is asked to do.
#[derive(Debug, Clone, Default)]
pub struct LoadRequest {
    /// What transform returned; it is checked and steers nothing.
    pub event: Option<Vec<u8>>,
    /// Bring the newest star state in even if the ledger disagrees, and go on from there.
    pub adopt: bool,
}

/// Runs load.
///
/// Errors: Config where the ledger and the star disagree or a table is missing; Data where the warehouse cannot hold a
/// value; Permission where the role may not do what is needed. Whatever fails leaves the warehouse as it was after the last
/// whole manifest.
pub async fn load(ctx: &Context, request: &LoadRequest) -> Result<StageReport> {
    let started = now();
    let event = request.event.as_deref().map(|bytes| event::parse_keys(STAGE, bytes)).transpose()?.unwrap_or_default();
    let star = ctx.star()?;
    let head = Head::read(&star, &ctx.config.pipeline).await?;
    head.check_event(&star, &event).await?;
    let mut report = StageReport::nothing(STAGE, &ctx.run_id, started, now());
    let Some(newest) = head.newest() else {
        tracing::warn!(stage = STAGE, run_id = ctx.run_id, "the star is empty: nothing to load");
        return Ok(report);
    };

    let mut adopt = request.adopt;
    let mut attempt = 1;
    loop {
        match load_next(ctx, &star, &head, newest, adopt).await {
            Ok(None) => break,
            Ok(Some(loaded)) => {
                // A manifest that another loader brought in first counts as loaded, and a user's word holds once.
                adopt = false;
                attempt = 1;
                merge(&mut report, loaded);
            }
            Err(error) if error.kind().policy().retry && attempt < ATTEMPTS => {
                tracing::warn!(stage = STAGE, run_id = ctx.run_id, attempt, "load is tried again: {error}");
                tokio::time::sleep(Duration::from_millis(100 << attempt)).await;
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
    report.millis = now().millis_since(started);
    log(&report);
    Ok(report)
}

/// What a load would do now; the ledger's head comes from the warehouse.
pub(crate) async fn plan(
    star: &Store,
    newest: Option<&Stored>,
    head: Option<&LedgerHead>,
    adopt: bool,
) -> Result<LoadPlan> {
    let newest_seq = newest.map(|s| s.manifest.seq);
    let sha256_at_head = match head {
        Some(head) if Some(head.seq) == newest_seq => newest.map(|s| s.sha256.clone()),
        Some(head) if Some(head.seq) < newest_seq => Some(manifests::read(star, head.seq).await?.sha256),
        _ => None,
    };
    load_plan::plan(head, newest_seq, sha256_at_head.as_deref(), adopt)
}

struct Loaded {
    seq: u64,
    mode: &'static str,
    relations: Vec<RelationReport>,
}

/// Loads one manifest; none when the warehouse holds them all.
async fn load_next(ctx: &Context, star: &Store, head: &Head, newest: &Stored, adopt: bool) -> Result<Option<Loaded>> {
    let mut connection = ctx.connect(Side::Warehouse).await?;
    let star_id = &newest.manifest.id;
    let ledger = warehouse::head(connection.client(), &ctx.config.pipeline, star_id).await?;
    let (stored, live, adopt) = match plan(star, Some(newest), ledger.as_ref(), adopt).await? {
        LoadPlan::Nothing => return Ok(None),
        LoadPlan::Adopt { .. } => (newest.clone(), Some(&head.live), true),
        LoadPlan::Follow { first, .. } if first == newest.manifest.seq => (newest.clone(), None, false),
        LoadPlan::Follow { first, .. } => (manifests::read(star, first).await?, None, false),
    };
    let manifest = &stored.manifest;
    let models = order::load_order(manifest)?;
    for name in &models {
        ctx.progress.started(STAGE, name);
    }
    let run = LoadRun {
        pipeline: ctx.config.pipeline.clone(),
        star_id: star_id.clone(),
        seq: manifest.seq,
        manifest_sha256: stored.sha256.clone(),
        run_id: ctx.run_id.clone(),
        schema: ctx.config.warehouse.schema.clone(),
        adopt,
        head: ledger,
        limits: LoadLimits::default(),
    };
    let loads = star::model_loads(ctx, star, manifest, &models, live)?;
    let keys: BTreeMap<String, Vec<String>> =
        loads.iter().map(|m| (m.model.name.clone(), m.model.schema.key.clone())).collect();
    let (from, upto) = (manifest.seq + 1, newest.manifest.seq);
    let later = |model: &str| {
        star::later_keys(star.clone(), keys.get(model).cloned().unwrap_or_default(), model.to_string(), from, upto)
    };
    let outcome = warehouse::load(connection.client_mut(), &run, loads, &later).await?;
    for name in &models {
        ctx.progress.finished(STAGE, name);
    }
    let loaded = match outcome {
        LoadOutcome::Loaded(report) => {
            let relations = report.models.iter().map(|m| relation_report(m, adopt)).collect();
            Loaded { seq: manifest.seq, mode: if adopt { "adopt" } else { "follow" }, relations }
        }
        // Another loader was there first, or the ledger moved while we waited for its lock: look again.
        LoadOutcome::AlreadyLoaded | LoadOutcome::Moved { .. } => {
            Loaded { seq: manifest.seq, mode: "already", relations: vec![] }
        }
        LoadOutcome::Unknown(error) => return Err(unknown(manifest, error)),
    };
    Ok(Some(loaded))
}

fn unknown(manifest: &Manifest, source: Error) -> Error {
    Error::unavailable("the connection to the warehouse broke during COMMIT")
        .with_detail(format!("the ledger will tell whether star manifest {} is in", manifest.seq))
        .with_hint("run `starlift load` again: it reads the ledger first")
        .with_source(source)
}

fn relation_report(model: &warehouse::ModelReport, adopt: bool) -> RelationReport {
    RelationReport {
        name: model.model.clone(),
        mode: if adopt { "adopt" } else { "follow" }.into(),
        rows_read: model.staged,
        rows_written: model.inserted + model.updated,
        rows_deleted: model.retracted,
        // One transaction brings in all models: none has a time of its own.
        ..RelationReport::default()
    }
}

fn merge(report: &mut StageReport, loaded: Loaded) {
    report.seq = Some(loaded.seq);
    if loaded.mode != "already" {
        report.outcome = Outcome::Committed;
    }
    for new in loaded.relations {
        match report.relations.iter_mut().find(|r| r.name == new.name) {
            None => report.relations.push(new),
            Some(sum) => {
                sum.rows_read += new.rows_read;
                sum.rows_written += new.rows_written;
                sum.rows_deleted += new.rows_deleted;
            }
        }
    }
}

fn log(report: &StageReport) {
    if report.outcome == Outcome::Nothing {
        tracing::warn!(stage = STAGE, run_id = report.run_id, "nothing new: the warehouse holds the star");
    }
    for relation in report.relations.iter().filter(|r| r.rows_written + r.rows_deleted > 0) {
        tracing::info!(
            stage = STAGE,
            run_id = report.run_id,
            table = relation.name,
            rows = relation.rows_written,
            retracted = relation.rows_deleted,
            "model is in the warehouse"
        );
    }
}
