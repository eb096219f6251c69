//! The check of staged rows against their table, by set and before any insert: what does not fit is named by key, or
//! passed over where a later manifest replaces or retracts it.
//!
//! Nothing has been written to the warehouse's tables of a model when its check stops the load.

use starlift_core::{Column, Error, Result};
use tokio_postgres::Client;

use super::fit::misfits;
use super::model::LookAhead;
use super::pair::Pair;
use super::session::{count, execute, query, value};
use super::stage::{Stage, fill};
use crate::ident::quote_ident;

/// How many keys an error names.
const KEYS_SHOWN: i64 = 5;

/// One thing that must not be true of a staged row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    /// The column, with how the table declares it.
    pub(crate) column: String,
    /// SQL over the stage's row `s`; null counts as false.
    pub(crate) condition: String,
    /// Ends the sentence "the value …".
    pub(crate) reason: String,
}

/// The first and last day that a calendar is extended to.
pub(crate) const CALENDAR_BOUNDS: (&str, &str) = ("1900-01-01", "2199-12-31");

/// Everything that is checked of a model's rows; `dates` are its columns that refer to the calendar.
pub(crate) fn checks(pair: Pair<'_>, dates: &[String]) -> Vec<Check> {
    let mut found = Vec::new();
    for (column, target) in pair.columns() {
        let staged = format!("s.{}", quote_ident(&column.name));
        let mut add = |condition: String, reason: String| {
            let column = format!("`{}` ({})", column.name, target.declared);
            found.push(Check { column, condition, reason });
        };
        if pair.model.schema.key.contains(&column.name) {
            add(format!("{staged} is null"), "is null, and it is part of the key".into());
        } else if target.not_null {
            add(format!("{staged} is null"), "is null, and the column takes no null".into());
        }
        for misfit in misfits(&column.column_type, &target.holds, &staged).unwrap_or_default() {
            add(misfit.condition, misfit.reason);
        }
        if dates.contains(&column.name) {
            let (first, last) = CALENDAR_BOUNDS;
            add(
                format!("{staged} not between date '{first}' and date '{last}'"),
                "is a date beyond the calendar's bounds 1900 to 2199".into(),
            );
        }
    }
    found
}

/// Checks a stage; rows that do not fit and that `look_ahead` knows later keys for are taken out of it.
///
/// Returns how many rows were passed over.
///
/// # Errors
/// Data for a key that is staged twice, and for rows that are left and do not fit, with table, columns, reasons, counts
/// and some keys.
pub(crate) async fn check(
    client: &Client,
    pair: Pair<'_>,
    stage: &Stage,
    checks: &[Check],
    look_ahead: &LookAhead<'_>,
) -> Result<u64> {
    refuse_double_keys(client, pair, stage).await?;
    refuse(client, pair, stage, checks, look_ahead).await
}

/// Takes rows that meet one of the conditions out of a stage where a later manifest has their key, and refuses the rest.
pub(crate) async fn refuse(
    client: &Client,
    pair: Pair<'_>,
    stage: &Stage,
    checks: &[Check],
    look_ahead: &LookAhead<'_>,
) -> Result<u64> {
    if checks.is_empty() || counts(client, pair, stage, checks).await?.iter().all(|n| *n == 0) {
        return Ok(0);
    }
    let passed_over = pass_over(client, pair, stage, checks, look_ahead).await?;
    let left = counts(client, pair, stage, checks).await?;
    if left.iter().all(|n| *n == 0) {
        tracing::warn!(
            model = %pair.model.name,
            rows = passed_over,
            "rows that do not fit the warehouse were passed over: a later manifest has their keys"
        );
        return Ok(passed_over);
    }
    let mut details = Vec::new();
    for (check, rows) in checks.iter().zip(&left).filter(|(_, rows)| **rows > 0) {
        let keys = keys_where(client, pair, stage, &check.condition).await?;
        let rows = if *rows == 1 { "1 row:".to_string() } else { format!("{rows} rows, such as") };
        details.push(format!("the value of {} {} ({rows} {})", check.column, check.reason, keys.join(", ")));
    }
    let any = any_of(checks);
    let rows: i64 =
        value(client, &format!("select count(*) from {} s where {any}", stage.table), "cannot count").await?;
    let these = if rows == 1 { "1 row".to_string() } else { format!("{rows} rows") };
    Err(Error::data(format!("{these} of model `{}` cannot be loaded into their table without loss", pair.model.name))
        .with_detail(details.join("; "))
        .with_hint("mend these rows in the source or in the model and run again; nothing of this manifest was loaded")
        .with_context("model", pair.model.name.clone()))
}

