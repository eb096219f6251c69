//! The key index and merged files answer as the files themselves do, after any history; damage in what is read of them is
//! refused.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use futures::{StreamExt, TryStreamExt};
use proptest::prelude::*;
use starlift_core::index::Extent;
use starlift_core::manifest::{FileMode, LiveFile};
use starlift_core::{ErrorKind, Micros, fault, state};
use starlift_lake::upkeep::{Done, in_time};
use starlift_lake::{Digests, KeyDigest, RowDigest, State, Store, upkeep};

use crate::counting::Counting;
use crate::fixture::{AT, collect, expected, folder_store, index_of, keys, people, rows, spilling_store, write};

#[derive(Debug, Clone, PartialEq)]
enum Entry {
    Row(String),
    Refused,
}

/// One run: entries that are written, keys that go, whether the table is read anew, and whether files are looked after.
#[derive(Debug, Clone)]
struct Run {
    written: BTreeMap<i32, Entry>,
    gone: BTreeSet<i32>,
    base: bool,
    keeps: Option<bool>,
}

fn runs() -> impl Strategy<Value = Vec<Run>> {
    let entry = prop_oneof![4 => "[ab]{0,2}".prop_map(Entry::Row), 1 => Just(Entry::Refused)];
    let written = prop::collection::btree_map(0..14i32, entry, 0..7);
    let gone = prop::collection::btree_set(0..14i32, 0..4);
    let keeps = prop_oneof![2 => Just(None), 4 => Just(Some(false)), 1 => Just(Some(true))];
    let run = (written, gone, prop::bool::weighted(0.06), keeps);
    let run = run.prop_map(|(written, gone, base, keeps)| Run { written, gone, base, keeps });
    prop::collection::vec(run, 1..24)
}

fn refused(ids: &[i32]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int32Array::from(ids.to_vec()));
    let text = |text: Option<&str>| -> ArrayRef { Arc::new(StringArray::from(vec![text; ids.len()])) };
    let columns = vec![Arc::clone(&ids), text(Some("name")), text(Some("it is NaN")), text(None)];
    RecordBatch::try_new(people().refused_to_arrow(), columns).unwrap()
}

fn ids(batches: &[RecordBatch], column: usize) -> BTreeSet<i32> {
    let all: Vec<i32> =
        batches.iter().flat_map(|b| b.column(column).as_primitive::<Int32Type>().values().to_vec()).collect();
    let ids: BTreeSet<i32> = all.iter().copied().collect();
    assert_eq!(ids.len(), all.len(), "a key twice in {all:?}");
    ids
}

/// All that can be asked of a state, of all keys and of some.
#[derive(Debug, PartialEq)]
struct Answers {
    rows: BTreeMap<i32, String>,
    keys: BTreeSet<i32>,
    refused: BTreeSet<i32>,
    digests: HashMap<KeyDigest, RowDigest>,
    key_digests: HashSet<KeyDigest>,
    some_rows: BTreeMap<i32, String>,
    some_keys: BTreeSet<i32>,
    found: HashMap<KeyDigest, RowDigest>,
}

async fn answers(state: &State, some: &[i32]) -> Answers {
    let wanted: Arc<HashSet<KeyDigest>> =
        Arc::new(Digests::new(&people()).unwrap().keys_of_key_batch(&keys(some)).unwrap().into_iter().collect());
    let batches = async |stream: futures::stream::BoxStream<'static, starlift_core::Result<RecordBatch>>| {
        stream.try_collect::<Vec<_>>().await.unwrap()
    };
    let key_digests: Vec<KeyDigest> = state.key_digests().map(|keys| keys.unwrap()).concat().await;
    let distinct: HashSet<KeyDigest> = key_digests.iter().copied().collect();
    assert_eq!(distinct.len(), key_digests.len(), "a key twice");
    Answers {
        rows: collect(state.scan(None)).await,
        keys: ids(&batches(state.keys()).await, 0),
        refused: ids(&batches(state.refused()).await, 0),
        digests: index_of(state).await,
        key_digests: distinct,
        some_rows: collect(state.select(Arc::clone(&wanted), None)).await,
        some_keys: ids(&batches(state.select_keys(Arc::clone(&wanted))).await, 0),
        found: state.find(&wanted).await.unwrap(),
    }
}

