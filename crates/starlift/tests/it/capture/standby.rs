//! A hot standby as the source: its snapshots list no running transaction, it lags, and one day it is promoted.
//!
//! One test, because one standby serves all of it.

use starlift_core::ErrorKind;
use starlift_sandbox::{Cluster, ClusterOptions};

use crate::capture::lab::{Lab, SALE, number, why_full};
use crate::world::of;

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_read_without_a_gap_and_never_backwards() {
    let settings = vec![("max_prepared_transactions".to_string(), "8".to_string())];
    let primary = Cluster::start(ClusterOptions { settings, ..ClusterOptions::default() }).unwrap();
    let mut lab = Lab::on(&primary, SALE).await;
    let standby = primary.standby().unwrap();
    lab.read_from(&standby);
    open_transactions_are_read_when_they_commit(&lab, &primary, &standby).await;
    a_lagging_standby_stops_the_run(&mut lab, &primary, &standby).await;
    a_standby_of_a_primary_at_rest_is_not_behind(&mut lab, &primary, &standby).await;
    a_position_that_may_not_be_seen_is_named(&lab, &primary, &standby).await;
    an_unlogged_table_is_named(&lab, &primary, &standby).await;
    a_promoted_standby_is_another_source(&mut lab, &primary, &standby).await;
}

/// Every kind of transaction is open on the primary over two runs.
async fn open_transactions_are_read_when_they_commit(lab: &Lab, primary: &Cluster, standby: &Cluster) {
    let plain = lab.session().await;
    plain.batch_execute("begin; insert into sale (v) values (10); delete from sale where id = 2").await.unwrap();
    let nested = lab.session().await;
    // More sub-transactions than a snapshot has room for.
    nested
        .batch_execute(
            "begin; insert into sale (v) values (20); savepoint s; update sale set v = 21 where id = 1;
             do $$ begin for i in 1..100 loop
               begin insert into sale (v) values (1000 + i); exception when others then null; end;
             end loop; end $$",
        )
        .await
        .unwrap();
    lab.session()
        .await
        .batch_execute("begin; savepoint s; insert into sale (v) values (30); prepare transaction 'standby'")
        .await
        .unwrap();
    let idle = lab.session().await;
    idle.batch_execute("begin; select now()").await.unwrap();
    lab.run("insert into sale (v) values (100)").await;
    standby.await_replay(primary).await.unwrap();

    let on_standby = standby.connect(&lab.database).await.unwrap();
    let row = on_standby.query_one("select pg_current_snapshot()::text", &[]).await.unwrap();
    let snapshot: String = row.get(0);
    assert!(snapshot.ends_with(':'), "a standby lists no running transaction: {snapshot}");
    lab.catch_up().await;
    idle.batch_execute("insert into sale (v) values (40)").await.unwrap();
    lab.run("insert into sale (v) values (101)").await;
    standby.await_replay(primary).await.unwrap();
    let report = lab.catch_up().await;
    assert_eq!((why_full(of(&report, "sale")), of(&report, "sale").rows_written), (None, 1));

    for session in [&plain, &nested, &idle] {
        session.batch_execute("commit").await.unwrap();
    }
    lab.run("commit prepared 'standby'").await;
    standby.await_replay(primary).await.unwrap();
    let by_visibility = format!(
        "select count(*) from sale where (v in (10, 20, 21, 30) or v > 1000) and not pg_visible_in_snapshot(xmin::text::xid8, '{snapshot}')"
    );
    let found = number(&on_standby, &by_visibility).await;
    assert!(found < 104, "reading `xmin` by visibility would find {found} of 104 rows");
    let report = lab.catch_up().await;
    let sale = of(&report, "sale");
    assert_eq!((why_full(sale), sale.rows_written, sale.rows_deleted), (None, 105, 1));
}

