//! History: the runs that committed, newest first, from the manifests of lake and star and the ledger of the warehouse.

use futures::TryStreamExt;
use serde::Serialize;
use starlift_core::manifest::Manifest;
use starlift_core::{Micros, Result};
use starlift_lake::{Store, manifests};
use starlift_postgres::load as ledger;

use crate::config::Side;
use crate::context::Context;
use crate::report::RelationReport;
use crate::{ingest, load, secrets, transform, upkeep};

/// One committed run of one stage.
#[derive(Debug, Clone, Serialize)]
pub struct HistoryEntry {
    /// `ingest`, `transform`, `load`, or `compact` for a manifest of lake or star that changed nothing.
    pub stage: &'static str,
    /// Where the manifest is: `lake` or `star`; for load `warehouse`.
    pub place: &'static str,
    /// The manifest's seq; for load the star's seq; of compactions the newest one's.
    pub seq: u64,
    /// The run.
    pub run_id: String,
    /// When it started.
    pub started: Micros,
    /// Time that it took, in milliseconds.
    pub millis: u64,
    /// Rows that came in.
    pub rows_read: u64,
    /// Bytes that came in.
    pub bytes_read: u64,
    /// Rows that were written.
    pub rows_written: u64,
    /// Tombstones or retractions.
    pub rows_deleted: u64,
    /// Files that were written.
    pub files: u64,
    /// Bytes that were written.
    pub bytes_written: u64,
    /// Each table or model that the run touched.
    pub relations: Vec<RelationReport>,
}

/// The newest runs of each stage, at most `limit` of each, newest first. Compactions among them do not count, and those that
/// follow one another are one entry: `lake compact` makes a manifest for each table. A stage whose store or database is away is
/// left out with a line in the second value.
pub async fn history(ctx: &Context, limit: usize) -> Result<(Vec<HistoryEntry>, Vec<String>)> {
    let mut entries = Vec::new();
    let mut notes = Vec::new();
    for (stage, store) in [(ingest::STAGE, ctx.lake()?), (transform::STAGE, ctx.star()?)] {
        entries.extend(runs(&store, stage, limit).await?);
    }
    match loads(ctx, limit).await {
        Ok(loads) => entries.extend(loads),
        Err(error) => notes.push(format!("loads are not listed: {}", secrets::message(&error))),
    }
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.started));
    Ok((entries, notes))
}

/// The newest runs of a store. No manifest is kept: there may be very many compactions between two runs.
async fn runs(store: &Store, stage: &'static str, limit: usize) -> Result<Vec<HistoryEntry>> {
    let mut found: Vec<HistoryEntry> = Vec::new();
    let Some(newest) = manifests::newest(store).await? else { return Ok(found) };
    let mut older = manifests::back_from(store, &newest, 1, usize::MAX);
    let mut runs = 0;
    while runs < limit
        && let Some(stored) = older.try_next().await?
    {
        let entry = of_manifest(stage, &stored.manifest);
        runs += usize::from(entry.stage != upkeep::NAME);
        add(&mut found, entry);
    }
    Ok(found)
}

/// Adds the next older entry of the same place; one more compaction of several is no entry of its own.
fn add(found: &mut Vec<HistoryEntry>, older: HistoryEntry) {
    match found.last_mut() {
        Some(newer) if newer.stage == upkeep::NAME && older.stage == upkeep::NAME => {
            newer.started = newer.started.min(older.started);
            newer.millis = newer.millis.saturating_add(older.millis);
        }
        _ => found.push(older),
    }
}

fn of_manifest(stage: &'static str, manifest: &Manifest) -> HistoryEntry {
    let relations = RelationReport::all_of(manifest);
    let place = if stage == ingest::STAGE { "lake" } else { "star" };
    let stage = if manifest.compaction { upkeep::NAME } else { stage };
    entry((stage, place), manifest.seq, &manifest.run_id, manifest.started, manifest.finished, relations)
}

fn entry(
    (stage, place): (&'static str, &'static str),
    seq: u64,
    run_id: &str,
    started: Micros,
    finished: Micros,
    relations: Vec<RelationReport>,
) -> HistoryEntry {
    let sum = |field: fn(&RelationReport) -> u64| relations.iter().map(field).sum();
    HistoryEntry {
        stage,
        place,
        seq,
        run_id: run_id.to_string(),
        started,
        millis: finished.millis_since(started),
        rows_read: sum(|r| r.rows_read),
        bytes_read: sum(|r| r.bytes_read),
        rows_written: sum(|r| r.rows_written),
        rows_deleted: sum(|r| r.rows_deleted),
        files: sum(|r| r.files),
        bytes_written: sum(|r| r.bytes_written),
        relations,
    }
}

async fn loads(ctx: &Context, limit: usize) -> Result<Vec<HistoryEntry>> {
    let connection = ctx.connect(Side::Warehouse).await?;
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    let rows = ledger::entries(connection.client(), &ctx.config.pipeline, limit).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let relations = relations(&row.rows);
            entry(
                (load::STAGE, "warehouse"),
                row.seq,
                &row.run_id,
                row.started_at.unwrap_or(row.loaded_at),
                row.loaded_at,
                relations,
            )
        })
        .collect())
}

/// The counts by model as the ledger keeps them.
fn relations(rows: &serde_json::Value) -> Vec<RelationReport> {
    let models = rows.get("models").and_then(|m| m.as_object());
    models.into_iter().flatten().map(|(name, counts)| relation(name, counts)).collect()
}

fn relation(name: &str, counts: &serde_json::Value) -> RelationReport {
    let count = |key: &str| counts.get(key).and_then(|v| v.as_u64()).unwrap_or(0);
    RelationReport {
        name: name.to_string(),
        mode: load::STAGE.into(),
        rows_read: count("staged"),
        rows_written: count("inserted") + count("updated"),
        rows_deleted: count("retracted"),
        ..RelationReport::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compactions_that_follow_one_another_are_one_entry() {
        let of = |stage, seq, at| entry((stage, "lake"), seq, "r", Micros(at), Micros(at + 2_000), Vec::new());
        let mut found = Vec::new();
        for older in
            [of("compact", 9, 90), of("compact", 8, 80), of("ingest", 7, 70), of("ingest", 6, 60), of("compact", 5, 50)]
        {
            add(&mut found, older);
        }
        let shown: Vec<_> = found.iter().map(|e| (e.stage, e.seq, e.started.0, e.millis)).collect();
        assert_eq!(shown, [("compact", 9, 80, 4), ("ingest", 7, 70, 2), ("ingest", 6, 60, 2), ("compact", 5, 50, 2)]);
    }
}
