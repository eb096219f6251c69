//! Stamps that a cursor over `last_updated` believes and should not.

use crate::capture::lab::{Lab, SALE};
use crate::world::of;

/// Runs, changes the source, and runs again. A cursor that keeps `max(last_updated)`, as `state` has it, would find none
/// of the rows that changed; the lake has to have all.
async fn lost_by_a_cursor(before: &str, state: &str, change: &str, rows: u64) {
    let lab = Lab::new(SALE).await;
    lab.run(before).await;
    lab.catch_up().await;
    let cursor = lab.text(&format!("select {state}::text from sale")).await;
    lab.run(change).await;
    assert_eq!(lab.newer_than(&cursor).await, 0, "the trap is not sprung: {change}");
    let report = lab.catch_up().await;
    assert_eq!(of(&report, "sale").rows_written, rows, "{change}");
    let again = lab.catch_up().await;
    assert_eq!((of(&again, "sale").rows_written, of(&again, "sale").rows_deleted), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_share_the_last_stamp_are_all_read() {
    let same =
        "insert into sale (v, last_updated) select i, '2100-01-01 00:00:00.000001Z' from generate_series(1, 4) i";
    lost_by_a_cursor(same, "max(last_updated)", same, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stamps_that_are_finer_than_a_cursor_lose_nothing() {
    let at = |micros: u32| {
        format!(
            "insert into sale (v, last_updated) values ({micros}, '2100-01-01 00:00:00Z'::timestamptz + interval '{micros} us')"
        )
    };
    // The state of a tool that counts in milliseconds.
    let change = format!("{}; {}; {}", at(123_701), at(123_999), at(123_600));
    lost_by_a_cursor(&at(123_600), "max(last_updated)::timestamptz(3)", &change, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_whose_clock_is_behind_is_read() {
    let right = "update sale set v = 40, last_updated = clock_timestamp() where id = 1";
    let behind = "insert into sale (v, last_updated) select i, clock_timestamp() - interval '5 minutes' from generate_series(1, 3) i;
                  update sale set v = 50, last_updated = clock_timestamp() - interval '40 seconds' where id = 2";
    lost_by_a_cursor(right, "max(last_updated)", behind, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stamp_from_the_future_hides_nothing_that_comes_before_it() {
    let ahead = "update sale set last_updated = '2100-01-01' where id = 1";
    lost_by_a_cursor(ahead, "max(last_updated)", "insert into sale (v) select i from generate_series(1, 5) i", 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backdated_update_is_read() {
    let backdated = "update sale set v = 70, last_updated = last_updated - interval '30 days' where id <= 2";
    lost_by_a_cursor("", "max(last_updated)", backdated, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_does_not_touch_its_stamp_is_read() {
    lost_by_a_cursor("", "max(last_updated)", "update sale set v = 70 where id = 3", 1).await;
}
