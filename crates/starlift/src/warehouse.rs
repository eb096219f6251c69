//! What a person does with the warehouse as a whole: create what is missing, count it, or clear it.

use std::collections::BTreeMap;

use starlift_core::model::{Model, ModelKind};
use starlift_core::{Error, Result, TableSchema};
use starlift_lake::Head;
use starlift_postgres::load::{self as tables, Cleared, ModelTable};

use crate::config::Side;
use crate::context::Context;
use crate::load::{order, star};
use crate::transform::inputs::{Evaluated, Inputs};

/// What is said before the first ingest of a project without a `warehouse.sql`.
pub(crate) const COLUMNS_UNKNOWN: &str = "the columns of the models are not known yet";

/// Creates the tables, views, indexes and ledger that are missing, and returns a line for each thing that was made.
///
/// The tables come from the project's `warehouse.sql`; a project without one gets them from its models' columns, which are
/// known from the star, or from the lake by planning the models.
///
/// Errors: Permission, with the statements for an owner, where the role may not create them.
pub async fn create(ctx: &Context) -> Result<Vec<String>> {
    let mut connection = ctx.connect(Side::Warehouse).await?;
    let models = models(ctx).await?;
    let schema = &ctx.config.warehouse.schema;
    let sql = ctx.project.warehouse_sql.as_deref();
    let made = tables::create(connection.client_mut(), &ctx.config.pipeline, schema, sql, &models).await?;
    Ok(made)
}

/// Rows of each table that [`clear`] would empty; tables that are missing are left out.
pub async fn count_rows(ctx: &Context) -> Result<BTreeMap<String, u64>> {
    let connection = ctx.connect(Side::Warehouse).await?;
    tables::count_rows(connection.client(), &ctx.config.warehouse.schema, &named(ctx)).await
}

/// Empties facts, dimensions and ledger in one transaction. The next load adopts the warehouse.
pub async fn clear(ctx: &Context) -> Result<Cleared> {
    let mut connection = ctx.connect(Side::Warehouse).await?;
    tables::clear(connection.client_mut(), &ctx.config.pipeline, &ctx.config.warehouse.schema, &named(ctx)).await
}

/// The models by name alone: counting and clearing need no columns.
fn named(ctx: &Context) -> Vec<ModelTable> {
    let no_columns =
        TableSchema { columns: Vec::new(), key: Vec::new(), oid: None, partitions: Vec::new(), attributes: Vec::new() };
    ctx.project.graph.models().iter().map(|model| table(model, no_columns.clone())).collect()
}

/// The project's models with their columns, as far as they are known: from the star, else by planning them over the lake.
pub(crate) async fn models(ctx: &Context) -> Result<Vec<ModelTable>> {
    let head = ctx.star_head().await?;
    if let Some(manifest) = head.manifest() {
        let known = order::load_order(manifest)?;
        let mut models: Vec<ModelTable> =
            known.iter().map(|name| star::model_table(manifest, name)).collect::<Result<_>>()?;
        // A model that no transform has met yet needs its table all the same.
        if ctx.project.graph.models().iter().any(|model| !known.contains(&model.name)) {
            let lake = ctx.lake_head().await?;
            if lake.manifest().is_some() {
                let planned = planned(ctx, &lake).await?;
                models.extend(planned.into_iter().filter(|model| !known.contains(&model.name)));
            }
        }
        return Ok(models);
    }
    let lake = ctx.lake_head().await?;
    match lake.manifest() {
        None if ctx.project.warehouse_sql.is_some() => Ok(named(ctx)),
        None => Err(Error::config(COLUMNS_UNKNOWN)
            .with_detail("the project has no `warehouse.sql`, and the lake is empty")
            .with_hint("run `starlift ingest` first, or write `warehouse.sql`")),
        Some(_) => planned(ctx, &lake).await,
    }
}

async fn planned(ctx: &Context, lake: &Head) -> Result<Vec<ModelTable>> {
    let store = ctx.lake()?;
    let star = ctx.star()?;
    let mut inputs = Inputs::new(&ctx.config, &ctx.project, (&store, lake), &star)?;
    let mut states = Evaluated::new();
    let mut planned = Vec::new();
    let project = &ctx.project;
    for model in project.graph.models() {
        // One whose tables no ingest has read yet waits, as in transform: its columns are not known.
        let is_known = |name: &String| match project.graph.get(name) {
            Some(_) => states.contains_key(name),
            None => project.seeds.contains_key(name) || inputs.table(name).is_some(),
        };
        if !model.inputs.iter().all(is_known) {
            continue;
        }
        let schema = match model.header.kind {
            ModelKind::Calendar => starlift_models::calendar(ctx.config.calendar.0, ctx.config.calendar.1)?.0,
            ModelKind::Dimension | ModelKind::Fact => {
                inputs.register(model, &states)?;
                inputs.session().prepare(model).await?.schema().clone()
            }
        };
        states.insert(model.name.clone(), (schema.clone(), Vec::new()));
        planned.push(table(model, schema));
    }
    Ok(planned)
}

fn table(model: &Model, schema: TableSchema) -> ModelTable {
    ModelTable { name: model.name.clone(), kind: model.header.kind, schema, references: model.header.references() }
}