async fn counts(client: &Client, pair: Pair<'_>, stage: &Stage, checks: &[Check]) -> Result<Vec<u64>> {
    let counted: Vec<String> = checks.iter().map(|c| format!("count(*) filter (where {})", c.condition)).collect();
    // As an array, because a model may have more checks than a row may have columns.
    let sql = format!("select array[{}] from {} s", counted.join(", "), stage.table);
    let what = format!("cannot check the rows of model `{}`", pair.model.name);
    let counts: Vec<i64> = value(client, &sql, &what).await?;
    Ok(counts.into_iter().map(count).collect())
}

fn any_of(checks: &[Check]) -> String {
    let conditions: Vec<String> = checks.iter().map(|c| format!("({})", c.condition)).collect();
    format!("({})", conditions.join(" or "))
}

/// Deletes the rows from the stage that do not fit and whose key a later manifest has. The keys are compared by
/// PostgreSQL, in the model's types.
async fn pass_over(
    client: &Client,
    pair: Pair<'_>,
    stage: &Stage,
    checks: &[Check],
    look_ahead: &LookAhead<'_>,
) -> Result<u64> {
    let name = &pair.model.name;
    let key: Vec<Column> = pair.model.schema.key_columns().cloned().collect();
    let later = "starlift_later";
    let what = format!("later keys of model `{name}`");
    let stream = look_ahead(name);
    let Some(keys) = fill(client, later, &key, &pair.model.schema.key, stream, &what).await? else { return Ok(0) };
    let same: Vec<String> = key
        .iter()
        .map(|c| {
            let column = quote_ident(&c.name);
            format!("l.{column} = s.{column}")
        })
        .collect();
    let delete = format!(
        "delete from {} s where {} and exists (select from {} l where {})",
        stage.table,
        any_of(checks),
        keys.table,
        same.join(" and ")
    );
    let passed_over = execute(client, &delete, &[], &format!("cannot pass over rows of model `{name}`")).await?;
    // The next model with such rows uses the same name.
    execute(client, &format!("drop table {}", keys.table), &[], "cannot drop a temporary table").await?;
    Ok(passed_over)
}

async fn keys_where(client: &Client, pair: Pair<'_>, stage: &Stage, condition: &str) -> Result<Vec<String>> {
    let sql = format!(
        "select {} from {} s where {condition} order by {} limit {KEYS_SHOWN}",
        pair.key_text("s"),
        stage.table,
        staged_key(pair)
    );
    texts(client, &sql, &format!("cannot name the keys of model `{}`", pair.model.name)).await
}

/// The staged key in the model's own types: a value that does not fit cannot be cast to the table's.
fn staged_key(pair: Pair<'_>) -> String {
    let names: Vec<String> = pair.model.schema.key.iter().map(|k| format!("s.{}", quote_ident(k))).collect();
    names.join(", ")
}

async fn refuse_double_keys(client: &Client, pair: Pair<'_>, stage: &Stage) -> Result<()> {
    let key = staged_key(pair);
    let sql = format!(
        "select {} from {} s group by {key} having count(*) > 1 order by {key} limit {KEYS_SHOWN}",
        pair.key_text("s"),
        stage.table
    );
    let keys = texts(client, &sql, &format!("cannot check the keys of model `{}`", pair.model.name)).await?;
    if keys.is_empty() {
        return Ok(());
    }
    Err(Error::data(format!("a star manifest brings a key of model `{}` more than once", pair.model.name))
        .with_detail(format!("such as {}", keys.join(", ")))
        .with_hint("a manifest of `starlift transform` holds each key once: look for files that something else wrote")
        .with_context("model", pair.model.name.clone()))
}

/// A query's column of texts.
pub(crate) async fn texts(client: &Client, sql: &str, what: &str) -> Result<Vec<String>> {
    let rows = query(client, sql, &[], what).await?;
    rows.iter().map(|row| row.try_get(0).map_err(|e| crate::sqlstate::classify(e, what))).collect()
}
