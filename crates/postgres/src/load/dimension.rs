//! Dimensions: one row per key, updated where it differs, inserted where it is missing, never deleted.
//!
//! No unique index is relied on: a warehouse that exists may lack one.

use starlift_core::{Error, Result};
use tokio_postgres::Client;

use super::check::texts;
use super::pair::Pair;
use super::session::execute;
use super::stage::Stage;
use crate::ident::quote_ident;

/// What an upsert did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Upserted {
    /// Rows that were changed.
    pub(crate) updated: u64,
    /// Rows that were missing.
    pub(crate) inserted: u64,
}

impl Upserted {
    /// And so many more.
    pub(crate) fn add(&mut self, updated: u64, inserted: u64) {
        self.updated += updated;
        self.inserted += inserted;
    }
}

/// Upserts a stage. Rows are inserted in the order of their key.
pub(crate) async fn upsert(client: &Client, pair: Pair<'_>, stage: &Stage) -> Result<Upserted> {
    let name = &pair.model.name;
    let (update, insert) = statements(pair, &stage.table);
    let updated = match update {
        Some(sql) => execute(client, &sql, &[], &format!("cannot update `{name}` in the warehouse")).await?,
        None => 0,
    };
    let inserted = execute(client, &insert, &[], &format!("cannot insert into `{name}` in the warehouse")).await?;
    Ok(Upserted { updated, inserted })
}

/// Refuses a dimension that holds a key twice: an update would write both rows, and neither would be the current one.
pub(crate) async fn refuse_double_rows(client: &Client, pair: Pair<'_>) -> Result<()> {
    if pair.target.key_is_unique(&pair.model.schema.key) {
        return Ok(());
    }
    let key: Vec<String> = pair.model.schema.key.iter().map(|k| format!("t.{}", quote_ident(k))).collect();
    let key = key.join(", ");
    let sql = format!(
        "select {} from {} t group by {key} having count(*) > 1 order by {key} limit 5",
        pair.key_text("t"),
        pair.table()
    );
    let name = &pair.model.name;
    let keys = texts(client, &sql, &format!("cannot check the keys of `{name}` in the warehouse")).await?;
    if keys.is_empty() {
        return Ok(());
    }
    Err(Error::data(format!("dimension `{name}` of the warehouse holds a key more than once"))
        .with_detail(format!("such as {}", keys.join(", ")))
        .with_hint(format!(
            "remove the extra rows, then let the owner run `alter table {} add primary key ({});`",
            pair.table(),
            crate::ident::quote_idents(pair.model.schema.key.iter().map(String::as_str))
        ))
        .with_context("model", name.clone()))
}

/// The statements of an upsert of the rows of `stage`, to be run in this order.
pub(crate) fn statements(pair: Pair<'_>, stage: &str) -> (Option<String>, String) {
    (update_sql(pair, stage), insert_sql(pair, stage))
}

fn update_sql(pair: Pair<'_>, stage: &str) -> Option<String> {
    Some(format!(
        "update {} as t set {} from {stage} as s where {} and ({})",
        pair.table(),
        pair.assignments()?,
        pair.same_key(),
        pair.differs()
    ))
}

fn insert_sql(pair: Pair<'_>, stage: &str) -> String {
    format!(
        "insert into {table} ({}) select {} from {stage} s where not exists (select from {table} t where {}) order by {}",
        pair.column_list(),
        pair.staged_values(),
        pair.same_key(),
        pair.staged_order(),
        table = pair.table()
    )
}
