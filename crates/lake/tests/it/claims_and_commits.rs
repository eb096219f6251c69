use std::collections::BTreeSet;

use futures::future::join_all;
use starlift_core::event::StageResult;
use starlift_core::manifest::{CaptureState, RelationRun};
use starlift_core::succession::{Draft, carried, next};
use starlift_core::unfinished::Unfinished;
use starlift_core::{ErrorKind, Micros, key};
use starlift_lake::{Commit, Head, claim, commit, manifests};

use crate::fixture::{AT, both_stores, chain_of, commit_ok, first, people};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_24_runs_that_commit_at_once_exactly_one_does() {
    let (_folder, stores) = both_stores();
    for (name, store) in stores {
        let runs = (0..24).map(|n| {
            let (store, manifest) = (store.clone(), first(&format!("w{n}")));
            tokio::spawn(async move { commit(&store, manifest).await.unwrap() })
        });
        let outcomes: Vec<Commit> = join_all(runs).await.into_iter().map(|o| o.unwrap()).collect();
        let winners: Vec<_> = outcomes.iter().filter(|o| matches!(o, Commit::Committed(_))).collect();
        assert_eq!(winners.len(), 1, "{name}");
        let stored = manifests::newest(&store).await.unwrap().unwrap();
        for outcome in &outcomes {
            let (Commit::Committed(seen) | Commit::Superseded(seen)) = outcome;
            assert_eq!(*seen, stored, "{name}: everybody sees the winner's");
        }
    }
}

#[tokio::test]
async fn a_commit_that_comes_again_is_still_its_own() {
    let (_folder, stores) = both_stores();
    for (_, store) in stores {
        let stored = commit_ok(&store, first("w")).await;
        assert_eq!(commit_ok(&store, first("w")).await, stored);
    }
}

