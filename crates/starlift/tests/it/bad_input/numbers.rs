//! Rows 1 to 6: numbers and times that a column of the lake may not hold.

use starlift_core::ErrorKind;

use super::transform_fails;
use crate::capture::lab::{Lab, why_full};
use crate::world::{World, of};

const SUMS: &str = "create table sum (id int primary key, n numeric, p numeric(10,2), f float8);
                    insert into sum values (1, 1.5, 2.25, 3), (2, 0, 0, 0);";

impl Lab {
    /// Each value in turn is refused with column, key and reason; with the one before in its place, nothing is missing.
    async fn refuses(&self, table: &str, values: &[(&str, &str, &str)]) {
        self.catch_up().await;
        for (column, value, reason) in values {
            let before = self.text(&format!("select coalesce({column}::text, '') from {table} where id = 2")).await;
            self.run(&format!("update {table} set {column} = {value} where id = 2")).await;
            let error = self.ingest_fails(ErrorKind::Data, &[table, &format!("`{column}`"), reason, "id=2"]).await;
            assert!(error.hint().is_some(), "{error:?}");
            self.run(&format!("update {table} set {column} = '{before}' where id = 2")).await;
            self.catch_up().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_01_a_number_that_is_none_is_refused_by_a_decimal_and_carried_by_a_float() {
    let lab = Lab::new(SUMS).await;
    lab.refuses("sum", &[("n", "'NaN'", "NaN"), ("p", "'NaN'", "NaN")]).await;
    // Before 14 a numeric is never infinite.
    match lab.version().await {
        ..140_000 => lab.knows_no("update sum set n = 'Infinity'").await,
        _ => lab.refuses("sum", &[("n", "'Infinity'", "infinite"), ("n", "'-Infinity'", "infinite")]).await,
    }
    lab.run("update sum set f = 'NaN' where id = 1; update sum set f = '-Infinity' where id = 2").await;
    assert_eq!(of(&lab.catch_up().await, "sum").rows_written, 2);
    lab.configure("[source.tables.sum]\ncolumns.n = { numeric = \"text\" }");
    lab.run("update sum set n = 'NaN' where id = 2").await;
    lab.catch_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_02_a_numeric_of_more_than_38_digits_is_refused_until_it_is_text() {
    let lab = Lab::new(
        "create table wide (id int primary key, n numeric(50,10));
         insert into wide values (1, 1234567890123456789012345678901234567890.0123456789)",
    )
    .await;
    let error = lab.ingest_fails(ErrorKind::Unsupported, &["`wide`", "`n`", "numeric(50,10)"]).await;
    assert!(error.hint().unwrap().contains("as = \"text\""), "{error:?}");
    lab.configure("[source.tables.wide]\ncolumns.n = { numeric = \"text\" }");
    lab.catch_up().await;
    lab.run("update wide set n = -n").await;
    assert_eq!(of(&lab.catch_up().await, "wide").rows_written, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_03_a_numeric_without_precision_holds_38_digits_and_10_decimals_and_refuses_the_rest() {
    let lab = Lab::new(SUMS).await;
    let values = [
        ("n", "0.00000000001", "more decimals"),
        ("n", "1e28", "more digits"),
        ("n", "-1e100", "more digits"),
        ("n", "1e-300", "more decimals"),
    ];
    lab.refuses("sum", &values).await;
    lab.run("update sum set n = 9999999999999999999999999999.9999999999").await;
    lab.catch_up().await;
    // Eleven decimals fit where the column is told so, and nothing was rounded before.
    lab.run("update sum set n = 0.00000000001").await;
    lab.ingest_fails(ErrorKind::Data, &["`n`", "2 of 2 rows"]).await;
    lab.configure("[source.tables.sum]\ncolumns.n = { numeric = \"decimal(38,11)\" }");
    lab.catch_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_04_an_infinite_time_is_carried_as_such_and_never_becomes_a_day_of_the_calendar() {
    let lab = Lab::new(
        "create table span (id int primary key, d date, t timestamp, z timestamptz);
         insert into span values (1, 'infinity', '-infinity', 'infinity'), (2, '-infinity', 'infinity', '-infinity')",
    )
    .await;
    lab.catch_up().await;

    let world = World::new().await;
    world.create_warehouse().await;
    world.run().await;
    let days = "select count(*) from dim_date";
    let before = world.count_in_warehouse(days).await;
    world.change("update sales_order set created_at = 'infinity' where sales_order_id = 4").await;
    world.ingest().await;
    transform_fails(&world, ErrorKind::Data, &["fact_sales_order"]).await;
    assert_eq!(world.count_in_warehouse(days).await, before);
    world.change("update sales_order set created_at = '2024-11-20 11:35' where sales_order_id = 4").await;
    world.run().await;
    world.assert_star_equals_source().await;
    assert_eq!(world.count_in_warehouse(days).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_05_years_before_christ_are_carried_and_those_after_294246_are_refused() {
    let lab = Lab::new(
        "create table era (id int primary key, d date, t timestamp, z timestamptz);
         insert into era values
           (1, '4713-01-01 BC', '4713-01-01 00:00:00.000001 BC', '4713-01-01 00:00+00 BC'), (2, '0001-12-31 BC', null, null),
           (3, '5874897-12-31', '294246-12-31 23:59:59.999999', '294246-12-31 23:59:59.999999+00')",
    )
    .await;
    let values = [
        ("t", "'294276-12-31 23:59:59.999999'", "out of the range"),
        ("z", "'294276-12-31 00:00+00'", "out of the range"),
    ];
    lab.run("update era set t = '2024-01-01', z = '2024-01-01 00:00+00' where id = 2").await;
    lab.refuses("era", &values).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_06_time_zone_and_styles_of_the_server_change_nothing() {
    let lab = Lab::new(
        "create table clock (id int primary key, t timestamp, z timestamptz, d date, i interval, m money, f float4);
         insert into clock select i, timestamp '2024-03-31 02:30' + i * interval '1 hour', timestamptz '2024-03-31 00:30+00'
           + i * interval '1 hour', date '2024-02-28' + i, i * interval '1 month 2 days', i * 1.5, i / 3.0 from generate_series(1, 9) i",
    )
    .await;
    lab.catch_up().await;
    let settings = [
        ("timezone", "Pacific/Chatham"),
        ("datestyle", "SQL, DMY"),
        ("intervalstyle", "sql_standard"),
        ("extra_float_digits", "-15"),
    ];
    for (name, value) in settings {
        lab.run(&format!("alter database {} set {name} = '{value}'", lab.database)).await;
        lab.run(&format!("alter role {} set {name} = '{value}'", lab.reader)).await;
    }
    let odd = lab.reader_session().await;
    let shown: String = odd.query_one("select current_setting('timezone')", &[]).await.unwrap().get(0);
    assert_eq!(shown, "Pacific/Chatham", "the trap is set");
    // Every row is read again, and is what it was.
    lab.run("alter table clock add column extra int").await;
    let report = lab.catch_up().await;
    assert_eq!(why_full(of(&report, "clock")), Some("schema changed"));
    lab.run("alter table clock drop column extra; update clock set i = i where id = 3").await;
    lab.catch_up().await;
    // The bytes in the files do not know either: reading again writes nothing.
    lab.run("update clock set t = t, z = z, d = d, f = f").await;
    let report = lab.catch_up().await;
    assert_eq!((of(&report, "clock").rows_read, of(&report, "clock").rows_written), (9, 0));
}
