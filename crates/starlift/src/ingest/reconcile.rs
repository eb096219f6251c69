//! Key reconcile: where count and state disagree, the keys of the source are compared with the keys of the lake, in both
//! directions. Keys that are gone become tombstones; keys that no window showed (the lake lost them) are fetched. A key that is there
//! twice on one of the sides is an error that says so (`doubled.rs`).

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use futures::TryStreamExt;
use starlift_core::manifest::DataFile;
use starlift_core::{Error, Result, fault};
use starlift_lake::{Digests, Gone, KeyDigest, Keys, Mark, RowDigest, State};
use starlift_postgres::catalog::SourceTable;
use starlift_postgres::extract::SourceSession;

use super::doubled;
use super::incoming::{Came, Incoming};
use super::sink::Sink;
use super::table::Task;

/// What the reconcile found.
pub(super) struct Found {
    /// Keys of the state before that the source has: counted, not taken from the manifest before, so that a state which
    /// does not hold what its manifest says is mended here too.
    pub(super) kept: u64,
    /// The tombstones of the keys that are gone.
    pub(super) tombstones: Vec<DataFile>,
    /// Rows that were fetched because the lake did not know their key.
    pub(super) fetched: u64,
    /// Bytes that came from the source.
    pub(super) bytes_read: u64,
}

/// Compares the keys. `came` are those of this run's window; fetched rows go to `sink`.
///
/// Errors: Data where a key is there twice in the source or in the state, which has `rows_before` by its manifest.
pub(super) async fn reconcile(
    task: &Task<'_>,
    session: &SourceSession,
    table: &SourceTable,
    (state, rows_before): (&State, u64),
    came: &mut Keys,
    sink: &mut Sink,
) -> Result<Found> {
    let digests = Digests::new(&table.schema)?;
    // Keys alone: with which rows they come was for the window to compare.
    let mut known = Keys::empty(task.lake.spill());
    let mut stored = state.key_digests();
    while let Some(keys) = stored.try_next().await? {
        keys.into_iter().try_for_each(|key| known.add_before(key, RowDigest([0; 16])))?;
    }
    drop(stored);
    known.complete()?;
    let mut known = doubled::sound(table, known)?;

    // What is in no state: either this window brought it, or nobody has seen it.
    let mut unknown = Keys::empty(task.lake.spill());
    let mut keys = session.copy_keys(table).await?;
    while let Some(batch) = keys.try_next().await? {
        for (row, key) in digests.keys_of_key_batch(&batch)?.into_iter().enumerate() {
            let is_first = match known.meet(&key)? {
                Some((_, mark)) => mark == Mark::Unseen,
                None => came.is_new(&key)? || unknown.insert(key)?,
            };
            if !is_first {
                return Err(doubled::in_source(table, &batch, &(0..batch.num_columns()).collect::<Vec<_>>(), row));
            }
        }
    }
    let mut bytes_read = keys.finish(&table.name)?;
    drop(keys);
    fault::point("ingest.keys_compared");
    doubled::whole(table, known.len() + unknown.len(), rows_before)?;
    let kept = known.seen();
    let mut gone = Gone::of(known)?;
    sink.quarantine.gone(&mut gone)?;
    let tombstones = task.tombstones(table, state, gone).await?;

    let mut fetched = 0;
    if !unknown.is_empty() {
        let mut rows = Incoming::whole(task, session, table).await?;
        let mut wanted = |batch: &RecordBatch, keys: Vec<KeyDigest>| {
            let wanted: Vec<bool> = keys.iter().map(|key| unknown.contains(key)).collect::<Result<_>>()?;
            filter_record_batch(batch, &BooleanArray::from(wanted))
                .map_err(|e| Error::internal("rows cannot be filtered").with_source(e))
        };
        while let Some(came) = rows.next(task, table).await? {
            let good = wanted(&came.good, digests.keys(&came.good)?)?;
            let refused = match &came.refused {
                Some(refused) => Some(wanted(refused, digests.keys_of_refused(refused)?)?),
                None => None,
            };
            fetched += Came { good: good.clone(), refused: refused.clone() }.rows();
            sink.write(&good, refused.as_ref()).await?;
        }
        bytes_read += sink.ended(rows.finish(table)?);
    }
    Ok(Found { kept, tombstones, fetched, bytes_read })
}
