//! Following stamps: what is open at a source, and the rows that are stamped at or after a safe time
//! (`starlift_core::capture::Horizon` says why these are enough, where stamps do not lie).
//!
//! Every open transaction holds a lock on its virtual transaction id, which any role sees in `pg_locks`. When it began,
//! `pg_stat_activity` shows for sessions of our own role, and for all with `pg_read_all_stats`. (PostgreSQL manual,
//! 28.2.3 "pg_stat_activity" and 54.12 "pg_locks".) Prepared transactions are in neither, and in `pg_prepared_xacts`.
//!
//! Between two transactions of one message a session holds no such lock, for some microseconds. One that shows itself shows that it is
//! active, and since when; of one that does not, a look that falls into this moment cannot tell it from an idle one. So where there are
//! such sessions the lists are read several times, and who is open in one of them is open.

use std::collections::BTreeMap;
use std::time::SystemTime;

use starlift_core::capture::Look;
use starlift_core::{Column, ColumnType, Error, Micros, Result};
use tokio_postgres::Row;

use super::{RowStream, SourceSession, micros, statement};
use crate::catalog::SourceTable;
use crate::ident::{quote_ident, quote_qualified};
use crate::sqlstate::classify;

/// Sessions of this database but our own, with the transaction that each has open, and since when it is at work, where it shows
/// that. A session that shows itself idle has ended its transaction between the two lists, and one that is in the list of locks
/// alone is being set up, or was when the other list was read: what it does, it begins later. An active one may be between two transactions
/// of its message, whose time, that of `query_start`, the next one has; it is before `xact_start` in a procedure that commits, too. (Of what is no
/// client, such as a walsender or an extension's worker, some are always active.) What has no user cleans up and writes no row. The clock is that of the statement's arrival, before both lists.
const OPEN: &str = "
select statement_timestamp(), pg_postmaster_start_time(), pg_is_in_recovery(), session.process, session.shows, session.name, session.began
from (values (1)) as one (row)
left join (
  select a.pid::text as process, coalesce(a.state <> 'disabled', false) as shows, l.virtualtransaction::text as name,
         least(a.xact_start, case when a.state in ('active', 'fastpath function call')
                                   and (l.pid is not null or a.backend_type = 'client backend') then a.query_start end) as began
  from pg_catalog.pg_stat_activity a
  left join pg_catalog.pg_locks l
    on l.pid = a.pid and l.locktype = 'virtualxid' and l.mode = 'ExclusiveLock' and l.granted
  where a.pid <> pg_backend_pid() and a.usesysid is not null and a.datname = current_database()
) as session on true";

const WHAT: &str = "cannot see which transactions are open in the source";

/// How often the lists are read where sessions do not show themselves.
const LISTS: u32 = 3;

/// A transaction is in this list before it leaves the other one, so it is asked for after it.
const PREPARED: &str = "
select transaction::text, prepared from pg_catalog.pg_prepared_xacts where database = current_database()";

