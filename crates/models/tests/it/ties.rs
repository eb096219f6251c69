//! Rows that an order leaves equal: which of them is taken does not follow the order in which they are read.

use std::sync::Arc;

use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use starlift_models::{Session, SessionOptions};

use crate::support::{evaluate, lines, model, rows, schema, session, source};

const COLUMNS: &str = "id int4, g int4, d int4, t text null, n int4";
/// In each group days that come twice, with texts that come twice.
const ROWS: [&str; 12] = [
    "1|1|5|b|10",
    "2|1|5|a|20",
    "3|1|5|~|30",
    "4|1|4|c|40",
    "5|2|7|x|50",
    "6|2|7|x|60",
    "7|2|7|w|70",
    "8|2|8|v|80",
    "9|3|1|~|90",
    "10|3|1|z|100",
    "11|3|1|y|110",
    "12|3|0|y|120",
];

/// Queries that pick among rows which an order leaves equal, or take all of them in order; each with its key.
const PICKS: &[(&str, &str)] = &[
    ("g", "select distinct on (g) g, id, t from v order by g, d desc"),
    ("g", "select distinct on (g) g, t from v"),
    ("h", "select distinct on (g + 1, n > 0) g + 1 as h, upper(t) as t, n from v order by g + 1, n > 0, d"),
    ("g", "select * from (select distinct on (g) g, d, t from v order by g desc, d) x limit 2"),
    ("id", "select id, row_number() over () as n, ntile(5) over (order by d) as b from v"),
    ("id", "select id, row_number() over (partition by g) as n from v"),
    ("id", "select id, lag(t) over (partition by g order by d) as a, lead(id, 2, -1) over (order by d) as b from v"),
    ("id", "select id, lag(t) ignore nulls over (partition by g order by d) as a from v"),
    ("id", "select id, first_value(t) over (partition by g order by d) as a from v"),
    ("id", "select id, last_value(t) over (partition by g) as a, nth_value(t, 2) over (partition by g) as b from v"),
    ("id", "select id, sum(n) over (partition by g order by d rows between 1 preceding and current row) as s from v"),
    ("id", "select id, array_agg(t) over (partition by g order by d rows unbounded preceding) as s from v"),
    ("id", "select id, string_agg(t, '-') over (partition by g) as s from v"),
    ("id", "select id, row_number() over w as n, lag(id) over w as l from v window w as (order by g, d)"),
    ("g", "select g, first_value(t) as a, last_value(id) as b, first_value(id) as c from v group by g"),
    ("g", "select g, first_value(t order by d desc) as a, first_value(id order by d desc) as b from v group by g"),
    ("g", "select g, last_value(t) filter (where n > 20) as a, any_value(t) as b, count(*) as c from v group by g"),
    ("g", "select g, array_agg(distinct t) as a from v group by g"),
    ("g", "select g, array_agg(distinct t) as a, string_agg(distinct t, '-') as b, sum(n) as s from v group by g"),
    ("g", "select g, array_agg(t order by d) as a, array_agg(id order by d desc) as b from v group by g"),
    ("g", "select g, string_agg(t, '-' order by d) as a, first_value(n order by d) as b from v group by g"),
    ("g", "select g, nth_value(id, 2 order by d) as a, max(t) as b from v group by g"),
    ("one", "select 1 as one, first_value(t order by d) as a, any_value(n) as b from v"),
    ("id", "select id, t from v order by d desc limit 3"),
    ("id", "select id, t from v order by d limit 2 offset 1"),
    ("id", "select id, t from v order by d offset 9"),
    ("id", "select id, t from v limit 3"),
    ("id", "select id from (select * from v order by d limit 5) x where n > 10 limit 2"),
    ("id", "select id from (select id, d from v union all select id + 100, d from v) x limit 5"),
    ("id", "select a.id, b.t from v a left join v b on b.g = a.g and b.d < a.d limit 4"),
    ("id", "select id, (select t from v order by d limit 1) as t from v"),
    ("id", "select id from v where n in (select n from v order by g limit 3)"),
    ("id", "select id from v where exists (select 1 from v w where w.g = v.g + 1 limit 1)"),
    ("g", "select g, count(*) as c from (select g from v order by d limit 7) x group by g"),
    (
        "id",
        "with w as (select *, make_array(t) as tags from v) \
                select id, tags from (select *, row_number() over (partition by g order by d) as rn from w) x where rn < 3",
    ),
    ("id", "select id, tags from (select id, d, make_array(t) as tags from v) w order by d limit 4"),
];

