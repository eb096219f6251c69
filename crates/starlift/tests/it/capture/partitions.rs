//! Partitions that come and go: their rows keep the `xmin` that they had elsewhere.

use starlift_core::ErrorKind;

use crate::capture::lab::{Lab, Meanwhile, SALE, why_full};
use crate::chunks::settle;
use crate::world::of;

/// A table with two partitions and tables that may become some.
const SALES: &str = "
    create table sale (id int, year int, v int, primary key (id, year)) partition by list (year);
    create table sale_1 partition of sale for values in (1);
    create table sale_2 partition of sale for values in (2);
    insert into sale select i, 1 + i % 2, i from generate_series(1, 6) i;
    create table spare_3 (id int not null, year int not null default 3, v int, primary key (id, year));
    insert into spare_3 (id, v) values (7, 7);
    create table spare_4 (like spare_3 including all); alter table spare_4 alter year set default 4;
    insert into spare_4 (id, v) values (8, 8), (9, 9)";
/// The partitions are those of before then, and so are the columns of the table, as far as their numbers tell.
const RETURN_2: &str = "alter table sale detach partition sale_2;
    alter table sale_2 drop column v; alter table sale_2 add column v int default 77;
    alter table sale attach partition sale_2 for values in (2)";
const ATTACH_3: &str = "alter table sale attach partition spare_3 for values in (3)";

