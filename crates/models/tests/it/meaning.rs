//! Expressions mean what they mean in PostgreSQL, also where the engine would take them for something else: it makes them
//! right, or refuses them with what to write instead.

use starlift_core::ErrorKind;
use starlift_models::Session;

use crate::support::{collect, evaluate, failure, model, session};

/// Numbers by which another is divided, and texts of which some are numbers.
fn divisors() -> Session {
    session(&[
        (
            "e",
            "id int4, i int4 null, t text, flag bool null",
            &["1|7|12|~", "2|-7|x|true", "3|~|3|false", "4|0||~", "5|1|07|~"],
        ),
        ("p", "id int4, e_id int4 null", &["1|1", "2|1", "3|4", "4|~"]),
    ])
}

async fn rows(session: &Session, sql: &str) -> Vec<String> {
    match evaluate(session, &model("id", sql)).await {
        Ok(evaluated) => evaluated.rows,
        Err(error) => panic!("{sql}: {}", error.render()),
    }
}

#[tokio::test]
async fn a_case_that_yields_a_boolean_evaluates_only_the_branch_that_is_taken() {
    let session = divisors();
    let cases = [
        ("case when i <> 0 then 10 / i > 0 else false end", ["true", "false", "false", "false", "true"]),
        ("case when i <> 0 then 10 / i > 0 end", ["true", "false", "~", "~", "true"]),
        ("case when i = 0 then false else 10 / i > 0 end", ["true", "false", "~", "false", "true"]),
        ("case when i = 0 then true when 10 % i > 2 then false end", ["false", "false", "~", "true", "~"]),
        ("case when i = 0 then true when 10 / i > 0 then false else null end", ["false", "~", "~", "true", "false"]),
        (
            "case when t ~ '^[0-9]+$' then cast(t as int) > 5 else false end",
            ["true", "false", "false", "false", "true"],
        ),
        ("case when t ~ '^[0-9]+$' then to_int(t) > 5 else false end", ["true", "false", "false", "false", "true"]),
        ("case when i in (0, 1) then i * 9223372036854775807 >= 0 else true end", ["true"; 5]),
        ("not case when i <> 0 then 10 / i > 0 else false end", ["false", "true", "true", "true", "false"]),
        ("case when id < 9 then case when i <> 0 then 10 / i > 0 end end", ["true", "false", "~", "~", "true"]),
        ("case i when 0 then false else 10 / i > 0 end", ["true", "false", "~", "false", "true"]),
        // A comparison with a literal is taken into the branches.
        (
            "case when i = 0 then 'zero' when 10 / i > 0 then 'more' else 'less' end = 'more'",
            ["true", "false", "false", "false", "true"],
        ),
        // What else evaluates some of its arguments only becomes a `case`.
        ("coalesce(i = 0 or null, 10 / nullif(i, 0) > 0)", ["true", "false", "~", "true", "true"]),
        ("coalesce(flag, i is null or i = 0 or null, 10 / i > 0)", ["true", "true", "false", "true", "true"]),
        ("nvl(i = 0 or null, 10 / i > 0)", ["true", "false", "~", "true", "true"]),
        ("nvl2(i = 0 or null, false, 10 / i > 0)", ["true", "false", "~", "false", "true"]),
    ];
    for (expression, values) in cases {
        let expected: Vec<String> = values.iter().zip(1..).map(|(value, id)| format!("{id}|{value}")).collect();
        let sql = format!("select id, {expression} as v from e");
        assert_eq!(rows(&session, &sql).await, expected, "{expression}");
        let kept: Vec<String> =
            values.iter().zip(1..).filter(|(v, _)| **v == "true").map(|(_, id)| id.to_string()).collect();
        assert_eq!(rows(&session, &format!("select id from e where {expression}")).await, kept, "where {expression}");
    }
}

