//! Star and warehouse: each model's state as of the star manifest that the ledger names, beside its current rows.

use starlift_core::Result;
use starlift_core::manifest::Relation;
use starlift_core::model::ModelKind;
use starlift_lake::{Head, State, Store};

use super::lake_side::{LakeSide, aside_note};
use super::matching::{Counts, What};
use super::model_view::{Later, ModelView};
use super::report::{Comparison, ComparisonKind};
use super::row_digest::RowDigest;
use super::side::{Names, Side, compare};
use super::source_lake::as_strs;
use super::sql_side::SqlColumn;
use super::warehouse_view::{WarehouseView, padded_key};
use super::{calendar, versions};

/// Where a model is read from.
pub(super) struct Loaded<'a> {
    pub(super) pipeline: &'a str,
    pub(super) star: &'a Store,
    /// The star as of the manifest that the ledger names.
    pub(super) head: &'a Head,
    pub(super) warehouse: &'a WarehouseView,
    pub(super) later: &'a Later,
}

/// Compares one model.
pub(super) async fn model(loaded: &Loaded<'_>, name: &str, relation: &Relation) -> Result<Comparison> {
    let mut comparison = Comparison::new(ComparisonKind::StarWarehouse, name);
    let held = loaded.warehouse.columns(name).await?;
    let Some(view) = ModelView::new(&relation.schema, held.as_ref(), &mut comparison) else { return Ok(comparison) };
    let names =
        Names { key: relation.schema.key.clone(), columns: view.columns.iter().map(|(n, _)| n.clone()).collect() };
    let state = State::new(loaded.star, relation.schema.clone(), loaded.head.live_of(name))?;
    let kind = crate::load::order::kind(name, relation)?;
    // What load has set aside must not be current, as if the star did not have it.
    let padded = padded_key(&relation.schema.key, held.as_ref());
    let aside = loaded.warehouse.aside(loaded.pipeline, (name, kind), relation, &padded).await?;
    let refused = relation.refused + aside.len() as u64;
    let columns: Vec<SqlColumn> = view.columns.iter().map(|(_, sql)| sql.clone()).collect();
    let left = LakeSide::new(state, &as_strs(&names.key), &as_strs(&names.columns))?;
    let left = Side::Lake(left.held_as(&view.key, &columns).without(aside));
    let right = Side::Sql(loaded.warehouse.side(name, view.key.clone(), columns));

    let waiting = loaded.later.of(name);
    let judge = |what: What, key: &RowDigest, _| match what {
        _ if waiting.contains(key) => Counts::Pending,
        // Load extends the calendar to the dates of the facts; below, these days are checked by themselves.
        What::OnlyRight if kind == ModelKind::Calendar => Counts::Nothing,
        _ => Counts::Difference,
    };
    let compared = compare(&mut comparison, &left, &right, &names, judge).await?;
    if let Side::Sql(current) = &right {
        match kind {
            ModelKind::Calendar => calendar::check(&mut comparison, current, &names, held.as_ref(), &compared).await?,
            // Versions that differ in a column that was left out would look doubled.
            ModelKind::Fact if view.note().is_some() => {}
            ModelKind::Fact => versions::check(&mut comparison, loaded, current, &names).await?,
            ModelKind::Dimension => {}
        }
    }
    comparison.notes.extend(view.note());
    comparison.not_compared = view.left_out;
    comparison.notes.extend(aside_note(refused));
    loaded.later.note(&mut comparison);
    comparison.judge();
    Ok(comparison)
}
