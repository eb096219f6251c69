//! Values that the warehouse cannot hold are refused by name, or passed over.

use starlift_core::ErrorKind;

use super::fixture::*;

const SQL: &str = "create domain email as varchar(12) not null;
    create domain short_email as email;
    create table dim_staff (staff_id smallint primary key, email short_email, rate numeric(10,2), code char(3),
                            at timestamp(3), weight real);
    create table fact_sale (record_id serial primary key, sale_id int not null, amount numeric(10,2))";

fn staff() -> starlift_postgres::load::ModelTable {
    dimension("dim_staff", "staff_id int8, email text, rate numeric(38,10), code text, at timestamp, weight float8")
}

fn sale() -> starlift_postgres::load::ModelTable {
    fact("fact_sale", "sale_id int4, amount numeric(38,10)")
}

const GOOD: [&str; 6] = ["1", "a@b", "1.25", "abc", "2024-01-01T00:00:00.123", "0.5"];

#[tokio::test]
async fn a_rounded_amount_is_refused_by_key_and_nothing_is_committed() {
    let mut w = Warehouse::with(SQL).await;
    let changes = || {
        vec![
            change(&staff(), &[&GOOD]),
            change(&sale(), &[&["1", "1.00"], &["2", "3.456"], &["3", "3.450"], &["4", "0.001"]]),
        ]
    };
    let error = w.next(changes()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    let said = text(&error);
    for part in
        ["fact_sale", "`amount` (numeric(10,2))", "needs more than 2 decimals", "2 rows", "sale_id=2, sale_id=4"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("3.456"), "no value is shown: {said}");
    assert_eq!(w.one("select count(*) from dim_staff").await, "0");
    assert_eq!(w.one("select count(*) from fact_sale").await, "0");
    assert_eq!(w.one("select count(*) from pg_namespace where nspname = 'starlift'").await, "0");
}

#[tokio::test]
async fn a_row_that_a_later_manifest_has_is_passed_over() {
    let mut w = Warehouse::with(SQL).await;
    // Key 1 fits, so it is loaded although a later manifest has it too.
    w.later(&sale(), &[&["1", "1"], &["2", "1"], &["77", "1"]]);
    let rows: &[&[&str]] = &[&["1", "1"], &["2", "3.456"]];
    let done = w.next(vec![change(&staff(), &[&GOOD]), change(&sale(), rows)]).await.unwrap();
    let report = report(&done, "fact_sale");
    assert_eq!((report.staged, report.inserted, report.passed_over, report.unchanged), (2, 1, 1, 0));
    assert_eq!(w.rows("select sale_id from fact_sale").await, ["1"]);
    // One that is left stops the load all the same.
    let rows: &[&[&str]] = &[&["2", "3.456"], &["3", "3.456"]];
    let error = w.next(vec![change(&staff(), &[]), change(&sale(), rows)]).await.unwrap_err();
    assert!(text(&error).contains("1 row of") && text(&error).contains("sale_id=3"), "{}", text(&error));
}

#[tokio::test]
async fn every_kind_of_misfit_is_told_from_what_just_fits() {
    let fits: [(usize, &[&str]); 6] = [
        (0, &["32767", "-32768"]),
        (1, &["exactly12chr", "ünïcödé12chr"]),
        (2, &["99999999.99", "-99999999.99", NULL]),
        (3, &["abc", "a", "abc   "]),
        (4, &["2024-01-01T00:00:00.123", NULL]),
        (5, &["0.5", "16777216", "NaN", "inf", "-inf", "1.401298464324817e-45", NULL]),
    ];
    let breaks: [(usize, &[&str], &str); 6] = [
        (0, &["32768", "-32769", "9223372036854775807"], "is outside -32768 to 32767"),
        (1, &["thirteen char"], "is longer than 12 characters"),
        (2, &["100000000", "-100000000"], "needs more than 8 digits before the point"),
        (3, &["abcd"], "is longer than 3 characters"),
        (4, &["2024-01-01T00:00:00.1234"], "needs more than 3 decimals of a second"),
        (5, &["0.1", "1e39", "16777217", "1e-46", "1e-300"], "is not exact in 4 bytes"),
    ];
    let mut w = Warehouse::with(SQL).await;
    for (column, values) in fits {
        for value in values {
            let mut row = GOOD;
            row[column] = value;
            w.next(vec![change(&staff(), &[&row])]).await.unwrap_or_else(|e| panic!("{value}: {}", text(&e)));
        }
    }
    for (column, values, reason) in breaks {
        for value in values {
            let mut row = GOOD;
            row[column] = value;
            let error = w.next(vec![change(&staff(), &[&row])]).await.expect_err(value);
            assert_eq!(error.kind(), ErrorKind::Data, "{value}");
            assert!(text(&error).contains(reason), "{value}: {}", text(&error));
        }
    }
}

#[tokio::test]
async fn null_is_refused_by_a_column_a_domain_and_a_key() {
    let mut w = Warehouse::with(SQL).await;
    let mut row = GOOD;
    row[1] = NULL;
    let error = w.next(vec![change(&staff(), &[&row])]).await.unwrap_err();
    assert!(
        text(&error).contains("`email` (short_email) is null, and the column takes no null (1 row: staff_id=1)"),
        "{}",
        text(&error)
    );
    let error = w.next(vec![change(&sale(), &[&[NULL, "1"]])]).await.unwrap_err();
    assert!(text(&error).contains("part of the key") && text(&error).contains("sale_id=null"), "{}", text(&error));
}

#[tokio::test]
async fn five_keys_are_named_and_all_rows_counted() {
    let mut w = Warehouse::with(SQL).await;
    let rows: Vec<Vec<String>> = (1..=30).map(|i| vec![i.to_string(), "0.001".into()]).collect();
    let error = w.next(vec![Change { model: sale(), rows, gone: vec![] }]).await.unwrap_err();
    let said = text(&error);
    assert!(said.contains("30 rows") && said.contains("sale_id=5") && !said.contains("sale_id=6"), "{said}");
}

#[tokio::test]
async fn a_retracted_key_that_its_table_cannot_hold_is_no_error() {
    let mut w = Warehouse::with(SQL).await;
    w.next(vec![change(&staff(), &[&GOOD])]).await.unwrap();
    let done = w.next(vec![change(&staff(), &[]).gone(&[&["70000"], &["1"]])]).await.unwrap();
    assert_eq!(report(&done, "dim_staff").retracted, 1);
    assert_eq!(w.one("select count(*) from current_dim_staff").await, "0");
}

#[tokio::test]
async fn the_elements_of_an_array_are_checked() {
    use arrow::array::{ArrayRef, Int32Array, ListBuilder, RecordBatch, StringBuilder};
    use starlift_postgres::load::{self, LoadOutcome, ModelLoad};
    use std::sync::Arc;
    let mut w = Warehouse::with("create table dim_tag (tag_id int primary key, tags varchar(3)[])").await;
    let tag = dimension("dim_tag", "tag_id int4, tags text[]");
    for (seq, (last, fits)) in [("abcd", false), ("abc", true)].into_iter().enumerate() {
        let field = match tag.schema.to_arrow().field(1).data_type() {
            arrow::datatypes::DataType::List(field) => field.clone(),
            other => panic!("{other}"),
        };
        let mut lists = ListBuilder::new(StringBuilder::new()).with_field(field);
        lists.append_value([Some("a"), None, Some(last)]);
        lists.append_null();
        let columns: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![1, 2])), Arc::new(lists.finish())];
        let rows = RecordBatch::try_new(tag.schema.to_arrow(), columns).unwrap();
        let model = ModelLoad {
            model: tag.clone(),
            upserts: Box::pin(futures::stream::iter([Ok(rows)])),
            retractions: load::nothing_later("dim_tag"),
            again: None,
            ahead: None,
        };
        let run = w.a_run(seq as u64 + 1, true, None);
        let outcome = load::load(&mut w.client, &run, vec![model], &load::nothing_later).await;
        match outcome {
            Ok(outcome) => assert!(fits && matches!(outcome, LoadOutcome::Loaded(_)), "{outcome:?}"),
            Err(error) => {
                let said = text(&error);
                assert!(!fits && said.contains("has an element that is longer than 3 characters"), "{said}");
                assert!(said.contains("tag_id=1"), "{said}");
            }
        }
    }
    assert_eq!(w.rows("select tag_id, tags from current_dim_tag order by 1").await, ["1|{a,NULL,abc}", "2|~"]);
}

