//! Rows that the warehouse refuses stand aside by key, column and reason, and come back once.

use starlift_core::model::ModelKind;
use starlift_core::{ErrorKind, Result};
use starlift_postgres::load::{self, LoadReport, MaySetAside, ModelTable};

use super::fixture::*;

const SQL: &str = "create table dim_shop (shop_id int primary key, name varchar(5) not null, region_id int);
    create table fact_sale (record_id serial primary key, sale_id int not null, shop_id int references dim_shop,
                            amount numeric(10,2) check (amount >= 0))";
const ENTRIES: &str = "select model, key, column_name, reason, value, run_id, seq from starlift.refused order by 1, 2";
const NAMES: &str = "select model || ' ' || (select string_agg(v, ',') from jsonb_each_text(key) e (k, v)) || ' ' || \
                     column_name from starlift.refused order by 1";

fn shop() -> ModelTable {
    dimension("dim_shop", "shop_id int4, name text, region_id int4")
}

fn sale() -> ModelTable {
    refers(fact("fact_sale", "sale_id int4, shop_id int4, amount numeric(38,10)"), "shop_id", "dim_shop")
}

/// A warehouse whose loads may set so many rows aside, after a load of two shops with a sale each.
async fn loaded(rows: u64) -> Warehouse {
    let mut w = Warehouse::with(SQL).await;
    w.aside.rows = rows;
    w.next(vec![
        change(&shop(), &[&["1", "a", NULL], &["2", "b", NULL]]),
        change(&sale(), &[&["1", "1", "5"], &["2", "2", "6"]]),
    ])
    .await
    .unwrap();
    w
}

async fn next(w: &mut Warehouse, shops: &[&[&str]], sales: &[&[&str]]) -> Result<LoadReport> {
    w.next(vec![change(&shop(), shops), change(&sale(), sales)]).await
}

/// New rows that were set aside, and all that stand aside afterwards.
fn aside(done: &LoadReport, model: &str) -> (u64, u64) {
    let of_model = report(done, model);
    (of_model.refused.rows(), of_model.aside)
}

#[tokio::test]
async fn a_row_stands_aside_hides_the_older_one_and_comes_back_once() {
    let mut w = loaded(1).await;
    let done = next(&mut w, &[], &[&["1", "1", "0.001"], &["3", "1", "7"]]).await.unwrap();
    assert_eq!(aside(&done, "fact_sale"), (1, 1));
    assert_eq!(report(&done, "fact_sale").inserted, 1);
    let entry = "fact_sale|{\"sale_id\": 1}|amount|it needs more than 2 decimals|~|run|2";
    assert_eq!(w.rows(ENTRIES).await, [entry]);
    assert_eq!(w.rows("select sale_id from current_fact_sale order by 1").await, ["2", "3"]);
    // It is not read again: nothing has changed that could help it.
    let done = next(&mut w, &[&["2", "bb", NULL]], &[]).await.unwrap();
    assert_eq!((report(&done, "fact_sale").staged, aside(&done, "fact_sale")), (0, (0, 1)));
    // As bad as before, for another reason: it is not counted again, and the limit of one is not passed.
    let done = next(&mut w, &[], &[&["1", "1", "123456789.5"], &["4", "1", "0.004"]]).await.unwrap();
    assert_eq!(aside(&done, "fact_sale"), (1, 2));
    assert_eq!(
        w.rows("select reason from starlift.refused order by key").await,
        ["it needs more than 8 digits before the point", "it needs more than 2 decimals"]
    );
    // One is mended, and equals the version that the warehouse has; the other is gone.
    w.next(vec![change(&shop(), &[]), change(&sale(), &[&["1", "1", "5"]]).gone(&[&["4"]])]).await.unwrap();
    assert_eq!(w.one("select count(*) from starlift.refused").await, "0");
    assert_eq!(w.rows("select sale_id, amount from fact_sale order by 1").await, ["1|5.00", "2|6.00", "3|7.00"]);
    assert_eq!(w.one("select count(*) from current_fact_sale").await, "3");
}

