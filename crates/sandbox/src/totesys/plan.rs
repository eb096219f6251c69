//! What happens on a day, decided before anything is done: a list of database transactions, from seed and day alone.

mod departures;
mod master_data;

use super::change::Change;
use super::history::{HISTORY_IDS, LAST_DAY};
use super::instant::{DAY_MS, working_day_after};
use super::masters::Masters;
use super::orders::{self, Newcomers, OPEN_FOR_MS, OPENING_MS, Order, Side};
use super::random::Random;
use super::rows::{Field, Row, insert};
use super::words;

/// Each day has this many ids of every table for itself.
const IDS_PER_DAY: i64 = 10_000;
/// The ids of a day that its open transaction uses start here.
pub(crate) const OPEN_IDS: i64 = 9_000;
/// Orders of the history up to this id are left to open transactions, so that a day never waits for one's locks.
const RESERVED_ORDERS: i64 = 10;

/// One SQL statement of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Statement {
    /// A change that stays; its rows are counted.
    Do(Change, String),
    /// A change that is rolled back later in the same step.
    Lose(String),
    /// A savepoint command.
    Control(&'static str),
}

/// One database transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) statements: Vec<Statement>,
    /// Whether the whole of it is rolled back.
    pub(crate) abandoned: bool,
}

/// The first id of a day's own range.
pub(crate) fn first_id(number: u32) -> i64 {
    HISTORY_IDS + i64::from(number) * IDS_PER_DAY
}

/// The date of a day: the working days after the history, in days since 1970.
pub(crate) fn date(number: u32) -> i64 {
    working_day_after(LAST_DAY, i64::from(number))
}

/// An order of a day with its transaction and payments; `index` counts sales first, then purchases.
pub(crate) struct Deal {
    pub(crate) order: Order,
    pub(crate) transaction: Row,
    pub(crate) payments: Vec<Row>,
}

pub(crate) fn deal(
    seed: u64,
    side: Side,
    id: i64,
    at: i64,
    masters: &Masters,
    newcomers: Newcomers,
    payment_id: i64,
) -> Deal {
    let order = orders::order(seed, side, id, at, at, masters, newcomers);
    let transaction = orders::transaction(id, &order);
    let payments = orders::payments(seed, &order, id, payment_id, at);
    Deal { order, transaction, payments }
}

/// The day's transactions, in the order in which they are done.
pub(crate) fn plan(seed: u64, number: u32, sales: u32, masters: &Masters) -> Vec<Step> {
    let today = Today { seed, number, masters, sales: i64::from(sales), purchases: i64::from(sales.div_ceil(2)) };
    let mut steps = today.master_data();
    let placed = (0..today.sales + today.purchases).map(|index| today.placing(index));
    let others = [today.corrections(), today.stamps_that_lie(), today.departures(), today.savepoints()].concat();
    // The rest of the day's work happens in between the orders.
    let mut others = others.into_iter();
    for step in placed {
        steps.push(step);
        steps.extend(others.next());
    }
    steps.extend(others);
    steps
}

struct Today<'a> {
    seed: u64,
    number: u32,
    masters: &'a Masters,
    sales: i64,
    purchases: i64,
}

