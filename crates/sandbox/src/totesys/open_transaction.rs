//! A transaction of ToteSys that stays open while others commit: what a cursor over `last_updated` loses.

use starlift_core::Result;
use tokio_postgres::Client;

use super::day::masters;
use super::instant::DAY_MS;
use super::orders::{OPENING_MS, Side};
use super::plan::{self, OPEN_IDS, Statement, deal, deal_statements};
use crate::failure;

/// A transaction that has placed a sales order, with its transaction and payment, and raised the units of an older
/// order, and has not committed. Its rows are stamped an hour before the day's opening, so everything that the day
/// commits meanwhile is stamped later. It takes no lock that a [`Day`](super::Day) waits for.
///
/// Dropping it closes its connection, which rolls it back.
#[derive(Debug)]
pub struct OpenTransaction {
    client: Client,
    /// The id of the new sales order.
    pub inserted_order: i64,
    /// The id of the older sales order that was updated.
    pub updated_order: i64,
}

impl OpenTransaction {
    /// Begins the transaction of a day, on a connection of its own, and writes its rows. One per day.
    pub async fn begin(client: Client, seed: u64, day: u32) -> Result<OpenTransaction> {
        let failed = |e| failure::postgres("cannot begin a long transaction in ToteSys", e);
        let masters = masters(&client).await?;
        let id = plan::first_id(day) + OPEN_IDS;
        let at = plan::date(day) * DAY_MS + OPENING_MS - 3_600_000;
        let new = deal(seed, Side::Sale, id, at, &masters, Default::default(), id);
        // Among the first ten orders, which a day leaves alone.
        let updated_order = i64::from(day % 8) + 1;
        client.batch_execute("begin").await.map_err(failed)?;
        for statement in deal_statements(&new) {
            if let Statement::Do(_, sql) = statement {
                client.batch_execute(&sql).await.map_err(failed)?;
            }
        }
        let update = format!(
            "update sales_order set units_sold = units_sold + 1000, last_updated = {} where sales_order_id = {updated_order}",
            super::rows::Field::Stamp(at).literal()
        );
        client.batch_execute(&update).await.map_err(failed)?;
        Ok(OpenTransaction { client, inserted_order: id, updated_order })
    }

    /// Commits, and returns the connection.
    pub async fn commit(self) -> Result<Client> {
        self.end("commit").await
    }

    /// Rolls back, and returns the connection.
    pub async fn rollback(self) -> Result<Client> {
        self.end("rollback").await
    }

    async fn end(self, how: &str) -> Result<Client> {
        self.client
            .batch_execute(how)
            .await
            .map_err(|e| failure::postgres("cannot end a long transaction in ToteSys", e))?;
        Ok(self.client)
    }
}