#[tokio::test]
async fn more_than_the_limit_stops_and_a_person_may_let_them_through() {
    let mut w = loaded(1).await;
    let before = w.rows("select * from starlift.ledger").await;
    let bad: &[&[&str]] = &[&["1", "1", "0.001"], &["2", "2", "0.001"]];
    let error = next(&mut w, &[&["3", "c", NULL]], bad).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    let said = text(&error);
    for part in ["2 rows of model `fact_sale`", "sale_id=1, sale_id=2", "numeric(10,2)", "starlift quarantine accept"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("0.001"), "{said}");
    assert_eq!(w.rows("select * from starlift.ledger").await, before);
    assert_eq!(w.one("select count(*) from dim_shop").await, "2");
    // Rows of all models together are what is limited.
    let error = next(&mut w, &[&["3", "a long name", NULL]], &bad[..1]).await.unwrap_err();
    assert!(text(&error).contains("fact_sale"), "{}", text(&error));
    w.aside.accepted = ["fact_sale".to_string()].into();
    let done = next(&mut w, &[&["3", "a long name", NULL]], bad).await.unwrap();
    assert_eq!((aside(&done, "dim_shop"), aside(&done, "fact_sale")), ((1, 1), (2, 2)));
}

#[tokio::test]
async fn a_mended_table_and_another_try_are_enough() {
    let mut w = loaded(2).await;
    w.aside.keep_values = true;
    next(&mut w, &[&["1", "a long name", NULL]], &[&["2", "2", "0.001"]]).await.unwrap();
    assert_eq!(
        w.rows("select model, reason, value from starlift.refused where waits_for is null order by 1").await,
        ["dim_shop|it is longer than 5 characters|a long name", "fact_sale|it needs more than 2 decimals|0.001"]
    );
    let models = [&shop(), &sale()];
    let done = w.retry(&models).await.unwrap();
    assert!(done.models.iter().all(|m| m.staged == 0), "{done:?}");
    w.aside.replay = true;
    let done = w.retry(&models).await.unwrap();
    assert_eq!((report(&done, "dim_shop").staged, aside(&done, "dim_shop")), (1, (0, 1)));
    w.aside.replay = false;

    w.execute(
        "drop view current_dim_shop, current_fact_sale; alter table dim_shop alter name type text; \
         alter table fact_sale alter amount type numeric",
    )
    .await;
    let head = w.head().await;
    let done = w.retry(&models).await.unwrap();
    assert_eq!((report(&done, "dim_shop").updated, report(&done, "fact_sale").inserted), (1, 1));
    assert_eq!(w.one("select count(*) from starlift.refused").await, "0");
    assert_eq!(w.rows("select sale_id, amount from current_fact_sale order by 1").await, ["1|5.00", "2|0.001"]);
    assert_eq!(w.one("select count(*) from fact_sale where sale_id = 1").await, "1", "its version was there");
    assert_eq!(w.head().await, head);
    assert_eq!(w.retry(&models).await.unwrap().rows_written(), 0);
}

