//! Transaction ids of rows have 32 bits and come round again.
//!
//! One test crosses 2^32 on a cluster of its own, where nothing else holds `xmin` back and rows can be counted exactly.

use starlift_core::xid::XidWindow;
use starlift_sandbox::{Cluster, ClusterOptions, shared};
use tokio_postgres::Client;

use crate::capture::lab::{Lab, SALE, why_full};
use crate::world::of;

const CIRCLE: u64 = 1 << 32;

/// Uses up transaction ids.
async fn burn(lab: &Lab, ids: u32) {
    lab.run(&format!("do $$ begin for i in 1..{ids} loop perform pg_current_xact_id(); commit; end loop; end $$"))
        .await;
}

/// Rows read and written by the next run, which has to read a window, and after which the lake equals the source.
async fn next_window(lab: &Lab) -> (u64, u64) {
    let report = lab.catch_up().await;
    let sale = of(&report, "sale");
    assert_eq!((why_full(sale), sale.rows_deleted), (None, 0));
    (sale.rows_read, sale.rows_written)
}

async fn next_id(lab: &Lab) -> u64 {
    lab.number("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint").await as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn no_row_is_lost_when_transaction_ids_come_round() {
    // No vacuum but ours, not even the one that the server insists on.
    let settings = [("autovacuum", "off"), ("autovacuum_freeze_max_age", "2000000000")];
    let settings = settings.map(|(name, value)| (name.to_string(), value.to_string())).to_vec();
    let cluster = Cluster::start(ClusterOptions { settings, ..ClusterOptions::default() }).unwrap();
    let mut lab = Lab::on(&cluster, SALE).await;
    for _ in 0..50 {
        lab.run("insert into sale (v) values (5)").await;
    }
    let oldest = lab.number("select min(xmin::text::bigint) from sale").await as u64;
    lab.catch_up().await;

    // Rows that no run has read yet are frozen on the way.
    for (next, v) in [(1_900_000_000, 10), (3_800_000_000, 20), ((CIRCLE - 1000) as u32, 30)] {
        lab.run(&format!("insert into sale (v) values ({v}); update sale set v = {v} where id = 1")).await;
        cluster.skip_to_xid(next).await.unwrap();
        lab.move_to(&cluster).await;
        assert_eq!(next_id(&lab).await, u64::from(next));
        let not_frozen = format!(
            "select count(*) from sale, pg_class where relname = 'sale' and v = {v} and age(sale.xmin) <= age(relfrozenxid)"
        );
        assert_eq!(lab.number(&not_frozen).await, 0);
        assert_eq!(next_window(&lab).await, (2, 2), "before {next}");
    }

    // Before the crossing, with a transaction that stays open over it.
    let late = lab.session().await;
    late.batch_execute("begin; insert into sale (v) values (40); savepoint s; update sale set v = 41 where id = 2")
        .await
        .unwrap();
    lab.run("insert into sale (v) values (42)").await;
    assert_eq!(next_window(&lab).await, (1, 1));
    let watermark = lab.watermark("sale").await;
    assert!(watermark < CIRCLE && next_id(&lab).await < CIRCLE);

    // At it: the window begins before 2^32 and ends after it.
    burn(&lab, 1010).await;
    lab.run("insert into sale (v) values (50), (51); update sale set v = 52 where id = 3").await;
    assert!(next_id(&lab).await > CIRCLE);
    let naive = format!("select count(*) from sale where v in (50, 51, 52) and xmin::text::bigint >= {watermark}");
    assert_eq!(lab.number(&naive).await, 0, "compared as numbers, the new rows are old");
    let (read, written) = next_window(&lab).await;
    assert_eq!((read, written), (4, 3), "and the row of 42, which the open transaction keeps in the window");
    assert_eq!(lab.watermark("sale").await, watermark);

    // After it.
    late.batch_execute("commit").await.unwrap();
    assert_eq!(next_window(&lab).await, (6, 2));
    assert!(lab.watermark("sale").await > CIRCLE);
    assert_eq!(next_window(&lab).await, (0, 0));
    let naive =
        format!("select count(*) from sale where xmin::text::bigint >= {}", lab.watermark("sale").await - CIRCLE);
    assert!(lab.number(&naive).await >= 50, "compared as numbers, the old rows are new in every run");

    // Among the ids of rows that were frozen a circle ago: they are read once more, and not written.
    assert!(oldest > lab.watermark("sale").await - CIRCLE, "the old rows are still to come");
    burn(&lab, 60 + (CIRCLE + oldest - next_id(&lab).await) as u32).await;
    lab.run("insert into sale (v) values (60)").await;
    let (read, written) = next_window(&lab).await;
    assert!(read >= 50 && written == 1, "{read} {written}");
    lab.run("update sale set v = 61 where id = 4; delete from sale where id = 5").await;
    let report = lab.catch_up().await;
    let sale = of(&report, "sale");
    assert_eq!((sale.rows_read, sale.rows_written, sale.rows_deleted), (1, 1, 1));

    a_source_that_was_not_read_for_half_a_circle_is_read_in_full(&cluster, &mut lab).await;
}

async fn a_source_that_was_not_read_for_half_a_circle_is_read_in_full(cluster: &Cluster, lab: &mut Lab) {
    lab.run("update sale set v = 70 where id = 1").await;
    for next in [1_500_000_000, 3_000_000_000] {
        cluster.skip_to_xid(next).await.unwrap();
    }
    lab.move_to(cluster).await;
    assert_eq!(next_id(lab).await, CIRCLE + 3_000_000_000, "the epoch stays");
    let report = lab.catch_up().await;
    let sale = of(&report, "sale");
    assert_eq!((why_full(sale), sale.rows_written), (Some("watermark too far behind"), 1));
    lab.run("insert into sale (v) values (80)").await;
    assert_eq!(next_window(lab).await, (1, 1));
}

/// The condition that the server evaluates is the one that core has proved.
#[tokio::test(flavor = "multi_thread")]
async fn the_servers_arithmetic_is_the_windows() {
    let client: Client = shared().unwrap().connect("postgres").await.unwrap();
    let edges = [0, 3, 100, (1 << 31) - 1, 1 << 31, (1 << 31) + 1, CIRCLE - 1];
    for watermark in edges.iter().flat_map(|edge| [*edge, CIRCLE + edge, 7 * CIRCLE + edge]) {
        for span in [0, 1, 2, 100, (1 << 31) - 1] {
            let window = XidWindow::new(watermark, watermark + span).unwrap();
            let near: Vec<i64> = edges
                .iter()
                .chain(&[watermark, watermark + span])
                .flat_map(|id| [id.wrapping_sub(1), *id, id + 1])
                .map(|id| (id % CIRCLE) as i64)
                // Ids below are no transaction's.
                .filter(|id| *id >= 3)
                .collect();
            let sql = format!(
                "select id, {} from (select id, id::text::xid as xmin from unnest($1::bigint[]) id) rows",
                window.to_sql()
            );
            for row in client.query(&sql, &[&near]).await.unwrap() {
                let (id, found): (i64, bool) = (row.get(0), row.get(1));
                assert_eq!(found, window.contains(id as u32), "{id} in {window:?}");
            }
        }
    }
}
