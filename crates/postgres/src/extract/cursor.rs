//! Following stamps: what is open at a source, and the rows that are stamped at or after a safe time
//! (`starlift_core::capture::Horizon` says why these are enough, where stamps do not lie).
//!
//! Every open transaction holds a lock on its virtual transaction id, which any role sees in `pg_locks`. When it began,
//! `pg_stat_activity` shows for sessions of our own role, and for all with `pg_read_all_stats`. (PostgreSQL manual,
//! 28.2.3 "pg_stat_activity" and 54.12 "pg_locks".) Prepared transactions are in neither, and in `pg_prepared_xacts`.

use std::time::SystemTime;

use starlift_core::capture::Look;
use starlift_core::{Column, ColumnType, Error, Micros, Result};

use super::{RowStream, SourceSession, micros, statement};
use crate::catalog::SourceTable;
use crate::ident::{quote_ident, quote_qualified};
use crate::sqlstate::classify;

/// Transactions of this database but our own, with their beginning where it shows. A session that shows itself idle and no
/// beginning has ended its transaction between the two lists, and one that is in the list of locks alone is being set up, or was when
/// the other list was read: what it does, it begins later. `query_start` is before `xact_start` in a procedure that
/// commits. What has no user cleans up and writes no row. The clock is that of the statement's arrival, before both lists.
const OPEN: &str = "
select statement_timestamp(), pg_postmaster_start_time(), pg_is_in_recovery(), open.name, coalesce(open.shows, false), open.began
from (values (1)) as one (row)
left join (
  select l.virtualtransaction::text as name,
         a.state <> 'disabled' and (a.xact_start is not null or a.state = 'idle') as shows,
         least(a.xact_start, case when a.state <> 'idle' then a.query_start end) as began
  from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
  where l.locktype = 'virtualxid' and l.mode = 'ExclusiveLock' and l.granted and l.pid <> pg_backend_pid()
    and a.usesysid is not null and a.datname = current_database()
) as open on true";

/// A transaction is in this list before it leaves the other one, so it is asked for after it.
const PREPARED: &str = "
select transaction::text, prepared from pg_catalog.pg_prepared_xacts where database = current_database()";

impl SourceSession {
    /// Looks at what is open, outside of a transaction and before the snapshot that it is about; nothing comes of it on a
    /// standby, which does not show what is open on its primary.
    pub async fn look(&self) -> Result<Option<Look>> {
        const WHAT: &str = "cannot see which transactions are open in the source";
        if self.is_open {
            return Err(Error::internal("the source is looked at after its snapshot"));
        }
        let failed = |error| classify(error, WHAT);
        let rows = self.client().query(OPEN, &[]).await.map_err(failed)?;
        let first = rows.first().ok_or_else(|| Error::internal(WHAT))?;
        if first.try_get(2).map_err(failed)? {
            return Ok(None);
        }
        let mut look = Look {
            at: micros(first.try_get(0).map_err(failed)?)?,
            server_started: micros(first.try_get(1).map_err(failed)?)?,
            began: Vec::new(),
            unnamed: Vec::new(),
            prepared: Vec::new(),
        };
        for row in &rows {
            let name: Option<String> = row.try_get(3).map_err(failed)?;
            let (shows, began): (bool, Option<SystemTime>) =
                (row.try_get(4).map_err(failed)?, row.try_get(5).map_err(failed)?);
            match (name, began) {
                (Some(_), Some(began)) if shows => look.began.push(micros(began)?),
                (Some(name), _) if !shows => look.unnamed.push(name),
                _ => {}
            }
        }
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
