//! Several sessions that read at one snapshot (PostgreSQL manual, 9.27.5 "Snapshot Synchronization Functions").
//!
//! The session that exports its snapshot holds the locks; the others read parts of a table, cut by page. A condition on
//! `ctid` is a range scan since PostgreSQL 14. Every row has one page, and the last part has no end, so that the parts
//! together hold each row of the snapshot once.

use starlift_core::{Error, Result};

use super::{SourceSession, must_hold, statement};
use crate::catalog::SourceTable;
use crate::ident::quote_literal;
use crate::sqlstate::classify;

/// The oldest server that reads a part of a table without looking at the rest.
pub const OLDEST_WITH_RANGES: u32 = 140_000;

/// Pages of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRange {
    /// The first one.
    pub from: u32,
    /// The first one that is not in it; none: up to the end of the table.
    pub to: Option<u32>,
}

impl PageRange {
    /// The rows in it, as an SQL condition.
    pub fn filter(self) -> String {
        let from = format!("ctid >= '({},0)'::tid", self.from);
        self.to.map_or_else(|| from.clone(), |to| format!("{from} and ctid < '({to},0)'::tid"))
    }
}

impl SourceSession {
    /// Lets other sessions see what this one sees, while its transaction is open; none where the role may not.
    pub async fn export_snapshot(&self) -> Result<Option<String>> {
        self.must_be_open()?;
        let what = "cannot export the snapshot of the source";
        let odd = |error| classify(error, what);
        // Asked first, because an error would end the transaction.
        let may = "select has_function_privilege('pg_catalog.pg_export_snapshot()', 'execute')";
        let may: bool = self.client().query_one(may, &[]).await.map_err(odd)?.try_get(0).map_err(odd)?;
        if !may {
            return Ok(None);
        }
        let row = self.client().query_one("select pg_export_snapshot()", &[]).await.map_err(odd)?;
        row.try_get(0).map(Some).map_err(odd)
    }

    /// Opens a transaction at the snapshot that another session exported, and locks a table that it has locked too.
    ///
    /// # Errors
    /// Unavailable where the other transaction is over, or somebody waits for a lock on the table: this session does not
    /// queue behind them. No transaction is open afterwards.
    pub async fn begin_at(&mut self, snapshot: &str, table: &SourceTable) -> Result<()> {
        if self.is_open {
            return Err(Error::internal("a transaction on the source is open already"));
        }
        self.is_open = true;
        let sql = statement::begin_at(&self.schema, &table.name, &quote_literal(snapshot));
        let begun = self.attach(&sql).await;
        if begun.is_err() {
            let _ = self.end().await;
        }
        begun
    }

    async fn attach(&self, sql: &str) -> Result<()> {
        let what = "cannot read at the snapshot of another session";
        self.execute(sql, what).await?;
        let odd = |error| classify(error, what);
        let sql = format!("select {}", statement::SETTINGS_HOLD);
        must_hold(self.client().query_one(&sql, &[]).await.map_err(odd)?.try_get(0).map_err(odd)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_range_has_no_end() {
        assert_eq!(PageRange { from: 0, to: Some(9) }.filter(), "ctid >= '(0,0)'::tid and ctid < '(9,0)'::tid");
        assert_eq!(PageRange { from: 9, to: None }.filter(), "ctid >= '(9,0)'::tid");
    }
}