impl SourceSession {
    /// Looks at what is open, outside of a transaction and before the snapshot that it is about; nothing comes of it on a
    /// standby, which does not show what is open on its primary.
    pub async fn look(&self) -> Result<Option<Look>> {
        if self.is_open {
            return Err(Error::internal("the source is looked at after its snapshot"));
        }
        let failed = |error| classify(error, WHAT);
        let mut found: Option<Look> = None;
        for _ in 0..LISTS {
            let rows = self.client().query(OPEN, &[]).await.map_err(failed)?;
            let first = rows.first().ok_or_else(|| Error::internal(WHAT))?;
            if first.try_get(2).map_err(failed)? {
                return Ok(None);
            }
            let look = match &mut found {
                Some(look) => look,
                none => none.insert(Look {
                    at: micros(first.try_get(0).map_err(failed)?)?,
                    server_started: micros(first.try_get(1).map_err(failed)?)?,
                    began: BTreeMap::new(),
                    unnamed: BTreeMap::new(),
                    prepared: Vec::new(),
                }),
            };
            if !note(look, &rows)? {
                break;
            }
        }
        let mut look = found.ok_or_else(|| Error::internal(WHAT))?;
        for row in self.client().query(PREPARED, &[]).await.map_err(failed)? {
            let (xid, prepared): (String, SystemTime) =
                (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
            look.prepared.push(format!("{xid}@{}", micros(prepared)?.0));
        }
        Ok(Some(look))
    }

    /// Whether our role sees when the transactions of other roles began.
    pub async fn sees_activity(&self) -> Result<bool> {
        const WHAT: &str = "cannot see what the role may see";
        let sql = "select pg_has_role('pg_read_all_stats', 'usage')";
        let row = self.client().query_one(sql, &[]).await.map_err(|error| classify(error, WHAT))?;
        row.try_get(0).map_err(|error| classify(error, WHAT))
    }

    /// Reads the rows whose stamp is at or after a time, by the index of the stamp. Read them to their end, then call
    /// [`SourceSession::stamped_is_read`].
    ///
    /// Without statistics, or with old ones, PostgreSQL would rather scan a table than believe that few rows are so new: for
    /// this statement it may not.
    ///
    /// # Errors
    /// Internal for a column that is not there or holds no time.
    pub async fn copy_stamped(&self, table: &SourceTable, column: &str, from: Micros) -> Result<RowStream> {
        let condition = stamped(table, column, from)?;
        self.execute("set local enable_seqscan = off", "cannot set up the session").await?;
        let columns = &table.schema.columns;
        let sql = statement::copy(&self.schema, &table.name, columns, Some(&condition));
        self.copy_by(table, columns, &sql).await
    }

    /// Lets the planner scan tables again, once the rows of [`SourceSession::copy_stamped`] were read to their end.
    pub async fn stamped_is_read(&self) -> Result<()> {
        self.execute("set local enable_seqscan to default", "cannot set up the session").await
    }

    /// About how many rows are stamped at or after a time, by the planner's statistics; nothing is read.
    pub async fn estimate_stamped(&self, table: &SourceTable, column: &str, from: Micros) -> Result<u64> {
        let name = quote_qualified(&self.schema, &table.name);
        let sql = format!("explain (format json) select from {name} where {}", stamped(table, column, from)?);
        let row = self.client().query_one(&sql, &[]).await.map_err(|e| self.failed("look at", table, e))?;
        let plan: serde_json::Value = row.try_get(0).map_err(|e| self.failed("look at", table, e))?;
        let rows = plan.pointer("/0/Plan/Plan Rows").and_then(serde_json::Value::as_f64);
        Ok(rows.map_or(0, |rows| rows as u64))
    }
}

/// Adds what a list shows to a look; whether there are sessions that do not show themselves.
fn note(look: &mut Look, rows: &[Row]) -> Result<bool> {
    let failed = |error| classify(error, WHAT);
    let mut hide = false;
    for row in rows {
        let process: Option<String> = row.try_get(3).map_err(failed)?;
        let Some(process) = process else { continue };
        let shows: bool = row.try_get(4).map_err(failed)?;
        let name: Option<String> = row.try_get(5).map_err(failed)?;
        let began: Option<SystemTime> = row.try_get(6).map_err(failed)?;
        hide |= !shows;
        match (shows, name, began) {
            (true, _, Some(began)) => {
                // The first list has the earliest.
                look.began.entry(process).or_insert(micros(began)?);
            }
            (false, Some(name), _) => {
                look.unnamed.entry(process).or_insert(name);
            }
            _ => {}
        }
    }
    Ok(hide)
}

/// The condition that a stamp is at or after a time, with the column as it is, so that its index serves.
fn stamped(table: &SourceTable, column: &str, from: Micros) -> Result<String> {
    let found: Option<&Column> = table.schema.column(column);
    let at = from.to_datetime();
    let literal = match found.map(|column| &column.column_type) {
        Some(ColumnType::Timestamp) => format!("timestamp '{}'", at.format("%Y-%m-%d %H:%M:%S%.6f")),
        Some(ColumnType::TimestampTz) => format!("timestamptz '{}+00'", at.format("%Y-%m-%d %H:%M:%S%.6f")),
        Some(ColumnType::Date) => format!("date '{}'", at.format("%Y-%m-%d")),
        _ => return Err(Error::internal(format!("column `{column}` of table `{}` is no stamp", table.name))),
    };
    Ok(format!("{} >= {literal}", quote_ident(column)))
}