impl Today<'_> {
    fn random(&self, subject: &str) -> Random {
        Random::of(self.seed, subject, u64::from(self.number))
    }

    fn first_id(&self) -> i64 {
        first_id(self.number)
    }

    /// The literal of a moment of today: a fraction of the business hours, in thousandths.
    fn stamp(&self, thousandths: i64) -> String {
        let jitter = self.random("stamp").below(9000) as i64;
        Field::Stamp(date(self.number) * DAY_MS + OPENING_MS + OPEN_FOR_MS * thousandths / 1000 + jitter).literal()
    }

    fn opening(&self) -> i64 {
        date(self.number) * DAY_MS + OPENING_MS
    }

    /// What is new among the master data today, and hence used by the day's first order.
    fn newcomers(&self) -> Newcomers {
        let new = Some(self.first_id());
        match self.number % 6 {
            2 => Newcomers { counterparty: new, address: new, ..Newcomers::default() },
            3 => Newcomers { staff: new, ..Newcomers::default() },
            4 => Newcomers { currency: self.new_currency().and(new), ..Newcomers::default() },
            _ => Newcomers::default(),
        }
    }

    fn new_currency(&self) -> Option<&'static str> {
        words::LATER_CURRENCIES.get(usize::try_from(self.number / 6).ok()?).copied()
    }

    fn deal(&self, index: i64) -> Deal {
        let (side, all) = (if index < self.sales { Side::Sale } else { Side::Purchase }, self.sales + self.purchases);
        let at = self.opening() + OPEN_FOR_MS * index / all.max(1) + self.random("order").below(7000) as i64;
        let newcomers = if index == 0 { self.newcomers() } else { Newcomers::default() };
        let id = self.first_id() + index;
        deal(self.seed, side, id, at, self.masters, newcomers, self.first_id() + 2 * index)
    }

    /// An order with its transaction and payment, in one database transaction.
    fn placing(&self, index: i64) -> Step {
        step(deal_statements(&self.deal(index)))
    }

    /// The ordinary updates: `last_updated` moves with the values.
    fn corrections(&self) -> Vec<Step> {
        let mut random = self.random("corrections");
        let mut steps = Vec::new();
        for thousandths in [120, 560] {
            steps.push(Statement::Do(
                Change::PriceCorrected,
                format!(
                    "update sales_order set unit_price = unit_price + 0.05, last_updated = {} where sales_order_id = {}",
                    self.stamp(thousandths),
                    existing("sales_order", &mut random)
                ),
            ));
        }
        steps.push(Statement::Do(
            Change::PriceCorrected,
            format!(
                "update purchase_order set item_unit_price = item_unit_price + 1.10, last_updated = {} \
                 where purchase_order_id = {}",
                self.stamp(240),
                existing("purchase_order", &mut random)
            ),
        ));
        let later =
            Field::Date(working_day_after(date(self.number), random.between(5, 30)).min(orders::LAST_AGREED_DAY));
        for (table, column, thousandths) in
            [("sales_order", "agreed_delivery_date", 330), ("purchase_order", "agreed_payment_date", 610)]
        {
            steps.push(Statement::Do(
                Change::DateMoved,
                format!(
                    "update {table} set {column} = {}, last_updated = {} where {table}_id = {}",
                    later.literal(),
                    self.stamp(thousandths),
                    existing(table, &mut random)
                ),
            ));
        }
        steps.push(Statement::Do(
            Change::PaymentSettled,
            format!(
                "update payment set paid = true, last_updated = {} where payment_id in (select payment_id from payment \
                 where not paid and payment_id >= {} order by payment_id limit 4)",
                self.stamp(470),
                existing("payment", &mut random)
            ),
        ));
        steps.into_iter().map(|statement| step(vec![statement])).collect()
    }

    /// The updates that a cursor over `last_updated` cannot see.
    fn stamps_that_lie(&self) -> Vec<Step> {
        let mut random = self.random("stamps_that_lie");
        let statements = [
            Statement::Do(
                Change::FixedSilently,
                format!(
                    "update sales_order set units_sold = units_sold + 100 where sales_order_id = {}",
                    existing("sales_order", &mut random)
                ),
            ),
            Statement::Do(
                Change::FixedSilently,
                format!(
                    "update address set phone = '{:04} {:06}' where address_id = {}",
                    random.below(10_000),
                    random.below(1_000_000),
                    random.between(1, self.masters.addresses)
                ),
            ),
            Statement::Do(
                Change::Backdated,
                format!(
                    "update purchase_order set item_quantity = item_quantity + 1, \
                     last_updated = created_at + interval '1 second' where purchase_order_id = {}",
                    existing("purchase_order", &mut random)
                ),
            ),
        ];
        statements.into_iter().map(|statement| step(vec![statement])).collect()
    }

    /// Work that is done in part, and work that is given up.
    fn savepoints(&self) -> Vec<Step> {
        let mut random = self.random("savepoints");
        let (sale, purchase) = (existing("sales_order", &mut random), existing("purchase_order", &mut random));
        let at = self.opening() + OPEN_FOR_MS - 60_000;
        let id = self.first_id() + self.sales + self.purchases;
        let late = deal(
            self.seed,
            Side::Sale,
            id,
            at,
            self.masters,
            Newcomers::default(),
            self.first_id() + 2 * (self.sales + self.purchases),
        );
        let mut partly = deal_statements(&late);
        partly.extend([
            Statement::Control("savepoint lost"),
            Statement::Lose(format!(
                "update sales_order set unit_price = unit_price + 100 where sales_order_id = {sale}"
            )),
            Statement::Lose(format!("delete from payment where transaction_id = {id}")),
            Statement::Control("rollback to savepoint lost"),
            Statement::Control("savepoint kept"),
            Statement::Do(
                Change::PriceCorrected,
                format!(
                    "update purchase_order set item_unit_price = item_unit_price + 0.01, last_updated = {} \
                     where purchase_order_id = {purchase}",
                    Field::Stamp(at).literal()
                ),
            ),
            Statement::Control("release savepoint kept"),
        ]);
        let given_up = Step {
            statements: vec![Statement::Lose(format!(
                "update sales_order set units_sold = units_sold + 1, last_updated = {} where sales_order_id = {sale}",
                self.stamp(700)
            ))],
            abandoned: true,
        };
        vec![given_up, step(partly)]
    }
}

