//! What runs ask a store for, counted and not timed: the thousandth run costs what the tenth did.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::TryStreamExt;
use starlift_core::index::Extent;
use starlift_core::manifest::{CaptureState, FileMode, Origin, Relation, RelationRun, Source};
use starlift_core::relation::{self, Pass};
use starlift_core::{Micros, succession};
use starlift_lake::compact::{Compaction, Labels};
use starlift_lake::vacuum::{remove, survey};
use starlift_lake::{
    Commit, Difference, Digests, FileWriter, Gone, Head, KeyDigest, Keys, State, Store, WriterOptions, claim, commit,
    compact, tombstones, upkeep,
};

use crate::counting::{Asked, Counting};
use crate::fixture::{AT, keys, people, rows};

const BASE: i32 = 20_000;

/// One run of a lake with one table: what came is compared with what is there, and what differs is committed.
async fn run(store: &Store, came: &[(i32, &str)], gone: &[i32]) {
    run_of("people", store, came, gone).await;
}

/// The same of a table of this name, which is new in the run that first reads it; other tables stay as they are.
async fn run_of(table: &str, store: &Store, came: &[(i32, &str)], gone: &[i32]) {
    let head = Head::read(store, "p").await.unwrap();
    let newest = head.manifest();
    let seq = succession::next_seq(newest);
    assert!(head.find_run(store, &format!("run {seq}")).await.unwrap().is_none());
    let at = claim(store, AT, newest.map(|m| m.at), &format!("owner {seq}")).await.unwrap();
    let mut relations = succession::carried(newest, |_| true);
    let before = relations.get(table).cloned();
    let mut live = head.live_of(table);
    let state = State::new(store, people(), live.clone()).unwrap();
    let is_new = before.is_none();
    let mode = if is_new { FileMode::Full } else { FileMode::Window };
    let came = rows(came);
    let digests = Digests::new(&people()).unwrap();
    let wanted: HashSet<_> = digests.keys(&came).unwrap().into_iter().collect();
    let mut difference = Difference::new(table, people(), known(&state, &wanted).await).unwrap();
    let changed = difference.push(&came).unwrap();
    let mut writer = FileWriter::new(store, table, at, people().to_arrow(), mode, WriterOptions::default()).unwrap();
    writer.write(&changed).await.unwrap();
    let files = writer.finish().await.unwrap();
    let gone: HashSet<_> = digests.keys_of_key_batch(&keys(gone)).unwrap().into_iter().collect();
    let gone = Gone::of(known(&state, &gone).await).unwrap();
    let mut writer =
        FileWriter::new(store, table, at, people().key_to_arrow(), FileMode::Deleted, WriterOptions::default())
            .unwrap();
    let count = gone.len();
    let mut batches = tombstones(&state, gone);
    while let Some(batch) = batches.try_next().await.unwrap() {
        writer.write(&batch).await.unwrap();
    }
    let deleted = writer.finish().await.unwrap();
    let rows = before.as_ref().map_or(0, |r: &Relation| r.rows) + difference.new_keys() - count;
    let pass =
        Pass { rows, refused: 0, replaced: is_new, run: RelationRun { files, deleted, ..RelationRun::default() } };
    let capture = CaptureState {
        mode: "xid".into(),
        identity: "i".into(),
        watermark: seq,
        xmax: seq,
        lsn: seq,
        read_at: at,
        names: None,
        passes: None,
    };
    let relation = relation::table(before.as_ref(), people(), capture, seq, pass);
    let mut upkept = BTreeMap::new();
    if relation.last_change == seq && !is_new {
        let written = relation.run.iter().flat_map(|run| run.all_files());
        live.extend(written.map(|file| starlift_core::manifest::LiveFile::new(seq, file.clone())));
        if let Some(done) = upkeep(store, (table, at), &people(), &live, Extent::of_run(seq - 1)).await.unwrap() {
            upkept.insert(table.to_string(), done.live);
        }
    }
    relations.insert(table.into(), relation);
    let source = Source {
        identity: "i".into(),
        in_recovery: false,
        server_version: 150_000,
        database: "p".into(),
        schema: "public".into(),
        xmin: 1,
        xmax: 1,
        lsn: 1,
        horizon: None,
        tables: relations.keys().cloned().collect(),
    };
    let draft = succession::Draft {
        pipeline: "p".into(),
        new_id: "lake".into(),
        run_id: format!("run {seq}"),
        write_id: format!("write {seq}"),
        version: "0".into(),
        at,
        started: at,
        finished: at,
        origin: Origin::Ingest { source },
        relations,
        upkept,
        compaction: false,
    };
    let next = succession::next(head.newest().map(|s| (&s.manifest, s.sha256.as_str())), head.live.clone(), draft);
    assert!(matches!(commit(store, next).await.unwrap(), Commit::Committed(_)));
}

