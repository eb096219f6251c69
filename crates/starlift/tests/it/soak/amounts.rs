//! Very many rows in one window, and very many windows: the long form of row 43 of docs/bad-input.md.
//!
//! Half of the time goes to one window, as large as half of the time allows, half to windows of one row.

use tokio::time::Instant;

use super::{plan, result};
use crate::capture::lab::{Lab, SALE, why_full};
use crate::world::of;

/// What a full soak reaches.
const WANTED_ROWS: u64 = 10_000_000;
const WANTED_WINDOWS: u64 = 1_000_000;
/// A first window, by whose time the large one is measured; it is larger than a batch.
const FIRST: u64 = 20_000;
/// What reading a window may add to the process's memory, however many rows it has: batches in flight, and 60 bytes for
/// each of its keys (docs/bad-input.md, README: Limits), several times over in a debug build.
const MEMORY: u64 = 512 << 20;
const BYTES_PER_KEY: u64 = 400;

#[tokio::test(flavor = "multi_thread")]
async fn one_large_window_and_many_tiny_ones_cost_what_they_bring() {
    let plan = plan();
    let begun = Instant::now();
    let lab = Lab::new(SALE).await;
    lab.catch_up().await;

    window(&lab, FIRST).await;
    let each = begun.elapsed().as_secs_f64() / FIRST as f64;
    // Twice as fast in bulk would not be amiss; as many as half of the time is enough for by this measure.
    let rows = ((plan.seconds as f64 / 2.0 / each) as u64).clamp(FIRST, WANTED_ROWS);
    let before = resident();
    window(&lab, rows).await;
    let grown = peak().saturating_sub(before);
    println!("soak: a window of {rows} rows took {} MiB", grown >> 20);
    assert!(grown < MEMORY + rows * BYTES_PER_KEY, "{grown} bytes for {rows} rows");

    let mut windows = 0;
    let mut largest = 0;
    while windows < 3 || (windows < WANTED_WINDOWS && begun.elapsed().as_secs() < plan.seconds) {
        lab.run(&format!("update sale set v = {windows} where id = 1")).await;
        let report = lab.ingest().await;
        assert!(of(&report, "sale").rows_read <= 2, "{report:?}");
        windows += 1;
        if windows % 50 == 0 {
            largest = largest.max(lab.newest().await.to_bytes().unwrap().len());
        }
    }
    assert!(largest < 64 * 1024, "a manifest of {largest} bytes: it grows with the history");
    lab.catch_up().await;
    lab.assert_equal().await;
    let seconds = begun.elapsed().as_secs();
    result("rows in one window", rows, WANTED_ROWS, seconds);
    result("windows of one row", windows, WANTED_WINDOWS, seconds);
}

async fn window(lab: &Lab, rows: u64) {
    lab.run(&format!("insert into sale (v) select i % 1000000 from generate_series(1, {rows}) i")).await;
    let report = lab.catch_up().await;
    let sale = of(&report, "sale");
    assert_eq!((sale.rows_written, why_full(sale)), (rows, None));
}

/// Bytes that the process holds, and the most that it ever held.
fn resident() -> u64 {
    status("VmRSS:")
}

fn peak() -> u64 {
    status("VmHWM:")
}

fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().map_or(0, |kib| kib << 10)
}
