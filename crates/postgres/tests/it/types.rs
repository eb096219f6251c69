//! docs/types.md names every type that PostgreSQL ships, and says of each what is done.

use std::collections::{BTreeMap, BTreeSet};

use starlift_postgres::catalog::{ColumnSetting, TableSettings};
use starlift_postgres::render::arrow_text;

use crate::catalog::catalog;
use crate::support::{database, rows, version};

const DOCUMENT: &str = include_str!("../../../../docs/types.md");

/// What PostgreSQL 13 does not have; from 14 to 18 the list is the same.
const SINCE_14: [&str; 8] = [
    "int4multirange",
    "int8multirange",
    "nummultirange",
    "datemultirange",
    "tsmultirange",
    "tstzmultirange",
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
];

/// By type, whether the document says that it is carried.
fn documented() -> BTreeMap<String, bool> {
    let mut found = BTreeMap::new();
    let rows =
        DOCUMENT.lines().skip_while(|line| *line != "## Every type by name").filter(|line| line.starts_with("| `"));
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let carried = !cells[1].trim().starts_with("refused");
        for name in cells[0].split('`').skip(1).step_by(2) {
            assert_eq!(found.insert(name.to_string(), carried), None, "`{name}` is there twice");
        }
    }
    found
}

#[tokio::test]
async fn every_type_that_postgresql_ships_is_documented_and_treated_so() {
    let db = database("create table empty (id int primary key)").await;
    // Arrays have the answer of their elements; pseudo-types and the rows of catalogs are no types of columns.
    let shipped = "select t.typname::text, format_type(t.oid, -1), t.typarray <> 0 from pg_type t
                   where t.typnamespace = 'pg_catalog'::regnamespace and t.typtype in ('b', 'r', 'm', 'e', 'd')
                     and not exists (select from pg_type e where e.typarray = t.oid)
                   order by 1";
    let shipped: Vec<(String, String, bool)> =
        db.owner.query(shipped, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let documented = documented();
    let names: BTreeSet<&str> = shipped.iter().map(|(name, ..)| name.as_str()).collect();
    let is_13 = version().await < 140_000;
    let known = documented.keys().map(String::as_str).filter(|name| !(is_13 && SINCE_14.contains(name)));
    assert_eq!(names, known.collect::<BTreeSet<_>>());
    assert!(documented.values().filter(|carried| **carried).count() >= 60);

    let mut expected = vec![("id".to_string(), true)];
    let mut columns = vec!["id int primary key".to_string()];
    for (at, (name, declared, has_array)) in shipped.iter().enumerate() {
        columns.push(format!("c{at} {declared}"));
        expected.push((format!("c{at}"), documented[name]));
        if *has_array {
            columns.push(format!("l{at} {declared}[]"));
            expected.push((format!("l{at}"), documented[name]));
        }
    }
    db.owner.batch_execute(&format!("create table t ({})", columns.join(", "))).await.unwrap();
    let catalog = catalog(&db).await;
    let schema = &catalog.table("t").unwrap().schema;
    for ((column, carried), definition) in expected.iter().zip(&columns) {
        assert_eq!(schema.column(column).is_some(), *carried, "{definition}");
    }
}

/// Whatever an owner's cast to text says, two labels have two texts: `docs/types.md` promises the label.
#[tokio::test]
async fn an_enum_is_carried_by_its_labels_wherever_it_is_whatever_casts_there_are() {
    let db = database(
        "create type mood as enum ('sad', 'ok', '', 'NULL', 'a,b\"c'); create domain feeling as mood; create domain feelings as mood[];
         create type span as range (subtype = mood); create type pair as (n int, m mood);
         create table t (id int primary key, m mood, d feeling, l mood[], f feelings, g mood[][], s span, p pair, x pair);
         insert into t values
           (1, 'sad', 'ok', '{sad,NULL,\"NULL\",\"\"}', '{ok}', '{{sad,ok}}', '[sad,ok]', row(1, 'sad'), row(1, 'sad')),
           (2, '', 'a,b\"c', '{}', '{\"a,b\\\"c\"}', '[2:3]={sad,ok}', 'empty', row(null, null), row(null, null)),
           (3, null, null, null, null, null, null, null, null)",
    )
    .await;
    let settings = TableSettings::from([("t".to_string(), BTreeMap::from([("x".to_string(), ColumnSetting::AsText)]))]);
    let carried = async || -> Vec<Vec<Option<String>>> {
        let mut session = db.session().await;
        let table = session.catalog(&settings, &[]).await.unwrap().table("t").unwrap().clone();
        session.begin(&["t".into()]).await.unwrap();
        let batch = rows(&session, &table, None).await;
        (0..3).map(|row| batch.columns()[1..].iter().map(|array| arrow_text(array, row)).collect()).collect()
    };
    let before = carried().await;
    let expected = [
        [
            "sad",
            "ok",
            "[1:4]3:sad,N,4:NULL,0:",
            "[1:1]2:ok",
            "{{sad,ok}}",
            "[sad,ok]",
            "{\"n\":1,\"m\":\"sad\"}",
            "(1,sad)",
        ],
        ["", "a,b\"c", "", "[1:1]5:a,b\"c", "[2:3]={sad,ok}", "empty", "{\"n\":null,\"m\":null}", "(,)"],
    ];
    for (row, expected) in before.iter().zip(expected) {
        let shown: Vec<&str> = row.iter().map(|text| text.as_deref().unwrap_or("nothing")).collect();
        assert_eq!(shown, expected);
    }
    assert!(before[2].iter().all(Option::is_none), "{:?}", before[2]);
    let casts = ["mood", "mood[]", "span", "pair"].map(|name| {
        format!(
            "create function said({name}) returns text language sql as $$ select 'so so'::text $$; \
             create cast ({name} as text) with function said({name});"
        )
    });
    db.owner.batch_execute(&casts.concat()).await.unwrap();
    let lies: i64 = db
        .owner
        .query_one(
            "select count(*) from t where 'so so' = all (array[m::text, d::text, g::text, s::text, x::text])",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(lies, 3, "the trap is not sprung");
    assert_eq!(carried().await, before);
}
