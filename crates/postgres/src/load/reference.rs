//! References between models: from the models' headers and from the warehouse's foreign keys; and the checks that every
//! reference of a staged row finds its dimension's row, and that this one does not stand aside.
//!
//! PostgreSQL's own check of a foreign key names one row, and a warehouse may have none.

use std::collections::BTreeMap;

use starlift_core::model::ModelKind;
use starlift_core::{ColumnType, Result};
use tokio_postgres::Client;

use super::check::Check;
use super::pair::{Pair, staged};
use super::refused::{entry_key_of, of_model};
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

/// The checks of staged rows against the rows that they refer to, once those that this load brings are in: one that stands
/// aside is waited for, one that is nowhere is missed. `may_hold` tells of which models rows may stand aside.
///
/// A row of the model itself is waited for only where the table has none of its key. The calendar is left out: it was
/// extended to every staged date.
pub(crate) fn checks(
    pair: Pair<'_>,
    references: &[Reference<'_>],
    pipeline: &str,
    stage: &Stage,
    may_hold: impl Fn(&str) -> bool,
) -> Vec<Check> {
    let waits = to_dimensions(pair, references).filter(|r| may_hold(&r.to.model.name));
    let waits = waits.filter_map(|r| {
        let entry = r.entry(pair, "s", false)?;
        let is_away = match r.to.model.name == pair.model.name {
            true => format!(
                " and not exists (select from {} p where {} = {entry}) and not ({})",
                stage.table,
                pair.entry_key("p"),
                r.has_row(pair)?
            ),
            false => String::new(),
        };
        Some(Check {
            column: r.column.to_string(),
            condition: format!(
                "s.{} is not null and exists (select from starlift.refused r where {} and r.key = {entry}){is_away}",
                quote_ident(r.column),
                of_model("r", pipeline, &r.to.model.name)
            ),
            reason: String::new(),
            waits_for: Some(r.to.model.name.clone()),
            is_of_shape: false,
        })
    });
    let missing = to_dimensions(pair, references).filter(|r| r.to.model.name != pair.model.name);
    waits.chain(missing.filter_map(|r| orphan(pair, *r))).collect()
}

/// The references to models whose rows may be away.
pub(crate) fn to_dimensions<'a, 'r>(
    pair: Pair<'_>,
    references: &'r [Reference<'a>],
) -> impl Iterator<Item = &'r Reference<'a>> {
    let dates = calendar_columns(pair, references);
    references.iter().filter(move |r| !dates.iter().any(|date| date == r.column))
}

impl Reference<'_> {
    /// The key that a row of `pair` refers to, as `starlift.refused` holds it; `stored` where the row is one of the table.
    pub(crate) fn entry(&self, pair: Pair<'_>, of: &str, stored: bool) -> Option<String> {
        let column = pair.model.schema.column(self.column)?;
        let value = format!("{of}.{}", quote_ident(self.column));
        let value = if stored { format!("{value}::{}", column.column_type.postgres_type()) } else { value };
        entry_key_of(self.to.model, &column.column_type, &value)
    }

    /// The condition that the table referred to has a row for the row `s` of the stage.
    fn has_row(&self, pair: Pair<'_>) -> Option<String> {
        let column = pair.target.column(self.column)?;
        let (_, key) = self.to.key().next()?;
        // Between two types it is for the server to find an operator.
        let equals = if column.cast == key.cast { self.to.target.equals(&key.name) } else { "=" };
        Some(format!(
            "exists (select from {} d where {} {equals} {})",
            self.to.table(),
            key.stored("d"),
            staged(column)
        ))
    }
}

/// Whether a row meets one of the conditions. As a WHERE each of them is one anti join; as the FILTER of a count it is a
/// probe for every row, which took five times as long for 2 million rows.
pub(crate) async fn any(client: &Client, pair: Pair<'_>, stage: &Stage, checks: &[Check]) -> Result<bool> {
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
    Some(Check {
        column: reference.column.to_string(),
        condition: format!("s.{} is not null and not {}", quote_ident(reference.column), reference.has_row(pair)?),
        reason: format!("has no row in `{}`", reference.to.model.name),
        waits_for: None,
        is_of_shape: false,
    })
}
