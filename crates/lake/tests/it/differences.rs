use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use starlift_core::{ErrorKind, TableSchema};
use starlift_lake::{Difference, Digests, Gone, Keys, Mark, Spill};

use crate::fixture::{keys, people, rows};

fn index(batch: &RecordBatch) -> Keys {
    index_in(&Spill::never(), batch)
}

fn index_in(spill: &Spill, batch: &RecordBatch) -> Keys {
    let digests = Digests::new(&people()).unwrap();
    Keys::before(spill, digests.keys(batch).unwrap().into_iter().zip(digests.rows(batch).unwrap())).unwrap()
}

fn nothing() -> Keys {
    Keys::empty(&Spill::never())
}

fn ids(batch: &RecordBatch) -> Vec<i32> {
    batch.column(1).as_primitive::<Int32Type>().values().to_vec()
}

#[test]
fn only_rows_that_are_new_or_differ_are_written() {
    let before = index(&rows(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")]));
    let mut difference = Difference::new("people", people(), before).unwrap();
    let changed = difference.push(&rows(&[(1, "a"), (2, "B"), (5, "e")])).unwrap();
    assert_eq!(changed, rows(&[(2, "B"), (5, "e")]));
    assert_eq!(difference.push(&rows(&[(4, "d")])).unwrap().num_rows(), 0);
    assert_eq!(difference.push(&rows(&[])).unwrap().num_rows(), 0);
    assert_eq!((difference.rows_seen(), difference.rows_changed()), (4, 2));
    let digests = Digests::new(&people()).unwrap();
    let digest = |id: i32| digests.keys_of_key_batch(&keys(&[id])).unwrap()[0];
    assert_eq!((difference.new_keys(), difference.unseen()), (1, 1));
    let mut keys = difference.into_keys();
    let mut new = Vec::new();
    keys.each(|key, _, mark| new.extend((mark == Mark::New).then_some(key))).unwrap();
    assert_eq!(new, [digest(5)]);
    assert!(keys.is_new(&digest(5)).unwrap() && !keys.is_new(&digest(1)).unwrap());
    let mut gone = Gone::of(keys).unwrap();
    assert!(gone.contains(&digest(3)).unwrap() && !gone.contains(&digest(1)).unwrap());
    assert_eq!(gone.len(), 1);
}

#[test]
fn a_difference_that_does_not_fit_in_memory_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let spill = Spill::into(folder.path()).with_keys_held(50);
    let name = |id: i32| if id % 3 == 0 { "three" } else { "other" };
    let batch = |ids: &[i32], differs: &dyn Fn(i32) -> bool| {
        rows(&ids.iter().map(|id| (*id, if differs(*id) { "differs" } else { name(*id) })).collect::<Vec<_>>())
    };
    let mixed = |from: i32, to: i32| (from..to).map(|n| from + (n - from) * 7 % (to - from)).collect::<Vec<_>>();
    let before: Vec<i32> = (0..3_000).collect();
    let (mut small, mut large) = [&spill, &Spill::never()]
        .map(|spill| Difference::new("people", people(), index_in(spill, &batch(&before, &|_| false))).unwrap())
        .into();
    for (from, to) in [(2_000, 2_900), (0, 100), (2_950, 5_000), (100, 1_000)] {
        let came = batch(&mixed(from, to), &|id| id % 11 == 0);
        let changed = large.push(&came).unwrap();
        assert_eq!(small.push(&came).unwrap(), changed);
        assert!(changed.num_rows() > 0);
    }
    assert_eq!((small.rows_seen(), small.rows_changed()), (large.rows_seen(), large.rows_changed()));
    assert_eq!((small.unseen(), small.new_keys()), (1_050, 2_000));
    assert_eq!((large.unseen(), large.new_keys()), (1_050, 2_000));
    // The first of the batch is named, in whatever order they are looked for.
    for difference in [&mut small, &mut large] {
        let error = difference.push(&batch(&[9_999, 4_321, 77], &|_| false)).unwrap_err();
        assert!(error.detail().unwrap().contains("id=4321 comes again; 2 such rows"), "{error:?}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn null_and_the_empty_text_differ() {
    let before = index(&rows(&[(1, "")]));
    let mut difference = Difference::new("people", people(), before).unwrap();
    let names: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
    let ids_: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    let null = RecordBatch::try_new(people().to_arrow(), vec![names, ids_]).unwrap();
    assert_eq!(ids(&difference.push(&null).unwrap()), [1]);
}

#[test]
fn a_key_that_comes_twice_is_named_with_how_often() {
    for (first, second) in [
        (vec![(7, "x"), (7, "x")], vec![]),
        (vec![(7, "x")], vec![(8, "y"), (7, "z")]),
        (vec![(1, "a")], vec![(1, "a")]),
    ] {
        let mut difference = Difference::new("dim_staff", people(), index(&rows(&[(1, "a")]))).unwrap();
        let outcome = difference.push(&rows(&first)).and_then(|_| difference.push(&rows(&second)));
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(error.message().contains("`dim_staff`"), "{error:?}");
        assert!(error.detail().unwrap().contains(&format!("id={} comes again; 1 such rows", first[0].0)), "{error:?}");
        assert!(error.hint().is_some());
        assert!(!error.render().contains('x') || !error.render().contains("name="), "no value but the key: {error:?}");
    }
}

fn two_key_columns() -> TableSchema {
    let mut schema = people();
    schema.key = vec!["id".into(), "name".into()];
    schema
}

#[test]
fn a_key_of_two_columns_is_compared_and_named_as_one() {
    let mut difference = Difference::new("people", two_key_columns(), nothing()).unwrap();
    assert_eq!(difference.push(&rows(&[(1, "a"), (1, "b"), (2, "a")])).unwrap().num_rows(), 3);
    let error = difference.push(&rows(&[(2, "b"), (1, "b")])).unwrap_err();
    assert!(error.detail().unwrap().starts_with("id=1, name=b comes again"), "{error:?}");
}

#[test]
fn a_null_in_a_key_is_named_with_its_other_columns() {
    let mut difference = Difference::new("people", two_key_columns(), nothing()).unwrap();
    let names: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, None]));
    let ids_: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
    let batch = RecordBatch::try_new(people().to_arrow(), vec![names, ids_]).unwrap();
    let error = difference.push(&batch).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert_eq!(error.detail().unwrap(), "2 of 3 rows that came together, the first with id=2, name=null");
}

#[test]
fn a_long_key_is_shown_in_part() {
    let mut difference = Difference::new("people", two_key_columns(), nothing()).unwrap();
    let long = "ß".repeat(500);
    let error = difference.push(&rows(&[(1, &long), (1, &long)])).unwrap_err();
    let detail = error.detail().unwrap();
    assert!(detail.contains(&"ß".repeat(60)) && !detail.contains(&"ß".repeat(80)), "{detail}");
}

#[test]
fn a_table_without_a_key_has_no_difference() {
    let mut schema = people();
    schema.key.clear();
    assert_eq!(Difference::new("people", schema, nothing()).map(|_| ()).unwrap_err().kind(), ErrorKind::Internal);
}
