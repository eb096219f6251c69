//! Values arrive as they are, and what could change them is warned about or refused.

use starlift_core::{ColumnType, ErrorKind};

use crate::support::{collect, evaluate, failure, model, session};

#[tokio::test]
async fn decimals_stay_exact_in_literals_and_arithmetic() {
    let session = session(&[(
        "v",
        "id int4, price numeric(38,10), units int4",
        &["1|0.1|3", "2|12345678901234567890.0000000001|1"],
    )]);
    let evaluated =
        evaluate(&session, &model("id", "select id, price, price * units as total, price + 0.2 as more from v"))
            .await
            .unwrap();
    assert_eq!(
        evaluated.rows,
        [
            "1|0.1000000000|0.3000000000|0.3000000000",
            "2|12345678901234567890.0000000001|12345678901234567890.0000000001|12345678901234567890.2000000001"
        ]
    );
}

#[tokio::test]
async fn whole_numbers_that_overflow_are_an_error_and_do_not_wrap() {
    let session = session(&[("v", "id int4, a int4, b int8", &["1|2147483647|9223372036854775807"])]);
    for expression in ["a + a", "a * 2 * b", "b + 1", "-1 - b - 1", "-(-1 - b)", "case when a > 0 then b * 3 end"] {
        let sql = format!("select id, {expression} as x from v");
        let outcome = evaluate(&session, &model("id", &sql)).await;
        match outcome {
            Ok(evaluated) => assert_eq!(evaluated.rows, ["1|4294967294"], "{expression}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Data, "{error:?}");
                assert_eq!(error.detail().as_deref(), Some("arithmetic on whole numbers or decimals overflows"));
                assert!(!format!("{error:?}").contains("9223372036854775807"));
            }
        }
    }
    let error = failure(&session, &model("id", "select id, b + 1 as x from v")).await;
    assert_eq!(error.kind(), ErrorKind::Data);
    let unchanged =
        evaluate(&session, &model("id", "select id, b - 1 as x, a - 1 as y, sum(a) over () as z from v")).await;
    assert_eq!(unchanged.unwrap().rows, ["1|9223372036854775806|2147483646|2147483647"]);
}

#[tokio::test]
async fn a_sum_that_does_not_fit_is_an_error_and_does_not_wrap() {
    let most = "9223372036854775807";
    let wide = "9".repeat(38);
    let rows = [
        format!("1|1|{most}|5|{wide}"),
        format!("2|1|{most}|0.5|{wide}"),
        format!("3|1|-{most}|~|0"),
        "4|2|3|1|1".to_string(),
    ];
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let session = session(&[("v", "id int4, g int4, b int8, d numeric(38,10) null, e numeric(38,0)", &rows)]);
    let fits = "select g, sum(b) as b, sum(d) as d, sum(b) filter (where d > 1) as f from v group by g order by g";
    let evaluated = evaluate(&session, &model("g", fits)).await.unwrap();
    assert_eq!(evaluated.rows, [format!("1|{most}|5.5000000000|{most}"), "2|3|1.0000000000|~".to_string()]);
    let window =
        "select id, sum(b) over (order by id rows between 1 preceding and current row) as b from v where id > 1";
    assert_eq!(
        evaluate(&session, &model("id", window)).await.unwrap().rows,
        [format!("2|{most}"), "3|0".to_string(), format!("4|-{}", 9_223_372_036_854_775_804_u64)]
    );
    for wraps in [
        "select 1 as g, sum(b) as b from v where id < 3",
        "select g, sum(b) as b from v where id < 3 group by g",
        "select g, sum(e) as e from v group by g",
    ] {
        let error = failure(&session, &model("g", wraps)).await;
        assert_eq!(error.kind(), ErrorKind::Data, "{wraps}: {error:?}");
    }
}

#[tokio::test]
async fn a_with_query_may_have_the_name_of_the_table_that_it_reads() {
    let session = session(&[("v", "id int4", &["1", "2"])]);
    let sql = "with v as (select * from v where id > 1), w as (select * from v) select id from w";
    let model = model("id", sql);
    assert_eq!(model.inputs, ["v"]);
    assert_eq!(evaluate(&session, &model).await.unwrap().rows, ["2"]);
}

