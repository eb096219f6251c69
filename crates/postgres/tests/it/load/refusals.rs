//! What the server refuses under codes that say nothing of rows, and rows that it refuses only while others are not in.

use starlift_core::ErrorKind;
use starlift_core::model::ModelKind;
use starlift_postgres::load::{LoadOutcome, ModelTable};

use super::fixture::*;

const SECRET: &str = "SECRETVALUE42";
const ASIDE: &str = "select key ->> 'id', column_name, reason from starlift.refused order by (key ->> 'id')::int";

/// Of types that starlift does not know, and with a trigger that casts a text. Their input functions refuse a value under 42704,
/// 42601, 3F000 and XX000, and quote it.
const BY_ANY_CODE: &str = "create function odd() returns trigger language plpgsql as $$ begin
        new.tsv := to_tsvector(new.lang::regconfig, 'a text');
        if new.lang = 'italian' then raise 'Syntax error near %', new.lang using errcode = 'XX000'; end if;
        return new; end $$;
    create table dim_q (id int primary key, lang text, cfg regconfig, path jsonpath, rel regclass, tsv tsvector);
    create trigger odd before insert or update on dim_q for each row execute function odd()";

fn q() -> ModelTable {
    dimension("dim_q", "id int4, lang text, cfg text, path text, rel text")
}

fn is_quoted(said: &str) -> bool {
    said.to_lowercase().contains("secretvalue42")
}

#[tokio::test]
async fn a_value_that_is_refused_under_any_code_stands_aside_by_key_and_is_not_said() {
    let mut w = Warehouse::with(BY_ANY_CODE).await;
    let path = format!("$[{SECRET}");
    let rel = format!("{SECRET}.t");
    let rows: &[&[&str]] = &[
        &["1", "english", "simple", "$.a", NULL],
        &["2", SECRET, NULL, NULL, NULL],
        &["3", "english", SECRET, NULL, NULL],
        &["4", "english", NULL, &path, NULL],
        &["5", "english", NULL, NULL, &rel],
        &["6", "italian", NULL, NULL, NULL],
        &["7", "french", NULL, NULL, NULL],
    ];
    let error = w.next(vec![change(&q(), rows)]).await.unwrap_err();
    let said = text(&error);
    assert_eq!(error.kind(), ErrorKind::Data, "{said}");
    for part in ["5 rows of model `dim_q`", "id=2", "SQLSTATE 42704", "SQLSTATE XX000", "starlift quarantine accept"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!is_quoted(&said), "{said}");

    w.aside.rows = 5;
    let done = w.next(vec![change(&q(), rows)]).await.unwrap();
    assert_eq!((report(&done, "dim_q").inserted, report(&done, "dim_q").aside), (2, 5));
    let entries = w.rows(ASIDE).await;
    let codes: Vec<&str> = entries.iter().map(|entry| &entry[entry.len() - 6..entry.len() - 1]).collect();
    assert_eq!(codes, ["42704", "42704", "42601", "3F000", "XX000"], "{entries:?}");
    assert!(entries.iter().all(|entry| !is_quoted(entry)), "{entries:?}");
    // They are mended in the source one by one.
    w.aside.rows = 0;
    let done = w.next(vec![change(&q(), &[&["2", "french", NULL, NULL, NULL]])]).await.unwrap();
    assert_eq!((report(&done, "dim_q").inserted, report(&done, "dim_q").aside), (1, 4));
}

#[tokio::test]
async fn such_rows_are_found_from_outside_as_inside_the_server() {
    let sql = "create table dim_q (id int primary key, cfg regconfig)";
    let model = dimension("dim_q", "id int4, cfg text");
    let mut ends = Vec::new();
    for without in ["", "; drop extension plpgsql"] {
        let mut w = Warehouse::with(&format!("{sql}{without}")).await;
        w.aside.rows = 2;
        let rows: &[&[&str]] = &[&["1", "simple"], &["2", SECRET], &["3", "simple"], &["4", SECRET]];
        let done = w.next(vec![change(&model, rows)]).await.unwrap();
        ends.push((done, w.rows(ASIDE).await));
    }
    assert_eq!(ends[0], ends[1]);
    assert_eq!(report(&ends[0].0, "dim_q").aside, 2);
}

