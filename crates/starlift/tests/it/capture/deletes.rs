//! Keys that go, move and return.

use crate::capture::lab::{Lab, SALE, why_full};
use crate::world::of;

/// Rows written and deleted by the next run, after which the lake equals the source.
async fn next_run(lab: &Lab) -> (u64, u64) {
    let report = lab.catch_up().await;
    let relation = of(&report, "sale");
    (relation.rows_written, relation.rows_deleted)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hard_delete_leaves_no_ghost_even_where_the_count_stays_the_same() {
    let lab = Lab::new(SALE).await;
    lab.catch_up().await;
    let cursor = lab.cursor().await;
    lab.run("delete from sale where id = 2").await;
    assert_eq!(lab.newer_than(&cursor).await, 0);
    assert_eq!(next_run(&lab).await, (0, 1));
    let rows = lab.number("select count(*) from sale").await;
    lab.run("delete from sale where id = 1; insert into sale (v) values (9)").await;
    assert_eq!(lab.number("select count(*) from sale").await, rows);
    assert_eq!(next_run(&lab).await, (1, 1));
    lab.run("delete from sale").await;
    assert_eq!(next_run(&lab).await, (0, 2));
    assert_eq!(next_run(&lab).await, (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_key_returns_between_two_runs_and_after_one() {
    let lab = Lab::new(SALE).await;
    lab.run("create table kept as select * from sale").await;
    lab.catch_up().await;
    lab.run("delete from sale; insert into sale select id, v + (id = 1)::int, last_updated from kept").await;
    assert_eq!(next_run(&lab).await, (1, 0), "two rows came back as they were");
    lab.run("delete from sale where id <= 2").await;
    assert_eq!(next_run(&lab).await, (0, 2));
    // Older than its tombstone by its stamp, and with the values of before.
    lab.run("insert into sale select * from kept where id <= 2").await;
    assert_eq!(next_run(&lab).await, (2, 0));
    lab.run("delete from sale where id = 1").await;
    assert_eq!(next_run(&lab).await, (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_key_is_a_key_that_goes_and_one_that_comes() {
    let lab = Lab::new(SALE).await;
    lab.catch_up().await;
    lab.run("update sale set id = 100 where id = 1").await;
    assert_eq!(next_run(&lab).await, (1, 1));
    lab.run("begin; update sale set id = -id where id in (2, 3); update sale set id = id + 5 where id < 0; commit")
        .await;
    assert_eq!(next_run(&lab).await, (2, 0), "2 has become 3, and 3 has become 2");
    // Onto the key of a row that is deleted.
    lab.run("delete from sale where id = 2; update sale set id = 2 where id = 100").await;
    assert_eq!(next_run(&lab).await, (1, 1));
    lab.run("update sale set id = id + 1000").await;
    let rows = lab.number("select count(*) from sale").await as u64;
    assert_eq!(next_run(&lab).await, (rows, rows));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_table_is_empty_in_the_lake_and_a_refilled_one_has_its_new_rows() {
    let lab = Lab::new(SALE).await;
    lab.catch_up().await;
    lab.run("truncate sale").await;
    assert_eq!(next_run(&lab).await, (0, 3));
    lab.run("insert into sale (id, v) values (1, 10), (2, 20), (3, 30)").await;
    assert_eq!(next_run(&lab).await, (3, 0));
    // Rows that are written frozen still carry the id of their transaction.
    let file = "current_setting('data_directory') || '/rows of ' || current_database()";
    let copy = |statement: &str| format!("do $do$ begin execute format($${statement}$$, {file}); end $do$");
    lab.run(&copy("copy (select id, v + 1, last_updated from sale) to %L")).await;
    lab.run(&format!("begin; truncate sale; {}; commit", copy("copy sale from %L (freeze)"))).await;
    let report = lab.catch_up().await;
    assert_eq!((why_full(of(&report, "sale")), of(&report, "sale").rows_written), (None, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_key_is_compared_by_how_often_its_rows_are_there() {
    let lab = Lab::new(
        "create table note (body text, n int);
         insert into note values ('a', 1), ('a', 1), ('b', null), (null, null)",
    )
    .await;
    let next_run = async || {
        let report = lab.catch_up().await;
        let note = of(&report, "note").clone();
        (note.rows_written, note.rows)
    };
    assert_eq!(next_run().await, (4, 4));
    assert_eq!(next_run().await, (0, 4));
    lab.run("delete from note where ctid = (select min(ctid) from note where body = 'a')").await;
    assert_eq!(next_run().await, (3, 3), "one of two equal rows is gone");
    // As many rows as before, and none of them with a key to tell which is which.
    lab.run("delete from note where body = 'b'; insert into note values ('a', 1)").await;
    assert_eq!(next_run().await, (3, 3));
    let late = lab.session().await;
    late.batch_execute("begin; update note set n = 2 where body = 'a'").await.unwrap();
    assert_eq!(next_run().await, (0, 3));
    late.batch_execute("commit").await.unwrap();
    assert_eq!(next_run().await, (3, 3));
    lab.run("truncate note").await;
    assert_eq!(next_run().await, (0, 0));
}