#[tokio::test]
async fn a_case_guards_in_conditions_of_joins_groups_and_orders() {
    let session = divisors();
    let guarded = "case when e.i = 0 then false else 10 / e.i >= 0 end";
    let cases = [
        (
            format!("select p.id, e.i as v from p left join e on p.e_id = e.id and {guarded}"),
            vec!["1|7", "2|7", "3|~", "4|~"],
        ),
        (format!("select p.id, e.i as v from p join e on p.e_id = e.id and {guarded}"), vec!["1|7", "2|7"]),
        (format!("select min(id) as id, {guarded} as v from e group by {guarded}"), vec!["1|true", "2|false", "3|~"]),
        (format!("select id from e order by {guarded}, id"), vec!["1", "2", "3", "4", "5"]),
        (format!("select id, count(*) filter (where {guarded}) over () as n from e where id < 3"), vec!["1|1", "2|1"]),
        (
            format!("select id from (select id, {guarded} as v from e) z where v"),
            vec!["1", "5"],
        ),
        (
            "select id from e where case when i <> 0 then exists (select 1 from p where p.e_id = e.id) else false end".into(),
            vec!["1"],
        ),
        (
            "select id from e where case when i <> 0 then 10 / i > 0 and exists (select 1 from p where p.e_id = e.id) end".into(),
            vec!["1"],
        ),
        (
            "select id from e where case when i <> 0 then 10 / i > (select min(id) - 1 from p) else false end".into(),
            vec!["1", "5"],
        ),
    ];
    for (sql, expected) in cases {
        assert_eq!(rows(&session, &sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn a_function_of_decimals_can_be_compared_with_a_literal() {
    let session = session(&[(
        "p",
        "id int4, w numeric(8,2) null, n int4",
        &["1|1.50|1", "2|2.45|1", "3|~|1", "4|9.00|0", "5|-2.55|1"],
    )]);
    let cases = [
        ("round(w, 1) = 1.5", "1"),
        ("round(w, 1) = 1.50", "1"),
        ("round(w, 1) <> 2.5", "1 4 5"),
        ("round(w, 1) <= 2.5", "1 2 5"),
        ("round(w, 1) < 2.5", "1 5"),
        ("round(w, 1) > 2", "2 4"),
        ("round(w, 1) >= 2.5", "2 4"),
        ("round(w, 2) = 1.5", "1"),
        ("round(w, 3) = 1.5", "1"),
        ("round(w, -1) = 10", "4"),
        ("round(w, -1) = 10.0", "4"),
        ("round(w, 0) = 2.0", "1 2"),
        ("round(w, 1) = cast(1.5 as numeric(8,2))", "1"),
        ("round(w, 1) = round(1.5, 1)", "1"),
        ("round(w, 1) + 0 = 1.5", "1"),
        ("round(w, 1 + 0) = 1.5", "1"),
        ("round(w, n) = 1.5", "1"),
        ("round(w, n) = 9", "4"),
        ("round(w, cast(1 as bigint)) = 1.5", "1"),
        ("round(w, 1) in (1.5, 2.5)", "1 2"),
        ("round(w, 1) between 1.5 and 2.5", "1 2"),
        ("case when round(w, 1) = 1.5 then true else false end", "1"),
        ("round(w) = 2", "1 2"),
        ("round(w) = 2.0", "1 2"),
        ("round(-w, 1) = 2.6", "5"),
        ("trunc(w, 1) = 2.4", "2"),
        ("trunc(w) = 2", "2"),
        ("trunc(w) = -2.00", "5"),
        ("abs(w) = 2.55", "5"),
        ("ceil(w) = 3", "2"),
        ("ceil(w) = 3.00", "2"),
        ("ceil(w) > 2.5", "2 4"),
        ("floor(w) = -3", "5"),
        ("floor(w) = 2.0", "2"),
        ("floor(w) in (1, 9)", "1 4"),
        ("signum(w) = -1.0", "5"),
        ("power(w, 2) = 81", "4"),
        ("sqrt(abs(w)) = 3.0", "4"),
        ("w % 2 = 1.00", "4"),
        ("greatest(w, 2.5) = 2.5", "1 2 3 5"),
        ("least(w, 2.5) = 2.5", "3 4"),
        ("nullif(w, 1.5) = 9", "4"),
        ("coalesce(w, 1.5) = 1.5", "1 3"),
        ("-w = 2.55", "5"),
    ];
    for (expression, ids) in cases {
        let expected: Vec<&str> = ids.split(' ').collect();
        assert_eq!(rows(&session, &format!("select id from p where {expression}")).await, expected, "{expression}");
        let told = rows(&session, &format!("select id, {expression} as v from p")).await;
        let told: Vec<&str> = told.iter().filter_map(|row| row.strip_suffix("|true")).collect();
        assert_eq!(told, expected, "{expression}");
    }
    // Digits that a subquery hands up are no literal either.
    let handed = "select id from (select id, w, 1 as k from p) z where round(w, k) = 1.5";
    assert_eq!(rows(&session, handed).await, ["1"]);
}

#[tokio::test]
async fn ceil_floor_and_round_have_room_for_what_is_carried() {
    let columns = "id int4, a numeric(3,2), b numeric(4,4), c numeric(12,3), d numeric(38,10), e numeric(2,0)";
    let widest = "9999999999999999999999999999.5000000000";
    let row = format!("1|9.99|0.5|-999999999.999|{widest}|99");
    let session = session(&[("v", columns, &[&row])]);
    let sql = "select id, ceil(a) as a, ceil(b) as b, floor(c) as c, ceil(d) as d, floor(d) as e, ceil(e) as f, \
               ceil(9.99) as g, floor(-9.5) as h, floor(b) as i, ceil(-b) as j, ceil(1.5::float8) as k, ceil(id) as l from v";
    let prepared = session.prepare(&model("id", sql)).await.unwrap();
    let types: Vec<String> =
        prepared.schema().columns.iter().skip(1).map(|column| column.column_type.to_string()).collect();
    assert_eq!(
        types.join(" "),
        "numeric(2,0) numeric(1,0) numeric(10,0) numeric(29,0) numeric(29,0) numeric(2,0) numeric(2,0) numeric(2,0) \
         numeric(1,0) numeric(1,0) float8 float8"
    );
    let expected =
        "1|10|1|-1000000000|10000000000000000000000000000|9999999999999999999999999999|99|10|-10|0|0|2.0|1.0";
    assert_eq!(collect(&prepared).await.unwrap().rows, [expected]);
    let sql = "select id, round(a, 1) as a, round(a) as b, round(a, -1) as c, round(e, -1) as d, round(d) as e, \
               round(9.99, 1) as f, round(2.5::float8) as g, round(id, -1) as h, round(a, 1)::text as i from v";
    let prepared = session.prepare(&model("id", sql)).await.unwrap();
    let types: Vec<String> =
        prepared.schema().columns.iter().skip(1).map(|column| column.column_type.to_string()).collect();
    assert_eq!(
        types.join(" "),
        "numeric(3,1) numeric(3,0) numeric(3,0) numeric(3,0) numeric(38,0) numeric(3,1) float8 int4 text"
    );
    let expected = "1|10.0|10|10|100|10000000000000000000000000000|10.0|3.0|0|10.0";
    assert_eq!(collect(&prepared).await.unwrap().rows, [expected]);
}

#[tokio::test]
async fn a_cast_that_rounds_rounds_beside_a_literal_too() {
    let session =
        session(&[("v", "id int4, n numeric(12,3) null", &["1|12.345", "2|-12.345", "3|~", "4|0.5", "5|12.3"])]);
    let cases = [
        ("n::numeric(12,1) = 12.3", "1 5"),
        ("12.3 = n::numeric(12,1)", "1 5"),
        ("n::numeric(12,1) in (12.3, 0.5)", "1 4 5"),
        ("n::numeric(12,1) not in (12.3, 0.5)", "2"),
        ("n::numeric(12,1) > 12.3", ""),
        ("n::numeric(12,1) <= 12.3", "1 2 4 5"),
        ("n::numeric(12,1) between 12.3 and 12.3", "1 5"),
        ("n::numeric(12,1) is distinct from 12.3", "2 3 4"),
        ("n::numeric(12,0) >= 12 and n < 13", "1 5"),
        ("n::int = 12", "1 5"),
        ("n::bigint in (12, 13)", "1 5"),
        ("try_cast(n as numeric(12,1)) = 12.3", "1 5"),
        ("case when n::numeric(12,1) = 12.3 then true else false end", "1 5"),
    ];
    for (expression, ids) in cases {
        let expected: Vec<&str> = ids.split(' ').filter(|id| !id.is_empty()).collect();
        assert_eq!(rows(&session, &format!("select id from v where {expression}")).await, expected, "{expression}");
    }
    for (sql, expected) in [
        ("select id from (select id, n::numeric(12,1) as r from v) z where r = 12.3", vec!["1", "5"]),
        ("select a.id from v a join v b on b.id = 5 and a.n::numeric(12,1) = b.n", vec!["1", "5"]),
        ("select id, n::numeric(12,1) as r from v where id < 3", vec!["1|12.3", "2|-12.3"]),
    ] {
        assert_eq!(rows(&session, sql).await, expected, "{sql}");
    }
    let prepared = session.prepare(&model("id", "select id, n::numeric(12,1) as r from v")).await.unwrap();
    assert!(prepared.warnings()[0].contains("column `r`: `CAST("), "{:?}", prepared.warnings());
    assert_eq!(prepared.schema().columns[1].column_type.to_string(), "numeric(12,1)");
}

#[tokio::test]
async fn a_text_beside_a_column_of_bytes_is_read_as_bytes() {
    let session = session(&[
        ("v", "id int4, b bytea null", &["1|Hello", "2|~", "3|a\\b", "4|\\x41"]),
        ("w", "id int4, t text", &["1|\\x41"]),
    ]);
    let cases = [
        (r"b = '\x48656c6c6f'", "1"),
        (r"'\x48656C6C6F' = b", "1"),
        (r"b in ('\x48656c6c6f', '\x00')", "1"),
        (r"b = '\x48 65 6c 6c 6f'", "1"),
        (r"b = '\x48656c6c6f'::bytea", "1"),
        (r"b = 'Hello'", "1"),
        (r"b = '\110ello'", "1"),
        (r"b = 'a\\b'", "3"),
        (r"b = '\\x41'", "4"),
        (r"b > '\x61'", "3"),
        (r"case b when '\x48656c6c6f' then true else false end", "1"),
    ];
    for (expression, ids) in cases {
        let expected: Vec<&str> = ids.split(' ').collect();
        assert_eq!(rows(&session, &format!("select id from v where {expression}")).await, expected, "{expression}");
    }
    // Text stays text.
    assert_eq!(rows(&session, r"select id from w where t = '\x41'").await, ["1"]);
    for literal in [r"\x4", r"\xzz", r"\9", r"a\", r"\400"] {
        let error = failure(&session, &model("id", &format!("select id from v where b = '{literal}'"))).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{literal}: {error:?}");
        assert_eq!(error.detail().as_deref(), Some(&*format!("`'{literal}'` is no value of type bytea")), "{literal}");
    }
}

#[tokio::test]
async fn a_shared_column_of_a_right_or_full_join_is_refused_with_what_to_write() {
    let session = session(&[("e", "id int4", &["1", "6"]), ("p", "id int4, tag text", &["1|a", "2|b"])]);
    for join in [
        "e right join p using (id)",
        "e right outer join p using (id)",
        "e full join p using (id)",
        "e natural right join p",
        "e natural full join p",
        "(e full join p using (id))",
        "e e2 join (e right join p using (id)) on true",
    ] {
        let error = failure(&session, &model("id", &format!("select p.id, p.tag from {join}"))).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{join}: {error:?}");
        let said = error.message().to_string();
        assert!(said.starts_with("model `m` uses `using` or `natural` with a right or full join"), "{join}: {error:?}");
        assert!(error.hint().unwrap().contains("`coalesce(a.id, b.id)`"), "{join}: {error:?}");
    }
    let within = "select id from e where id in (select q.id from e q right join p using (id))";
    assert!(failure(&session, &model("id", within)).await.message().contains("`using`"));
    for (sql, expected) in [
        ("select id, tag from e join p using (id)", vec!["1|a"]),
        ("select id, tag from e left join p using (id)", vec!["1|a", "6|~"]),
        ("select id, tag from e natural left join p", vec!["1|a", "6|~"]),
        ("select coalesce(e.id, p.id) as id, tag from e full join p on e.id = p.id", vec!["1|a", "2|b", "6|~"]),
    ] {
        assert_eq!(rows(&session, sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn a_subquery_that_always_has_a_row_is_refused_where_the_engine_forgets_it() {
    let session = divisors();
    for (condition, what) in [
        ("exists (select max(id) from p where p.e_id = e.id)", "exists"),
        ("not exists (select max(id) from p where p.e_id = e.id)", "exists"),
        ("exists (select coalesce(max(z.id), 0) + 1 from (select id, e_id from p) z where z.e_id = e.id)", "exists"),
        ("exists (select 1 from p where p.e_id = e.id having count(*) = 0)", "exists"),
        ("exists (select 1 from p where p.e_id = e.id having max(p.id) is null)", "exists"),
        ("0 in (select count(*) from p where p.e_id = e.id)", "in"),
        ("id not in (select max(p.id) from p where p.e_id = e.id)", "not in"),
        ("1 in (select coalesce(max(p.id), 1) from p where p.e_id = e.id)", "in"),
        ("0 = any (select count(*) from p where p.e_id = e.id)", "any` or `all"),
        ("id <> all (select max(p.id) from p where p.e_id = e.id)", "any` or `all"),
    ] {
        let error = failure(&session, &model("id", &format!("select id from e where {condition}"))).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{condition}: {error:?}");
        let said = format!("model `m` uses `{what}` with a subquery that groups all rows into one");
        assert!(error.message().starts_with(&said), "{condition}: {error:?}");
        assert!(error.hint().is_some());
    }
    for (condition, expected) in [
        ("exists (select max(id) from p where p.e_id = e.id group by p.e_id)", vec!["1", "4"]),
        ("exists (select max(id) from p)", vec!["1", "2", "3", "4", "5"]),
        ("exists (select 1 from p where p.e_id = e.id having count(*) > 1)", vec!["1"]),
        ("not exists (select 1 from p where p.e_id = e.id having count(*) > 1)", vec!["2", "3", "4", "5"]),
        ("2 in (select max(p.id) from p where p.e_id = e.id)", vec!["1"]),
        ("2 in (select max(p.id) as m from p where p.e_id = e.id)", vec!["1"]),
        ("(select count(*) from p where p.e_id = e.id) = 0", vec!["2", "3", "5"]),
    ] {
        assert_eq!(rows(&session, &format!("select id from e where {condition}")).await, expected, "{condition}");
    }
}

#[tokio::test]
async fn what_reads_like_postgresql_and_is_not_is_refused_with_what_to_write() {
    let session = session(&[("v", "id int4, d date, n int4, a bool null, b bool", &["1|2024-01-02|2|~|true"])]);
    for (expression, what, instead) in [
        ("to_char(d, 'YYYY-MM-DD')", "`to_char` with a pattern of PostgreSQL", "%Y-%m-%d"),
        ("to_char(d, 'YYYYMM')", "`to_char` with a pattern of PostgreSQL", "%Y-%m-%d"),
        ("date_format(d, 'YYYY')", "`to_char` with a pattern of PostgreSQL", "%Y-%m-%d"),
        ("n ^ 3", "`^`", "power(a, b)"),
        ("(select max(n ^ 3) from v)", "`^`", "power(a, b)"),
        ("n is distinct from 2 and b", "`is distinct from` before `and` or `or`", "(a is distinct from b)"),
        ("a is not distinct from b or b", "`is distinct from` before `and` or `or`", "(a is distinct from b)"),
    ] {
        let error = failure(&session, &model("id", &format!("select id, {expression} as x from v"))).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{expression}: {error:?}");
        assert!(error.message().starts_with(&format!("model `m` uses {what}")), "{expression}: {error:?}");
        assert!(error.hint().unwrap().contains(instead), "{expression}: {error:?}");
    }
    let sql = "select id, to_char(d, '%Y-%m-%d') as s, power(n, 3) as p, (n is distinct from 2) and b as x, \
               a is distinct from (b and b) as y, n is not distinct from 2 as z from v";
    assert_eq!(rows(&session, sql).await, ["1|2024-01-02|8.0|false|true|true"]);
}

#[tokio::test]
async fn joins_on_columns_that_may_both_be_null_are_said_to_need_parentheses() {
    let session = divisors();
    let join = |on: &str| format!("select p.id, q.id as v from p left join p q on {on}");
    let error = failure(&session, &model("id", &join("q.e_id is not distinct from p.e_id and q.id = 1"))).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("`is distinct from` before `and` or `or`"), "{error:?}");
    let sql = join("(q.e_id is not distinct from p.e_id) and q.id = 1");
    assert_eq!(rows(&session, &sql).await, ["1|1", "2|1", "3|~", "4|~"]);
}

#[tokio::test]
async fn types_that_do_not_go_together_are_named() {
    let session = divisors();
    for sql in ["select id from e where i and flag", "select p.id from p left join e on e.id and e.flag"] {
        let error = failure(&session, &model("id", sql)).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{sql}: {error:?}");
        assert!(error.detail().unwrap().contains("Int32 AND Boolean"), "{sql}: {error:?}");
    }
}
