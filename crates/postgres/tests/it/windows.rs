//! Windows that are found by one scan, and tables that are read in parts: the same rows as by an ordinary reading.

use arrow::array::AsArray;
use arrow::compute::concat_batches;
use arrow::datatypes::Int32Type;
use futures::TryStreamExt;
use starlift_core::ErrorKind;
use starlift_postgres::catalog::SourceTable;
use starlift_postgres::extract::{Marked, OLDEST_WITH_RANGES, PageRange};
use starlift_postgres::{RowStream, SourceSession};

use crate::support::{database, rows, table, version};

/// The ids of a stream, sorted.
async fn ids(stream: RowStream) -> Vec<i32> {
    let schema = stream.schema().clone();
    let batches: Vec<_> = stream.try_collect().await.unwrap();
    let all = concat_batches(&schema, &batches).unwrap();
    let mut ids = all.column(0).as_primitive::<Int32Type>().values().to_vec();
    ids.sort_unstable();
    ids
}

async fn same_as_a_plain_read(session: &SourceSession, table: &SourceTable, filter: &str) -> Option<Marked> {
    let found = session.find_window(table, filter).await.unwrap();
    assert_eq!(found.rows, session.count(table).await.unwrap());
    let expected = ids(session.copy_rows(table, Some(filter.into())).await.unwrap()).await;
    let read = match &found.marked {
        Some(marked) => ids(session.copy_window(table, filter, marked).await.unwrap()).await,
        None => Vec::new(),
    };
    assert_eq!(read, expected, "{filter}");
    found.marked
}

#[tokio::test]
async fn a_window_that_is_found_by_one_scan_holds_the_rows_of_a_plain_one() {
    // The odd names are those that the statement itself uses.
    let db = database(
        "create table r (id int primary key, first int, behind int, ctid_ text);
         insert into r select i, i % 7, i % 11, repeat('x', 700) from generate_series(1, 9000) i;
         create table parts (id int primary key, v text) partition by range (id);
         create table parts_1 partition of parts for values from (0) to (5000);
         create table parts_2 partition of parts for values from (5000) to (10000);
         insert into parts select i, repeat('x', 700) from generate_series(1, 9000) i;
         create table small (id int primary key); insert into small select generate_series(1, 50);
         create table empty (id int primary key)",
    )
    .await;
    let mut session = db.session().await;
    let names = ["r", "parts", "small", "empty"];
    let mut tables = Vec::new();
    for name in names {
        tables.push(table(&session, name).await);
    }
    session.begin(&names.map(String::from)).await.unwrap();
    let [r, parts, small, empty] = tables.as_slice() else { panic!() };
    let has_ranges = version().await >= OLDEST_WITH_RANGES;
    for (filter, in_pages) in [
        ("id = 4321", true),
        ("id <= 20 or id > 8990", true),
        ("id % 1000 = 0", true),
        ("id % 10 = 0", false),
        ("true", false),
    ] {
        for table in [r, parts] {
            let marked = same_as_a_plain_read(&session, table, filter).await;
            assert_eq!(matches!(marked, Some(Marked::Pages(_))), in_pages && has_ranges, "{filter}");
        }
    }
    assert_eq!(same_as_a_plain_read(&session, r, "id < 0").await, None);
    assert_eq!(same_as_a_plain_read(&session, empty, "true").await, None);
    assert_eq!(same_as_a_plain_read(&session, small, "id = 3").await, Some(Marked::Anywhere));
}

#[tokio::test]
async fn a_few_pages_of_a_large_table_are_read_without_the_rest() {
    let db = database(
        "create table r (id int primary key, v text);
         insert into r select i, repeat('x', 700) from generate_series(1, 9000) i",
    )
    .await;
    let mut session = db.session().await;
    let table = table(&session, "r").await;
    session.begin(&["r".into()]).await.unwrap();
    let marked = session.find_window(&table, "id in (5, 8000)").await.unwrap().marked.unwrap();
    if version().await < OLDEST_WITH_RANGES {
        assert_eq!(marked, Marked::Anywhere);
        return;
    }
    let Marked::Pages(ranges) = &marked else { panic!("{marked:?}") };
    assert_eq!(ranges.len(), 2, "{ranges:?}");
    // What is read does not depend on the table: the planner scans ranges.
    let plan = session
        .client()
        .query(
            "explain select t.* from unnest('{0,5}'::int8[], '{1,6}'::int8[]) as r(first, behind), lateral (select id from public.r as _t
             where ctid >= ('(' || r.first || ',0)')::tid and ctid < ('(' || r.behind || ',0)')::tid and (id % 7 = 5) offset 0) t",
            &[],
        )
        .await
        .unwrap();
    let plan: Vec<String> = plan.iter().map(|line| line.get(0)).collect();
    assert!(plan.iter().any(|line| line.contains("Tid Range Scan")), "{plan:#?}");
}

#[tokio::test]
async fn parts_of_a_table_at_an_exported_snapshot_are_the_table_as_of_it() {
    let db = database(
        "create table t (id int primary key, v text);
         insert into t select i, repeat('x', 700) from generate_series(1, 5000) i",
    )
    .await;
    let mut session = db.session().await;
    let t = table(&session, "t").await;
    session.begin(&["t".into()]).await.unwrap();
    let snapshot = session.export_snapshot().await.unwrap().unwrap();
    db.owner.batch_execute("delete from t where id < 100; insert into t values (6000, 'late')").await.unwrap();
    let mut other = db.session().await;
    other.begin_at(&snapshot, &t).await.unwrap();
    let mut read = Vec::new();
    for (from, to) in [(0, Some(100)), (100, Some(101)), (101, Some(400)), (400, None)] {
        let filter = PageRange { from, to }.filter();
        read.extend(ids(other.copy_rows(&t, Some(filter)).await.unwrap()).await);
    }
    read.sort_unstable();
    assert_eq!(read, (1..=5000).collect::<Vec<i32>>());
    assert_eq!(rows(&session, &t, None).await.num_rows(), 5000);
    other.end().await.unwrap();

    // Somebody waits for an exclusive lock: we do not queue behind them.
    let client = db.cluster.connect(&db.name).await.unwrap();
    let altering = tokio::spawn(async move { client.batch_execute("alter table t add w int").await });
    let waiting = "select count(*) from pg_locks where not granted";
    while db.owner.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let answer = tokio::time::timeout(std::time::Duration::from_secs(4), other.begin_at(&snapshot, &t)).await;
    assert_eq!(answer.expect("it does not wait for the lock").unwrap_err().kind(), ErrorKind::Unavailable);
    session.end().await.unwrap();
    altering.await.unwrap().unwrap();
    // The snapshot is gone with its transaction.
    assert!(other.begin_at(&snapshot, &t).await.is_err());
    other.begin(&["t".into()]).await.unwrap();
    assert_eq!(other.count(&t).await.unwrap(), 4902);
}
