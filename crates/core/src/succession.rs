//! The next manifest: a pure transition from the one before and what a run did.

use std::collections::BTreeMap;

use crate::event::StageResult;
use crate::fault;
use crate::manifest::{
    CHECKPOINT_EVERY, CHECKPOINT_FILES, FORMAT, FileMode, LiveFile, Manifest, Origin, RUNS_KEPT, Relation,
};
use crate::state::{self, LiveFiles};
use crate::time::Micros;
use crate::unfinished::Unfinished;

/// Places of runs before its own that a manifest lists, compactions among them. A compaction of the whole lake commits one manifest
/// for each table, so that there may be as many in a row as there are tables; an empty place is a line of eight bytes, a table some hundred.
const PLACES_KEPT: usize = 10_000;

/// What a run adds to the manifest before.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The pipeline's name.
    pub pipeline: String,
    /// The id that this lake or star gets if this is its first manifest.
    pub new_id: String,
    /// The run.
    pub run_id: String,
    /// Made up for this write.
    pub write_id: String,
    /// The version of starlift.
    pub version: String,
    /// End of the window.
    pub at: Micros,
    /// When the run started.
    pub started: Micros,
    /// When its files were written.
    pub finished: Micros,
    /// What ingest or transform adds.
    pub origin: Origin,
    /// Every table or model from now on; those that the run did not touch have no `run`.
    pub relations: BTreeMap<String, Relation>,
    /// Of tables or models whose files the run merged or indexed, all live files with this run's own.
    pub upkept: BTreeMap<String, LiveFiles>,
    /// Whether that is all that the run did.
    pub compaction: bool,
}

/// The manifest that follows `previous`, which comes with its hash and the live files as of it.
///
/// A relation counts as changed where its `last_change` is the new seq; the caller asks [`next_seq`] for it.
pub fn next(previous: Option<(&Manifest, &str)>, live_before: BTreeMap<String, LiveFiles>, draft: Draft) -> Manifest {
    let seq = next_seq(previous.map(|(m, _)| m));
    let before = previous.map(|(m, _)| m);
    // A relation that vanished is a change too: readers have to see the list without it.
    let vanished = before.is_some_and(|m| m.relations.keys().any(|name| !draft.relations.contains_key(name)));
    let changed = vanished || draft.relations.values().any(|r| r.last_change == seq);
    let (every, few) = if fault::planted("small_checkpoint") { (4, 0) } else { (CHECKPOINT_EVERY, CHECKPOINT_FILES) };
    let result: StageResult = draft
        .relations
        .iter()
        .filter_map(|(name, relation)| {
            let first = relation.run.as_ref()?.files.first()?;
            Some((name.clone(), first.key.clone()))
        })
        .collect();
    let mut manifest = Manifest {
        format: FORMAT,
        pipeline: draft.pipeline,
        id: before.map_or(draft.new_id, |m| m.id.clone()),
        seq,
        run_id: draft.run_id,
        write_id: draft.write_id,
        previous_sha256: previous.map(|(_, sha256)| sha256.to_string()),
        version: draft.version,
        at: draft.at,
        started: draft.started,
        finished: draft.finished,
        newest_change: if changed { seq } else { before.map_or(0, |m| m.newest_change) },
        newest_change_sha256: previous.filter(|_| !changed).and_then(change_sha256),
        checkpoint: before.map_or(0, |m| m.checkpoint),
        runs_before: runs_before(before),
        compaction: draft.compaction,
        origin: draft.origin,
        relations: draft.relations,
        live: None,
        index: BTreeMap::new(),
        unfinished: BTreeMap::new(),
        complete: None,
        chunks: None,
        result,
        checksum: String::new(),
    };
    let mut live = state::added(live_before, &manifest);
    let is_upkept = !draft.upkept.is_empty();
    live.extend(draft.upkept.into_iter().filter(|(name, _)| manifest.relations.contains_key(name)));
    // A list that differs from what the chain adds up to has to be said.
    if is_upkept || seq.is_multiple_of(every) || live.values().map(Vec::len).sum::<usize>() <= few {
        manifest.checkpoint = seq;
        let is_index = |file: &LiveFile| file.file.mode == FileMode::Index;
        for (name, files) in &mut live {
            let (parts, files_alone) = std::mem::take(files).into_iter().partition(is_index);
            *files = files_alone;
            manifest.index.insert(name.clone(), parts);
        }
        manifest.index.retain(|_, parts| !parts.is_empty());
        manifest.live = Some(live);
    }
    manifest
}

