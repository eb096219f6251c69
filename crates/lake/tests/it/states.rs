use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int32Type;
use futures::TryStreamExt;
use starlift_core::ErrorKind;
use starlift_core::manifest::{FileMode, LiveFile};
use starlift_lake::{Digests, Gone, KeyDigest, Keys, RowDigest, State, Store, WriterOptions, tombstones};

use crate::fixture::{both_stores, collect, expected, index_of, keys, people, rows, spilling_store, write, write_with};

fn state(store: &Store, files: &[LiveFile]) -> State {
    State::new(store, people(), files.to_vec()).unwrap()
}

fn digests(ids: &[i32]) -> HashSet<KeyDigest> {
    Digests::new(&people()).unwrap().keys_of_key_batch(&keys(ids)).unwrap().into_iter().collect()
}

fn ids(batches: &[RecordBatch], column: usize) -> Vec<i32> {
    let mut ids: Vec<i32> =
        batches.iter().flat_map(|b| b.column(column).as_primitive::<Int32Type>().values().to_vec()).collect();
    ids.sort_unstable();
    ids
}

/// 1 stays, 2 is updated twice, 3 is deleted, 4 is deleted and comes again, 5 is new, 6 is new and deleted.
async fn history(store: &Store) -> Vec<LiveFile> {
    let mut files = write(store, 1, FileMode::Full, &rows(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")])).await;
    files.extend(write(store, 2, FileMode::Window, &rows(&[(2, "b2"), (5, "e"), (6, "f")])).await);
    files.extend(write(store, 2, FileMode::Deleted, &keys(&[3, 4])).await);
    files.extend(write(store, 3, FileMode::Window, &rows(&[(2, "b3"), (4, "d3")])).await);
    files.extend(write(store, 4, FileMode::Deleted, &keys(&[6])).await);
    files
}

const NOW: [(i32, &str); 4] = [(1, "a"), (2, "b3"), (4, "d3"), (5, "e")];

#[tokio::test]
async fn the_newest_entry_of_each_key_is_the_state() {
    let (_folder, stores) = both_stores();
    for (name, store) in stores {
        let files = history(&store).await;
        assert_eq!(collect(state(&store, &files).scan(None)).await, expected(&NOW), "{name}");
        assert_eq!(state(&store, &files).rows().await.unwrap(), 4, "{name}");
        for shuffled in [files.iter().rev().cloned().collect::<Vec<_>>(), [&files[3..], &files[..3]].concat()] {
            assert_eq!(collect(state(&store, &shuffled).scan(None)).await, expected(&NOW), "{name}");
        }
    }
}

#[tokio::test]
async fn a_state_as_of_an_earlier_manifest_leaves_later_files_out() {
    let store = Store::in_memory();
    let files = history(&store).await;
    let upto = |seq: u64| files.iter().filter(|f| f.seq <= seq).cloned().collect::<Vec<_>>();
    let two = expected(&[(1, "a"), (2, "b2"), (5, "e"), (6, "f")]);
    assert_eq!(collect(state(&store, &upto(2)).scan(None)).await, two);
    assert_eq!(collect(state(&store, &upto(0)).scan(None)).await, expected(&[]));
}

#[tokio::test]
async fn a_new_base_is_the_whole_state() {
    let store = Store::in_memory();
    history(&store).await;
    let base = write(&store, 5, FileMode::Full, &rows(&[(7, "g"), (2, "b5")])).await;
    let whole = state(&store, &base);
    assert_eq!(collect(whole.scan(None)).await, expected(&[(7, "g"), (2, "b5")]));
    assert_eq!(whole.bytes(), base[0].file.bytes);
}

#[tokio::test]
async fn a_base_in_several_parts_is_one_table() {
    let store = Store::in_memory();
    let many: Vec<(i32, &str)> = (0..20_000).map(|n| (n, "x")).collect();
    let options = WriterOptions { rows_per_part: 8_192, ..WriterOptions::default() };
    let mut files = write_with(&store, 1, FileMode::Full, &rows(&many), options).await;
    assert_eq!(files.len(), 3);
    files.extend(write(&store, 2, FileMode::Window, &rows(&[(5, "five"), (19_999, "last")])).await);
    let found = collect(state(&store, &files).scan(None)).await;
    assert_eq!(found.len(), 20_000);
    assert_eq!((found[&5].as_str(), found[&19_999].as_str(), found[&6].as_str()), ("five", "last", "x"));
}

#[tokio::test]
async fn within_one_manifest_the_closing_window_is_newer_than_its_chunks() {
    let store = Store::in_memory();
    let mut files = write(&store, 3, FileMode::Full, &rows(&[(1, "old"), (2, "gone"), (3, "same")])).await;
    files.extend(write(&store, 3, FileMode::Window, &rows(&[(1, "new")])).await);
    files.extend(write(&store, 3, FileMode::Deleted, &keys(&[2])).await);
    for order in [files.clone(), files.into_iter().rev().collect()] {
        assert_eq!(collect(state(&store, &order).scan(None)).await, expected(&[(1, "new"), (3, "same")]));
    }
}

#[tokio::test]
async fn any_columns_may_be_asked_for_also_without_the_key() {
    let store = Store::in_memory();
    let state = state(&store, &history(&store).await);
    let names: Vec<RecordBatch> = state.scan(Some(vec![0])).try_collect().await.unwrap();
    let mut found: Vec<String> =
        names.iter().flat_map(|b| b.column(0).as_string::<i32>().iter().map(|n| n.unwrap().to_string())).collect();
    found.sort();
    assert_eq!(found, ["a", "b3", "d3", "e"]);
    assert!(names.iter().all(|b| b.num_columns() == 1 && b.num_rows() > 0));
    let swapped: Vec<RecordBatch> = state.scan(Some(vec![1, 0])).try_collect().await.unwrap();
    assert_eq!(ids(&swapped, 0), [1, 2, 4, 5]);
    let key_batches: Vec<RecordBatch> = state.keys().try_collect().await.unwrap();
    assert_eq!(ids(&key_batches, 0), [1, 2, 4, 5]);
    assert!(key_batches.iter().all(|b| b.schema() == people().key_to_arrow()));
    let beyond = state.scan(Some(vec![9])).try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(beyond.kind(), ErrorKind::Internal);
}

#[tokio::test]
async fn some_keys_are_found_as_the_index_has_them() {
    let (_folder, stores) = both_stores();
    for (name, store) in stores {
        let state = state(&store, &history(&store).await);
        let index = index_of(&state).await;
        assert_eq!(index.keys().copied().collect::<HashSet<_>>(), digests(&[1, 2, 4, 5]), "{name}");
        for wanted in [&[][..], &[1], &[2, 3, 4], &[3, 6, 99], &[1, 2, 3, 4, 5, 6, 7]] {
            let wanted = digests(wanted);
            let restricted = index.iter().filter(|(k, _)| wanted.contains(k)).map(|(k, r)| (*k, *r)).collect();
            assert_eq!(state.find(&wanted).await.unwrap(), restricted, "{name}");
        }
    }
}

#[tokio::test]
async fn rows_of_some_keys_are_selected() {
    let store = Store::in_memory();
    let state = state(&store, &history(&store).await);
    let select = |ids: &[i32]| state.select(Arc::new(digests(ids)), None);
    assert_eq!(collect(select(&[2, 3, 5, 77])).await, expected(&[(2, "b3"), (5, "e")]));
    assert_eq!(collect(select(&[])).await, expected(&[]));
    let counted: Vec<RecordBatch> = state.select(Arc::new(digests(&[1, 2])), Some(vec![])).try_collect().await.unwrap();
    assert_eq!(counted.iter().map(|b| b.num_rows()).sum::<usize>(), 2);
}

#[tokio::test]
async fn selecting_every_third_row_of_a_large_file_gives_exactly_those() {
    let store = Store::in_memory();
    let names: Vec<String> = (0..30_000).map(|n| format!("n{n}")).collect();
    let all: Vec<(i32, &str)> = names.iter().enumerate().map(|(n, name)| (n as i32, name.as_str())).collect();
    let files = write(&store, 1, FileMode::Full, &rows(&all)).await;
    let wanted: Vec<i32> = (0..30_000).step_by(3).collect();
    let found = collect(state(&store, &files).select(Arc::new(digests(&wanted)), None)).await;
    assert_eq!(found, all.iter().filter(|(n, _)| n % 3 == 0).map(|(n, s)| (*n, s.to_string())).collect());
}

#[tokio::test]
async fn files_older_than_the_wanted_keys_are_not_opened() {
    let store = Store::in_memory();
    let mut files = write(&store, 1, FileMode::Full, &rows(&[(1, "a")])).await;
    files[0].file.key = "people/not/there".into();
    files.extend(write(&store, 2, FileMode::Window, &rows(&[(2, "b")])).await);
    // The missing base is only fetched together with the newer file while both are small.
    files[0].file.bytes = 64 << 20;
    let state = state(&store, &files);
    assert_eq!(state.find(&digests(&[2])).await.unwrap().len(), 1);
    assert_eq!(state.find(&digests(&[1])).await.unwrap_err().kind(), ErrorKind::Data);
    assert_eq!(state.index().await.map(|_| ()).unwrap_err().kind(), ErrorKind::Data);
}

fn gone(store: &Store, ids: &[i32]) -> Gone {
    let keys = digests(ids).into_iter().map(|key| (key, RowDigest([0; 16])));
    Gone::of(Keys::before(store.spill(), keys).unwrap()).unwrap()
}

#[tokio::test]
async fn tombstones_are_the_keys_that_are_gone() {
    let (_folder, aside) = spilling_store(1);
    for store in [Store::in_memory(), aside] {
        let state = state(&store, &history(&store).await);
        let found: Vec<RecordBatch> = tombstones(&state, gone(&store, &[1, 4])).try_collect().await.unwrap();
        assert_eq!(ids(&found, 0), [1, 4]);
        assert!(tombstones(&state, gone(&store, &[])).try_collect::<Vec<_>>().await.unwrap().is_empty());
        let strange = tombstones(&state, gone(&store, &[1, 3])).try_collect::<Vec<_>>().await.unwrap_err();
        assert_eq!(strange.kind(), ErrorKind::Internal);
    }
}

#[tokio::test]
async fn a_table_without_a_key_is_the_rows_of_its_files() {
    let store = Store::in_memory();
    let mut schema = people();
    schema.key.clear();
    let mut files = write(&store, 1, FileMode::Full, &rows(&[(1, "a"), (1, "a")])).await;
    let one = State::new(&store, schema.clone(), files.clone()).unwrap();
    files.extend(write(&store, 2, FileMode::Window, &rows(&[(1, "a")])).await);
    let two = State::new(&store, schema.clone(), files.clone()).unwrap();
    assert_eq!((one.rows().await.unwrap(), two.rows().await.unwrap()), (2, 3));

    let other_order = write(&store, 3, FileMode::Full, &rows(&[(1, "a"), (2, "b"), (1, "a")])).await;
    let same = write(&store, 4, FileMode::Full, &rows(&[(2, "b"), (1, "a"), (1, "a")])).await;
    let fewer = write(&store, 5, FileMode::Full, &rows(&[(2, "b"), (1, "a")])).await;
    let other = write(&store, 6, FileMode::Full, &rows(&[(2, "b"), (2, "b"), (1, "a")])).await;
    let mut multisets = Vec::new();
    for files in [other_order, same, fewer, other] {
        multisets.push(State::new(&store, schema.clone(), files).unwrap().multiset().await.unwrap());
    }
    assert_eq!(multisets[0], multisets[1]);
    assert_ne!(multisets[0], multisets[2]);
    assert_ne!(multisets[0], multisets[3]);
    assert_eq!(multisets[0].rows(), 3);

    files.extend(write(&store, 7, FileMode::Deleted, &keys(&[1])).await);
    assert_eq!(State::new(&store, schema, files).unwrap_err().kind(), ErrorKind::Data);
}

#[tokio::test]
async fn damage_anywhere_in_a_state_stops_its_reader() {
    let store = Store::in_memory();
    let files = history(&store).await;
    for position in 0..files.len() {
        let mut damaged = files.clone();
        damaged[position].file.sha256 = "0".repeat(64);
        let met = state(&store, &damaged).scan(None).try_collect::<Vec<_>>().await.unwrap_err();
        assert_eq!(met.kind(), ErrorKind::Data, "file {position}");
    }
}