/// The statements that bring in an order with its transaction and payments.
pub(crate) fn deal_statements(deal: &Deal) -> Vec<Statement> {
    let (change, table) = match deal.order.side {
        Side::Sale => (Change::SalesOrderPlaced, "sales_order"),
        Side::Purchase => (Change::PurchaseOrderPlaced, "purchase_order"),
    };
    let mut statements = vec![
        Statement::Do(change, insert(table, &deal.order.row)),
        Statement::Do(Change::TransactionRecorded, insert("\"transaction\"", &deal.transaction)),
    ];
    statements.extend(deal.payments.iter().map(|row| Statement::Do(Change::PaymentRecorded, insert("payment", row))));
    statements
}

fn step(statements: Vec<Statement>) -> Step {
    Step { statements, abandoned: false }
}

/// A scalar subquery: the id of some row of the history, at a random place of it. Which one depends on the rows alone,
/// not on their order on disk, and finding it reads the index, not the table.
fn existing(table: &str, random: &mut Random) -> String {
    let place = random.below(9_000);
    format!(
        "(select {table}_id from {table} where {table}_id > {RESERVED_ORDERS} + floor(0.{place:04} * \
         ((select max({table}_id) from {table} where {table}_id < {HISTORY_IDS}) - {RESERVED_ORDERS}))::int \
         order by {table}_id limit 1)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASTERS: Masters = Masters { addresses: 30, counterparties: 20, currencies: 7, designs: 60, staff: 25 };

    #[test]
    fn a_plan_depends_on_seed_and_day_alone() {
        assert_eq!(plan(1, 3, 12, &MASTERS), plan(1, 3, 12, &MASTERS));
        assert_ne!(plan(1, 3, 12, &MASTERS), plan(2, 3, 12, &MASTERS));
        assert_ne!(plan(1, 3, 12, &MASTERS), plan(1, 4, 12, &MASTERS));
    }

    #[test]
    fn no_day_leaves_its_range_of_ids() {
        for number in [1, 2, 3, 4, 5, 6] {
            let last = first_id(number) + 2 * (2500 + 1250) + 2;
            assert!(last < first_id(number) + OPEN_IDS);
            assert!(first_id(number) + OPEN_IDS < first_id(number + 1));
        }
    }
}
