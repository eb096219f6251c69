//! What only some versions of PostgreSQL have: the rest of the suite holds on all of them (`make test-versions`).
//!
//! Before version 18 these tests show that the same tables, as far as they can be made there, are read alike.

use arrow::array::{Array, Int32Array, StringArray};

use crate::catalog::catalog;
use crate::load::fixture::{Warehouse, change, dimension};
use crate::support::{Database, database, rows, session, table, version};

const VERSION_17: u32 = 170_000;
const VERSION_18: u32 = 180_000;

/// Runs SQL that 18 knows, and other SQL on an older server; true on 18.
async fn on_18(db: &Database, sql: &str, before: &str) -> bool {
    let is_18 = version().await >= VERSION_18;
    db.owner.batch_execute(if is_18 { sql } else { before }).await.unwrap();
    is_18
}

#[tokio::test]
async fn a_not_null_that_old_rows_may_break_makes_no_key_and_their_nulls_are_read() {
    let db = database(
        "create table t (id int, v int, w int not null); create unique index on t (id); create unique index on t (w) include (v)",
    )
    .await;
    let is_18 = on_18(
        &db,
        "insert into t values (null, null, 1), (null, 5, 2);
         alter table t add constraint id_known not null id not valid, add constraint v_known not null v not valid",
        "insert into t values (null, null, 1), (null, 5, 2)",
    )
    .await;
    let catalog = catalog(&db).await;
    let schema = &catalog.table("t").unwrap().schema;
    assert_eq!(schema.columns.iter().map(|c| c.nullable).collect::<Vec<_>>(), [true, true, false]);
    // An index that has a column beside its key is not held back by it.
    assert_eq!(schema.key, ["w"]);
    let mut session = db.session().await;
    session.begin(&["t".into()]).await.unwrap();
    let read = rows(&session, &table(&session, "t").await, None).await;
    assert_eq!((read.num_rows(), read.column(0).null_count(), read.column(1).null_count()), (2, 2, 1));
    drop(session);

    // What is validated counts.
    let validate =
        "update t set id = w, v = w; alter table t validate constraint id_known, validate constraint v_known";
    on_18(&db, validate, "update t set id = w, v = w; alter table t alter id set not null, alter v set not null").await;
    let after = self::catalog(&db).await;
    let schema = &after.table("t").unwrap().schema;
    assert!(schema.columns.iter().all(|c| !c.nullable));
    assert_eq!(schema.key, ["id"], "on 18: {is_18}");
}

#[tokio::test]
async fn a_key_without_overlaps_is_a_key_and_a_reference_to_a_period_is_none() {
    let db = database("create extension btree_gist").await;
    on_18(
        &db,
        "create table rate (id int, valid daterange, primary key (id, valid without overlaps));
         create table sale (id int primary key, rate int, day daterange, foreign key (rate, period day) references rate (id, period valid));
         create table note (id int primary key, sale int references sale not enforced)",
        "create table rate (id int, valid daterange, primary key (id, valid), exclude using gist (id with =, valid with &&));
         create table sale (id int primary key, rate int, day daterange);
         create table note (id int primary key, sale int references sale)",
    )
    .await;
    let catalog = catalog(&db).await;
    assert_eq!(catalog.table("rate").unwrap().schema.key, ["id", "valid"]);
    assert!(catalog.table("sale").unwrap().foreign_keys.is_empty());
    assert_eq!(catalog.table("note").unwrap().foreign_keys.len(), 1, "a key that nobody enforces says what is meant");
}

#[tokio::test]
async fn generated_columns_are_read_whether_they_are_stored_or_virtual() {
    let db = database("").await;
    let columns = |kind: &str| {
        format!(
            "create table t (id int primary key, a int, twice int generated always as (a * 2) {kind},
                             said text generated always as ('a' || a::text) {kind});
             insert into t values (1, 4), (2, null)"
        )
    };
    let is_18 = on_18(&db, &columns("virtual"), &columns("stored")).await;
    let mut session = db.session().await;
    session.begin(&["t".into()]).await.unwrap();
    let read = rows(&session, &table(&session, "t").await, None).await;
    let twice = read.column(2).as_any().downcast_ref::<Int32Array>().unwrap();
    let said = read.column(3).as_any().downcast_ref::<StringArray>().unwrap();
    assert_eq!(twice.iter().collect::<Vec<_>>(), [Some(8), None]);
    assert_eq!(said.iter().collect::<Vec<_>>(), [Some("a4"), None]);
    drop(session);
    if is_18 {
        let before = catalog(&db).await.table("t").unwrap().schema.fingerprint();
        db.owner.batch_execute("alter table t alter twice set expression as (a * 3)").await.unwrap();
        assert_ne!(catalog(&db).await.table("t").unwrap().schema.fingerprint(), before, "no row shows it");
    }
}

#[tokio::test]
async fn a_limit_on_transactions_ends_neither_a_snapshot_nor_a_load() {
    const SLOW: &str = "select pg_sleep(2)";
    let db = database("create table t (id int primary key); insert into t values (1)").await;
    let role = format!("hasty_{}", db.name);
    db.owner.batch_execute(&format!("create role {role} login; grant select on t to {role}")).await.unwrap();
    let mut w = Warehouse::with(
        "create table dim_shop (shop_id int primary key, name text);
         create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(2); return null; end $$;
         create trigger slow after insert on dim_shop execute function slow()",
    )
    .await;
    let is_17 = version().await >= VERSION_17;
    if is_17 {
        db.owner.batch_execute(&format!("alter role {role} set transaction_timeout = '1s'")).await.unwrap();
        w.execute(&format!("alter database {} set transaction_timeout = '1s'", w.database)).await;
        let plain = db.cluster.connect(&w.database).await.unwrap();
        plain.batch_execute(SLOW).await.unwrap_err();
    }
    let mut session = session(&db.options_of(&role)).await;
    session.begin(&["t".into()]).await.unwrap();
    session.client().batch_execute(SLOW).await.unwrap();
    assert_eq!(rows(&session, &table(&session, "t").await, None).await.num_rows(), 1);

    w = w.again().await;
    let shop = dimension("dim_shop", "shop_id int4, name text");
    w.next(vec![change(&shop, &[&["1", "a"]])]).await.unwrap();
    assert_eq!(w.one("select name from current_dim_shop").await, "a", "on 17: {is_17}");
}
