//! The settings of a load's transaction, and small ways to run statements in it.

use std::pin::pin;
use std::time::Duration;

use starlift_core::{Error, Result};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, IsolationLevel, Row, Transaction};

use super::model::LoadLimits;
use crate::connect::server_waits;
use crate::ident::quote_ident;
use crate::sqlstate::{classify, classify_of_rows, takes_no_writes};

/// Statements that are sent in the time for which the server waits for one.
const STATEMENTS_IN_IDLE_TIMEOUT: u32 = 10;

/// Begins a READ COMMITTED transaction whose meaning does not depend on the role's or the server's settings: zone,
/// formats of dates and floats, search path, waits, and a commit that waits for the disk.
pub(crate) async fn begin<'a>(client: &'a mut Client, schema: &str, limits: LoadLimits) -> Result<Transaction<'a>> {
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted)
        .read_only(false)
        .start()
        .await
        .map_err(cannot_begin)?;
    let settings = format!(
        "set local lock_timeout = {}; set local statement_timeout = {}; set local synchronous_commit = on; \
         set local timezone = 'UTC'; set local datestyle = 'ISO, YMD'; set local intervalstyle = 'postgres'; \
         set local extra_float_digits = 3; set local bytea_output = 'hex'; set local jit = off; set local search_path to {}, pg_temp; \
         set local idle_in_transaction_session_timeout = {}; {}",
        millis(limits.lock_timeout),
        millis(limits.statement_timeout),
        quote_ident(schema),
        millis(limits.idle_timeout),
        server_waits("local")
    );
    run(transaction.client(), &settings, "cannot prepare a transaction in the warehouse").await?;
    Ok(transaction)
}

/// A server in recovery refuses `READ WRITE` as a feature that it does not support; it means what 25006 means elsewhere.
fn cannot_begin(error: tokio_postgres::Error) -> Error {
    let what = "cannot begin a transaction in the warehouse";
    match error.code() {
        Some(code) if *code == SqlState::FEATURE_NOT_SUPPORTED => takes_no_writes(what),
        _ => classify(error, what),
    }
}

/// Takes the lock that lets one load of a pipeline in at a time, until the transaction ends.
///
/// A transaction-level advisory lock works behind poolers too (PostgreSQL manual, 13.3.5).
pub(crate) async fn lock_pipeline(client: &Client, pipeline: &str) -> Result<()> {
    let name = format!("starlift:{pipeline}");
    client
        .execute_typed("select pg_advisory_xact_lock(hashtextextended($1, 0))", &[(&name, Type::TEXT)])
        .await
        .map_err(|e| classify(e, format!("cannot lock the warehouse for pipeline `{pipeline}`")))?;
    Ok(())
}

/// A wait as PostgreSQL takes it.
pub(crate) fn millis(wait: Duration) -> u64 {
    // PostgreSQL holds these settings in an int.
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).min(i32::MAX as u64)
}

/// Does work that is not the server's, and keeps the transaction from idling for so long that the server ends it.
pub(crate) async fn awake<T>(client: &Client, limits: LoadLimits, work: impl Future<Output = Result<T>>) -> Result<T> {
    let every = limits.idle_timeout / STATEMENTS_IN_IDLE_TIMEOUT;
    if every.is_zero() {
        return work.await;
    }
    let mut work = pin!(work);
    let mut due = pin!(tokio::time::sleep(every));
    loop {
        tokio::select! {
            biased;
            () = &mut due => {
                run(client, "select", "cannot keep a transaction in the warehouse open").await?;
                due.set(tokio::time::sleep(every));
            }
            done = &mut work => return done,
        }
    }
}

/// Runs statements without results.
pub(crate) async fn run(client: &Client, sql: &str, what: &str) -> Result<()> {
    client.batch_execute(sql).await.map_err(|e| classify(e, what))
}

/// Runs statements without results that look at values of rows, such as one that builds an index.
pub(crate) async fn run_over_rows(client: &Client, sql: &str, what: &str) -> Result<()> {
    client.batch_execute(sql).await.map_err(|e| classify_of_rows(e, what))
}

/// Marks a place in the transaction that it can be taken back to, without one of the driver's own savepoints.
pub(crate) async fn mark(client: &Client, name: &str) -> Result<()> {
    run(client, &format!("savepoint {name}"), "cannot set a savepoint in the warehouse").await
}

/// Keeps what was done since a mark.
pub(crate) async fn keep(client: &Client, name: &str) -> Result<()> {
    run(client, &format!("release savepoint {name}"), "cannot release a savepoint in the warehouse").await
}

/// Takes back what was done since a mark, and the mark.
pub(crate) async fn take_back(client: &Client, name: &str) -> Result<()> {
    let sql = format!("rollback to savepoint {name}; release savepoint {name}");
    run(client, &sql, "cannot go back to a savepoint in the warehouse").await
}

/// Runs one statement over rows and says how many it touched.
pub(crate) async fn execute(
    client: &Client,
    sql: &str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
    what: &str,
) -> Result<u64> {
    client.execute_typed(sql, parameters).await.map_err(|e| classify_of_rows(e, what))
}

/// Runs one query of a catalog, or of tables of ours.
pub(crate) async fn query(
    client: &Client,
    sql: &str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
    what: &str,
) -> Result<Vec<Row>> {
    client.query_typed(sql, parameters).await.map_err(|e| classify(e, what))
}

/// A query's single value; it may be about rows.
pub(crate) async fn value<T>(client: &Client, sql: &str, what: &str) -> Result<T>
where
    T: for<'a> tokio_postgres::types::FromSql<'a>,
{
    let row = client.query_typed_one(sql, &[]).await.map_err(|e| classify_of_rows(e, what))?;
    row.try_get(0).map_err(|e| classify(e, what))
}

/// A count of the server as ours.
pub(crate) fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A seq as the ledger's `bigint`.
pub(crate) fn seq_to_sql(seq: u64) -> Result<i64> {
    i64::try_from(seq).map_err(|_| Error::internal(format!("seq {seq} is beyond the ledger's bigint")))
}
