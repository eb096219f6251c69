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

/// Whether the warehouse has a ledger.
pub(crate) async fn exists(client: &Client) -> Result<bool> {
    // Not to_regclass, which is an error where the schema may not be used.
    let sql = "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace \
               where n.nspname = 'starlift' and c.relname = 'ledger')";
    value(client, sql, READ).await
}

/// The newest ledger row of a pipeline and star; none where there is none, or no ledger.
pub async fn head(client: &Client, pipeline: &str, star_id: &str) -> Result<Option<LedgerHead>> {
    if !exists(client).await? {
        return Ok(None);
    }
    let sql = "select seq, manifest_sha256 from starlift.ledger where pipeline = $1 and star_id = $2 \
               order by seq desc limit 1";
    let rows = query(client, sql, &[(&pipeline, Type::TEXT), (&star_id, Type::TEXT)], READ).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let seq: i64 = row.try_get(0).map_err(|e| classify(e, READ))?;
    let manifest_sha256 = row.try_get(1).map_err(|e| classify(e, READ))?;
    Ok(Some(LedgerHead { seq: seq_from_sql(seq)?, manifest_sha256 }))
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

/// What the ledger, read under the lock, says about a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is this run's turn.
    Go,
    /// The warehouse holds this manifest.
    AlreadyLoaded,
    /// The ledger is not where the run was planned from.
    Moved,
}

/// Whose turn it is. `head` is the ledger's head now and `at_seq` the hash that it has for the run's seq.
pub(crate) fn turn(run: &LoadRun, purpose: Purpose<'_>, head: Option<&LedgerHead>, at_seq: Option<&str>) -> Turn {
    let is_this = |head: &LedgerHead| head.seq == run.seq && head.manifest_sha256 == run.manifest_sha256;
    let may_go = match purpose {
        Purpose::Follow(_) => head.is_some_and(|head| head.seq.checked_add(1) == Some(run.seq)),
        Purpose::Adopt => true,
        Purpose::Mend(_) => head.is_some_and(is_this),
    };
    if (head == run.head.as_ref() && may_go) || fault::planted("ledger_ignored") {
        Turn::Go
    } else if at_seq == Some(run.manifest_sha256.as_str()) && !matches!(purpose, Purpose::Mend(_)) {
        Turn::AlreadyLoaded
    } else {
        Turn::Moved
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seq: u64, head: Option<u64>, adopt: bool) -> LoadRun {
        LoadRun {
            pipeline: "p".into(),
            star_id: "s".into(),
            seq,
            manifest_sha256: format!("hash {seq}"),
            run_id: "r".into(),
            schema: "public".into(),
            adopt,
            whole: std::collections::BTreeSet::new(),
            head: head.map(at),
            limits: Default::default(),
        }
    }

    fn at(seq: u64) -> LedgerHead {
        LedgerHead { seq, manifest_sha256: format!("hash {seq}") }
    }

    fn turn(run: &LoadRun, head: Option<&LedgerHead>, at_seq: Option<&str>) -> Turn {
        super::turn(run, if run.adopt { Purpose::Adopt } else { Purpose::Follow(&run.whole) }, head, at_seq)
    }

    #[test]
    fn a_run_goes_only_from_the_head_that_it_was_planned_from() {
        assert_eq!(turn(&run(4, Some(3), false), Some(&at(3)), None), Turn::Go);
        assert_eq!(turn(&run(4, Some(3), false), Some(&at(4)), Some("hash 4")), Turn::AlreadyLoaded);
        assert_eq!(turn(&run(4, Some(3), false), Some(&at(6)), Some("hash 4")), Turn::AlreadyLoaded);
        assert_eq!(turn(&run(4, Some(3), false), Some(&at(4)), Some("another")), Turn::Moved);
        assert_eq!(turn(&run(4, Some(3), false), Some(&at(2)), None), Turn::Moved);
        assert_eq!(turn(&run(4, Some(3), false), None, None), Turn::Moved);
        // A gap is never loaded, whatever the caller planned.
        assert_eq!(turn(&run(5, Some(3), false), Some(&at(3)), None), Turn::Moved);
        assert_eq!(turn(&run(1, None, false), None, None), Turn::Moved);
    }

    #[test]
    fn adoption_goes_once_and_again_only_when_it_was_planned_so() {
        assert_eq!(turn(&run(9, None, true), None, None), Turn::Go);
        assert_eq!(turn(&run(9, None, true), Some(&at(9)), Some("hash 9")), Turn::AlreadyLoaded);
        assert_eq!(turn(&run(9, Some(9), true), Some(&at(9)), Some("hash 9")), Turn::Go);
        assert_eq!(turn(&run(9, Some(12), true), Some(&at(12)), Some("another")), Turn::Go);
        assert_eq!(turn(&run(9, None, true), Some(&at(12)), Some("another")), Turn::Moved);
    }

    #[test]
    fn what_is_mended_is_what_the_ledger_holds_and_nothing_else() {
        let models = ["m".to_string()].into();
        let mend = |head: Option<&LedgerHead>| super::turn(&run(4, Some(4), false), Purpose::Mend(&models), head, None);
        assert_eq!(mend(Some(&at(4))), Turn::Go);
        assert_eq!(mend(Some(&at(5))), Turn::Moved);
        assert_eq!(mend(None), Turn::Moved);
        let other = LoadRun { manifest_sha256: "another".into(), ..run(4, Some(4), false) };
        assert_eq!(super::turn(&other, Purpose::Mend(&models), Some(&at(4)), Some("another")), Turn::Moved);
    }
}