/// Those of these keys that the state has.
async fn known(state: &State, wanted: &HashSet<KeyDigest>) -> Keys {
    Keys::before(state.spill(), state.find(wanted).await.unwrap()).unwrap()
}

/// A table with many rows, of which each run changes some recent ones, adds some, and loses one.
async fn live(store: &Store, number: i32) {
    let name = |id: i32| format!("person {id} as of {number}");
    let newest = BASE + 3 * number;
    let changed: Vec<(i32, String)> = (0..20).map(|n| newest - 7 * n).map(|id| (id, name(id))).collect();
    let came: Vec<(i32, &str)> = changed.iter().map(|(id, name)| (*id, name.as_str())).collect();
    run(store, &came, &[newest - 500]).await;
}

async fn base(store: &Store) {
    let all: Vec<(i32, String)> = (0..BASE).map(|id| (id, format!("person {id} of the beginning"))).collect();
    run(store, &all.iter().map(|(id, name)| (*id, name.as_str())).collect::<Vec<_>>(), &[]).await;
}

fn sum(asked: &[Asked], of: impl Fn(&Asked) -> u64) -> u64 {
    asked.iter().map(of).sum()
}

#[tokio::test]
async fn the_thousandth_run_costs_what_the_tenth_did() {
    let counting = Counting::new();
    let store = counting.store();
    base(&store).await;
    let whole = counting.asked().written;
    // Files are merged in turns, so runs are compared by the dozens.
    let mut asked: Vec<Asked> = Vec::new();
    for number in 1..=1_032 {
        live(&store, number).await;
        asked.push(counting.asked());
    }
    let (early, late) = (&asked[8..72], &asked[968..1_032]);
    let head = Head::read(&store, "p").await.unwrap();
    println!(
        "live files {}, base {whole} bytes; per run: gets {} -> {}, bytes read {} -> {}, written {} -> {}",
        head.live_of("people").len(),
        sum(early, |a| a.gets) / 64,
        sum(late, |a| a.gets) / 64,
        sum(early, |a| a.bytes) / 64,
        sum(late, |a| a.bytes) / 64,
        sum(early, |a| a.written) / 64,
        sum(late, |a| a.written) / 64,
    );
    assert!(late.iter().all(|a| a.lists == 1));
    for of in [|a: &Asked| a.gets, |a: &Asked| a.bytes, |a: &Asked| a.puts] {
        let (early, late) = (sum(early, of), sum(late, of));
        assert!(late * 10 <= early * 11, "{early} -> {late}");
    }
    // A row is merged once more when its file has grown to three times as much: measured, 1.25 times.
    let (early, late) = (sum(early, |a| a.written), sum(late, |a| a.written));
    assert!(late * 10 <= early * 14, "written: {early} -> {late}");

    // And what all of it adds up to is what each run wrote.
    let state = State::new(&store, people(), head.live_of("people")).unwrap();
    let last = 1_032 * 3 + BASE;
    let found = state.select(
        Arc::new(Digests::new(&people()).unwrap().keys_of_key_batch(&keys(&[last, 7])).unwrap().into_iter().collect()),
        None,
    );
    let expected = [(7, "person 7 of the beginning"), (last, "person 23096 as of 1032")];
    assert_eq!(crate::fixture::collect(found).await, crate::fixture::expected(&expected));
    assert_eq!(state.rows().await.unwrap(), head.manifest().unwrap().relations["people"].rows);
}

#[tokio::test]
async fn the_newest_state_is_one_listing_and_one_read_however_many_manifests_there_are() {
    let counting = Counting::new();
    let store = counting.store();
    for _ in 0..300 {
        run(&store, &[(1, "the same")], &[]).await;
    }
    counting.asked();
    let head = Head::read(&store, "p").await.unwrap();
    assert!(head.find_run(&store, "a new run").await.unwrap().is_none());
    let asked = counting.asked();
    assert_eq!((asked.lists, asked.gets), (1, 1), "{asked:?}");
    assert_eq!(head.change_sha256(), Some(starlift_lake::manifests::read(&store, 1).await.unwrap().sha256));
    let again = head.find_run(&store, "run 290").await.unwrap();
    assert_eq!(again.map(|stored| stored.seq()), Some(290));
    assert!(head.find_run(&store, "run 200").await.unwrap().is_none(), "too long ago");
}