#[tokio::test]
async fn a_manifest_that_does_not_name_the_one_before_is_never_stored() {
    let store = starlift_lake::Store::in_memory();
    let mut orphan = first("w");
    orphan.seq = 2;
    assert_eq!(commit(&store, orphan).await.unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(manifests::newest(&store).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn runs_that_claim_at_once_get_times_of_their_own() {
    let (_folder, stores) = both_stores();
    for (name, store) in stores {
        let runs = (0..24).map(|n| {
            let store = store.clone();
            tokio::spawn(async move { claim(&store, AT, Some(Micros(5)), &format!("w{n}")).await.unwrap() })
        });
        let times: BTreeSet<Micros> = join_all(runs).await.into_iter().map(|t| t.unwrap()).collect();
        assert_eq!((times.len(), times.first()), (24, Some(&AT)), "{name}");
        assert!(times.last().is_some_and(|last| last.0 < AT.0 + (1 << 24)), "{name}: {times:?}");
    }
}

#[tokio::test]
async fn thousands_of_times_that_dead_runs_used_up_keep_no_run_from_its_claim() {
    let store = starlift_lake::Store::in_memory();
    for n in 0..3_000 {
        store.create(&key::claim(Micros(AT.0 + n)), "another run".into()).await.unwrap();
    }
    let claimed = claim(&store, AT, Some(Micros(5)), "ours").await.unwrap();
    assert_eq!(claimed, Micros(AT.0 + 4_095), "in 13 tries");
    // And so again and again: each gets a time of its own.
    let mut last = claimed;
    for run in 0..40 {
        let claimed = claim(&store, AT, None, &format!("run {run}")).await.unwrap();
        assert!(claimed > last, "{claimed}");
        last = claimed;
    }
}

#[tokio::test]
async fn a_claim_is_later_than_the_manifest_before_even_when_the_clock_is_not() {
    let store = starlift_lake::Store::in_memory();
    assert_eq!(claim(&store, Micros(10), Some(AT), "a").await.unwrap(), AT.next());
    assert_eq!(claim(&store, Micros(10), Some(AT), "b").await.unwrap(), AT.next().next());
    assert!(store.get(&key::claim(AT.next())).await.unwrap().is_some());
}

#[tokio::test]
async fn a_time_that_no_key_holds_is_refused() {
    let store = starlift_lake::Store::in_memory();
    for at in [Micros(-1), Micros(i64::MAX), Micros(253_402_300_800_000_000)] {
        assert_eq!(claim(&store, at, None, "a").await.unwrap_err().kind(), ErrorKind::Config, "{at}");
    }
    assert_eq!(claim(&store, Micros(253_402_300_799_999_999), None, "a").await.unwrap().0, 253_402_300_799_999_999);
}

#[tokio::test]
async fn a_repeated_run_id_finds_the_newest_manifest_of_its_run() {
    // With the chain at hand reaching back far enough, and with a checkpoint that cuts it short.
    for checkpoints in [&[][..], &[18], &[4, 20]] {
        let store = starlift_lake::Store::in_memory();
        chain_of(&store, 20, checkpoints).await;
        let head = Head::read(&store, "p").await.unwrap();
        let found = async |run: &str| head.find_run(&store, run).await.unwrap().map(|stored| stored.seq());
        assert_eq!(found("run of w19").await, Some(19), "{checkpoints:?}");
        assert_eq!(found("run of w5").await, Some(5), "{checkpoints:?}");
        assert_eq!(found("run of w4").await, None, "deeper than 16, {checkpoints:?}");
        assert_eq!(found("other").await, None, "{checkpoints:?}");
    }
    let empty = starlift_lake::Store::in_memory();
    assert_eq!(Head::read(&empty, "p").await.unwrap().find_run(&empty, "other").await.unwrap(), None);
}

/// A base of which this run reads a chunk.
fn going_on() -> Unfinished {
    Unfinished {
        schema: people(),
        fingerprint: "f".into(),
        reason: "first read".into(),
        first: 1,
        capture: CaptureState {
            mode: "xid".into(),
            identity: "i".into(),
            watermark: 1,
            xmax: 1,
            lsn: 1,
            read_at: AT,
            names: None,
            passes: None,
        },
        storage: "s".into(),
        files: vec![],
        pages: 9,
        read: 1,
        chunks: 1,
        rows: 1,
        refused: 0,
        counted: 0,
        bytes_read: 0,
        millis: 0,
        run: Some(RelationRun::default()),
    }
}

/// A lake that is merged as a whole gets a manifest for each table, and a run that comes again afterwards is still that run.
#[tokio::test]
async fn a_run_is_found_behind_more_compactions_than_most_lakes_have_tables() {
    let store = starlift_lake::Store::in_memory();
    let mut manifest = first("w1");
    manifest.runs_before = Some(Vec::new());
    // As every manifest while files are few.
    (manifest.checkpoint, manifest.live) = (1, Some(Default::default()));
    let mut newest = commit_ok(&store, manifest).await;
    for number in 1..=300i64 {
        let before = &newest.manifest;
        let draft = Draft {
            pipeline: "p".into(),
            new_id: String::new(),
            run_id: format!("compaction {number}"),
            write_id: format!("compaction {number}"),
            version: "0".into(),
            at: Micros(AT.0 + number),
            started: AT,
            finished: AT,
            origin: before.origin.clone(),
            relations: carried(Some(before), |_| true),
            upkept: Default::default(),
            compaction: true,
        };
        let manifest = next(Some((before, &newest.sha256)), Default::default(), draft);
        newest = commit_ok(&store, manifest).await;
    }
    let head = Head::read(&store, "p").await.unwrap();
    let found = head.find_run(&store, "run of w1").await.unwrap();
    assert_eq!(found.map(|stored| stored.manifest.seq), Some(1));
    assert_eq!(head.find_run(&store, "another").await.unwrap(), None);
}

#[tokio::test]
async fn what_a_run_that_goes_on_printed_is_found_behind_the_manifests_of_others() {
    let store = starlift_lake::Store::in_memory();
    let printed: StageResult = [("people".to_string(), "people/first.parquet".to_string())].into();
    let mut manifest = first("w1");
    manifest.unfinished.insert("people".into(), going_on());
    manifest.result = printed.clone();
    let mut newest = commit_ok(&store, manifest).await;
    let of = async |run: &str| Head::read(&store, "p").await.unwrap().printed_by(&store, run).await.unwrap();
    assert_eq!((of("run of w1").await, of("another").await), (printed.clone(), StageResult::new()));
    for seq in 2..=3u64 {
        let mut other = first(&format!("w{seq}"));
        other.seq = seq;
        other.previous_sha256 = Some(newest.sha256.clone());
        other.at = Micros(AT.0 + seq as i64);
        other.runs_before = Some((1..seq).rev().map(|seq| format!("run of w{seq}")).collect());
        // As every manifest while files are few: no other one is at hand.
        (other.checkpoint, other.live) = (seq, Some(Default::default()));
        newest = commit_ok(&store, other).await;
    }
    assert_eq!(of("run of w1").await, printed);
    assert_eq!(of("run of w2").await, StageResult::new(), "it is over");
    assert_eq!(of("another").await, StageResult::new());
}
