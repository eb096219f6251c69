//! The years before the demo begins: master data, orders, transactions and payments, streamed in with COPY.

use starlift_core::{Error, Result};
use tokio_postgres::Client;

use super::instant::{DAY_MS, date_of, date_text, day_of, weekday};
use super::masters::{self, Masters};
use super::orders::{self, Newcomers, OPEN_FOR_MS, OPENING_MS, Order, Side};
use super::random::Random;
use super::sink::Sink;
use super::words;
use crate::failure;

/// The day on which the master data were entered; orders start on the day after.
const FIRST_DAY: i64 = day_of(2022, 11, 3);
/// The last day of the history, a Friday.
pub(crate) const LAST_DAY: i64 = day_of(2025, 10, 31);
/// Rows of the history have lower ids; each later day has a range of its own above.
pub(crate) const HISTORY_IDS: i64 = 100_000_000;
/// With this many times 6,000 orders, ids still stay below [`HISTORY_IDS`].
const MAX_SCALE: f64 = 10_000.0;
/// A history to fill an empty ToteSys with: 2022-11-03 to 2025-10-31, with growth and seasons.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct History {
    /// Which of the possible histories.
    pub seed: u64,
    /// How large: 1.0 is 4,000 sales and 2,000 purchase orders, a transaction for each and about as many payments;
    /// master data grow with the square root, from 30 addresses, 20 counterparties, 60 designs and 25 staff.
    pub scale: f64,
}

/// What a history wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryReport {
    /// Rows per table of the source.
    pub rows: Vec<(&'static str, u64)>,
    /// First and last day with orders, `YYYY-MM-DD`.
    pub days: (String, String),
}

impl HistoryReport {
    /// All rows together.
    pub fn total(&self) -> u64 {
        self.rows.iter().map(|(_, rows)| rows).sum()
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        format!("{} rows in {} tables, {} to {}", self.total(), self.rows.len(), self.days.0, self.days.1)
    }
}

impl History {
    /// Fills the empty tables of the client's database in one transaction. Memory does not depend on the scale.
    ///
    /// A superuser's client is several times faster, because PostgreSQL then need not check every foreign key of rows
    /// that are consistent by construction.
    pub async fn fill(&self, client: &mut Client) -> Result<HistoryReport> {
        if !(self.scale > 0.0 && self.scale <= MAX_SCALE) {
            return Err(Error::config(format!("the scale of a history is a number above 0 and up to {MAX_SCALE}")));
        }
        let failed = |e| failure::postgres("cannot fill ToteSys with its history", e);
        let unchecked = client
            .query_one("select current_setting('is_superuser') = 'on'", &[])
            .await
            .and_then(|row| row.try_get::<_, bool>(0))
            .map_err(failed)?;
        let transaction = client.transaction().await.map_err(failed)?;
        if unchecked {
            transaction.batch_execute("set local session_replication_role = replica").await.map_err(failed)?;
        }
        let mut sink = Sink::new(&transaction);
        self.write(&mut sink).await?;
        let rows = sink.finish().await?;
        transaction.commit().await.map_err(failed)?;
        // Without statistics the first queries of a demo would be planned for tiny tables.
        client.batch_execute("analyze").await.map_err(failed)?;
        Ok(HistoryReport { rows, days: (date_text(FIRST_DAY + 1), date_text(LAST_DAY)) })
    }

    async fn write(&self, sink: &mut Sink<'_>) -> Result<()> {
        let masters = self.masters();
        let days: Vec<(i64, u64)> =
            (FIRST_DAY + 1..=LAST_DAY).filter(|day| weekday(*day) < 5).map(|day| (day, self.weight(day))).collect();
        self.write_masters(sink, &masters, &days);
        let now = (LAST_DAY + 1) * DAY_MS;
        let total: u64 = days.iter().map(|(_, weight)| weight).sum();
        let (mut sales, mut purchases) =
            (Share::new(self.sized(4000.0, 40), total), Share::new(self.sized(2000.0, 20), total));
        let (mut transaction_id, mut payment_id) = (0, 0);
        for (index, (day, weight)) in days.iter().enumerate() {
            let available = Masters {
                designs: available(masters.designs, index, days.len()),
                counterparties: available(masters.counterparties, index, days.len()),
                ..masters
            };
            let mut orders = self.orders(Side::Sale, sales.next(*weight), *day, now, &available);
            orders.extend(self.orders(Side::Purchase, purchases.next(*weight), *day, now, &available));
            orders.sort_by_key(|order| order.at);
            for order in orders {
                transaction_id += 1;
                sink.push("transaction", &orders::transaction(transaction_id, &order));
                for payment in orders::payments(self.seed, &order, transaction_id, payment_id + 1, now) {
                    payment_id += 1;
                    sink.push("payment", &payment);
                }
                match order.side {
                    Side::Sale => sink.push("sales_order", &order.row),
                    Side::Purchase => sink.push("purchase_order", &order.row),
                }
            }
            sink.flush_if_full().await?;
        }
        Ok(())
    }

