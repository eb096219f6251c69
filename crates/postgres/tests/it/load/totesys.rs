//! The star of ToteSys, made in plain SQL from a source with history, into the warehouse as it is shipped.

use std::collections::BTreeMap;

use starlift_core::model::ModelKind;
use starlift_core::{Column, ColumnType, TableSchema};
use starlift_postgres::load::{LoadOutcome, ModelTable};
use starlift_sandbox::totesys::{
    Calendar, History, STAR_TABLES, compare_all, create_loader, create_source, create_warehouse, expected,
};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, NoTls};

use super::fixture::*;

/// Fewer years than the facts refer to, so that the calendar has to grow both ways.
const YEARS: Calendar = Calendar { start_year: 2024, end_year: 2025 };

type Star = BTreeMap<&'static str, BTreeMap<String, Vec<String>>>;

fn kind(table: &str) -> ModelKind {
    match table {
        "dim_date" => ModelKind::Calendar,
        fact if fact.starts_with("fact_") => ModelKind::Fact,
        _ => ModelKind::Dimension,
    }
}

fn query(table: &str) -> String {
    let all = expected(table, YEARS).expect("a star table");
    match table {
        "dim_date" => format!("select * from ({all}) d where year = 2024"),
        _ => all,
    }
}

async fn models(source: &Client) -> Vec<ModelTable> {
    let mut models = Vec::new();
    for table in STAR_TABLES {
        let statement = source.prepare(&query(table)).await.expect("the star's query");
        let columns: Vec<Column> = statement
            .columns()
            .iter()
            .map(|column| Column {
                name: column.name().into(),
                column_type: match *column.type_() {
                    Type::INT4 => ColumnType::Int4,
                    Type::DATE => ColumnType::Date,
                    Type::TIME => ColumnType::Time,
                    Type::BOOL => ColumnType::Bool,
                    Type::NUMERIC => ColumnType::Numeric { precision: 38, scale: 10 },
                    _ => ColumnType::Text,
                },
                nullable: true,
                declared: None,
                labels: vec![],
            })
            .collect();
        let key = vec![columns[0].name.clone()];
        let schema = TableSchema { columns, key, oid: None, partitions: vec![], attributes: vec![] };
        models.push(ModelTable { name: table.into(), kind: kind(table), schema, references: BTreeMap::new() });
    }
    models
}

async fn star(source: &Client) -> Star {
    let mut star = Star::new();
    for table in STAR_TABLES {
        let mut state = BTreeMap::new();
        for message in source.simple_query(&query(table)).await.expect("the star's rows") {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                let values: Vec<String> = (0..row.len()).map(|i| row.get(i).unwrap_or(NULL).to_string()).collect();
                // Arrow reads booleans by their names.
                let values = values.into_iter().map(|v| match v.as_str() {
                    "t" => "true".into(),
                    "f" => "false".into(),
                    _ => v,
                });
                let values: Vec<String> = values.collect();
                state.insert(values[0].clone(), values);
            }
        }
        star.insert(table, state);
    }
    star
}

/// What changed between two stars, as a manifest brings it.
fn difference(models: &[ModelTable], before: &Star, after: &Star) -> Vec<Change> {
    let change = |model: &ModelTable| {
        let none = BTreeMap::new();
        let (old, new) = (before.get(model.name.as_str()).unwrap_or(&none), &after[model.name.as_str()]);
        let rows = new.iter().filter(|(key, row)| old.get(*key) != Some(row)).map(|(_, row)| row.clone()).collect();
        let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| vec![key.clone()]).collect();
        Change { model: model.clone(), rows, gone }
    };
    models.iter().map(change).collect()
}

async fn source() -> (Client, Client) {
    let cluster = starlift_sandbox::shared().expect("a private PostgreSQL");
    let database = cluster.fresh_database("totesys").await.expect("a database");
    let mut client = cluster.connect(&database).await.expect("a connection");
    create_source(&client).await.expect("the source's tables");
    History { seed: 11, scale: 0.05 }.fill(&mut client).await.expect("its history");
    (client, cluster.connect(&database).await.expect("a connection"))
}

/// The shipped warehouse, and the session of a role that owns it and is no superuser.
async fn warehouse(before: &str) -> (Warehouse, Client) {
    let owner = Warehouse::with("select 1").await;
    create_warehouse(&owner.client).await.expect("the warehouse's tables");
    owner.execute(before).await;
    let role = format!("loader of {}", owner.database);
    create_loader(&owner.client, &role, "secret").await.expect("a loader");
    let mut config = Config::new();
    let port = starlift_sandbox::shared().expect("a private PostgreSQL").port();
    config.host("127.0.0.1").port(port).user(&role).password("secret").dbname(&owner.database);
    let (client, connection) = config.connect(NoTls).await.expect("a connection");
    tokio::spawn(connection);
    let reader = owner.again().await.client;
    (Warehouse { client, ..owner }, reader)
}