#[tokio::test]
async fn the_elements_of_an_array_of_a_domain_are_checked_and_compared_as_those_of_its_base_type() {
    let mut w = Warehouse::with(
        "create domain code3 as varchar(3); create domain even_code as code3 check (value <> 'odd');
         create domain money2 as numeric(10,2); create domain codes3 as even_code[];
         create table dim_tag (tag_id int primary key, codes even_code[], prices money2[], whole codes3);
         create table dim_set (codes even_code[] primary key, n int)",
    )
    .await;
    let tag = dimension("dim_tag", "tag_id int4, codes text[], prices numeric(38,10)[], whole text[]");
    let set = dimension("dim_set", "codes text[], n int4");
    for (row, reason) in [
        (["1", "abcd", "1.25", "a"], "`codes` (even_code[]) has an element that is longer than 3 characters"),
        (["1", "abc", "1.239", "a"], "`prices` (money2[]) has an element that needs more than 2 decimals"),
        (["1", "abc", "1.25", "abcd"], "`whole` (codes3) has an element that is longer than 3 characters"),
        (["1", "odd", "1.25", "a"], "fails the check `even_code_check`"),
    ] {
        let error = w.next(vec![change(&tag, &[&row]), change(&set, &[])]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(text(&error).contains(reason), "{reason}: {}", text(&error));
    }
    let steps: [(&[&str], &[&str], u64); 4] = [
        (&["1", "abc", "1.25", "a"], &["abc", "1"], 0),
        (&["1", "abc", "1.250", "a"], &["abc", "1"], 0),
        (&["1", "abc", "1.26", "a"], &["abc", "2"], 1),
        (&["1", "abd", "1.26", "a"], &["abc", "3"], 1),
    ];
    for (row, keyed, updated) in steps {
        let done = w.next(vec![change(&tag, &[row]), change(&set, &[keyed])]).await.unwrap();
        assert_eq!((report(&done, "dim_tag").updated, report(&done, "dim_set").updated), (updated, updated), "{row:?}");
    }
    assert_eq!(w.rows("table current_dim_tag").await, ["1|{abd}|{1.26}|{a}"]);
    assert_eq!(w.rows("table current_dim_set").await, ["{abc}|3"]);
    w.next(vec![change(&tag, &[]), change(&set, &[]).gone(&[&["abc"]])]).await.unwrap();
    assert_eq!(w.rows("table current_dim_set").await, Vec::<String>::new());
}