#[tokio::test]
async fn a_uuid_and_a_jsonb_keep_their_types_through_a_projection() {
    let session = session(&[("v", "id uuid, doc jsonb null, n int4", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|~|1"])]);
    let prepared =
        session.prepare(&model("id", "select w.doc as body, w.id from v w where n = 1 order by id")).await.unwrap();
    let types: Vec<&ColumnType> = prepared.schema().columns.iter().map(|column| &column.column_type).collect();
    assert_eq!(types, [&ColumnType::Jsonb, &ColumnType::Uuid]);
    assert_eq!(collect(&prepared).await.unwrap().rows, ["~|a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]);
}

#[tokio::test]
async fn output_types_are_those_that_starlift_carries() {
    let session = session(&[("v", "id int4, at timestamp, tags text[] null", &[])]);
    let sql = "select id, at::time as t, at::timestamp as ts, count(*) as n, max(arrow_cast(id, 'Int8')) as small, \
               tags, 1.50 as d, 'x' as s, date '2024-01-01' as day from v group by id, at, tags";
    let prepared = session.prepare(&model("id", sql)).await.unwrap();
    let types: Vec<String> = prepared.schema().columns.iter().map(|column| column.column_type.to_string()).collect();
    assert_eq!(types, ["int4", "time", "timestamp", "int8", "int2", "text[]", "numeric(3,2)", "text", "date"]);
    assert_eq!(collect(&prepared).await.unwrap().rows, [] as [&str; 0]);
}

#[tokio::test]
async fn a_part_of_a_microsecond_is_refused_and_not_cut() {
    let session = session(&[("v", "id int4", &["1"])]);
    let error =
        failure(&session, &model("id", "select id, timestamp '2024-01-02 03:04:05.123456789' as t from v")).await;
    assert_eq!(error.kind(), ErrorKind::Data);
    assert_eq!(error.message(), "column `t` of model `m` cannot be stored without loss");
    let whole = evaluate(&session, &model("id", "select id, timestamp '2024-01-02 03:04:05.123456' as t from v")).await;
    assert_eq!(whole.unwrap().rows, ["1|2024-01-02T03:04:05.123456"]);
}

#[tokio::test]
async fn a_type_that_starlift_does_not_carry_is_unsupported_by_name() {
    let session = session(&[("v", "id int4, at timestamp", &[])]);
    for (expression, column_type) in
        [("interval '1 day'", "Interval"), ("null", "Null"), ("named_struct('a', id)", "Struct")]
    {
        let error = failure(&session, &model("id", &format!("select id, {expression} as odd from v"))).await;
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        assert_eq!(error.message(), "column `odd` of model `m` has a type that starlift does not carry");
        assert!(error.detail().unwrap().contains(column_type), "{error:?}");
    }
}

#[tokio::test]
async fn casts_that_can_lose_are_warned_about_by_column_and_others_are_not() {
    let session = session(&[("v", "id int4, day text, price numeric(38,10), f float8, at timestamp, n int8", &[])]);
    let sql = "select id, day::date as due, price::decimal(10,2) as short, f::int as i, try_cast(n as int) as narrow, \
               at::date as d, at::time as t, id::bigint as wide, n::text as s from v where day > date '2024-01-01'";
    let prepared = session.prepare(&model("id", sql)).await.unwrap();
    let places: Vec<&str> = prepared.warnings().iter().map(|line| line.split("`: ").nth(1).unwrap_or(line)).collect();
    assert_eq!(prepared.warnings().len(), 5, "{:#?}", prepared.warnings());
    for (column, advice) in [
        ("due", "parse_date(text)"),
        ("short", "to_decimal(x, precision, scale)"),
        ("i", "to_int(x)"),
        ("narrow", "to_int(x)"),
    ] {
        let line = prepared.warnings().iter().find(|line| line.contains(&format!("column `{column}`")));
        assert!(line.is_some_and(|line| line.contains(advice)), "{column}: {:#?}", prepared.warnings());
    }
    assert!(prepared.warnings().iter().any(|line| line.contains("a filter")), "{places:?}");
}

#[tokio::test]
async fn quotients_and_averages_of_decimals_are_warned_about_with_their_digits() {
    let session = session(&[("v", "id int4, price numeric(10,2), n int4, f float8", &["1|7|2|1"])]);
    let sql = "select id, price / 3 as third, n / 2 as half, f / 3 as free, price * 2 as twice from v";
    let prepared = session.prepare(&model("id", sql)).await.unwrap();
    assert_eq!(prepared.warnings().len(), 1, "{:#?}", prepared.warnings());
    assert!(prepared.warnings()[0].contains("column `third`"), "{:#?}", prepared.warnings());
    assert!(prepared.warnings()[0].contains("is cut off after "), "{:#?}", prepared.warnings());
    let sql = "select n, avg(price) as mean, avg(f) as free, sum(price) as sum from v group by n";
    let prepared = session.prepare(&model("n", sql)).await.unwrap();
    assert_eq!(prepared.warnings().len(), 1, "{:#?}", prepared.warnings());
    assert!(prepared.warnings()[0].contains("is cut off after 6 decimals"), "{:#?}", prepared.warnings());
}

#[tokio::test]
async fn nan_is_the_greatest_float_of_a_group_whatever_the_order_of_its_rows() {
    let orders: [&[&str]; 3] = [
        &["1|1|NaN|3", "2|1|1|NaN", "3|1|3|1", "4|2|NaN|NaN", "5|3|~|~"],
        &["3|1|3|1", "1|1|NaN|3", "2|1|1|NaN", "4|2|NaN|NaN", "5|3|~|~"],
        &["2|1|1|NaN", "3|1|3|1", "5|3|~|~", "4|2|NaN|NaN", "1|1|NaN|3"],
    ];
    for rows in orders {
        let session = session(&[("v", "id int4, g int4, a float8 null, b float4 null", rows)]);
        let sql = "select g, min(a) as a, max(a) as b, min(b) as c, max(b) as d, max(id) as e from v group by g";
        let grouped = evaluate(&session, &model("g", sql)).await.unwrap();
        assert_eq!(grouped.rows, ["1|1.0|NaN|1.0|NaN|3", "2|NaN|NaN|NaN|NaN|4", "3|~|~|~|~|5"]);
        let whole = "select 1 as one, min(a) as a, max(a) as b, max(b) filter (where b < 3) as c from v";
        assert_eq!(evaluate(&session, &model("one", whole)).await.unwrap().rows, ["1|1.0|NaN|1.0"]);
        let window = "select id, max(a) over (partition by g) as a from v where g = 1";
        assert_eq!(evaluate(&session, &model("id", window)).await.unwrap().rows, ["1|NaN", "2|NaN", "3|NaN"]);
    }
}

#[tokio::test]
async fn a_nan_with_the_sign_bit_is_the_greatest_float_like_any_other() {
    let rows = &["1|1|-3|-3", "2|1|NaN|NaN", "3|1|-1|-1", "4|1|Infinity|Infinity"];
    let session = session(&[("v", "id int4, g int4, a float8, b float4", rows)]);
    let negated = "(select id, g, -a as a, -b as b from v) t";
    let both = format!("min(a) as a, max(a) as b, min(b) as c, max(b) as d from {negated}");
    let grouped = evaluate(&session, &model("g", &format!("select g, {both} group by g"))).await.unwrap();
    assert_eq!(grouped.rows, ["1|-inf|NaN|-inf|NaN"]);
    let whole = evaluate(&session, &model("one", &format!("select 1 as one, {both}"))).await.unwrap();
    assert_eq!(whole.rows, ["1|-inf|NaN|-inf|NaN"]);
    let frame = "over (order by id rows between 1 preceding and current row)";
    let sliding = format!("select id, max(a) {frame} as a, min(b) {frame} as b from {negated}");
    let slid = evaluate(&session, &model("id", &sliding)).await.unwrap();
    assert_eq!(slid.rows, ["1|3.0|3.0", "2|NaN|3.0", "3|NaN|1.0", "4|1.0|-inf"]);
}
