//! Refused values cost their row only, and say which and why.

use starlift_core::ErrorKind;
use starlift_core::model::Model;

use crate::support::{evaluate, failure, model, session};

const NOT_THE_FORM: &str = "not a date in the form YYYY-MM-DD";

#[tokio::test]
async fn every_bad_date_is_refused_by_key_and_the_good_rows_come_through() {
    let session = session(&[(
        "orders",
        "id int4, due text null",
        &[
            "1|2024-01-02",
            "2|",
            "3|2024-02-30",
            "4|31/12/2024",
            "5| 2024-01-02 ",
            "6|n/a",
            "7|20240102",
            "8|~",
            "9|2024-02-29",
        ],
    )]);
    let evaluated = evaluate(&session, &model("id", "select id, parse_date(due) as due from orders")).await.unwrap();
    assert_eq!(evaluated.rows, ["1|2024-01-02", "8|~", "9|2024-02-29"]);
    assert_eq!(
        evaluated.refused,
        [
            format!("2|~|due|{NOT_THE_FORM}"),
            "3|~|due|a date that is not in the calendar".into(),
            format!("4|~|due|{NOT_THE_FORM}"),
            format!("5|~|due|{NOT_THE_FORM}"),
            format!("6|~|due|{NOT_THE_FORM}"),
            format!("7|~|due|{NOT_THE_FORM}"),
        ]
    );
    assert_eq!(evaluated.refusals.rows(), 6);
    let groups: Vec<_> = evaluated.refusals.groups().map(|g| (g.column.as_str(), g.reason.as_str(), g.rows)).collect();
    assert_eq!(groups, [("due", "a date that is not in the calendar", 1), ("due", NOT_THE_FORM, 5)]);
    let example = &evaluated.refusals.groups().next().unwrap().examples[0];
    assert_eq!(example, "id=3");
}

#[tokio::test]
async fn all_refused_rows_are_counted_and_five_are_examples() {
    let rows: Vec<String> = (0..40).map(|id| format!("{id}|x")).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let session = session(&[("orders", "id int4, due text", &rows)]);
    let evaluated = evaluate(&session, &model("id", "select id, parse_date(due) as due from orders")).await.unwrap();
    assert_eq!(evaluated.refusals.rows(), 40);
    assert_eq!(evaluated.refused.len(), 40);
    let group = evaluated.refusals.groups().next().unwrap();
    assert_eq!((group.rows, group.examples.len()), (40, 5));
}

#[tokio::test]
async fn a_row_with_two_refused_values_counts_once_and_names_both() {
    let session = session(&[("orders", "id int4, due text, price text", &["1|x|1.234", "2|2024-01-01|1.23"])]);
    let sql = "select id, parse_date(due) as due, to_decimal(price, 10, 2) as price from orders";
    let evaluated = evaluate(&session, &model("id", sql)).await.unwrap();
    assert_eq!(evaluated.rows, ["2|2024-01-01|1.23"]);
    assert_eq!(evaluated.refused, [format!("1|~|~|due|{NOT_THE_FORM}")]);
    assert_eq!(evaluated.refusals.rows(), 1);
    let columns: Vec<&str> = evaluated.refusals.groups().map(|group| group.column.as_str()).collect();
    assert_eq!(columns, ["due", "price"]);
}

#[tokio::test]
async fn refusals_pass_through_common_table_expressions_joins_unions_and_orders() {
    let session = session(&[
        ("orders", "id int4, due text, shop int4", &["1|2024-01-02|1", "2|x|1", "3|x|9", "4|2024-01-05|9"]),
        ("shops", "shop int4, name text", &["1|north"]),
    ]);
    let read = "with clean as (select id, shop, parse_date(due) as due from orders)";
    let cases = [
        ("select id, due from clean order by due", vec!["1|2024-01-02", "4|2024-01-05"], 2),
        ("select c.id, c.due from clean c join shops s on s.shop = c.shop", vec!["1|2024-01-02"], 1),
        ("select c.id, c.due from shops s left join clean c on s.shop = c.shop", vec!["1|2024-01-02"], 1),
        ("select id, due from clean where shop = 9", vec!["4|2024-01-05"], 1),
        ("select distinct id, due from clean", vec!["1|2024-01-02", "4|2024-01-05"], 2),
        (
            "select id, due from clean union all select shop + 100, null from shops",
            vec!["101|~", "1|2024-01-02", "4|2024-01-05"],
            2,
        ),
        ("select id, due + interval '1 day' as due from clean where id < 3", vec!["1|2024-01-03"], 1),
        // The refused column is not used, so nothing is refused.
        ("select id, shop from clean where shop = 9", vec!["3|9", "4|9"], 0),
    ];
    for (select, rows, refused) in cases {
        let evaluated = evaluate(&session, &model("id", &format!("{read} {select}"))).await.unwrap();
        let dates_only: Vec<String> = evaluated.rows.iter().map(|row| row.replace("T00:00:00", "")).collect();
        assert_eq!(dates_only, rows, "{select}");
        assert_eq!(evaluated.refusals.rows(), refused, "{select}");
    }
}

