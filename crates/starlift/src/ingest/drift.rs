//! What changed about the source's tables since the last run, said before anything is written.

use std::collections::{BTreeMap, BTreeSet};

use starlift_core::drift::{Change, DriftPolicy, between};
use starlift_core::manifest::Manifest;
use starlift_core::model::{ModelGraph, uses};
use starlift_core::{Error, Result};

use super::Selection;
use crate::context::Context;

/// One change, with what it hits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Drift {
    pub(crate) table: String,
    change: Change,
    hits: Vec<String>,
}

impl Drift {
    /// `payment: column \`amount\` is gone -> fact_payment.payment_amount`.
    pub(crate) fn text(&self) -> String {
        let hits = if self.hits.is_empty() { "no model".into() } else { self.hits.join(", ") };
        format!("{}: {} -> {hits}", self.table, self.change.text())
    }
}

/// What changed since the newest manifest; nothing where there is none yet.
pub(crate) fn drift(graph: &ModelGraph, newest: Option<&Manifest>, selection: &Selection) -> Vec<Drift> {
    let Some(newest) = newest else { return Vec::new() };
    let of_states = newest.relations.iter().map(|(name, relation)| (name.clone(), &relation.schema));
    // A change that chunks of a table have taken in was said when they began.
    let of_chunks = newest.unfinished.iter().map(|(name, base)| (name.clone(), &base.schema));
    let before = of_states.chain(of_chunks).map(|(name, schema)| (name, schema.clone())).collect();
    let mut found = between(&before, &selection.schemas());
    // Captured before, and not read yet: runs may read some tables only.
    let known = newest.source().map(|source| source.tables.as_slice()).unwrap_or_default();
    found.retain(|table, changes| *changes != [Change::TableAdded] || !known.contains(table));
    let of = |(table, changes): (String, Vec<Change>)| {
        let name = match changes.first() {
            // Models know it by its old name.
            Some(Change::TableRenamed { from }) => from.clone(),
            _ => table.clone(),
        };
        let hits = |change: &Change| hits(graph, &name, change.column());
        changes.into_iter().map(move |change| Drift { table: table.clone(), hits: hits(&change), change }).collect()
    };
    found.into_iter().flat_map(|entry| -> Vec<Drift> { of(entry) }).collect()
}

/// The changed tables that the coming ingest reads anew as they are now.
pub(crate) fn followed(ctx: &Context, found: &[Drift]) -> BTreeSet<String> {
    let evolves = |drift: &&Drift| ctx.config.drift(&drift.table) == DriftPolicy::Evolve;
    found.iter().filter(evolves).map(|drift| drift.table.clone()).collect()
}

/// Whether an error of a model may be gone after the coming ingest: the model reads one of these tables, itself or through others.
pub(crate) fn may_mend(graph: &ModelGraph, followed: &BTreeSet<String>, error: &Error) -> bool {
    let model = error.context().iter().find(|(name, _)| *name == "model");
    model.is_some_and(|(_, model)| !graph.outer_inputs_of(model).is_disjoint(followed))
}

/// Says what changed, and stops where the project wants to look at it first.
///
/// Errors: Config that lists the changes of tables whose policy is `fail`.
pub(super) fn check(ctx: &Context, newest: Option<&Manifest>, selection: &Selection) -> Result<()> {
    let found = drift(&ctx.project.graph, newest, selection);
    let (stops, goes): (Vec<&Drift>, Vec<&Drift>) =
        found.iter().partition(|drift| ctx.config.drift(&drift.table) == DriftPolicy::Fail);
    if stops.is_empty() {
        for drift in goes {
            tracing::warn!(run_id = ctx.run_id, table = drift.table, "the source changed: {}", drift.text());
        }
        return Ok(());
    }
    let tables: BTreeSet<&str> = stops.iter().map(|drift| drift.table.as_str()).collect();
    let lines: Vec<String> = stops.iter().map(|drift| drift.text()).collect();
    Err(Error::config("the source changed, and this project stops where it does")
        .with_detail(lines.join("; "))
        .with_hint(format!(
            "mend the models that are named, then set `drift = \"evolve\"` for {} (or under `[source]`) in starlift.toml and run again",
            tables.into_iter().map(|table| format!("`[source.tables.{table}]`")).collect::<Vec<_>>().join(", ")
        )))
}

/// The models that a change hits, with their columns that are made of the column; and what those hit in turn.
fn hits(graph: &ModelGraph, table: &str, column: Option<&str>) -> Vec<String> {
    // Inputs that are hit: by name, with the columns, or none for all of it.
    let mut open: BTreeMap<String, Option<BTreeSet<String>>> =
        [(table.to_string(), column.map(|column| BTreeSet::from([column.to_string()])))].into();
    let mut found = Vec::new();
    // In dependency order, so that a model's inputs come before it.
    for model in graph.models() {
        let mut made = BTreeSet::new();
        let mut is_hit = false;
        for input in &model.inputs {
            match open.get(input) {
                None => {}
                Some(None) => is_hit = true,
                Some(Some(columns)) => {
                    for column in columns {
                        let used = uses(model, column);
                        is_hit |= used.named;
                        made.extend(used.columns);
                    }
                }
            }
        }
        if !is_hit {
            continue;
        }
        if made.is_empty() {
            found.push(model.name.clone());
        } else {
            found.extend(made.iter().map(|column| format!("{}.{column}", model.name)));
        }
        // A column of a filter or a join decides over whole rows.
        open.insert(model.name.clone(), (!made.is_empty()).then_some(made));
    }
    found
}
