//! Transform: the models, evaluated over the lake as of one ingest manifest and compared with their state before, become
//! upserts and retractions in the star, committed by one manifest.
//!
//! Where the plan of a model allows it, only the keys that changes can reach are evaluated; the rows that come of it are the
//! same (`transform/way.rs`).
//!
//! Inputs are never read "now": every model of a run sees the lake as of the same manifest, which the star's manifest
//! names as what it covers. A crash before the put leaves a claim and files that no manifest names; the next run
//! evaluates again and comes to the same rows.

mod affected;
mod column_test;
mod compare;
pub(crate) mod coverable;
mod evaluate;
mod image;
pub(crate) mod inputs;
mod own_references;
mod references;
mod rows;
mod tuple;
mod unique;
mod way;

pub(crate) use way::ways;

use std::collections::{BTreeMap, BTreeSet};

use starlift_core::coverage::{self, ModelNow, TransformPlan};
use starlift_core::manifest::{Manifest, Origin, Relation};
use starlift_core::model::unknown_input;
use starlift_core::{Error, Result, event, fault, succession};
use starlift_lake::{Commit, Head, Store, claim, commit, manifests};
use starlift_models::EVALUATION_VERSION;

use self::coverable::Coverable;
use crate::config::Project;
use crate::context::{Context, new_id, now};
use crate::quarantine::Allowance;
use crate::report::{Outcome, StageReport};
use crate::upkeep;

pub(crate) const STAGE: &str = "transform";

/// Runs transform. `event` is what ingest returned; it is checked and steers nothing.
///
/// Errors: Data where rows are refused, a key yields two rows or a file is damaged; Config where a model cannot be used.
/// Whatever fails before the commit leaves the star as it was.
pub async fn transform(ctx: &Context, event: Option<&[u8]>) -> Result<StageReport> {
    ctx.in_time(STAGE, transform_with(ctx, event, &BTreeSet::new())).await
}

/// Runs transform, and evaluates the models of `repair` whatever the manifests say: rows of the star that differ from what
/// the models yield, for whatever reason, are written again or retracted.
///
/// Errors: those of [`transform`].
pub(crate) async fn transform_repair(ctx: &Context, repair: &BTreeSet<String>) -> Result<StageReport> {
    transform_with(ctx, None, repair).await
}

