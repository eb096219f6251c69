//! `warehouse create` and `warehouse clear`.

use starlift_core::model::ModelKind;
use starlift_core::{ErrorKind, Micros};
use starlift_postgres::load::{ModelTable, clear, count_rows, create, current_rows, entries, last_loaded_at};
use tokio_postgres::NoTls;

use super::fixture::*;

fn models() -> Vec<ModelTable> {
    let calendar = "date_id date, year int4, month int4, day int4, day_of_week int4, day_name text, month_name text, \
                    quarter int4";
    let sale = fact("fact_sale", "sale_id int4, shop_id int4, sold date, amount numeric(38,10)");
    vec![
        model("dim_date", ModelKind::Calendar, calendar),
        dimension("dim_shop", "shop_id int4, name text"),
        refers(refers(sale, "shop_id", "dim_shop"), "sold", "dim_date"),
    ]
}

fn changes() -> Vec<Change> {
    let models = models();
    vec![
        change(&models[0], &[]),
        change(&models[1], &[&["1", "a"]]),
        change(&models[2], &[&["1", "1", "2024-01-01", "12.5"]]),
    ]
}

#[tokio::test]
async fn tables_are_derived_from_the_models_where_the_project_has_no_script() {
    let mut w = Warehouse::with("select 1").await;
    w.schema = "star".into();
    let made = create(&mut w.client, PIPELINE, "star", None, &models()).await.unwrap();
    assert_eq!(made[..4], ["schema `star`", "table `dim_date`", "table `dim_shop`", "table `fact_sale`"]);
    assert!(made.contains(&"view `current_fact_sale`".to_string()), "{made:?}");
    assert!(create(&mut w.client, PIPELINE, "star", None, &models()).await.unwrap().is_empty());
    let done = w.next(changes()).await.unwrap();
    assert_eq!(done.dates_added, 366);
    assert_eq!(w.rows("select * from star.current_fact_sale").await, ["1|1|1|2024-01-01|12.5"]);
    assert_eq!(w.one("select count(*) from pg_constraint where contype = 'f'").await, "2");
}

#[tokio::test]
async fn the_projects_script_makes_only_what_is_missing() {
    let script = "create table if not exists dim_shop (shop_id int primary key, name varchar);
        create table if not exists dim_date (date_id date primary key, year int, month int, day int, day_of_week int, \
            day_name text, month_name text, quarter int);
        create table if not exists fact_sale (rid serial primary key, sale_id int, shop_id int, sold date, amount \
            numeric(5,1));";
    let mut w = Warehouse::with("create table dim_shop (shop_id int primary key, name text, extra text)").await;
    let made = create(&mut w.client, PIPELINE, "public", Some(script), &models()).await.unwrap();
    assert_eq!(made[..2], ["table `dim_date`", "table `fact_sale`"]);
    assert_eq!(
        w.one("select count(*) from pg_attribute where attrelid = 'dim_shop'::regclass and attname = 'extra'").await,
        "1"
    );

    let mut w = Warehouse::with("select 1").await;
    let error =
        create(&mut w.client, PIPELINE, "public", Some("create table dim_shop (shop_id int, name text)"), &models())
            .await
            .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(text(&error).contains("`warehouse.sql` makes no table `dim_date`"), "{}", text(&error));
    assert!(text(&error).contains("create table \"public\".\"dim_date\""), "{}", text(&error));
    assert_eq!(w.one("select count(*) from pg_tables where schemaname = 'public'").await, "0", "all or nothing");
}

#[tokio::test]
async fn clearing_empties_tables_ledger_and_retractions_and_the_next_load_adopts() {
    let mut w = Warehouse::with("select 1").await;
    create(&mut w.client, PIPELINE, "public", None, &models()).await.unwrap();
    w.next(changes()).await.unwrap();
    let gone = vec![change(&models()[0], &[]), change(&models()[1], &[]), change(&models()[2], &[]).gone(&[&["1"]])];
    w.next(gone).await.unwrap();
    w.execute("insert into starlift.retracted values ('other', 'm', '{}', 1)").await;
    let counts = count_rows(&w.client, "public", &models()).await.unwrap();
    assert_eq!(
        counts.into_iter().collect::<Vec<_>>(),
        [("dim_date".to_string(), 366), ("dim_shop".to_string(), 1), ("fact_sale".to_string(), 1)]
    );
    let cleared = clear(&mut w.client, PIPELINE, "public", &models()).await.unwrap();
    assert_eq!((cleared.tables.len(), cleared.truncated), (3, true));
    assert_eq!(w.head().await, None);
    assert_eq!(w.rows("select pipeline from starlift.retracted").await, ["other"]);
    let done = w.next(changes()).await.unwrap();
    assert_eq!(report(&done, "fact_sale").inserted, 1);
    assert_eq!(w.one("select fact_sale_record_id from fact_sale").await, "1", "record ids start again");
}

#[tokio::test]
async fn a_role_that_may_not_truncate_deletes() {
    let mut owner = Warehouse::with("select 1").await;
    create(&mut owner.client, PIPELINE, "public", None, &models()).await.unwrap();
    owner.next(changes()).await.unwrap();
    let role = format!("cleaner_{}", owner.database);
    owner
        .execute(&format!(
            "create role \"{role}\" login; grant select, delete on all tables in schema public to \"{role}\"; \
             grant usage on schema starlift to \"{role}\"; grant select, delete on all tables in schema starlift to \
             \"{role}\""
        ))
        .await;
    let url = starlift_sandbox::shared().unwrap().url(&owner.database, &role);
    let (mut client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let cleared = clear(&mut client, PIPELINE, "public", &models()).await.unwrap();
    assert!(!cleared.truncated);
    assert_eq!(owner.one("select count(*) from fact_sale").await, "0");
    assert_eq!(owner.one("select count(*) from dim_date").await, "0");
    assert_eq!(owner.one("select count(*) from starlift.ledger").await, "0");
}

#[tokio::test]
async fn history_and_freshness_come_from_the_ledger() {
    let mut w = Warehouse::with("select 1").await;
    assert!(entries(&w.client, PIPELINE, 5).await.unwrap().is_empty());
    assert_eq!(last_loaded_at(&w.client, PIPELINE).await.unwrap(), None);
    assert_eq!(current_rows(&w.client, "public", "fact_sale").await.unwrap(), None);
    create(&mut w.client, PIPELINE, "public", None, &models()).await.unwrap();
    w.next(changes()).await.unwrap();
    w.next(changes()).await.unwrap();
    let entries = entries(&w.client, PIPELINE, 5).await.unwrap();
    assert_eq!(entries.iter().map(|e| e.seq).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(entries[1].rows["dates_added"], 366);
    assert_eq!(entries[0].rows["models"]["fact_sale"]["unchanged"], 1);
    assert!(entries[1].loaded_at > Micros(0) && entries[1].started_at.unwrap() <= entries[1].loaded_at);
    assert_eq!(last_loaded_at(&w.client, PIPELINE).await.unwrap(), Some(entries[0].loaded_at));
    assert_eq!(current_rows(&w.client, "public", "fact_sale").await.unwrap(), Some(1));
}