/// The rows in several orders, in one batch and in many, as files bring them before and after they are merged.
fn sessions() -> Vec<Session> {
    let straight = ROWS.to_vec();
    let reversed: Vec<&str> = ROWS.iter().rev().copied().collect();
    let strided: Vec<&str> = (0..ROWS.len()).map(|place| ROWS[place * 7 % ROWS.len()]).collect();
    let halves = [&ROWS[6..], &ROWS[..6]].concat();
    let mut sessions = Vec::new();
    for (order, batch) in [(straight, 12), (reversed, 12), (strided, 1), (halves, 5)] {
        let session = Session::new(SessionOptions { batch_rows: batch, ..SessionOptions::default() }).unwrap();
        let schema = schema(COLUMNS);
        let batches = order.chunks(batch).map(|lines| rows(&schema, lines)).collect();
        session.register_input("v", &schema, source(batches).0).unwrap();
        sessions.push(session);
    }
    sessions
}

/// What a query yields of every order, which has to be the same.
async fn always(key: &str, sql: &str) -> Vec<String> {
    let mut first: Option<Vec<String>> = None;
    for session in sessions() {
        let evaluated = evaluate(&session, &model(key, sql)).await;
        let rows = evaluated.unwrap_or_else(|error| panic!("{sql}\n{error:?}")).rows;
        assert_eq!(&rows, first.get_or_insert_with(|| rows.clone()), "{sql}");
    }
    first.unwrap_or_default()
}

#[tokio::test]
async fn the_row_that_is_picked_among_equals_is_the_same_however_rows_are_read() {
    let numbered = "select *, row_number() over (partition by g order by d desc) as rn from v";
    let latest = format!("select g, id, t from ({numbered}) x where rn = 1");
    assert_eq!(always("g", &latest).await, ["1|1|b", "2|8|v", "3|9|~"]);
    for (key, sql) in PICKS {
        let rows = always(key, sql).await;
        assert!(!rows.is_empty(), "{sql}");
    }
}

/// So that the test above would fail without what it tests.
#[tokio::test]
async fn in_an_ordinary_session_most_picks_follow_the_order_in_which_rows_are_read() {
    let mut follow = 0;
    for (_, sql) in PICKS {
        let mut found = Vec::new();
        for order in [ROWS.to_vec(), ROWS.iter().rev().copied().collect()] {
            let batch = rows(&schema(COLUMNS), &order);
            let ordinary = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
            let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
            ordinary.register_table("v", Arc::new(table)).unwrap();
            found.push(lines(&ordinary.sql(sql).await.unwrap().collect().await.unwrap()));
        }
        follow += usize::from(found[0] != found[1]);
    }
    println!("{follow} of {} follow it", PICKS.len());
    assert!(follow * 3 > PICKS.len() * 2, "{follow} of {}", PICKS.len());
}

#[tokio::test]
async fn orders_that_contradict_one_another_are_left_to_the_engine() {
    for (sql, of_last) in [
        (
            "select g, string_agg(distinct t, ',') as x, string_agg(id::text, ',' order by d) as y from v group by g",
            "12,",
        ),
        (
            "select g, string_agg(id::text, ',' order by d desc) as x, string_agg(t, ',' order by d) as y from v group by g",
            "y,",
        ),
        ("select g, nth_value(id, 1 order by d desc) as x, nth_value(id, 1 order by d) as y from v group by g", "12"),
    ] {
        for session in sessions() {
            let rows =
                evaluate(&session, &model("g", sql)).await.unwrap_or_else(|error| panic!("{sql}\n{error:?}")).rows;
            assert!(rows.len() == 3 && rows[2].split('|').nth(2).unwrap().starts_with(of_last), "{sql}: {rows:?}");
        }
    }
}