#[tokio::test]
async fn facts_wait_uncounted_for_their_dimension_row_and_come_back_with_it() {
    let mut w = loaded(1).await;
    // One fact is there, one is new; a third refers to another row.
    let done = next(&mut w, &[&["1", "a long name", NULL]], &[&["3", "1", "8"], &["2", "2", "9"]]).await.unwrap();
    assert_eq!((aside(&done, "dim_shop"), aside(&done, "fact_sale")), ((1, 1), (0, 2)));
    assert_eq!(w.rows(NAMES).await, ["dim_shop 1 name", "fact_sale 1 shop_id", "fact_sale 3 shop_id"]);
    let reason = "select distinct reason from starlift.refused where model = 'fact_sale'";
    assert_eq!(w.rows(reason).await, ["it waits for its row in `dim_shop`, which stands aside"]);
    assert_eq!(w.rows("select sale_id from current_fact_sale").await, ["2"]);
    assert_eq!(w.rows("select shop_id from current_dim_shop").await, ["2"]);
    // While nothing happens to the dimension row they are not read; a newer version waits as well.
    let done = next(&mut w, &[&["2", "bb", NULL]], &[&["1", "1", "50"]]).await.unwrap();
    assert_eq!((report(&done, "fact_sale").staged, aside(&done, "fact_sale")), (1, (0, 2)));
    // One that goes elsewhere is in.
    next(&mut w, &[], &[&["3", "2", "8"]]).await.unwrap();
    assert_eq!(w.rows(NAMES).await, ["dim_shop 1 name", "fact_sale 1 shop_id"]);
    // A row that waited counts once it is refused itself.
    w.aside.rows = 0;
    let error = next(&mut w, &[&["1", "aa", NULL]], &[&["1", "1", "0.001"]]).await.unwrap_err();
    assert!(text(&error).contains("sale_id=1"), "{}", text(&error));
    let done = next(&mut w, &[&["1", "aa", NULL]], &[&["1", "1", "50"]]).await.unwrap();
    assert_eq!((report(&done, "dim_shop").updated, report(&done, "fact_sale").inserted), (1, 1));
    assert_eq!(w.one("select count(*) from starlift.refused").await, "0");
    assert_eq!(
        w.rows("select sale_id, shop_id, amount from current_fact_sale order by 1").await,
        ["1|1|50.00", "2|2|9.00", "3|2|8.00"]
    );
}

#[tokio::test]
async fn facts_come_back_by_themselves_and_are_missed_when_the_dimension_row_is_gone() {
    let mut w = loaded(1).await;
    next(&mut w, &[&["1", "a long name", NULL]], &[]).await.unwrap();
    let done = next(&mut w, &[&["1", "back", NULL]], &[]).await.unwrap();
    let sales = report(&done, "fact_sale");
    assert_eq!((sales.staged, sales.inserted, sales.returned), (1, 0, 1));
    assert_eq!(w.one("select count(*) from starlift.refused").await, "0");
    assert_eq!(w.one("select count(*) from current_fact_sale").await, "2");

    next(&mut w, &[&["3", "a long name", NULL]], &[&["3", "3", "1"]]).await.unwrap();
    let done = w.next(vec![change(&shop(), &[]).gone(&[&["3"]]), change(&sale(), &[])]).await.unwrap();
    assert_eq!(aside(&done, "fact_sale"), (1, 1));
    assert_eq!(w.rows("select reason from starlift.refused").await, ["it has no row in `dim_shop`"]);
    next(&mut w, &[&["3", "c", NULL]], &[]).await.unwrap();
    assert_eq!(w.one("select count(*) from current_fact_sale").await, "3");
}

