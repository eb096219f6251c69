//! Which way a model is evaluated: whole, or incrementally, for the keys that changes of its inputs can reach. Both ways come
//! to the same upserts, retractions and refused rows.
//!
//! Besides the keys that changed rows lead to, these are looked at again: rows that stand aside, because what they wait for
//! or failed for may have changed, and rows that refer to a row which stands aside from this run on.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use starlift_core::Result;
use starlift_core::coverage::Evaluate;
use starlift_core::model::{Model, ModelKind, ModelTest};
use starlift_lake::{Head, KeyDigest, State};
use starlift_models::{InputSource, PreparedModel, Shape};

use super::Relations;
use super::affected::{OrWhole, Reach};
use super::evaluate::{Before, Run};
use super::inputs::{Evaluated, Inputs};
use super::own_references::is_own;
use super::references::{References, pair};
use crate::context::Context;

/// The way of one model in one run.
pub(super) struct Way {
    /// The keys that are evaluated; none where all are.
    pub(super) keys: Option<Arc<HashSet<KeyDigest>>>,
    /// The rows that these keys come from, by scan.
    pub(super) sources: Option<Vec<Option<InputSource>>>,
    /// Why all keys are evaluated, where nothing else says it.
    why: Option<String>,
}

impl Way {
    /// All keys, for the reason for which the model is evaluated.
    pub(super) fn whole() -> Way {
        Way { keys: None, sources: None, why: None }
    }

    fn whole_because(why: String) -> Way {
        Way { why: Some(why), ..Way::whole() }
    }

    /// The word that manifests and reports use.
    pub(super) fn name(&self) -> &'static str {
        if self.keys.is_some() { "incremental" } else { "whole" }
    }

    /// Why the model is evaluated, and why so.
    pub(super) fn reason(&self, reason: &Evaluate) -> String {
        match &self.why {
            Some(why) => format!("{}; {why}", reason.text()),
            None => reason.text(),
        }
    }
}

impl Run<'_> {
    /// Finds the keys of a model that have to be evaluated, and the rows that they come from.
    pub(super) async fn way(
        &self,
        inputs: &Inputs<'_>,
        model: &Model,
        prepared: &PreparedModel,
        relations: &Relations,
        (reason, after): (&Evaluate, u64),
        before: &Before,
    ) -> Result<Way> {
        let own = relations.get(&model.name);
        let own = own.filter(|own| matches!(reason, Evaluate::Input(_)) && own.schema == *prepared.schema());
        let Some(own) = own.filter(|_| self.ctx.config.transform_incremental && !self.repairs) else {
            return Ok(Way::whole());
        };
        let shape = match shape(model, prepared) {
            Ok(shape) => shape,
            Err(why) => return Ok(Way::whole_because(why)),
        };
        if let Some(why) = self.replaced(inputs, model, relations, after).or_else(|| self.in_circle(model, before)) {
            return Ok(Way::whole_because(why));
        }
        let images = inputs.images(model, &before.states, relations, (after, self.seq))?;
        if !images.contains_key(shape.scans.get(shape.driver).map_or("", String::as_str)) {
            return Ok(Way::whole_because("the input that has its key has none".into()));
        }
        let reach = Reach::new(shape, &images);
        let mut keys = match reach.keys().await? {
            Ok(keys) => keys,
            Err(why) => return Ok(Way::whole_because(why)),
        };
        keys.extend(before.refused.get(&model.name).into_iter().flatten());
        let (project, states) = (&self.ctx.project, &before.states);
        let references = References::of(project, model, &own.schema, self.star, states, &before.refused)?;
        let state = State::new(self.star, own.schema.clone(), self.star_head.live_of(&model.name))?;
        keys.extend(references.referring(&state, &before.newly_refused).await?);
        if reach.is_much(keys.len())? {
            return Ok(Way::whole_because("many of its keys are affected".into()));
        }
        let keys = Arc::new(keys);
        let sources = reach.sources(&keys).await?;
        Ok(Way { keys: Some(keys), sources: Some(sources), why: None })
    }

    /// Whether an input is not what it was with some rows changed: a table that was read anew, also one that the model
    /// reads through others, which may have waited for it; a model whose columns changed; a table without a key. And a table
    /// whose files do not show any more what came since.
    fn replaced(&self, inputs: &Inputs<'_>, model: &Model, relations: &Relations, after: u64) -> Option<String> {
        let tables = self.ctx.project.graph.outer_inputs_of(&model.name);
        let table = tables.iter().find(|name| inputs.table(name).is_some_and(|table| table.base > after));
        if let Some(name) = table {
            return Some(format!("{name} was replaced"));
        }
        let replaced = |name: &&String| match self.ctx.project.graph.get(name) {
            Some(_) => relations.get(*name).is_some_and(|relation| relation.base >= self.seq),
            None => false,
        };
        if let Some(name) = model.inputs.iter().find(replaced) {
            return Some(format!("{name} was replaced"));
        }
        let has_key = |name: &&String| inputs.table(name).is_some_and(|table| !table.schema.key.is_empty());
        let mut tables = model.inputs.iter().filter(has_key);
        if let Some(name) = tables.find(|name| !inputs.shows_since(name, after)) {
            return Some(format!("files of {name} were merged since"));
        }
        let keyless = |name: &&String| {
            inputs.table(name).is_some_and(|table| table.schema.key.is_empty() && table.last_change > after)
        };
        model.inputs.iter().find(keyless).map(|name| format!("{name} has no key"))
    }

    /// Models that refer to one another: one of them cannot know which rows of the other stand aside, until the next run.
    fn in_circle(&self, model: &Model, before: &Before) -> Option<String> {
        let targets = model.header.tests.iter().filter_map(pair).map(|(_, target)| target);
        let comes_later = |target: &&str| {
            let other = self.ctx.project.graph.get(target);
            let matters = other.is_some_and(|o| o.header.kind != ModelKind::Calendar && o.name != model.name);
            matters && !before.passed.contains(*target)
        };
        let mut later = targets.filter(comes_later);
        later.next().map(|target| format!("it and {target} refer to one another"))
    }
}

