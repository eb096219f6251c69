//! What the upkeep of files may not do to a transform: hide keys from it, or keep it from its commit.

use std::time::{Duration, Instant};

use starlift::{Head, Outcome};

use super::history::History;
use super::star::{Pair, Step};

fn models() -> Vec<(String, String)> {
    vec![("m0".to_string(), "-- kind: dimension\n-- key: k\nselect id as k, label as n from c".to_string())]
}

/// All rows of a table go and are merged away, all but a new one, before transform sees it: nothing is left of their keys.
async fn all_gone_before_transform_looks() -> Result<(), String> {
    let pair = Pair::new(&models());
    let mut history = History::new(&pair.lake());
    for labels in [["x", "x", "x"], ["y", "x", "x"], ["y", "z", "x"]] {
        history.set_c(&[(1, labels[0]), (2, labels[1]), (3, labels[2])]).await;
    }
    pair.transform().await?;
    history.set_c(&[]).await;
    history.set_c(&[(7, "x")]).await;
    assert_eq!(history.live_of_c().await, [(5, 5)], "four small units are merged into nothing");
    match pair.transform().await? {
        Step::Committed(_) => Ok(()),
        Step::Stopped => Err("both stopped".into()),
    }
}

#[test]
fn keys_that_are_all_gone_and_merged_away_are_retracted_by_a_star_that_fell_behind() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(all_gone_before_transform_looks()).unwrap();
    #[cfg(debug_assertions)]
    {
        let found = starlift_core::fault::with_planted("merged_away_unseen", || {
            runtime.block_on(all_gone_before_transform_looks()).unwrap_err()
        });
        let whole = found.split_once("whole alone:").unwrap().1;
        assert!((1..=3).all(|key| whole.contains(&format!("retraction {key}"))), "{found}");
    }
}

#[cfg(debug_assertions)]
#[test]
fn a_run_whose_upkeep_takes_for_ever_commits_within_its_deadline_and_a_later_one_does_it() {
    use starlift_core::fault::with_planted;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let deadline = Duration::from_secs(16);
    let pair = Pair::new(&models());
    let mut history = History::new(&pair.lake());
    let mut change = |labels: [&'static str; 3]| {
        runtime.block_on(history.set_c(&[(1, labels[0]), (2, labels[1]), (3, labels[2])]));
    };
    let transform = || {
        runtime.block_on(async {
            let begun = Instant::now();
            let report = pair.run_within("incremental", deadline).await.unwrap();
            let head = Head::read(&pair.star(), "p").await.unwrap();
            let is_indexed = head.manifest().unwrap().index.contains_key("m0");
            (report.outcome, report.relations[0].rows_written, is_indexed, begun.elapsed())
        })
    };
    change(["x", "x", "x"]);
    assert_eq!(transform().0, Outcome::Committed);
    change(["x", "y", "x"]);
    let (outcome, rows, is_indexed, time) = with_planted("small_index", || with_planted("endless_index", transform));
    assert_eq!((outcome, rows, is_indexed), (Outcome::Committed, 1, false));
    assert!(time >= Duration::from_secs(2) && time < deadline, "{time:?}: the index was begun and given up");
    change(["x", "y", "z"]);
    let (outcome, rows, is_indexed, _) = with_planted("small_index", transform);
    assert_eq!((outcome, rows, is_indexed), (Outcome::Committed, 1, true));
}
