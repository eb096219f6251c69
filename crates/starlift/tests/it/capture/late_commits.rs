//! Transactions that are open at a run's snapshot and commit after it.

use crate::capture::lab::{Lab, Meanwhile, SALE};
use crate::world::of;

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_commits_after_the_run_is_read_by_the_next() {
    let lab = Lab::new(SALE).await;
    lab.catch_up().await;
    let late = lab.session().await;
    late.batch_execute(
        "begin; insert into sale (v) values (100);
         update sale set v = 101, last_updated = now() where id = 1; delete from sale where id = 2",
    )
    .await
    .unwrap();
    lab.run("insert into sale (v) values (200)").await;
    let report = lab.catch_up().await;
    assert_eq!(of(&report, "sale").rows_written, 1, "only what is committed");
    let cursor = lab.cursor().await;

    late.batch_execute("commit").await.unwrap();
    assert_eq!(lab.newer_than(&cursor).await, 0, "a cursor would lose the new and the updated row");
    assert!(!lab.differences().await.is_empty(), "the comparison sees what is missing");
    let report = lab.catch_up().await;
    assert_eq!((of(&report, "sale").rows_written, of(&report, "sale").rows_deleted), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_has_not_written_yet_at_the_snapshot_is_read_by_the_next() {
    let lab = Lab::new(SALE).await;
    lab.catch_up().await;
    let idle = lab.session().await;
    idle.batch_execute("begin; select now()").await.unwrap();
    lab.run("insert into sale (v) values (200)").await;
    let without_id = "select (pg_current_xact_id_if_assigned() is null)::int::bigint";
    assert_eq!(super::lab::number(&idle, without_id).await, 1, "no list of running ids can show it");
    lab.catch_up().await;
    let cursor = lab.cursor().await;

    idle.batch_execute("insert into sale (v) values (100); update sale set v = 7, last_updated = now() where id = 1")
        .await
        .unwrap();
    lab.catch_up().await;
    idle.batch_execute("commit").await.unwrap();
    assert_eq!(lab.newer_than(&cursor).await, 0, "both rows are stamped before the run");
    let report = lab.catch_up().await;
    assert_eq!(of(&report, "sale").rows_written, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_savepoints_and_exception_blocks_are_read_when_their_transaction_commits() {
    let lab = Lab::new(SALE).await;
    lab.catch_up().await;
    let late = lab.session().await;
    late.batch_execute(
        "begin; insert into sale (v) values (100);
         savepoint a; insert into sale (v) values (101); release a;
         savepoint b; insert into sale (v) values (102); rollback to b;
         savepoint c; update sale set v = 103 where id = 1;
         do $$ begin begin insert into sale (v) values (104); exception when others then null; end; end $$",
    )
    .await
    .unwrap();
    // Ids after those of the sub-transactions, so that these are below the snapshot's end.
    lab.run("insert into sale (v) values (200)").await;
    let snapshot = lab.text("select pg_current_snapshot()::text").await;
    lab.catch_up().await;
    late.batch_execute("commit").await.unwrap();
    let by_visibility = format!(
        "select count(*) from sale where v in (100, 101, 103, 104) and not pg_visible_in_snapshot(xmin::text::xid8, '{snapshot}')"
    );
    assert_eq!(lab.number(&by_visibility).await, 1, "a snapshot lists the ids of whole transactions alone");
    let report = lab.catch_up().await;
    assert_eq!(of(&report, "sale").rows_written, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_is_read_when_it_commits() {
    let lab = Lab::new(SALE).await;
    lab.catch_up().await;
    let name = format!("prepared in {}", lab.database);
    let session = lab.session().await;
    session
        .batch_execute(&format!(
            "begin; insert into sale (v) values (100); update sale set v = 101 where id = 1;
             savepoint s; delete from sale where id = 2; prepare transaction '{name}'"
        ))
        .await
        .unwrap();
    drop(session);
    lab.run("insert into sale (v) values (200)").await;
    lab.catch_up().await;
    let cursor = lab.cursor().await;
    let open = format!("select count(*) from pg_prepared_xacts where gid = '{name}'");
    assert_eq!(lab.number(&open).await, 1);
    let seen = "select count(*) from pg_stat_activity where datname = current_database() and backend_xid is not null";
    assert_eq!(lab.number(seen).await, 0, "the list of sessions does not show it");

    lab.run(&format!("commit prepared '{name}'")).await;
    assert_eq!(lab.newer_than(&cursor).await, 0);
    let report = lab.catch_up().await;
    assert_eq!((of(&report, "sale").rows_written, of(&report, "sale").rows_deleted), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_in_a_serial_key_are_no_reason_to_wait_or_to_lose_rows() {
    let lab = Lab::new(SALE).await;
    let late = lab.session().await;
    late.batch_execute("begin; insert into sale (v) values (100)").await.unwrap();
    lab.run("begin; insert into sale (v) values (0); rollback").await;
    lab.run("insert into sale (v) values (200)").await;
    lab.catch_up().await;
    let newest = lab.number("select max(id) from sale").await;
    assert_eq!((newest, lab.number("select count(*) from sale").await), (6, 4), "4 is open, 5 never was");
    late.batch_execute("commit").await.unwrap();
    assert_eq!(lab.number(&format!("select count(*) from sale where id > {newest}")).await, 0);
    let report = lab.catch_up().await;
    assert_eq!(of(&report, "sale").rows_written, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_tables_of_a_run_are_read_at_one_snapshot() {
    let lab = Lab::new(
        "create table item (id int primary key, n int); insert into item values (1, 0);
         create table total (id int primary key, n int); insert into total values (1, 0)",
    )
    .await;
    // A transaction changes a table that the run has read, together with one that it has still to read.
    let both = "begin; update item set n = n + 1; update total set n = n + 1; commit";
    for _ in 0..2 {
        let meanwhile = Meanwhile::at(&lab, "total", both);
        let report = starlift::ingest(&lab.watched(meanwhile.clone()), None).await.unwrap();
        assert_eq!(meanwhile.outcome(), "");
        assert_eq!((of(&report, "item").rows_written, of(&report, "total").rows_written), (1, 1));
        assert!(!lab.differences().await.is_empty(), "the change came after the snapshot");
    }
    let report = lab.catch_up().await;
    assert_eq!((of(&report, "item").rows_written, of(&report, "total").rows_written), (1, 1));
}