/// The hash of the newest manifest with changes, as of a manifest that comes with its own hash.
pub fn change_sha256((manifest, sha256): (&Manifest, &str)) -> Option<String> {
    match manifest.newest_change == manifest.seq {
        true => Some(sha256.to_string()),
        false => manifest.newest_change_sha256.clone(),
    }
}

/// The runs that the next manifest names. What a manifest of an older version does not name stays unknown until there are
/// enough newer ones, so that a reader looks at the manifests themselves. A compaction is no run that comes again: its place
/// stays empty, and it takes none of the [`RUNS_KEPT`].
fn runs_before(before: Option<&Manifest>) -> Option<Vec<String>> {
    let Some(before) = before else { return Some(Vec::new()) };
    let mut named = 0;
    let newest = if before.compaction { String::new() } else { before.run_id.clone() };
    let all = std::iter::once(&newest).chain(before.runs_before.iter().flatten());
    let kept = all.take_while(|run| {
        named += usize::from(!run.is_empty());
        named <= RUNS_KEPT
    });
    Some(kept.take(PLACES_KEPT).cloned().collect())
}

/// The manifest that follows `previous`, with tables that are being read in chunks. Besides the live files, those of the
/// chunks as of `previous` come with it, and what the run's own passes printed so far, whichever manifests of others came since:
/// what a run printed first for a table stays.
pub fn next_unfinished(
    previous: Option<(&Manifest, &str)>,
    (live_before, chunks_before): (BTreeMap<String, LiveFiles>, BTreeMap<String, LiveFiles>),
    draft: Draft,
    unfinished: BTreeMap<String, Unfinished>,
    printed: StageResult,
) -> Manifest {
    let mut manifest = next(previous, live_before, draft);
    let before = previous.map(|(m, _)| m);
    let earlier = printed.into_iter().filter(|(name, _)| manifest.relations.contains_key(name));
    manifest.result.extend(earlier.collect::<Vec<_>>());
    if !unfinished.is_empty() {
        manifest.complete = Some(before.map_or(0, Manifest::complete_upto));
        manifest.unfinished = unfinished;
    }
    if manifest.live.is_some() && !manifest.unfinished.is_empty() {
        manifest.chunks = Some(state::added_chunks(chunks_before, &manifest));
    }
    manifest
}

/// The unfinished bases that a run starts from: those of `previous` that `keeps` names, without what its own run did.
pub fn carried_unfinished(previous: Option<&Manifest>, keeps: impl Fn(&str) -> bool) -> BTreeMap<String, Unfinished> {
    let bases = previous.map(|m| &m.unfinished).into_iter().flatten().filter(|(name, _)| keeps(name));
    bases.map(|(name, base)| (name.clone(), Unfinished { run: None, ..base.clone() })).collect()
}

/// The relations that a run starts from: those of `previous` that `keeps` names, without what its own run did.
pub fn carried(previous: Option<&Manifest>, keeps: impl Fn(&str) -> bool) -> BTreeMap<String, Relation> {
    let relations = previous.map(|m| &m.relations).into_iter().flatten().filter(|(name, _)| keeps(name));
    relations.map(|(name, relation)| (name.clone(), Relation { run: None, ..relation.clone() })).collect()
}

