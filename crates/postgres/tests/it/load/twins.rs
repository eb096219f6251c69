//! Keys that are two in the star and one to their column: neither row overwrites or hides the other without a word.

use starlift_core::ErrorKind;
use starlift_postgres::load::{LoadOutcome, ModelTable};

use super::fixture::*;

const NAMES: &str =
    "select model || ' ' || (key ->> 'code') || ' ' || column_name || ': ' || reason from starlift.refused order by 1";
const REASON: &str = "it is to its column the key of another row, which reads differently";

/// A dimension and a fact whose keys have this type, and may set rows aside.
async fn warehouse(make: &str, code: &str) -> (Warehouse, [ModelTable; 2]) {
    let mut w = Warehouse::with(&format!(
        "{make}; create table dim_code (code {code} primary key, n int);
         create table fact_code (record_id serial primary key, code {code}, n int)"
    ))
    .await;
    w.aside.rows = 9;
    (w, [dimension("dim_code", "code text, n int4"), fact("fact_code", "code text, n int4")])
}

fn both(models: &[ModelTable; 2], rows: &[&[&str]], gone: &[&[&str]]) -> Vec<Change> {
    models.iter().map(|model| change(model, rows).gone(gone)).collect()
}

/// What the two views show, which has to be the same.
async fn current(w: &Warehouse) -> Vec<String> {
    let of_dimension = w.rows("select code, n from current_dim_code order by code::text collate \"C\"").await;
    let of_fact = w.rows("select code, n from current_fact_code order by code::text collate \"C\"").await;
    assert_eq!(of_dimension, of_fact);
    of_dimension
}

async fn aside(w: &Warehouse) -> Vec<String> {
    let codes = "select distinct key ->> 'code' from starlift.refused order by 1";
    w.rows(codes).await
}

const CITEXT: &str = "create extension citext";
const ANYCASE: &str = "create collation anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";

#[tokio::test]
async fn the_row_that_the_warehouse_has_stays_and_its_twin_waits_until_it_is_gone() {
    for (make, code) in [(CITEXT, "citext"), (ANYCASE, "text collate anycase")] {
        let (mut w, models) = warehouse(make, code).await;
        w.next(both(&models, &[&["k1", "1"], &["x", "0"]], &[])).await.unwrap();
        let done = w.next(both(&models, &[&["K1", "2"]], &[])).await.unwrap();
        assert_eq!(current(&w).await, ["k1|1", "x|0"], "{code}");
        assert_eq!(
            w.rows(NAMES).await,
            [format!("dim_code K1 code: {REASON}"), format!("fact_code K1 code: {REASON}")]
        );
        assert_eq!((report(&done, "fact_code").refused.rows(), report(&done, "fact_code").retracted), (1, 0));
        // It is tried again and not counted again; what changes of the other one arrives.
        let done = w.next(both(&models, &[&["k1", "3"]], &[])).await.unwrap();
        assert_eq!((report(&done, "dim_code").refused.rows(), report(&done, "dim_code").aside), (0, 1));
        assert_eq!(current(&w).await, ["k1|3", "x|0"], "{code}");
        w.next(both(&models, &[&["K1", "4"], &["k1", "4"]], &[])).await.unwrap();
        assert_eq!(current(&w).await, ["k1|4", "x|0"], "{code}");
        // The other one goes, and it comes in by itself.
        w.next(both(&models, &[], &[&["k1"]])).await.unwrap();
        assert_eq!(current(&w).await, ["K1|4", "x|0"], "{code}");
        assert!(aside(&w).await.is_empty());
        // Back again, it is the one that waits; what waits may go, and leaves the other where it is.
        w.next(both(&models, &[&["k1", "5"]], &[])).await.unwrap();
        assert_eq!((current(&w).await, aside(&w).await), (vec!["K1|4".into(), "x|0".into()], vec!["k1".into()]));
        w.next(both(&models, &[], &[&["k1"]])).await.unwrap();
        assert_eq!(current(&w).await, ["K1|4", "x|0"], "{code}");
        assert!(aside(&w).await.is_empty());
    }
}