#[tokio::test]
async fn what_only_the_server_refuses_is_found_row_by_row() {
    let sql = "create domain positive as int check (value > 0);
        create function odd() returns trigger language plpgsql as $$ begin
            if new.code = 'secret' then raise exception 'no %', new.code; end if; return new; end $$;
        create table pair (a int, b int, primary key (a, b)); insert into pair values (1, 1);
        create table dim_thing (thing_id int primary key, code text unique, size positive, a int, b int,
            during int4range, check (size < 100), constraint pairs foreign key (a, b) references pair,
            constraint apart exclude using gist (during with &&));
        create trigger odd before insert or update on dim_thing for each row execute function odd()";
    let thing = dimension("dim_thing", "thing_id int4, code text, size int4, a int4, b int4, during text");
    let mut w = Warehouse::with(sql).await;
    w.aside.rows = 10;
    let good: Vec<Vec<String>> = (1..=200)
        .map(|i| vec![i.to_string(), format!("c{i}"), "5".into(), "1".into(), "1".into(), NULL.into()])
        .collect();
    let mut rows = good.clone();
    let wrong = [(3, 1, "c2"), (50, 2, "0"), (51, 2, "100"), (99, 3, "7"), (120, 1, "secret"), (200, 5, "[1,5)")];
    for (row, column, value) in wrong {
        rows[row - 1][column] = value.into();
    }
    rows[198][5] = "[4,9)".into();
    w.aside.rows = 5;
    let error = w.next(vec![Change { model: thing.clone(), rows: rows.clone(), gone: vec![] }]).await.unwrap_err();
    assert!(text(&error).contains("6 rows of model `dim_thing`"), "{}", text(&error));
    w.aside.rows = 6;
    let done = w.next(vec![Change { model: thing.clone(), rows, gone: vec![] }]).await.unwrap();
    assert_eq!((report(&done, "dim_thing").inserted, aside(&done, "dim_thing")), (194, (6, 6)));
    let entries = w.rows("select key ->> 'thing_id', column_name, reason from starlift.refused order by key").await;
    assert_eq!(
        entries,
        [
            "3|code|it breaks the unique constraint `dim_thing_code_key`; a row that is gone, or changes too, may hold its value",
            "50|size|it fails the check `positive_check`",
            "51|size|it fails the check `dim_thing_size_check`",
            "99|?|it breaks the foreign key `pairs`",
            "120|?|the warehouse refuses it: a function or trigger of the database refused (SQLSTATE P0001)",
            "200|during|it breaks the exclusion constraint `apart`",
        ]
    );
    // The warehouse is mended for one of them; the others are tried and refused again, and not counted.
    w.aside.rows = 0;
    w.execute("insert into pair values (7, 1)").await;
    let done = w.retry(&[&thing]).await.unwrap();
    assert_eq!((report(&done, "dim_thing").inserted, aside(&done, "dim_thing")), (1, (0, 5)));
    // With a limit, what stops it is named by key.
    let error = w.next(vec![change(&thing, &[&["7", "c7", "500", "1", "1", NULL]])]).await.unwrap_err();
    assert!(text(&error).contains("`size` (positive) fails the check `dim_thing_size_check` (1 row: thing_id=7)"));
}

/// A dimension and a fact of 1,500 rows each, of which every seventh or so is bad in one of four ways, two at a time.
async fn many_bad_rows(w: &mut Warehouse) -> LoadReport {
    let thing = dimension("dim_thing", "thing_id int4, code text, size int4");
    let event = fact("fact_event", "event_id int4, size int4");
    w.aside.accepted = ["dim_thing".to_string(), "fact_event".to_string()].into();
    let things: Vec<Vec<String>> = (1..=1_500)
        .map(|i| {
            let code = if i % 14 == 0 { format!("c{}", i - 13) } else { format!("c{i}") };
            let size = if i % 21 == 0 || i > 1_400 { 100 + i } else { i % 50 };
            vec![i.to_string(), code, size.to_string()]
        })
        .collect();
    let events: Vec<Vec<String>> =
        (1..=1_500).map(|i| vec![i.to_string(), if i % 7 == 0 { "-1".into() } else { "1".into() }]).collect();
    w.next(vec![
        Change { model: thing, rows: things, gone: vec![] },
        Change { model: event, rows: events, gone: vec![] },
    ])
    .await
    .unwrap()
}