/// The shape of a model that can be evaluated for some keys; else why it cannot, whatever changed.
fn shape<'a>(model: &Model, prepared: &'a PreparedModel) -> OrWhole<&'a Shape> {
    let shape = prepared.shape().map_err(str::to_string)?;
    if model.header.infers {
        return Err("it has inferred members".into());
    }
    let is_unique = |test: &&ModelTest| {
        test.name == "unique"
            && prepared.schema().column(&test.arguments).is_some()
            && prepared.schema().key != [test.arguments.clone()]
    };
    match model.header.tests.iter().find(|test| is_unique(test) || is_own(model, test)) {
        Some(test) => Err(format!("its test {} looks at all rows", test.text())),
        None => Ok(shape),
    }
}

/// For each model that can be planned now why it is always evaluated whole; none where only what changed is evaluated.
///
/// Errors: those of planning a model.
pub(crate) async fn ways(ctx: &Context, lake: &Head) -> Result<BTreeMap<String, Option<String>>> {
    let (lake_store, star) = (ctx.lake()?, ctx.star()?);
    let mut inputs = Inputs::new(&ctx.config, &ctx.project, (&lake_store, lake), &star)?;
    let mut states = Evaluated::new();
    let mut found = BTreeMap::new();
    for model in ctx.project.graph.models() {
        if model.header.kind == ModelKind::Calendar {
            let (schema, _) = starlift_models::calendar(ctx.config.calendar.0, ctx.config.calendar.1)?;
            states.insert(model.name.clone(), (schema, Vec::new()));
            continue;
        }
        let is_known = |name: &String| {
            let project = &ctx.project;
            project.seeds.contains_key(name) || states.contains_key(name) || inputs.table(name).is_some()
        };
        if !model.inputs.iter().all(is_known) {
            continue;
        }
        inputs.register(model, &states)?;
        let prepared = inputs.session().prepare(model).await?;
        let why = match shape(model, &prepared) {
            _ if !ctx.config.transform_incremental => Some("`incremental` is off".to_string()),
            Ok(_) => None,
            Err(why) => Some(why),
        };
        found.insert(model.name.clone(), why);
        states.insert(model.name.clone(), (prepared.schema().clone(), Vec::new()));
    }
    Ok(found)
}
