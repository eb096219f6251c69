//! Bugs that tests plant (`starlift_core::fault`), as far as they need more than a condition. Compiled only where
//! `debug_assertions` are on; without its name in `STARLIFT_PLANTED` each does nothing.

use std::collections::BTreeMap;

use starlift_core::manifest::{Relation, Source};
use starlift_core::xid::Snapshot;
use starlift_core::{Error, Micros, Result, fault, key};
use starlift_lake::{Head, Store};
use starlift_postgres::extract::SourceSession;

const FOLDER: &str = "_planted";

/// Keeps what two of the bugs below know of a run's snapshot, under its seq and under the time in its keys.
pub(crate) async fn remember_snapshot(lake: &Store, session: &SourceSession, seq: u64, at: Micros) -> Result<()> {
    if !fault::planted("not_visible") && !fault::planted("state_from_names") {
        return Ok(());
    }
    let snapshot = value(session, "select pg_current_snapshot()::text").await?;
    for key in [by_seq(seq), by_time(at)] {
        lake.create(&key, snapshot.clone().into()).await?;
    }
    Ok(())
}

/// `not_visible`: the window is what the snapshot of the manifest before could not see, as `pg_visible_in_snapshot` tells
/// it: it does not know the ids of subtransactions.
pub(crate) async fn visible(lake: &Store, seq: u64, filter: String) -> Result<String> {
    if !fault::planted("not_visible") {
        return Ok(filter);
    }
    let before = lake.get(&by_seq(seq - 1)).await?.ok_or_else(|| Error::internal("no snapshot was kept"))?;
    let before = String::from_utf8_lossy(&before);
    Ok(format!("not pg_catalog.pg_visible_in_snapshot(xmin::text::xid8, '{before}')"))
}

/// `one_watermark`: every table's watermark moves, also that of a table which the run did not read.
pub(crate) fn one_watermark(relations: &mut BTreeMap<String, Relation>, source: &Source) {
    if fault::planted("one_watermark") {
        relations.values_mut().filter_map(|r| r.capture.as_mut()).for_each(|capture| capture.watermark = source.xmin);
    }
}

/// `state_from_names`: the state is that of the run whose data file has the newest name, committed or not.
pub(crate) async fn state_from_names(mut head: Head, lake: &Store) -> Result<Head> {
    let Some(newest) = head.chain.last_mut().filter(|_| fault::planted("state_from_names")) else { return Ok(head) };
    let tables: Vec<String> = newest.manifest.relations.keys().cloned().collect();
    let mut times: Vec<i64> = Vec::new();
    for key in lake.list(FOLDER, usize::MAX).await? {
        times.extend(key.strip_prefix(&format!("{FOLDER}/at-")).and_then(|at| at.parse::<i64>().ok()));
    }
    times.sort_unstable();
    for at in times.into_iter().rev().map(Micros) {
        for table in &tables {
            if lake.get(&key::data(table, at, 1)).await?.is_some() {
                let kept = lake.get(&by_time(at)).await?.unwrap_or_default();
                let snapshot = Snapshot::parse(&String::from_utf8_lossy(&kept))
                    .ok_or_else(|| Error::internal("a snapshot was not kept"))?;
                let captures = newest.manifest.relations.values_mut().filter_map(|r| r.capture.as_mut());
                captures.for_each(|capture| capture.watermark = snapshot.xmin);
                return Ok(head);
            }
        }
    }
    Ok(head)
}

fn by_seq(seq: u64) -> String {
    format!("{FOLDER}/seq-{seq}")
}

fn by_time(at: Micros) -> String {
    format!("{FOLDER}/at-{}", at.0)
}

async fn value(session: &SourceSession, sql: &str) -> Result<String> {
    let failed = |e: tokio_postgres::Error| Error::unavailable("a snapshot cannot be kept").with_source(e);
    session.client().query_one(sql, &[]).await.and_then(|row| row.try_get(0)).map_err(failed)
}
