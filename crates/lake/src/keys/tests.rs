use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn key(number: u32) -> KeyDigest {
    let mut digest = [0; 16];
    digest[0] = 4;
    digest[1..5].copy_from_slice(&number.to_be_bytes());
    KeyDigest(digest)
}

/// Numbers that are far apart.
fn strewn(number: u32) -> u32 {
    number.wrapping_mul(2_654_435_761)
}

fn row(number: u32) -> RowDigest {
    let mut digest = [0; 16];
    digest[..4].copy_from_slice(&number.to_be_bytes());
    RowDigest(digest)
}

fn small(keys: usize) -> (tempfile::TempDir, Spill) {
    let folder = tempfile::tempdir().unwrap();
    let spill = Spill::into(folder.path()).with_keys_held(keys);
    (folder, spill)
}

/// The same as a map, to compare with.
type Plain = BTreeMap<u32, (RowDigest, Mark)>;

fn all(keys: &mut Keys) -> Vec<(KeyDigest, RowDigest, Mark)> {
    let mut found = Vec::new();
    keys.each(|key, row, mark| found.push((key, row, mark))).unwrap();
    found.sort_unstable_by_key(|(key, ..)| *key);
    found
}

fn equal(keys: &mut Keys, plain: &Plain) {
    let count = |mark: Mark| plain.values().filter(|(_, known)| *known == mark).count() as u64;
    assert_eq!(
        (keys.unseen(), keys.seen(), keys.new_keys()),
        (count(Mark::Unseen), count(Mark::Seen), count(Mark::New))
    );
    let expected: Vec<_> = plain.iter().map(|(number, (row, mark))| (key(*number), *row, *mark)).collect();
    assert_eq!(all(keys), expected);
}

/// Plays keys of a state and keys that come on both.
fn play(spill: &Spill, before: &[u32], come: &[u32]) {
    let mut plain = Plain::new();
    let mut keys = Keys::empty(spill);
    for number in before {
        if plain.insert(*number, (row(*number), Mark::Unseen)).is_none() {
            keys.add_before(key(*number), row(*number)).unwrap();
        }
    }
    keys.complete().unwrap();
    for number in come {
        let known = plain.get(number).copied();
        assert_eq!(keys.come(key(*number)).unwrap(), known, "{number}");
        match known {
            Some((row, Mark::Unseen)) => plain.insert(*number, (row, Mark::Seen)),
            Some(_) => None,
            None => plain.insert(*number, (RowDigest([0; 16]), Mark::New)),
        };
        assert_eq!(keys.find(&key(*number)).unwrap(), plain.get(number).copied());
    }
    for number in (0..100).chain(before.iter().copied()) {
        assert_eq!(keys.find(&key(number)).unwrap(), plain.get(&number).copied(), "{number}");
    }
    equal(&mut keys, &plain);
}

#[test]
fn keys_in_order_and_in_none_come_out_of_many_runs_as_they_went_in() {
    let (_folder, spill) = small(100);
    let in_order: Vec<u32> = (0..20_000).collect();
    let in_none: Vec<u32> = (0..20_000).map(|n| n * 7_919 % 30_011).collect();
    play(&spill, &in_order, &in_none);
    play(&spill, &in_none, &in_order);
    play(&spill, &[], &in_none);
    let apart: Vec<u32> = in_none.iter().copied().map(strewn).collect();
    play(&spill, &apart, &in_none);
    play(&spill, &in_order, &apart);
    play(&spill, &[], &apart);
}

#[test]
fn few_runs_are_kept_and_nothing_has_a_name() {
    let (folder, spill) = small(10);
    let mut keys = Keys::empty(&spill);
    for number in 0..10_000 {
        assert!(keys.insert(key(strewn(number))).unwrap());
    }
    assert!(!keys.insert(key(strewn(77))).unwrap());
    assert!((1..4 * RUNS_MERGED).contains(&keys.runs.len()), "{}", keys.runs.len());
    assert!(keys.held.len() <= 10 && keys.len() == 10_000);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Adds keys of a state, each of those `again` once more at the end, and says which one came twice.
fn doubled(spill: &Spill, before: &[u32], again: &[u32]) -> Option<KeyDigest> {
    let mut keys = Keys::empty(spill);
    before.iter().chain(again).for_each(|number| keys.add_before(key(*number), row(*number)).unwrap());
    keys.complete().unwrap();
    keys.doubled()
}

#[test]
fn a_key_that_is_added_twice_is_told_wherever_the_first_one_lies_by_then() {
    // In memory, in a run, in a run of runs, in the run of all.
    for (held, number) in [(1_000, 100), (10, 25), (10, 1_000), (1, 50), (7, 4_999)] {
        let (_folder, spill) = small(held);
        let before: Vec<u32> = (0..number).map(|n| n * 7_919 % 30_011).collect();
        assert_eq!(doubled(&spill, &before, &[]), None, "{held} {number}");
        for twice in [before[0], before[number as usize / 2], before[number as usize - 1]] {
            assert_eq!(doubled(&spill, &before, &[twice]), Some(key(twice)), "{held} {number}");
            let filled: Vec<u32> = std::iter::once(twice).chain(40_000..40_000 + number).collect();
            assert_eq!(doubled(&spill, &before, &filled), Some(key(twice)), "{held} {number}");
        }
    }
    assert_eq!(doubled(&Spill::never(), &[1, 2, 3], &[2]), Some(key(2)));
}

#[test]
fn memory_is_full_by_keys_that_are_far_apart_and_not_by_a_sequence() {
    let (_folder, spill) = small(10);
    let mut keys = Keys::empty(&spill);
    (0..5_000).for_each(|number| assert!(keys.insert(key(number)).unwrap()));
    assert!(!keys.is_full());
    let mut apart = (0..1_000).map(strewn).filter(|number| *number > 5_000);
    assert!(apart.any(|number| keys.insert(key(number)).unwrap() && keys.is_full()));
    assert!(!keys.is_aside());
}

#[test]
fn without_a_folder_nothing_is_put_aside() {
    let mut keys = Keys::empty(&Spill::never());
    for number in 0..200_000 {
        keys.insert(key(strewn(number))).unwrap();
    }
    assert!(!keys.is_aside() && keys.held.len() > 190_000 && keys.len() == 200_000);
}

#[test]
fn a_folder_that_is_gone_is_told() {
    let (folder, spill) = small(2);
    drop(folder);
    let mut keys = Keys::empty(&spill);
    let error = (0..99).try_for_each(|number| keys.insert(key(strewn(number))).map(|_| ())).unwrap_err();
    assert_eq!(error.kind(), starlift_core::ErrorKind::Config);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_put_aside_is_what_a_map_would_hold(
        held in 1usize..40,
        before in prop::collection::vec(0u32..400, 0..300),
        come in prop::collection::vec(0u32..600, 0..400),
    ) {
        let (_folder, spill) = small(held);
        play(&spill, &before, &come);
        let apart = |numbers: &[u32]| numbers.iter().copied().map(strewn).collect::<Vec<_>>();
        play(&spill, &apart(&before), &apart(&come));
    }
}
