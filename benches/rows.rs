//! Rows that the server makes itself: 9 million in half a minute. Amounts, accounts and times without a pattern that a codec
//! could use.

/// Rows of `payment`.
pub(crate) fn payments(rows: u64) -> String {
    format!(
        "insert into payment
         select i, i, 1 + (hashint4(i) & 127) % 20, (abs(hashint4(i) % 60000000)) / 100.0, 1 + i % 3, 1 + i % 4, i % 7 <> 0,
                to_char(date '2022-11-03' + i / 4000, 'YYYY-MM-DD'), 10000000 + abs(hashint4(i + 1) % 90000000),
                10000000 + abs(hashint4(i + 2) % 90000000), t, t
         from generate_series(1, {rows}) i,
         lateral (select timestamp '2022-11-03 14:20:49.962' + i * interval '11 seconds'
                  + abs(hashint4(i * 7) % 1000) * interval '1 ms') as x(t)"
    )
}

/// How many rows each large table of ToteSys has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares {
    pub(crate) sales: u64,
    pub(crate) purchases: u64,
    /// Whether orders have transactions and payments.
    pub(crate) others: bool,
}

impl Shares {
    /// Of so many rows in all: two sales for each purchase, a transaction for each of them, and a payment for each of these.
    pub(crate) fn of(rows: u64) -> Shares {
        Shares { sales: rows * 2 / 9, purchases: rows / 9, others: true }
    }

    /// Sales alone, without transactions.
    pub(crate) fn sales(rows: u64) -> Shares {
        Shares { sales: rows, purchases: 0, others: false }
    }

    /// The statements that fill the empty tables of ToteSys. The rows fit their foreign keys by construction, so that these
    /// need not be checked.
    pub(crate) fn sql(self) -> String {
        let Shares { sales, purchases, others } = self;
        let transactions = if others { sales + purchases } else { 0 };
        format!(
            "set session_replication_role = replica;
             insert into currency select i, (array['GBP', 'USD', 'EUR'])[i], {START}, {START} from generate_series(1, 3) i;
             insert into department select i, 'department ' || i, 'floor ' || i, 'manager ' || i, {START}, {START}
                 from generate_series(1, 8) i;
             insert into payment_type select i, (array['SALES_RECEIPT', 'SALES_REFUND', 'PURCHASE_PAYMENT', 'PURCHASE_REFUND'])[i],
                 {START}, {START} from generate_series(1, 4) i;
             insert into address select i, i || ' Road', null, 'district ' || i % 9, 'city ' || i % 60, 'P' || i, 'country ' || i % 20,
                 '0113 ' || i, {START}, {START} from generate_series(1, 600) i;
             insert into counterparty select i, 'company ' || i, 1 + i % 600, 'contact ' || i, 'driver ' || i, {START}, {START}
                 from generate_series(1, 400) i;
             insert into design select i, 'design ' || i, '/usr/share', 'design-' || i || '.json', {START}, {START}
                 from generate_series(1, 1000) i;
             insert into staff select i, 'first ' || i, 'last ' || i, 1 + i % 8, 'staff' || i || '@totes.example', {START}, {START}
                 from generate_series(1, 400) i;
             insert into sales_order select i, {design}, {staff}, {counterparty}, 1 + abs(hashint4(i + 3) % 90000),
                 (200 + abs(hashint4(i + 4) % 300)) / 100.0, 1 + i % 3, {day_3}, {day_9}, {address}, {time}, {time}
                 from generate_series(1, {sales}) i;
             insert into purchase_order select i, {staff}, {counterparty}, 'ITEM' || abs(hashint4(i) % 5000),
                 1 + abs(hashint4(i + 3) % 900), abs(hashint4(i + 4) % 90000) / 100.0, 1 + i % 3, {day_3}, {day_9}, {address},
                 {time}, {time} from generate_series(1, {purchases}) i;
             insert into \"transaction\" select i, case when i <= {sales} then 'SALE' else 'PURCHASE' end,
                 case when i <= {sales} then i end, case when i > {sales} then i - {sales} end, {time}, {time}
                 from generate_series(1, {transactions}) i;
             {};
             set session_replication_role = origin;
             vacuum analyze",
            payments(transactions),
            design = "1 + abs(hashint4(i) % 1000)",
            staff = "1 + abs(hashint4(i + 1) % 400)",
            counterparty = "1 + abs(hashint4(i + 2) % 400)",
            address = "1 + abs(hashint4(i + 5) % 600)",
            day_3 = "to_char(date '2022-11-06' + i / 2000, 'YYYY-MM-DD')",
            day_9 = "to_char(date '2022-11-12' + i / 2000, 'YYYY-MM-DD')",
            time = "timestamp '2022-11-03 14:20:49.962' + i * interval '37 seconds'",
        )
    }
}

const START: &str = "timestamp '2022-11-03 14:20:49.962'";
