//! Bugs in what one ingest reads.

use starlift_core::fault::with_planted;
use starlift_core::xid::XidWindow;
use starlift_sandbox::{Cluster, ClusterOptions, shared};

use super::super::shop::Shop;
use super::{Buggy, assert_caught};

/// A transaction is open over a run; a later one has committed, so the snapshot's `xmax` is beyond both.
async fn open_over_a_run(bugs: &'static str, update: &str) -> Vec<String> {
    let mut buggy = Buggy::new(bugs).await;
    let open = buggy.shop.source_client().await;
    open.batch_execute(&format!("begin; {update}")).await.unwrap();
    buggy.shop.change("update note set body = 'later' where note_id = 1").await;
    buggy.run().await;
    open.batch_execute("commit").await.unwrap();
    buggy.run().await;
    buggy.differences().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_snapshots_xmax_as_watermark_loses_what_was_open() {
    let update = "update sale set amount = 777 where sale_id = 30";
    let (without, with) = tokio::join!(open_over_a_run("", update), open_over_a_run("watermark_is_xmax", update));
    assert_caught(&without, &with, "fact_sale: missing (30,31,777.00");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_last_snapshot_could_not_see_is_not_what_it_says_of_subtransactions() {
    let update = "savepoint s; update sale set amount = 777 where sale_id = 30; release s";
    let (without, with) = tokio::join!(open_over_a_run("", update), open_over_a_run("not_visible", update));
    assert_caught(&without, &with, "fact_sale: missing (30,31,777.00");
}

/// A transaction stamps its row, and is open over a run for longer than the margin of a safe time.
async fn stamped_before_a_run(bugs: &'static str) -> Vec<String> {
    let shop = Shop::new().await;
    shop.change(
        "alter table sale add stamp timestamp not null default now() - interval '1 day'; create index on sale (stamp)",
    )
    .await;
    let settings = shop.path("starlift.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    let cursor = "[source.tables.sale]\ncapture = \"cursor\"\ncursor = \"stamp\"\n";
    std::fs::write(&settings, format!("{text}\n{cursor}")).unwrap();
    let mut buggy = Buggy::of(shop, bugs).await;
    buggy.run().await;
    let open = buggy.shop.source_client().await;
    open.batch_execute("begin; update sale set amount = 777, stamp = now() where sale_id = 30").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
    buggy.run().await;
    open.batch_execute("commit").await.unwrap();
    buggy.run().await;
    buggy.differences().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_safe_time_that_ignores_what_is_open_loses_what_it_stamped() {
    let (without, with) = tokio::join!(stamped_before_a_run(""), stamped_before_a_run("horizon_ignored"));
    assert_caught(&without, &with, "fact_sale: missing (30,31,777.00");
}

/// Two ids on either side of the wrap, and an old one; PostgreSQL itself evaluates the window.
async fn ids_at_the_wrap(window: &str) -> Vec<String> {
    let cluster = shared().expect("a private PostgreSQL");
    let client = cluster.connect("postgres").await.unwrap();
    let sql = format!(
        "select xmin::text from (values ('4294967290'::xid), ('5'::xid), ('4294900000'::xid)) as v(xmin) where {window}"
    );
    client.query(&sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn comparing_32_bits_as_numbers_loses_rows_at_the_wrap() {
    let circle = 1_u64 << 32;
    let window = XidWindow::new(3 * circle - 20, 3 * circle + 20).unwrap();
    let naive = with_planted("naive_xid", || window.to_sql());
    assert_eq!(ids_at_the_wrap(&window.to_sql()).await, ["4294967290", "5"]);
    assert_eq!(ids_at_the_wrap(&naive).await, ["4294967290"]);
    // The same decision in Rust, over every id that the window must hold.
    let missed = || (3 * circle - 20..3 * circle + 20).filter(|xid| !window.contains((xid % circle) as u32)).count();
    assert_eq!((missed(), with_planted("naive_xid", missed)), (0, 20));
}

async fn narrowed_run(bugs: &'static str) -> Vec<String> {
    let mut buggy = Buggy::new(bugs).await;
    buggy.shop.change("update note set body = 'kept' where note_id = 7").await;
    buggy.outlive_older_transactions().await;
    let event = buggy.shop.path("event.json");
    std::fs::write(&event, r#"{"tables_to_query": ["sale"]}"#).unwrap();
    let ran = buggy.try_run(&["ingest", "--event", &event.to_string_lossy()]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    buggy.run().await;
    buggy.differences().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_watermark_for_all_tables_loses_what_a_narrowed_run_did_not_read() {
    let (without, with) = tokio::join!(narrowed_run(""), narrowed_run("one_watermark"));
    assert_caught(&without, &with, "dim_note: missing (7,kept)");
}

async fn crash_after_the_files(bugs: &'static str) -> Vec<String> {
    let mut buggy = Buggy::new(bugs).await;
    buggy.shop.change("update sale set amount = 777 where sale_id = 30").await;
    buggy.outlive_older_transactions().await;
    buggy.crash(&["ingest"], "ingest.before_manifest").await;
    buggy.run().await;
    buggy.differences().await
}

#[tokio::test(flavor = "multi_thread")]
async fn state_from_the_newest_name_loses_what_a_dead_run_had_read() {
    let (without, with) = tokio::join!(crash_after_the_files(""), crash_after_the_files("state_from_names"));
    assert_caught(&without, &with, "fact_sale: missing (30,31,777.00");
}

/// While a run is between its snapshot and its first read, somebody replaces the rows of a table.
async fn truncate_under_a_run(bugs: &'static str) -> Vec<String> {
    let buggy = Buggy::new(bugs).await;
    let waiting = buggy.start(&["run"], "ingest.snapshot").await;
    let other = buggy.shop.source_client().await;
    other.batch_execute("create temp table kept as select * from note; set lock_timeout = '500ms'").await.unwrap();
    let replaced = other.batch_execute("begin; truncate note; insert into note select * from kept; commit").await;
    // The lock keeps it out until the run has read.
    assert_eq!(replaced.is_err(), bugs.is_empty(), "{replaced:?}");
    let ran = waiting.go().await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    buggy.differences().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_before_the_locks_sees_an_empty_table() {
    let (without, with) = tokio::join!(truncate_under_a_run(""), truncate_under_a_run("no_lock"));
    assert_caught(&without, &with, "dim_note: missing (1,\"note 1\")");
}

/// A table is read in chunks, and a row of the first one changes when that is committed.
async fn changed_between_chunks(bugs: &'static str) -> Vec<String> {
    let mut buggy = Buggy::new(bugs).await;
    buggy.shop.redefine_sale().await;
    // What is newer than an open transaction is in no chunk, and the comparison of keys would fetch it.
    buggy.outlive_older_transactions().await;
    let waiting = buggy.start(&["run"], "ingest.chunk_committed").await;
    // New rows fill the last page that the chunks read: were the changed one there, its key would come twice, and a run stops then.
    let fill = "insert into sale select 500000 + i, 1, 1, date '2024-01-01' from generate_series(1, 400) i";
    buggy.shop.change(fill).await;
    buggy.shop.change("update sale set amount = 777 where sale_id = 30").await;
    buggy.outlive_older_transactions().await;
    let ran = waiting.go().await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    buggy.run().await;
    buggy.differences().await
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_from_the_last_chunk_leaves_stale_what_changed_between_chunks() {
    let bugs = "small_chunks,closing_from_last_chunk";
    let (without, with) = tokio::join!(changed_between_chunks("small_chunks"), changed_between_chunks(bugs));
    assert_caught(&without, &with, "fact_sale: missing (30,31,777.00");
}

/// The source commits without waiting for its disk, and crashes right after an ingest; then it lives on, so that its WAL is
/// soon beyond what the ingest saw.
async fn crash_of_a_lazy_source(bugs: &'static str, rounds: u32) -> Vec<String> {
    let settings = vec![("wal_writer_delay".to_string(), "2s".to_string())];
    let options = ClusterOptions { settings, ..ClusterOptions::default() };
    // It ends with the process: see the sandbox's supervisor.
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(options).unwrap()));
    let mut buggy = Buggy::of(Shop::on(cluster).await, bugs).await;
    let mut harm = Vec::new();
    for round in 0..rounds {
        buggy.shop.change(&format!("update sale set amount = 777 where sale_id = {}", 30 + round)).await;
        let ran = buggy.try_run(&["ingest"]).await;
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        tokio::task::spawn_blocking(|| cluster.restart(true).unwrap()).await.unwrap();
        buggy.shop.change("update note set body = body || repeat('x', 2000)").await;
        buggy.run().await;
        // The versions of a sale that was never so are of no interest.
        harm = buggy.differences().await.into_iter().filter(|line| !line.contains("versions")).collect();
        if !harm.is_empty() {
            break;
        }
    }
    tokio::task::spawn_blocking(|| cluster.stop_server(true).unwrap()).await.unwrap();
    harm
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_not_durable_stay_in_the_lake_after_a_crash_of_the_source() {
    // Now and then the server writes in time by itself.
    let (without, with) = tokio::join!(crash_of_a_lazy_source("", 2), crash_of_a_lazy_source("durability_ignored", 8));
    assert_caught(&without, &with, "fact_sale: too many (3");
}
