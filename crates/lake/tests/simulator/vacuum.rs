//! Vacuum as the product does it, with an age limit that everything is older than: it may come at any time.

use std::collections::BTreeSet;

use starlift_core::vacuum::Garbage;
use starlift_core::{Micros, Result, key};
use starlift_lake::vacuum::{Found, remove, survey};

use crate::planted::Planted;
use crate::run::{Ended, PIPELINE, Run};

pub(crate) async fn vacuum(run: Run, bucket: usize) -> Result<Ended> {
    let store = run.store(bucket);
    let mut found = survey(&store, PIPELINE, Micros(i64::MAX)).await?.garbage;
    if run.port.planted(Planted::VacuumByAge) || run.port.planted(Planted::VacuumKeepsLive) {
        found = by_another_rule(&run, bucket).await?;
    }
    run.port.note(|| format!("removes {} objects", found.len()));
    if found.is_empty() {
        return Ok(Ended::Nothing);
    }
    remove(&store, &found).await?;
    Ok(Ended::Vacuumed)
}

/// For planted bugs: whatever is not live as of the newest manifest, or whatever no manifest names yet.
async fn by_another_rule(run: &Run, bucket: usize) -> Result<Vec<Found>> {
    let head = run.head(bucket).await?;
    let named = head.chain.iter().flat_map(|s| s.manifest.relations.keys().flat_map(|n| s.manifest.files_of(n)));
    let live = head.live.values().flatten().cloned();
    let keeps_live = run.port.planted(Planted::VacuumKeepsLive);
    let stays: BTreeSet<String> =
        if keeps_live { live.map(|f| f.file.key).collect() } else { named.map(|f| f.file.key).collect() };
    let listed = run.store(bucket).list("", 1_000).await?;
    let is_data = |key: &String| key::parse(key).is_some_and(|(kind, _)| kind != key::Kind::Claim);
    let gone = listed.into_iter().filter(|key| is_data(key) && !stays.contains(key));
    Ok(gone.map(|key| Found { key, garbage: Garbage::Data, bytes: 0 }).collect())
}
