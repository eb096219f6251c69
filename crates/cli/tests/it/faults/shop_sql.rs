//! The shop: a business of four tables and four models, small enough to go through thousands of runs.

/// The source.
pub(crate) const SOURCE: &str = "
create table address (address_id int primary key, city text not null);
create table customer (
    customer_id int primary key,
    name text not null,
    address_id int not null references address
);
create table sale (
    sale_id int primary key,
    customer_id int not null references customer,
    amount numeric(10, 2) not null,
    sold_on date not null
);
create table note (note_id int primary key, body text not null);
insert into address select i, 'city ' || i from generate_series(1, 10) i;
insert into customer select i, 'customer ' || i, 1 + i % 10 from generate_series(1, 100) i;
insert into sale select i, 1 + i % 100, i % 977 + 0.25, date '2024-01-01' + i % 400 from generate_series(1, 1500) i;
insert into note select i, 'note ' || i from generate_series(1, 40) i;
";

/// The warehouse; the fact refers to two dimensions.
pub(crate) const WAREHOUSE: &str = "
create table if not exists dim_date (
    date_id date primary key, year int not null, month int not null, day int not null, day_of_week int not null,
    day_name text not null, month_name text not null, quarter int not null
);
create table if not exists dim_customer (customer_id int primary key, name text not null, city text not null);
create table if not exists dim_note (note_id int primary key, body text not null);
create table if not exists fact_sale (
    sale_record_id serial primary key,
    sale_id int not null,
    customer_id int not null references dim_customer,
    amount numeric(10, 2) not null,
    sold_on date not null references dim_date
);
";

/// The project: path and text of each file.
pub(crate) const PROJECT: &[(&str, &str)] = &[
    (
        "starlift.toml",
        "[pipeline]\nname = \"shop\"\n[source]\nstatement_timeout_seconds = 10\n[calendar]\nstart_year = 2024\nend_year = 2025\n",
    ),
    ("warehouse.sql", WAREHOUSE),
    ("models/dim_date.sql", "-- kind: calendar\n-- key: date_id\n"),
    (
        "models/dim_customer.sql",
        "-- kind: dimension\n-- key: customer_id\nselect customer_id, name, city from customer join address using (address_id)\n",
    ),
    ("models/dim_note.sql", "-- kind: dimension\n-- key: note_id\nselect note_id, body from note\n"),
    (
        "models/fact_sale.sql",
        "-- kind: fact\n-- key: sale_id\n-- tests: relationships(customer_id -> dim_customer), relationships(sold_on -> dim_date)\n\
         select sale_id, customer_id, amount, sold_on from sale\n",
    ),
];

/// What each model must contain, asked of the source directly, and its columns.
pub(crate) const EXPECTED: &[(&str, &str, &str)] = &[
    (
        "dim_customer",
        "select c.customer_id, c.name, a.city from customer c, address a where a.address_id = c.address_id",
        "customer_id, name, city",
    ),
    ("dim_note", "select note_id, body from note", "note_id, body"),
    ("fact_sale", "select sale_id, customer_id, amount, sold_on from sale", "sale_id, customer_id, amount, sold_on"),
];

/// What happens on a day: inserts, updates, deletes and a key that goes and comes, with and without subtransactions, one
/// of them rolled back. It leaves alone what [`open`] touches.
pub(crate) fn day(day: u32) -> String {
    let third = if day % 2 == 1 {
        "delete from sale where sale_id = 11".to_string()
    } else {
        "insert into sale values (11, 12, 11.25, '2024-01-12') on conflict do nothing".to_string()
    };
    format!(
        "begin;
         insert into customer values (1000 + {day}, 'new on day {day}', 1 + {day} % 10);
         insert into sale select 10000 + {day} * 100 + i, 1000 + {day}, i + 0.5, date '2025-03-01' + {day} % 300
         from generate_series(1, 12) i;
         commit;
         begin;
         savepoint kept; update sale set amount = amount + 1 where sale_id > 20 and sale_id % 60 = {day} % 60; release kept;
         savepoint lost; delete from sale where sale_id % 7 = 3 and sale_id > 20; rollback to lost;
         commit;
         delete from sale where sale_id in (select sale_id from sale where sale_id > 20 order by sale_id % 89, sale_id limit 3);
         {third};
         update address set city = 'city of day {day}' where address_id = 1 + {day} % 10;
         update note set body = body || '.' where note_id = 1 + {day} % 20;
         delete from note where note_id = 20 + {day} % 20;
         insert into note values (100 + {day}, 'note of day {day}')"
    )
}

/// What a transaction does that stays open over the run of its day.
pub(crate) fn open(day: u32) -> String {
    format!(
        "begin; savepoint s; update sale set amount = amount + 100 where sale_id = 1 + {day} % 5; release s;
         insert into sale values (900000 + {day}, 1 + {day} % 100, 0.75, '2024-06-06')"
    )
}
