//! The rows of one table that are stamped at or after its safe time, compared with what the lake has.
//!
//! They include every row that is new or changed since the table was last read, where stamps do not lie. Nothing is counted: that a
//! key is gone, or that a row changed under an old stamp, the next xid pass finds.

use starlift_core::manifest::FileMode;
use starlift_core::{Micros, Result, fault};
use starlift_lake::{Quarantine, State};
use starlift_postgres::catalog::SourceTable;
use starlift_postgres::extract::SourceSession;

use super::incoming::Incoming;
use super::sink::Sink;
use super::table::{Task, Written};

impl Task<'_> {
    /// Writes the rows of a cursor that differ from the state, and counts the keys that are new to it.
    pub(super) async fn stamped(
        &self,
        session: &SourceSession,
        table: &SourceTable,
        state: &State,
        rows_before: u64,
        (column, from): (&str, Micros),
    ) -> Result<Written> {
        let mut written = Written::default();
        let mut sink = Sink::new(self, table, FileMode::Window, Quarantine::of(state).await?, 1)?;
        let rows = session.copy_stamped(table, column, from).await?;
        let came = self.changed(table, state, Incoming::of(self, rows), &mut sink, &mut written).await?;
        session.stamped_is_read().await?;
        fault::point("ingest.table_copied");
        written.rows = rows_before + came.new_keys();
        written.known = written.rows;
        written.wrote(sink.finish(self, table).await?);
        Ok(written)
    }
}
