//! The window of one table: what changed since its watermark, compared with what the lake has.

use std::collections::HashSet;

use starlift_core::manifest::FileMode;
use starlift_core::xid::XidWindow;
use starlift_core::{Result, TableSchema, fault};
use starlift_lake::{Difference, Digests, KeyDigest, Keys, Quarantine, State};
use starlift_postgres::catalog::SourceTable;
use starlift_postgres::extract::SourceSession;

use super::doubled;
use super::incoming::{Came, Incoming};
use super::reconcile;
use super::sink::Sink;
use super::table::{Task, Written};

/// Rows of a window that are held in memory, and their bytes: beyond them the keys of the whole state are read instead.
const BUFFERED_ROWS: u64 = 65_536;
const BUFFERED_BYTES: usize = 8 << 20;

impl Task<'_> {
    /// The rows of the xid window, less those that equal the state; then the keys, if the count shows a difference.
    pub(super) async fn window(
        &self,
        session: &SourceSession,
        table: &SourceTable,
        state: &State,
        rows_before: u64,
        window: XidWindow,
    ) -> Result<Written> {
        let quarantine = Quarantine::of(state).await?;
        self.window_over(session, table, (state, quarantine, rows_before), window, false).await
    }

    /// The same over a state whose refused rows are known. `closes` is for one that no manifest names yet: the window's
    /// files will be beside those of the state in one manifest, so that refused rows which stand as they stood are written too.
    pub(super) async fn window_over(
        &self,
        session: &SourceSession,
        table: &SourceTable,
        (state, quarantine, rows_before): (&State, Quarantine, u64),
        window: XidWindow,
        closes: bool,
    ) -> Result<Written> {
        let mut written = Written::default();
        let mut sink = Sink::new(self, table, FileMode::Window, quarantine, 1)?;
        let filter = session.window_filter(table, window).await?;
        #[cfg(debug_assertions)]
        let filter = crate::planted::visible(self.lake, self.seq, filter).await?;
        let found = session.find_window(table, &filter).await?;
        written.rows = found.rows;
        let mut came = match found.marked {
            None => Keys::empty(self.lake.spill()),
            Some(marked) => {
                let rows = session.copy_window(table, &filter, &marked).await?;
                self.changed(table, state, Incoming::of(self, rows), &mut sink, &mut written).await?
            }
        };
        fault::point("ingest.table_copied");
        written.known = rows_before + came.new_keys();
        if written.rows != written.known {
            let found = reconcile::reconcile(self, session, table, (state, rows_before), &mut came, &mut sink).await?;
            written.known = found.kept + came.new_keys() + found.fetched;
            written.reconciled = true;
            written.rows_read += found.fetched;
            written.bytes_read += found.bytes_read;
            written.deleted = found.tombstones;
        }
        if closes {
            sink.restate(state).await?;
        }
        written.wrote(sink.finish(self, table).await?);
        Ok(written)
    }

    /// Writes the rows that differ from the state, and returns the keys that came, among them those that it did not have.
    pub(super) async fn changed(
        &self,
        table: &SourceTable,
        state: &State,
        mut rows: Incoming,
        sink: &mut Sink,
        written: &mut Written,
    ) -> Result<Keys> {
        let mut buffered: Vec<Came> = Vec::new();
        let mut bytes = 0;
        let mut difference: Option<Difference> = None;
        while let Some(came) = rows.next(self, table).await? {
            written.rows_read += came.rows();
            match &mut difference {
                Some(difference) => sink.changed(&came, difference).await?,
                None => {
                    bytes += came.bytes();
                    buffered.push(came);
                }
            }
            if difference.is_none() && (written.rows_read > BUFFERED_ROWS || bytes > BUFFERED_BYTES) {
                let known = doubled::sound(table, state.index().await?)?;
                let whole = Difference::new(&table.name, table.schema.clone(), known)?;
                difference = Some(flush(whole, &mut buffered, sink).await?);
            }
        }
        written.bytes_read += sink.ended(rows.finish(table)?);
        let difference = match difference {
            Some(difference) => difference,
            None => {
                let known = state.find(&keys_of(&table.schema, &buffered)?).await?;
                let known = Keys::before(self.lake.spill(), known)?;
                let few = Difference::new(&table.name, table.schema.clone(), known)?;
                flush(few, &mut buffered, sink).await?
            }
        };
        Ok(difference.into_keys())
    }
}

async fn flush(mut difference: Difference, buffered: &mut Vec<Came>, sink: &mut Sink) -> Result<Difference> {
    for came in buffered.drain(..) {
        sink.changed(&came, &mut difference).await?;
    }
    Ok(difference)
}

fn keys_of(schema: &TableSchema, buffered: &[Came]) -> Result<HashSet<KeyDigest>> {
    let digests = Digests::new(schema)?;
    let mut keys = HashSet::new();
    for came in buffered {
        keys.extend(digests.keys(&came.good)?);
        if let Some(refused) = &came.refused {
            keys.extend(digests.keys_of_refused(refused)?);
        }
    }
    Ok(keys)
}
