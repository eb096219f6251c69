//! What a user is told when a model is wrong, and what nobody is ever told.

use std::sync::Arc;

use futures::StreamExt;
use starlift_core::model::ModelTest;
use starlift_core::{Error, ErrorKind};
use starlift_models::InputSource;

use crate::support::{failure, model, rows, schema, session};

#[tokio::test]
async fn a_function_that_changes_from_run_to_run_is_refused_by_name() {
    let session = session(&[("v", "id int4, at timestamp", &["1|2024-01-01T00:00:00"])]);
    let cases = [
        ("select id, now() as x from v", "now"),
        ("select id, current_date as x from v", "current_date"),
        ("select id, current_time as x from v", "current_time"),
        ("select id, current_timestamp as x from v", "now"),
        ("select id from v where at < now()", "now"),
        ("select id, uuid() as x from v", "uuid"),
        ("select id from v where id in (select id from v where at > now())", "now"),
        ("select id from v order by uuid()", "uuid"),
        ("with w as (select id, now() as n from v) select id from w", "now"),
        ("select id, case when at > now() then 1 end as x from v", "now"),
    ];
    for (sql, function) in cases {
        let error = failure(&session, &model("id", sql)).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{sql}");
        assert_eq!(error.message(), format!("model `m` calls `{function}`, which a model may not"), "{sql}");
        assert!(error.hint().unwrap().contains(function));
    }
}

#[tokio::test]
async fn similar_to_is_refused_because_it_would_find_other_rows() {
    let session = session(&[("v", "id int4, note text", &["1|note 1"])]);
    for sql in ["select id from v where note similar to 'note [12]%'", "select id, note not similar to 'x' as x from v"]
    {
        let error = failure(&session, &model("id", sql)).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{sql}");
        assert_eq!(error.message(), "model `m` uses `similar to`, which a model may not", "{sql}");
    }
}

#[tokio::test]
async fn a_test_of_a_column_that_the_model_does_not_yield_is_a_config_error() {
    let session = session(&[("v", "id int4, note text", &["1|note 1"])]);
    for test in ["not_null(nope)", "unique(nope)", "relationships(nope -> dim_a)", "accepted_values(nope: 1)"] {
        let mut wrong = model("id", "select id, note from v");
        let (name, arguments) = test.trim_end_matches(')').split_once('(').unwrap();
        wrong.header.tests.push(ModelTest { name: name.into(), arguments: arguments.into(), warns: false });
        let error = failure(&session, &wrong).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{test}");
        assert_eq!(error.message(), format!("test `{test}` of model `m` cannot be run"));
        assert_eq!(error.detail().as_deref(), Some("the model yields no column `nope`"), "{test}");
    }
}

#[tokio::test]
async fn a_mistyped_column_is_named_with_the_one_that_was_meant() {
    let session = session(&[("sales_order", "sales_order_id int4, unit_price numeric(38,10)", &[])]);
    let error = failure(&session, &model("sales_order_id", "select sales_order_id, unit_prise from sales_order")).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(error.message(), "model `m` cannot be planned");
    assert!(error.detail().unwrap().starts_with("No field named unit_prise"), "{error:?}");
    assert_eq!(error.hint(), Some("did you mean `unit_price`? `m.sql` has to be mended"));
}

#[tokio::test]
async fn a_missing_input_is_named_with_the_one_that_was_meant() {
    let session = session(&[("sales_order", "sales_order_id int4", &[])]);
    let error = failure(&session, &model("id", "select id from sales_orders")).await;
    assert_eq!(error.message(), "model `m` reads `sales_orders`, which does not exist");
    assert_eq!(error.hint(), Some("did you mean `sales_order`?"));
}

#[tokio::test]
async fn columns_that_do_not_fit_the_header_are_config_errors() {
    let session = session(&[("v", "id int4, n int4", &[])]);
    let cases = [
        ("id", "select n from v", "its key names `id`, and it yields `n`"),
        ("id, id", "select id from v", "its key names `id` twice"),
        ("id", "select a.id, b.id from v a join v b on a.id = b.id", "two columns have the name `id`"),
    ];
    for (key, sql, detail) in cases {
        let error = failure(&session, &model(key, sql)).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
        assert_eq!(error.detail().as_deref(), Some(detail));
        assert!(error.hint().is_some());
    }
}

