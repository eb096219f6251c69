//! What a person does about rows that stand aside: go on without them, or try them once more.

use std::collections::BTreeSet;

use starlift_core::model::nearest;
use starlift_core::{Error, Result};
use starlift_lake::Head;

use super::{Accepted, standing};
use crate::context::Context;
use crate::load::LoadRequest;
use crate::run::RunReport;

/// Runs the stages; what they refuse of these tables and models (of all, where none is named) stands aside, however much it
/// is.
///
/// Errors: Config for a name that neither project nor source knows. What fails in a stage is in the report.
pub async fn accept(ctx: &Context, names: &BTreeSet<String>) -> Result<RunReport> {
    check_names(ctx, names).await?;
    let accepted = if names.is_empty() { Accepted::All } else { Accepted::Of(names.clone()) };
    Ok(crate::run(&ctx.clone().accepting(accepted)).await)
}

/// Runs the stages, and reads or evaluates these tables and models (all that have rows that stand aside, where none is named)
/// once more as a whole: rows that can be carried now are. Load tries every row again that it has set aside.
///
/// A changed model or column setting does that by itself. This is for causes that leave no trace, and for certainty.
///
/// Errors: Config for a name that neither project nor source knows. What fails in a stage is in the report.
pub async fn replay(ctx: &Context, names: &BTreeSet<String>) -> Result<RunReport> {
    check_names(ctx, names).await?;
    let chosen = |head: &Head| -> BTreeSet<String> {
        let standing = standing(head.manifest());
        standing.into_keys().filter(|name| names.is_empty() || names.contains(name)).collect()
    };
    let tables = chosen(&ctx.lake_head().await?);
    let models = chosen(&ctx.star_head().await?);
    let mut report = RunReport { run_id: ctx.run_id.clone(), stages: Vec::new(), failures: Vec::new() };
    report.ended("ingest", crate::ingest::ingest_repair(ctx, &tables).await);
    report.ended("transform", crate::transform::transform_repair(ctx, &models).await);
    report.ended("load", crate::load(ctx, &LoadRequest { replay: true, ..LoadRequest::default() }).await);
    Ok(report)
}

/// Whether each of these names is a table or a model.
///
/// Errors: Config that says which is not, with the nearest name as a hint.
pub async fn check_names(ctx: &Context, names: &BTreeSet<String>) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let lake = ctx.lake_head().await?;
    // A table whose first read is not finished is in no state yet.
    let tables = lake.manifest().into_iter().flat_map(|m| m.relations.keys().chain(m.unfinished.keys()).cloned());
    let tables: Vec<String> = tables.collect();
    let models = ctx.project.graph.models().iter().map(|model| model.name.clone());
    let mut known: BTreeSet<String> = tables.into_iter().chain(models).chain(ctx.project.tables()).collect();
    if lake.manifest().is_none() && !names.is_subset(&known) {
        // Before the first ingest, the source alone knows a table that no model reads.
        known.extend(crate::ingest::look(ctx, lake.manifest()).await?.tables().map(|table| table.name.clone()));
    }
    match names.iter().find(|name| !known.contains(*name)) {
        None => Ok(()),
        Some(unknown) => Err(Error::config(format!("`{unknown}` is no table or model")).with_hint(
            match nearest(unknown, known.iter().map(String::as_str)) {
                Some(name) => format!("did you mean `{name}`?"),
                None => "`starlift status` lists tables and models".into(),
            },
        )),
    }
}