#[tokio::test]
async fn a_branch_that_is_not_taken_refuses_nothing() {
    let session = session(&[(
        "orders",
        "id int4, due text, done text null",
        &["1||2024-01-02", "2|x|~", "3|2024-01-05|~", "4|~~|x"],
    )]);
    let cases = [
        ("case when due <> '' then parse_date(due) end", vec!["1|~", "3|2024-01-05"]),
        ("case due when '' then null else parse_date(due) end", vec!["1|~", "3|2024-01-05"]),
        ("coalesce(parse_date(done), parse_date(due))", vec!["1|2024-01-02", "3|2024-01-05"]),
        ("parse_date(nullif(due, ''))", vec!["1|~", "3|2024-01-05"]),
    ];
    for (expression, rows) in cases {
        let sql = format!("select id, {expression} as due from orders");
        let evaluated = evaluate(&session, &model("id", &sql)).await.unwrap();
        assert_eq!(evaluated.rows, rows, "{expression}");
        assert_eq!(evaluated.refusals.rows(), 2, "{expression}");
    }
}

#[tokio::test]
async fn a_strict_call_that_decides_which_rows_there_are_is_an_error_without_the_value() {
    let session = session(&[("orders", "id int4, due text", &["1|2024-01-02", "2|CANARY"])]);
    let read = "with clean as (select id, parse_date(due) as due from orders)";
    let queries = [
        "select id from orders where parse_date(due) > date '2024-01-01'".to_string(),
        format!("{read} select id, due from clean where due is not null"),
        format!("{read} select count(*) as id, max(due) as due from clean"),
        format!("{read} select a.id from clean a join clean b on a.due = b.due"),
        format!("{read} select id, due from clean order by due limit 1"),
        "select id, case when parse_date(due) > date '2024-01-01' then 1 end as x from orders".to_string(),
        "select id, nvl2(due, parse_date(due), null) as x from orders".to_string(),
        format!("{read} select id, row_number() over (order by due) as n from clean"),
    ];
    for sql in queries {
        let error = failure(&session, &model("id", &sql)).await;
        assert_eq!(error.kind(), ErrorKind::Data, "{sql}: {error:?}");
        assert_eq!(error.message(), "model `m` cannot be evaluated");
        assert!(error.detail().unwrap().contains("`parse_date` refused a value: not a date"), "{error:?}");
        assert!(error.hint().unwrap().contains("`parse_date`"));
        assert!(!format!("{error:?}").contains("CANARY"));
    }
}

#[tokio::test]
async fn keys_of_several_columns_and_a_null_in_a_key_are_named() {
    let session =
        session(&[("orders", "a int4 null, b text, due text", &["1|x|bad", "~|y|2024-01-02", "2|z|2024-01-02"])]);
    let model =
        Model::parse("m", "-- kind: fact\n-- key: b, a\nselect a, b, parse_date(due) as due from orders").unwrap();
    let evaluated = evaluate(&session, &model).await.unwrap();
    assert_eq!(evaluated.rows, ["2|z|2024-01-02"]);
    let keys: Vec<_> = evaluated
        .refusals
        .groups()
        .map(|group| (group.column.as_str(), group.examples[0].as_str(), group.reason.as_str()))
        .collect();
    assert_eq!(keys, [("a", "b=y, a=null", "it is part of the key and null"), ("due", "b=x, a=1", NOT_THE_FORM)]);
}

#[tokio::test]
async fn strict_functions_carry_values_exactly_or_refuse_them() {
    let session = session(&[(
        "v",
        "id int4, t text, d numeric(38,10), i int8, f float8",
        &["1|12:30:00.5|1.5|7|0.1", "2|24:00:00|2.25|3000000000|2.675", "3|25:00:00|0.001|-1|1e30"],
    )]);
    let cases = [
        ("parse_time(t)", vec!["1|12:30:00.500", "2|ERROR"], 1),
        ("to_decimal(d, 5, 2)", vec!["1|1.50", "2|2.25"], 1),
        ("to_decimal(i, 10, 0)", vec!["1|7", "2|3000000000", "3|-1"], 0),
        ("to_decimal(f, 10, 3)", vec!["1|0.100", "2|2.675"], 1),
        ("to_int(i)", vec!["1|7", "3|-1"], 1),
        ("to_bigint(i)", vec!["1|7", "2|3000000000", "3|-1"], 0),
        ("to_int(d)", vec![], 3),
        (
            "parse_timestamp('2024-01-02 03:04:05.000006')",
            vec!["1|2024-01-02T03:04:05.000006", "2|2024-01-02T03:04:05.000006", "3|2024-01-02T03:04:05.000006"],
            0,
        ),
    ];
    for (expression, rows, refused) in cases {
        let evaluated =
            evaluate(&session, &model("id", &format!("select id, {expression} as x from v"))).await.unwrap();
        let shown: Vec<String> = evaluated
            .rows
            .iter()
            .map(|row| if row.contains("ERROR") { "2|ERROR".into() } else { row.clone() })
            .collect();
        assert_eq!(shown, rows, "{expression}");
        assert_eq!(evaluated.refusals.rows(), refused, "{expression}");
    }
}

#[tokio::test]
async fn a_strict_function_that_is_called_wrongly_is_a_config_error() {
    let session = session(&[("v", "id int4, t text", &[])]);
    for call in [
        "parse_date(id)",
        "parse_date()",
        "to_decimal(t)",
        "to_decimal(t, 10, id)",
        "to_decimal(t, 39, 2)",
        "to_int(true)",
    ] {
        let error = failure(&session, &model("id", &format!("select id, {call} as x from v"))).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{call}: {error:?}");
        assert!(error.hint().is_some());
    }
}
