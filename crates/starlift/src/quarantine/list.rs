//! What stands aside in lake, star and warehouse: by table or model, and row by row.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use futures::TryStreamExt;
use serde::Serialize;
use starlift_core::manifest::Manifest;
use starlift_core::{Result, TableSchema};
use starlift_lake::{Head, State, Store, key_text};
use starlift_postgres::load as warehouse;

use crate::config::Side;
use crate::context::Context;

/// A row that stands aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QuarantinedRow {
    /// The stage that refused it: `ingest`, `transform` or `load`.
    pub stage: &'static str,
    /// The table or model.
    pub name: String,
    /// Its key as `name=value, …`; empty for a table without a key.
    pub key: String,
    /// The column that refused it.
    pub column: String,
    /// Why.
    pub reason: String,
    /// The refused value, where the project keeps values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// How many rows stand aside, by table and model; those without any are left out.
pub fn standing(manifest: Option<&Manifest>) -> BTreeMap<String, u64> {
    let relations = manifest.map(|m| &m.relations).into_iter().flatten();
    relations.filter(|(_, r)| r.refused > 0).map(|(name, r)| (name.clone(), r.refused)).collect()
}

/// Every row that stands aside: of the tables, then of the models, then what load set aside of these, each by name.
///
/// The warehouse is asked once the star has a manifest. Errors: Data for a damaged file; those of the store and the
/// warehouse.
pub async fn list(ctx: &Context) -> Result<Vec<QuarantinedRow>> {
    let (lake, star) = (ctx.lake()?, ctx.star()?);
    let mut rows = Vec::new();
    for (stage, store, head) in
        [("ingest", &lake, ctx.lake_head().await?), ("transform", &star, ctx.star_head().await?)]
    {
        let Some(manifest) = head.manifest() else { continue };
        for name in standing(Some(manifest)).keys() {
            let schema = &manifest.relations[name].schema;
            rows.extend(of(store, &head, stage, name, schema).await?);
        }
        if stage == "transform" {
            rows.extend(of_load(ctx, manifest).await?);
        }
    }
    Ok(rows)
}

/// What load has set aside, of the models of this manifest.
async fn of_load(ctx: &Context, star: &Manifest) -> Result<Vec<QuarantinedRow>> {
    let connection = ctx.connect(Side::Warehouse).await?;
    let entries = warehouse::refused_entries(connection.client(), &ctx.config.pipeline).await?;
    let row = |entry: warehouse::RefusedEntry| {
        let names = star.relations.get(&entry.model).map(|relation| relation.schema.key.clone()).unwrap_or_default();
        QuarantinedRow {
            stage: "load",
            key: shown(&entry.key, &names),
            name: entry.model,
            column: entry.column,
            reason: entry.reason,
            value: entry.value,
        }
    };
    let mut rows: Vec<QuarantinedRow> = entries.into_iter().map(row).collect();
    rows.sort_by(|a, b| (&a.name, &a.column, a.key.len(), &a.key).cmp(&(&b.name, &b.column, b.key.len(), &b.key)));
    Ok(rows)
}

/// A key as `name=value, …`, in the order of the model's key: JSON keeps none.
fn shown(key: &serde_json::Value, names: &[String]) -> String {
    let of = |name: &String| {
        let value = match key.get(name) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => "?".into(),
        };
        format!("{name}={value}")
    };
    names.iter().map(of).collect::<Vec<_>>().join(", ")
}

async fn of(
    store: &Store,
    head: &Head,
    stage: &'static str,
    name: &str,
    schema: &TableSchema,
) -> Result<Vec<QuarantinedRow>> {
    let state = State::new(store, schema.clone(), head.live_of(name))?;
    let mut batches = state.refused();
    let mut rows = Vec::new();
    while let Some(batch) = batches.try_next().await? {
        for row in 0..batch.num_rows() {
            let text = |after_key: usize| text(&batch, schema.key.len() + after_key, row);
            rows.push(QuarantinedRow {
                stage,
                name: name.to_string(),
                key: key_text(schema, &batch, row),
                column: text(0).unwrap_or_default(),
                reason: text(1).unwrap_or_default(),
                value: text(2),
            });
        }
    }
    // Shorter keys first, so that numbers come in their order.
    rows.sort_by(|a, b| (&a.column, a.key.len(), &a.key).cmp(&(&b.column, b.key.len(), &b.key)));
    Ok(rows)
}

fn text(batch: &RecordBatch, column: usize, row: usize) -> Option<String> {
    let texts = batch.columns().get(column)?.as_string_opt::<i32>()?;
    texts.is_valid(row).then(|| texts.value(row).to_string())
}
