//! docs/types.md names every type that PostgreSQL ships, and says of each what is done.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::catalog;
use crate::support::{database, version};

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
