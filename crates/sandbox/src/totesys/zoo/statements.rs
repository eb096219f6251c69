//! The statements of the zoo, as SQL. Everything but keys and stamps follows from a salt.

use super::writer::Writer;

/// The beginning of the transaction, as honest applications stamp their rows.
pub(super) const BEGUN: &str = "localtimestamp";

/// New sales orders under the ids from `first` on.
pub(super) fn insert_sales(w: &Writer, first: i64, count: i64, salt: i64, stamp: &str) -> String {
    let m = &w.masters;
    format!(
        "insert into sales_order select g, {}, {}, {}, 1 + (g + {salt}) % 90000, round((g * 13 + {salt}) % 9999999 / 100.0, 2), \
         {}, {}, {}, {}, {stamp}, {stamp} from generate_series({first}::bigint, {}) g",
        one_of(m.designs, salt, 1),
        one_of(m.staff, salt, 2),
        one_of(m.counterparties, salt, 3),
        one_of(m.currencies, salt, 4),
        date(salt),
        date(salt + 1),
        one_of(m.addresses, salt, 5),
        first + count - 1,
    )
}

/// New purchase orders.
pub(super) fn insert_purchases(w: &Writer, first: i64, count: i64, salt: i64, stamp: &str) -> String {
    let m = &w.masters;
    format!(
        "insert into purchase_order select g, {}, {}, 'zoo ' || g % 97, 1 + (g + {salt}) % 5000, \
         round((g * 17 + {salt}) % 9999999 / 100.0, 2), {}, {}, {}, {}, {stamp}, {stamp} \
         from generate_series({first}::bigint, {}) g",
        one_of(m.staff, salt, 1),
        one_of(m.counterparties, salt, 2),
        one_of(m.currencies, salt, 3),
        date(salt),
        date(salt + 1),
        one_of(m.addresses, salt, 4),
        first + count - 1,
    )
}

/// New transactions, each of the sales order with its own id.
pub(super) fn insert_transactions(first: i64, count: i64, stamp: &str) -> String {
    format!(
        "insert into \"transaction\" select g, 'SALE', g, null, {stamp}, {stamp} from generate_series({first}::bigint, {}) g",
        first + count - 1
    )
}

/// New payments of one transaction: of the history's first one, where it is 1.
pub(super) fn insert_payments(w: &Writer, first: i64, count: i64, transaction: i64, salt: i64, stamp: &str) -> String {
    format!(
        "insert into payment select g, {transaction}, {}, round((g * 19 + {salt}) % 99999999 / 100.0, 2), {}, {}, \
         (g + {salt}) % 2 = 0, {}, 10000000 + (g % 80000000)::int, 10000000 + {salt}, {stamp}, {stamp} \
         from generate_series({first}::bigint, {}) g",
        one_of(w.masters.counterparties, salt, 1),
        one_of(w.masters.currencies, salt, 2),
        one_of(w.payment_types, salt, 3),
        date(salt),
        first + count - 1,
    )
}

/// Updates of sales orders that have been there for long. `stamp` is `last_updated` where it is not to change.
pub(super) fn update_sales(w: &mut Writer, count: i64, stamp: &str) -> String {
    let first = w.random.between(1, (w.old_sales - count).max(1));
    let (units, cents) = (w.random.between(1, 90_000), w.random.between(1, 9_999_999));
    let date = date(w.random.between(0, 2_000));
    format!(
        "update sales_order set units_sold = {units}, unit_price = {cents} / 100.0, agreed_payment_date = {date}, \
         last_updated = {stamp} where sales_order_id between {first} and {}",
        first + count - 1
    )
}

/// Updates of purchase orders that have been there for long.
pub(super) fn update_purchases(w: &mut Writer, count: i64, stamp: &str) -> String {
    let first = w.random.between(1, (w.old_purchases - count).max(1));
    let (quantity, cents) = (w.random.between(1, 5_000), w.random.between(1, 9_999_999));
    format!(
        "update purchase_order set item_quantity = {quantity}, item_unit_price = {cents} / 100.0, last_updated = {stamp} \
         where purchase_order_id between {first} and {}",
        first + count - 1
    )
}

/// Updates of payments that have been there for long.
pub(super) fn update_payments(w: &mut Writer, count: i64, stamp: &str) -> String {
    let first = w.random.between(1, (w.old_payments - count).max(1));
    format!(
        "update payment set paid = not paid, payment_amount = payment_amount + 0.01, last_updated = {stamp} \
         where payment_id between {first} and {}",
        first + count - 1
    )
}

/// An id from 1 to `highest`, another one for each place in a row.
fn one_of(highest: i64, salt: i64, place: i64) -> i64 {
    1 + (salt * 31 + place * 7).rem_euclid(highest.max(1))
}

/// A day of 2024 to 2029, as agreed dates are kept.
pub(super) fn date(salt: i64) -> String {
    let salt = salt.rem_euclid(6 * 12 * 28);
    format!("'{}-{:02}-{:02}'", 2024 + salt / 336, 1 + salt / 28 % 12, 1 + salt % 28)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_dates() {
        assert_eq!(date(0), "'2024-01-01'");
        assert_eq!(date(6 * 336 - 1), "'2029-12-28'");
        assert_eq!(date(-1), "'2029-12-28'");
    }

    #[test]
    fn an_id_is_one_that_exists() {
        assert!((0..1000).all(|salt| (1..=7).contains(&one_of(7, salt, 3))));
        assert_eq!(one_of(0, 5, 1), 1);
    }
}
