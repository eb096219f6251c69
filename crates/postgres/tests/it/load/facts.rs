//! Facts keep versions.

use starlift_postgres::load::LoadOutcome;

use super::fixture::*;

const SQL: &str = "create table fact_sale (
    record_id serial primary key, sale_id int not null, at time, amount numeric(10,2), note varchar(5))";

fn sale() -> starlift_postgres::load::ModelTable {
    fact("fact_sale", "sale_id int4, at time, amount numeric(38,10), note text")
}

#[tokio::test]
async fn a_fresh_load_appends_rows_in_the_order_of_their_key() {
    let mut w = Warehouse::with(SQL).await;
    let rows: &[&[&str]] = &[&["3", "10:00:00", "3.5", "c"], &["1", "11:00:00", "1", NULL], &["2", NULL, NULL, "b"]];
    let done = w.next(vec![change(&sale(), rows)]).await.unwrap();
    assert_eq!(report(&done, "fact_sale").inserted, 3);
    assert_eq!(
        w.rows("select * from fact_sale order by record_id").await,
        ["1|1|11:00:00|1.00|~", "2|2|~|~|b", "3|3|10:00:00|3.50|c"]
    );
    assert_eq!(w.rows("select * from current_fact_sale order by 1").await.len(), 3);
    let ledger = w.one("select pipeline, star_id, seq, manifest_sha256, run_id from starlift.ledger").await;
    assert_eq!(ledger, "shop|star-1|1|hash 1|run");
    let counts = w.one("select rows -> 'models' -> 'fact_sale' ->> 'inserted' from starlift.ledger").await;
    assert_eq!(counts, "3");
}

#[tokio::test]
async fn the_same_manifest_again_changes_nothing() {
    let mut w = Warehouse::with(SQL).await;
    w.next(vec![change(&sale(), &[&["1", NULL, "1", NULL]])]).await.unwrap();
    let head = w.head().await;
    w.next(vec![change(&sale(), &[&["1", NULL, "2", NULL]])]).await.unwrap();
    let again = w.run(2, false, head, vec![change(&sale(), &[&["1", NULL, "2", NULL]])]).await.unwrap();
    assert!(matches!(again, LoadOutcome::AlreadyLoaded), "{again:?}");
    let first = w.run(1, true, None, vec![change(&sale(), &[&["1", NULL, "1", NULL]])]).await.unwrap();
    assert!(matches!(first, LoadOutcome::AlreadyLoaded), "{first:?}");
    assert_eq!(w.one("select count(*) from fact_sale").await, "2");
    assert_eq!(w.one("select count(*) from starlift.ledger").await, "2");
}

#[tokio::test]
async fn a_load_that_was_planned_from_another_head_is_sent_back() {
    let mut w = Warehouse::with(SQL).await;
    w.next(vec![change(&sale(), &[&["1", NULL, "1", NULL]])]).await.unwrap();
    let head = w.head().await;
    let gap = w.run(3, false, head.clone(), vec![change(&sale(), &[&["1", NULL, "9", NULL]])]).await.unwrap();
    match gap {
        LoadOutcome::Moved { head: found } => assert_eq!(found, head),
        other => panic!("{other:?}"),
    }
    assert_eq!(w.one("select count(*) from fact_sale").await, "1");
}

#[tokio::test]
async fn versions_a_b_a_give_three_rows_and_a_is_current() {
    let mut w = Warehouse::with(SQL).await;
    for amount in ["1.5", "2.5", "1.5"] {
        let done = w.next(vec![change(&sale(), &[&["7", "08:00:00.000001", amount, "x"]])]).await.unwrap();
        assert_eq!(report(&done, "fact_sale").inserted, 1);
    }
    assert_eq!(w.rows("select amount from fact_sale order by record_id").await, ["1.50", "2.50", "1.50"]);
    assert_eq!(w.rows("select record_id, amount from current_fact_sale").await, ["3|1.50"]);
}

