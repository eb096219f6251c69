//! A source that goes back in time, comes up elsewhere, or loses in a crash what it had shown.

use std::time::Duration;

use starlift_sandbox::{Cluster, ClusterOptions, Restore, shared};

use crate::capture::lab::{Lab, SALE, why_full};
use crate::world::of;

/// A source of one table is read in full, for this reason; and from then on by windows again.
async fn read_in_full(lab: &Lab, reason: &str) {
    let report = lab.catch_up().await;
    assert_eq!(why_full(of(&report, "sale")), Some(reason));
    lab.run("update sale set v = v + 1 where id = 1; insert into sale (v) values (7)").await;
    let report = lab.catch_up().await;
    assert_eq!((why_full(of(&report, "sale")), of(&report, "sale").rows_written), (None, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_source_is_read_in_full() {
    let original = Cluster::start(ClusterOptions::default()).unwrap();
    let mut lab = Lab::on(&original, SALE).await;
    lab.catch_up().await;
    let (same_timeline, new_timeline) = (original.backup().unwrap(), original.backup().unwrap());
    // After the backup: its ids and positions will be given a second time, to other rows.
    lab.run("delete from sale where id = 2; update sale set v = 50 where id = 1").await;
    for _ in 0..20 {
        lab.run("insert into sale (v) values (60)").await;
    }
    lab.catch_up().await;
    let (watermark, state) = (lab.watermark("sale").await, lab.newest().await);
    original.stop().unwrap();

    let restored = same_timeline.restore(Restore::SameTimeline).unwrap();
    lab.move_to(&restored).await;
    lab.run("update sale set v = 51 where id = 3; insert into sale (v) values (61)").await;
    let hidden = format!("select count(*) from sale where v in (51, 61) and xmin::text::bigint < {watermark}");
    assert_eq!(lab.number(&hidden).await, 2, "both have ids from before the watermark");
    assert_eq!(lab.newest().await.source().unwrap().identity, state.source().unwrap().identity);
    read_in_full(&lab, "source was restored").await;
    assert_eq!(lab.newest().await.source().unwrap().identity, state.source().unwrap().identity);

    let recovered = new_timeline.restore(Restore::NewTimeline).unwrap();
    lab.move_to(&recovered).await;
    read_in_full(&lab, "source changed").await;

    // Another database of the same cluster, then one of another cluster.
    for cluster in [&recovered, shared().unwrap()] {
        lab.take_over(Lab::on(cluster, SALE).await);
        lab.run("update sale set v = v + 100").await;
        let report = lab.catch_up().await;
        assert_eq!(of(&report, "sale").mode, "full");
    }

    a_crash_takes_nothing_back_that_the_lake_has(&restored).await;
    a_crash_that_empties_an_unlogged_table_is_seen(&restored).await;
}

/// With `synchronous_commit = off` a commit is visible before it is on disk.
async fn a_crash_takes_nothing_back_that_the_lake_has(cluster: &Cluster) {
    let mut lab = Lab::on(cluster, SALE).await;
    lab.catch_up().await;
    lab.run("alter system set wal_writer_delay = '10s'").await;
    lab.run("select pg_reload_conf()").await;
    let mut lost = 0;
    for attempt in 0..100 {
        lab.run("insert into sale (v) values (80)").await;
        let id = lab.number("select max(xmin::text::bigint) from sale where v = 80").await;
        let written = lab.text("select pg_current_wal_insert_lsn()::text").await;
        let context = lab.context();
        let run = tokio::spawn(async move { starlift::ingest(&context, None).await });
        // Now and then the server flushes for reasons of its own, sooner on a busy machine.
        tokio::time::sleep(Duration::from_millis(if attempt < 10 { 300 } else { 30 })).await;
        let unflushed = format!("select (pg_current_wal_flush_lsn() < '{written}'::pg_lsn)::int::bigint");
        let has_ended = run.is_finished();
        if lab.number(&unflushed).await == 0 {
            run.await.unwrap().unwrap();
            continue;
        }
        assert!(!has_ended, "the run waits for what a crash could take back");
        // It ends with the server, and so does what it has read.
        cluster.restart(true).unwrap();
        assert!(run.await.unwrap().is_err());
        lab.move_to(cluster).await;
        // The row may have reached the disk although its commit did not; its id is not given again then.
        if lab.number("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint").await <= id {
            lost = id;
            break;
        }
    }
    assert!(lost > 0, "in 100 attempts the server never lost a commit with its id");
    lab.run("set synchronous_commit = on; insert into sale (v) values (90), (91); update sale set v = 92 where id = 1")
        .await;
    let again = format!("select count(*) from sale where v >= 90 and xmin::text::bigint <= {lost}");
    assert_eq!(lab.number(&again).await, 3, "what was lost has left its id to others");
    lab.catch_up().await;
    lab.run("alter system reset wal_writer_delay").await;
    lab.run("select pg_reload_conf()").await;
}

async fn a_crash_that_empties_an_unlogged_table_is_seen(cluster: &Cluster) {
    let mut lab = Lab::on(cluster, SALE).await;
    lab.run("alter table sale set unlogged").await;
    lab.run("checkpoint").await;
    lab.catch_up().await;
    cluster.restart(true).unwrap();
    lab.move_to(cluster).await;
    assert_eq!(lab.number("select count(*) from sale").await, 0);
    let report = lab.catch_up().await;
    assert_eq!(of(&report, "sale").rows_deleted, 3);
}