/// Catches up by a window, and says how many rows the table has, and how many were written and deleted.
async fn by_a_window(lab: &Lab) -> (u64, u64, u64) {
    let report = lab.catch_up().await;
    let sale = of(&report, "sale");
    assert_eq!((sale.mode.as_str(), why_full(sale)), ("window", None));
    (sale.rows, sale.rows_written, sale.rows_deleted)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attached_partition_brings_its_old_rows_and_a_detached_one_takes_them_away() {
    let lab = Lab::new(SALES).await;
    lab.catch_up().await;
    for (ddl, rows) in [
        (ATTACH_3, (7, 1, 0)),
        ("alter table sale detach partition spare_3", (6, 0, 1)),
        ("alter table sale attach partition spare_4 default", (8, 2, 0)),
        (
            "begin; alter table sale detach partition spare_4; alter table sale attach partition spare_3 for values in (3); commit",
            (7, 1, 2),
        ),
        ("create table sale_5 partition of sale for values in (5)", (7, 0, 0)),
        ("drop table sale_2", (4, 0, 3)),
    ] {
        let xmins = async || (lab.xmins("sale_1").await, lab.xmins("spare_3").await, lab.xmins("spare_4").await);
        let before = xmins().await;
        lab.run(ddl).await;
        assert_eq!(xmins().await, before, "no row was written: {ddl}");
        assert_eq!(by_a_window(&lab).await, rows, "{ddl}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_old_table_only_the_rows_of_partitions_that_came_are_read() {
    let lab = Lab::new(SALES).await;
    lab.run("insert into sale select i, 1, i from generate_series(101, 600) i").await;
    settle(&lab).await;
    lab.catch_up().await;
    lab.run(ATTACH_3).await;
    let report = lab.catch_up().await;
    assert_eq!((of(&report, "sale").rows, of(&report, "sale").rows_read), (507, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_leaves_and_returns_with_other_values_in_old_rows_is_read_again() {
    let lab = Lab::new(SALES).await;
    lab.catch_up().await;
    let before = lab.xmins("sale").await;
    lab.run(RETURN_2).await;
    assert_eq!(lab.xmins("sale").await, before, "no row was written");
    assert_eq!(by_a_window(&lab).await, (6, 3, 0));
}

/// The bug is planted on the thread of the test alone, which is the one that decides what is read.
#[cfg(debug_assertions)]
#[test]
fn a_window_that_ignores_what_was_attached_leaves_rows_stale() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let lab = runtime.block_on(async {
        let lab = Lab::new(SALES).await;
        settle(&lab).await;
        lab.catch_up().await;
        lab.run(RETURN_2).await;
        lab
    });
    let report = starlift_core::fault::with_planted("attached_ignored", || runtime.block_on(lab.ingest()));
    assert_eq!((of(&report, "sale").rows, of(&report, "sale").rows_written), (6, 0), "the count tells nothing");
    assert!(!runtime.block_on(lab.differences()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_with_old_stamps_has_a_table_that_follows_its_stamps_scanned() {
    let lab = Lab::new(
        "create table sale (id int, year int, last_updated timestamptz not null default now(), primary key (id, year))
           partition by list (year);
         create index on sale (last_updated);
         create table sale_1 partition of sale for values in (1);
         insert into sale select i, 1 from generate_series(1, 6) i;
         create table spare_2 (like sale including all);
         insert into spare_2 values (7, 2, '2001-01-01')",
    )
    .await;
    lab.configure("[source.tables.sale]\ncapture = \"cursor\"");
    lab.catch_up().await;
    for (ddl, rows) in [
        ("alter table sale attach partition spare_2 for values in (2)", (7, 1, 0)),
        ("alter table sale detach partition spare_2", (6, 0, 1)),
    ] {
        lab.run(ddl).await;
        let report = lab.catch_up().await;
        let sale = of(&report, "sale");
        assert_eq!(sale.reason.as_deref(), Some("xid pass, because partitions came or went"));
        assert_eq!((sale.rows, sale.rows_written, sale.rows_deleted), rows, "{ddl}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_attached_and_one_deleted_row_leave_the_count_as_it_was() {
    let lab = Lab::new(SALES).await;
    lab.catch_up().await;
    let rows = lab.number("select count(*) from sale").await;
    lab.run(&format!("{ATTACH_3}; delete from sale where id = 2")).await;
    assert_eq!(lab.number("select count(*) from sale").await, rows);
    lab.catch_up().await;
    // A partition that leaves, changes elsewhere, and returns: the same partitions as before.
    lab.run("alter table sale detach partition spare_3").await;
    lab.run("delete from sale where id = 4; insert into spare_3 (id, v) values (70, 70)").await;
    lab.run(ATTACH_3).await;
    assert_eq!(lab.number("select count(*) from sale").await, rows);
    let (_, written, deleted) = by_a_window(&lab).await;
    assert_eq!((written, deleted), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_of_a_partition_counts_too_and_rows_move_between_partitions() {
    let lab = Lab::new(SALES).await;
    lab.run(
        "create table deep partition of sale for values in (3, 4) partition by list (year);
         create table deep_4 partition of deep for values in (4)",
    )
    .await;
    lab.catch_up().await;
    lab.run("alter table deep attach partition spare_3 for values in (3)").await;
    assert_eq!(by_a_window(&lab).await, (7, 1, 0));
    lab.run("update sale set year = 4 where id in (7, 1)").await;
    assert_eq!(by_a_window(&lab).await, (7, 2, 2), "the year is part of the key");
    // What is below it was attached to it all the time.
    lab.run(
        "alter table sale detach partition deep;
         alter table deep drop column v; alter table deep add column v int default 77;
         alter table sale attach partition deep for values in (3, 4)",
    )
    .await;
    assert_eq!(by_a_window(&lab).await, (7, 2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_whose_concurrent_detach_still_waits_is_gone_already() {
    let lab = Lab::new(SALES).await;
    if lab.version().await < 140_000 {
        return lab.knows_no("alter table sale detach partition sale_2 concurrently").await;
    }
    lab.catch_up().await;
    let holder = lab.session().await;
    holder.batch_execute("begin isolation level repeatable read; select count(*) from sale").await.unwrap();
    let detacher = lab.session().await;
    let detaching = tokio::spawn(async move {
        detacher.batch_execute("alter table sale detach partition sale_2 concurrently").await.unwrap();
    });
    let pending = "select count(*) from pg_inherits where inhrelid = 'sale_2'::regclass and inhdetachpending";
    while lab.number(pending).await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(lab.number("select count(*) from sale").await, 3);
    lab.catch_up().await;
    assert!(!detaching.is_finished());
    holder.batch_execute("commit").await.unwrap();
    detaching.await.unwrap();
    // The catalog showed it to the run that had none of its rows; and their number is that of those that go.
    lab.run("alter table sale attach partition sale_2 for values in (2); delete from sale where year = 1").await;
    assert_eq!(by_a_window(&lab).await, (3, 3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_attached_while_its_table_is_read_stops_the_run() {
    let lab = Lab::new(SALES).await;
    // A table that ingest captures is locked, and cannot be attached meanwhile; one from elsewhere can.
    lab.run("create schema elsewhere; alter table spare_3 set schema elsewhere").await;
    let attach = ATTACH_3.replace("spare_3", "elsewhere.spare_3");
    lab.catch_up().await;
    // The count would be that of the last run, with one row too many and one too few.
    lab.run("delete from sale where id = 2").await;
    let before = lab.manifests();
    let meanwhile = Meanwhile::at(&lab, "sale", &attach);
    let error = starlift::ingest(&lab.watched(meanwhile.clone()), None).await.unwrap_err();
    assert_eq!(meanwhile.outcome(), "", "our lock does not keep a partition away");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.render().contains("sale"), "{error:?}");
    assert_eq!(lab.manifests(), before, "nothing is committed");
    lab.catch_up().await;

    // Where the count differs as well, and in a table that is read in full.
    for setting in ["", "[source.tables.sale]\ncapture = \"full\""] {
        lab.configure(setting);
        lab.run("alter table sale detach partition elsewhere.spare_3").await;
        lab.catch_up().await;
        let meanwhile = Meanwhile::at(&lab, "sale", &attach);
        let error = starlift::ingest(&lab.watched(meanwhile.clone()), None).await.unwrap_err();
        assert_eq!((meanwhile.outcome().as_str(), error.kind()), ("", ErrorKind::Unavailable), "{error:?}");
        lab.catch_up().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_inherits_while_its_table_is_read_stops_the_run() {
    let lab = Lab::new(
        "create table t (id int primary key, v int); insert into t values (1, 1), (2, 2);
         create schema elsewhere; create table elsewhere.kid (like t including all); insert into elsewhere.kid values (1, 9)",
    )
    .await;
    lab.catch_up().await;
    let before = lab.manifests();
    let meanwhile = Meanwhile::at(&lab, "t", "alter table elsewhere.kid inherit t");
    let error = starlift::ingest(&lab.watched(meanwhile.clone()), None).await.unwrap_err();
    assert_eq!((meanwhile.outcome().as_str(), error.kind()), ("", ErrorKind::Unavailable), "{error:?}");
    assert_eq!((lab.manifests(), error.hint()), (before, Some("run again")));
    // The key holds no more over both of them.
    let report = lab.catch_up().await;
    assert_eq!((why_full(of(&report, "t")), of(&report, "t").rows), (Some("schema changed"), 3));
}

/// A run that follows stamps counts nothing: nothing else would tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_inherits_while_stamps_are_followed_stops_the_run() {
    let lab = Lab::new(&format!(
        "{SALE} create index on sale (last_updated); create schema elsewhere;
         create table elsewhere.kid (id bigint not null, v int, last_updated timestamptz not null default now());
         insert into elsewhere.kid values (1, -1)"
    ))
    .await;
    lab.configure("[source.tables.sale]\ncapture = \"cursor\"\nxid_pass_every = 50");
    lab.catch_up().await;
    assert_eq!(of(&lab.catch_up().await, "sale").mode, "cursor");
    let before = lab.manifests();
    let meanwhile = Meanwhile::at(&lab, "sale", "alter table elsewhere.kid inherit sale");
    let error = starlift::ingest(&lab.watched(meanwhile.clone()), None).await.unwrap_err();
    assert_eq!((meanwhile.outcome().as_str(), error.kind()), ("", ErrorKind::Unavailable), "{error:?}");
    assert_eq!((lab.manifests(), error.hint()), (before, Some("run again")));
    lab.run("alter table elsewhere.kid no inherit sale").await;
    lab.catch_up().await;
}

/// It shows its rows to its own session alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_child_of_another_session_takes_no_key_away() {
    let lab = Lab::new(SALE).await;
    lab.catch_up().await;
    let other = lab.session().await;
    other
        .batch_execute("create temp table scratch () inherits (sale); insert into scratch values (1, 77)")
        .await
        .unwrap();
    for report in [lab.catch_up().await, lab.catch_up().await] {
        assert_eq!((why_full(of(&report, "sale")), of(&report, "sale").rows), (None, 3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_shows_other_rows_each_time_is_not_told_to_be_captured_in_full() {
    let lab = Lab::new(
        "create table t (id int primary key);
         create view v as select g from generate_series(1, (random() * 50000)::int) g",
    )
    .await;
    lab.configure("[source.tables.v]\ncapture = \"full\"");
    let error = lab.ingest_fails(ErrorKind::Data, &["`v` does not add up", "run again"]).await;
    assert!(!error.hint().unwrap().contains("\"full\""), "{error:?}");
}
