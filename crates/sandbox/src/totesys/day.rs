//! The daily life of ToteSys: the plan of a day, carried out.

use std::collections::BTreeMap;

use starlift_core::{Error, Result};
use tokio_postgres::Client;

use super::change::{Change, Effect};
use super::history::HISTORY_IDS;
use super::instant::date_text;
use super::masters::Masters;
use super::plan::{self, Statement, Step};
use crate::failure;

/// Later days would run out of ids.
const LAST_NUMBER: u32 = 100_000;
/// More sales orders would leave the day's range of ids.
const MAX_SALES_ORDERS: u32 = 2_500;

/// A working day after the history, to be lived on a database that was filled by [`History`](super::History).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// Which of the possible days; usually the history's seed.
    pub seed: u64,
    /// 1 is the first working day after the history. Days are lived in order, none left out.
    pub number: u32,
    /// How many sales orders come in, up to 2,500; half as many purchase orders do. The same on all days of a life,
    /// because a day undoes some of what the days before it did.
    pub sales_orders: u32,
}

/// What was done on a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayReport {
    /// The day's number.
    pub number: u32,
    /// Its date, `YYYY-MM-DD`.
    pub date: String,
    /// Rows per kind of change, of what was committed.
    pub changes: BTreeMap<Change, u64>,
    /// Rows that were changed and rolled back.
    pub rolled_back: u64,
}

impl DayReport {
    /// Rows that were changed with an effect. A row that was changed twice counts twice.
    pub fn rows(&self, effect: Effect) -> u64 {
        self.changes.iter().filter(|(change, _)| change.effect() == effect).map(|(_, rows)| rows).sum()
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        // What happens every day is in the totals; what is special about this one is named.
        let special: Vec<&str> = self
            .changes
            .keys()
            .filter(|change| **change >= Change::AddressAdded)
            .map(|change| change.label())
            .collect();
        let mut text = format!(
            "{}: {} rows inserted, {} updated, {} deleted, {} rolled back",
            self.date,
            self.rows(Effect::Insert),
            self.rows(Effect::Update),
            self.rows(Effect::Delete),
            self.rolled_back
        );
        if !special.is_empty() {
            text.push_str("; ");
            text.push_str(&special.join(", "));
        }
        text
    }
}

/// Lives a day of the ordinary size: see [`Day::live`].
pub async fn live(client: &mut Client, seed: u64, number: u32) -> Result<DayReport> {
    Day::new(seed, number).live(client).await
}

impl Day {
    /// A day of the ordinary size: 12 sales and 6 purchase orders.
    pub fn new(seed: u64, number: u32) -> Day {
        Day { seed, number, sales_orders: 12 }
    }

    /// Carries out the day: some forty small database transactions, one after the other. The outcome depends on what
    /// the database held, the seed and the number alone.
    ///
    /// # Errors
    /// Where the number or size is out of range, the day was lived before, or the day before it was not.
    pub async fn live(&self, client: &mut Client) -> Result<DayReport> {
        if !(1..=LAST_NUMBER).contains(&self.number) || !(1..=MAX_SALES_ORDERS).contains(&self.sales_orders) {
            return Err(Error::config("no such day of ToteSys")
                .with_hint(format!("days are 1 to {LAST_NUMBER}, with 1 to {MAX_SALES_ORDERS} sales orders")));
        }
        if lived(client, self.number).await? {
            return Err(Error::config(format!("day {} of ToteSys was lived already", self.number)));
        }
        if self.number > 1 && !lived(client, self.number - 1).await? {
            return Err(Error::config(format!("day {} of ToteSys comes after day {}", self.number, self.number - 1)));
        }
        let masters = masters(client).await?;
        let mut report = DayReport {
            number: self.number,
            date: date_text(plan::date(self.number)),
            changes: BTreeMap::new(),
            rolled_back: 0,
        };
        for step in plan::plan(self.seed, self.number, self.sales_orders, &masters) {
            carry_out(client, &step, &mut report).await?;
        }
        Ok(report)
    }
}

async fn carry_out(client: &mut Client, step: &Step, report: &mut DayReport) -> Result<()> {
    let failed = |e| failure::postgres(format!("a change of day {} failed", report.number), e);
    let transaction = client.transaction().await.map_err(failed)?;
    let mut done = Vec::new();
    for statement in &step.statements {
        match statement {
            Statement::Do(change, sql) => {
                done.push((Some(*change), transaction.execute(sql, &[]).await.map_err(failed)?))
            }
            Statement::Lose(sql) => done.push((None, transaction.execute(sql, &[]).await.map_err(failed)?)),
            Statement::Control(sql) => transaction.batch_execute(sql).await.map_err(failed)?,
        }
    }
    if step.abandoned {
        transaction.rollback().await.map_err(failed)?;
    } else {
        transaction.commit().await.map_err(failed)?;
    }
    for (change, rows) in done {
        match change {
            Some(change) if rows > 0 => *report.changes.entry(change).or_default() += rows,
            Some(_) => {}
            None => report.rolled_back += rows,
        }
    }
    Ok(())
}

/// A day that was lived has left its first order.
async fn lived(client: &Client, number: u32) -> Result<bool> {
    let sql = format!("select exists (select from sales_order where sales_order_id = {})", plan::first_id(number));
    let failed = |e| failure::postgres("cannot read the sales orders of ToteSys", e);
    client.query_one(&sql, &[]).await.and_then(|row| row.try_get(0)).map_err(failed)
}

/// How much master data the history has.
pub(crate) async fn masters(client: &Client) -> Result<Masters> {
    let highest = |table: &str| {
        format!("(select coalesce(max({table}_id), 0)::bigint from {table} where {table}_id < {HISTORY_IDS})")
    };
    let sql = ["address", "counterparty", "currency", "design", "staff"].map(highest).join(", ");
    let failed = |e| failure::postgres("cannot read the master data of ToteSys", e);
    let row = client.query_one(&format!("select {sql}"), &[]).await.map_err(failed)?;
    let count = |i: usize| row.try_get::<_, i64>(i).map_err(failed);
    let masters = Masters {
        addresses: count(0)?,
        counterparties: count(1)?,
        currencies: count(2)?,
        designs: count(3)?,
        staff: count(4)?,
    };
    if [masters.addresses, masters.counterparties, masters.currencies, masters.designs, masters.staff].contains(&0) {
        return Err(Error::config("this ToteSys has no history to go on from"));
    }
    Ok(masters)
}
