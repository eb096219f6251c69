//! The check of staged rows against their table, by set and before any insert: what does not fit is set aside, or passed
//! over where a later manifest replaces or retracts it.

use starlift_core::digest::sha256_hex;
use starlift_core::{Error, Result};
use tokio_postgres::Client;

use super::fit::misfits;
use super::pair::Pair;
use super::session::{count, query, value};
use super::stage::Stage;
use crate::ident::quote_ident;

/// How many keys an error names.
pub(crate) const KEYS_SHOWN: i64 = 5;

/// One thing that must not be true of a staged row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    /// The column.
    pub(crate) column: String,
    /// SQL over the stage's row `s`; null counts as false.
    pub(crate) condition: String,
    /// Ends the sentence "the value …".
    pub(crate) reason: String,
    /// The model whose row, which stands aside, this one waits for.
    pub(crate) waits_for: Option<String>,
    /// Whether it is about the value and its column alone, so that only another column can hold the value.
    pub(crate) is_of_shape: bool,
}

/// The first and last day that a calendar is extended to.
pub(crate) const CALENDAR_BOUNDS: (&str, &str) = ("1900-01-01", "2199-12-31");

/// Everything that is checked of a model's rows but their key; `dates` are its columns that refer to the calendar.
pub(crate) fn checks(pair: Pair<'_>, dates: &[String]) -> Vec<Check> {
    let mut found = Vec::new();
    for (column, target) in pair.columns() {
        let staged = format!("s.{}", quote_ident(&column.name));
        let mut add = |condition: String, reason: String| found.push(of_shape(&column.name, condition, reason));
        if target.not_null && !pair.model.schema.key.contains(&column.name) {
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

/// What the table's columns are like to a model: while it stays the same, a row that one of these checks refused is refused
/// again.
pub(crate) fn shape(checks: &[Check]) -> String {
    let lines: Vec<String> = checks.iter().map(|c| format!("{}\n{}\n{}", c.column, c.condition, c.reason)).collect();
    sha256_hex(lines.join("\n").as_bytes())
}

fn of_shape(column: &str, condition: String, reason: String) -> Check {
    Check { column: column.to_string(), condition, reason, waits_for: None, is_of_shape: true }
}

/// Whether a staged row meets one of the conditions.
pub(crate) async fn any(client: &Client, pair: Pair<'_>, stage: &Stage, checks: &[Check]) -> Result<bool> {
    Ok(!checks.is_empty() && counts(client, pair, stage, checks).await?.iter().any(|n| *n > 0))
}

/// Refuses keys that have nothing to stand aside under.
///
/// # Errors
/// Data for a key that is staged twice, or that has a null.
pub(crate) async fn refuse_keys(client: &Client, pair: Pair<'_>, stage: &Stage) -> Result<()> {
    refuse_double_keys(client, pair, stage).await?;
    let nulls = pair.key().map(|(column, _)| {
        let condition = format!("s.{} is null", quote_ident(&column.name));
        of_shape(&column.name, condition, "is null, and it is part of the key".into())
    });
    refuse(client, pair, stage, &nulls.collect::<Vec<_>>()).await
}

/// Refuses the rows that meet one of the conditions.
///
/// # Errors
/// Data for such rows, with table, columns, reasons, counts and some keys.
pub(crate) async fn refuse(client: &Client, pair: Pair<'_>, stage: &Stage, checks: &[Check]) -> Result<()> {
    if checks.is_empty() {
        return Ok(());
    }
    let left = counts(client, pair, stage, checks).await?;
    if left.iter().all(|n| *n == 0) {
        return Ok(());
    }
    let mut details = Vec::new();
    for (check, rows) in checks.iter().zip(&left).filter(|(_, rows)| **rows > 0) {
        let keys = keys_where(client, pair, stage, &check.condition).await?;
        let rows = if *rows == 1 { "1 row:".to_string() } else { format!("{rows} rows, such as") };
        let declared = pair.target.column(&check.column).map_or("?", |target| target.declared.as_str());
        let keys = keys.join(", ");
        details.push(format!("the value of `{}` ({declared}) {} ({rows} {keys})", check.column, check.reason));
    }
    let any = any_of(checks);
    let rows: i64 =
        value(client, &format!("select count(*) from {} s where {any}", stage.table), "cannot count").await?;
    let these = if rows == 1 { "1 row".to_string() } else { format!("{rows} rows") };
    Err(Error::data(format!("{these} of model `{}` cannot be loaded into its table without loss", pair.model.name))
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

pub(crate) fn any_of(checks: &[Check]) -> String {
    let conditions: Vec<String> = checks.iter().map(|c| format!("({})", c.condition)).collect();
    format!("({})", conditions.join(" or "))
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
