//! Random histories in which rows become refused and good again: what stands aside is what a set kept by hand says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use futures::TryStreamExt;
use proptest::prelude::*;
use starlift_core::manifest::{FileMode, LiveFile};
use starlift_lake::{Difference, Gone, Quarantine, State, Store, tombstones};

use crate::fixture::{collect, index_of, people, rows, spilling_store, write};

/// The source of one run; a name of two letters is refused for a reason that the name gives.
type Source = BTreeMap<i32, String>;

fn good(source: &Source) -> BTreeMap<i32, String> {
    source.iter().filter(|(_, name)| name.len() < 2).map(|(id, name)| (*id, name.clone())).collect()
}

fn refused(source: &Source) -> BTreeMap<i32, String> {
    source.iter().filter(|(_, name)| name.len() >= 2).map(|(id, name)| (*id, name.clone())).collect()
}

fn good_batch(source: &Source) -> RecordBatch {
    rows(&good(source).iter().map(|(id, name)| (*id, name.as_str())).collect::<Vec<_>>())
}

fn refused_batch(source: &Source) -> RecordBatch {
    let refused = refused(source);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(refused.keys().copied().collect::<Int32Array>()),
        Arc::new(refused.keys().map(|_| Some("name")).collect::<StringArray>()),
        Arc::new(refused.values().map(|name| Some(format!("it is {name}"))).collect::<StringArray>()),
        Arc::new(StringArray::new_null(refused.len())),
    ];
    RecordBatch::try_new(people().refused_to_arrow(), columns).unwrap()
}

/// What stands aside in a state: key to reason.
async fn aside(state: &State) -> BTreeMap<i32, String> {
    let batches: Vec<RecordBatch> = state.refused().try_collect().await.unwrap();
    let of = |batch: &RecordBatch| {
        let (keys, reasons) = (batch.column(0).as_primitive::<Int32Type>(), batch.column(2).as_string::<i32>());
        (0..batch.num_rows()).map(|row| (keys.value(row), reasons.value(row).to_string())).collect::<Vec<_>>()
    };
    let all: Vec<_> = batches.iter().flat_map(of).collect();
    assert_eq!(all.iter().map(|(key, _)| key).collect::<BTreeSet<_>>().len(), all.len(), "each key once");
    all.into_iter().collect()
}

async fn run(store: &Store, seq: u64, base: bool, source: &Source, before: &Source, files: &mut Vec<LiveFile>) {
    let state = State::new(store, people(), files.clone()).unwrap();
    let standing = Quarantine::of(&state).await.unwrap();
    assert_eq!(standing.rows() as usize, refused(before).len());
    let mut quarantine = if base { standing.replacing(&people()).unwrap() } else { standing };
    let (good, refused_now) = (good_batch(source), refused_batch(source));
    let new = refused(source).keys().filter(|id| !refused(before).contains_key(id)).count();
    let differing = refused(source).iter().filter(|(id, name)| refused(before).get(id) != Some(name)).count();
    let written = quarantine.take(&refused_now).unwrap();
    if base {
        *files = write(store, seq, FileMode::Full, &good).await;
        files.extend(write(store, seq, FileMode::Refused, &written).await);
        assert_eq!(written.num_rows(), refused_now.num_rows(), "a base holds everything");
    } else {
        assert_eq!(written.num_rows(), differing, "what stood aside is written again for another reason alone");
        let mut difference = Difference::new("people", people(), state.index().await.unwrap()).unwrap();
        let changed = difference.push(&good).unwrap();
        quarantine.passed(&good).unwrap();
        difference.refuse(&refused_now).unwrap();
        let mut gone = Gone::of(difference.into_keys()).unwrap();
        quarantine.gone(&mut gone).unwrap();
        assert_eq!(gone.len() as usize, before.keys().filter(|id| !source.contains_key(id)).count());
        let gone: Vec<_> = tombstones(&state, gone).try_collect().await.unwrap();
        let gone = arrow::compute::concat_batches(&people().key_to_arrow(), &gone).unwrap();
        files.extend(write(store, seq, FileMode::Window, &changed).await);
        files.extend(write(store, seq, FileMode::Refused, &written).await);
        files.extend(write(store, seq, FileMode::Deleted, &gone).await);
    }
    assert_eq!(quarantine.new_rows().rows() as usize, new, "seq {seq}");
    assert_eq!(quarantine.rows() as usize, refused(source).len(), "seq {seq}");
    assert_eq!(quarantine.has_changed(), refused(source) != refused(before), "seq {seq}");
}

async fn replay(store: Store, runs: Vec<(Source, bool)>) {
    let (mut files, mut before) = (Vec::new(), Source::new());
    for (seq, (source, base)) in (1u64..).zip(runs) {
        run(&store, seq, base || seq == 1, &source, &before, &mut files).await;
        let state = State::new(&store, people(), files.clone()).unwrap();
        assert_eq!(collect(state.scan(None)).await, good(&source), "seq {seq}");
        let expected: BTreeMap<i32, String> =
            refused(&source).into_iter().map(|(id, name)| (id, format!("it is {name}"))).collect();
        assert_eq!(aside(&state).await, expected, "seq {seq}");
        let index = index_of(&state).await;
        assert_eq!(index.len(), source.len(), "refused rows count as keys");
        let some = index.keys().copied().collect::<BTreeSet<_>>().into_iter().step_by(2).collect();
        let found = state.find(&some).await.unwrap();
        assert!(found.len() == some.len() && found.iter().all(|(key, row)| index.get(key) == Some(row)));
        let keys: Vec<RecordBatch> = state.keys().try_collect().await.unwrap();
        assert_eq!(keys.iter().map(RecordBatch::num_rows).sum::<usize>(), source.len());
        before = source;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_stands_aside_is_what_was_refused_last(
        runs in prop::collection::vec((prop::collection::btree_map(0..8i32, "[ab]{0,2}", 0..7), prop::bool::weighted(0.15)), 1..9),
        held in 1usize..9,
    ) {
        // Half of the histories put keys aside.
        let (_folder, store) = spilling_store(if held > 4 { usize::MAX } else { held });
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(replay(store, runs));
    }
}
