//! Random histories of upserts, deletes and new bases: whatever happened, and however little is held in memory, a scan equals
//! a map that was kept by hand.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use proptest::prelude::*;
use starlift_core::manifest::FileMode;
use starlift_lake::{Difference, Gone, State, Store, WriterOptions, tombstones};

use crate::fixture::{collect, index_of, people, rows, spilling_store, write, write_with};

/// One run: the source as it is afterwards, and whether the whole of it is written anew.
#[derive(Debug, Clone)]
struct Run {
    source: BTreeMap<i32, String>,
    base: bool,
}

fn runs() -> impl Strategy<Value = Vec<Run>> {
    let source = prop::collection::btree_map(0..12i32, "[ab]{0,2}", 0..9);
    let run = (source, prop::bool::weighted(0.15)).prop_map(|(source, base)| Run { source, base });
    prop::collection::vec(run, 1..9)
}

fn batch(source: &BTreeMap<i32, String>) -> arrow::array::RecordBatch {
    rows(&source.iter().map(|(id, name)| (*id, name.as_str())).collect::<Vec<_>>())
}

async fn replay(store: Store, runs: Vec<Run>) {
    let mut files = Vec::new();
    let mut before: BTreeMap<i32, String> = BTreeMap::new();
    for (seq, run) in (1u64..).zip(runs) {
        let now = batch(&run.source);
        if run.base || seq == 1 {
            let small = WriterOptions { rows_per_part: 1, ..WriterOptions::default() };
            files = write_with(&store, seq, FileMode::Full, &now, small).await;
        } else {
            let state = State::new(&store, people(), files.clone()).unwrap();
            let mut difference = Difference::new("people", people(), state.index().await.unwrap()).unwrap();
            let changed = difference.push(&now).unwrap();
            let written = run.source.iter().filter(|(id, name)| before.get(id) != Some(name)).count();
            assert_eq!(changed.num_rows(), written, "seq {seq}");
            let (unseen, new) = (difference.unseen() as usize, difference.new_keys() as usize);
            let gone = Gone::of(difference.into_keys()).unwrap();
            let gone: Vec<_> = tombstones(&state, gone).try_collect().await.unwrap();
            let deleted: usize = gone.iter().map(|b| b.num_rows()).sum();
            assert_eq!(deleted, before.keys().filter(|id| !run.source.contains_key(id)).count(), "seq {seq}");
            assert_eq!(unseen, deleted, "seq {seq}");
            assert_eq!(new, run.source.keys().filter(|id| !before.contains_key(id)).count(), "seq {seq}");
            files.extend(write(&store, seq, FileMode::Window, &changed).await);
            let gone = arrow::compute::concat_batches(&people().key_to_arrow(), &gone).unwrap();
            files.extend(write(&store, seq, FileMode::Deleted, &gone).await);
        }
        before = run.source;
        let state = State::new(&store, people(), files.clone()).unwrap();
        assert_eq!(collect(state.scan(None)).await, before, "seq {seq}");
        assert_eq!(state.rows().await.unwrap(), before.len() as u64);
        let index = index_of(&state).await;
        let some: std::collections::HashSet<_> =
            index.keys().copied().collect::<BTreeSet<_>>().into_iter().step_by(2).collect();
        let found = state.find(&some).await.unwrap();
        assert_eq!(found.len(), some.len());
        assert!(found.iter().all(|(key, row)| index.get(key) == Some(row)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_scan_equals_the_source_after_any_history(runs in runs()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(replay(Store::in_memory(), runs));
    }

    #[test]
    fn a_scan_equals_the_source_after_any_history_where_next_to_nothing_fits_in_memory(runs in runs(), held in 1usize..4) {
        let (_folder, store) = spilling_store(held);
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(replay(store, runs));
    }
}
