//! What runs ask a store for, counted and not timed: the thousandth run costs what the tenth did.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures::TryStreamExt;
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
    let head = Head::read(store, "p").await.unwrap();
    let newest = head.manifest();
    let seq = succession::next_seq(newest);
    assert!(head.find_run(store, &format!("run {seq}")).await.unwrap().is_none());
    let at = claim(store, AT, newest.map(|m| m.at), &format!("owner {seq}")).await.unwrap();
    let mut relations = succession::carried(newest, |_| true);
    let before = relations.get("people").cloned();
    let mut live = head.live_of("people");
    let state = State::new(store, people(), live.clone()).unwrap();
    let mode = if seq == 1 { FileMode::Full } else { FileMode::Window };
    let came = rows(came);
    let digests = Digests::new(&people()).unwrap();
    let wanted: HashSet<_> = digests.keys(&came).unwrap().into_iter().collect();
    let mut difference = Difference::new("people", people(), known(&state, &wanted).await).unwrap();
    let changed = difference.push(&came).unwrap();
    let mut writer = FileWriter::new(store, "people", at, people().to_arrow(), mode, WriterOptions::default()).unwrap();
    writer.write(&changed).await.unwrap();
    let files = writer.finish().await.unwrap();
    let gone: HashSet<_> = digests.keys_of_key_batch(&keys(gone)).unwrap().into_iter().collect();
    let gone = Gone::of(known(&state, &gone).await).unwrap();
    let mut writer =
        FileWriter::new(store, "people", at, people().key_to_arrow(), FileMode::Deleted, WriterOptions::default())
            .unwrap();
    let count = gone.len();
    let mut batches = tombstones(&state, gone);
    while let Some(batch) = batches.try_next().await.unwrap() {
        writer.write(&batch).await.unwrap();
    }
    let deleted = writer.finish().await.unwrap();
    let rows = before.as_ref().map_or(0, |r: &Relation| r.rows) + difference.new_keys() - count;
    let pass =
        Pass { rows, refused: 0, replaced: seq == 1, run: RelationRun { files, deleted, ..RelationRun::default() } };
    let capture = CaptureState {
        mode: "xid".into(),
        identity: "i".into(),
        watermark: seq,
        xmax: seq,
        lsn: seq,
        read_at: at,
        passes: None,
    };
    let relation = relation::table(before.as_ref(), people(), capture, seq, pass);
    let mut upkept = BTreeMap::new();
    if relation.last_change == seq && seq > 1 {
        let written = relation.run.iter().flat_map(|run| run.all_files());
        live.extend(written.map(|file| starlift_core::manifest::LiveFile::new(seq, file.clone())));
        if let Some(done) = upkeep(store, ("people", at), &people(), &live, (seq - 1, false)).await.unwrap() {
            upkept.insert("people".to_string(), done.live);
        }
    }
    relations.insert("people".into(), relation);
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
        tables: vec!["people".into()],
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
    // A row is merged once more for each size that files have grown to: measured, 1.11 times.
    let (early, late) = (sum(early, |a| a.written), sum(late, |a| a.written));
    assert!(late * 10 <= early * 12, "written: {early} -> {late}");

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

fn labels(name: &str) -> Labels {
    let id = |what: &str| format!("{what} of {name}");
    Labels { owner: id("claim"), run_id: id("run"), write_id: id("write"), version: "0".into(), started: AT }
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
    let Compaction::Committed { stored, relations } = done else { panic!("{done:?}") };
    assert_eq!((stored.seq(), stored.manifest.compaction, relations.len()), (7, true, 1));
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
    assert!(matches!(compact(&store, "p", u64::MAX, labels("again"), || AT).await.unwrap(), Compaction::Nothing));
    let found = survey(&store, "p", Micros(i64::MAX)).await.unwrap();
    assert!(found.garbage.is_empty(), "{found:?}");
    // And runs go on from it.
    run(&store, &[(1, "later")], &[]).await;
    let rows = rows_of(&Head::read(&store, "p").await.unwrap()).await;
    assert_eq!((rows[&1].as_str(), rows.len()), ("later", as_of[5].len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_that_is_overtaken_commits_nothing() {
    let (_folder, stores) = crate::fixture::both_stores();
    for (name, store) in stores {
        for number in 0..6 {
            run(&store, &[(10 + number, "new"), (1, &format!("one {number}"))], &[]).await;
        }
        // The time is asked for when all files are written and nothing is committed yet.
        let (go, other) = (store.clone(), tokio::runtime::Handle::current());
        let overtaken = move || {
            let store = go.clone();
            let handle = other.clone();
            std::thread::spawn(move || handle.block_on(async { run(&store, &[(99, "first")], &[]).await }))
                .join()
                .unwrap();
            AT
        };
        let done = tokio::task::spawn_blocking({
            let (store, handle) = (store.clone(), tokio::runtime::Handle::current());
            move || handle.block_on(compact(&store, "p", u64::MAX, labels("late"), overtaken))
        });
        assert!(matches!(done.await.unwrap().unwrap(), Compaction::Superseded), "{name}");
        let head = Head::read(&store, "p").await.unwrap();
        assert_eq!((head.manifest().unwrap().seq, head.manifest().unwrap().compaction), (7, false), "{name}");
        let found = survey(&store, "p", Micros(i64::MAX)).await.unwrap();
        let left: Vec<&str> = found.garbage.iter().map(|found| found.garbage.name()).collect();
        assert!(left.contains(&"merged"), "{name}: {left:?}");
        remove(&store, &found.garbage).await.unwrap();
        let state = State::new(&store, people(), head.live_of("people")).unwrap();
        assert_eq!(crate::fixture::collect(state.scan(None)).await.len(), 8, "{name}");
    }
}