#[tokio::test]
async fn a_manifest_that_comes_again_out_of_order_appends_nothing() {
    let mut w = Warehouse::with(SQL).await;
    let mut heads = Vec::new();
    for amount in ["1.5", "2.5", "1.5"] {
        heads.push(w.head().await);
        w.next(vec![change(&sale(), &[&["7", NULL, amount, "x"]])]).await.unwrap();
    }
    // The second one, planned from where it was planned the first time, from now, or as if nothing were there: its
    // row differs from the newest version, so nothing but the ledger keeps it out.
    let now = w.head().await;
    for head in [heads[1].clone(), now.clone(), None] {
        let again = w.run(2, false, head, vec![change(&sale(), &[&["7", NULL, "2.5", "x"]])]).await.unwrap();
        assert!(matches!(again, LoadOutcome::AlreadyLoaded), "{again:?}");
    }
    // One of the same seq with another content is refused.
    w.execute("update starlift.ledger set manifest_sha256 = 'another' where seq = 2").await;
    let other = w.run(2, false, heads[1].clone(), vec![change(&sale(), &[&["7", NULL, "2.5", "x"]])]).await.unwrap();
    assert!(matches!(&other, LoadOutcome::Moved { head } if *head == now), "{other:?}");
    assert_eq!(w.rows("select amount from fact_sale order by record_id").await, ["1.50", "2.50", "1.50"]);
}

#[tokio::test]
async fn a_row_that_equals_the_newest_version_is_not_appended() {
    let mut w = Warehouse::with(SQL).await;
    let same: &[&[&str]] = &[&["1", "08:00:00", "1.50", "x"], &["2", NULL, NULL, NULL]];
    w.next(vec![change(&sale(), same)]).await.unwrap();
    let mut more = same.to_vec();
    more.push(&["3", NULL, "0", "new"]);
    let done = w.next(vec![change(&sale(), &more)]).await.unwrap();
    let sale = report(&done, "fact_sale");
    assert_eq!((sale.staged, sale.inserted, sale.unchanged), (3, 1, 2));
    assert_eq!(w.one("select count(*) from fact_sale").await, "3");
}

#[tokio::test]
async fn every_way_of_comparing_gives_the_same_rows() {
    let mut w = Warehouse::with(SQL).await;
    w.execute(
        "insert into fact_sale (sale_id, amount) select g % 3000, g / 3000 from generate_series(0, 8999) g;
         analyze fact_sale",
    )
    .await;
    // 3000 keys with three versions each: enough staged rows for the comparison by set.
    let rows: Vec<Vec<String>> = (0..3000)
        .map(|key| vec![key.to_string(), NULL.into(), if key % 10 == 0 { "5" } else { "2" }.into(), NULL.into()])
        .collect();
    let all = Change { model: sale(), rows: rows.clone(), gone: vec![] };
    let done = w.next(vec![all]).await.unwrap();
    assert_eq!((report(&done, "fact_sale").inserted, report(&done, "fact_sale").unchanged), (300, 2700));
    // And few: the comparison by lookup.
    let few = Change { model: sale(), rows: rows[..20].to_vec(), gone: vec![] };
    let done = w.next(vec![few]).await.unwrap();
    assert_eq!((report(&done, "fact_sale").inserted, report(&done, "fact_sale").unchanged), (0, 20));
    let in_order = "select bool_and(sale_id > before) from (select sale_id, lag(sale_id) over (order by record_id) as \
                    before from fact_sale where record_id > 9000) x where before is not null";
    assert_eq!(w.one(in_order).await, "t");
}

