//! Vacuum over real folders and a bucket: what dead and superseded runs left goes, everything else stays.

use std::collections::BTreeSet;

use bytes::Bytes;
use starlift_core::manifest::{FileMode, Manifest, Relation, RelationRun};
use starlift_core::vacuum::Garbage;
use starlift_core::{ErrorKind, Micros, key};
use starlift_lake::vacuum::{Kept, remove, survey};
use starlift_lake::{Store, claim};

use crate::fixture::{AT, both_stores, commit_ok, first, keys, people, rows, write};

/// Later than everything here.
const LONG_AFTER: Micros = Micros(AT.0 + 3_600_000_000);

/// Two manifests with rows and tombstones of `people`, and the claims of their times.
async fn lake(store: &Store) {
    let mut manifest = first("w1");
    for seq in [1, 2] {
        let at = Micros(AT.0 + seq as i64 * 10);
        claim(store, at, None, &format!("run {seq}")).await.unwrap();
        let run = RelationRun {
            files: files(write(store, seq, FileMode::Full, &rows(&[(seq as i32, "a")])).await),
            deleted: files(write(store, seq, FileMode::Deleted, &keys(&[100 + seq as i32])).await),
            ..RelationRun::default()
        };
        let relation = Relation {
            fingerprint: people().fingerprint(),
            schema: people(),
            rows: 1,
            refused: 0,
            last_change: seq,
            base: seq,
            capture: None,
            model: None,
            run: Some(run),
        };
        (manifest.seq, manifest.at, manifest.write_id) = (seq, at, format!("w{seq}"));
        manifest.run_id = format!("run {seq}");
        manifest.relations = [("people".to_string(), relation)].into();
        let stored = commit_ok(store, manifest.clone()).await;
        manifest = Manifest { previous_sha256: Some(stored.sha256), ..stored.manifest };
    }
}

fn files(live: Vec<starlift_core::manifest::LiveFile>) -> Vec<starlift_core::manifest::DataFile> {
    live.into_iter().map(|live| live.file).collect()
}

async fn put(store: &Store, key: &str) {
    store.create(key, Bytes::from_static(b"left behind")).await.unwrap();
}

async fn all(store: &Store) -> BTreeSet<String> {
    store.list("", usize::MAX).await.unwrap().into_iter().collect()
}

/// What a run with this time leaves when it dies just before its commit.
fn remains(at: Micros) -> [String; 4] {
    [key::claim(at), key::data("people", at, 1), key::data("people", at, 2), key::deleted("people", at, 1)]
}

#[tokio::test]
async fn what_dead_runs_left_goes_and_all_that_manifests_name_stays() {
    let (_folder, stores) = both_stores();
    for (name, store) in stores {
        lake(&store).await;
        let named = all(&store).await;
        assert_eq!(named.len(), 8, "{name}: two manifests, each with a claim, rows and tombstones");
        let (dead, running) = (Micros(AT.0 + 15), Micros(AT.0 + 21));
        let foreign = ["readme.txt", "_quarantine/people/1.parquet", "people/notes.parquet"];
        for key in remains(dead).iter().chain(&remains(running)) {
            put(&store, key).await;
        }
        for key in foreign {
            put(&store, key).await;
        }
        let found = survey(&store, "p", LONG_AFTER).await.unwrap();
        let garbage: Vec<(&str, Garbage, u64)> =
            found.garbage.iter().map(|g| (g.key.as_str(), g.garbage, g.bytes)).collect();
        let [claim, data, part, deleted] = &remains(dead);
        let mut expected = [
            (claim.as_str(), Garbage::Claim, 11),
            (data, Garbage::Data, 11),
            (part, Garbage::Data, 11),
            (deleted, Garbage::Deleted, 11),
        ];
        expected.sort();
        assert_eq!(garbage, expected, "{name}");
        assert_eq!(found.kept, Kept { named: 8, running: 4, young: 0, foreign: 3 }, "{name}");
        assert_eq!(found.manifests, 2, "{name}");

        let young = survey(&store, "p", dead).await.unwrap();
        assert_eq!((young.garbage.len(), young.kept.young), (0, 4), "{name}: not old enough");

        remove(&store, &found.garbage).await.unwrap();
        // Again is the same: what is gone is passed over.
        remove(&store, &found.garbage).await.unwrap();
        let mut left = named;
        left.extend(remains(running));
        left.extend(foreign.map(String::from));
        assert_eq!(all(&store).await, left, "{name}");
        assert!(survey(&store, "p", LONG_AFTER).await.unwrap().garbage.is_empty(), "{name}");
    }
}

#[tokio::test]
async fn what_was_being_staged_in_a_folder_goes_too() {
    let folder = tempfile::tempdir().unwrap();
    let store = crate::fixture::folder_store(&folder);
    lake(&store).await;
    let dead = format!("{}#1", key::data("people", Micros(AT.0 + 15), 1));
    let running = format!("{}#1", key::claim(Micros(AT.0 + 21)));
    for staged in [&dead, &running] {
        let path = folder.path().join("lake").join(staged);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"half").unwrap();
    }
    let found = survey(&store, "p", LONG_AFTER).await.unwrap();
    let staged: Vec<(&str, Garbage)> = found.garbage.iter().map(|g| (g.key.as_str(), g.garbage)).collect();
    assert_eq!(staged, [(dead.as_str(), Garbage::Staging)]);
    remove(&store, &found.garbage).await.unwrap();
    assert!(!folder.path().join("lake").join(&dead).exists());
    assert!(folder.path().join("lake").join(&running).exists());
}

#[tokio::test]
async fn a_lake_without_manifests_has_no_garbage() {
    let (_folder, stores) = both_stores();
    for (name, store) in stores {
        put(&store, &key::data("people", AT, 1)).await;
        let found = survey(&store, "p", LONG_AFTER).await.unwrap();
        assert_eq!((found.garbage.len(), found.kept.running), (0, 1), "{name}: it may be the first run's");
    }
}

#[tokio::test]
async fn nothing_is_judged_where_a_manifest_is_missing_or_another_pipelines() {
    let folder = tempfile::tempdir().unwrap();
    let store = crate::fixture::folder_store(&folder);
    lake(&store).await;
    put(&store, &key::data("people", Micros(AT.0 + 15), 1)).await;
    assert_eq!(survey(&store, "other", LONG_AFTER).await.unwrap_err().kind(), ErrorKind::Config);
    std::fs::remove_file(folder.path().join("lake").join(key::manifest(1))).unwrap();
    let error = survey(&store, "p", LONG_AFTER).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data, "{error:?}");
}
