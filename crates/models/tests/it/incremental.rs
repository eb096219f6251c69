//! Which models can be evaluated for some keys alone, along which links, and over which rows.

use starlift_models::{Link, Session, Shape};

use crate::support::{collect, lines, model, rows, schema, session, source};

fn inputs() -> Session {
    let session = session(&[
        ("t", "id int4, u int4 null, w int8 null, name text null", &["1|7|5|a", "2|8|5|b", "3|~|6|c"]),
        ("u", "id int4, w int4 null, name text null", &["7|5|x", "8|~|y"]),
        ("w", "id int8, name text null", &["5|p", "6|q"]),
    ]);
    session.register_seed("names", b"name,long\na,alpha\n").unwrap();
    session
}

async fn shape_of(key: &str, sql: &str) -> Result<Shape, String> {
    let prepared = inputs().prepare(&model(key, sql)).await.unwrap();
    prepared.shape().cloned().map_err(str::to_string)
}

/// The scan that has the key with its column, and the links as `scan.column=scan.column`.
async fn told(sql: &str) -> String {
    let shape = shape_of("id", sql).await.unwrap();
    let mut text = format!("{}.{}", shape.scans[shape.driver], shape.key[0]);
    for scan in &shape.order {
        let Link { to, columns } = shape.links[*scan].as_ref().unwrap();
        for (own, other) in columns {
            text.push_str(&format!(" {}.{own}={}.{other}", shape.scans[*scan], shape.scans[*to]));
        }
    }
    text
}

#[tokio::test]
async fn a_model_that_cannot_says_why() {
    let cases = [
        ("select id, count(*) as n from t group by id", "it groups rows"),
        ("select distinct id from t", "it leaves out equal rows"),
        ("select id, row_number() over (order by id) as n from t", "it has a window function"),
        ("select id from t limit 3", "it has a limit"),
        ("select id from t order by name limit 3", "it has a limit"),
        ("select id from t union all select id from u", "it unites queries"),
        ("select id from t where u in (select id from u)", "it has a subquery"),
        ("select id, (select max(id) from u) as m from t", "it has a subquery"),
        ("select t.id from t full join u on t.u = u.id", "it has a full join"),
        ("select t.id from t left semi join u on t.u = u.id", "it has a semi or anti join"),
        ("select 1 as id", "it has rows of its own"),
        ("select id + 1 as id from t", "its key column `id` is computed"),
        ("select id::bigint as id from t", "its key column `id` is computed"),
        ("select long as id from names", "its key comes from a seed"),
        ("select u.id from t left join u on t.u = u.id", "its key comes from the optional side of an outer join"),
        (
            "select t.id from t left join (u left join w on u.w = w.id) on t.u = u.id",
            "it has an outer join on the optional side of another",
        ),
    ];
    for (sql, why) in cases {
        assert_eq!(shape_of("id", sql).await.err().as_deref(), Some(why), "{sql}");
    }
    let two = "select t.id as a, u.id as b from t join u on t.w = u.w";
    assert_eq!(shape_of("a, b", two).await.err().as_deref(), Some("its key comes from more than one input"));
}

#[tokio::test]
async fn links_lead_from_every_scan_to_the_one_that_has_the_key() {
    let cases = [
        ("select id, parse_date(name) as day from t where name is not null order by 2", "t.0"),
        ("select u.name, t.id from u join t on t.u = u.id", "t.0 u.0=t.1"),
        ("select t.id from t, u, w where w.id = u.w and u.id = t.u", "t.0 u.0=t.1 w.0=u.1"),
        ("select x.id from t x join (select id as other, w from u where w > 1) y on x.u = y.other", "t.0 u.0=t.1"),
        (
            "with v as (select id, w from u) select t.id from t join v on v.id = t.u and v.w = t.w",
            "t.0 u.0=t.1 u.1=t.2",
        ),
        // What keeps the meaning of an expression hides no link.
        (
            "select t.id, case when t.w <> 0 then 10 / t.w > 1 end as x, round(t.w * 1.5, 1) as r, \
             (t.w * 1.5)::numeric(10,0) as c from t join u on t.u = u.id and case when u.w <> 0 then 1 / u.w > 0 end",
            "t.0 u.0=t.1",
        ),
        // Each reading of an input is a scan of its own.
        ("select a.id from t a join t b on b.id = a.u", "t.0 t.0=t.1"),
        // A key that equals a column of a scan that is there in every row.
        ("select u.id from t join u on t.id = u.id", "u.0 t.0=u.0"),
        ("select u.id from t left join u on t.u = u.id where u.id = t.id", "t.0 u.0=t.0 u.0=t.1"),
        // Outer joins, of which only the condition that speaks of both sides counts.
        ("select t.id from t left join u on t.u = u.id and t.w = t.id", "t.0 u.0=t.1"),
        ("select t.id from u right join t on t.u = u.id", "t.0 u.0=t.1"),
        ("select t.id from t left join u on t.u = u.id left join w on w.id = u.w", "t.0 u.0=t.1 w.0=u.1"),
        ("select t.id from (t left join u on t.u = u.id) join w on w.id = u.w", "t.0 u.0=t.1 w.0=u.1"),
        // What is no equality of plain columns leads nowhere, and a seed does not change.
        ("select t.id from t cross join w", "t.0"),
        ("select t.id from t join w on t.w + 1 = w.id", "t.0"),
        ("select t.id from t join w on t.w is not distinct from w.id", "t.0"),
        ("select t.id from t left join names on names.name = t.name", "t.0"),
    ];
    for (sql, links) in cases {
        assert_eq!(told(sql).await, links, "{sql}");
    }
}

#[tokio::test]
async fn each_scan_can_read_fewer_rows() {
    let session = inputs();
    let sql = "select a.id, b.name as twin, coalesce(w.name, '-') as name \
               from t a join t b on b.id = a.id left join w on w.id = a.w";
    let prepared = session.prepare(&model("id", sql)).await.unwrap();
    assert_eq!(prepared.shape().unwrap().scans, ["t", "t", "w"]);
    let of_t = schema("id int4, u int4 null, w int8 null, name text null");
    let some = |lines: &[&str]| Some(source(vec![rows(&of_t, lines)]).0);
    let sources = vec![some(&["2|8|5|b", "3|~|6|c"]), some(&["1|7|5|a", "2|8|5|b"]), None];
    let mut evaluation = prepared.evaluate_over(sources).await.unwrap();
    let mut found = Vec::new();
    while let Some(batch) = evaluation.next_batch().await.unwrap() {
        found.push(batch.rows);
    }
    assert_eq!(lines(&found), ["2|b|p"]);
    assert_eq!(collect(&prepared).await.unwrap().rows, ["1|a|p", "2|b|p", "3|c|q"], "the model itself is as it was");
}
