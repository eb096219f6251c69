//! The decisions one by one, and then together: random histories of a table whose rows lie in pages, read in chunks while
//! transactions, also long ones and such with savepoints, insert, update, move and delete rows, and vacuum gives their room
//! to others.

mod history;

use super::*;
use crate::manifest::CaptureState;
use crate::time::Micros;

fn source(xmin: u64, xmax: u64, lsn: u64) -> Source {
    Source {
        identity: "1/1/db".into(),
        in_recovery: false,
        server_version: 150_000,
        database: "db".into(),
        schema: "public".into(),
        xmin,
        xmax,
        lsn,
        tables: vec![],
        horizon: None,
    }
}

fn schema() -> TableSchema {
    TableSchema { columns: vec![], key: vec!["id".into()], oid: None, partitions: vec![], attributes: vec![] }
}

fn heap(pages: u32) -> Heap {
    Heap { pages, bytes: u64::from(pages) * 8_192, storage: "1/1".into(), files: vec![] }
}

fn read(now: &Source, pages: u32, rows: u64) -> ChunkRead {
    ChunkRead {
        schema: schema(),
        reason: "first read".into(),
        capture: CaptureState {
            mode: "xid".into(),
            identity: now.identity.clone(),
            watermark: now.xmin,
            xmax: now.xmax,
            lsn: now.lsn,
            read_at: Micros(0),
            names: Some("n".into()),
            passes: None,
        },
        heap: heap(pages),
        refused: 0,
        counted: 0,
        run: RelationRun { rows_read: rows, ..RelationRun::default() },
    }
}

const CHUNK: u64 = 10 * 8_192;

fn step(before: Option<&Unfinished>, heap: &Heap, now: &Source) -> Step {
    next(before, &schema().fingerprint(), Some("n"), Some(heap), now, CHUNK, true)
}

/// A base of 25 pages after two chunks, at snapshots 100:105 and 110:120.
fn two_chunks() -> Unfinished {
    let mut base = None;
    for (now, seq) in [(source(100, 105, 1_000), 7), (source(110, 120, 2_000), 8)] {
        let Step::Chunk(chunk) = step(base.as_ref(), &heap(25), &now) else { panic!("no chunk") };
        base = Some(Unfinished::with(base.as_ref(), chunk, read(&now, 25, 5), seq));
    }
    base.unwrap()
}

#[test]
fn a_base_whose_labels_or_fields_were_written_meanwhile_starts_over() {
    let (base, now) = (two_chunks(), source(130, 140, 3_000));
    let with =
        |base: &Unfinished, names| next(Some(base), &schema().fingerprint(), names, Some(&heap(25)), &now, CHUNK, true);
    let begins = |step| match step {
        Step::Chunk(chunk) => chunk.begins,
        step => panic!("{step:?}"),
    };
    assert!(!begins(with(&base, Some("n"))));
    assert!(begins(with(&base, Some("other"))));
    // One from before it was kept goes on.
    let old = Unfinished { capture: CaptureState { names: None, ..base.capture.clone() }, ..base };
    assert!(!begins(with(&old, Some("other"))));
    assert!(!serde_json::to_string(&old).unwrap().contains("names"));
}

#[test]
fn chunks_follow_each_other_up_to_the_pages_of_the_first_snapshot_and_then_the_base_is_closed() {
    let base = two_chunks();
    assert_eq!((base.first, base.read, base.chunks, base.rows), (7, 20, 2, 10));
    assert_eq!((base.capture.watermark, base.capture.xmax, base.capture.lsn), (100, 120, 2_000));
    assert_eq!(base.text(), "first read: 2 of about 3 chunks");
    // The table has grown since: its new pages hold rows of the window alone.
    let now = source(130, 140, 3_000);
    let left_out = XidWindow::new(100, 140).unwrap();
    assert_eq!(step(Some(&base), &heap(90), &now), Step::Chunk(Chunk { from: 20, to: 25, left_out, begins: false }));
    let chunk = Chunk { from: 20, to: 25, left_out, begins: false };
    let whole = Unfinished::with(Some(&base), chunk, read(&now, 90, 2), 9);
    assert_eq!((whole.read, whole.pages, whole.rows, whole.is_read()), (25, 25, 12, true));
    let later = source(150, 151, 4_000);
    assert_eq!(step(Some(&whole), &heap(90), &later), Step::Close(XidWindow::new(100, 151).unwrap()));
}