#[tokio::test]
async fn rows_are_found_inside_the_server_as_from_outside() {
    let sql = "create table dim_thing (thing_id int primary key, code text unique, size int check (size < 100));
        create table fact_event (record_id serial primary key, event_id int, size int check (size >= 0));
        insert into dim_thing select i, 'old' || i, 1 from generate_series(2, 1500, 3) i";
    let all = "select model, key, column_name, reason from starlift.refused order by 1, 2";
    let mut inside = Warehouse::with(sql).await;
    let done = many_bad_rows(&mut inside).await;
    let mut outside = Warehouse::with(&format!("{sql}; drop extension plpgsql")).await;
    assert_eq!(many_bad_rows(&mut outside).await.models, done.models);
    let entries = inside.rows(all).await;
    assert_eq!(entries, outside.rows(all).await);
    assert_eq!(entries.len() as u64, report(&done, "dim_thing").aside + report(&done, "fact_event").aside);
    assert_eq!(report(&done, "fact_event").aside, 214);
    let rows = "select t.* from dim_thing t union all select event_id, null, size from fact_event order by 1, 2, 3";
    assert_eq!(inside.rows(rows).await, outside.rows(rows).await);
    assert!(entries.iter().any(|entry| entry.contains("breaks the unique constraint `dim_thing_code_key`")));
    assert!(entries.iter().any(|entry| entry.contains("fails the check `dim_thing_size_check`")));
}

#[tokio::test]
async fn a_refusal_that_is_of_no_row_stops_the_load() {
    let sql = format!(
        "{SQL}; create function closed() returns trigger language plpgsql as $$ begin raise exception 'closed'; end $$;
         create trigger closed before insert on dim_shop for each statement execute function closed()"
    );
    let mut w = Warehouse::with(&sql).await;
    w.aside.accepted = ["dim_shop".to_string()].into();
    let error = next(&mut w, &[&["1", "a", NULL]], &[]).await.unwrap_err();
    assert!(text(&error).contains("P0001"), "{}", text(&error));
    assert_eq!(w.one("select count(*) from pg_namespace where nspname = 'starlift'").await, "0");
}

#[tokio::test]
async fn dimensions_wait_for_one_another_and_for_themselves() {
    let sql = "create table dim_region (region_id int primary key, name varchar(3));
        create table dim_shop (shop_id int primary key, region_id int references dim_region, parent int references dim_shop);
        create table fact_sale (record_id serial primary key, sale_id int, shop_id int references dim_shop)";
    let region = dimension("dim_region", "region_id int4, name text");
    let shop = dimension("dim_shop", "shop_id int4, region_id int4, parent int4");
    let sale = fact("fact_sale", "sale_id int4, shop_id int4");
    let mut w = Warehouse::with(sql).await;
    w.aside.rows = 1;
    let first = |name: &str| {
        vec![
            change(&region, &[&["1", name], &["2", "two"]]),
            change(&shop, &[&["1", "1", NULL], &["2", "2", "1"], &["3", "2", NULL], &["4", "2", "2"]]),
            change(&sale, &[&["1", "1"], &["2", "4"], &["3", "3"]]),
        ]
    };
    let done = w.next(first("much too long")).await.unwrap();
    assert_eq!(report(&done, "dim_region").refused.rows(), 1);
    assert_eq!((aside(&done, "dim_shop"), aside(&done, "fact_sale")), ((0, 3), (0, 2)));
    assert_eq!(w.rows("select sale_id from current_fact_sale").await, ["3"]);
    w.next(vec![change(&region, &[&["1", "one"]]), change(&shop, &[]), change(&sale, &[])]).await.unwrap();
    assert_eq!(w.one("select count(*) from starlift.refused").await, "0");
    assert_eq!(w.one("select count(*) from current_fact_sale").await, "3");
    assert_eq!(w.one("select count(*) from current_dim_shop").await, "4");
    // All of it is there now, and goes with the region: also facts of shops that wait.
    w.next(vec![change(&region, &[&["1", "much too long"]]), change(&shop, &[]), change(&sale, &[])]).await.unwrap();
    assert_eq!(w.rows("select sale_id from current_fact_sale order by 1").await, ["2", "3"]);
    assert_eq!(w.rows(NAMES).await, ["dim_region 1 name", "dim_shop 1 region_id", "fact_sale 1 shop_id"]);
    w.next(vec![change(&region, &[&["1", "one"]]), change(&shop, &[]), change(&sale, &[])]).await.unwrap();
    assert_eq!(w.one("select count(*) from current_fact_sale").await, "3");
    assert_eq!(w.one("select count(*) from fact_sale").await, "3", "no version came twice");
}

