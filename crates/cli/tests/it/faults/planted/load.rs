//! Bugs in how star manifests enter the warehouse.

use super::{Buggy, assert_caught};

/// A shop with one star manifest that is not loaded yet.
async fn with_a_manifest_to_load(bugs: &'static str) -> Buggy {
    let buggy = Buggy::new(bugs).await;
    buggy.shop.change("update sale set amount = 777 where sale_id between 30 and 34").await;
    for stage in ["ingest", "transform"] {
        let ran = buggy.try_run(&[stage]).await;
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    }
    buggy
}

async fn load(buggy: &mut Buggy) {
    let ran = buggy.try_run(&["load"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    buggy.shop.note_versions().await;
}

/// Two loads have planned from the same ledger; one of them loads first.
async fn two_loads(bugs: &'static str) -> Vec<String> {
    let mut buggy = with_a_manifest_to_load(bugs).await;
    let second = buggy.start(&["load"], "load.ledger_read").await;
    load(&mut buggy).await;
    let ran = second.go().await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    buggy.differences().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_ignored_under_the_lock_doubles_versions() {
    let (layer_off, with) =
        tokio::join!(two_loads("versions_not_compared"), two_loads("ledger_ignored,versions_not_compared"));
    assert_caught(&layer_off, &with, "sale 30 has the versions");
    // The comparison of versions hides it.
    assert_eq!(two_loads("ledger_ignored").await, Vec::<String>::new());
}

/// A load dies after its commit.
async fn death_after_commit(bugs: &'static str) -> Vec<String> {
    let mut buggy = with_a_manifest_to_load(bugs).await;
    buggy.crash(&["load"], "load.after_commit").await;
    load(&mut buggy).await;
    buggy.differences().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_row_outside_of_the_transaction_doubles_versions_after_a_crash() {
    let (layer_off, with) = tokio::join!(
        death_after_commit("versions_not_compared"),
        death_after_commit("ledger_after_commit,versions_not_compared")
    );
    assert_caught(&layer_off, &with, "sale 30 has the versions");
}

async fn adopted_again(bugs: &'static str) -> Vec<String> {
    let buggy = Buggy::new(bugs).await;
    let ran = buggy.try_run(&["load", "--adopt"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    buggy.differences().await
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_are_not_compared_are_doubled_by_an_adoption() {
    let (without, with) = tokio::join!(adopted_again(""), adopted_again("versions_not_compared"));
    assert_caught(&without, &with, "sale 1 has the versions");
}

async fn there_and_back(bugs: &'static str) -> Vec<String> {
    let mut buggy = Buggy::new(bugs).await;
    for amount in ["777", "30.25"] {
        buggy.shop.change(&format!("update sale set amount = {amount} where sale_id = 30")).await;
        buggy.run().await;
    }
    buggy.differences().await
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_compared_with_the_oldest_leave_a_value_stale_that_returned() {
    let (without, with) = tokio::join!(there_and_back(""), there_and_back("versions_out_of_order"));
    assert_caught(&without, &with, "fact_sale: missing (30,31,30.25");
}