#[test]
fn what_makes_rows_lie_elsewhere_or_xids_mean_something_else_starts_the_base_over() {
    let base = two_chunks();
    let begins = |step| matches!(step, Step::Chunk(Chunk { from: 0, begins: true, .. }));
    let now = source(130, 140, 3_000);
    assert!(!begins(step(Some(&base), &heap(25), &now)));
    let rewritten = Heap { storage: "1/2".into(), ..heap(25) };
    assert!(begins(step(Some(&base), &rewritten, &now)));
    let elsewhere = Source { identity: "1/2/db".into(), ..now.clone() };
    assert!(begins(step(Some(&base), &heap(25), &elsewhere)));
    // Restored to between the two chunks: beyond the first, and not beyond the second.
    assert!(begins(step(Some(&base), &heap(25), &source(106, 108, 3_000))));
    assert!(begins(step(Some(&base), &heap(25), &source(130, 140, 1_500))));
    let far = source(130, 100 + crate::xid::MAX_SPAN, 3_000);
    let far = Source { xmin: far.xmax, ..far };
    assert!(begins(step(Some(&base), &heap(25), &far)));
    let retyped = next(Some(&base), "other", Some("n"), Some(&heap(25)), &now, CHUNK, true);
    assert!(begins(retyped));
    let again = Unfinished::with(
        Some(&base),
        Chunk { from: 0, to: 10, left_out: XidWindow::new(130, 140).unwrap(), begins: true },
        read(&now, 25, 3),
        9,
    );
    assert_eq!((again.first, again.chunks, again.rows, again.capture.watermark), (9, 1, 3, 130));
}

#[test]
fn partitions_come_and_go_between_chunks_and_a_rewritten_one_starts_the_base_over() {
    let parts =
        |storage: &str, files: &[(u32, u32)]| Heap { storage: storage.into(), files: files.to_vec(), ..heap(25) };
    let first = parts("a", &[(1, 0), (2, 20), (3, 30)]);
    let now = source(100, 105, 1_000);
    let Step::Chunk(chunk) = step(None, &first, &now) else { panic!("no chunk") };
    let base = Unfinished::with(None, chunk, ChunkRead { heap: first.clone(), ..read(&now, 25, 5) }, 7);
    let goes_on = |base: &Unfinished, heap: &Heap| {
        matches!(step(Some(base), heap, &source(110, 120, 2_000)), Step::Chunk(Chunk { begins: false, .. }))
    };
    assert!(goes_on(&base, &first));
    assert!(goes_on(&base, &parts("b", &[(1, 0), (2, 20), (3, 30), (4, 40)])), "one came");
    assert!(goes_on(&base, &parts("c", &[(1, 0), (3, 30)])), "one went");
    assert!(!goes_on(&base, &parts("d", &[(1, 0), (2, 21), (3, 30)])), "one was rewritten");
    // A base of a version that knew all files by one name.
    let old = Unfinished { files: vec![], ..base };
    assert!(goes_on(&old, &first) && !goes_on(&old, &parts("b", &[(1, 0), (2, 20), (3, 30), (4, 40)])));
    assert_eq!(serde_json::to_value(&old).unwrap().get("files"), None, "as older versions wrote it");
    let text = serde_json::to_string(&Unfinished { files: first.files.clone(), ..old }).unwrap();
    assert_eq!(serde_json::from_str::<Unfinished>(&text).unwrap().files, first.files);
}

#[test]
fn what_fits_one_chunk_or_has_no_pages_that_stay_is_read_at_once() {
    let now = source(130, 140, 3_000);
    assert_eq!(step(None, &heap(10), &now), Step::AtOnce);
    assert!(matches!(step(None, &heap(11), &now), Step::Chunk(_)));
    // What has begun goes on, although the table has become small.
    assert!(matches!(step(Some(&two_chunks()), &heap(2), &now), Step::Chunk(Chunk { from: 20, to: 25, .. })));
    assert_eq!(next(None, "f", None, None, &now, CHUNK, false), Step::AtOnce);
    assert_eq!(
        next(Some(&two_chunks()), &schema().fingerprint(), Some("n"), Some(&heap(25)), &now, 0, true),
        Step::AtOnce
    );
    // Large values are beside the pages: chunks have fewer of these.
    let wide = Heap { bytes: 100 * CHUNK, ..heap(25) };
    assert!(matches!(step(None, &wide, &now), Step::Chunk(Chunk { from: 0, to: 1, .. })));
}

