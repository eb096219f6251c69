//! Vacuum: finds and removes what dead and superseded runs left. What that is, and why it is safe, is told in
//! [`starlift_core::vacuum`].
//!
//! The newest manifest is read first, and nothing that is later than it is judged to be garbage: so a run that commits
//! while vacuum looks loses nothing. A vacuum that dies has removed some garbage and not the rest; two at once remove the
//! same.
//!
//! Memory: about 20 bytes for each file that a manifest names, and what is garbage. Every manifest is read, 16 at once.

use futures::TryStreamExt;
use starlift_core::vacuum::{Garbage, Known, Verdict};
use starlift_core::{Error, Micros, Result};

use crate::head::check_pipeline;
use crate::manifests;
use crate::store::Store;

/// One object that nobody can need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its key.
    pub key: String,
    /// What it is.
    pub garbage: Garbage,
    /// Its size.
    pub bytes: u64,
}

/// What a look at a store found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Manifests of the chain.
    pub manifests: u64,
    /// What may be removed, by key.
    pub garbage: Vec<Found>,
    /// Objects that stay.
    pub kept: Kept,
}

/// Objects that stay, by the reason why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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

/// Looks through a whole store for garbage whose claimed time is before `limit`. Writes nothing.
///
/// Errors: Config where the store is another pipeline's; Data where a manifest is missing or damaged, because what it
/// names is not known then; those of [`Store::list`] and [`Store::get`].
pub async fn survey(store: &Store, pipeline: &str, limit: Micros) -> Result<Survey> {
    let (mut survey, mut known) = (Survey::default(), Known::default());
    if let Some(newest) = manifests::newest(store).await? {
        check_pipeline(store, &newest.manifest, pipeline)?;
        let mut chain = manifests::back_from(store, &newest, 1, usize::MAX);
        while let Some(stored) = chain.try_next().await? {
            known.add(&stored.manifest);
            survey.manifests += 1;
        }
    }
    let mut objects = store.walk().await?;
    while let Some(object) = objects.try_next().await? {
        let kept = match known.judge(&object.key, limit) {
            Verdict::Garbage(garbage) => {
                survey.garbage.push(Found { key: object.key, garbage, bytes: object.bytes });
                continue;
            }
            Verdict::Named => &mut survey.kept.named,
            Verdict::Running => &mut survey.kept.running,
            Verdict::Young => &mut survey.kept.young,
            Verdict::Foreign => &mut survey.kept.foreign,
        };
        *kept += 1;
    }
    survey.garbage.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(survey)
}

/// Removes what a [`survey`] of the same store found, however long ago: garbage stays garbage.
///
/// Errors: Permission where objects may not be deleted; Unavailable. Some may be removed then; running again goes on.
pub async fn remove(store: &Store, garbage: &[Found]) -> Result<()> {
    let keys = garbage.iter().map(|found| found.key.clone()).collect();
    store.remove(keys).await.map_err(|e: Error| e.with_context("place", store.url()))
}