#[tokio::test]
async fn a_key_that_goes_and_returns_is_retracted_meanwhile_and_gets_no_second_version() {
    let mut w = Warehouse::with(SQL).await;
    let rows: &[&[&str]] = &[&["1", NULL, "1", NULL], &["2", NULL, "2", NULL]];
    w.next(vec![change(&sale(), rows)]).await.unwrap();
    let done = w.next(vec![change(&sale(), &[]).gone(&[&["1"], &["99"]])]).await.unwrap();
    assert_eq!(report(&done, "fact_sale").retracted, 2);
    assert_eq!(w.rows("select sale_id from current_fact_sale").await, ["2"]);
    assert_eq!(w.one("select count(*) from fact_sale").await, "2");
    assert_eq!(
        w.rows("select pipeline, model, key, seq from starlift.retracted order by key").await,
        ["shop|fact_sale|{\"sale_id\": 1}|2", "shop|fact_sale|{\"sale_id\": 99}|2"]
    );
    // Again is the same.
    let done = w.next(vec![change(&sale(), &[]).gone(&[&["1"]])]).await.unwrap();
    assert_eq!(report(&done, "fact_sale").retracted, 0);

    let done = w.next(vec![change(&sale(), &[&["1", NULL, "1", NULL]])]).await.unwrap();
    assert_eq!((report(&done, "fact_sale").returned, report(&done, "fact_sale").inserted), (1, 0));
    assert_eq!(w.rows("select sale_id from current_fact_sale order by 1").await, ["1", "2"]);

    w.next(vec![change(&sale(), &[]).gone(&[&["1"]])]).await.unwrap();
    let done = w.next(vec![change(&sale(), &[&["1", NULL, "1.01", NULL]])]).await.unwrap();
    assert_eq!((report(&done, "fact_sale").returned, report(&done, "fact_sale").inserted), (1, 1));
    assert_eq!(w.rows("select amount from current_fact_sale where sale_id = 1").await, ["1.01"]);
}

#[tokio::test]
async fn a_key_of_several_columns_works_throughout() {
    let mut w = Warehouse::with(
        "create table fact_stock (id bigint generated always as identity primary key, shop char(4), day date, \
         at timestamptz, pieces smallint)",
    )
    .await;
    let mut stock = fact("fact_stock", "day date, shop text, at timestamptz, pieces int4");
    stock.schema.key = vec!["shop".into(), "day".into(), "at".into()];
    let at = "2024-05-01T10:00:00Z";
    let rows: &[&[&str]] =
        &[&["2024-05-02", "b", at, "1"], &["2024-05-01", "b", at, "2"], &["2024-05-03", "a", at, "3"]];
    w.next(vec![change(&stock, rows)]).await.unwrap();
    assert_eq!(
        w.rows("select shop, day from fact_stock order by id").await,
        ["a   |2024-05-03", "b   |2024-05-01", "b   |2024-05-02"]
    );
    w.next(vec![change(&stock, &[&["2024-05-01", "b", at, "4"]]).gone(&[&["a", "2024-05-03", at]])]).await.unwrap();
    // The view must not depend on what a session has set.
    w.execute("set timezone = 'Asia/Tokyo'; set datestyle = 'German'").await;
    assert_eq!(w.rows("select pieces from current_fact_stock order by day").await, ["4", "1"]);
}

#[tokio::test]
async fn a_key_that_a_manifest_brings_twice_is_refused_by_name() {
    let mut w = Warehouse::with(SQL).await;
    let twice: &[&[&str]] = &[&["5", NULL, "1", NULL], &["5", NULL, "2", NULL]];
    let error = w.next(vec![change(&sale(), twice)]).await.unwrap_err();
    assert_eq!(error.kind(), starlift_core::ErrorKind::Data);
    assert!(text(&error).contains("sale_id=5"), "{}", text(&error));
    assert_eq!(w.one("select count(*) from fact_sale").await, "0");
}

#[tokio::test]
async fn a_fact_without_record_id_or_with_a_unique_key_is_refused() {
    for (sql, says) in [
        ("create table fact_sale (sale_id int primary key, at time, amount numeric, note text)", "no record id"),
        (
            "create table fact_sale (record_id uuid primary key, sale_id int, at time, amount numeric, note text)",
            "no record id",
        ),
        (
            "create table fact_sale (record_id serial primary key, sale_id int unique, at time, amount numeric, \
             note text)",
            "only once",
        ),
    ] {
        let mut w = Warehouse::with(sql).await;
        let error = w.next(vec![change(&sale(), &[&["1", NULL, "1", NULL]])]).await.unwrap_err();
        assert_eq!(error.kind(), starlift_core::ErrorKind::Config, "{sql}");
        assert!(text(&error).contains(says), "{}", text(&error));
    }
}

