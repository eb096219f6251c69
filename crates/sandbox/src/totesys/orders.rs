//! Orders and what follows from them: a transaction each, and its payments.

use super::instant::{DAY_MS, day_of, working_day_after};
use super::masters::Masters;
use super::random::Random;
use super::rows::{Field, Row};

/// Agreed dates do not go beyond it, whatever the day of the order.
pub(crate) const LAST_AGREED_DAY: i64 = day_of(2027, 12, 31);
/// Business hours start at 08:30 …
pub(crate) const OPENING_MS: i64 = 30_600_000;
/// … and last nine and a half hours.
pub(crate) const OPEN_FOR_MS: i64 = 34_200_000;

/// Whether Terrific Totes sells or buys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Sale,
    Purchase,
}

/// Master data that arrived today and that an order is to use, so that a fact comes together with its dimensions.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Newcomers {
    pub(crate) counterparty: Option<i64>,
    pub(crate) address: Option<i64>,
    pub(crate) staff: Option<i64>,
    pub(crate) currency: Option<i64>,
}

/// An order, its row, and what its payments need to know.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) side: Side,
    pub(crate) id: i64,
    /// When it was made, in milliseconds since 1970.
    pub(crate) at: i64,
    pub(crate) row: Row,
    counterparty_id: i64,
    currency_id: i64,
    cents: i64,
    payment_day: i64,
}

/// An order of a side; the same arguments give the same order. Nothing of it is later than `now`.
pub(crate) fn order(
    seed: u64,
    side: Side,
    id: i64,
    at: i64,
    now: i64,
    masters: &Masters,
    newcomers: Newcomers,
) -> Order {
    let subject = match side {
        Side::Sale => "sales_order",
        Side::Purchase => "purchase_order",
    };
    let mut random = Random::of(seed, subject, id as u64);
    let today = at.div_euclid(DAY_MS);
    let staff_id = newcomers.staff.unwrap_or(random.between(1, masters.staff));
    let counterparty_id = newcomers.counterparty.unwrap_or(random.between(1, masters.counterparties));
    let address_id = newcomers.address.unwrap_or(random.between(1, masters.addresses));
    // Most trade is in the first three currencies.
    let usual = if random.chance(85) { masters.currencies.min(3) } else { masters.currencies };
    let currency_id = newcomers.currency.unwrap_or(random.between(1, usual));
    let delivery_day = working_day_after(today, random.between(2, 25)).min(LAST_AGREED_DAY);
    let payment_day = working_day_after(today, random.between(3, 40)).min(LAST_AGREED_DAY);
    let corrected = random.chance(8);
    let correction = moment(working_day_after(today, random.between(1, 15)), &mut random);
    let last_updated = if corrected && correction < now { correction } else { at };
    let agreed = [Field::Date(delivery_day), Field::Date(payment_day), Field::Int(address_id)];
    let stamps = [Field::Stamp(at), Field::Stamp(last_updated)];
    let (row, cents) = match side {
        Side::Sale => {
            let (units, price) = (random.between(1, 900) * 100, random.between(120, 499));
            let design_id = random.between(1, masters.designs);
            let mut row =
                vec![Field::Int(id), Field::Int(design_id), Field::Int(staff_id), Field::Int(counterparty_id)];
            row.extend([Field::Int(units), Field::Cents(price), Field::Int(currency_id)]);
            (row, units * price)
        }
        Side::Purchase => {
            let (quantity, price) = (random.between(1, 1000), random.between(95, 99_999));
            let code: String = (0..7)
                .map(|_| char::from(random.pick(b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789")))
                .collect();
            let mut row = vec![Field::Int(id), Field::Int(staff_id), Field::Int(counterparty_id), Field::text(code)];
            row.extend([Field::Int(quantity), Field::Cents(price), Field::Int(currency_id)]);
            (row, quantity * price)
        }
    };
    let row = row.into_iter().chain(agreed).chain(stamps).collect();
    Order { side, id, at, row, counterparty_id, currency_id, cents, payment_day }
}

/// The transaction of an order.
pub(crate) fn transaction(id: i64, order: &Order) -> Row {
    let (kind, sale, purchase) = match order.side {
        Side::Sale => ("SALE", Field::Int(order.id), Field::Null),
        Side::Purchase => ("PURCHASE", Field::Null, Field::Int(order.id)),
    };
    vec![Field::Int(id), Field::text(kind), sale, purchase, Field::Stamp(order.at), Field::Stamp(order.at)]
}

/// The payments of a transaction, as they stand at `now`: none for a few, and a second one, a refund, for a few others.
/// Their ids count up from `first_id`.
pub(crate) fn payments(seed: u64, order: &Order, transaction_id: i64, first_id: i64, now: i64) -> Vec<Row> {
    let mut random = Random::of(seed, "payment", transaction_id as u64);
    if random.chance(3) {
        return Vec::new();
    }
    let (receipt, refund) = match order.side {
        Side::Sale => (1, 2),
        Side::Purchase => (3, 4),
    };
    let settled_at = moment(order.payment_day, &mut random);
    let paid = settled_at < now && random.chance(96);
    let last_updated = if paid { settled_at } else { order.at };
    let accounts = [random.between(10_000_000, 99_999_999), random.between(10_000_000, 99_999_999)];
    let row = |id, cents, kind, paid, day, created, updated| {
        vec![
            Field::Int(id),
            Field::Int(transaction_id),
            Field::Int(order.counterparty_id),
            Field::Cents(cents),
            Field::Int(order.currency_id),
            Field::Int(kind),
            Field::Bool(paid),
            Field::Date(day),
            Field::Int(accounts[0]),
            Field::Int(accounts[1]),
            Field::Stamp(created),
            Field::Stamp(updated),
        ]
    };
    let mut rows = vec![row(first_id, order.cents, receipt, paid, order.payment_day, order.at, last_updated)];
    let refund_day = working_day_after(order.payment_day, random.between(2, 15)).min(LAST_AGREED_DAY);
    let refunded_at = moment(refund_day, &mut random);
    if paid && random.chance(5) && refunded_at < now {
        let share = order.cents * random.between(5, 100) / 100;
        rows.push(row(first_id.saturating_add(1), share, refund, true, refund_day, refunded_at, refunded_at));
    }
    rows
}

/// A moment in the business hours of a day.
pub(crate) fn moment(day: i64, random: &mut Random) -> i64 {
    day * DAY_MS + OPENING_MS + random.below(OPEN_FOR_MS as u64) as i64
}