#[tokio::test]
async fn an_empty_warehouse_equals_the_source_and_follows_it() {
    let (source, other) = source().await;
    let (mut w, reader) = warehouse("select 1").await;
    let models = models(&source).await;
    let first = star(&source).await;
    let done = w.next(difference(&models, &Star::new(), &first)).await.unwrap();
    assert!(done.dates_added > 365, "{done:?}");
    assert_eq!(compare_all(&other, &reader, YEARS).await.unwrap(), Vec::<String>::new());

    source
        .batch_execute(
            "update staff set last_name = 'Renamed' where staff_id = 1;
             update address set phone = '0000' where address_id = (select legal_address_id from counterparty limit 1);
             update sales_order set unit_price = unit_price + 0.01, last_updated = last_updated + interval '1 ms' \
                 where sales_order_id % 7 = 0;
             update sales_order set agreed_delivery_date = '2031-02-03' where sales_order_id = 1;
             delete from payment where payment_id % 9 = 0",
        )
        .await
        .unwrap();
    let second = star(&source).await;
    let before = w.one("select count(*) from fact_sales_order").await;
    let changes = difference(&models, &first, &second);
    let changed = changes.iter().find(|c| c.model.name == "fact_sales_order").map_or(0, |c| c.rows.len()) as u64;
    let done = w.next(changes).await.unwrap();
    assert_eq!(report(&done, "fact_sales_order").inserted, changed);
    assert_eq!(
        w.one("select count(*) from fact_sales_order").await,
        (before.parse::<u64>().unwrap() + changed).to_string()
    );
    assert!(report(&done, "fact_payment").retracted > 0);
    assert_eq!(compare_all(&other, &reader, YEARS).await.unwrap(), Vec::<String>::new());

    // The comparison itself: one changed value is seen.
    w.execute("update fact_payment set payment_amount = payment_amount + 1 where payment_id = 1").await;
    assert_eq!(compare_all(&other, &reader, YEARS).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_warehouse_with_rows_from_before_is_taken_over() {
    let (source, other) = source().await;
    let before = "create domain email as varchar check (value like '%@%');
        alter table dim_staff alter column email_address type email;
        insert into dim_date select d, 2019, 1, 1, 0, 'x', 'y', 1 from generate_series('2022-12-30'::date, \
            '2022-12-31', '1 day') d;
        insert into dim_staff values (1, 'stale', 'stale', 'stale', 'stale', 'stale@x'), (999999, 'gone', '', '', '', '@');
        insert into dim_design values (999999, 'gone', 'x', 'y'); insert into dim_currency values (1, 'GBP', 'Pound');
        insert into dim_currency values (999999, 'XXX', 'gone'); insert into dim_location values (999999, 'gone', null, \
            null, 'c', 'p', 'c', 'p'); insert into dim_counterparty (counterparty_id, counterparty_legal_name, \
            counterparty_legal_address_line_1, counterparty_legal_city, counterparty_legal_postal_code, \
            counterparty_legal_country, counterparty_legal_phone_number) values (999999, '', '', '', '', '', '');
        insert into fact_sales_order (sales_order_id, created_date, created_time, last_updated_date, last_updated_time, \
            sales_staff_id, counterparty_id, units_sold, unit_price, currency_id, design_id, agreed_payment_date, \
            agreed_delivery_date, agreed_delivery_location_id) select id, '2022-12-30', '10:00', '2022-12-31', '10:00', \
            1, 999999, 1, 1, 999999, 999999, '2022-12-31', '2022-12-31', 999999 from unnest(array[1, 1, 2, 999999]) id";
    let (mut w, reader) = warehouse(before).await;
    let models = models(&source).await;
    let state = star(&source).await;
    let done = w.next(difference(&models, &Star::new(), &state)).await.unwrap();
    assert_eq!(report(&done, "fact_sales_order").retracted, 1);
    assert_eq!(report(&done, "dim_staff").retracted, 1);
    // The days that were there keep what they say, so the calendar is the one table that differs.
    let differences = compare_all(&other, &reader, YEARS).await.unwrap();
    assert!(differences.iter().all(|d| d.starts_with("current_dim_date")), "{differences:?}");
    let whole = "select count(*) = max(date_id) - min(date_id) + 1 from dim_date where date_id >= '2022-12-30'";
    assert_eq!(w.one(whole).await, "t");
    // Adopted once more, nothing is doubled.
    let rows = w.one("select count(*) from fact_sales_order").await;
    let head = w.head().await;
    let outcome = w.run(1, true, head, difference(&models, &Star::new(), &state)).await.unwrap();
    let LoadOutcome::Loaded(again) = outcome else { panic!("{outcome:?}") };
    assert_eq!(again.rows_written(), 0, "{again:?}");
    assert_eq!(w.one("select count(*) from fact_sales_order").await, rows);
}
