//! One session of the zoo: its transaction, its count of what it wrote, its ids, and its patience.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use starlift_core::Result;
use tokio::sync::watch;
use tokio_postgres::Client;

use crate::failure;
use crate::totesys::day;
use crate::totesys::history::HISTORY_IDS;
use crate::totesys::masters::Masters;
use crate::totesys::random::Random;

/// What a statement comes to.
pub(super) type Sql<T> = std::result::Result<T, tokio_postgres::Error>;

/// Ids of the zoo lie above those of all days, and each writer has a range of its own.
const FIRST_ID: i64 = 1_200_000_000;
const IDS_PER_WRITER: i64 = 50_000_000;

/// What a writer did, as far as it is committed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) commits: u64,
    pub(super) versions: u64,
    pub(super) deletes: u64,
    pub(super) rolled_back: u64,
    pub(super) refused: u64,
}

/// What the open transaction has done so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Open {
    versions: u64,
    deletes: u64,
}

/// A row that was deleted and may return: its key, and what its values were made from.
#[derive(Debug, Clone)]
pub(super) struct Gone {
    pub(super) id: i64,
    pub(super) salt: i64,
    pub(super) stamp: String,
}

pub(super) struct Writer {
    client: Client,
    stop: watch::Receiver<bool>,
    everybodys_versions: Arc<AtomicU64>,
    next_id: i64,
    open: Open,
    /// Names what is prepared; no other session of the cluster uses it.
    pub(super) name: String,
    pub(super) random: Random,
    pub(super) tally: Tally,
    pub(super) masters: Masters,
    pub(super) departments: i64,
    pub(super) payment_types: i64,
    /// The highest ids of orders and payments of the history.
    pub(super) old_sales: i64,
    pub(super) old_purchases: i64,
    pub(super) old_payments: i64,
    pub(super) gone: Vec<Gone>,
}

impl Writer {
    pub(super) async fn new(
        client: Client,
        database: &str,
        seed: u64,
        number: u64,
        stop: watch::Receiver<bool>,
        everybodys_versions: Arc<AtomicU64>,
    ) -> Result<Writer> {
        let masters = day::masters(&client).await?;
        let first = FIRST_ID + number as i64 * IDS_PER_WRITER;
        let range = format!("between {first} and {}", first + IDS_PER_WRITER - 1);
        let highest = |key: &str, table: &str, range: &str| {
            format!("(select coalesce(max({key}), 0)::bigint from {table} where {key} {range})")
        };
        let history = format!("< {HISTORY_IDS}");
        let sql = [
            highest("department_id", "department", &history),
            highest("payment_type_id", "payment_type", &history),
            highest("sales_order_id", "sales_order", &history),
            highest("purchase_order_id", "purchase_order", &history),
            highest("payment_id", "payment", &history),
            // What a zoo before this one left.
            highest("sales_order_id", "sales_order", &range),
            highest("payment_id", "payment", &range),
            highest("address_id", "address", &range),
        ];
        let failed = |e| failure::postgres("cannot read what ToteSys holds", e);
        let row = client.query_one(&format!("select {}", sql.join(", ")), &[]).await.map_err(failed)?;
        let value = |position: usize| row.try_get::<_, i64>(position).map_err(failed);
        let used = value(5)?.max(value(6)?).max(value(7)?);
        Ok(Writer {
            stop,
            everybodys_versions,
            next_id: used.max(first) + 1,
            open: Open::default(),
            name: format!("{database} zoo {number}"),
            random: Random::of(seed, "zoo", number),
            tally: Tally::default(),
            masters,
            departments: value(0)?,
            payment_types: value(1)?,
            old_sales: value(2)?,
            old_purchases: value(3)?,
            old_payments: value(4)?,
            gone: Vec::new(),
            client,
        })
    }

    pub(super) fn is_told_to_stop(&self) -> bool {
        *self.stop.borrow() || self.stop.has_changed().is_err()
    }

    /// Waits for so many milliseconds, or until it is told to stop: then what is begun is ended at once.
    pub(super) async fn rest(&mut self, from: i64, to: i64) {
        let millis = self.random.between(from, to).max(0) as u64;
        let told = self.stop.wait_for(|stop| *stop);
        // Where the zoo itself is gone there is no reason to wait.
        let _ = tokio::time::timeout(Duration::from_millis(millis), told).await;
    }

    /// So many ids that nobody has used; returns the first.
    pub(super) fn ids(&mut self, count: i64) -> i64 {
        let first = self.next_id;
        self.next_id += count;
        first
    }

    pub(super) async fn begin(&mut self) -> Sql<()> {
        self.open = Open::default();
        self.client.batch_execute("begin").await
    }

    /// Inserts or updates inside the transaction.
    pub(super) async fn write(&mut self, sql: &str) -> Sql<()> {
        self.open.versions += self.client.execute(sql, &[]).await?;
        Ok(())
    }

    /// Deletes inside the transaction; returns how many.
    pub(super) async fn delete(&mut self, sql: &str) -> Sql<u64> {
        let deleted = self.client.execute(sql, &[]).await?;
        self.open.deletes += deleted;
        Ok(deleted)
    }

    /// Runs what writes no rows, or so many as `versions` says.
    pub(super) async fn run(&mut self, sql: &str, versions: u64) -> Sql<()> {
        self.client.batch_execute(sql).await?;
        self.open.versions += versions;
        Ok(())
    }

    /// A value that the server shows as text.
    pub(super) async fn ask(&mut self, sql: &str) -> Sql<String> {
        self.client.query_one(sql, &[]).await?.try_get(0)
    }

    /// Where the transaction is, for [`Writer::back_to`].
    pub(super) fn mark(&self) -> Open {
        self.open
    }

    /// What was written since the mark is rolled back.
    pub(super) fn back_to(&mut self, mark: Open) {
        self.tally.rolled_back += self.open.versions.saturating_sub(mark.versions);
        self.open = mark;
    }

    pub(super) async fn commit(&mut self) -> Sql<()> {
        self.client.batch_execute("commit").await?;
        self.committed();
        Ok(())
    }

    /// Counts what the transaction did; for a statement that was a transaction of its own, and for a prepared one.
    pub(super) fn committed(&mut self) {
        let open = std::mem::take(&mut self.open);
        self.tally.commits += 1;
        self.tally.versions += open.versions;
        self.tally.deletes += open.deletes;
        self.everybodys_versions.fetch_add(open.versions, Ordering::Relaxed);
    }

    pub(super) async fn roll_back(&mut self) -> Sql<()> {
        self.client.batch_execute("rollback").await?;
        self.back_to(Open::default());
        Ok(())
    }

    /// After a refusal: nothing of the transaction stays.
    pub(super) async fn give_up(&mut self) -> Sql<()> {
        self.open = Open::default();
        self.tally.refused += 1;
        self.client.batch_execute("rollback").await
    }

    /// One statement that commits by itself.
    pub(super) async fn at_once(&mut self, sql: &str) -> Sql<()> {
        self.open = Open::default();
        self.write(sql).await?;
        self.committed();
        Ok(())
    }
}