async fn a_lagging_standby_stops_the_run(lab: &mut Lab, primary: &Cluster, standby: &Cluster) {
    standby.pause_replay().await.unwrap();
    lab.run(
        "update sale set v = v + 1 where id <= 3; delete from sale where v > 1050; insert into sale (v) values (102)",
    )
    .await;
    // The image of the standby is old, and it is no older than the last one.
    let report = lab.catch_up().await;
    assert_eq!((of(&report, "sale").rows_written, of(&report, "sale").rows_deleted), (0, 0));

    lab.read_from(primary);
    let report = lab.catch_up().await;
    assert_eq!(why_full(of(&report, "sale")), None, "a primary and its standby are one source");
    let rows = of(&report, "sale").rows;
    lab.read_from(standby);
    let behind = standby.connect(&lab.database).await.unwrap();
    assert!(number(&behind, "select count(*) from sale").await as u64 > rows, "it still has what was deleted");
    lab.ingest_fails(ErrorKind::Unavailable, &["standby", "behind"]).await;

    standby.resume_replay().await.unwrap();
    standby.await_replay(primary).await.unwrap();
    let report = lab.catch_up().await;
    let sale = of(&report, "sale");
    assert_eq!((why_full(sale), sale.rows_written, sale.rows_deleted), (None, 0, 0));
}

/// The position at which the primary would begin its next record is behind the header of a page that nobody replays yet.
async fn a_standby_of_a_primary_at_rest_is_not_behind(lab: &mut Lab, primary: &Cluster, standby: &Cluster) {
    lab.read_from(primary);
    let mut behind_the_page = 0;
    for _ in 0..50 {
        lab.run("insert into sale (v) values (103)").await;
        lab.run("select pg_switch_wal()").await;
        lab.ingest().await;
        behind_the_page = lab.number("select (pg_current_wal_insert_lsn() - '0/0')::bigint % 8192").await;
        if behind_the_page == 40 {
            break;
        }
    }
    assert_eq!(behind_the_page, 40, "the trap is not sprung");
    let end = lab.text("select pg_current_wal_flush_lsn()::text").await;
    let on_standby = standby.connect(&lab.database).await.unwrap();
    while number(&on_standby, &format!("select (pg_last_wal_replay_lsn() >= '{end}')::int::bigint")).await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    lab.read_from(standby);
    let report = lab.catch_up().await;
    let sale = of(&report, "sale");
    assert_eq!((why_full(sale), sale.rows_written, sale.rows_deleted), (None, 0, 0));
}

async fn a_position_that_may_not_be_seen_is_named(lab: &Lab, primary: &Cluster, standby: &Cluster) {
    lab.run("revoke execute on function pg_last_wal_replay_lsn() from public").await;
    standby.await_replay(primary).await.unwrap();
    lab.ingest_fails(ErrorKind::Permission, &["standby", "pg_last_wal_replay_lsn"]).await;
    lab.run("grant execute on function pg_last_wal_replay_lsn() to public").await;
    standby.await_replay(primary).await.unwrap();
    lab.catch_up().await;
}

async fn an_unlogged_table_is_named(lab: &Lab, primary: &Cluster, standby: &Cluster) {
    lab.run("create unlogged table scratch (id int primary key); insert into scratch values (1)").await;
    standby.await_replay(primary).await.unwrap();
    lab.ingest_fails(ErrorKind::Unsupported, &["scratch", "unlogged"]).await;
    lab.run("drop table scratch").await;
    standby.await_replay(primary).await.unwrap();
    lab.catch_up().await;
}

async fn a_promoted_standby_is_another_source(lab: &mut Lab, primary: &Cluster, standby: &Cluster) {
    // What the old primary commits and the standby never gets is in the lake, and its ids are given again.
    standby.stop_server(false).unwrap();
    for _ in 0..10 {
        lab.run("insert into sale (v) values (2000); update sale set v = -v where id = 1").await;
    }
    lab.read_from(primary);
    lab.catch_up().await;
    let watermark = lab.watermark("sale").await;
    primary.stop_server(true).unwrap();
    standby.start_server().unwrap();
    standby.promote().await.unwrap();
    lab.move_to(standby).await;
    assert_eq!(lab.number("select count(*) from sale where v = 2000").await, 0);
    lab.run("insert into sale (v) values (3000); update sale set v = 3001 where id = 3").await;
    let hidden = format!("select count(*) from sale where v in (3000, 3001) and xmin::text::bigint < {watermark}");
    assert_eq!(lab.number(&hidden).await, 2, "both have ids from before the watermark");
    let report = lab.catch_up().await;
    assert_eq!(why_full(of(&report, "sale")), Some("source changed"));
    lab.run("insert into sale (v) values (4000)").await;
    let report = lab.catch_up().await;
    assert_eq!((why_full(of(&report, "sale")), of(&report, "sale").rows_written), (None, 1));
}
