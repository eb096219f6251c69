//! Evaluating models and comparing what they yield with their state before.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use starlift_core::coverage::{Evaluate, TransformPlan};
use starlift_core::manifest::{FileMode, ModelState, Relation, RelationRun};
use starlift_core::model::{Model, ModelKind};
use starlift_core::relation::{self, Pass};
use starlift_core::state::LiveFiles;
use starlift_core::{Error, Micros, Result, TableSchema, fault, succession};
use starlift_lake::{Difference, FileWriter, Head, State, Store, WriterOptions, tombstones};
use starlift_models::{EVALUATION_VERSION, Session};

use super::inputs::Inputs;
use super::rows::Rows;
use super::{Relations, STAGE};
use crate::context::{Context, now};

/// One transform on its way.
pub(super) struct Run<'a> {
    pub(super) ctx: &'a Context,
    pub(super) lake: &'a Store,
    pub(super) star: &'a Store,
    pub(super) lake_head: &'a Head,
    pub(super) star_head: &'a Head,
    pub(super) at: Micros,
    pub(super) seq: u64,
}

impl Run<'_> {
    /// Evaluates what the plan names and returns every model's relation as of the manifest to come, with warnings.
    pub(super) async fn evaluate(&self, plan: &TransformPlan) -> Result<(Relations, Vec<String>)> {
        let mut relations: Relations =
            succession::carried(self.star_head.manifest(), |name| !plan.dropped.iter().any(|gone| gone == name));
        let mut states: BTreeMap<String, (TableSchema, LiveFiles)> = relations
            .iter()
            .map(|(name, relation)| (name.clone(), (relation.schema.clone(), self.star_head.live_of(name))))
            .collect();

        let mut inputs = Inputs::new(&self.ctx.config, &self.ctx.project, (self.lake, self.lake_head), self.star)?;
        let mut warnings = Vec::new();
        for (name, reason) in &plan.evaluate {
            let model = self
                .ctx
                .project
                .graph
                .get(name)
                .ok_or_else(|| Error::internal(format!("model `{name}` is planned and not there")))?;
            self.ctx.progress.started(STAGE, name);
            #[cfg(debug_assertions)]
            inputs.read_now(&self.ctx.config.pipeline).await?;
            inputs.register(model, &states)?;
            let (relation, new) = self
                .model(inputs.session(), model, relations.get(name), reason)
                .await
                .map_err(|e| e.with_context("model", name.clone()))?;
            warnings.extend(new);
            let files = relation_files(&relation, self.seq);
            let (_, live) = states.entry(name.clone()).or_insert_with(|| (relation.schema.clone(), Vec::new()));
            if relation.base == self.seq {
                live.clear();
            }
            live.extend(files);
            let live = live.clone();
            states.insert(name.clone(), (relation.schema.clone(), live));
            relations.insert(name.clone(), relation);
            self.ctx.progress.finished(STAGE, name);
            fault::point("transform.model_done");
        }
        Ok((relations, warnings))
    }

    async fn model(
        &self,
        session: &Session,
        model: &Model,
        before: Option<&Relation>,
        reason: &Evaluate,
    ) -> Result<(Relation, Vec<String>)> {
        let begun = now();
        let mut rows = Rows::of(session, model, self.ctx.config.calendar).await?;
        let schema = rows.schema().clone();
        let written = self.compare(model, &mut rows, &schema, before).await?;
        rows.check_refusals(&model.name)?;
        let fingerprint = self.ctx.project.fingerprint(model, EVALUATION_VERSION, self.ctx.config.calendar);
        let state = ModelState {
            kind: model.header.kind.name().into(),
            inputs: model.inputs.clone(),
            references: model.header.references(),
        };
        let run = RelationRun {
            mode: "whole".into(),
            reason: Some(reason.text()),
            millis: now().millis_since(begun),
            ..written.run
        };
        let pass = Pass { rows: written.rows, replaced: written.replaced, run };
        let relation = relation::model(before, schema, fingerprint, state, self.seq, pass);
        Ok((relation, rows.warnings(&model.name)))
    }

    /// Writes the rows that are new or differ, and the keys that vanished.
    ///
    /// Where the columns changed, every row is written as a new base, and vanished keys are found among the old ones. Where
    /// the key itself changed there is nothing to compare: a new base makes load take the model's table over.
    async fn compare(
        &self,
        model: &Model,
        rows: &mut Rows,
        schema: &TableSchema,
        before: Option<&Relation>,
    ) -> Result<Written> {
        let old_schema = before.map(|r| &r.schema);
        let replaced = old_schema != Some(schema);
        let same_key = old_schema.is_some_and(|old| old.key_to_arrow() == schema.key_to_arrow());
        let state = State::new(self.star, old_schema.unwrap_or(schema).clone(), self.star_head.live_of(&model.name))?;
        let known = if same_key { state.index().await? } else { Default::default() };
        let mut difference = Difference::new(&model.name, schema.clone(), known)?;

        let mode = if replaced { FileMode::Full } else { FileMode::Window };
        let mut writer = self.writer(&model.name, schema.to_arrow(), mode)?;
        let (mut count, mut bytes) = (0, 0);
        while let Some(batch) = rows.next().await? {
            let size = batch.get_array_memory_size() as u64;
            self.ctx.progress.advanced(STAGE, &model.name, batch.num_rows() as u64, size);
            count += batch.num_rows() as u64;
            bytes += size;
            fault::point("transform.mid_model");
            let new = difference.push(&batch)?;
            writer.write(if replaced { &batch } else { &new }).await?;
        }
        let files = writer.finish().await?;
        fault::point("transform.rows_written");
        let unseen = difference.unseen();
        let mut deleted = Vec::new();
        // A date that leaves the calendar's settings may still be one that facts refer to.
        if !unseen.is_empty() && model.header.kind != ModelKind::Calendar {
            let mut writer = self.writer(&model.name, schema.key_to_arrow(), FileMode::Deleted)?;
            let mut keys = tombstones(&state, unseen);
            while let Some(batch) = keys.try_next().await? {
                writer.write(&batch).await?;
            }
            deleted = writer.finish().await?;
            fault::point("transform.retractions_written");
        }
        let run = RelationRun { rows_read: count, bytes_read: bytes, files, deleted, ..RelationRun::default() };
        Ok(Written { rows: count, replaced, run })
    }

    fn writer(&self, name: &str, schema: SchemaRef, mode: FileMode) -> Result<FileWriter> {
        FileWriter::new(self.star, name, self.at, schema, mode, WriterOptions::default())
    }
}

struct Written {
    rows: u64,
    replaced: bool,
    run: RelationRun,
}

fn relation_files(relation: &Relation, seq: u64) -> LiveFiles {
    let files = relation.run.iter().flat_map(|run| run.files.iter().chain(&run.deleted));
    files.map(|file| starlift_core::manifest::LiveFile { seq, file: file.clone() }).collect()
}