#[tokio::test]
async fn rows_that_name_their_record_ids_do_not_hide_the_versions_that_come_after_them() {
    for kind in ["serial", "int generated by default as identity", "int default nextval('own_ids')"] {
        let sql = format!(
            "create sequence own_ids; create table fact_sale (record_id {kind} primary key, sale_id int not null, at time, \
             amount numeric(10,2), note varchar(5)); \
             insert into fact_sale values (1, 7, null, 1, 'old'), (5000, 8, null, 1, 'old')"
        );
        let mut w = Warehouse::with(&sql).await;
        let rows: &[&[&str]] = &[&["7", NULL, "2", "new"], &["8", NULL, "2", "new"]];
        let state = || vec![change(&sale(), rows)];
        let head = w.head().await;
        let LoadOutcome::Loaded(done) = w.run(1, true, head, state()).await.unwrap() else { panic!("not loaded") };
        assert_eq!(report(&done, "fact_sale").inserted, 2, "{kind}");
        w.seq = 1;
        let current = w.rows("select sale_id, note from current_fact_sale order by 1").await;
        assert_eq!(current, ["7|new", "8|new"], "{kind}");
        let again = w.next(vec![change(&sale(), rows)]).await.unwrap();
        assert_eq!(report(&again, "fact_sale").inserted, 0, "{kind}");
    }
}

#[tokio::test]
async fn a_sequence_that_our_role_may_not_move_is_named_with_the_statement() {
    let owner = Warehouse::with(&format!("{SQL}; insert into fact_sale values (9, 7, null, 1, 'old')")).await;
    let role = format!("loader_{}", owner.database);
    owner.execute(&format!("create role \"{role}\" login")).await;
    let url = starlift_sandbox::shared().unwrap().url(&owner.database, &role);
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let mut loader = Warehouse { client, ..owner.again().await };
    let mut hints = Vec::new();
    loop {
        assert!(hints.len() < 5, "the statements do not suffice: {hints:?}");
        let head = loader.head().await;
        match loader.run(1, true, head, vec![change(&sale(), &[&["7", NULL, "2", "new"]])]).await {
            Ok(_) => break,
            Err(error) => {
                assert_eq!(error.kind(), starlift_core::ErrorKind::Permission, "{error:?}");
                let hint = error.hint().unwrap().to_string();
                let (_, sql) = hint.split_once('\n').or(hint.split_once(": ")).expect("statements");
                owner.execute(sql).await;
                hints.push(hint);
            }
        }
    }
    assert!(hints.iter().any(|hint| hint.contains("setval('fact_sale_record_id_seq'")), "{hints:?}");
    assert_eq!(owner.rows("select sale_id, note from current_fact_sale").await, ["7|new"]);
}

#[tokio::test]
async fn a_partitioned_table_keeps_versions_too() {
    let mut w = Warehouse::with(
        "create table fact_sale (record_id bigserial, sale_id int not null, day date not null, amount numeric(10,2), \
         primary key (record_id, day)) partition by range (day);
         create table fact_sale_a partition of fact_sale for values from ('2024-01-01') to ('2024-02-01');
         create table fact_sale_b partition of fact_sale default",
    )
    .await;
    let sale = fact("fact_sale", "sale_id int4, day date, amount numeric(38,10)");
    w.next(vec![change(&sale, &[&["1", "2024-01-05", "1"], &["2", "2024-03-05", "2"]])]).await.unwrap();
    // A version may be in another partition than the one before it, and with the same values is none.
    let done = w.next(vec![change(&sale, &[&["1", "2024-05-05", "1"], &["2", "2024-03-05", "2"]])]).await.unwrap();
    assert_eq!((report(&done, "fact_sale").inserted, report(&done, "fact_sale").unchanged), (1, 1));
    w.next(vec![change(&sale, &[]).gone(&[&["2"]])]).await.unwrap();
    assert_eq!(w.rows("select sale_id, day from current_fact_sale").await, ["1|2024-05-05"]);
    assert_eq!(w.one("select count(*) from fact_sale").await, "3");
}
