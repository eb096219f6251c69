//! What a load does about rows that the warehouse refuses: those whose dimension row is away, and the entries of all of
//! them. Those that only the server refuses are found in `halving`.

use std::collections::{BTreeMap, BTreeSet};

use starlift_core::Result;
use tokio_postgres::Client;

use super::aside::{may_stand_aside, too_many};
use super::check;
use super::pair::Pair;
use super::reference;
use super::stage::Stage;
use super::standing::Standing;
use super::transaction::{Staged, Work};

/// What stands aside, before a load and by now.
#[derive(Debug)]
pub(crate) struct Refusals {
    /// What stood aside when the load began.
    pub(crate) standing: Standing,
    /// Models that set rows aside in this load.
    models: BTreeSet<String>,
    /// By model, where the keys are that stand aside since this load.
    newly: BTreeMap<String, String>,
    /// Rows that were set aside and count against the limit.
    pub(crate) counted: u64,
}

impl Refusals {
    /// Before a load.
    pub(crate) async fn read(client: &Client, pipeline: &str) -> Result<Refusals> {
        let standing = Standing::read(client, pipeline).await?;
        Ok(Refusals { standing, models: BTreeSet::new(), newly: BTreeMap::new(), counted: 0 })
    }

    /// Whether rows of a model may stand aside.
    pub(crate) fn may_hold(&self, model: &str) -> bool {
        self.standing.may_hold(model) || self.models.contains(model) || self.newly.contains_key(model)
    }
}

impl Work<'_, '_> {
    /// Sets rows aside whose dimension row stands aside, or is nowhere. Where a model refers to itself, until no more of its
    /// rows wait.
    pub(crate) async fn check_references(
        &self,
        client: &Client,
        model: &mut Staged<'_>,
        stage: &Stage,
        refusals: &mut Refusals,
    ) -> Result<()> {
        let pair = model.pair;
        let refers_to_itself = model.references.iter().any(|r| r.to.model.name == pair.model.name);
        loop {
            let may_hold = |name: &str| refusals.may_hold(name);
            let checks = reference::checks(pair, &model.references, &self.run.pipeline, stage, may_hold);
            if !reference::any(client, pair, stage, &checks).await? {
                return Ok(());
            }
            if !may_stand_aside(pair) {
                return check::refuse(client, pair, stage, &checks).await;
            }
            let keep_values = self.run.aside.keep_values;
            model.taken += model.aside.take(client, pair, stage, &checks, keep_values).await?;
            self.set_aside(client, model, refusals).await?;
            if !refers_to_itself {
                return Ok(());
            }
        }
    }

    /// Makes entries of the rows that a model has set aside since the last time, as far as no later manifest has them.
    ///
    /// # Errors
    /// Data where they are more than may be set aside.
    pub(crate) async fn set_aside(
        &self,
        client: &Client,
        model: &mut Staged<'_>,
        refusals: &mut Refusals,
    ) -> Result<()> {
        let pair = model.pair;
        let name = &pair.model.name;
        model.report.passed_over += model.aside.pass_over(client, pair, self.look_ahead, self.encoding).await?;
        let new = model.aside.new_rows(client, pair, &self.run.pipeline).await?;
        refusals.models.insert(name.clone());
        if !self.run.aside.accepted.contains(name) {
            refusals.counted = refusals.counted.saturating_add(new.rows());
            if refusals.counted > self.run.aside.rows {
                return Err(too_many(pair, &new));
            }
        }
        for group in new.groups() {
            model.report.refused.add(group.clone());
        }
        model.report.retracted += model.aside.record(client, pair, self.run).await?;
        Ok(())
    }

    /// Brings the entries of a model up to date once its rows are in: rows that are in, or gone, stand aside no longer; rows
    /// of the warehouse that refer to one which stands aside since this load do.
    pub(crate) async fn settle(&self, client: &Client, model: &mut Staged<'_>, refusals: &mut Refusals) -> Result<()> {
        let pair: Pair<'_> = model.pair;
        let is_whole = self.purpose.brings_state_of(&pair.model.name);
        let (stage, gone) = (model.upserts.as_ref(), model.retractions.as_ref());
        let whole = is_whole.then_some(&model.aside);
        refusals.standing.remove(client, pair, &self.run.pipeline, stage, gone, whole).await?;
        // A whole state has been looked at row by row.
        for reference in reference::to_dimensions(pair, &model.references).filter(|_| !is_whole) {
            let to = &reference.to.model.name;
            let (Some(keys), Some(entry)) = (refusals.newly.get(to), reference.entry(pair, "v", true)) else {
                continue;
            };
            let why = (reference.column, to.as_str(), keys.as_str());
            model.report.retracted += model.aside.pull(client, pair, why, &entry, gone, self.run).await?;
        }
        if model.aside.has_newly {
            refusals.newly.insert(pair.model.name.clone(), model.aside.newly().to_string());
        }
        Ok(())
    }
}
