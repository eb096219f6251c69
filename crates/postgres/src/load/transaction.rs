//! The order of a load's writes inside its transaction.

use starlift_core::model::ModelKind;
use starlift_core::{Result, fault};
use tokio_postgres::{Client, Transaction};

use super::aside::{Aside, may_stand_aside};
use super::direct::{Copied, Direct};
use super::encoding::{Encoding, Unsent};
use super::isolate::{Attempt, Write, attempt, attempt_by_set};
use super::model::{LoadReport, LoadRun, LookAhead, ModelLoad, ModelReport};
use super::pair::Pair;
use super::purpose::Purpose;
use super::reference::{Reference, calendar_columns, references};
use super::refused::refused_counts;
use super::refusing::Refusals;
use super::session::{keep, mark, take_back};
use super::set_wise::{self, Parts};
use super::stage::Stage;
use super::{calendar, check, dimension, fact, record_id, reference, retraction, skipped, statistics};

/// A model on its way: its rows are staged, and its report grows.
pub(crate) struct Staged<'a> {
    pub(crate) pair: Pair<'a>,
    pub(crate) references: Vec<Reference<'a>>,
    dates: Vec<String>,
    pub(crate) upserts: Option<Stage>,
    pub(crate) retractions: Option<Stage>,
    pub(crate) aside: Aside,
    /// The table that its rows were copied into, which is then their stage as well.
    direct: Option<Direct>,
    position: usize,
    /// Whether the table had no row before.
    was_empty: bool,
    /// Rows that left the stage: they are set aside, or passed over.
    pub(crate) taken: u64,
    pub(crate) report: ModelReport,
}

/// What every part of a load's transaction needs.
pub(crate) struct Work<'w, 'l> {
    /// The manifest.
    pub(crate) run: &'w LoadRun,
    /// What it is written for.
    pub(crate) purpose: Purpose<'w>,
    /// What later manifests bring.
    pub(crate) look_ahead: &'w LookAhead<'l>,
    /// The encoding of the warehouse, where it does not have every character.
    pub(crate) encoding: Option<&'w Encoding>,
}

impl Work<'_, '_> {
    /// Stages and checks every model, then writes: calendar, dimensions, facts, retractions. The pairs are in load order;
    /// facts come after everything else whatever their place.
    pub(crate) async fn write(
        &self,
        transaction: &mut Transaction<'_>,
        pairs: &[Pair<'_>],
        loads: Vec<ModelLoad<'_>>,
    ) -> Result<LoadReport> {
        let mut refusals = Refusals::read(transaction.client(), &self.run.pipeline).await?;
        refusals.standing.forget_others(transaction.client(), &self.run.pipeline, pairs).await?;
        let mut models = Vec::with_capacity(pairs.len());
        for (position, load) in loads.into_iter().enumerate() {
            if let Some(model) = self.stage(transaction, pairs, position, load, &mut refusals).await? {
                models.push(model);
            }
            fault::point("load.model_staged");
        }

        let mut report = LoadReport::default();
        for model in models.iter_mut().filter(|m| m.pair.model.kind == ModelKind::Calendar) {
            self.upsert(transaction, model, &mut refusals).await?;
        }
        for model in models.iter().filter(|m| m.pair.model.kind == ModelKind::Calendar) {
            let refers = |m: &Staged<'_>, column: &str| {
                m.references.iter().any(|r| r.column == column && r.to.model.name == model.pair.model.name)
            };
            let mut dates: Vec<(&Stage, String)> = Vec::new();
            for other in &models {
                if let Some(stage) = &other.upserts {
                    dates.extend(other.dates.iter().filter(|c| refers(other, c)).map(|c| (stage, c.clone())));
                }
            }
            report.dates_added += calendar::extend(transaction.client(), model.pair, &dates).await?;
            if self.is_mended(model.pair) {
                report.dates_added += calendar::mend(transaction.client(), model.pair).await?;
            }
            fault::point("load.calendar_written");
        }
        for model in models.iter_mut().filter(|m| m.pair.model.kind == ModelKind::Dimension) {
            self.upsert(transaction, model, &mut refusals).await?;
            self.settle(transaction.client(), model, &mut refusals).await?;
        }
        for model in models.iter_mut().filter(|m| m.pair.model.kind == ModelKind::Fact) {
            fault::point("load.dimensions_written");
            self.append(transaction.client(), model, &mut refusals).await?;
            self.settle(transaction.client(), model, &mut refusals).await?;
        }
        for model in models.iter_mut().filter(|m| m.pair.model.kind != ModelKind::Calendar) {
            self.retract(transaction, model).await?;
            fault::point("load.retractions_written");
        }
        for model in &models {
            statistics::refresh(transaction.client(), model.pair, model.report.inserted + model.report.updated).await?;
        }
        let aside = refused_counts(transaction.client(), &self.run.pipeline).await?;
        for model in &mut models {
            model.report.aside = aside.get(&model.report.model).copied().unwrap_or(0);
        }
        let written = models.iter().filter(|m| m.report.inserted + m.report.updated > 0);
        report.hazards = written.flat_map(|m| m.pair.target.hazards(m.pair.model)).collect();
        report.models = models.into_iter().map(|m| m.report).collect();
        Ok(report)
    }