#[tokio::test]
async fn twins_of_one_manifest_are_told_apart_and_stop_a_load_that_may_set_nothing_aside() {
    let (mut w, models) = warehouse(CITEXT, "citext").await;
    w.execute("alter table dim_code drop constraint dim_code_pkey").await;
    w.aside.rows = 0;
    let error = w.next(both(&models, &[&["a", "1"], &["A", "2"], &["b", "3"]], &[])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    let said = text(&error);
    assert!(said.contains("`code` (citext) is to its column the key of another row"), "{said}");
    assert!(said.contains("code=a)"), "{said}");
    w.aside.rows = 9;
    w.next(both(&models, &[&["a", "1"], &["A", "2"], &["b", "3"]], &[])).await.unwrap();
    assert_eq!((current(&w).await, aside(&w).await), (vec!["A|2".into(), "b|3".into()], vec!["a".into()]));
}

#[tokio::test]
async fn a_whole_state_keeps_what_the_warehouse_has_and_a_respelt_key_takes_its_place() {
    let (mut w, models) = warehouse(CITEXT, "citext").await;
    // An earlier version let the twin overwrite the row.
    w.execute("insert into dim_code values ('k1', 1), ('old', 1); insert into fact_code (code, n) values ('K1', 0), ('k1', 1), ('old', 1)")
        .await;
    w.next(both(&models, &[&["K1", "2"], &["k1", "1"], &["OLD", "3"]], &[])).await.unwrap();
    assert_eq!((current(&w).await, aside(&w).await), (vec!["OLD|3".into(), "k1|1".into()], vec!["K1".into()]));
    // Again is the same, also where only one model brings its whole state.
    let rows: &[&[&str]] = &[&["K1", "2"], &["k1", "1"], &["OLD", "3"]];
    let head = w.head().await;
    let done = w.run_whole(2, head, both(&models, rows, &[]), &["dim_code", "fact_code"]).await.unwrap();
    let LoadOutcome::Loaded(done) = done else { panic!("not loaded") };
    assert_eq!((done.rows_written(), report(&done, "dim_code").retracted), (0, 0));
    assert_eq!((current(&w).await, aside(&w).await), (vec!["OLD|3".into(), "k1|1".into()], vec!["K1".into()]));
}

#[tokio::test]
async fn a_row_that_stands_aside_makes_room_and_its_twin_hides_nothing() {
    let (mut w, models) = warehouse(CITEXT, "citext").await;
    w.execute("alter table dim_code add check (n < 100); alter table fact_code add check (n < 100)").await;
    w.next(both(&models, &[&["k1", "1"]], &[])).await.unwrap();
    // The warehouse takes neither row: the twin's must not hide what it has of the other.
    w.next(both(&models, &[&["K1", "100"]], &[])).await.unwrap();
    assert_eq!(current(&w).await, ["k1|1"]);
    w.next(both(&models, &[&["k1", "100"]], &[])).await.unwrap();
    assert!(current(&w).await.is_empty());
    assert_eq!(aside(&w).await, ["K1", "k1"]);
    // The place is the other one's for as long as the star has it.
    w.next(both(&models, &[&["K1", "2"]], &[])).await.unwrap();
    assert!(current(&w).await.is_empty());
    w.next(both(&models, &[], &[&["k1"]])).await.unwrap();
    assert_eq!((current(&w).await, aside(&w).await), (vec!["K1|2".into()], vec![]));
}

#[tokio::test]
async fn a_fact_waits_for_the_twin_that_it_refers_to() {
    let mut w = Warehouse::with(
        "create extension citext; create table dim_code (code citext primary key, n int);
         create table fact_use (record_id serial primary key, use_id int, code citext references dim_code)",
    )
    .await;
    w.aside.rows = 9;
    let models = [dimension("dim_code", "code text, n int4"), fact("fact_use", "use_id int4, code text")];
    let load = |codes: &[&[&str]], uses: &[&[&str]]| vec![change(&models[0], codes), change(&models[1], uses)];
    w.next(load(&[&["k1", "1"]], &[&["1", "k1"]])).await.unwrap();
    w.next(load(&[&["K1", "2"]], &[&["2", "K1"]])).await.unwrap();
    assert_eq!(w.rows("select use_id, code from current_fact_use").await, ["1|k1"]);
    w.next(vec![change(&models[0], &[]).gone(&[&["k1"]]), change(&models[1], &[]).gone(&[&["1"]])]).await.unwrap();
    assert_eq!(w.rows("select use_id, code from current_fact_use").await, ["2|K1"]);
}

#[tokio::test]
async fn spans_that_are_equal_are_twins_beside_a_text_that_is_none() {
    let (mut w, models) = warehouse("select 1", "interval").await;
    let rows: &[&[&str]] = &[&["1 day", "1"], &["24:00:00", "2"], &["no span", "3"], &["2 days", "4"]];
    models.iter().for_each(|model| w.later(model, &[&["no span", "3"]]));
    let done = w.next(both(&models, rows, &[])).await.unwrap();
    for model in ["dim_code", "fact_code"] {
        let of_model = report(&done, model);
        assert_eq!((of_model.passed_over, of_model.refused.rows(), of_model.inserted), (1, 1, 2), "{model}");
    }
    assert_eq!(w.rows("select code, n from current_fact_code order by code").await, ["1 day|1", "2 days|4"]);
    assert_eq!(aside(&w).await, ["24:00:00"]);
    w.next(both(&models, &[], &[&["1 day"]])).await.unwrap();
    for model in ["dim_code", "fact_code"] {
        assert_eq!(
            w.rows(&format!("select code, n from current_{model} order by code")).await,
            ["24:00:00|2", "2 days|4"]
        );
    }
    // Where nobody else brings it, the load stops by its key.
    w.later.clear();
    w.aside.rows = 0;
    let error = w.next(both(&models, &[&["no span", "3"]], &[])).await.unwrap_err();
    assert!(text(&error).contains("code=no span"), "{}", text(&error));
}

#[tokio::test]
async fn many_facts_are_compared_by_set_to_the_same_end() {
    let (mut w, models) = warehouse(CITEXT, "citext").await;
    w.aside.rows = 5_000;
    let rows = |prefix: &str, n: usize| -> Vec<Vec<String>> {
        (0..n).map(|i| vec![format!("{prefix}{i}"), "1".into()]).collect()
    };
    let of = |rows: Vec<Vec<String>>, gone: Vec<Vec<String>>| {
        let of = |model: &ModelTable| Change { model: model.clone(), rows: rows.clone(), gone: gone.clone() };
        models.iter().map(of).collect::<Vec<_>>()
    };
    w.next(of(rows("k", 3_000), vec![])).await.unwrap();
    // The first half is spelt anew, the second is twins.
    let gone = rows("k", 1_500).into_iter().map(|row| vec![row[0].clone()]).collect();
    let done = w.next(of(rows("K", 3_000), gone)).await.unwrap();
    for model in ["dim_code", "fact_code"] {
        assert_eq!(report(&done, model).refused.rows(), 1_500, "{model}");
        let sql =
            format!("select left(code::text, 1) collate \"C\", count(*) from current_{model} group by 1 order by 1");
        assert_eq!(w.rows(&sql).await, ["K|1500", "k|1500"], "{model}");
    }
}
