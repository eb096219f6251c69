//! `starlift.ledger`: which star manifests the warehouse holds, read and written.
//!
//! Guarantees: a row is written in the transaction of its manifest, so it exists if and only if the manifest's rows do.
//! Another star that is adopted takes the ledger over: rows of stars whose state the warehouse no longer holds go.

use starlift_core::load_plan::LedgerHead;
use starlift_core::{Error, Micros, Result, fault};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::model::{LoadReport, LoadRun};
use super::purpose::Purpose;
use super::session::{count, execute, query, seq_to_sql, value};
use crate::sqlstate::{classify, named_in, sqlstate_of};

const READ: &str = "cannot read the ledger of the warehouse";
const WRITE: &str = "cannot write the ledger of the warehouse";

/// One row of the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerEntry {
    /// The star's id.
    pub star_id: String,
    /// The star manifest's seq.
    pub seq: u64,
    /// Its SHA-256.
    pub manifest_sha256: String,
    /// The run that loaded it.
    pub run_id: String,
    /// What was done, by model: see [`LoadReport::to_json`].
    pub rows: serde_json::Value,
    /// When its transaction began, by the warehouse's clock.
    pub started_at: Option<Micros>,
    /// When its rows were in, just before the commit.
    pub loaded_at: Micros,
}

/// Whether the warehouse has a table of ours.
pub(crate) async fn exists_in_starlift(client: &Client, table: &str) -> Result<bool> {
    // Not to_regclass, which is an error where the schema may not be used.
    let sql = "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace \
               where n.nspname = 'starlift' and c.relname = $1)";
    let rows = query(client, sql, &[(&table, Type::TEXT)], READ).await?;
    rows.first().map_or(Ok(false), |row| row.try_get(0)).map_err(|e| classify(e, READ))
}

async fn exists(client: &Client) -> Result<bool> {
    exists_in_starlift(client, "ledger").await
}

/// The newest ledger row of a pipeline and star; none where there is none, or no ledger.
pub async fn head(client: &Client, pipeline: &str, star_id: &str) -> Result<Option<LedgerHead>> {
    Ok(position(client, pipeline, star_id).await?.head)
}

/// Where a warehouse is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// The newest ledger row of the pipeline and star.
    pub head: Option<LedgerHead>,
    /// Whether rows of the pipeline stand aside in `starlift.refused`.
    pub has_refused: bool,
}

/// Where the warehouse is for a pipeline and star, in two queries whatever is there.
pub async fn position(client: &Client, pipeline: &str, star_id: &str) -> Result<Position> {
    let sql = "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
               where n.nspname = 'starlift' and (c.relname = 'ledger' \
                     or c.relname = 'refused' and has_table_privilege(c.oid, 'select'))";
    let rows = query(client, sql, &[], READ).await?;
    let tables: Vec<String> =
        rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(|e| classify(e, READ))?;
    if !tables.iter().any(|table| table == "ledger") {
        return Ok(Position::default());
    }
    let refused = match tables.iter().any(|table| table == "refused") {
        true => "exists (select from starlift.refused where pipeline = $1)",
        false => "false",
    };
    let sql = format!(
        "select l.seq, l.manifest_sha256, {refused} from (select 1) one left join lateral \
         (select seq, manifest_sha256 from starlift.ledger where pipeline = $1 and star_id = $2 \
          order by seq desc limit 1) l on true"
    );
    let rows = query(client, &sql, &[(&pipeline, Type::TEXT), (&star_id, Type::TEXT)], READ).await?;
    let Some(row) = rows.first() else { return Ok(Position::default()) };
    let read = |e| classify(e, READ);
    let (seq, sha256): (Option<i64>, Option<String>) = (row.try_get(0).map_err(read)?, row.try_get(1).map_err(read)?);
    let head = match (seq, sha256) {
        (Some(seq), Some(manifest_sha256)) => Some(LedgerHead { seq: seq_from_sql(seq)?, manifest_sha256 }),
        _ => None,
    };
    Ok(Position { head, has_refused: row.try_get(2).map_err(read)? })
}

/// What is read of a row, for [`of_row`].
const COLUMNS: &str = "star_id, seq, manifest_sha256, run_id, rows, \
                       (extract(epoch from started_at) * 1000000)::bigint, \
                       (extract(epoch from loaded_at) * 1000000)::bigint";

/// The newest rows of a pipeline's ledger, newest first; empty where there is no ledger.
pub async fn entries(client: &Client, pipeline: &str, limit: u32) -> Result<Vec<LedgerEntry>> {
    if !exists(client).await? {
        return Ok(Vec::new());
    }
    let sql =
        format!("select {COLUMNS} from starlift.ledger where pipeline = $1 order by loaded_at desc, seq desc limit $2");
    let limit = i64::from(limit);
    let rows = query(client, &sql, &[(&pipeline, Type::TEXT), (&limit, Type::INT8)], READ).await?;
    rows.iter().map(of_row).collect()
}

