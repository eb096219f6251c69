//! Evaluating models, each after what it reads and refers to.

use std::collections::{BTreeMap, BTreeSet};

use starlift_core::coverage::{Evaluate, TransformPlan};
use starlift_core::manifest::{ModelState, Relation, RelationRun, TestVerdict};
use starlift_core::model::{Model, ModelKind};
use starlift_core::relation::{self, Pass};
use starlift_core::state::LiveFiles;
use starlift_core::{Micros, Result, fault, succession};
use starlift_lake::{Head, Quarantine, State, Store};
use starlift_models::EVALUATION_VERSION;

use super::compare::Compared;
use super::inputs::{Evaluated, Inputs};
use super::references::{RefusedKeys, pair};
use super::rows::Rows;
use super::way::Way;
use super::{Relations, STAGE};
use crate::context::{Context, now};
use crate::quarantine::{self, Allowance};

/// One transform on its way.
pub(super) struct Run<'a> {
    pub(super) ctx: &'a Context,
    pub(super) lake: &'a Store,
    pub(super) star: &'a Store,
    pub(super) lake_head: &'a Head,
    pub(super) star_head: &'a Head,
    pub(super) at: Micros,
    pub(super) seq: u64,
    pub(super) allowance: Allowance,
    /// Whether a person asked for it because the star differed from what the lake says.
    pub(super) repairs: bool,
}

/// What the models before a model came to.
pub(super) struct Before {
    /// Every model that the star has or that this run made, with its schema and live files.
    pub(super) states: Evaluated,
    /// The refused keys of models that have any.
    pub(super) refused: RefusedKeys,
    /// Of these, the keys that were not refused before the run.
    pub(super) newly_refused: RefusedKeys,
    /// Models that the run has been through or passed over.
    pub(super) passed: BTreeSet<String>,
    /// Models whose refused rows are others than before the run.
    refused_others: BTreeSet<String>,
    /// Models that this run changed.
    changed: BTreeSet<String>,
}

impl Run<'_> {
    /// Evaluates what the plan names, and what refers to rows that this run sets aside or takes back. Returns every model's
    /// relation as of the manifest to come, with warnings.
    pub(super) async fn evaluate(&self, plan: &TransformPlan) -> Result<(Relations, Vec<String>)> {
        let mut relations: Relations =
            succession::carried(self.star_head.manifest(), |name| !plan.dropped.iter().any(|gone| gone == name));
        let states = relations
            .iter()
            .map(|(name, relation)| (name.clone(), (relation.schema.clone(), self.star_head.live_of(name))))
            .collect();
        let refused = self.refused_before(&relations).await?;
        let mut before = Before {
            states,
            refused,
            newly_refused: RefusedKeys::new(),
            passed: BTreeSet::new(),
            refused_others: BTreeSet::new(),
            changed: BTreeSet::new(),
        };

        let planned: BTreeMap<&str, &Evaluate> = plan.evaluate.iter().map(|(name, why)| (name.as_str(), why)).collect();
        let mut inputs = Inputs::new(&self.ctx.config, &self.ctx.project, (self.lake, self.lake_head), self.star)?;
        let mut warnings = Vec::new();
        for model in order(self.ctx.project.graph.models()) {
            let name = &model.name;
            before.passed.insert(name.clone());
            if plan.waiting.contains_key(name) {
                continue;
            }
            let reason = match planned.get(name.as_str()) {
                Some(reason) => (*reason).clone(),
                None => match self.follows(model, relations.get(name), &before) {
                    Some(reason) => reason,
                    None => continue,
                },
            };
            self.ctx.progress.started(STAGE, name);
            #[cfg(debug_assertions)]
            inputs.read_now(&self.ctx.config.pipeline).await?;
            inputs.register(model, &before.states)?;
            let (relation, new) = self
                .model(&inputs, model, &relations, (&reason, plan.after), &mut before)
                .await
                .map_err(|e| e.with_context("model", name.clone()))?;
            warnings.extend(new);
            if relation.last_change == self.seq {
                before.changed.insert(name.clone());
            }
            let files = relation_files(&relation, self.seq);
            let (_, live) = before.states.entry(name.clone()).or_insert_with(|| (relation.schema.clone(), Vec::new()));
            if relation.base == self.seq {
                live.clear();
            }
            live.extend(files);
            let live = live.clone();
            before.states.insert(name.clone(), (relation.schema.clone(), live));
            relations.insert(name.clone(), relation);
            self.ctx.progress.finished(STAGE, name);
            fault::point("transform.model_done");
        }
        Ok((relations, warnings))
    }

    /// Why a model that the plan does not name is evaluated all the same: because of what became of the models before it.
    fn follows(&self, model: &Model, own: Option<&Relation>, before: &Before) -> Option<Evaluate> {
        let refers = || model.header.tests.iter().filter_map(pair).map(|(_, target)| target);
        let stands_aside = own.is_some_and(|own| own.refused > 0);
        let cause = model.inputs.iter().find(|input| before.changed.contains(*input)).map(String::as_str);
        let cause = cause.or_else(|| refers().find(|target| before.refused_others.contains(*target)));
        // A row that stands aside for want of a row may have it now.
        let cause = cause.or_else(|| refers().find(|target| stands_aside && before.changed.contains(*target)));
        cause.map(|name| Evaluate::Input(name.to_string()))
    }

    async fn refused_before(&self, relations: &Relations) -> Result<RefusedKeys> {
        let mut refused = RefusedKeys::new();
        for (name, relation) in relations.iter().filter(|(_, relation)| relation.refused > 0) {
            let state = State::new(self.star, relation.schema.clone(), self.star_head.live_of(name))?;
            refused.insert(name.clone(), Quarantine::of(&state).await?.keys());
        }
        Ok(refused)
    }

    async fn model(
        &self,
        inputs: &Inputs<'_>,
        model: &Model,
        relations: &Relations,
        (reason, after): (&Evaluate, u64),
        before: &mut Before,
    ) -> Result<(Relation, Vec<String>)> {
        let begun = now();
        let own = relations.get(&model.name);
        let (mut rows, way) = match model.header.kind {
            ModelKind::Calendar => (Rows::of_calendar(&self.ctx.config)?, Way::whole()),
            ModelKind::Dimension | ModelKind::Fact => {
                let prepared = inputs.session().prepare(model).await?;
                let mut way = self.way(inputs, model, &prepared, relations, (reason, after), before).await?;
                (Rows::of_query(prepared, way.sources.take(), model, &self.ctx.config).await?, way)
            }
        };
        let schema = rows.schema().clone();
        let compared = self.compare(model, &mut rows, &schema, own, before, way.keys.as_deref()).await?;
        let mut warnings = rows.warnings().to_vec();
        warnings.extend(compared.warnings(&model.name));
        warnings.extend(quarantine::warning("model", &model.name, compared.quarantine.new_rows()));
        if compared.quarantine.has_changed() {
            before.refused_others.insert(model.name.clone());
        }
        let refused = compared.quarantine.keys();
        let stood = before.refused.remove(&model.name).unwrap_or_default();
        before.newly_refused.insert(model.name.clone(), refused.difference(&stood).copied().collect());
        if !refused.is_empty() {
            before.refused.insert(model.name.clone(), refused);
        }
        let fingerprint = self.ctx.project.fingerprint(model, EVALUATION_VERSION, self.ctx.config.calendar);
        let state = ModelState {
            kind: model.header.kind.name().into(),
            inputs: model.inputs.clone(),
            references: model.header.references(),
            tests: self.verdicts(model, own, &compared),
        };
        let run = RelationRun {
            mode: way.name().into(),
            reason: Some(way.reason(reason)),
            millis: now().millis_since(begun),
            ..compared.run
        };
        let refused = compared.quarantine.rows();
        let pass = Pass { rows: compared.rows, refused, replaced: compared.replaced, run };
        Ok((relation::model(own, schema, fingerprint, state, self.seq, pass), warnings))
    }

    /// What the tests found; a test that no row went through keeps what it found last.
    fn verdicts(&self, model: &Model, own: Option<&Relation>, compared: &Compared) -> Vec<TestVerdict> {
        let last = own.and_then(|own| own.model.as_ref()).map(|state| state.tests.as_slice()).unwrap_or_default();
        let verdict = |test: String, warns: bool| {
            let failed = compared.failed.get(&test).map_or(0, starlift_core::refused::RefusedRows::rows);
            let now = TestVerdict { test, warns, seq: self.seq, rows: compared.tested, failed };
            let before = last.iter().find(|before| before.test == now.test && compared.tested == 0);
            before.map_or(now.clone(), |before| TestVerdict { warns, ..before.clone() })
        };
        model.header.tests.iter().map(|test| verdict(test.text(), test.warns)).collect()
    }
}