/// What the runs wrote, and what of it is live with and without upkeep, as of each of them.
async fn replay(store: &Store, runs: Vec<Run>) -> Vec<(Vec<LiveFile>, Vec<LiveFile>, BTreeMap<i32, Entry>)> {
    let mut history = Vec::new();
    let (mut plain, mut kept): (Vec<LiveFile>, Vec<LiveFile>) = (Vec::new(), Vec::new());
    let mut now: BTreeMap<i32, Entry> = BTreeMap::new();
    for (seq, run) in (1u64..).zip(runs) {
        let base = run.base || seq == 1;
        if base {
            (plain, kept) = (Vec::new(), Vec::new());
            now.clear();
        }
        let gone: Vec<i32> = run.gone.iter().filter(|id| now.remove(id).is_some()).copied().collect();
        let written: Vec<(i32, &str)> = run
            .written
            .iter()
            .filter_map(|(id, e)| if let Entry::Row(n) = e { Some((*id, n.as_str())) } else { None })
            .collect();
        let aside: Vec<i32> = run.written.iter().filter(|(_, e)| **e == Entry::Refused).map(|(id, _)| *id).collect();
        let gone: Vec<i32> = gone.into_iter().filter(|id| !run.written.contains_key(id)).collect();
        let mode = if base { FileMode::Full } else { FileMode::Window };
        let mut files = write(store, seq, mode, &rows(&written)).await;
        files.extend(write(store, seq, FileMode::Refused, &refused(&aside)).await);
        files.extend(write(store, seq, FileMode::Deleted, &keys(&gone)).await);
        now.extend(run.written.clone());
        plain.extend(files.clone());
        kept.extend(files);
        if let Some(all) = run.keeps {
            let at = Micros(AT.0 + 1_000_000 + seq as i64);
            let settled = if all { seq } else { seq - 1 };
            if let Some(done) =
                upkeep(store, ("people", at), &people(), &kept, Extent::new(settled, all)).await.unwrap()
            {
                kept = done.live;
            }
        }
        history.push((plain.clone(), kept.clone(), now.clone()));
    }
    history
}

/// Panics where an answer with the index, or with merged files, is another one than without.
fn check(runs: Vec<Run>) {
    fault::with_planted("small_index", || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            // What was met is put aside from two keys on.
            let (_folder, store) = spilling_store(2);
            let history = replay(&store, runs).await;
            // In the end: as of every manifest, also of those before files were merged.
            let last = history.len() - 1;
            for (seq, (plain, kept, now)) in history.into_iter().enumerate() {
                if seq % 3 != 0 && seq != last {
                    continue;
                }
                let some: Vec<i32> = (0..15).filter(|id| (id + seq as i32) % 3 != 0).collect();
                let of = |files| State::new(&store, people(), files).unwrap();
                let (expected, found) = (answers(&of(plain), &some).await, answers(&of(kept), &some).await);
                assert_eq!(found, expected, "as of {}", seq + 1);
                let rows: BTreeMap<i32, String> = now
                    .iter()
                    .filter_map(|(id, e)| if let Entry::Row(n) = e { Some((*id, n.clone())) } else { None })
                    .collect();
                assert_eq!(expected.rows, rows, "as of {}", seq + 1);
            }
        });
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn index_and_merged_files_answer_as_the_files_of_any_history_do(runs in runs()) {
        check(runs);
    }
}

/// Rows that come, change, go and come again, with upkeep after each run.
fn lively() -> Vec<Run> {
    let run = |n: i32| Run {
        written: (0..6).map(|i| ((n + i * i) % 14, Entry::Row(format!("{}", n % 7)))).collect(),
        gone: [(n * 5) % 14].into(),
        base: false,
        keeps: Some(n % 5 == 4),
    };
    (0..12).map(run).collect()
}

#[test]
fn bugs_of_index_and_merging_are_seen() {
    check(lively());
    for bug in ["index_part_skipped", "merged_keeps_oldest"] {
        let caught = fault::with_planted(bug, || catch_unwind(AssertUnwindSafe(|| check(lively()))));
        assert!(caught.is_err(), "{bug}");
    }
}

