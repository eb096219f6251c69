//! Rows on their way into the source, by COPY.

use bytes::Bytes;
use futures::SinkExt;
use starlift_core::Result;
use tokio_postgres::Transaction;

use super::rows::{Field, write_copy};
use super::schema::SOURCE_TABLES;
use crate::cluster::quote_identifier;
use crate::failure;

/// How much text is collected before it is sent: it bounds the memory.
const CHUNK_BYTES: usize = 4 << 20;

/// Collects rows per table as COPY text and sends them in the order of the foreign keys.
pub(crate) struct Sink<'a> {
    transaction: &'a Transaction<'a>,
    tables: Vec<Pending>,
}

struct Pending {
    table: &'static str,
    text: String,
    rows: u64,
}

impl<'a> Sink<'a> {
    /// A sink for one transaction, empty.
    pub(crate) fn new(transaction: &'a Transaction<'a>) -> Sink<'a> {
        let tables = SOURCE_TABLES.iter().map(|(table, _)| Pending { table, text: String::new(), rows: 0 }).collect();
        Sink { transaction, tables }
    }

    /// Adds a row; nothing is sent yet.
    pub(crate) fn push(&mut self, table: &str, row: &[Field]) {
        if let Some(pending) = self.tables.iter_mut().find(|pending| pending.table == table) {
            write_copy(row, &mut pending.text);
            pending.rows += 1;
        }
    }

    /// Sends what was collected if it is much.
    pub(crate) async fn flush_if_full(&mut self) -> Result<()> {
        let size: usize = self.tables.iter().map(|pending| pending.text.len()).sum();
        if size >= CHUNK_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        for pending in self.tables.iter_mut().filter(|pending| !pending.text.is_empty()) {
            let failed = |e| failure::postgres(format!("cannot copy rows into `{}`", pending.table), e);
            let sql = format!("copy {} from stdin", quote_identifier(pending.table));
            let copy = self.transaction.copy_in(&sql).await.map_err(failed)?;
            let mut copy = std::pin::pin!(copy);
            copy.send(Bytes::from(std::mem::take(&mut pending.text))).await.map_err(failed)?;
            copy.finish().await.map_err(failed)?;
        }
        Ok(())
    }

    /// Sends the rest; returns the rows per table.
    pub(crate) async fn finish(mut self) -> Result<Vec<(&'static str, u64)>> {
        self.flush().await?;
        Ok(self.tables.into_iter().map(|pending| (pending.table, pending.rows)).collect())
    }
}