#[test]
fn a_table_for_which_a_pass_has_no_room_is_one_chunk_and_then_closed() {
    let now = source(130, 140, 3_000);
    let left_out = XidWindow::new(130, 140).unwrap();
    let without_room =
        |before, heap: &Heap| next(before, &schema().fingerprint(), Some("n"), Some(heap), &now, CHUNK, false);
    let whole = Chunk { from: 0, to: 7, left_out, begins: true };
    assert_eq!(without_room(None, &heap(7)), Step::Chunk(whole));
    let base = Unfinished::with(None, whole, read(&now, 7, 3), 1);
    assert!(base.is_read());
    assert_eq!(without_room(Some(&base), &heap(7)), Step::Close(left_out));
    // Nothing to read is no chunk.
    assert_eq!(without_room(None, &heap(0)), Step::AtOnce);
}

#[test]
fn what_a_pass_reads_follows_from_the_time_of_its_run() {
    const MIB: u64 = 1 << 20;
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(Room::of(1_024 * MIB, seconds(60)).chunk, 120 * MIB);
    assert_eq!(Room::of(64 * MIB, seconds(60)).chunk, 64 * MIB);
    assert_eq!(Room::of(1_024 * MIB, Some(Duration::from_millis(3))).chunk, MIB);
    assert_eq!(Room::of(0, seconds(60)).chunk, 0, "switched off");
    // Many tables just below a chunk are more than a pass can read.
    let mut room = Room::of(64 * MIB, seconds(60));
    assert_eq!([60, 60, 1, 0].map(|mib| room.takes(mib * MIB)), [true, true, false, true]);
    let mut room = Room::of(64 * MIB, seconds(60));
    room.must_take(100 * MIB);
    assert_eq!([60, 20, 1].map(|mib| room.takes(mib * MIB)), [false, true, false]);
    room.must_take(u64::MAX);
    // Nothing ends a run without a deadline.
    let mut room = Room::of(64 * MIB, None);
    assert!((0..1_000_000).all(|_| room.takes(64 * MIB)) && !room.takes(64 * MIB + 1));
}