/// Labels of compactions that are told apart by their name and a number.
fn labels(name: &str) -> impl Fn() -> Labels + use<> {
    let (name, number) = (name.to_string(), AtomicU32::new(0));
    move || {
        let number = number.fetch_add(1, Ordering::Relaxed);
        let id = |what: &str| format!("{what} {number} of {name}");
        Labels { owner: id("claim"), run_id: id("run"), write_id: id("write"), version: "0".into(), started: AT }
    }
}

#[tokio::test]
async fn a_compaction_is_no_change_and_states_as_of_older_manifests_stay() {
    let store = Store::in_memory();
    for number in 0..6 {
        run(&store, &[(10 + number, "new"), (1, &format!("one {number}")), (7, "same")], &[7 + number]).await;
    }
    let before = Head::read(&store, "p").await.unwrap();
    let rows_of = async |head: &Head| {
        let state = State::new(&store, people(), head.live_of("people")).unwrap();
        crate::fixture::collect(state.scan(None)).await
    };
    let mut as_of = Vec::new();
    for seq in 1..=6 {
        as_of.push(rows_of(&Head::at(&store, "p", seq).await.unwrap()).await);
    }
    let done = compact(&store, "p", u64::MAX, labels("c"), || AT).await.unwrap();
    assert_eq!((done.committed.len(), &done.superseded), (1, &Vec::new()), "{done:?}");
    let stored = &done.committed[0].stored;
    assert_eq!((stored.seq(), stored.manifest.compaction), (7, true));
    let (old, new) = (&before.manifest().unwrap(), &stored.manifest);
    assert_eq!(new.newest_change, old.newest_change);
    assert_eq!(new.relations["people"], Relation { run: None, ..old.relations["people"].clone() });
    assert!(new.result.is_empty() && new.files_of("people").is_empty() && !new.replaces("people"));
    let after = Head::read(&store, "p").await.unwrap();
    assert!(after.live_of("people").len() < before.live_of("people").len());
    assert_eq!(rows_of(&after).await, as_of[5]);
    for (seq, rows) in (1..=6).zip(&as_of) {
        assert_eq!(rows_of(&Head::at(&store, "p", seq).await.unwrap()).await, *rows, "as of {seq}");
    }
    let again = compact(&store, "p", u64::MAX, labels("again"), || AT).await.unwrap();
    assert!(again.committed.is_empty() && again.superseded.is_empty(), "{again:?}");
    let found = survey(&store, "p", Micros(i64::MAX)).await.unwrap();
    assert!(found.garbage.is_empty(), "{found:?}");
    // And runs go on from it.
    run(&store, &[(1, "later")], &[]).await;
    let rows = rows_of(&Head::read(&store, "p").await.unwrap()).await;
    assert_eq!((rows[&1].as_str(), rows.len()), ("later", as_of[5].len()));
}

/// Compacts while another run commits each time files are written and nothing is committed yet, as often as `rivals` says.
async fn beside_rivals(store: &Store, name: &str, rivals: u32) -> Compaction {
    let (go, handle, left) = (store.clone(), tokio::runtime::Handle::current(), AtomicU32::new(rivals));
    // The time is asked for at just that moment.
    let overtaken = move || {
        let number = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if let Ok(number) = number {
            let (store, handle) = (go.clone(), handle.clone());
            let rival = move || handle.block_on(async { run(&store, &[(900 + number as i32, "first")], &[]).await });
            std::thread::spawn(rival).join().unwrap();
        }
        AT
    };
    let (store, handle, name) = (store.clone(), tokio::runtime::Handle::current(), name.to_string());
    let compacting = move || handle.block_on(compact(&store, "p", u64::MAX, labels(&name), overtaken));
    tokio::task::spawn_blocking(compacting).await.unwrap().unwrap()
}

/// Six runs of a table each.
async fn two_tables(store: &Store) {
    for table in ["people", "pets"] {
        for number in 0..6 {
            run_of(table, store, &[(10 + number, "new"), (1, &format!("one {number}"))], &[]).await;
        }
    }
}

