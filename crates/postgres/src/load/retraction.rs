//! `starlift.retracted`: the keys that had a row and have none any more.
//!
//! Load deletes from no dimension or fact; the `current_…` views leave these keys out.
//!
//! Guarantee: what a view of an earlier version hid, the view of today hides. Where that version wrote keys in a form that the
//! reader's settings change, a load writes them anew ([`write_anew`]), in its transaction and that of its views: a crash leaves both as they
//! were, and entries of two versions beside each other come right too.

use starlift_core::Result;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::pair::Pair;
use super::refused::of_model;
use super::session::{execute, query, seq_to_sql, value};
use super::stage::Stage;
use super::view::current;

/// Records the keys of a stage of retractions; returns how many were not recorded before.
///
/// A key that its table cannot hold was never loaded, so there is nothing to retract.
pub(crate) async fn retract(client: &Client, pair: Pair<'_>, gone: &Stage, pipeline: &str, seq: u64) -> Result<u64> {
    let sql = format!(
        "insert into starlift.retracted (pipeline, model, key, seq) \
         select $1, $2, k.key, $3 from (select {} as key from {} s) k where k.key is not null on conflict do nothing",
        pair.fitting_key_json(),
        gone.table
    );
    record(client, pair, &sql, pipeline, seq).await
}

/// Writes the entries anew that an earlier version wrote in a form that follows a session's settings.
///
/// Those that hide a current row come again in today's form, and the others go: they hid nothing. An entry is told by itself, so
/// that it makes no difference who made the views, and when; ours is the session that reads it as it was written.
pub(crate) async fn write_anew(client: &Client, pair: Pair<'_>, pipeline: &str) -> Result<()> {
    let Some(is_of_before) = pair.is_of_before() else { return Ok(()) };
    let name = &pair.model.name;
    let what = format!("cannot write the retractions of `{name}` in their new form");
    let these = format!("{} and {is_of_before}", of_model("r", pipeline, name));
    let any = format!("select exists (select from starlift.retracted r where {these})");
    if !value::<bool>(client, &any, &what).await? {
        return Ok(());
    }
    let insert = format!(
        "insert into starlift.retracted (pipeline, model, key, seq) \
         select r.pipeline, r.model, {}, min(r.seq) from ({}) v join starlift.retracted r on r.key = {} where {these} \
         group by 1, 2, 3 on conflict do nothing",
        pair.key_json("v"),
        current(pair),
        pair.key_json_before("v")
    );
    let again = execute(client, &insert, &[], &what).await?;
    let gone = execute(client, &format!("delete from starlift.retracted r where {these}"), &[], &what).await?;
    tracing::info!(model = %name, entries = gone, again, "retractions are written in their new form");
    Ok(())
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
