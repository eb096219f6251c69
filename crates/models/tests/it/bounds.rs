//! How inputs are opened, and what an evaluation may use.

use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use starlift_core::ErrorKind;
use starlift_core::model::Model;
use starlift_models::{Session, SessionOptions};

use crate::support::{collect, evaluate, failure, model, rows, schema, session, source};

#[tokio::test]
async fn an_input_is_opened_for_each_use_and_one_that_is_not_used_never() {
    let session = Session::new(SessionOptions::default()).unwrap();
    let staff = schema("id int4, boss int4 null, name text");
    let (read, opened) = source(vec![rows(&staff, &["1|~|Ada", "2|1|Bob", "3|1|Cy"])]);
    session.register_input("staff", &staff, read).unwrap();
    let (unread, never) = source(vec![]);
    session.register_input("other", &staff, unread).unwrap();

    let sql = "select s.id, s.name, b.name as boss from staff s left join staff b on b.id = s.boss";
    let prepared = session.prepare(&model("id", sql)).await.unwrap();
    assert_eq!(opened.load(Ordering::Relaxed), 0);
    let rows = ["1|Ada|~", "2|Bob|Ada", "3|Cy|Ada"];
    assert_eq!(collect(&prepared).await.unwrap().rows, rows);
    assert_eq!(opened.load(Ordering::Relaxed), 2);
    assert_eq!(collect(&prepared).await.unwrap().rows, rows);
    assert_eq!(opened.load(Ordering::Relaxed), 4);
    assert_eq!(never.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_model_reads_a_model_that_was_evaluated_before() {
    let session = session(&[("v", "id uuid, due text", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|2024-01-02"])]);
    let first = session.prepare(&model("id", "select id, parse_date(due) as due from v")).await.unwrap();
    let evaluated = collect(&first).await.unwrap();
    let (rows, _) = source(evaluated.batches);
    session.register_input("dim_first", first.schema(), rows).unwrap();
    let second = Model::parse("second", "-- kind: fact\n-- key: id\nselect id, due from dim_first").unwrap();
    let second = session.prepare(&second).await.unwrap();
    assert_eq!(second.schema(), first.schema());
    assert_eq!(collect(&second).await.unwrap().rows, evaluated.rows);
}

#[tokio::test]
async fn a_table_with_the_name_of_a_keyword_is_read_quoted_and_unquoted() {
    let session = session(&[("transaction", "transaction_id int4", &["1"]), ("Mixed.Case", "id int4", &["2"])]);
    for table in ["transaction", "\"transaction\"", "TRANSACTION", "transaction t"] {
        let model = model("transaction_id", &format!("select transaction_id from {table}"));
        assert_eq!(evaluate(&session, &model).await.unwrap().rows, ["1"], "{table}");
    }
    assert_eq!(evaluate(&session, &model("id", "select ID from \"Mixed.Case\"")).await.unwrap().rows, ["2"]);
}

#[tokio::test]
async fn several_partitions_yield_the_same_rows() {
    let options = SessionOptions { partitions: 4, batch_rows: 16, ..SessionOptions::default() };
    let session = Session::new(options).unwrap();
    let columns = schema("id int4, due text");
    let batches = (0..20).map(|batch| {
        let lines: Vec<String> = (0..50).map(|row| format!("{}|2024-01-{:02}", batch * 50 + row, row % 40)).collect();
        rows(&columns, &lines.iter().map(String::as_str).collect::<Vec<_>>())
    });
    let (read, _) = source(batches.collect());
    session.register_input("v", &columns, read).unwrap();
    let sql = "select a.id, parse_date(b.due) as due from v a join v b on a.id = b.id where a.id >= 500";
    let evaluated = evaluate(&session, &model("id", sql)).await.unwrap();
    // Days 1 to 31 of 50 rows a batch: 40 to 49 are days 0 to 9 again.
    assert_eq!((evaluated.rows.len(), evaluated.refusals.rows()), (400, 100));
}

/// Rows that take about 100 bytes each.
fn wide(rows: i32) -> Vec<RecordBatch> {
    let columns = schema("id int4, name text");
    (0..rows / 1000)
        .map(|batch| {
            let ids = batch * 1000..(batch + 1) * 1000;
            let names = ids.clone().map(|id| format!("{id:0>96}"));
            let columns: Vec<ArrayRef> = vec![
                std::sync::Arc::new(Int32Array::from_iter_values(ids)),
                std::sync::Arc::new(StringArray::from_iter_values(names)),
            ];
            RecordBatch::try_new(schema_of(), columns).unwrap()
        })
        .inspect(|batch| assert_eq!(batch.num_columns(), columns.columns.len()))
        .collect()
}

fn schema_of() -> arrow::datatypes::SchemaRef {
    schema("id int4, name text").to_arrow()
}

fn small_session(spill_dir: Option<std::path::PathBuf>) -> Session {
    session_of(100_000, spill_dir)
}

/// 4 MiB of memory for rows of about 100 bytes each.
fn session_of(rows: i32, spill_dir: Option<std::path::PathBuf>) -> Session {
    let options = SessionOptions { memory_limit_bytes: 4 << 20, spill_dir, ..SessionOptions::default() };
    let session = Session::new(options).unwrap();
    let (read, _) = source(wide(rows));
    session.register_input("v", &schema("id int4, name text"), read).unwrap();
    session
}

const JOIN: &str = "select a.id, b.name from v a join v b on a.name = b.name";

#[tokio::test]
async fn a_join_that_does_not_fit_in_memory_is_made_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let session = small_session(Some(dir.path().to_path_buf()));
    let evaluated = match evaluate(&session, &model("id", JOIN)).await {
        Ok(evaluated) => evaluated,
        Err(error) => panic!("{}", error.render()),
    };
    assert_eq!(evaluated.rows.len(), 100_000);
    assert_eq!(evaluated.rows[0], format!("0|{:0>96}", 0));
    drop(session);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "spill files are left behind");
}

#[tokio::test]
async fn several_joins_that_do_not_fit_in_memory_together_are_made_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let session = session_of(20_000, Some(dir.path().to_path_buf()));
    let sql = "select a.id, b.name from v a join v b on a.name = b.name join v c on b.name = c.name \
               join v d on c.name = d.name";
    let evaluated = match evaluate(&session, &model("id", sql)).await {
        Ok(evaluated) => evaluated,
        Err(error) => panic!("{}", error.render()),
    };
    assert_eq!(evaluated.rows.len(), 20_000);
}

#[tokio::test]
async fn memory_that_does_not_suffice_is_a_config_error() {
    let error = failure(&small_session(None), &model("id", JOIN)).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
    assert_eq!(error.message(), "model `m` needs more memory than it may use");
    assert!(error.hint().unwrap().contains("memory_mb"));
}

#[tokio::test]
async fn a_seed_is_an_input_of_text() {
    let session = session(&[("v", "id int4, code text", &["1|a", "2|b"])]);
    session.register_seed("names", b"code,label\na,Ay\nc,\n").unwrap();
    let sql = "select v.id, n.label from v left join names n on n.code = v.code";
    assert_eq!(evaluate(&session, &model("id", sql)).await.unwrap().rows, ["1|Ay", "2|~"]);
}

#[tokio::test]
async fn tests_of_the_header_report_rows_by_key_and_refuse_none() {
    let session = session(&[("v", "id int4, kind text null, n int4 null", &["1|SALE|1", "2|GIFT|~", "3|~|~"])]);
    let with_tests = |tests: &str| {
        let text = format!("-- kind: dimension\n-- key: id\n-- tests: {tests}\nselect id, kind, n from v");
        Model::parse("m", &text).unwrap()
    };
    let model = with_tests(
        "unique(id), not_null(id), not_null(n), accepted_values(kind: SALE, PURCHASE), accepted_values(n: 1, 2)",
    );
    let evaluated = evaluate(&session, &model).await.unwrap();
    assert_eq!(evaluated.rows.len(), 3);
    let failed: Vec<String> =
        evaluated.failed_tests.iter().map(|t| format!("{} {} {}", t.0, t.1, t.2.join(" "))).collect();
    assert_eq!(failed, ["not_null(n) 2 id=2 id=3", "accepted_values(kind: SALE, PURCHASE) 1 id=2"]);

    for (tests, detail) in [
        ("not_null(m)", "the model yields no column `m`"),
        ("accepted_values(kind)", "write it as `accepted_values(column: one, another)`"),
    ] {
        let error = failure(&session, &with_tests(tests)).await;
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!(error.detail().as_deref(), Some(detail));
    }
}

#[tokio::test]
async fn listed_numbers_and_those_of_a_seed_are_compared_as_numbers() {
    let columns = "id int4, vat numeric(38,10) null, rate float8 null";
    let session = session(&[("v", columns, &["1|20|0.5", "2|0|1000", "3|5.5|2", "4|~|~"])]);
    session.register_seed("rates", b"vat\n20\n0.00\nnone\n").unwrap();
    let with_tests = |tests: &str| {
        let text = format!("-- kind: dimension\n-- key: id\n-- tests: {tests}\nselect id, vat, rate from v");
        Model::parse("m", &text).unwrap()
    };
    let model =
        with_tests("accepted_values(vat: 0, 20.0), accepted_values(rate: .50, 1e3), relationships(vat -> rates)");
    let evaluated = evaluate(&session, &model).await.unwrap();
    let failed: Vec<String> =
        evaluated.failed_tests.iter().map(|t| format!("{} {} {}", t.0, t.1, t.2.join(" "))).collect();
    assert_eq!(
        failed,
        [
            "accepted_values(vat: 0, 20.0) 1 id=3",
            "accepted_values(rate: .50, 1e3) 1 id=3",
            "relationships(vat -> rates) 1 id=3"
        ]
    );
    let error = failure(&session, &with_tests("accepted_values(vat: 0, a fifth)")).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(error.detail().as_deref(), Some("`a fifth` is no number, and the model yields numeric(38,10)"));
}
