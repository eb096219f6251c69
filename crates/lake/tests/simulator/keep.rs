//! Upkeep and compaction as the product does them (`starlift/src/upkeep.rs`, `lake/src/compact.rs`): what is due, what takes the
//! place of what, and how it is committed are the product's; of plain files the merging itself is done here.

use std::collections::{BTreeMap, BTreeSet};

use futures::FutureExt;
use starlift_core::index::{self, Extent, Upkeep};
use starlift_core::manifest::{FileMode, LiveFile, Relation};
use starlift_core::state::LiveFiles;
use starlift_core::{Micros, Result, key};
use starlift_lake::compact::{Labels, Task, compact_by};
use starlift_lake::upkeep::Done;

use crate::files::{self, Format};
use crate::planted::Planted;
use crate::record::Reported;
use crate::run::{Ended, PIPELINE, Run};
use crate::tables::Rows;

/// The live files of what a run changed, where there was something to do. What cannot be done is left to a later run.
pub(crate) async fn of_run(
    run: &Run,
    bucket: usize,
    live_before: &BTreeMap<String, LiveFiles>,
    (seq, at): (u64, Micros),
    relations: &BTreeMap<String, Relation>,
) -> BTreeMap<String, LiveFiles> {
    let mut upkept = BTreeMap::new();
    // A list that is wrong already is not to be made right.
    if !run.port.with(|w| w.settings.keeps) || run.port.planted(Planted::BaseIgnored) {
        return upkept;
    }
    let changed = relations.iter().filter(|(_, relation)| relation.last_change == seq && relation.base != seq);
    for (name, relation) in changed {
        let mut live = live_before.get(name).cloned().unwrap_or_default();
        let written = relation.run.iter().flat_map(|run| run.all_files());
        live.extend(written.map(|file| LiveFile::new(seq, file.clone())));
        let (schema, extent) = (relation.schema.clone(), Extent::of_run(seq - 1));
        let task = Task { name: name.clone(), at, schema, live, extent };
        match upkeep(run.clone(), bucket, task).await {
            Ok(done) => upkept.extend(done.map(|done| (name.clone(), done.live))),
            Err(error) => run.port.note(|| format!("{name} is not looked after: {error}")),
        }
    }
    upkept
}

/// A compaction of a lake or star.
pub(crate) async fn compact(run: Run, bucket: usize) -> Result<Ended> {
    let mut settled = u64::MAX;
    if bucket == run.lake {
        let star = run.head(run.star).await?;
        settled = star.manifest().and_then(|manifest| manifest.covers_upto()).unwrap_or(u64::MAX);
    }
    let labels = || {
        run.port.with(|w| Labels {
            owner: w.new_id(),
            run_id: w.new_id(),
            write_id: w.new_id(),
            version: "simulated".into(),
            started: w.now(),
        })
    };
    let work = |task| upkeep(run.clone(), bucket, task).boxed();
    let done = compact_by(&run.store(bucket), PIPELINE, settled, labels, || run.port.with(|w| w.now()), work).await?;
    let mut ended = if done.superseded.is_empty() { Ended::Nothing } else { Ended::Superseded };
    for compacted in done.committed {
        let (seq, write_id) = (compacted.stored.seq(), compacted.stored.manifest.write_id.clone());
        let sha256 = compacted.stored.sha256;
        run.port.note(|| format!("compacts {} with manifest {seq}", compacted.name));
        run.port.with(|w| w.record.reported.push(Reported { bucket, seq, write_id, sha256 }));
        ended = Ended::Committed(seq);
    }
    Ok(ended)
}

async fn upkeep(run: Run, bucket: usize, task: Task) -> Result<Option<Done>> {
    let Task { name, at, schema, live, extent } = task;
    if run.format == Format::Parquet {
        let done = starlift_lake::upkeep(&run.store(bucket), (&name, at), &schema, &live, extent).await?;
        if let Some(done) = &done {
            run.port.note(|| format!("merges {} files of {name}, lists {} entries", done.merged, done.indexed));
        }
        return Ok(done);
    }
    let due = if schema.key.is_empty() { Vec::new() } else { index::due(&live, extent) };
    let Some(Upkeep::Merge(unit)) = due.into_iter().next() else { return Ok(None) };
    let is_oldest = index::units(&live).last().is_some_and(|oldest| oldest.from >= unit.from);
    let mut files = unit.files.clone();
    if run.port.planted(Planted::MergedKeepsOldest) {
        files.reverse();
    }
    let (mut settled, mut rows, mut gone) = (BTreeSet::new(), Rows::new(), Rows::new());
    for file in files {
        let is_deleted = file.file.mode == FileMode::Deleted;
        for row in files::rows(&run, bucket, &schema, file).await? {
            if settled.insert(row[0]) {
                if is_deleted { gone.push(row) } else { rows.push(row) }
            }
        }
    }
    if is_oldest {
        gone.clear();
    }
    let rows_mode = if is_oldest { FileMode::Full } else { FileMode::Window };
    let mut merged = LiveFiles::new();
    for (number, mode, some) in [(1, rows_mode, rows), (2, FileMode::Deleted, gone)] {
        if !some.is_empty() {
            let file = files::write_plain(&run, bucket, key::merged(&name, at, number), mode, &some).await?;
            merged.push(LiveFile { from: Some(unit.from), ..LiveFile::new(unit.upto, file) });
        }
    }
    run.port.note(|| format!("merges {} files of {name}, seqs {} to {}", unit.files.len(), unit.from, unit.upto));
    let (count, into) = (unit.files.len() as u64, merged.len() as u64);
    Ok(Some(Done { live: index::replaced(&live, &unit, merged), merged: count, into, indexed: 0 }))
}