/// The ledger's row of one star manifest: whether it is in the warehouse, and which run brought it there. None where it is
/// not, or where there is no ledger.
pub async fn entry(client: &Client, pipeline: &str, star_id: &str, seq: u64) -> Result<Option<LedgerEntry>> {
    if !exists(client).await? {
        return Ok(None);
    }
    let seq = seq_to_sql(seq)?;
    let sql = format!("select {COLUMNS} from starlift.ledger where pipeline = $1 and star_id = $2 and seq = $3");
    let parameters: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] =
        &[(&pipeline, Type::TEXT), (&star_id, Type::TEXT), (&seq, Type::INT8)];
    query(client, &sql, parameters, READ).await?.first().map(of_row).transpose()
}

fn of_row(row: &Row) -> Result<LedgerEntry> {
    let read = |e| classify(e, READ);
    let started_at: Option<i64> = row.try_get(5).map_err(read)?;
    Ok(LedgerEntry {
        star_id: row.try_get(0).map_err(read)?,
        seq: seq_from_sql(row.try_get(1).map_err(read)?)?,
        manifest_sha256: row.try_get(2).map_err(read)?,
        run_id: row.try_get(3).map_err(read)?,
        rows: row.try_get(4).map_err(read)?,
        started_at: started_at.map(Micros),
        loaded_at: Micros(row.try_get(6).map_err(read)?),
    })
}

/// When the pipeline was last loaded, by the warehouse's clock; none where it never was.
pub async fn last_loaded_at(client: &Client, pipeline: &str) -> Result<Option<Micros>> {
    Ok(entries(client, pipeline, 1).await?.first().map(|entry| entry.loaded_at))
}

/// The rows of a model's view `current_<model>`; none where there is no such view.
pub async fn current_rows(client: &Client, schema: &str, model: &str) -> Result<Option<u64>> {
    let view = crate::ident::quote_qualified(schema, &super::view::view_name(model));
    let what = format!("cannot count the current rows of `{model}`");
    let rows = query(client, "select to_regclass($1) is not null", &[(&view, Type::TEXT)], &what).await?;
    let exists: bool = rows.first().map_or(Ok(false), |row| row.try_get(0)).map_err(|e| classify(e, what.clone()))?;
    if !exists {
        return Ok(None);
    }
    let rows: i64 = value(client, &format!("select count(*) from {view}"), &what).await?;
    Ok(Some(count(rows)))
}

/// The hash that the ledger has for one seq; none where there is none, or no ledger.
pub(crate) async fn sha256_at(client: &Client, pipeline: &str, star_id: &str, seq: u64) -> Result<Option<String>> {
    Ok(entry(client, pipeline, star_id, seq).await?.map(|entry| entry.manifest_sha256))
}

/// Whether an error of [`record`] means that somebody else's transaction wrote the same row first.
pub(crate) fn is_taken(error: &Error) -> bool {
    sqlstate_of(error) == Some("23505") && named_in(error, "table").as_deref() == Some("ledger")
}

/// Writes the run's row. An adopted star replaces what the ledger says of other stars, and of later seqs of this one. What
/// is mended has its row: it stays as it is, because verify tells by its age which versions of a fact are ours.
pub(crate) async fn record(client: &Client, run: &LoadRun, purpose: Purpose<'_>, report: &LoadReport) -> Result<()> {
    let seq = seq_to_sql(run.seq)?;
    if let Purpose::Mend(_) = purpose {
        return Ok(());
    }
    if purpose == Purpose::Adopt {
        let delete = "delete from starlift.ledger where pipeline = $1 and (star_id <> $2 or seq >= $3)";
        let parameters: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] =
            &[(&run.pipeline, Type::TEXT), (&run.star_id, Type::TEXT), (&seq, Type::INT8)];
        execute(client, delete, parameters, WRITE).await?;
    }
    let or_not = if fault::planted("ledger_ignored") { "on conflict do nothing" } else { "" };
    let insert = format!(
        "insert into starlift.ledger (pipeline, star_id, seq, manifest_sha256, run_id, rows, started_at) \
         values ($1, $2, $3, $4, $5, $6, transaction_timestamp()) {or_not}"
    );
    let rows = report.to_json();
    let parameters: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] = &[
        (&run.pipeline, Type::TEXT),
        (&run.star_id, Type::TEXT),
        (&seq, Type::INT8),
        (&run.manifest_sha256, Type::TEXT),
        (&run.run_id, Type::TEXT),
        (&rows, Type::JSONB),
    ];
    execute(client, &insert, parameters, WRITE).await?;
    Ok(())
}

fn seq_from_sql(seq: i64) -> Result<u64> {
    u64::try_from(seq).map_err(|_| {
        Error::data("the ledger of the warehouse holds a seq below zero")
            .with_hint("something else wrote to starlift.ledger: `starlift load --adopt` starts it again")
    })
}
