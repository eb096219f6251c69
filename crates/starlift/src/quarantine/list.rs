//! What stands aside in lake and star: by table or model, and row by row.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use futures::TryStreamExt;
use serde::Serialize;
use starlift_core::manifest::Manifest;
use starlift_core::{Result, TableSchema};
use starlift_lake::{Head, State, Store, key_text};

use crate::context::Context;

/// A row that stands aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QuarantinedRow {
    /// The stage that refused it: `ingest` or `transform`.
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

/// Every row that stands aside: of the tables, then of the models, each by name.
///
/// Errors: Data for a damaged file; those of the store.
pub async fn list(ctx: &Context) -> Result<Vec<QuarantinedRow>> {
    let (lake, star) = (ctx.lake()?, ctx.star()?);
    let mut rows = Vec::new();
    for (stage, store) in [("ingest", &lake), ("transform", &star)] {
        let head = Head::read(store, &ctx.config.pipeline).await?;
        let Some(manifest) = head.manifest() else { continue };
        for name in standing(Some(manifest)).keys() {
            let schema = &manifest.relations[name].schema;
            rows.extend(of(store, &head, stage, name, schema).await?);
        }
    }
    Ok(rows)
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
