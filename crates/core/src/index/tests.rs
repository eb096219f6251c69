use super::*;
use crate::manifest::DataFile;

fn file(seq: u64, mode: FileMode, rows: u64) -> LiveFile {
    let file = DataFile { key: format!("t/{seq}{mode:?}"), rows, bytes: rows, sha256: String::new(), mode, tail: None };
    LiveFile::new(seq, file)
}

fn part(from: u64, upto: u64, of: &[LiveFile]) -> LiveFile {
    let covers = Covers { form: FORM, files: covered(of), first: String::new(), last: String::new() };
    LiveFile { from: Some(from), covers: Some(covers), ..file(upto, FileMode::Index, 1) }
}

fn spans(live: &[LiveFile]) -> Vec<(u64, u64, usize, bool)> {
    units(live).iter().map(|u| (u.from, u.upto, u.files.len(), !u.parts.is_empty())).collect()
}

#[test]
fn a_part_is_used_only_where_it_covers_exactly_the_live_files_of_its_seqs() {
    let (one, two, three) = (file(1, FileMode::Full, 9), file(2, FileMode::Window, 1), file(3, FileMode::Window, 1));
    let newest_first = [two.clone(), one.clone()];
    let index = part(1, 2, &newest_first);
    let live = [one.clone(), index.clone(), three.clone(), two.clone()];
    assert_eq!(spans(&live), [(3, 3, 1, false), (1, 2, 2, true)]);
    let other = [one.clone(), index.clone(), three];
    assert_eq!(spans(&other), [(3, 3, 1, false), (1, 1, 1, false)], "a file of its seqs is not there");
    let mut strange = index;
    strange.covers.as_mut().unwrap().form = FORM + 1;
    assert_eq!(spans(&[one, strange, two]), [(2, 2, 1, false), (1, 1, 1, false)], "another form");
}

#[test]
fn several_units_of_one_size_are_merged_and_larger_ones_when_there_are_enough() {
    let of = |rows: &[u64]| -> Vec<LiveFile> {
        rows.iter().enumerate().map(|(n, rows)| file(n as u64 + 1, FileMode::Window, *rows)).collect()
    };
    let merges = |rows: &[u64]| match due(&of(rows), Extent::of_run(u64::MAX)).first() {
        Some(Upkeep::Merge(unit)) => Some((unit.from, unit.upto)),
        _ => None,
    };
    assert_eq!(merges(&[1_000_000, 9, 9, 9]), None, "a large one for three small ones");
    assert_eq!(merges(&[20_000, 9, 9, 9]), None);
    assert_eq!(merges(&[1_000_000, 9, 9, 9, 9]), Some((2, 5)));
    assert_eq!(merges(&[1_000_000, 2_000, 9, 9, 9, 9]), Some((3, 6)));
    assert_eq!(merges(&[2_000, 2_000, 2_000, 9, 9, 9, 9]), Some((1, 7)), "with the merged ones they are four");
    assert_eq!(merges(&[RUN_ROWS, 9, 9, 9, 9]), Some((2, 5)), "what is too large stays");
    let third = RUN_ROWS / 3;
    assert_eq!(merges(&[third, third, third, third]), None, "together they are too large for a run");
}

#[test]
fn what_the_next_stage_may_not_have_seen_stays_and_large_files_are_listed() {
    let live: Vec<LiveFile> = (1..=6).map(|seq| file(seq, FileMode::Window, 9)).collect();
    assert!(matches!(&due(&live, Extent::of_run(5))[..], [Upkeep::Merge(unit)] if (unit.from, unit.upto) == (1, 5)));
    assert_eq!(due(&live, Extent::of_run(3)), []);
    let large = [file(1, FileMode::Full, 1_000_000), file(2, FileMode::Window, 9)];
    assert!(matches!(&due(&large, Extent::of_run(9))[..], [Upkeep::Index(unit)] if unit.upto == 1));
    let listed = [large.to_vec(), vec![part(1, 1, &large[..1])]].concat();
    assert_eq!(due(&listed, Extent::of_run(9)), []);
}

