//! Dimensions hold one row per key.

use super::fixture::*;

const SQL: &str = "create table dim_shop (shop_id int primary key, name varchar not null, facts json, area float8)";

fn shop() -> starlift_postgres::load::ModelTable {
    dimension("dim_shop", "shop_id int4, name text, facts json, area float8")
}

#[tokio::test]
async fn only_rows_that_differ_are_written() {
    let mut w = Warehouse::with(SQL).await;
    let rows: &[&[&str]] = &[&["2", "b", "{\"a\": 1}", "NaN"], &["1", "a", NULL, "0.1"], &["3", "c", "[]", NULL]];
    let done = w.next(vec![change(&shop(), rows)]).await.unwrap();
    assert_eq!(report(&done, "dim_shop").inserted, 3);
    let before = w.rows("select shop_id, xmin from dim_shop order by 1").await;
    let rows: &[&[&str]] = &[&["2", "b", "{\"a\": 1}", "NaN"], &["1", "A", NULL, "0.1"], &["4", "d", NULL, NULL]];
    let done = w.next(vec![change(&shop(), rows)]).await.unwrap();
    let shop = report(&done, "dim_shop");
    assert_eq!((shop.staged, shop.inserted, shop.updated, shop.unchanged), (3, 1, 1, 1));
    let after = w.rows("select shop_id, xmin from dim_shop order by 1").await;
    assert_eq!((&before[1], &before[2]), (&after[1], &after[2]), "rows that are equal were not touched");
    assert_ne!(before[0], after[0]);
    assert_eq!(w.rows("select shop_id, name from current_dim_shop order by 1").await, ["1|A", "2|b", "3|c", "4|d"]);
}

#[tokio::test]
async fn json_is_compared_as_text() {
    let mut w = Warehouse::with(SQL).await;
    w.next(vec![change(&shop(), &[&["1", "a", "{\"a\":1}", NULL]])]).await.unwrap();
    let done = w.next(vec![change(&shop(), &[&["1", "a", "{\"a\":1}", NULL]])]).await.unwrap();
    assert_eq!(report(&done, "dim_shop").unchanged, 1);
    let done = w.next(vec![change(&shop(), &[&["1", "a", "{\"a\": 1}", NULL]])]).await.unwrap();
    assert_eq!(report(&done, "dim_shop").updated, 1);
    assert_eq!(w.one("select facts from dim_shop").await, "{\"a\": 1}");
}

#[tokio::test]
async fn a_retracted_row_stays_in_the_table_and_leaves_the_view() {
    let mut w = Warehouse::with(SQL).await;
    w.next(vec![change(&shop(), &[&["1", "a", NULL, NULL], &["2", "b", NULL, NULL]])]).await.unwrap();
    let done = w.next(vec![change(&shop(), &[]).gone(&[&["1"]])]).await.unwrap();
    assert_eq!(report(&done, "dim_shop").retracted, 1);
    assert_eq!(w.one("select count(*) from dim_shop").await, "2");
    assert_eq!(w.rows("select shop_id from current_dim_shop").await, ["2"]);
    let done = w.next(vec![change(&shop(), &[&["1", "a", NULL, NULL]])]).await.unwrap();
    assert_eq!((report(&done, "dim_shop").returned, report(&done, "dim_shop").unchanged), (1, 1));
    assert_eq!(w.rows("select shop_id from current_dim_shop order by 1").await, ["1", "2"]);
}

#[tokio::test]
async fn a_collation_that_takes_two_texts_for_one_leaves_no_row_stale() {
    let mut w = Warehouse::with(
        "create collation anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         create table dim_shop (shop_id int primary key, name varchar collate anycase not null, facts json, \
         area float8)",
    )
    .await;
    w.next(vec![change(&shop(), &[&["1", "Market", NULL, NULL]])]).await.unwrap();
    w.next(vec![change(&shop(), &[&["1", "MARKET", NULL, NULL]])]).await.unwrap();
    assert_eq!(w.one("select name from dim_shop").await, "MARKET");
}

