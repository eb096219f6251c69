//! The next manifest: a pure transition from the one before and what a run did.

use std::collections::BTreeMap;

use crate::event::StageResult;
use crate::fault;
use crate::manifest::{CHECKPOINT_EVERY, FORMAT, Manifest, Origin, Relation};
use crate::state::{self, LiveFiles};
use crate::time::Micros;
use crate::unfinished::Unfinished;

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
    let every = if fault::planted("small_checkpoint") { 4 } else { CHECKPOINT_EVERY };
    let is_checkpoint = seq.is_multiple_of(every);
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
        checkpoint: if is_checkpoint { seq } else { before.map_or(0, |m| m.checkpoint) },
        origin: draft.origin,
        relations: draft.relations,
        live: None,
        unfinished: BTreeMap::new(),
        complete: None,
        chunks: None,
        result,
        checksum: String::new(),
    };
    if is_checkpoint {
        manifest.live = Some(state::added(live_before, &manifest));
    }
    manifest
}

/// The manifest that follows `previous`, with tables that are being read in chunks. Besides the live files, those of the
/// chunks as of `previous` come with it.
pub fn next_unfinished(
    previous: Option<(&Manifest, &str)>,
    (live_before, chunks_before): (BTreeMap<String, LiveFiles>, BTreeMap<String, LiveFiles>),
    draft: Draft,
    unfinished: BTreeMap<String, Unfinished>,
) -> Manifest {
    let mut manifest = next(previous, live_before, draft);
    let before = previous.map(|(m, _)| m);
    // Passes of one run: what it printed first for a table stays.
    if let Some(before) = before.filter(|before| before.goes_on() && before.run_id == manifest.run_id) {
        let earlier = before.result.clone().into_iter().filter(|(name, _)| manifest.relations.contains_key(name));
        manifest.result.extend(earlier.collect::<Vec<_>>());
    }
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
        let file = DataFile { key: file.into(), rows: 1, bytes: 1, sha256: String::new(), mode };
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
    fn a_checkpoint_lists_what_its_chain_adds_up_to() {
        let all = chain(101);
        let whole = state::live_files(&all).unwrap();
        let keys: Vec<&str> = whole["t"].iter().map(|f| f.file.key.as_str()).collect();
        assert_eq!((keys.len(), keys[0]), (99, "t/3"));
        assert_eq!(all[99].checkpoint, 100);
        assert_eq!(all[100].checkpoint, 100);
        assert_eq!(state::live_files(&all[99..]).unwrap()["t"].len(), 99);
    }

    #[test]
    fn a_chain_with_a_gap_or_without_its_start_is_no_state() {
        let all = chain(4);
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