async fn transform_with(ctx: &Context, event: Option<&[u8]>, repair: &BTreeSet<String>) -> Result<StageReport> {
    let started = now();
    let event = event.map(|bytes| event::parse_keys(STAGE, bytes)).transpose()?.unwrap_or_default();
    let (lake, star) = (ctx.lake()?, ctx.star()?);
    // The star first: a star that was read later could cover manifests that the lake read before does not have.
    let star_head = ctx.star_head().await?;
    fault::point("transform.star_read");
    let lake_head = ctx.lake_head().await?;
    if let Some(done) = star_head.find_run(&star, &ctx.run_id).await? {
        return Ok(StageReport::of_manifest(STAGE, &done.manifest, Outcome::Replayed, started, now()));
    }
    lake_head.check_event(&lake, &event).await?;
    if lake_head.manifest().is_none() {
        tracing::warn!(stage = STAGE, run_id = ctx.run_id, "the lake is empty: nothing to transform");
        return Ok(StageReport::nothing(STAGE, &ctx.run_id, started, now()));
    }
    if ctx.project.graph.models().is_empty() {
        return Err(Error::config("the project has no model")
            .with_hint("add `models/<name>.sql`; docs/models.md shows how one looks"));
    }
    ctx.project.graph.check_referred_keys()?;
    check_inputs(&ctx.project, lake_head.manifest())?;
    check_covered(&lake, &lake_head, star_head.manifest()).await?;
    let coverable = Coverable::of(&lake, &ctx.config.pipeline, lake_head, star_head.manifest()).await?;
    let waits = coverable.waits.map(|waits| format!("{waits}: transform goes on when that is done"));
    let nothing = |warnings: Vec<String>| {
        let mut report = StageReport::nothing(STAGE, &ctx.run_id, started, now());
        report.warnings = waits.iter().cloned().chain(warnings).collect();
        report
    };
    let Some(lake_head) = coverable.head else {
        let waits = waits.clone().unwrap_or_default();
        tracing::warn!(stage = STAGE, run_id = ctx.run_id, "nothing to transform yet: {waits}");
        return Ok(nothing(Vec::new()));
    };
    let Some(lake_manifest) = lake_head.manifest() else { return Ok(nothing(Vec::new())) };
    let plan = plan_with(ctx, lake_manifest, star_head.manifest(), repair)?;
    if plan.settled {
        let why = waits.clone().unwrap_or_else(|| "the star covers the lake".into());
        tracing::warn!(stage = STAGE, run_id = ctx.run_id, "nothing new: {why}");
        return Ok(nothing(waiting(&plan)));
    }

    star_head.check_link(&star).await?;
    lake_head.check_link(&lake).await?;
    fault::point("transform.planned");
    let at = claim(&star, started, star_head.manifest().map(|m| m.at), &new_id()).await?;
    fault::point("transform.claimed");
    let seq = succession::next_seq(star_head.manifest());
    let run = evaluate::Run {
        ctx,
        lake: &lake,
        star: &star,
        lake_head: &lake_head,
        star_head: &star_head,
        at,
        seq,
        allowance: Allowance::of(ctx),
        repairs: !repair.is_empty(),
    };
    let window = || format!("ingest manifests {} to {}", plan.after.saturating_add(1), plan.upto);
    let (relations, mut warnings) = run.evaluate(&plan).await.map_err(|e| e.with_context("window", window()))?;
    warnings.extend(waiting(&plan));
    warnings.extend(waits.clone());
    let upkept = upkeep::of_run(ctx, (STAGE, &star), &star_head, (seq, at), &relations).await;

    let draft = succession::Draft {
        pipeline: ctx.config.pipeline.clone(),
        new_id: new_id(),
        run_id: ctx.run_id.clone(),
        write_id: new_id(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        at,
        started,
        finished: now(),
        origin: Origin::Transform {
            lake_id: lake_manifest.id.clone(),
            after: plan.after,
            upto: plan.upto,
            upto_sha256: lake_head.newest().map(|s| s.sha256.clone()),
        },
        relations,
        upkept,
        compaction: false,
    };
    let previous = star_head.newest().map(|s| (&s.manifest, s.sha256.as_str()));
    fault::point("transform.before_manifest");
    match commit(&star, succession::next(previous, star_head.live.clone(), draft)).await? {
        Commit::Superseded(other) => Ok(crate::ingest::commit::superseded(STAGE, ctx, &other.manifest, started)),
        Commit::Committed(stored) => {
            fault::point("transform.after_manifest");
            let mut report = StageReport::of_manifest(STAGE, &stored.manifest, Outcome::Committed, started, now());
            report.warnings = warnings;
            log(&report);
            Ok(report)
        }
    }
}

/// Refuses a lake that is not the one whose manifests the star covers: one that was put back to an earlier state, or forked,
/// has other changes under the same numbers, and these would be passed over.
async fn check_covered(lake: &Store, lake_head: &Head, star: Option<&Manifest>) -> Result<()> {
    let Some(Origin::Transform { lake_id, upto, upto_sha256: Some(covered), .. }) = star.map(|s| &s.origin) else {
        return Ok(());
    };
    if lake_head.manifest().is_none_or(|newest| newest.id != *lake_id || newest.seq < *upto) {
        return Ok(());
    }
    let found = match lake_head.chain.iter().find(|s| s.manifest.seq == *upto) {
        Some(stored) => stored.sha256.clone(),
        // Where nothing changed since, the newest manifest knows it.
        None => match lake_head.change_sha256().filter(|_| lake_head.newest_change() == Some(*upto)) {
            Some(sha256) => sha256,
            None => manifests::read(lake, *upto).await?.sha256,
        },
    };
    if found == *covered {
        return Ok(());
    }
    Err(Error::config("the star covers another lake than this")
        .with_detail(format!(
            "ingest manifest {upto} is not the one that the star was made from: the lake was put back or forked"
        ))
        .with_hint(
            "start a new star by pointing `lake.transform` at an empty place; the next load takes the warehouse over",
        ))
}

/// What a transform would do now with the lake as of a manifest that it may cover.
pub fn plan(ctx: &Context, lake: &Manifest, star: Option<&Manifest>) -> Result<TransformPlan> {
    plan_with(ctx, lake, star, &BTreeSet::new())
}

fn plan_with(
    ctx: &Context,
    lake: &Manifest,
    star: Option<&Manifest>,
    repair: &BTreeSet<String>,
) -> Result<TransformPlan> {
    let project = &ctx.project;
    let models: Vec<ModelNow> = project
        .graph
        .models()
        .iter()
        .map(|model| ModelNow {
            name: model.name.clone(),
            fingerprint: project.fingerprint(model, EVALUATION_VERSION, ctx.config.calendar),
            inputs: project.inputs_of(model),
        })
        .collect();
    coverage::plan_repair(lake, star, &models, repair)
}

/// Tables that no ingest has read yet are waited for; names that no table has are mistakes.
pub(crate) fn check_inputs(project: &Project, lake: Option<&Manifest>) -> Result<()> {
    let Some(lake) = lake else { return Ok(()) };
    let listed = lake.source().map(|s| s.tables.clone()).unwrap_or_default();
    for table in project.tables() {
        let known = |name: &String| lake.relations.contains_key(name) || listed.contains(name);
        if !known(&table) {
            let reader =
                project.graph.models().iter().find(|m| m.inputs.contains(&table)).map_or("", |m| m.name.as_str());
            return Err(unknown_input(reader, &table, lake.relations.keys().map(String::as_str)));
        }
    }
    Ok(())
}

fn waiting(plan: &TransformPlan) -> Vec<String> {
    let line = |(model, tables): (&String, &Vec<String>)| {
        format!("model `{model}` waits for {}, which no ingest has read yet", tables.join(", "))
    };
    plan.waiting.iter().map(line).collect()
}

fn log(report: &StageReport) {
    for relation in report.relations.iter().filter(|r| r.rows_written + r.rows_deleted + r.rows_refused > 0) {
        tracing::info!(
            stage = STAGE,
            run_id = report.run_id,
            table = relation.name,
            rows = relation.rows_written,
            deleted = relation.rows_deleted,
            bytes = relation.bytes_written,
            "model is in the star"
        );
    }
    for warning in &report.warnings {
        tracing::warn!(stage = STAGE, run_id = report.run_id, "{warning}");
    }
}

/// Relations by name, as a manifest holds them.
pub(crate) type Relations = BTreeMap<String, Relation>;