    fn is_mended(&self, pair: Pair<'_>) -> bool {
        matches!(self.purpose, Purpose::Mend(mended) if mended.contains(&pair.model.name))
    }

    /// Stages and checks the rows of the model at a position, with those of it that stand aside and are tried again.
    async fn stage<'a>(
        &self,
        transaction: &Transaction<'_>,
        pairs: &[Pair<'a>],
        position: usize,
        load: ModelLoad<'_>,
        refusals: &mut Refusals,
    ) -> Result<Option<Staged<'a>>> {
        let client = transaction.client();
        let Some(pair) = pairs.get(position).copied() else { return Ok(None) };
        let model = pair.model;
        let references = references(pair, pairs);
        let dates = calendar_columns(pair, &references);
        let checks = check::checks(pair, &dates);
        let shape = check::shape(&checks);
        let is_whole = self.purpose.brings_state_of(&model.name);
        let ModelLoad { upserts, retractions, again, ahead, .. } = load;
        let upserts = match again.filter(|_| !is_whole) {
            Some(again) => match refusals.standing.tried_again(client, pair, &shape, self.run).await? {
                keys if keys.is_empty() => upserts,
                keys => again(upserts, keys),
            },
            None => upserts,
        };

        let name = format!("starlift_stage_{position}");
        let what = format!("rows of model `{}`", model.name);
        let columns = &model.schema.columns;
        let ahead = ahead.filter(|_| self.run.bulk && !refusals.standing.may_hold(&model.name));
        let direct = match ahead {
            Some(ahead) => Direct::prepare(client, pair, &dates, ahead, self.run.limits).await?,
            None => None,
        };
        let mut has_marks = false;
        let (upserts, direct) = match direct {
            None => {
                let table = (name.as_str(), columns.as_slice(), model.schema.key.as_slice());
                let unsent = Unsent::Marked(model, self.look_ahead);
                let (stage, marks) = Encoding::fill(self.encoding, client, table, upserts, &what, unsent).await?;
                has_marks = marks;
                (stage, None)
            }
            Some(direct) => match direct.copy(client, pair, upserts, &what).await? {
                Copied::All(stage) => (Some(stage), Some(direct)),
                Copied::UpTo(rest) => (Some(direct.retreat(client, pair, &name, Some(rest)).await?), None),
            },
        };
        let gone = if is_whole || model.kind == ModelKind::Calendar {
            None
        } else {
            let key: Vec<_> = model.schema.key_columns().cloned().collect();
            let name = format!("starlift_retracted_{position}");
            let what = format!("retracted keys of model `{}`", model.name);
            let table = (name.as_str(), key.as_slice(), model.schema.key.as_slice());
            Encoding::fill(self.encoding, client, table, retractions, &what, Unsent::LeftOut).await?.0
        };
        let report = ModelReport {
            model: model.name.clone(),
            staged: upserts.as_ref().map_or(0, |stage| stage.rows),
            ..ModelReport::default()
        };
        let aside = Aside::new(position, shape);
        let was_empty = direct.is_some();
        let mut staged = Staged {
            pair,
            references,
            dates,
            upserts,
            retractions: gone,
            aside,
            direct,
            position,
            was_empty,
            taken: 0,
            report,
        };
        let marked = self.encoding.filter(|_| has_marks).map_or_else(Vec::new, |encoding| encoding.checks(model));
        let checks: Vec<_> = marked.into_iter().chain(checks).collect();
        // What was copied was checked before.
        if let Some(stage) = staged.upserts.as_ref().filter(|_| staged.direct.is_none()) {
            check::refuse_keys(client, pair, stage).await?;
            if !may_stand_aside(pair) {
                check::refuse(client, pair, stage, &checks).await?;
            } else if check::any(client, pair, stage, &checks).await? {
                let keep_values = self.run.aside.keep_values;
                staged.taken += staged.aside.take(client, pair, stage, &checks, keep_values).await?;
                self.set_aside(client, &mut staged, refusals).await?;
            }
            if may_stand_aside(pair) {
                self.set_twins_aside(client, &mut staged, is_whole, refusals).await?;
            }
        }
        let (stage, gone) = (staged.upserts.as_ref(), staged.retractions.as_ref());
        refusals.standing.staged(client, pair, &self.run.pipeline, stage, gone, is_whole).await?;
        Ok(Some(staged))
    }

    /// A dimension or calendar.
    async fn upsert(
        &self,
        transaction: &Transaction<'_>,
        model: &mut Staged<'_>,
        refusals: &mut Refusals,
    ) -> Result<()> {
        let client = transaction.client();
        let pair = model.pair;
        if self.purpose.brings_state_of(&pair.model.name) {
            dimension::refuse_double_rows(client, pair).await?;
        }
        if self.complete(client, model, refusals).await? {
            return Ok(());
        }
        let Some(stage) = model.upserts.clone() else { return Ok(()) };
        self.check_references(client, model, &stage, refusals).await?;
        let owed = skipped::note(client, pair, &stage, Write::Upsert).await?;
        let done = self.written(client, model, &stage, Write::Upsert, refusals).await?;
        if let Some(owed) = owed {
            self.set_skipped_aside(client, model, &stage, &owed, refusals).await?;
        }
        let report = &mut model.report;
        report.updated = done.updated;
        report.inserted = done.inserted;
        report.unchanged = report.staged.saturating_sub(model.taken + done.updated + done.inserted);
        Ok(())
    }

    async fn append(&self, client: &Client, model: &mut Staged<'_>, refusals: &mut Refusals) -> Result<()> {
        let was_copied = model.direct.is_some();
        if self.complete(client, model, refusals).await? {
            fault::point("load.fact_appended");
            return Ok(());
        }
        let Some(stage) = model.upserts.clone() else { return Ok(()) };
        let pair = model.pair;
        self.check_references(client, model, &stage, refusals).await?;
        let empty = fact::is_empty(client, pair).await?;
        model.was_empty = empty;
        if !empty {
            record_id::raise(client, pair).await?;
        }
        let comparison = fact::comparison(empty, stage.rows, pair.target.estimated_rows);
        let owed = skipped::note(client, pair, &stage, Write::Append(comparison)).await?;
        // What was copied and came back holds a row that the server refuses.
        let may = self.run.bulk && !was_copied;
        let in_bulk = if may { self.append_in_bulk(client, pair, &stage, comparison, empty).await? } else { None };
        model.report.inserted = match in_bulk {
            Some(inserted) => inserted,
            None => self.written(client, model, &stage, Write::Append(comparison), refusals).await?.inserted,
        };
        fault::point("load.fact_appended");
        if let Some(owed) = owed {
            self.set_skipped_aside(client, model, &stage, &owed, refusals).await?;
        }
        let report = &mut model.report;
        report.unchanged = report.staged.saturating_sub(model.taken + report.inserted);
        Ok(())
    }

    /// Ends a copy: puts foreign keys and indexes back. `false` where there was none, or where a row refers to one that is away
    /// or nowhere: then the rows are staged, and their table is as it was.
    async fn complete(&self, client: &Client, model: &mut Staged<'_>, refusals: &Refusals) -> Result<bool> {
        let (Some(direct), Some(stage)) = (model.direct.take(), model.upserts.clone()) else { return Ok(false) };
        let pair = model.pair;
        let may_hold = |name: &str| refusals.may_hold(name);
        let mut checks = reference::checks(pair, &model.references, &self.run.pipeline, &stage, may_hold);
        let is_checked = |column: &str| model.references.iter().any(|r| r.column == column && direct.checks(pair, r));
        checks.retain(|check| check.waits_for.is_some() || !is_checked(&check.column));
        let all_there = !reference::any(client, pair, &stage, &checks).await?;
        if all_there && let Attempt::Done(()) = attempt(client, direct.complete(client, pair)).await? {
            model.report.inserted = stage.rows;
            return Ok(true);
        }
        let name = format!("starlift_retreat_{}", model.position);
        model.upserts = Some(direct.retreat(client, pair, &name, None).await?);
        model.was_empty = false;
        Ok(false)
    }

    /// Appends with foreign keys and indexes off; none, and nothing done, where that is not worth it, they cannot be taken off or
    /// put back, or the server refuses a row, which the plain way finds.
    async fn append_in_bulk(
        &self,
        client: &Client,
        pair: Pair<'_>,
        stage: &Stage,
        comparison: fact::Comparison,
        empty: bool,
    ) -> Result<Option<u64>> {
        const BULK: &str = "starlift_bulk";
        let worth = set_wise::worth(empty, stage.rows, pair.target.estimated_rows);
        if !worth.foreign_keys {
            return Ok(None);
        }
        let parts = Parts::read(client, pair).await?.of(worth);
        if parts.is_empty() {
            return Ok(None);
        }
        mark(client, BULK).await?;
        if !parts.take_off(client, pair, empty, self.run.limits.lock_timeout).await? {
            keep(client, BULK).await?;
            return Ok(None);
        }
        let write = async {
            let inserted = fact::append(client, pair, stage, comparison).await?;
            parts.put_back(client, pair).await?;
            Ok(inserted)
        };
        match attempt_by_set(client, write).await? {
            Attempt::Done(inserted) => {
                keep(client, BULK).await?;
                let (foreign_keys, indexes) = parts.counts();
                let rows = stage.rows;
                tracing::info!(
                    model = %pair.model.name, rows, foreign_keys, indexes,
                    "load: the bulk path: foreign keys were checked and indexes built by set"
                );
                Ok(Some(inserted))
            }
            Attempt::Refused(error) => {
                tracing::info!(model = %pair.model.name, reason = %error, "load: the plain path after all");
                take_back(client, BULK).await?;
                Ok(None)
            }
        }
    }

    async fn retract(&self, transaction: &Transaction<'_>, model: &mut Staged<'_>) -> Result<()> {
        let client = transaction.client();
        let (pair, report) = (model.pair, &mut model.report);
        if self.purpose.brings_state_of(&pair.model.name) && !model.was_empty {
            let state = model.upserts.as_ref();
            report.retracted +=
                retraction::retract_unknown(client, pair, state, &self.run.pipeline, self.run.seq).await?;
        } else if let Some(gone) = model.retractions.as_ref() {
            report.retracted += retraction::retract(client, pair, gone, &self.run.pipeline, self.run.seq).await?;
        }
        // After the retractions: a key that has a row is current, even where a manifest says both.
        if let Some(stage) = &model.upserts {
            report.returned = retraction::give_back(client, pair, stage, &self.run.pipeline).await?;
        }
        Ok(())
    }
}
