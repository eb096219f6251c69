//! Bugs in how runs claim and commit.

use super::{Buggy, assert_caught};

/// A run sleeps before its manifest while two others commit; then it wakes up.
async fn sleeper(bugs: &'static str) -> Vec<String> {
    let mut buggy = Buggy::new(bugs).await;
    // Who evaluates only what changed does not look at the rows that an overwritten manifest took away.
    buggy.evaluates_whole();
    buggy.shop.change("update sale set amount = 701 where sale_id = 30").await;
    let sleeper = buggy.start(&["ingest"], "ingest.before_manifest").await;
    buggy.shop.change("update sale set amount = 702 where sale_id = 31").await;
    buggy.run().await;
    buggy.shop.change("update sale set amount = 703 where sale_id = 32").await;
    buggy.run().await;
    let slept = sleeper.go().await;
    assert_eq!(slept.code, Some(0), "{}", slept.stderr);
    buggy.shop.change("update sale set amount = 704 where sale_id = 33").await;
    let ran = buggy.try_run(&["run"]).await;
    if ran.code != Some(0) {
        return vec![format!("stuck: {}", ran.stderr)];
    }
    buggy.shop.note_versions().await;
    buggy.differences().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_can_be_overwritten_breaks_the_chain_and_without_links_loses_rows() {
    let (without, unchecked, overwritten, both) = tokio::join!(
        sleeper("small_checkpoint"),
        sleeper("small_checkpoint,links_unchecked"),
        sleeper("small_checkpoint,manifest_overwritten"),
        sleeper("small_checkpoint,manifest_overwritten,links_unchecked")
    );
    assert_caught(&without, &overwritten, "manifest 2");
    assert_caught(&unchecked, &both, "fact_sale: missing (31,32,702.00");
}

/// A run dies after its files, and the clock of the source does not move on.
async fn dead_run_under_a_stopped_clock(bugs: &'static str) -> Vec<String> {
    let mut buggy = Buggy::new(bugs).await;
    buggy.shop.change("update sale set amount = 777 where sale_id = 30").await;
    buggy.crash(&["ingest"], "ingest.before_manifest").await;
    for _ in 0..2 {
        let ran = buggy.try_run(&["run"]).await;
        if ran.code != Some(0) {
            return vec![format!("stuck: {}", ran.stderr)];
        }
    }
    buggy.shop.note_versions().await;
    buggy.differences().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_ignored_leaves_a_pipeline_stuck_on_the_files_of_a_dead_run() {
    let (without, with) = tokio::join!(
        dead_run_under_a_stopped_clock("stopped_clock"),
        dead_run_under_a_stopped_clock("stopped_clock,claim_ignored")
    );
    assert_caught(&without, &with, "is taken");
}

/// Two ingests overlap; what the one that lost returns is given to the next stage.
async fn result_of_the_loser(bugs: &'static str) -> Vec<String> {
    let mut buggy = Buggy::new(bugs).await;
    buggy.shop.change("update sale set amount = 701 where sale_id = 30").await;
    let loser = buggy.start(&["ingest"], "ingest.before_manifest").await;
    buggy.shop.change("update sale set amount = 702 where sale_id = 31").await;
    buggy.run().await;
    let lost = loser.go().await;
    assert_eq!(lost.code, Some(0), "{}", lost.stderr);
    let event = buggy.shop.path("event.json");
    std::fs::write(&event, &lost.stdout).unwrap();
    let next = buggy.try_run(&["transform", "--event", &event.to_string_lossy()]).await;
    if next.code == Some(0) { buggy.differences().await } else { vec![format!("false report: {}", next.stderr)] }
}

#[tokio::test(flavor = "multi_thread")]
async fn exists_taken_for_success_reports_files_that_no_manifest_names() {
    let (without, with) = tokio::join!(result_of_the_loser(""), result_of_the_loser("exists_is_success"));
    assert_caught(&without, &with, "that no manifest names");
}

/// The same run comes three times, as a state machine repeats it.
async fn repeated_run(bugs: &'static str) -> Vec<String> {
    let buggy = Buggy::new(bugs).await;
    buggy.shop.change("update sale set amount = 777 where sale_id = 30").await;
    let mut results = Vec::new();
    for _ in 0..3 {
        let ran = buggy.try_run(&["ingest", "--run-id", "once"]).await;
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        results.push(ran.stdout);
    }
    let manifests = std::fs::read_dir(buggy.shop.lake().join("_manifests")).unwrap().count();
    let mut harm = Vec::new();
    if manifests != 2 {
        harm.push(format!("{manifests} manifests of two runs"));
    }
    if results.iter().any(|result| *result != results[0]) {
        harm.push(format!("other results: {results:?}"));
    }
    harm
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_id_that_is_ignored_commits_again_and_returns_something_else() {
    let (without, with) = tokio::join!(repeated_run(""), repeated_run("run_id_ignored"));
    assert_caught(&without, &with, "4 manifests of two runs");
    assert_caught(&without, &with, "other results");
}
