//! Load: star manifests enter the warehouse in strict order, one transaction each, with their ledger row.
//!
//! The ledger in the warehouse says where to go on, so nothing is kept here. A crash at any point leaves either the
//! whole manifest in the warehouse or nothing of it; a connection that breaks during COMMIT is answered by reading the
//! ledger again over a new one, never by sending the rows again blindly. What the server's errors lead to is one table,
//! `starlift_postgres::sqlstate`; how often a transaction is tried is in `retry`.

mod again;
mod mend;
pub(crate) mod order;
mod retry;
pub(crate) mod star;

use std::collections::BTreeSet;
use std::time::Duration;

use starlift_core::load_plan::{self, LedgerHead, LoadPlan};
use starlift_core::manifest::Manifest;
use starlift_core::refused::RefusedRows;
use starlift_core::{Error, ErrorKind, Result, event, fault};
use starlift_lake::{Head, Store, Stored, manifests};
use starlift_postgres::Connection;
use starlift_postgres::load::{self as warehouse, LoadLimits, LoadOutcome, LoadRun, MaySetAside};
use starlift_postgres::sqlstate::retry_of;

pub(crate) use self::mend::mend;
use self::retry::Failures;
use self::star::Brings;
use crate::config::Side;
use crate::context::{Context, now};
use crate::quarantine::{Allowance, warning};
use crate::report::{Outcome, RelationReport, StageReport};

pub(crate) const STAGE: &str = "load";

/// What a load is asked to do.
#[derive(Debug, Clone, Default)]
pub struct LoadRequest {
    /// What transform returned; it is checked and steers nothing.
    pub event: Option<Vec<u8>>,
    /// Bring the newest star state in even if the ledger disagrees, and go on from there.
    pub adopt: bool,
    /// Try every row that load has set aside again, whatever has changed.
    pub replay: bool,
}

/// Runs load.
///
/// Errors: Config where the ledger and the star disagree or a table is missing; Data where the warehouse refuses more rows
/// than may be set aside; Permission where the role may not do what is needed. Whatever fails leaves the warehouse as it was
/// after the last whole manifest.
pub async fn load(ctx: &Context, request: &LoadRequest) -> Result<StageReport> {
    ctx.in_time(STAGE, run(ctx, request)).await
}