#[test]
fn what_has_begun_comes_before_what_has_not() {
    let chunk = |begins| Step::Chunk(Chunk { from: 0, to: 1, left_out: XidWindow::new(1, 2).unwrap(), begins });
    let close = Step::Close(XidWindow::new(1, 2).unwrap());
    let turn = |steps: &[(&'static str, Step)]| whose_turn(steps.iter().copied()).map(|(name, _)| name);
    assert_eq!(turn(&[("a", chunk(true)), ("b", chunk(false)), ("c", chunk(false))]), Some("b"));
    assert_eq!(turn(&[("b", chunk(true)), ("a", chunk(true)), ("0", close)]), Some("a"));
    assert_eq!(turn(&[("a", close), ("b", Step::AtOnce)]), None);
}

mod manifests {
    use super::*;
    use crate::manifest::{DataFile, FileMode, Origin};
    use crate::state;
    use crate::succession::{Draft, carried_unfinished, next_unfinished};
    use std::collections::BTreeMap;

    fn draft(run_id: &str) -> Draft {
        Draft {
            pipeline: "p".into(),
            new_id: "lake".into(),
            run_id: run_id.into(),
            write_id: "w".into(),
            version: "0".into(),
            at: Micros(1),
            started: Micros(1),
            finished: Micros(1),
            origin: Origin::Ingest { source: source(1, 2, 3) },
            relations: BTreeMap::new(),
            upkept: BTreeMap::new(),
            compaction: false,
        }
    }

    /// The chain with one more manifest, whose run read a chunk of these tables and carries or drops the others.
    fn push(chain: &mut Vec<Manifest>, read: &[&str], drops: &[&str]) {
        let newest = chain.last();
        let mut bases = carried_unfinished(newest, |name| !drops.contains(&name));
        let seq = newest.map_or(1, |m| m.seq + 1);
        for name in read {
            let key = format!("{name}/{seq}");
            let file = DataFile { key, rows: 1, bytes: 1, sha256: String::new(), mode: FileMode::Full, tail: None };
            let now = source(100 + seq, 110 + seq, 1_000 + seq);
            let mut read = super::read(&now, 1_000, 1);
            read.run.files = vec![file];
            let before = bases.get(*name);
            let from = before.map_or(0, |base| base.read);
            let left_out = XidWindow::new(1, 2).unwrap();
            let chunk = Chunk { from, to: from + 1, left_out, begins: before.is_none() };
            let base = Unfinished::with(before, chunk, read, seq);
            bases.insert(name.to_string(), base);
        }
        let files = (state::live_files(chain).unwrap(), state::chunk_files(chain));
        chain.push(next_unfinished(newest.map(|m| (m, "sha")), files, draft("r"), bases, BTreeMap::new()));
    }

    fn keys(chain: &[Manifest], name: &str) -> Vec<String> {
        let files = state::chunk_files(chain).remove(name).unwrap_or_default();
        files.into_iter().map(|file| file.file.key).collect()
    }

    #[test]
    fn transform_may_cover_what_was_before_the_first_of_overlapping_bases_until_the_last_is_closed() {
        let mut chain = Vec::new();
        push(&mut chain, &[], &[]);
        push(&mut chain, &["a"], &[]);
        push(&mut chain, &["b"], &[]);
        push(&mut chain, &[], &["a"]);
        push(&mut chain, &[], &["b"]);
        push(&mut chain, &[], &[]);
        let upto: Vec<u64> = chain.iter().map(Manifest::complete_upto).collect();
        assert_eq!(upto, [1, 1, 1, 1, 5, 6]);
        let goes_on: Vec<bool> = chain.iter().map(Manifest::goes_on).collect();
        assert_eq!(goes_on, [false, true, true, false, false, false]);
        assert!(chain[2].waits_for_chunks().unwrap().starts_with("`a` is read in full (first read: 1 of about 1000"));
        assert_eq!(chain[4].waits_for_chunks(), None);
        let mut from_the_start = Vec::new();
        push(&mut from_the_start, &["a"], &[]);
        assert_eq!(from_the_start[0].complete_upto(), 0);
    }

    #[test]
    fn the_chunks_of_a_base_are_found_from_manifests_alone_also_across_a_checkpoint() {
        let mut chain = Vec::new();
        push(&mut chain, &["a"], &[]);
        push(&mut chain, &["b"], &[]);
        push(&mut chain, &["a"], &[]);
        assert_eq!(keys(&chain, "a"), ["a/1", "a/3"]);
        // It starts over.
        push(&mut chain, &["a"], &["a"]);
        assert_eq!((keys(&chain, "a"), keys(&chain, "b")), (vec!["a/4".to_string()], vec!["b/2".to_string()]));
        while chain.len() < 100 {
            push(&mut chain, &["a"], &[]);
        }
        let at_checkpoint = keys(&chain, "a");
        assert_eq!(at_checkpoint.len(), 97);
        assert_eq!(chain[99].chunks.as_ref().unwrap()["a"].len(), 97);
        push(&mut chain, &["b"], &["a"]);
        assert_eq!(keys(&chain[99..], "a"), Vec::<String>::new());
        assert_eq!(keys(&chain[99..], "b"), ["b/2", "b/101"]);
        assert_eq!(keys(&chain[99..100], "a"), at_checkpoint);
        // No state has them.
        assert!(state::live_files(&chain).unwrap().is_empty());
    }

    #[test]
    fn a_manifest_without_chunks_is_written_as_it_always_was() {
        let mut chain = Vec::new();
        push(&mut chain, &[], &[]);
        let text = String::from_utf8(chain[0].to_bytes().unwrap()).unwrap();
        assert!(!text.contains("unfinished") && !text.contains("complete") && !text.contains("chunks"), "{text}");
        push(&mut chain, &["a"], &[]);
        let bytes = chain[1].to_bytes().unwrap();
        let read = Manifest::from_bytes("k", &bytes).unwrap();
        assert_eq!(read.unfinished, chain[1].unfinished);
        assert_eq!(read.complete_upto(), 1);
    }
}