/// What another version might leave: a list without a file that a part of the index covers.
async fn found_without_a_covered_file() -> HashMap<KeyDigest, RowDigest> {
    let store = Store::in_memory();
    let mut files = write(&store, 1, FileMode::Full, &rows(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")])).await;
    files.extend(write(&store, 2, FileMode::Window, &rows(&[(1, "a2"), (5, "e")])).await);
    let at = Micros(AT.0 + 1_000_000);
    let mut live =
        upkeep(&store, ("people", at), &people(), &files, Extent::of_compaction(2)).await.unwrap().unwrap().live;
    assert_eq!(live.iter().filter(|file| file.file.mode == FileMode::Index).count(), 1);
    live.retain(|file| file.file.mode == FileMode::Index);
    live.extend(write(&store, 2, FileMode::Refused, &refused(&[3])).await);
    State::new(&store, people(), live).unwrap().find(&digests(&[1, 2, 3])).await.unwrap()
}

#[test]
fn a_part_of_the_index_whose_files_are_not_live_is_passed_over() {
    let found = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        fault::with_planted("small_index", || runtime.block_on(found_without_a_covered_file()))
    };
    assert_eq!(found().len(), 1, "the refused row alone");
    assert_ne!(fault::with_planted("index_unchecked", found).len(), 1, "the check is what passes it over");
}

const MANY: i32 = 60_000;

fn many() -> Vec<(i32, String)> {
    (0..MANY).map(|n| (n, format!("the name of person {}", n.wrapping_mul(7_919)))).collect()
}

/// A base of many rows with its index.
async fn indexed(store: &Store) -> Vec<LiveFile> {
    let all = many();
    let all: Vec<(i32, &str)> = all.iter().map(|(id, name)| (*id, name.as_str())).collect();
    let files = write(store, 1, FileMode::Full, &rows(&all)).await;
    let done =
        upkeep(store, ("people", Micros(AT.0 + 5)), &people(), &files, Extent::of_run(1)).await.unwrap().unwrap();
    assert_eq!((done.merged, done.indexed), (0, MANY as u64));
    done.live
}

fn digests(ids: &[i32]) -> HashSet<KeyDigest> {
    Digests::new(&people()).unwrap().keys_of_key_batch(&keys(ids)).unwrap().into_iter().collect()
}

#[tokio::test]
async fn a_few_keys_of_many_are_found_without_the_data_and_selected_by_a_few_pages() {
    let counting = Counting::new();
    let store = counting.store();
    let files = indexed(&store).await;
    let (data, index): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.file.mode != FileMode::Index);
    let (data, index) = (&data[0].file, &index[0].file);
    let state = State::new(&store, people(), files.clone()).unwrap();
    let near = [MANY - 1, MANY - 2, MANY - 300, MANY + 5];
    counting.asked();
    assert_eq!(state.find(&digests(&near)).await.unwrap().len(), 3);
    let asked = counting.asked();
    assert!(asked.keys.iter().all(|key| *key == index.key), "{asked:?}");
    assert!(asked.bytes * 4 < index.bytes && asked.gets <= 3, "{asked:?} of {}", index.bytes);
    assert_eq!(state.find(&digests(&[MANY + 5, -7])).await.unwrap().len(), 0);
    assert_eq!(counting.asked().gets, 0, "what is beyond all keys is not looked for");

    let names = expected(&[(3, "the name of person 23757"), (MANY - 1, "the name of person 475132081")]);
    assert_eq!(collect(state.select(Arc::new(digests(&[3, MANY - 1])), None)).await, names);
    let asked = counting.asked();
    let of_data: u64 = asked.keys.iter().filter(|key| **key == data.key).count() as u64;
    assert!(of_data > 0 && asked.bytes < data.bytes + index.bytes / 2, "{asked:?} of {}", data.bytes);

    // Keys that are in no page, but between the first and the last of the part.
    let even: Vec<(i32, String)> = many().into_iter().map(|(id, name)| (2 * id, name)).collect();
    let even: Vec<(i32, &str)> = even.iter().map(|(id, name)| (*id, name.as_str())).collect();
    let sparse = write(&store, 9, FileMode::Full, &rows(&even)).await;
    let at = Micros(AT.0 + 1_000);
    let sparse = upkeep(&store, ("people", at), &people(), &sparse, Extent::of_run(9)).await.unwrap().unwrap().live;
    let sparse = State::new(&store, people(), sparse).unwrap();
    for odd in (4_095..2 * MANY).step_by(4_096) {
        assert_eq!(sparse.find(&digests(&[odd])).await.unwrap().len(), 0, "{odd}");
    }
    assert_eq!(sparse.find(&digests(&[4_096, 4_095, 4_097])).await.unwrap().len(), 1);
    counting.asked();

    let all = index_of(&state).await;
    assert_eq!((all.len(), counting.asked().keys.contains(&data.key)), (MANY as usize, false));
    let plain = State::new(&store, people(), state::entries(&files).cloned().collect()).unwrap();
    assert_eq!(all, index_of(&plain).await);
}

