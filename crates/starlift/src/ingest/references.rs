//! Tables that a run did not read completely, and whose rows another table refers to.
//!
//! A row that a run brings may refer to a row which is in the source and which no stamp has shown, or whose table is not
//! read by every run. Then that table is read completely in the same run, at the same snapshot, so that the row has what it
//! refers to. What refers to what, say the foreign keys of the source and, where it has none, the tests `relationships` of the
//! models (`starlift_core::model::source_references`).
//!
//! Memory: 16 bytes for each key that is referred to.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use arrow::array::{Array, ArrayRef};
use arrow::compute::cast;
use futures::TryStreamExt;
use starlift_core::capture::PassReason;
use starlift_core::manifest::{LiveFile, Relation};
use starlift_core::model::source_references;
use starlift_core::{Result, TableSchema};
use starlift_lake::{Digests, KeyDigest, State};
use starlift_postgres::catalog::ForeignKey;
use starlift_postgres::extract::SourceSession;

use super::STAGE;
use super::table::{Done, Task};

/// With more rows than these on the way, a table that they refer to is read completely, and not asked for each of them.
const FEW_ROWS: u64 = 1_000_000;

/// Reads the tables completely that rows of this run refer to in vain, of those whose turn it was: one that is being read in
/// chunks is not among them until the pass that closes it.
///
/// Errors: those of reading a table.
pub(super) async fn complete(
    task: &Task<'_>,
    session: &SourceSession,
    read: &[String],
    relations: &mut BTreeMap<String, Relation>,
    done: &mut Done,
) -> Result<()> {
    let tables: BTreeSet<String> = read.iter().cloned().collect();
    if tables.is_subset(&done.complete) {
        return Ok(());
    }
    let schemas = relations.iter().map(|(name, relation)| (name.clone(), relation.schema.clone())).collect();
    let by_models = source_references(&task.ctx.project.graph, &schemas);
    let mut fresh = tables.clone();
    while !fresh.is_empty() {
        let mut lacking: BTreeMap<String, String> = BTreeMap::new();
        for name in &fresh {
            let keys = task.selection.table(name)?.foreign_keys.iter().cloned();
            let tested = by_models.get(name).into_iter().flatten().map(|(column, table, key)| ForeignKey {
                table: table.clone(),
                columns: vec![column.clone()],
                key: vec![key.clone()],
            });
            let all: BTreeSet<ForeignKey> = keys.chain(tested).collect();
            for key in all.iter().filter(|key| tables.contains(&key.table) && !done.complete.contains(&key.table)) {
                if !lacking.contains_key(&key.table) && lacks(task, relations, name, key).await? {
                    lacking.insert(key.table.clone(), name.clone());
                }
            }
        }
        fresh = BTreeSet::new();
        for (name, by) in lacking {
            tracing::info!(
                stage = STAGE,
                run_id = task.ctx.run_id,
                table = name,
                "rows of {by} refer to rows of it that the lake does not have: it is read completely"
            );
            if let Some(refused) = done.refused.remove(&name) {
                task.allowance.give_back(&name, &refused);
            }
            let read = task.turn(session, &name, Some(PassReason::Referred)).await;
            done.take(&name, read.map_err(|e| e.with_context("table", name.clone()))?, relations);
            fresh.insert(name);
        }
    }
    Ok(())
}

/// Whether rows of `name` that this run has written refer to keys that the lake does not have of the other table.
async fn lacks(task: &Task<'_>, relations: &BTreeMap<String, Relation>, name: &str, key: &ForeignKey) -> Result<bool> {
    let (Some(from), Some(to)) = (relations.get(name), relations.get(&key.table)) else { return Ok(false) };
    let Some(written) = from.run.as_ref().map(|run| &run.files).filter(|files| !files.is_empty()) else {
        return Ok(false);
    };
    let Some(positions) = positions(&from.schema, &to.schema, key) else { return Ok(false) };
    if written.iter().map(|file| file.rows).sum::<u64>() > FEW_ROWS {
        return Ok(true);
    }
    let live = |file: &starlift_core::manifest::DataFile| LiveFile::new(task.seq, file.clone());
    let rows = State::new(task.lake, from.schema.clone(), written.iter().map(live).collect())?;
    let digests = Digests::new(&to.schema)?;
    let types: Vec<_> = to.schema.key_columns().map(|column| column.column_type.to_arrow()).collect();
    let mut wanted: HashSet<KeyDigest> = HashSet::new();
    let mut batches = rows.scan(Some(positions));
    while let Some(batch) = batches.try_next().await? {
        let columns = batch.columns().iter().zip(&types).map(|(column, key)| cast(column, key));
        // Types that do not go together refer to nothing.
        let Ok(columns) = columns.collect::<Result<Vec<ArrayRef>, _>>() else { return Ok(false) };
        let keys = digests.keys_of_columns(&columns)?;
        let is_whole = |row: &usize| columns.iter().all(|column| column.is_valid(*row));
        wanted.extend(keys.iter().enumerate().filter(|(row, _)| is_whole(row)).map(|(_, key)| *key));
    }
    let ours = to.run.as_ref().into_iter().flat_map(|run| run.all_files()).map(live);
    let files = task.head.live_of(&key.table).into_iter().chain(ours).collect();
    let found = State::new(task.lake, to.schema.clone(), files)?.find(&wanted).await?;
    Ok(found.len() < wanted.len())
}

/// Where the columns are in which a table refers to the key of another, in the order of that key; none where it refers to other
/// columns than the key by which the lake knows the rows.
fn positions(from: &TableSchema, to: &TableSchema, key: &ForeignKey) -> Option<Vec<usize>> {
    let position = |part: &String| {
        let number = key.key.iter().position(|column| column == part)?;
        let column = key.columns.get(number)?;
        from.columns.iter().position(|known| known.name == *column)
    };
    (key.key.len() == to.key.len()).then(|| to.key.iter().map(position).collect()).flatten()
}