#[tokio::test]
async fn adoption_and_the_path_without_foreign_keys_come_to_the_same() {
    let rows: Vec<Vec<String>> = (1..=10_050)
        .map(|i| vec![i.to_string(), (i % 2 + 1).to_string(), if i == 77 { "-5" } else { "5" }.into()])
        .collect();
    let mut ends = Vec::new();
    for bulk in [true, false] {
        let sql = match bulk {
            true => SQL.to_string(),
            false => format!(
                "{SQL}; insert into dim_shop values (9, 'old'); insert into fact_sale (sale_id, shop_id) values (0, 9)"
            ),
        };
        let mut w = Warehouse::with(&sql).await;
        w.aside.rows = 3;
        let shops = change(&shop(), &[&["1", "a", NULL], &["2", "a long name", NULL]]);
        let sales = Change { model: sale(), rows: rows.clone(), gone: vec![] };
        let done = w.next(vec![shops, sales]).await.unwrap();
        assert_eq!((aside(&done, "dim_shop"), aside(&done, "fact_sale")), ((1, 1), (0, 5_025)));
        next(&mut w, &[&["2", "b", NULL]], &[]).await.unwrap();
        assert_eq!(w.one("select count(*) from pg_constraint where conname = 'fact_sale_shop_id_fkey'").await, "1");
        let sums = "select count(*), sum(amount), count(distinct sale_id) from current_fact_sale";
        ends.push((
            w.rows(sums).await,
            w.rows(NAMES).await,
            w.rows("select shop_id from current_dim_shop order by 1").await,
        ));
        // Again is the same.
        let head = w.head().await;
        let state = w.state.clone();
        let all = |model: &ModelTable| Change { model: model.clone(), rows: state[&model.name].clone(), gone: vec![] };
        let outcome = w.run(w.seq, true, head, vec![all(&shop()), all(&sale())]).await.unwrap();
        let load::LoadOutcome::Loaded(done) = outcome else { panic!("{outcome:?}") };
        assert_eq!((done.rows_written(), aside(&done, "fact_sale")), (0, (0, 1)));
    }
    assert_eq!(ends[0], ends[1]);
    assert_eq!(ends[0].1, ["fact_sale 77 amount"]);
    assert_eq!(ends[0].0, [format!("10049|{}.00|10049", 5 * 10_049)]);
}

#[tokio::test]
async fn a_key_that_the_table_cannot_hold_and_keys_of_every_type_stand_aside() {
    let mut w = Warehouse::with("create table dim_a (id smallint primary key, v int)").await;
    w.aside.rows = 2;
    let a = dimension("dim_a", "id int8, v int4");
    w.next(vec![change(&a, &[&["1", "1"], &["99999999999", "2"]])]).await.unwrap();
    assert_eq!(w.rows("select key, column_name from starlift.refused").await, ["{\"id\": 99999999999}|id"]);
    w.execute("drop view current_dim_a; alter table dim_a alter id type bigint").await;
    w.retry(&[&a]).await.unwrap();
    assert_eq!(w.rows("select id from current_dim_a order by 1").await, ["1", "99999999999"]);

    for (model_type, table_type, key) in [
        ("text", "text", "a \"b\" é"),
        ("numeric(20,3)", "numeric", "12.5"),
        ("date", "date", "2024-02-29"),
        ("timestamp", "timestamp", "2024-02-29T01:02:03.000004"),
        ("timestamptz", "timestamptz", "2024-02-29T01:02:03.000004"),
        ("uuid", "uuid", "6d9f1e3a-0a55-4c5e-9c0e-0f6f3f0f8f11"),
        ("bool", "bool", "true"),
        ("float8", "float8", "0.1"),
        ("time", "time", "01:02:03"),
    ] {
        let mut w = Warehouse::with(&format!("create table dim_k (k {table_type} primary key, v varchar(1))")).await;
        w.aside.rows = 1;
        let model = dimension("dim_k", &format!("k {model_type}, v text"));
        w.next(vec![change(&model, &[&[key, "v"]])]).await.unwrap();
        w.next(vec![change(&model, &[&[key, "long"]])]).await.unwrap();
        assert_eq!(w.one("select count(*) from current_dim_k").await, "0", "{model_type}");
        let keys = load::refused_keys(&w.client, PIPELINE, &model).await.unwrap();
        let star = batch(&model.schema.columns, &[vec![key.into(), "v".into()]]);
        assert_eq!(keys[0].column(0), star.column(0), "{model_type}");
        w.next(vec![change(&model, &[&[key, "w"]])]).await.unwrap();
        assert_eq!(w.one("select count(*) from starlift.refused").await, "0", "{model_type}");
        assert_eq!(w.rows("select v from current_dim_k").await, ["w"], "{model_type}");
    }
}