#[tokio::test]
async fn no_value_of_a_row_appears_in_an_error() {
    let session =
        session(&[("v", "id int4, t text, n int8, d numeric(38,10), zero int4", &["1|CANARY 4711|4711|4711.5|0"])]);
    let cases = [
        ("t::date", "a value cannot be cast to Date32"),
        ("t::int", "a value cannot be cast to Int32"),
        ("t::timestamp", ""),
        ("t::decimal(10,2)", ""),
        ("t::boolean", "a value cannot be cast to Boolean"),
        ("arrow_cast(n, 'Int8')", "a value cannot be cast to Int8"),
        ("n / zero", "a division by zero"),
        ("d::decimal(5,2)", ""),
        ("to_timestamp(t)", ""),
        ("to_date(t)", ""),
        ("regexp_like('x', t || '(')", ""),
        ("(select t::int from v)", "a value cannot be cast to Int32"),
    ];
    for (expression, detail) in cases {
        let error = failure(&session, &model("id", &format!("select id, {expression} as x from v"))).await;
        let told = format!("{error:?} {error} {}", error.render());
        assert!(!told.contains("CANARY") && !told.contains("4711"), "{expression}: {told}");
        assert_eq!(error.kind(), ErrorKind::Data, "{expression}: {told}");
        assert_eq!(error.message(), "model `m` cannot be evaluated", "{expression}");
        assert!(error.detail().unwrap().contains(detail), "{expression}: {told}");
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            assert!(!inner.to_string().contains("CANARY"));
            source = inner.source();
        }
    }
}

#[tokio::test]
async fn an_error_of_an_input_comes_out_as_it_went_in() {
    let columns = schema("id int4, n int4");
    let good = rows(&columns, &["1|1", "2|2"]);
    let source: InputSource = Arc::new(move || {
        let damaged = Error::data("data file is damaged")
            .with_detail("its sha256 is another one")
            .with_hint("run `starlift doctor`")
            .with_context("file", "v/2024/11/20/113500000000.parquet");
        futures::stream::iter([Ok(good.clone()), Err(damaged)]).boxed()
    });
    let session = session(&[("w", "id int4", &["1"])]);
    session.register_input("v", &columns, source).unwrap();
    for sql in [
        "select id, n from v",
        "select max(id) as id from v",
        "select v.id from v join w on w.id = v.id",
        "select w.id from w join v on w.id = v.id",
        "select id from w where id in (select n from v)",
        "select id, (select max(n) from v) as n from w",
        "select id from v order by n",
        "select a.id from v a full join v b on a.id = b.n",
    ] {
        let error = failure(&session, &model("id", sql)).await;
        assert_eq!(error.kind(), ErrorKind::Data, "{sql}");
        assert_eq!(error.message(), "data file is damaged", "{sql}");
        assert_eq!(error.detail().as_deref(), Some("its sha256 is another one"));
        assert_eq!(error.hint(), Some("run `starlift doctor`"));
        assert_eq!(error.context(), [("file", "v/2024/11/20/113500000000.parquet".to_string())]);
    }
}

#[tokio::test]
async fn an_unavailable_input_stays_unavailable_so_that_the_run_is_tried_again() {
    let source: InputSource =
        Arc::new(|| futures::stream::iter([Err(Error::unavailable("the store is away"))]).boxed());
    let session = session(&[]);
    session.register_input("v", &schema("id int4"), source).unwrap();
    let error = failure(&session, &model("id", "select id from v")).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn rows_that_do_not_match_their_schema_are_damaged_data() {
    let session = session(&[]);
    let (source, _) = crate::support::source(vec![rows(&schema("id int8"), &["1"])]);
    session.register_input("v", &schema("id int4"), source).unwrap();
    let (nulls, _) = crate::support::source(vec![rows(&schema("id int4 null"), &["~"])]);
    session.register_input("w", &schema("id int4"), nulls).unwrap();
    for (table, detail) in
        [("v", "column `id` holds Int64 where there should be Int32"), ("w", "column `id` has nulls and may not")]
    {
        let error = failure(&session, &model("id", &format!("select id from {table}"))).await;
        assert_eq!(error.kind(), ErrorKind::Data);
        assert_eq!(error.detail().as_deref(), Some(detail));
    }
}

#[tokio::test]
async fn a_panic_while_rows_are_read_is_an_internal_error_without_its_text() {
    let source: InputSource = Arc::new(|| {
        futures::stream::poll_fn(|_| -> std::task::Poll<Option<starlift_core::Result<arrow::array::RecordBatch>>> {
            panic!("CANARY")
        })
        .boxed()
    });
    let session = session(&[]);
    session.register_input("v", &schema("id int4"), source).unwrap();
    for sql in ["select id from v", "select count(*) as id from v group by id"] {
        let error = failure(&session, &model("id", sql)).await;
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(error.message(), "the evaluation of model `m` panicked");
        assert!(!format!("{error:?}").contains("CANARY"));
    }
}

#[tokio::test]
async fn a_name_is_registered_once() {
    let session = session(&[("v", "id int4", &[])]);
    let error = session.register_seed("v", b"a\n1\n").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(error.message(), "two inputs have the name `v`");
}

#[test]
fn four_hundred_terms_of_an_or_fit_the_smallest_stack() {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let session = session(&[("v", "id int4, note text", &["1|a"])]);
            let sql = format!("select id from v where {}id > 0", "note = 'x' or ".repeat(400));
            crate::support::evaluate(&session, &model("id", &sql)).await.unwrap().rows
        })
    };
    // A worker of tokio has 2 MiB.
    let rows = std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
    assert_eq!(rows, ["1"]);
}