#[test]
fn a_run_leaves_to_a_compaction_what_would_keep_it_from_its_commit() {
    let live = [file(1, FileMode::Full, RUN_LISTED_BYTES + 1), file(2, FileMode::Window, 9)];
    assert_eq!(due(&live, Extent::of_run(2)), []);
    assert!(matches!(&due(&live, Extent::of_compaction(2))[..], [Upkeep::Index(unit)] if unit.upto == 1));
    assert!(waits_for_compaction(&live, 2) && !waits_for_compaction(&live, 0), "as far as it is settled");
    let listed = [live.to_vec(), vec![part(1, 1, &live[..1])]].concat();
    assert!(!waits_for_compaction(&listed, 2));
    assert!(!waits_for_compaction(&live[1..], 2), "a small one needs none");
}

#[test]
fn a_compaction_merges_any_small_files_and_large_ones_by_their_size() {
    let merges = |rows: &[u64]| {
        let files: Vec<LiveFile> =
            rows.iter().enumerate().map(|(n, rows)| file(n as u64 + 1, FileMode::Window, *rows)).collect();
        match due(&files, Extent::of_compaction(u64::MAX)).first() {
            Some(Upkeep::Merge(unit)) => Some((unit.from, unit.upto)),
            _ => None,
        }
    };
    assert_eq!(merges(&[20_000, 9]), Some((1, 2)));
    assert_eq!(merges(&[500_000_000, 9, 9]), Some((2, 3)), "not a large base for two rows");
    let large = 3 * RUN_ROWS;
    assert_eq!(merges(&[large, large, large]), None);
    assert_eq!(merges(&[large, large, large, large]), Some((1, 4)), "however large they are");
    assert_eq!(merges(&[large, large, 9, 9]), Some((3, 4)));
}

/// A table that gets so many rows in each run, as upkeep leaves it: what is merged holds all entries of its files.
fn units_after(runs: u64, rows: u64, compact_every: u64) -> (usize, usize) {
    let mut live = vec![file(1, FileMode::Full, 10_000_000)];
    let mut most_after = 0;
    for seq in 2..=runs {
        live.push(file(seq, FileMode::Window, rows));
        let compacts = seq.is_multiple_of(compact_every);
        let extent = if compacts { Extent::of_compaction(seq) } else { Extent::of_run(seq - 1) };
        for what in due(&live, extent) {
            let Upkeep::Merge(unit) = what else { continue };
            let sum = unit.files.iter().map(|file| file.file.rows).sum();
            let file = LiveFile { from: Some(unit.from), ..file(unit.upto, FileMode::Window, sum) };
            live = replaced(&live, &unit, vec![file]);
        }
        if compacts {
            most_after = most_after.max(units(&live).len());
        }
    }
    (units(&live).len(), most_after)
}

#[test]
fn units_grow_with_the_logarithm_of_what_was_written_and_compactions_bound_what_runs_leave() {
    // A week, and ten weeks, of 1,000 changes every five minutes.
    let (week, weeks) = (units_after(2_016, 1_000, u64::MAX).0, units_after(20_160, 1_000, u64::MAX).0);
    println!("units without a compaction: {week} after a week, {weeks} after ten");
    assert!(week <= 16 && weeks <= 16 + 20_160_000 / (RUN_ROWS as usize / 4), "{week}, {weeks}");
    let (_, after) = units_after(20_160, 1_000, 288);
    println!("units after a daily compaction: at most {after}");
    assert!(after <= 12, "{after}");
}

#[test]
fn what_replaces_a_unit_takes_the_place_of_its_files_and_parts() {
    let live: Vec<LiveFile> = (1..=4).map(|seq| file(seq, FileMode::Window, 9)).collect();
    let unit = Unit { from: 2, upto: 3, files: live[1..3].to_vec(), parts: vec![] };
    let merged = LiveFile { from: Some(2), ..file(3, FileMode::Window, 15) };
    let live = replaced(&[live, vec![part(2, 2, &[])]].concat(), &unit, vec![merged.clone()]);
    let seqs: Vec<u64> = live.iter().map(|file| file.seq).collect();
    assert_eq!((seqs, &live[1]), (vec![1, 3, 4], &merged));
}

#[test]
fn a_step_that_cannot_end_in_its_time_is_known_early_and_not_at_once() {
    let of = |done, spent| is_hopeless((done, 1_000), Duration::from_secs(spent), Duration::from_secs(60));
    assert!(!of(0, 5), "too early to tell");
    assert!(of(0, 6) && of(99, 6) && of(500, 31));
    assert!(!of(100, 6) && !of(500, 30) && !of(1_000, 60));
    assert!(!is_hopeless((u64::MAX, u64::MAX), Duration::MAX, Duration::MAX));
}