#[tokio::test]
async fn an_altered_byte_in_what_is_read_of_index_or_data_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder_store(&folder);
    let files = indexed(&store).await;
    let state = State::new(&store, people(), files.clone()).unwrap();
    let wanted = Arc::new(digests(&(0..MANY).step_by(997).collect::<Vec<_>>()));
    let count = wanted.len();
    let read = async || {
        let rows: Vec<RecordBatch> = state.select(Arc::clone(&wanted), None).try_collect().await?;
        Ok::<usize, starlift_core::Error>(rows.iter().map(|batch| batch.num_rows()).sum())
    };
    assert_eq!(read().await.unwrap(), count);
    for live in &files {
        let path = folder.path().join("lake").join(&live.file.key);
        let whole = std::fs::read(&path).unwrap();
        let tail = live.file.tail.as_ref().unwrap();
        let body = whole.len() - tail.bytes as usize;
        // Of every block one byte, and several of the tail.
        let places = (0..body).step_by(64 << 10).map(|at| at + (body - at).min(40) / 2);
        for at in places.chain((body..whole.len()).step_by(1 + tail.bytes as usize / 7)) {
            let mut other = whole.clone();
            other[at] ^= 0x10;
            std::fs::write(&path, &other).unwrap();
            let error = read().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Data, "byte {at} of {}", live.file.key);
            assert!(error.message().contains("is altered"), "byte {at}: {error:?}");
        }
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(read().await.unwrap_err().message().contains("is truncated"));
        std::fs::remove_file(&path).unwrap();
        assert!(read().await.unwrap_err().message().contains("is missing"));
        std::fs::write(&path, &whole).unwrap();
    }
    assert_eq!(read().await.unwrap(), count);
}

#[tokio::test]
async fn merged_files_are_few_sorted_and_without_what_nobody_needs() {
    let store = Store::in_memory();
    let mut files = write(&store, 1, FileMode::Full, &rows(&[(5, "e"), (1, "a"), (3, "c")])).await;
    for seq in 2..=9 {
        files.extend(write(&store, seq, FileMode::Window, &rows(&[(seq as i32, "x"), (1, "one")])).await);
    }
    files.extend(write(&store, 9, FileMode::Deleted, &keys(&[5])).await);
    let at = Micros(AT.0 + 1_000_000);
    let plain = State::new(&store, people(), files.clone()).unwrap();
    let done = upkeep(&store, ("people", at), &people(), &files, Extent::of_run(9)).await.unwrap().unwrap();
    assert_eq!((done.merged, done.into, done.live.len()), (10, 1, 1));
    let live = &done.live[0];
    assert_eq!((live.seq, live.from, live.file.mode), (9, Some(1), FileMode::Full));
    assert!(live.file.key.starts_with("_merged/people/"), "{}", live.file.key);
    let kept = State::new(&store, people(), done.live.clone()).unwrap();
    assert_eq!(collect(kept.scan(None)).await, collect(plain.scan(None)).await);
    let stored: Vec<RecordBatch> = kept.scan(Some(vec![1])).try_collect().await.unwrap();
    let stored: Vec<i32> = stored[0].column(0).as_primitive::<Int32Type>().values().to_vec();
    assert!(stored.is_sorted() && stored.len() == 8, "{stored:?}");
    let again = upkeep(&store, ("people", at.next()), &people(), &done.live, Extent::of_compaction(9)).await.unwrap();
    assert_eq!(again.map(|done: Done| done.merged), None, "again is nothing");
}

fn current_thread(paused: bool) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(paused).build().unwrap()
}

