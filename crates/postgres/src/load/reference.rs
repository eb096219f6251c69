//! References between models: from the models' headers and from the warehouse's foreign keys; and the check that every
//! reference of a staged row finds its dimension's row.
//!
//! PostgreSQL's own check of a foreign key names one row, and a warehouse may have none.

use std::collections::BTreeMap;

use starlift_core::model::ModelKind;
use starlift_core::{ColumnType, Error, ErrorKind, Result};
use tokio_postgres::Client;

use super::check::{Check, refuse};
use super::model::LookAhead;
use super::pair::{Pair, staged};
use super::session::value;
use super::stage::Stage;
use crate::ident::quote_ident;

/// A column of a model that refers to the key of another one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reference<'a> {
    /// The column.
    pub(crate) column: &'a str,
    /// The model that it refers to.
    pub(crate) to: Pair<'a>,
}

/// The references of a model to others of the run: what its header says, and foreign keys to the other's key.
///
/// References to keys of several columns are left to the warehouse.
pub(crate) fn references<'a>(pair: Pair<'a>, all: &[Pair<'a>]) -> Vec<Reference<'a>> {
    let mut found: BTreeMap<&str, Pair<'a>> = BTreeMap::new();
    let model_of = |name: &str| all.iter().find(|p| p.model.name == name).copied();
    for (column, (table, target_column)) in &pair.target.foreign_keys {
        if let Some(to) = model_of(table).filter(|to| to.model.schema.key == [target_column.clone()]) {
            found.insert(column, to);
        }
    }
    for (column, model) in &pair.model.references {
        if let Some(to) = model_of(model).filter(|to| to.model.schema.key.len() == 1) {
            found.insert(column, to);
        }
    }
    found
        .into_iter()
        .filter(|(column, _)| pair.model.schema.column(column).is_some())
        .map(|(column, to)| Reference { column, to })
        .collect()
}

/// The date columns of a model that refer to a calendar: the calendar is extended to their dates.
pub(crate) fn calendar_columns(pair: Pair<'_>, references: &[Reference<'_>]) -> Vec<String> {
    let is_date = |column: &str| pair.model.schema.column(column).is_some_and(|c| c.column_type == ColumnType::Date);
    let to_calendar = |r: &&Reference<'_>| r.to.model.kind == ModelKind::Calendar && is_date(r.column);
    references.iter().filter(to_calendar).map(|r| r.column.to_string()).collect()
}

/// Refuses staged rows whose dimension row is not in the warehouse, which holds the staged dimensions by now. Rows that
/// a later manifest replaces or retracts are taken out of the stage; returns how many.
///
/// The calendar is left out: it was extended to every staged date.
///
/// # Errors
/// Data that names model, column, dimension and some keys.
pub(crate) async fn refuse_orphans(
    client: &Client,
    pair: Pair<'_>,
    stage: &Stage,
    references: &[Reference<'_>],
    look_ahead: &LookAhead<'_>,
) -> Result<u64> {
    let dates = calendar_columns(pair, references);
    let is_checked =
        |r: &&Reference<'_>| r.to.model.name != pair.model.name && !dates.iter().any(|date| date == r.column);
    let checks: Vec<Check> = references.iter().filter(is_checked).filter_map(|r| orphan(pair, *r)).collect();
    if !any(client, pair, stage, &checks).await? {
        return Ok(0);
    }
    refuse(client, pair, stage, &checks, look_ahead).await.map_err(|error| {
        if error.kind() != ErrorKind::Data {
            return error;
        }
        let detail = error.detail().unwrap_or_default();
        Error::data(format!("rows of model `{}` refer to rows that the warehouse does not have", pair.model.name))
            .with_detail(detail)
            .with_hint(
                "`starlift load --adopt` brings in the newest star state, where the missing rows may have arrived; \
                 else mend the rows in the source and run again",
            )
            .with_context("model", pair.model.name.clone())
    })
}

/// Whether a row meets one of the conditions. As a WHERE each of them is one anti join; as the FILTER of a count it is a
/// probe for every row, which took five times as long for 2 million rows.
async fn any(client: &Client, pair: Pair<'_>, stage: &Stage, checks: &[Check]) -> Result<bool> {
    let what = format!("cannot check the references of model `{}`", pair.model.name);
    for check in checks {
        let sql = format!("select exists (select from {} s where {})", stage.table, check.condition);
        if value(client, &sql, &what).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn orphan(pair: Pair<'_>, reference: Reference<'_>) -> Option<Check> {
    let column = pair.target.column(reference.column)?;
    let (_, key) = reference.to.key().next()?;
    let value = staged(column);
    Some(Check {
        column: format!("`{}`", reference.column),
        condition: format!(
            "s.{} is not null and not exists (select from {} d where d.{} = {value})",
            quote_ident(reference.column),
            reference.to.table(),
            quote_ident(&key.name)
        ),
        reason: format!("has no row in `{}`", reference.to.model.name),
    })
}