/// The seq of the manifest that follows.
pub fn next_seq(previous: Option<&Manifest>) -> u64 {
    previous.map_or(1, |m| m.seq + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{DataFile, FileMode, RelationRun};
    use crate::schema::TableSchema;

    fn relation(seq: u64, base: u64, file: &str, mode: FileMode) -> Relation {
        let file = DataFile { key: file.into(), rows: 1, bytes: 1, sha256: String::new(), mode, tail: None };
        Relation {
            schema: TableSchema {
                columns: vec![],
                key: vec!["id".into()],
                oid: None,
                partitions: vec![],
                attributes: vec![],
            },
            fingerprint: "f".into(),
            rows: 1,
            refused: 0,
            last_change: seq,
            base,
            capture: None,
            model: None,
            run: Some(RelationRun { files: vec![file], ..RelationRun::default() }),
        }
    }

    fn draft(relations: BTreeMap<String, Relation>) -> Draft {
        Draft {
            pipeline: "p".into(),
            new_id: "new".into(),
            run_id: "r".into(),
            write_id: "w".into(),
            version: "0".into(),
            at: Micros(1),
            started: Micros(1),
            finished: Micros(1),
            origin: Origin::Transform { lake_id: "l".into(), after: 0, upto: 0, upto_sha256: None },
            relations,
            upkept: BTreeMap::new(),
            compaction: false,
        }
    }

    fn chain(length: u64) -> Vec<Manifest> {
        let mut chain: Vec<Manifest> = Vec::new();
        for seq in 1..=length {
            let base = if seq < 3 { 1 } else { 3 };
            let mode = if seq == base { FileMode::Full } else { FileMode::Window };
            let relations = [("t".to_string(), relation(seq, base, &format!("t/{seq}"), mode))].into();
            let live = state::live_files(&chain).unwrap();
            let previous = chain.last().map(|m| (m, "sha"));
            chain.push(next(previous, live, draft(relations)));
        }
        chain
    }

    #[test]
    fn every_manifest_is_a_checkpoint_while_live_files_are_few() {
        let all = chain(5);
        assert!(all.iter().all(|m| m.checkpoint == m.seq && m.live.is_some()));
        let many = vec![all[4].files_of("t")[0].clone(); CHECKPOINT_FILES];
        let relations = [("t".to_string(), relation(6, 3, "t/6", FileMode::Window))].into();
        let next = next(Some((&all[4], "sha")), [("t".to_string(), many)].into(), draft(relations));
        assert_eq!((next.checkpoint, next.live), (5, None));
    }

    #[test]
    fn a_list_that_a_run_merged_is_said_and_is_no_change() {
        let all = chain(5);
        let merged = LiveFile { from: Some(3), ..LiveFile::new(5, all[4].files_of("t")[0].file.clone()) };
        let part = LiveFile { file: DataFile { mode: FileMode::Index, ..merged.file.clone() }, ..merged.clone() };
        let list = vec![merged.clone(), part.clone()];
        let carried = carried(all.last(), |_| true);
        let upkept = [("t".to_string(), list.clone()), ("gone".to_string(), list.clone())].into();
        let next = next(Some((&all[4], "sha")), BTreeMap::new(), Draft { upkept, compaction: true, ..draft(carried) });
        assert_eq!((next.newest_change, next.newest_change_sha256.as_deref()), (5, Some("sha")));
        assert_eq!((next.relations["t"].base, next.relations["t"].last_change), (3, 5));
        assert_eq!((&next.live.as_ref().unwrap()["t"], &next.index["t"]), (&vec![merged], &vec![part]));
        assert_eq!(state::live_files(&[next]).unwrap(), [("t".to_string(), list)].into());
    }

    #[test]
    fn a_manifest_names_the_runs_before_it_and_the_hash_of_the_newest_change() {
        let all = chain(20);
        assert_eq!(
            (all[0].runs_before.as_deref(), all[19].runs_before.as_ref().unwrap().len()),
            (Some(&[][..]), RUNS_KEPT)
        );
        let mut quiet = next(Some((&all[19], "of 20")), BTreeMap::new(), draft(carried(all.last(), |_| true)));
        assert_eq!(
            (all[19].newest_change_sha256.as_deref(), quiet.newest_change_sha256.as_deref()),
            (None, Some("of 20"))
        );
        quiet = next(Some((&quiet, "of 21")), BTreeMap::new(), draft(carried(Some(&quiet), |_| true)));
        assert_eq!(quiet.newest_change_sha256.as_deref(), Some("of 20"));
    }

    #[test]
    fn compactions_take_no_place_of_a_run_that_may_come_again() {
        let mut all = chain(3);
        // As many in a row as a lake of so many tables makes when all of it is merged.
        for _ in 0..400 {
            let newest = all.last().unwrap();
            let draft = Draft { compaction: true, ..draft(carried(Some(newest), |_| true)) };
            all.push(next(Some((newest, "sha")), BTreeMap::new(), draft));
        }
        let runs = all.last().unwrap().runs_before.clone().unwrap();
        assert_eq!((runs.len(), runs.iter().position(|run| run == "r")), (402, Some(399)), "its seq is so far back");
        let newest = all.last().unwrap();
        let runs = next(Some((newest, "sha")), BTreeMap::new(), draft(BTreeMap::new())).runs_before.unwrap();
        assert_eq!((runs.len(), runs.iter().filter(|run| !run.is_empty()).count()), (403, 3));
    }

    #[test]
    fn what_a_run_printed_before_stays_whoever_committed_since() {
        let all = chain(3);
        let printed: StageResult = [("t".to_string(), "t/first".to_string()), ("gone".into(), "g".into())].into();
        let relations: BTreeMap<String, Relation> = [("t".to_string(), relation(4, 3, "t/4", FileMode::Window))].into();
        let previous = Some((&all[2], "sha"));
        let next = |printed: StageResult| {
            next_unfinished(previous, Default::default(), draft(relations.clone()), BTreeMap::new(), printed).result
        };
        assert_eq!(next(StageResult::new()), [("t".to_string(), "t/4".to_string())].into());
        assert_eq!(next(printed), [("t".to_string(), "t/first".to_string())].into());
    }

    #[test]
    fn a_checkpoint_lists_what_its_chain_adds_up_to() {
        let all = fault::with_planted("small_checkpoint", || chain(101));
        let whole = state::live_files(&all).unwrap();
        let keys: Vec<&str> = whole["t"].iter().map(|f| f.file.key.as_str()).collect();
        assert_eq!((keys.len(), keys[0]), (99, "t/3"));
        assert_eq!((all[99].checkpoint, all[100].checkpoint), (100, 100));
        assert!(all[100].live.is_none());
        assert_eq!(state::live_files(&all[99..]).unwrap()["t"].len(), 99);
    }

    #[test]
    fn a_chain_with_a_gap_or_without_its_start_is_no_state() {
        let all = fault::with_planted("small_checkpoint", || chain(3));
        assert!(state::live_files(&[all[0].clone(), all[2].clone()]).is_err());
        assert!(state::live_files(&all[1..]).is_err());
    }

    #[test]
    fn a_run_without_changes_keeps_the_newest_change() {
        let first = chain(1).remove(0);
        let mut unchanged = first.relations.clone();
        unchanged.values_mut().for_each(|r| r.run = None);
        let second = next(Some((&first, "sha")), BTreeMap::new(), draft(unchanged));
        assert_eq!((second.seq, second.newest_change), (2, 1));
        assert!(second.result.is_empty());
        assert_eq!(second.id, "new");
        assert_eq!(next(Some((&second, "sha")), BTreeMap::new(), draft(BTreeMap::new())).newest_change, 3);
    }
}
