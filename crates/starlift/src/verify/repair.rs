//! Repair: what verify finds to differ is read, evaluated or loaded again, and compared once more.
//!
//! | what differs | what is done |
//! | --- | --- |
//! | a table, source and lake | an ingest reads it in full, and writes what differs: rows, and tombstones |
//! | a model, lake and warehouse | a transform evaluates it, and writes what differs: upserts and retractions |
//! | a model, star and warehouse | its state as of the manifest that the ledger names is brought in again ([`crate::load::mend`]) |
//!
//! All of it goes through the stages' own commits, so nothing is deleted or overwritten anywhere, a crash leaves a state
//! that the next run goes on from, and other runs may come in between. What is right is left alone: only what differs is
//! read, evaluated and written. What nothing but a delete could mend, such as a version that somebody doubled, is left and
//! shows in the comparison afterwards.

use std::collections::BTreeSet;

use serde::Serialize;
use starlift_core::{Error, Result};

use super::{ATTEMPTS, STAGE, STOPPED};
use super::{Comparison, ComparisonKind, Settling, Verdict, VerifyReport, VerifyRequest, compare};
use crate::context::Context;
use crate::load::mend;
use crate::report::{Outcome, RelationReport, StageReport};
use crate::{LoadRequest, ingest, load, transform};

/// What a repair found and did.
#[derive(Debug, Clone, Serialize)]
pub struct Repair {
    /// The comparisons that were neither equal nor pending.
    pub found: Vec<Comparison>,
    /// Tables that were read in full, with what was written of them.
    pub tables: Vec<RelationReport>,
    /// Models that were evaluated again, with what was written of them.
    pub models: Vec<RelationReport>,
    /// Models whose rows in the warehouse were mended, with what was written there.
    pub warehouse: Vec<RelationReport>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Runs the stages, compares, mends what differs, and compares again. `only` as in [`VerifyRequest::only`].
///
/// Errors: those of verify with `settle`; data that a stage refuses before anything is mended is a note, because the
/// damage may be the reason.
pub async fn repair(ctx: &Context, only: &[String]) -> Result<(Repair, VerifyReport)> {
    let request = VerifyRequest { settle: true, only: only.to_vec() };
    let before = compare(ctx, &request, Settling::Tolerant).await?;
    let is_wrong = |c: &&Comparison| matches!(c.verdict, Verdict::Differs | Verdict::Missing);
    let mut repair = Repair {
        found: before.comparisons.iter().filter(is_wrong).cloned().collect(),
        tables: Vec::new(),
        models: Vec::new(),
        warehouse: Vec::new(),
        notes: before.notes.iter().filter(|note| note.starts_with(STOPPED)).cloned().collect(),
    };
    if repair.found.is_empty() && repair.notes.is_empty() {
        return Ok((repair, before));
    }
    let differing = |kind: ComparisonKind| -> BTreeSet<String> {
        let of_kind = repair.found.iter().filter(|c| c.kind == kind);
        of_kind.map(|c| c.name.clone()).collect()
    };
    let tables: BTreeSet<String> = {
        // A table that one side does not have at all is nothing that reading it again could mend.
        let of_tables = repair.found.iter().filter(|c| c.kind == ComparisonKind::SourceLake);
        of_tables.filter(|c| c.verdict == Verdict::Differs).map(|c| c.name.clone()).collect()
    };
    let models = differing(ComparisonKind::LakeWarehouse);
    let in_warehouse = differing(ComparisonKind::StarWarehouse);
    log(ctx, &tables, &models, &in_warehouse);

    if !tables.is_empty() {
        let report = committed(async || ingest::ingest_repair(&ctx.for_new_run(), &tables).await).await?;
        repair.tables = of(report, &tables);
    }
    // As of the manifest that it holds, and before anything new is loaded: that may need the rows which are missing.
    if !in_warehouse.is_empty() {
        repair.warehouse = mend(&ctx.for_new_run(), &in_warehouse).await?;
    }
    let report = committed(async || transform::transform_repair(&ctx.for_new_run(), &models).await).await?;
    repair.models = of(report, &models);
    load(&ctx.for_new_run(), &LoadRequest::default()).await?;

    let after = compare(ctx, &request, Settling::Strict).await?;
    Ok((repair, after))
}

/// Runs a stage until it is not superseded.
async fn committed(run: impl AsyncFn() -> Result<StageReport>) -> Result<StageReport> {
    for _ in 0..ATTEMPTS {
        let report = run().await?;
        if report.outcome != Outcome::Superseded {
            return Ok(report);
        }
    }
    Err(Error::unavailable("other runs kept committing first, so nothing was repaired")
        .with_hint("stop them, or run again"))
}

fn of(report: StageReport, names: &BTreeSet<String>) -> Vec<RelationReport> {
    report.relations.into_iter().filter(|r| names.contains(&r.name)).collect()
}

fn log(ctx: &Context, tables: &BTreeSet<String>, models: &BTreeSet<String>, in_warehouse: &BTreeSet<String>) {
    let names = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(",");
    tracing::warn!(
        stage = STAGE,
        run_id = ctx.run_id,
        tables = names(tables),
        models = names(models),
        warehouse = names(in_warehouse),
        "differences are mended"
    );
}