#[test]
fn a_step_that_takes_for_ever_is_left_when_its_time_is_over_and_the_steps_before_it_stay() {
    let steps = || {
        // The clock moves on where nothing else does.
        current_thread(true).block_on(async {
            let store = Store::in_memory();
            let mut files = write(&store, 1, FileMode::Full, &rows(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")])).await;
            files.extend(write(&store, 2, FileMode::Window, &rows(&[(1, "a2")])).await);
            files.extend(write(&store, 3, FileMode::Deleted, &keys(&[2])).await);
            let at = Micros(AT.0 + 1_000_000);
            let until = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
            let extent = Extent::of_run(3);
            let (done, left) = in_time(&store, ("people", at), &people(), &files, extent, Some(until)).await;
            assert!(tokio::time::Instant::now() >= until);
            let (done, left) = (done.unwrap(), left.unwrap());
            assert_eq!((done.merged, done.into, done.indexed, done.live.len()), (3, 1, 0, 1));
            assert!(left.kind() == ErrorKind::Unavailable && left.message().contains("time"), "{left:?}");
            let state = State::new(&store, people(), done.live).unwrap();
            assert_eq!(collect(state.scan(None)).await, expected(&[(1, "a2"), (3, "c"), (4, "d")]));
        });
    };
    fault::with_planted("small_index", || fault::with_planted("endless_index", steps));
}

#[tokio::test]
async fn a_step_that_fails_gives_back_its_room_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder_store(&folder);
    let all = many();
    let all: Vec<(i32, &str)> = all.iter().take(3_000).map(|(id, name)| (*id, name.as_str())).collect();
    let mut files = write(&store, 1, FileMode::Full, &rows(&all)).await;
    for seq in 2..=5 {
        files.extend(write(&store, seq, FileMode::Window, &rows(&[(seq as i32 + 5_000, "new")])).await);
        files.extend(write(&store, seq, FileMode::Deleted, &keys(&[seq as i32])).await);
    }
    let before = store.list("", 1_000).await.unwrap();
    let at = Micros(AT.0 + 1_000_000);
    // The first file of what is merged can be written, the second, of tombstones, cannot.
    let taken = starlift_core::key::merged("people", at, 2);
    store.create(&taken, "another program's".into()).await.unwrap();
    let (done, left) = in_time(&store, ("people", at), &people(), &files, Extent::of_run(5), None).await;
    assert_eq!((done, left.map(|error| error.kind())), (None, Some(ErrorKind::Unavailable)));
    let mut after = store.list("", 1_000).await.unwrap();
    assert!(after.contains(&taken), "what it did not write stays");
    after.retain(|key| *key != taken);
    assert_eq!(after, before);
    // At another time all of it is done: the windows are merged, and the base is listed.
    let (done, left) = in_time(&store, ("people", at.next()), &people(), &files, Extent::of_run(5), None).await;
    assert_eq!(done.map(|done| (done.merged, done.into, done.indexed)), Some((8, 2, 3_000)));
    assert!(left.is_none(), "{left:?}");
}

#[test]
fn units_of_the_key_index_that_are_asked_side_by_side_answer_as_the_files_themselves_do() {
    let runtime = current_thread(false);
    fault::with_planted("small_index", || {
        runtime.block_on(async {
            // Six units of their own, each with a part: keys that are in all of them, in some, and in one.
            let (store, mut live) = (Store::in_memory(), Vec::new());
            let mut plain = Vec::new();
            for seq in 1..=6u64 {
                let number = seq as i32;
                let mode = if seq == 1 { FileMode::Full } else { FileMode::Window };
                let name = format!("as of {seq}");
                let some = [(0, name.as_str()), (number, &name), (number + 1, &name), (number * 10, &name)];
                let mut files = write(&store, seq, mode, &rows(&some)).await;
                files.extend(write(&store, seq, FileMode::Deleted, &keys(&[number * 10 - 10])).await);
                files.extend(write(&store, seq, FileMode::Refused, &refused(&[100 - number])).await);
                plain.extend(files.clone());
                let at = Micros(AT.0 + 1_000_000 + number as i64);
                // Alone, it is listed and not merged.
                let unit = starlift_core::index::Upkeep::Index(starlift_core::index::units(&files).remove(0));
                assert_eq!(starlift_core::index::due(&files, Extent::of_run(seq)), [unit]);
                live.extend(
                    upkeep(&store, ("people", at), &people(), &files, Extent::of_run(seq)).await.unwrap().unwrap().live,
                );
            }
            let units = starlift_core::index::units(&live);
            assert!(units.len() == 6 && units.iter().all(|unit| unit.parts.len() == 1), "{units:?}");
            let some: Vec<i32> = (0..=100).collect();
            let (kept, plain) =
                (State::new(&store, people(), live).unwrap(), State::new(&store, people(), plain).unwrap());
            assert_eq!(answers(&kept, &some).await, answers(&plain, &some).await);
            assert_eq!(answers(&kept, &[0, 3, 97, 500]).await, answers(&plain, &[0, 3, 97, 500]).await);
        });
    });
}