async fn rows_of(store: &Store, table: &str) -> BTreeMap<i32, String> {
    let head = Head::read(store, "p").await.unwrap();
    crate::fixture::collect(State::new(store, people(), head.live_of(table)).unwrap().scan(None)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_that_is_overtaken_begins_that_table_again_and_keeps_what_is_committed() {
    let (_folder, stores) = crate::fixture::both_stores();
    for (name, store) in stores {
        two_tables(&store).await;
        let pets = rows_of(&store, "pets").await;
        let done = beside_rivals(&store, "late", 1).await;
        let committed: Vec<(&str, u64)> = done.committed.iter().map(|c| (c.name.as_str(), c.stored.seq())).collect();
        assert_eq!((committed, done.superseded), (vec![("people", 14), ("pets", 15)], Vec::<String>::new()), "{name}");
        let head = Head::read(&store, "p").await.unwrap();
        assert_eq!((head.live_of("people").len(), head.live_of("pets").len()), (1, 1), "{name}");
        assert_eq!((rows_of(&store, "people").await.len(), rows_of(&store, "pets").await), (8, pets), "{name}");
        // What was superseded is named by nothing, and vacuum removes it.
        let found = survey(&store, "p", Micros(i64::MAX)).await.unwrap();
        let left: Vec<&str> = found.garbage.iter().map(|found| found.garbage.name()).collect();
        assert!(left.contains(&"merged"), "{name}: {left:?}");
        remove(&store, &found.garbage).await.unwrap();
        assert_eq!(rows_of(&store, "people").await.len(), 8, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_runs_overtake_each_time_is_left_and_named_and_the_next_one_is_done() {
    let store = Store::in_memory();
    two_tables(&store).await;
    let done = beside_rivals(&store, "unlucky", 4).await;
    let committed: Vec<(&str, u64)> = done.committed.iter().map(|c| (c.name.as_str(), c.stored.seq())).collect();
    assert_eq!((committed, done.superseded), (vec![("pets", 17)], vec!["people".to_string()]));
    assert_eq!(rows_of(&store, "people").await.len(), 11);
    let done = beside_rivals(&store, "alone", 0).await;
    assert_eq!((done.committed.len(), done.committed[0].name.as_str()), (1, "people"));
    assert_eq!(rows_of(&store, "people").await.len(), 11);
}

#[tokio::test]
async fn a_run_that_comes_again_is_found_behind_many_compactions() {
    let store = Store::in_memory();
    run(&store, &[(0, "base")], &[]).await;
    for number in 1..=20 {
        run(&store, &[(number, "new")], &[]).await;
        compact(&store, "p", u64::MAX, labels(&format!("{number}")), || AT).await.unwrap();
    }
    let head = Head::read(&store, "p").await.unwrap();
    assert_eq!(head.newest().map(|stored| stored.seq()), Some(41));
    let found = async |run: &str| head.find_run(&store, run).await.unwrap().map(|stored| stored.seq());
    assert_eq!(found("run 40").await, Some(40));
    assert_eq!(found("run 14").await, Some(14), "fourteen runs ago");
    assert_eq!(found("run 10").await, None, "sixteen runs ago");
}

/// A table with more small changes than runs may merge: how many units a look for some keys asks, and how often it asks the
/// store, before and after a compaction.
async fn asked_of_units() -> [(usize, u64); 2] {
    let counting = Counting::new();
    let store = counting.store();
    let base: Vec<(i32, &str)> = (100_000..101_000).map(|id| (id, "of the beginning")).collect();
    run(&store, &base, &[]).await;
    // The keys of each run lie among those of all others, so that no unit can be passed over.
    for number in 0..150 {
        let some: Vec<(i32, &str)> = (0..20).map(|n| (2 * (number + 150 * n), "new")).collect();
        run(&store, &some, &[]).await;
    }
    let look = async || {
        let head = Head::read(&store, "p").await.unwrap();
        let live = head.live_of("people");
        counting.asked();
        let state = State::new(&store, people(), live.clone()).unwrap();
        let wanted = Digests::new(&people()).unwrap().keys_of_key_batch(&keys(&[606, 1_501, 100_003])).unwrap();
        assert_eq!(state.find(&wanted.into_iter().collect()).await.unwrap().len(), 2);
        (starlift_core::index::units(&live).len(), counting.asked().gets)
    };
    let before = look().await;
    let done = compact(&store, "p", u64::MAX, labels("units"), || AT).await.unwrap();
    assert_eq!(done.committed.len(), 1);
    [before, look().await]
}

#[test]
fn a_compaction_merges_what_was_too_large_for_runs_so_that_looking_for_keys_asks_few_units() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let asked = starlift_core::fault::with_planted("small_index", || runtime.block_on(asked_of_units()));
    println!("units and requests, before and after a compaction: {asked:?}");
    let [(units, gets), (units_after, gets_after)] = asked;
    assert!(units > 40 && gets > 40, "{asked:?}");
    assert!(units_after <= 4 && gets_after <= 8, "{asked:?}");
}
