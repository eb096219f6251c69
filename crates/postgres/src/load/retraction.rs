//! `starlift.retracted`: the keys that had a row and have none any more.
//!
//! Load deletes from no dimension or fact; the `current_…` views leave these keys out.

use starlift_core::Result;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::fit::misfits;
use super::pair::Pair;
use super::session::{execute, query, seq_to_sql};
use super::stage::Stage;
use crate::ident::quote_ident;

/// Records the keys of a stage of retractions; returns how many were not recorded before.
///
/// A key that its table cannot hold was never loaded, so there is nothing to retract.
pub(crate) async fn retract(client: &Client, pair: Pair<'_>, gone: &Stage, pipeline: &str, seq: u64) -> Result<u64> {
    let mut fits: Vec<String> = Vec::new();
    for (column, target) in pair.key() {
        let value = format!("s.{}", quote_ident(&column.name));
        fits.push(format!("{value} is not null"));
        for misfit in misfits(&column.column_type, &target.holds, &value).unwrap_or_default() {
            fits.push(format!("not coalesce({}, false)", misfit.condition));
        }
    }
    // CASE keeps the order: the key of a value that does not fit cannot be made.
    let sql = format!(
        "insert into starlift.retracted (pipeline, model, key, seq) \
         select $1, $2, k.key, $3 from (select case when {} then {} end as key from {} s) k \
         where k.key is not null on conflict do nothing",
        fits.join(" and "),
        pair.key_json("s"),
        gone.table
    );
    record(client, pair, &sql, pipeline, seq).await
}

/// On adoption: records the keys of the warehouse that the state (none: it is empty) does not have.
pub(crate) async fn retract_unknown(
    client: &Client,
    pair: Pair<'_>,
    state: Option<&Stage>,
    pipeline: &str,
    seq: u64,
) -> Result<u64> {
    let unknown = match state {
        Some(stage) => format!(" where not exists (select from {} s where {})", stage.table, pair.same_key()),
        None => String::new(),
    };
    let sql = format!(
        "insert into starlift.retracted (pipeline, model, key, seq) \
         select distinct $1, $2, {}, $3::bigint from {} t{unknown} on conflict do nothing",
        pair.key_json("t"),
        pair.table()
    );
    record(client, pair, &sql, pipeline, seq).await
}

async fn record(client: &Client, pair: Pair<'_>, sql: &str, pipeline: &str, seq: u64) -> Result<u64> {
    let name = &pair.model.name;
    let seq = seq_to_sql(seq)?;
    let parameters: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] =
        &[(&pipeline, Type::TEXT), (name, Type::TEXT), (&seq, Type::INT8)];
    execute(client, sql, parameters, &format!("cannot record retractions of `{name}`")).await
}

/// Forgets the retraction of keys that have a row again; returns how many.
pub(crate) async fn give_back(client: &Client, pair: Pair<'_>, stage: &Stage, pipeline: &str) -> Result<u64> {
    let name = &pair.model.name;
    // Asked first, because the planner knows nothing of an empty table, and may make the key of every staged row.
    let what = format!("cannot read the retractions of `{name}`");
    let any = "select from starlift.retracted r where r.pipeline = $1 and r.model = $2 limit 1";
    if query(client, any, &[(&pipeline, Type::TEXT), (name, Type::TEXT)], &what).await?.is_empty() {
        return Ok(0);
    }
    let sql = format!(
        "delete from starlift.retracted r using {} s where r.pipeline = $1 and r.model = $2 and r.key = {}",
        stage.table,
        pair.key_json("s")
    );
    let parameters: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] =
        &[(&pipeline, Type::TEXT), (name, Type::TEXT)];
    execute(client, &sql, parameters, &format!("cannot take back retractions of `{name}`")).await
}