async fn run(ctx: &Context, request: &LoadRequest) -> Result<StageReport> {
    let started = now();
    let event = request.event.as_deref().map(|bytes| event::parse_keys(STAGE, bytes)).transpose()?.unwrap_or_default();
    let star = ctx.star()?;
    let head = ctx.star_head().await?;
    fault::point("load.star_read");
    head.check_event(&star, &event).await?;
    let mut report = StageReport::nothing(STAGE, &ctx.run_id, started, now());
    let Some(newest) = head.newest() else {
        tracing::warn!(stage = STAGE, run_id = ctx.run_id, "the star is empty: nothing to load");
        return Ok(report);
    };

    let allowance = Allowance::of(ctx);
    let mut adopt = request.adopt;
    let mut bulk = true;
    let mut failures = Failures::default();
    let mut unsure: Option<Loaded> = None;
    loop {
        let asked =
            Asked { adopt, bulk, replay: request.replay, has_loaded: report.seq.is_some(), allowance: &allowance };
        match load_next(ctx, &star, &head, newest, &asked, &mut unsure).await {
            Ok(Next::Nothing) => break,
            Ok(Next::Loaded(loaded)) => {
                // A manifest that another loader brought in first counts as loaded, and a user's word holds once it is done.
                adopt &= loaded.mode == "already";
                failures = Failures::default();
                merge(&mut report, &allowance, loaded);
            }
            Ok(Next::Again(loaded)) => {
                merge(&mut report, &allowance, loaded);
                break;
            }
            // What the server refused there was not foreseen: staged, it is found and set aside.
            Err(error) if bulk && error.kind() == ErrorKind::Data && is_of_copy(&error) => {
                tracing::warn!(stage = STAGE, run_id = ctx.run_id, "load is tried again on the plain path: {error}");
                bulk = false;
            }
            Err(error) => match failures.wait(retry_of(&error), &ctx.run_id) {
                Some(wait) => {
                    let attempt = failures.count();
                    tracing::warn!(stage = STAGE, run_id = ctx.run_id, attempt, "load is tried again: {error}");
                    tokio::time::sleep(wait).await;
                }
                None => return Err(error),
            },
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
    /// By model, the rows that it set aside anew.
    refused: Vec<(String, RefusedRows)>,
    /// What may refuse valid rows.
    hazards: Vec<warehouse::Hazard>,
    /// Whether the warehouse shows anything else than before.
    has_changed: bool,
}

impl Loaded {
    /// What a transaction did.
    fn of(seq: u64, mode: &'static str, report: &warehouse::LoadReport) -> Loaded {
        let refused = report.models.iter().map(|m| (m.model.clone(), m.refused.clone()));
        Loaded {
            seq,
            mode,
            relations: report.models.iter().map(|m| relation_report(m, mode)).collect(),
            refused: refused.filter(|(_, rows)| !rows.is_empty()).collect(),
            hazards: report.hazards.clone(),
            has_changed: report.models.iter().any(|m| m.inserted + m.updated + m.retracted + m.returned > 0),
        }
    }
}

/// What the next transaction came to.
enum Next {
    /// The warehouse holds the star, and nothing stands aside that could be tried again.
    Nothing,
    /// It brought a manifest in.
    Loaded(Loaded),
    /// The warehouse holds the star; rows that stood aside were tried again.
    Again(Loaded),
}

/// How the next transaction is meant.
struct Asked<'a> {
    adopt: bool,
    /// Whether the bulk path may be taken, as far as the settings allow.
    bulk: bool,
    replay: bool,
    /// Whether this run brought a manifest in, which tried what stands aside.
    has_loaded: bool,
    allowance: &'a Allowance,
}

/// A session for a load, given up when it is silent for longer than a load's statements may take.
pub(super) async fn connect(ctx: &Context) -> Result<Connection> {
    let longest = LoadLimits::default().statement_timeout;
    ctx.connect_as(Side::Warehouse, |options| options.with_longest_statement(longest)).await
}

/// Loads one manifest; when the warehouse holds them all, tries again what stands aside. `unsure` is what a transaction
/// before did, if it was committed, which nobody could say.
async fn load_next(
    ctx: &Context,
    star: &Store,
    head: &Head,
    newest: &Stored,
    asked: &Asked<'_>,
    unsure: &mut Option<Loaded>,
) -> Result<Next> {
    let mut connection = connect(ctx).await?;
    let star_id = &newest.manifest.id;
    if let Some(maybe) = unsure {
        let entry = warehouse::entry(connection.client(), &ctx.config.pipeline, star_id, maybe.seq).await?;
        // The ledger row is part of the transaction: if it is there and ours, all of it is.
        if entry.is_some_and(|entry| entry.run_id == ctx.run_id) {
            return Ok(unsure.take().map_or(Next::Nothing, Next::Loaded));
        }
    }
    let position = warehouse::position(connection.client(), &ctx.config.pipeline, star_id).await?;
    let (ledger, has_refused) = (position.head, position.has_refused);
    fault::point("load.ledger_read");
    // Since the star was read, another run may have added to it and loaded that.
    let newer = match &ledger {
        Some(ledger) if ledger.seq > newest.seq() => Some(Head::read(star, &ctx.config.pipeline).await?),
        _ => None,
    };
    let (head, newest) = newer.as_ref().and_then(|head| Some((head, head.newest()?))).unwrap_or((head, newest));
    let Some((seq, adopt)) = plan(star, Some(newest), ledger.as_ref(), asked.adopt).await?.next() else {
        if !has_refused || (asked.has_loaded && !asked.replay) {
            return Ok(Next::Nothing);
        }
        let run = LoadRun {
            aside: asked.allowance.of_load(ctx, &newest.manifest, asked.replay),
            ..run_of(ctx, newest, ledger)
        };
        return again::again(ctx, star, newest, &mut connection, &run).await;
    };
    let stored = if seq == newest.seq() { newest.clone() } else { manifests::read(star, seq).await? };
    let brings = if adopt { Brings::State(&head.live) } else { Brings::Changes };
    let manifest = &stored.manifest;
    // Where the row is there already, finding it after a lost answer would prove nothing; adopting again is harmless.
    let row_is_new = ledger.as_ref().is_none_or(|head| head.seq < manifest.seq);
    let models = order::load_order(manifest)?;
    for name in &models {
        ctx.progress.started(STAGE, name);
    }
    let aside = asked.allowance.of_load(ctx, manifest, asked.replay);
    let planned = run_of(ctx, &stored, ledger);
    let run = LoadRun { adopt, aside, bulk: planned.bulk && asked.bulk, ..planned };
    let loads = star::model_loads(ctx, star, manifest, &models, brings)?;
    let later = star::later(star, &loads, manifest.seq, newest.manifest.seq);
    let outcome = warehouse::load(connection.client_mut(), &run, loads, &later)
        .await
        .map_err(|e| e.with_context("window", format!("star manifest {}", manifest.seq)))?;
    for name in &models {
        ctx.progress.finished(STAGE, name);
    }
    let mode = if adopt { "adopt" } else { "follow" };
    match outcome {
        LoadOutcome::Loaded(report) => {
            *unsure = None;
            Ok(Next::Loaded(Loaded::of(manifest.seq, mode, &report)))
        }
        // Another loader was there first, or the ledger moved while we waited for its lock: look again.
        LoadOutcome::AlreadyLoaded | LoadOutcome::Moved { .. } => {
            let (seq, mode) = (manifest.seq, "already");
            Ok(Next::Loaded(Loaded {
                seq,
                mode,
                relations: vec![],
                refused: vec![],
                hazards: vec![],
                has_changed: false,
            }))
        }
        LoadOutcome::Unknown { error, report } => {
            *unsure = row_is_new.then(|| Loaded::of(manifest.seq, mode, &report));
            Err(unknown(manifest, error))
        }
    }
}

/// The run of a star manifest, planned from this head of the ledger.
fn run_of(ctx: &Context, stored: &Stored, head: Option<LedgerHead>) -> LoadRun {
    LoadRun {
        pipeline: ctx.config.pipeline.clone(),
        star_id: stored.manifest.id.clone(),
        seq: stored.manifest.seq,
        manifest_sha256: stored.sha256.clone(),
        run_id: ctx.run_id.clone(),
        schema: ctx.config.warehouse.schema.clone(),
        adopt: false,
        whole: whole_in(&stored.manifest),
        head,
        aside: MaySetAside::default(),
        bulk: ctx.config.warehouse_bulk,
        limits: LoadLimits {
            statement_timeout: Duration::from_secs(ctx.config.warehouse_statement_timeout_seconds),
            ..LoadLimits::default()
        },
    }
}

/// Whether an error came up while rows were copied straight into their table.
fn is_of_copy(error: &Error) -> bool {
    error.context().iter().any(|(name, _)| *name == warehouse::COPIED_INTO)
}

/// The models whose state begins with this manifest.
fn whole_in(manifest: &Manifest) -> BTreeSet<String> {
    manifest.relations.keys().filter(|name| manifest.replaces(name)).cloned().collect()
}

fn unknown(manifest: &Manifest, source: Error) -> Error {
    Error::unavailable("the connection to the warehouse broke during COMMIT")
        .with_detail(format!("the ledger will tell whether star manifest {} is in", manifest.seq))
        .with_hint("run `starlift load` again: it reads the ledger first")
        .with_source(source)
}

fn relation_report(model: &warehouse::ModelReport, mode: &str) -> RelationReport {
    RelationReport {
        name: model.model.clone(),
        mode: mode.into(),
        rows_read: model.staged,
        rows_written: model.inserted + model.updated,
        rows_deleted: model.retracted,
        rows_refused: model.refused.rows(),
        refused: model.aside,
        // One transaction brings in all models: none has a time of its own.
        ..RelationReport::default()
    }
}

fn merge(report: &mut StageReport, allowance: &Allowance, loaded: Loaded) {
    report.seq = Some(loaded.seq);
    if !matches!(loaded.mode, "already" | again::MODE) || loaded.has_changed {
        report.outcome = Outcome::Committed;
    }
    for (name, rows) in &loaded.refused {
        allowance.count(name, rows);
        report.warnings.extend(warning("model", name, rows));
    }
    for hazard in loaded.hazards {
        let warning = format!("model `{}`: {}; {}", hazard.model, hazard.detail, hazard.mend);
        // Every manifest that writes to its table tells of it.
        if !report.warnings.contains(&warning) {
            tracing::warn!(stage = STAGE, run_id = report.run_id, table = hazard.model, "{warning}");
            report.warnings.push(warning);
        }
    }
    for new in loaded.relations {
        match report.relations.iter_mut().find(|r| r.name == new.name) {
            None => report.relations.push(new),
            Some(sum) => {
                sum.rows_read += new.rows_read;
                sum.rows_written += new.rows_written;
                sum.rows_deleted += new.rows_deleted;
                sum.rows_refused += new.rows_refused;
                sum.refused = new.refused;
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
