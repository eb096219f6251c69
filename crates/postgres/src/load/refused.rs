//! `starlift.refused`: the rows that load set aside, by the key that the star has them under.
//!
//! An entry stands while the warehouse cannot hold the newest row of its key, or while that row waits for another one that
//! stands aside. It is written and removed in the transactions that bring rows in, so it is as current as they are. Keys
//! are in the types of the model and not of the table, which may be unable to hold them.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use starlift_core::{Column, ColumnType, Result};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::ledger::exists_in_starlift;
use super::model::ModelTable;
use super::session::{count, query};
use crate::codec::RowDecoder;
use crate::ident::{quote_ident, quote_literal};
use crate::sqlstate::classify;

const READ: &str = "cannot read the refused rows of the warehouse";
/// Keys that are decoded at once.
const KEYS_PER_BATCH: usize = 8_192;

/// A row that stands aside.
#[derive(Debug, Clone, PartialEq)]
pub struct RefusedEntry {
    /// The model.
    pub model: String,
    /// Its key, as a JSON object of the key's columns.
    pub key: serde_json::Value,
    /// The column that refused it; `?` where the server did not say.
    pub column: String,
    /// Why: a sentence that does not hold the value.
    pub reason: String,
    /// The value, where the project keeps values.
    pub value: Option<String>,
}

/// How many rows of a pipeline stand aside, by model; empty where the warehouse has no such table.
///
/// # Errors
/// What the server says.
pub async fn refused_counts(client: &Client, pipeline: &str) -> Result<BTreeMap<String, u64>> {
    if !exists_in_starlift(client, "refused").await? {
        return Ok(BTreeMap::new());
    }
    let sql = "select model, count(*) from starlift.refused where pipeline = $1 group by model";
    let rows = query(client, sql, &[(&pipeline, Type::TEXT)], READ).await?;
    let read = |e| classify(e, READ);
    rows.iter().map(|row| Ok((row.try_get(0).map_err(read)?, count(row.try_get(1).map_err(read)?)))).collect()
}

/// The rows of a pipeline that stand aside, by model, column and key; empty where the warehouse has no such table.
///
/// # Errors
/// What the server says.
pub async fn refused_entries(client: &Client, pipeline: &str) -> Result<Vec<RefusedEntry>> {
    if !exists_in_starlift(client, "refused").await? {
        return Ok(Vec::new());
    }
    let sql = "select model, key, column_name, reason, value from starlift.refused where pipeline = $1 \
               order by model, column_name, key";
    let rows = query(client, sql, &[(&pipeline, Type::TEXT)], READ).await?;
    let read = |e| classify(e, READ);
    rows.iter()
        .map(|row| {
            Ok(RefusedEntry {
                model: row.try_get(0).map_err(read)?,
                key: row.try_get(1).map_err(read)?,
                column: row.try_get(2).map_err(read)?,
                reason: row.try_get(3).map_err(read)?,
                value: row.try_get(4).map_err(read)?,
            })
        })
        .collect()
}

/// The keys of a model's rows that stand aside: batches of the key's columns, in the order of the key.
///
/// The session's zone must be UTC. Memory holds all keys.
///
/// # Errors
/// What the server says.
pub async fn refused_keys(client: &Client, pipeline: &str, model: &ModelTable) -> Result<Vec<RecordBatch>> {
    if !exists_in_starlift(client, "refused").await? {
        return Ok(Vec::new());
    }
    keys_where(client, pipeline, model, "true").await
}

/// The keys of a model's entries `r` for which a condition holds.
pub(crate) async fn keys_where(
    client: &Client,
    pipeline: &str,
    model: &ModelTable,
    condition: &str,
) -> Result<Vec<RecordBatch>> {
    let columns: Vec<Column> = model.schema.key_columns().map(|c| Column { nullable: true, ..c.clone() }).collect();
    let values: Vec<String> = columns
        .iter()
        .map(|c| format!("(r.key ->> {})::{}", quote_literal(&c.name), c.column_type.postgres_type()))
        .collect();
    let sql = format!(
        "copy (select {} from starlift.refused r where {} and {condition}) to stdout (format binary)",
        values.join(", "),
        of_model("r", pipeline, &model.name)
    );
    let failed = |e| classify(e, READ);
    let mut chunks = Box::pin(client.copy_out(&sql).await.map_err(failed)?);
    let mut decoder = RowDecoder::new(&columns, &model.schema.key)?;
    let mut batches = Vec::new();
    while let Some(chunk) = chunks.try_next().await.map_err(failed)? {
        decoder.push(&chunk)?;
        if decoder.rows_pending() >= KEYS_PER_BATCH {
            batches.extend(decoder.take_batch()?);
        }
    }
    batches.extend(decoder.take_batch()?);
    Ok(batches)
}

/// The condition that an entry belongs to a model.
pub(crate) fn of_model(entry: &str, pipeline: &str, model: &str) -> String {
    format!("{entry}.pipeline = {} and {entry}.model = {}", quote_literal(pipeline), quote_literal(model))
}

/// The SQL of a model's key as an entry holds it; `value` gives the SQL of a column in its model's type.
pub(crate) fn entry_key(model: &ModelTable, value: impl Fn(&Column) -> String) -> String {
    let part = |c: &Column| format!("{}, {}", quote_literal(&c.name), entry_value(&c.column_type, &value(c)));
    format!("jsonb_build_object({})", model.schema.key_columns().map(part).collect::<Vec<_>>().join(", "))
}

/// The key of a model with a key of one column, where `value` in a type of a model refers to it.
pub(crate) fn entry_key_of(model: &ModelTable, value_type: &ColumnType, value: &str) -> Option<String> {
    let [key] = model.schema.key.as_slice() else { return None };
    Some(format!("jsonb_build_object({}, {})", quote_literal(key), entry_value(value_type, value)))
}

/// A value of a key as it stands in an entry, from which a cast of its text makes it again. JSON has numbers, texts and
/// booleans; what else there is becomes a text by itself or here.
fn entry_value(column_type: &ColumnType, value: &str) -> String {
    match column_type {
        ColumnType::Bytea | ColumnType::Json | ColumnType::Jsonb | ColumnType::Array(_) => format!("({value})::text"),
        _ => value.to_string(),
    }
}

/// A name of ours for a column of a temporary table that has the model's columns too.
pub(crate) fn own_column(name: &str) -> String {
    quote_ident(&own_name(name))
}

/// The same, not quoted.
pub(crate) fn own_name(name: &str) -> String {
    format!("starlift.{name}")
}