#[tokio::test]
async fn a_later_manifest_decides_about_rows_that_it_has() {
    let mut w = loaded(0).await;
    w.later(&sale(), &[&["1", "1", "1"]]);
    let done = next(&mut w, &[], &[&["1", "1", "-1"], &["2", "2", "0.001"]]).await;
    assert!(text(&done.unwrap_err()).contains("sale_id=2"));
    w.later(&sale(), &[&["1", "1", "1"], &["2", "2", "1"]]);
    let done = next(&mut w, &[], &[&["1", "1", "-1"], &["2", "2", "0.001"]]).await.unwrap();
    assert_eq!((report(&done, "fact_sale").passed_over, aside(&done, "fact_sale")), (2, (0, 0)));
}

#[tokio::test]
async fn pipelines_have_entries_of_their_own_and_clearing_removes_them() {
    let mut w = loaded(1).await;
    next(&mut w, &[&["1", "a long name", NULL]], &[]).await.unwrap();
    let counts = load::refused_counts(&w.client, PIPELINE).await.unwrap();
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [("dim_shop".to_string(), 1), ("fact_sale".to_string(), 1)]);
    assert!(load::refused_counts(&w.client, "another").await.unwrap().is_empty());
    assert!(!load::position(&w.client, "another", STAR).await.unwrap().has_refused);
    load::clear(&mut w.client, "another", "public", &[]).await.unwrap();
    assert!(load::position(&w.client, PIPELINE, STAR).await.unwrap().has_refused);
    load::clear(&mut w.client, PIPELINE, "public", &[shop(), sale()]).await.unwrap();
    assert!(!load::position(&w.client, PIPELINE, STAR).await.unwrap().has_refused);
}

#[tokio::test]
async fn rows_of_a_model_that_the_star_has_no_more_are_forgotten() {
    let mut w = loaded(1).await;
    next(&mut w, &[], &[&["1", "1", "0.001"]]).await.unwrap();
    assert_eq!(w.rows(NAMES).await, ["fact_sale 1 amount"]);
    w.next(vec![change(&shop(), &[])]).await.unwrap();
    assert_eq!(w.one("select count(*) from starlift.refused").await, "0");
}

#[tokio::test]
async fn a_day_of_the_calendar_never_stands_aside() {
    let mut w = Warehouse::with("create table dim_date (date_id date primary key, year smallint)").await;
    w.aside = MaySetAside { rows: 9, ..MaySetAside::default() };
    let calendar = model("dim_date", ModelKind::Calendar, "date_id date, year int4");
    let error = w.next(vec![change(&calendar, &[&["2024-01-01", "99999"]])]).await.unwrap_err();
    assert!(text(&error).contains("is outside -32768 to 32767"), "{}", text(&error));
}