#[tokio::test]
async fn what_is_refused_for_any_row_is_no_matter_of_rows() {
    let broken = "create function broken() returns trigger language plpgsql as $$ begin
            perform count(*) from there_is_no_such_table; return new; end $$";
    let trigger = "create trigger broken before insert or update on dim_q for each row execute function broken()";
    let model = dimension("dim_q", "id int4, name text");
    // In a table that is empty all rows fail; in one with a row, that one does too.
    for stored in [false, true] {
        let mut w = Warehouse::with(&format!("create table dim_q (id int primary key, name text); {broken}")).await;
        w.aside.accepted = ["dim_q".to_string()].into();
        if stored {
            w.next(vec![change(&model, &[&["1", "a"], &["2", "b"]])]).await.unwrap();
        }
        w.execute(trigger).await;
        let error = w.next(vec![change(&model, &[&["1", "aa"], &["3", "c"]])]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{}", text(&error));
        assert!(text(&error).contains("SQLSTATE 42P01"), "{}", text(&error));
        w.execute("drop trigger broken on dim_q").await;
        let done = w.next(vec![change(&model, &[&["1", "aa"], &["3", "c"]])]).await.unwrap();
        assert_eq!(report(&done, "dim_q").aside, 0, "no row was blamed");
    }
}

#[tokio::test]
async fn a_row_that_is_older_than_the_trigger_which_would_refuse_it_does_not_keep_others_from_standing_aside() {
    let sql = "create table dim_q (id int primary key, lang text);
        create function odd() returns trigger language plpgsql as $$ begin
            perform new.lang::regconfig; return new; end $$";
    let model = dimension("dim_q", "id int4, lang text");
    let mut w = Warehouse::with(sql).await;
    w.next(vec![change(&model, &[&["1", "old"], &["2", "english"]])]).await.unwrap();
    w.execute("create trigger odd before insert or update on dim_q for each row execute function odd()").await;
    w.aside.rows = 2;
    let done = w.next(vec![change(&model, &[&["3", SECRET], &["4", SECRET]])]).await.unwrap();
    assert_eq!((report(&done, "dim_q").inserted, report(&done, "dim_q").aside), (0, 2));
}

#[tokio::test]
async fn a_value_is_not_said_where_references_are_checked_or_keys_retracted() {
    let sql = "create extension ltree; create table dim_lang (lang ltree primary key, name text);
        create table fact_text (record_id serial primary key, text_id int, lang ltree references dim_lang)";
    let lang = dimension("dim_lang", "lang text, name text");
    let fact = fact("fact_text", "text_id int4, lang text");
    let odd = format!("a..{SECRET}");
    let mut w = Warehouse::with(sql).await;
    w.next(vec![change(&lang, &[&["simple", "a"]]), change(&fact, &[&["1", "simple"]])]).await.unwrap();
    for changes in [
        vec![change(&lang, &[]), change(&fact, &[&["2", &odd]])],
        vec![change(&lang, &[]).gone(&[&[&odd]]), change(&fact, &[])],
    ] {
        let said = text(&w.next(changes).await.unwrap_err());
        assert!(!is_quoted(&said), "{said}");
        assert!(said.contains("SQLSTATE 42601") && said.contains("starlift load --adopt"), "{said}");
    }
}

#[tokio::test]
async fn a_sequence_that_is_at_its_end_is_named_and_no_row_is_blamed() {
    // The last is as PostgreSQL 9 left it: the sequence counts further than the column.
    let tables = [
        ("record_id serial primary key", "fact_pay_record_id_seq", "2147483647"),
        ("record_id int generated by default as identity primary key", "fact_pay_record_id_seq", "2147483647"),
        ("record_id int default nextval('counter') primary key", "counter", "2147483647"),
    ];
    let model = fact("fact_pay", "id int4, amount int4");
    for (column, sequence, last) in tables {
        let sql = format!("create sequence counter; create table fact_pay ({column}, id int, amount int)");
        let mut w = Warehouse::with(&sql).await;
        w.aside.accepted = ["fact_pay".to_string()].into();
        w.next(vec![change(&model, &[&["1", "1"], &["2", "2"]])]).await.unwrap();
        w.execute(&format!("select setval('{sequence}', {last})")).await;
        let rows: &[&[&str]] = &[&["1", "10"], &["2", "20"]];
        let error = w.next(vec![change(&model, rows)]).await.unwrap_err();
        let said = text(&error);
        assert_eq!(error.kind(), ErrorKind::Config, "{said}");
        assert!(said.contains("no number left for `record_id`"), "{said}");
        assert_eq!(w.one("select count(*) from current_fact_pay").await, "2", "nothing was retracted");
        // What it says is what helps.
        let statements = said.split('`').find(|part| part.starts_with("drop view")).expect("statements");
        w.execute(statements).await;
        let done = w.next(vec![change(&model, rows)]).await.unwrap();
        assert_eq!(report(&done, "fact_pay").inserted, 2, "{column}");
        assert_eq!(w.rows("select id, amount from current_fact_pay order by 1").await, ["1|10", "2|20"]);
    }
}

#[tokio::test]
async fn a_row_with_a_number_too_large_is_still_blamed_for_it() {
    let mut w = Warehouse::with(
        "create table fact_pay (record_id serial primary key, id int, a int, b int generated always as (a * 1000) stored)",
    )
    .await;
    w.aside.rows = 1;
    let model = fact("fact_pay", "id int4, a int4");
    let done = w.next(vec![change(&model, &[&["1", "1"], &["2", "2147483647"]])]).await.unwrap();
    assert_eq!((report(&done, "fact_pay").inserted, report(&done, "fact_pay").aside), (1, 1));
}

#[tokio::test]
async fn rows_that_refer_to_one_another_come_in_beside_a_bad_one() {
    let sql = "create table dim_emp (id int primary key, boss int references dim_emp, n int check (n < 1000))";
    let model = dimension("dim_emp", "id int4, boss int4, n int4");
    for without in ["", "; drop extension plpgsql"] {
        let mut w = Warehouse::with(&format!("{sql}{without}")).await;
        w.aside.rows = 1;
        w.next(vec![change(&model, &[&["1", NULL, "1"]])]).await.unwrap();
        let mut rows: Vec<Vec<String>> = Vec::new();
        for (id, boss) in [(11, 18), (12, 11), (13, 12), (14, 13), (15, 14), (16, 15), (17, 16), (18, 17)] {
            rows.push(vec![id.to_string(), boss.to_string(), "5".into()]);
        }
        rows.push(vec!["30".into(), "1".into(), "5000".into()]);
        let done = w.next(vec![Change { model: model.clone(), rows, gone: vec![] }]).await.unwrap();
        assert_eq!((report(&done, "dim_emp").inserted, report(&done, "dim_emp").aside), (8, 1));
        assert_eq!(w.rows(ASIDE).await, ["30|n|it fails the check `dim_emp_n_check`"]);
    }
}

#[tokio::test]
async fn a_chain_of_rows_comes_in_beside_one_that_leads_nowhere_and_the_limit_counts_what_is_left() {
    let sql = "create table dim_emp (id int primary key, boss int references dim_emp, twin int unique);
        insert into dim_emp values (0, null, 0)";
    let model = dimension("dim_emp", "id int4, boss int4, twin int4");
    for descending in [false, true] {
        let mut w = Warehouse::with(sql).await;
        w.aside.rows = 2;
        let mut rows: Vec<Vec<String>> = (1..=100)
            .map(|id: i32| {
                let boss = if descending { id - 1 } else { id + 1 };
                let boss = if (1..=100).contains(&boss) { boss.to_string() } else { NULL.into() };
                vec![id.to_string(), boss, id.to_string()]
            })
            .collect();
        rows.push(vec!["200".into(), "999".into(), NULL.into()]);
        rows.push(vec!["201".into(), NULL.into(), "0".into()]);
        let done = w.next(vec![Change { model: model.clone(), rows: rows.clone(), gone: vec![] }]).await.unwrap();
        assert_eq!((report(&done, "dim_emp").inserted, report(&done, "dim_emp").aside), (100, 2), "{descending}");
        let entries = w.rows("select key ->> 'id', column_name from starlift.refused order by 1").await;
        assert_eq!(entries, ["200|boss", "201|twin"]);
        // One less, and it stops with both of them, and no other, named.
        let mut w = Warehouse::with(sql).await;
        w.aside.rows = 1;
        let error = w.next(vec![Change { model: model.clone(), rows, gone: vec![] }]).await.unwrap_err();
        let said = text(&error);
        assert!(
            said.contains("2 rows of") && said.contains("(1 row: id=200)") && said.contains("(1 row: id=201)"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_great_many_rows_that_are_put_off_stop_the_load_soon_and_come_in_when_accepted() {
    let sql = "create table dim_emp (id int primary key, twin int unique); insert into dim_emp select -i, i from generate_series(1, 300) i";
    let model = dimension("dim_emp", "id int4, twin int4");
    let mut w = Warehouse::with(sql).await;
    let rows: Vec<Vec<String>> = (1..=350).map(|id| vec![id.to_string(), id.to_string()]).collect();
    let change = || vec![Change { model: model.clone(), rows: rows.clone(), gone: vec![] }];
    let said = text(&w.next(change()).await.unwrap_err());
    assert!(said.contains("255 rows of model `dim_emp`"), "{said}");
    w.aside.accepted = ["dim_emp".to_string()].into();
    let done = w.next(change()).await.unwrap();
    assert_eq!((report(&done, "dim_emp").inserted, report(&done, "dim_emp").aside), (50, 300));
}

#[tokio::test]
async fn a_unique_constraint_outside_the_key_is_warned_of_and_said_with_what_mends_it() {
    let sql = "create table dim_emp (id int primary key, email text constraint one_email unique)";
    let model = dimension("dim_emp", "id int4, email text");
    let mut w = Warehouse::with(sql).await;
    let done = w.next(vec![change(&model, &[&["3", "c"], &["4", "d"], &["6", "f"]])]).await.unwrap();
    assert_eq!(done.hazards.len(), 1, "{done:?}");
    assert!(done.hazards[0].detail.contains("`one_email` of `dim_emp` is unique outside the key"), "{done:?}");
    assert_eq!(
        starlift_postgres::load::hazards(&mut w.client, "public", std::slice::from_ref(&model)).await.unwrap(),
        done.hazards
    );
    // A value is taken over from a row that is gone; two rows swap theirs.
    let changes = || vec![change(&model, &[&["3", "d"], &["4", "c"], &["7", "f"]]).gone(&[&["6"]])];
    let said = text(&w.next(changes()).await.unwrap_err());
    for part in ["3 rows of model", "may hold its value", "drop constraint \"one_email\"", "UNIQUE (email) deferrable"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    // The statements that it says mend first the swap, then all of it.
    let statements: Vec<&str> = said.split('`').filter(|part| part.starts_with("alter table")).collect();
    w.execute(statements[1]).await;
    w.aside.rows = 1;
    let done = w.next(changes()).await.unwrap();
    assert_eq!((report(&done, "dim_emp").updated, report(&done, "dim_emp").aside), (2, 1));
    assert!(done.hazards.is_empty(), "{done:?}");
    let reason =
        "7|email|it breaks the unique constraint `one_email`; a row that is gone, or changes too, may hold its value";
    assert_eq!(w.rows(ASIDE).await, [reason]);
    w.execute(statements[0]).await;
    assert_eq!(report(&w.retry(&[&model]).await.unwrap(), "dim_emp").inserted, 1);
    assert_eq!(w.rows("select id, email from current_dim_emp order by 1").await, ["3|d", "4|c", "7|f"]);
}

#[tokio::test]
async fn a_primary_key_and_a_serial_of_the_warehouse_are_no_hazards() {
    let sql = "create table dim_emp (sk serial primary key, id int unique, email text);
        create table fact_sale (record_id serial primary key, id int, email text);
        create table dim_date (date_id date primary key, n int unique)";
    let mut w = Warehouse::with(sql).await;
    let changes = vec![
        change(&dimension("dim_emp", "id int4, email text"), &[&["1", "a"]]),
        change(&fact("fact_sale", "id int4, email text"), &[&["1", "a"]]),
        change(&model("dim_date", ModelKind::Calendar, "date_id date, n int4"), &[&["2024-01-01", "1"]]),
    ];
    let LoadOutcome::Loaded(done) = w.run(1, true, None, changes).await.unwrap() else { panic!("it was not loaded") };
    assert!(done.hazards.is_empty(), "{done:?}");
}

/// A warehouse in an encoding that has no ż.
async fn in_latin_1(sql: &str) -> Warehouse {
    let mut w = Warehouse::with("").await;
    let database = format!("{}_latin", w.database);
    w.execute(&format!("create database {database} encoding 'LATIN1' template template0 locale 'C'")).await;
    w.client = starlift_sandbox::shared().unwrap().connect(&database).await.unwrap();
    w.database = database;
    w.execute(sql).await;
    w
}

#[tokio::test]
async fn a_text_that_the_warehouses_encoding_does_not_have_stands_aside_by_column_and_key() {
    let sql = "create table dim_q (id int primary key, name text not null, tags text, doc jsonb);
        create table dim_c (code text primary key, n int)";
    let mut w = in_latin_1(sql).await;
    let model = dimension("dim_q", "id int4, name text, tags text, doc jsonb");
    let code = dimension("dim_c", "code text, n int4");
    let rows: &[&[&str]] = &[
        &["1", "café", "b", "{\"a\": \"é\"}"],
        &["2", "żółw", NULL, NULL],
        &["3", "c", "d €", NULL],
        &["4", "e", NULL, "{\"a\": \"ł\"}"],
        &["5", "f", NULL, NULL],
    ];
    let codes: &[&[&str]] = &[&["é1", "1"]];
    let error = w.next(vec![change(&model, rows), change(&code, codes)]).await.unwrap_err();
    let said = text(&error);
    assert_eq!(error.kind(), ErrorKind::Data, "{said}");
    for part in ["3 rows of model `dim_q`", "encoding LATIN1", "`name` (text)", "id=2", "starlift quarantine accept"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains('ż') && !said.contains('€'), "{said}");
    w.aside.rows = 3;
    let done = w.next(vec![change(&model, rows), change(&code, codes)]).await.unwrap();
    assert_eq!((report(&done, "dim_q").inserted, report(&done, "dim_q").aside), (2, 3));
    let reason = "it has a character that the warehouse's encoding LATIN1 does not have";
    assert_eq!(
        w.rows(ASIDE).await,
        [("2", "name"), ("3", "tags"), ("4", "doc")].map(|(k, c)| format!("{k}|{c}|{reason}"))
    );
    assert_eq!(w.rows("select name, octet_length(name) from dim_q where id = 1").await, ["café|4"], "as one byte");
    // Mended, it comes back.
    let done = w.next(vec![change(&model, &[&["2", "zolw", NULL, NULL]]), change(&code, &[])]).await.unwrap();
    assert_eq!((report(&done, "dim_q").inserted, report(&done, "dim_q").aside), (1, 2));

    // A key has nothing to stand aside under, unless a later manifest has it; one that is gone was never there.
    let bad: &[&[&str]] = &[&["ż1", "1"], &["b", "2"]];
    let said = text(&w.next(vec![change(&model, &[]), change(&code, bad)]).await.unwrap_err());
    assert!(said.contains("`code` has a character") && said.contains("code=ż1") && said.contains("--adopt"), "{said}");
    w.later(&code, &[&["ż1", "1"]]);
    let done = w.next(vec![change(&model, &[]), change(&code, bad)]).await.unwrap();
    assert_eq!(report(&done, "dim_c").inserted, 1);
    w.next(vec![change(&model, &[]), change(&code, &[]).gone(&[&["ż1"], &["é1"]])]).await.unwrap();
    assert_eq!(w.rows("select code from current_dim_c").await, ["b"]);
}

#[tokio::test]
async fn what_was_not_tried_before_put_off_rows_came_in_is_tried_after_them() {
    let mut w = Warehouse::with("create table dim_slot (id int primary key, slot int unique)").await;
    let model = dimension("dim_slot", "id int4, slot int4");
    // Of three rows the first takes the place of the second, and the third that of the first: so two are put off. With the four of
    // the last group they are as many as one pass puts off, and what comes behind them waits.
    let mut moved = Vec::new();
    for first in (1..=376).step_by(3) {
        moved.extend([(first, first + 1), (first + 1, 1_001 + first), (first + 2, first)]);
    }
    moved.extend([(379, 380), (380, 381), (381, 2_000), (382, 379)]);
    moved.extend((383..=432).map(|id| (id, 3_000 + id)));
    let texts = |rows: &[(i32, i32)]| -> Vec<[String; 2]> {
        rows.iter().map(|(id, slot)| [id.to_string(), slot.to_string()]).collect()
    };
    let before: Vec<(i32, i32)> = (1..=432).map(|id| (id, id)).collect();
    for rows in [texts(&before), texts(&moved)] {
        let rows: Vec<[&str; 2]> = rows.iter().map(|[id, slot]| [id.as_str(), slot.as_str()]).collect();
        let rows: Vec<&[&str]> = rows.iter().map(|row| row.as_slice()).collect();
        w.next(vec![change(&model, &rows)]).await.unwrap();
    }
    assert_eq!(w.one("select count(*) from dim_slot where slot = id").await, "0");
    assert_eq!(w.one("select count(*) from dim_slot where slot = 3000 + id").await, "50");
}
