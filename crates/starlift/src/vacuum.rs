//! Vacuum: what dead and superseded runs left in lake and star, listed, and removed where that is asked for.

use std::time::Duration;

use serde::Serialize;
use starlift_core::{Micros, Result};
use starlift_lake::Store;
use starlift_lake::vacuum::{self as garbage, Survey};

use crate::context::{Context, now};

/// What a vacuum is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VacuumRequest {
    /// Remove what is found; otherwise it is listed and nothing more.
    pub delete: bool,
    /// How old garbage has to be, by the time in its key.
    pub older_than: Duration,
}

/// What a vacuum found, and whether it removed that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VacuumReport {
    /// Whether the garbage was removed.
    pub deleted: bool,
    /// The age limit.
    pub older_than_seconds: u64,
    /// Lake and star.
    pub places: Vec<Vacuumed>,
}

/// What was found in a lake or star.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vacuumed {
    /// `lake` or `star`.
    pub name: &'static str,
    /// Where it is.
    pub url: String,
    /// Manifests that were read.
    pub manifests: u64,
    /// What nobody can need, by key.
    pub garbage: Vec<GarbageObject>,
    /// Objects that stay.
    pub kept: Kept,
}

/// One object that nobody can need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GarbageObject {
    /// Its key.
    pub key: String,
    /// `data`, `deleted`, `refused`, `merged`, `index`, `claim` or `staging`.
    pub kind: &'static str,
    /// Its size.
    pub bytes: u64,
}

/// Objects that stay, by the reason why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Manifests, and what they name.
    pub named: u64,
    /// They may belong to a run that is on its way.
    pub running: u64,
    /// Garbage that is not old enough.
    pub young: u64,
    /// Objects that are not starlift's.
    pub foreign: u64,
}

/// Looks through lake and star, and removes what is found where the request says so.
///
/// Both are looked through before anything is removed: what one of them is damaged by stops both. Errors: Data where a
/// manifest is missing or damaged; Config where a place is another pipeline's; Permission where objects may not be deleted.
pub async fn vacuum(ctx: &Context, request: VacuumRequest) -> Result<VacuumReport> {
    let limit = age_limit(now(), request.older_than);
    let stores = [("lake", ctx.lake()?), ("star", ctx.star()?)];
    let mut found: Vec<(&'static str, Store, Survey)> = Vec::new();
    for (name, store) in stores {
        let survey = garbage::survey(&store, &ctx.config.pipeline, limit).await?;
        found.push((name, store, survey));
    }
    if request.delete {
        for (name, store, survey) in &found {
            garbage::remove(store, &survey.garbage).await?;
            let (objects, bytes) = (survey.garbage.len(), survey.garbage.iter().map(|g| g.bytes).sum::<u64>());
            tracing::info!(run_id = ctx.run_id, place = *name, objects, bytes, "vacuum removed what no manifest names");
        }
    }
    Ok(VacuumReport {
        deleted: request.delete,
        older_than_seconds: request.older_than.as_secs(),
        places: found.into_iter().map(|(name, store, survey)| vacuumed(name, &store, survey)).collect(),
    })
}

/// The claimed times before this one are old enough.
fn age_limit(now: Micros, older_than: Duration) -> Micros {
    let micros = i64::try_from(older_than.as_micros()).unwrap_or(i64::MAX);
    Micros(now.0.saturating_sub(micros))
}

fn vacuumed(name: &'static str, store: &Store, survey: Survey) -> Vacuumed {
    let object = |g: garbage::Found| GarbageObject { key: g.key, kind: g.garbage.name(), bytes: g.bytes };
    let garbage::Kept { named, running, young, foreign } = survey.kept;
    Vacuumed {
        name,
        url: store.url().to_string(),
        manifests: survey.manifests,
        garbage: survey.garbage.into_iter().map(object).collect(),
        kept: Kept { named, running, young, foreign },
    }
}