#[tokio::test]
async fn a_dimension_without_a_unique_index_is_upserted_and_refused_where_a_key_is_doubled() {
    let sql = "create table dim_shop (shop_id int, name text, facts json, area float8)";
    let mut w = Warehouse::with(sql).await;
    w.execute("insert into dim_shop values (1, 'old', null, null)").await;
    w.next(vec![change(&shop(), &[&["1", "new", NULL, NULL], &["2", "b", NULL, NULL]])]).await.unwrap();
    assert_eq!(w.rows("select shop_id, name from dim_shop order by 1").await, ["1|new", "2|b"]);

    let mut w = Warehouse::with(sql).await;
    w.execute("insert into dim_shop values (1, 'x', null, null), (1, 'y', null, null)").await;
    let error = w.next(vec![change(&shop(), &[&["1", "new", NULL, NULL]])]).await.unwrap_err();
    assert!(text(&error).contains("shop_id=1"), "{}", text(&error));
}

#[tokio::test]
async fn a_dimension_of_its_key_alone_can_be_loaded() {
    let mut w = Warehouse::with("create table dim_day (day date primary key)").await;
    let day = dimension("dim_day", "day date");
    w.next(vec![change(&day, &[&["2024-01-01"], &["2024-01-02"]])]).await.unwrap();
    let done = w.next(vec![change(&day, &[&["2024-01-02"], &["2024-01-03"]])]).await.unwrap();
    assert_eq!((report(&done, "dim_day").inserted, report(&done, "dim_day").unchanged), (1, 1));
}

#[tokio::test]
async fn a_document_may_be_a_key_and_be_referred_to() {
    let mut place = dimension("dim_place", "place json, name text");
    let mut visit = refers(fact("fact_visit", "visit_id int4, place json"), "place", "dim_place");
    let mut w = Warehouse::with("select 1").await;
    let models = [place.clone(), visit.clone()];
    starlift_postgres::load::create(&mut w.client, PIPELINE, "public", None, &models).await.unwrap();
    let (one, two) = ("{\"x\":1,\"y\":\"a\"}", "{\"x\":1,\"y\":null}");
    w.next(vec![change(&place, &[&[one, "a"], &[two, "b"]]), change(&visit, &[&["1", one]])]).await.unwrap();
    let done =
        w.next(vec![change(&place, &[&[one, "A"]]).gone(&[&[two]]), change(&visit, &[&["2", one]])]).await.unwrap();
    assert_eq!((report(&done, "dim_place").updated, report(&done, "dim_place").retracted), (1, 1));
    assert_eq!(w.rows("select place, name from current_dim_place").await, [format!("{one}|A")]);
    assert_eq!(
        w.one("select count(*) from current_fact_visit where place = (select place from current_dim_place)").await,
        "2"
    );
    // A row that stands aside takes those along that refer to it, and comes back with them.
    w.execute("alter table dim_place add constraint short check (length(name) < 3)").await;
    w.aside.rows = 1;
    w.next(vec![change(&place, &[&[one, "long"]]), change(&visit, &[&["3", one]])]).await.unwrap();
    assert_eq!(w.one("select count(*) from current_dim_place").await, "0");
    w.next(vec![change(&place, &[&[one, "ok"]]), change(&visit, &[])]).await.unwrap();
    assert_eq!(w.one("select count(*) from current_fact_visit").await, "3");
    assert_eq!(w.one("select count(*) from starlift.refused").await, "0");

    // A column of the warehouse that is json cannot be compared: the message says what it has to be.
    w.execute("drop view current_dim_place; alter table fact_visit drop constraint fact_visit_place_fkey").await;
    w.execute("alter table dim_place drop constraint dim_place_pkey, alter place type json using place::json").await;
    let error = w.next(vec![change(&place, &[&[one, "no"]]), change(&visit, &[])]).await.unwrap_err();
    assert!(text(&error).contains("alter column \"place\" type text using \"place\"::text"), "{}", text(&error));

    place.name = "d".repeat(64);
    let error = starlift_postgres::load::create(&mut w.client, PIPELINE, "public", None, &[place]).await.unwrap_err();
    assert!(text(&error).contains("its name has 64 bytes"), "{}", text(&error));
    visit.schema.columns[1].name = "é".repeat(32);
    let error = starlift_postgres::load::create(&mut w.client, PIPELINE, "public", None, &[visit]).await.unwrap_err();
    assert!(text(&error).contains("has 64 bytes"), "{}", text(&error));
}