#[tokio::test]
async fn an_order_that_is_given_holds_and_equal_rows_come_by_their_other_columns() {
    let limit = "select id, d from v order by d desc limit 4";
    assert_eq!(always("id", limit).await, ["5|7", "6|7", "7|7", "8|8"]);
    let twice = "select id from (select id, d from v order by d limit 6) x limit 2";
    assert_eq!(always("id", twice).await, ["12", "9"]);
    let ordered = "select g, array_agg(id order by d desc) as ids from v group by g";
    assert_eq!(always("g", ordered).await, ["1|[1, 2, 3, 4]", "2|[8, 5, 6, 7]", "3|[9, 10, 11, 12]"]);
    let one_row = "select g, first_value(t order by d) as t, first_value(id order by d) as id from v group by g";
    assert_eq!(always("g", one_row).await, ["1|c|4", "2|w|7", "3|y|12"]);
    let any = "select g, any_value(t) as t from v group by g";
    assert_eq!(always("g", any).await, ["1|a", "2|v", "3|y"]);
}

#[tokio::test]
async fn rows_that_count_together_go_on_counting_together() {
    let sql = "select id, rank() over w as a, dense_rank() over w as b, sum(n) over w as c, count(*) over w as d, \
               row_number() over w as e, max(t) over w as f from v where g = 1 window w as (partition by g order by d)";
    let counted = ["1|2|2|100|4|2|c", "2|2|2|100|4|3|c", "3|2|2|100|4|4|c", "4|1|1|40|1|1|c"];
    assert_eq!(always("id", sql).await, counted);
    let sql = "select id, percent_rank() over (order by d) as a, cume_dist() over (order by d) as b, \
               lag(id) over (order by d) as c from v where g = 2";
    assert_eq!(always("id", sql).await, ["5|0.0|0.75|~", "6|0.0|0.75|5", "7|0.0|0.75|6", "8|1.0|1.0|7"]);
    let near =
        "select id, count(*) over (order by d range between 1 preceding and current row) as c from v where g = 1";
    assert_eq!(always("id", near).await, ["1|4", "2|4", "3|4", "4|1"]);
    let columns = "select g, sum(n) over (order by g, d) as a, row_number() over (order by g, d) as b, n, \
                   sum(n) over (order by g, d) + 1 as c, id from v where id < 3";
    assert_eq!(always("id", columns).await, ["1|30|1|10|31|1", "1|30|2|20|31|2"]);
}

#[tokio::test]
async fn what_takes_rows_in_no_certain_order_is_warned_about_and_nothing_else_is() {
    let session = session(&[("v", COLUMNS, &ROWS)]);
    for (key, sql, named) in [
        ("g", "select g, array_agg(t) as a from v group by g", "`array_agg` takes values in no certain order; "),
        ("g", "select g, string_agg(t, ',') as a from v group by g", "write `string_agg(… order by …)`"),
        ("id", "select id, last_value(t) over (order by d) as a from v", "equal in its `order by` in no certain order"),
        ("id", "select id, array_agg(t) over (order by d) as a from v", "`array_agg(…) over (…)` takes rows"),
        ("id", "select id, first_value(t) ignore nulls over (order by d) as a from v", "`first_value(…) over (…)`"),
    ] {
        let prepared = session.prepare(&model(key, sql)).await.unwrap();
        let [line] = prepared.warnings() else { panic!("{sql}: {:?}", prepared.warnings()) };
        assert!(line.starts_with("model `m`: ") && line.contains(named), "{line}");
    }
    for (key, sql) in [
        (
            "g",
            "select g, array_agg(distinct t) as a, array_agg(t order by id) as b, first_value(t) as c from v group by g",
        ),
        (
            "id",
            "select id, rank() over (order by d) as a, sum(n) over (order by d) as b, row_number() over () as c from v",
        ),
        (
            "id",
            "select id, last_value(t) over (order by d rows between unbounded preceding and current row) as a from v",
        ),
        ("g", "select distinct on (g) g, t from v limit 2"),
    ] {
        assert_eq!(session.prepare(&model(key, sql)).await.unwrap().warnings(), [] as [String; 0], "{sql}");
    }
}

#[tokio::test]
async fn an_error_of_a_row_is_not_explained_by_a_list_without_an_order() {
    let session = session(&[("v", COLUMNS, &ROWS)]);
    let sql = "select g, array_agg(t) as a, sum(10 / (n - 10)) as s from v group by g";
    let error = evaluate(&session, &model("g", sql)).await.unwrap_err();
    assert!(!format!("{error:?}").contains("in no certain order"), "{error:?}");
}
