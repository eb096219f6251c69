//! The order of a load's writes inside its transaction.

use starlift_core::model::ModelKind;
use starlift_core::{Result, fault};
use tokio_postgres::Transaction;

use super::model::{BatchStream, LoadReport, LoadRun, LookAhead, ModelReport};
use super::pair::Pair;
use super::purpose::Purpose;
use super::reference::{Reference, calendar_columns, references};
use super::stage::{Stage, fill};
use super::{calendar, check, constraint, dimension, fact, record_id, reference, retraction};

/// A model on its way: its rows are staged, and its report grows.
struct Staged<'a> {
    pair: Pair<'a>,
    references: Vec<Reference<'a>>,
    dates: Vec<String>,
    upserts: Option<Stage>,
    retractions: Option<Stage>,
    report: ModelReport,
}

/// What every part of a load's transaction needs.
pub(crate) struct Work<'w, 'l> {
    /// The manifest.
    pub(crate) run: &'w LoadRun,
    /// What it is written for.
    pub(crate) purpose: Purpose<'w>,
    /// What later manifests bring.
    pub(crate) look_ahead: &'w LookAhead<'l>,
}

impl Work<'_, '_> {
    /// Stages and checks every model, then writes: calendar, dimensions, facts, retractions. The pairs are in load order;
    /// facts come after everything else whatever their place.
    pub(crate) async fn write(
        &self,
        transaction: &mut Transaction<'_>,
        pairs: &[Pair<'_>],
        streams: Vec<(BatchStream<'_>, BatchStream<'_>)>,
    ) -> Result<LoadReport> {
        let mut models = Vec::with_capacity(pairs.len());
        for (position, streams) in streams.into_iter().enumerate() {
            models.extend(self.stage(transaction, pairs, position, streams).await?);
            fault::point("load.model_staged");
        }

        let mut report = LoadReport::default();
        for model in models.iter_mut().filter(|m| m.pair.model.kind == ModelKind::Calendar) {
            self.upsert(transaction, model).await?;
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
            self.upsert(transaction, model).await?;
        }
        for model in models.iter_mut().filter(|m| m.pair.model.kind == ModelKind::Fact) {
            fault::point("load.dimensions_written");
            self.append(transaction, model).await?;
        }
        for model in models.iter_mut().filter(|m| m.pair.model.kind != ModelKind::Calendar) {
            self.retract(transaction, model).await?;
            fault::point("load.retractions_written");
        }
        report.models = models.into_iter().map(|m| m.report).collect();
        Ok(report)
    }

    fn is_mended(&self, pair: Pair<'_>) -> bool {
        matches!(self.purpose, Purpose::Mend(mended) if mended.contains(&pair.model.name))
    }

    /// Stages and checks the rows of the model at a position.
    async fn stage<'a>(
        &self,
        transaction: &Transaction<'_>,
        pairs: &[Pair<'a>],
        position: usize,
        (upserts, retractions): (BatchStream<'_>, BatchStream<'_>),
    ) -> Result<Option<Staged<'a>>> {
        let client = transaction.client();
        let Some(pair) = pairs.get(position).copied() else { return Ok(None) };
        let model = pair.model;
        let references = references(pair, pairs);
        let dates = calendar_columns(pair, &references);
        let mut report = ModelReport { model: model.name.clone(), ..ModelReport::default() };

        let name = format!("starlift_stage_{position}");
        let what = format!("rows of model `{}`", model.name);
        let columns = &model.schema.columns;
        let upserts = fill(client, &name, columns, &model.schema.key, upserts, &what).await?;
        if let Some(stage) = &upserts {
            report.staged = stage.rows;
            report.passed_over =
                check::check(client, pair, stage, &check::checks(pair, &dates), self.look_ahead).await?;
        }
        let gone = if self.purpose.brings_state_of(&model.name) || model.kind == ModelKind::Calendar {
            None
        } else {
            let key: Vec<_> = model.schema.key_columns().cloned().collect();
            let name = format!("starlift_retracted_{position}");
            let what = format!("retracted keys of model `{}`", model.name);
            fill(client, &name, &key, &model.schema.key, retractions, &what).await?
        };
        Ok(Some(Staged { pair, references, dates, upserts, retractions: gone, report }))
    }

    /// A dimension or calendar.
    async fn upsert(&self, transaction: &Transaction<'_>, model: &mut Staged<'_>) -> Result<()> {
        let client = transaction.client();
        if self.purpose.brings_state_of(&model.pair.model.name) {
            dimension::refuse_double_rows(client, model.pair).await?;
        }
        let Some(stage) = &model.upserts else { return Ok(()) };
        let report = &mut model.report;
        report.passed_over +=
            reference::refuse_orphans(client, model.pair, stage, &model.references, self.look_ahead).await?;
        let done = dimension::upsert(client, model.pair, stage).await?;
        report.updated = done.updated;
        report.inserted = done.inserted;
        report.unchanged = report.staged.saturating_sub(report.passed_over + done.updated + done.inserted);
        Ok(())
    }

    async fn append(&self, transaction: &mut Transaction<'_>, model: &mut Staged<'_>) -> Result<()> {
        let Some(stage) = &model.upserts else { return Ok(()) };
        let (pair, report) = (model.pair, &mut model.report);
        report.passed_over +=
            reference::refuse_orphans(transaction.client(), pair, stage, &model.references, self.look_ahead).await?;
        let empty = fact::is_empty(transaction.client(), pair).await?;
        if !empty {
            record_id::raise(transaction.client(), pair).await?;
        }
        let comparison = fact::comparison(empty, stage.rows, pair.target.estimated_rows);
        let dropped =
            if constraint::worth_dropping(empty, stage.rows, pair.target.owned, pair.target.foreign_keys.len()) {
                constraint::drop_foreign_keys(transaction, pair).await?
            } else {
                None
            };
        report.inserted = fact::append(transaction.client(), pair, stage, comparison).await?;
        fault::point("load.fact_appended");
        if let Some(dropped) = dropped {
            constraint::add_foreign_keys(transaction, pair, &dropped, self.run.limits.lock_timeout).await?;
        }
        report.unchanged = report.staged.saturating_sub(report.passed_over + report.inserted);
        Ok(())
    }

    async fn retract(&self, transaction: &Transaction<'_>, model: &mut Staged<'_>) -> Result<()> {
        let client = transaction.client();
        let (pair, report) = (model.pair, &mut model.report);
        if self.purpose.brings_state_of(&pair.model.name) {
            let state = model.upserts.as_ref();
            report.retracted =
                retraction::retract_unknown(client, pair, state, &self.run.pipeline, self.run.seq).await?;
        } else if let Some(gone) = &model.retractions {
            report.retracted = retraction::retract(client, pair, gone, &self.run.pipeline, self.run.seq).await?;
        }
        // After the retractions: a key that has a row is current, even where a manifest says both.
        if let Some(stage) = &model.upserts {
            report.returned = retraction::give_back(client, pair, stage, &self.run.pipeline).await?;
        }
        Ok(())
    }
}