    fn write_masters(&self, sink: &mut Sink<'_>, masters: &Masters, days: &[(i64, u64)]) {
        // The first hour of the system: 14:20 on its first day.
        let start = FIRST_DAY * DAY_MS + 51_600_000;
        let entered = |id: i64| start + 49 + id.min(3000) * 1003;
        // What was not there from the start came in the morning of the day on which orders may first use it.
        let arrived = |id, total| match (0..days.len()).find(|index| available(total, *index, days.len()) >= id) {
            Some(index) if index > 0 => days.get(index).map_or(start, |(day, _)| day * DAY_MS + OPENING_MS - 900_000),
            _ => entered(id),
        };
        for id in 1..=masters.addresses {
            sink.push("address", &masters::address(self.seed, id, entered(id)));
        }
        for id in 1..=masters.counterparties {
            // The first addresses belong to counterparties, some to more than one.
            let mut random = Random::of(self.seed, "legal_address", id as u64);
            let address_id = if random.chance(80) { (id - 1) % masters.addresses + 1 } else { random.between(1, 3) };
            sink.push(
                "counterparty",
                &masters::counterparty(self.seed, id, address_id, arrived(id, masters.counterparties)),
            );
        }
        for (id, code) in (1..).zip(words::CURRENCIES) {
            sink.push("currency", &masters::currency(id, code, start));
        }
        masters::departments(start).iter().for_each(|row| sink.push("department", row));
        for id in 1..=masters.designs {
            sink.push("design", &masters::design(self.seed, id, arrived(id, masters.designs)));
        }
        for id in 1..=masters.staff {
            // Every department has somebody.
            let department_id = (id - 1) % words::DEPARTMENTS.len() as i64 + 1;
            sink.push("staff", &masters::staff(self.seed, id, department_id, entered(id)));
        }
        masters::payment_types(start).iter().for_each(|row| sink.push("payment_type", row));
    }

    /// One day's orders of a side, spread over its business hours.
    fn orders(&self, side: Side, ids: std::ops::Range<i64>, day: i64, now: i64, masters: &Masters) -> Vec<Order> {
        let count = (ids.end - ids.start).max(1);
        let first = ids.start;
        ids.map(|id| {
            let mut random = Random::of(self.seed, "time_of_order", id as u64);
            let slot = (OPEN_FOR_MS * (id - first) + random.below(OPEN_FOR_MS as u64) as i64) / count;
            let at = day * DAY_MS + OPENING_MS + slot;
            orders::order(self.seed, side, id, at, now, masters, Newcomers::default())
        })
        .collect()
    }

    fn masters(&self) -> Masters {
        let root = self.scale.sqrt();
        let sized = |base: f64, least: i64| ((base * root).round() as i64).max(least);
        Masters {
            addresses: sized(30.0, 10),
            counterparties: sized(20.0, 8),
            currencies: words::CURRENCIES.len() as i64,
            designs: sized(60.0, 12),
            staff: sized(25.0, 8),
        }
    }

    fn sized(&self, base: f64, least: i64) -> i64 {
        ((base * self.scale).round() as i64).max(least)
    }

    /// How busy a day is: the business grows, is busiest before Christmas and quiet in August, and slows towards
    /// Friday. Whole numbers only, so that no platform rounds differently.
    fn weight(&self, day: i64) -> u64 {
        const SEASON: [u64; 12] = [80, 82, 95, 100, 106, 112, 96, 78, 104, 118, 152, 140];
        const WEEKDAY: [u64; 7] = [112, 106, 100, 96, 80, 0, 0];
        let (year, month, _) = date_of(day);
        let months = (year * 12 + month - (2022 * 12 + 11)).max(0) as u64;
        let season = SEASON.get((month - 1) as usize).copied().unwrap_or(100);
        let weekday = WEEKDAY.get(weekday(day) as usize).copied().unwrap_or(0);
        let noise = 75 + Random::of(self.seed, "busy_day", day as u64).below(51);
        (100 + 4 * months) * season * weekday * noise
    }
}

/// How many of `total` are there on working day `index` of `days`: half at first, all after three fifths of the time.
fn available(total: i64, index: usize, days: usize) -> i64 {
    let half = (total + 1) / 2;
    let full_after = (days as i64 * 3 / 5).max(1);
    half + (total - half) * (index as i64).min(full_after) / full_after
}

/// Deals ids out in proportion to weights, without a gap and without rounding anything away.
struct Share {
    count: i64,
    total: u64,
    seen: u64,
    given: i64,
}

impl Share {
    fn new(count: i64, total: u64) -> Share {
        Share { count, total: total.max(1), seen: 0, given: 0 }
    }

    fn next(&mut self, weight: u64) -> std::ops::Range<i64> {
        self.seen = self.seen.saturating_add(weight);
        let due = (i128::from(self.count) * i128::from(self.seen) / i128::from(self.total)) as i64;
        let first = self.given + 1;
        self.given = due.max(self.given);
        first..self.given + 1
    }
}
