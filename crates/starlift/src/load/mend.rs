//! Mending: the rows of some models in the warehouse are made what the star says that they are, as of the manifest that
//! the ledger names. For rows that something else changed, removed or added there.
//!
//! It is adoption, narrowed to these models: rows that differ are upserted, versions of a fact that differ from the newest
//! stored one are appended, keys that the star does not have are retracted, and nothing is deleted. The ledger's head
//! stays where it is, so that load goes on from there. Mending twice, or dying half way, does no harm.

use std::collections::BTreeSet;

use starlift_core::{Error, Result};
use starlift_lake::{Head, Store};
use starlift_postgres::load::{self as warehouse, LoadOutcome, LoadRun};
use starlift_postgres::sqlstate::retry_of;

use super::retry::Failures;
use super::star::{self, Brings};
use super::{STAGE, connect, order, plan, relation_report, run_of, unknown};
use crate::context::Context;
use crate::quarantine::Allowance;
use crate::report::RelationReport;

/// Mends these models; those that the ledger's manifest does not have are left to load. Returns what was done to each.
///
/// Errors: those of load; Data for a dimension that holds a key twice, which nothing but a delete can mend.
pub(crate) async fn mend(ctx: &Context, models: &BTreeSet<String>) -> Result<Vec<RelationReport>> {
    let star = ctx.star()?;
    let mut failures = Failures::default();
    loop {
        match once(ctx, &star, models).await {
            Ok(reports) => return Ok(reports),
            Err(error) => match failures.wait(retry_of(&error), &ctx.run_id) {
                Some(wait) => {
                    let attempt = failures.count();
                    tracing::warn!(stage = STAGE, run_id = ctx.run_id, attempt, "mending is tried again: {error}");
                    tokio::time::sleep(wait).await;
                }
                None => return Err(error),
            },
        }
    }
}

async fn once(ctx: &Context, star: &Store, models: &BTreeSet<String>) -> Result<Vec<RelationReport>> {
    let newest = Head::read(star, &ctx.config.pipeline).await?;
    let Some(id) = newest.manifest().map(|m| m.id.clone()) else { return Ok(Vec::new()) };
    let mut connection = connect(ctx).await?;
    // A warehouse that holds nothing of this star is adopted by the next load, as a whole.
    let Some(ledger) = warehouse::head(connection.client(), &ctx.config.pipeline, &id).await? else {
        return Ok(Vec::new());
    };
    plan(star, newest.newest(), Some(&ledger), false).await?;
    let head = Head::at(star, &ctx.config.pipeline, ledger.seq).await?;
    let Some(stored) = head.newest() else { return Ok(Vec::new()) };

    let names = order::load_order(&stored.manifest)?;
    let mended: BTreeSet<String> = models.iter().filter(|name| names.contains(name)).cloned().collect();
    if mended.is_empty() {
        return Ok(Vec::new());
    }
    let loads = star::model_loads(ctx, star, &stored.manifest, &names, Brings::StateOf(&mended, &head.live))?;
    let later = star::later(star, &loads, ledger.seq, newest.manifest().map_or(ledger.seq, |m| m.seq));
    let aside = Allowance::of(ctx).of_load(ctx, &stored.manifest, false);
    let run = LoadRun { aside, ..run_of(ctx, stored, Some(ledger)) };
    match warehouse::mend(connection.client_mut(), &run, &mended, loads, &later).await? {
        LoadOutcome::Loaded(report) => {
            let of_mended = report.models.iter().filter(|m| mended.contains(&m.model));
            Ok(of_mended.map(|m| relation_report(m, "mend")).collect())
        }
        LoadOutcome::AlreadyLoaded | LoadOutcome::Moved { .. } => {
            Err(Error::unavailable("another load moved the ledger of the warehouse").with_hint("run again"))
        }
        LoadOutcome::Unknown { error, .. } => Err(unknown(&stored.manifest, error)),
    }
}