/// Models in the order of their evaluation: each after the models that it reads, and after those that it refers to where
/// no circle forbids it. `models` come in dependency order.
fn order(models: &[Model]) -> Vec<&Model> {
    let mut rest: Vec<&Model> = models.iter().collect();
    let mut ordered = Vec::with_capacity(rest.len());
    while !rest.is_empty() {
        let waits = |name: &str| rest.iter().any(|other| other.name == name);
        let reads_open = |model: &Model| model.inputs.iter().any(|input| *input != model.name && waits(input));
        let refers_open = |model: &Model| {
            let mut targets = model.header.tests.iter().filter_map(pair).map(|(_, target)| target);
            targets.any(|target| target != model.name && waits(target))
        };
        let free = |model: &&Model| !reads_open(model) && !refers_open(model);
        let next = rest.iter().position(free).or_else(|| rest.iter().position(|model| !reads_open(model)));
        ordered.push(rest.remove(next.unwrap_or(0)));
    }
    ordered
}

fn relation_files(relation: &Relation, seq: u64) -> LiveFiles {
    let files = relation.run.iter().flat_map(|run| run.all_files());
    files.map(|file| starlift_core::manifest::LiveFile::new(seq, file.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str, reads: &str, refers: &str) -> Model {
        let tests =
            if refers.is_empty() { String::new() } else { format!("-- tests: relationships(id -> {refers})\n") };
        Model::parse(name, &format!("-- kind: dimension\n-- key: id\n{tests}select id from {reads}")).unwrap()
    }

    fn ordered(models: &[Model]) -> Vec<&str> {
        order(models).into_iter().map(|model| model.name.as_str()).collect()
    }

    #[test]
    fn models_come_after_what_they_read_and_refer_to() {
        let models = [model("a", "t", "c"), model("b", "a", ""), model("c", "t", "")];
        assert_eq!(ordered(&models), ["c", "a", "b"]);
    }

    #[test]
    fn a_circle_of_references_ends_in_the_order_of_the_graph() {
        let models = [model("a", "t", "b"), model("b", "t", "a"), model("c", "b", "c")];
        assert_eq!(ordered(&models), ["a", "b", "c"]);
    }
}
