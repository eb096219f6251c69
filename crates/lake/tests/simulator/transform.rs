//! Transform as the product does it, step by step (`starlift/src/transform.rs`), with models that are functions.

use std::collections::BTreeMap;

use starlift_core::coverage::{self, Evaluate, TransformPlan};
use starlift_core::manifest::{FileMode, ModelState, Origin, Relation, RelationRun};
use starlift_core::relation::{self, Pass};
use starlift_core::{Error, Micros, Result, succession};
use starlift_lake::{Head, claim};

use crate::files;
use crate::ingest::{differing, missing};
use crate::planted::Planted;
use crate::run::{Ended, Run};
use crate::tables::{Project, Rows, TABLES, model};

pub(crate) async fn transform(run: Run) -> Result<Ended> {
    let port = &run.port;
    let project = port.with(|w| w.project.clone());
    let star = run.head(run.star).await?;
    let lake = run.head(run.lake).await?;
    if let Some(done) = run.find_run(run.star, &star).await? {
        return Ok(Ended::Replayed(done.seq()));
    }
    let Some(lake_manifest) = lake.manifest() else { return Ok(Ended::Nothing) };
    let plan = coverage::plan(lake_manifest, star.manifest(), &project.models())?;
    if plan.settled {
        return Ok(Ended::Nothing);
    }
    let (now, write_id, owner) = port.with(|w| (w.now(), w.new_id(), w.new_id()));
    let at = claim(&run.store(run.star), now, star.manifest().map(|m| m.at), &owner).await?;
    let seq = succession::next_seq(star.manifest());
    port.note(|| format!("transforms ingest manifest {} into star manifest {seq}", plan.upto));
    let work = Work { run: &run, project: &project, lake: &lake, star: &star, at, seq };
    let relations = work.evaluate(&plan).await?;
    let mut upto = plan.upto;
    if port.planted(Planted::CoversNewest) {
        upto = run.head(run.lake).await?.manifest().map_or(upto, |m| m.seq);
    }
    port.with(|w| w.record.versions.insert(write_id.clone(), project.versions.clone()));
    let upto_sha256 = lake.newest().map(|stored| stored.sha256.clone());
    let origin = Origin::Transform { lake_id: lake_manifest.id.clone(), after: plan.after, upto, upto_sha256 };
    run.commit(run.star, &star, write_id, at, origin, relations).await
}

struct Work<'a> {
    run: &'a Run,
    project: &'a Project,
    lake: &'a Head,
    star: &'a Head,
    at: Micros,
    seq: u64,
}

impl Work<'_> {
    async fn evaluate(&self, plan: &TransformPlan) -> Result<BTreeMap<String, Relation>> {
        let mut relations =
            succession::carried(self.star.manifest(), |name| !plan.dropped.iter().any(|gone| gone == name));
        let mut inputs: BTreeMap<&'static str, Rows> = BTreeMap::new();
        for (name, reason) in &plan.evaluate {
            let model = model(name).ok_or_else(|| Error::internal("an unknown model is planned"))?;
            let version = self.project.versions[&model];
            for input in model.inputs() {
                if !inputs.contains_key(input) {
                    inputs.insert(input, self.input(input, &relations).await?);
                }
            }
            let rows = model.evaluate(version, &inputs.iter().map(|(n, rows)| (*n, rows.clone())).collect());
            let relation = self.model(name, version, reason, relations.get(name), &rows).await?;
            relations.insert(name.clone(), relation);
            inputs.insert(model.name(), rows);
        }
        Ok(relations)
    }

    /// A table as of the covered manifest, or a model that this run does not evaluate.
    async fn input(&self, name: &str, relations: &BTreeMap<String, Relation>) -> Result<Rows> {
        if TABLES.iter().all(|table| table.name() != name) {
            let relation = relations.get(name).ok_or_else(|| Error::internal("a model has no state"))?;
            return files::state(self.run, self.run.star, &relation.schema, &self.star.live_of(name)).await;
        }
        let newer;
        let mut lake = self.lake;
        if self.run.port.planted(Planted::InputsReadNow) {
            newer = self.run.head(self.run.lake).await?;
            lake = &newer;
        }
        let relation = lake.manifest().and_then(|m| m.relations.get(name));
        let relation = relation.ok_or_else(|| Error::internal("a table is not in the lake"))?;
        files::state(self.run, self.run.lake, &relation.schema, &lake.live_of(name)).await
    }

    /// What differs from the state before, and what is gone from it (`starlift/src/transform/evaluate.rs`).
    async fn model(
        &self,
        name: &str,
        version: u32,
        reason: &Evaluate,
        before: Option<&Relation>,
        rows: &Rows,
    ) -> Result<Relation> {
        let model = model(name).ok_or_else(|| Error::internal("an unknown model is planned"))?;
        let schema = model.schema(version);
        let replaced = before.map(|b| &b.schema) != Some(&schema);
        let state = match before {
            Some(before) => files::state(self.run, self.run.star, &before.schema, &self.star.live_of(name)).await?,
            None => Rows::new(),
        };
        let (mode, new) =
            if replaced { (FileMode::Full, rows.clone()) } else { (FileMode::Window, differing(rows, &state)) };
        let gone: Rows = missing(&state, rows).into_iter().map(|id| [id, 0, 0]).collect();
        let (run, star) = (self.run, self.run.star);
        let files = files::write(run, star, name, self.at, mode, &schema, &new).await?;
        let deleted = files::write(run, star, name, self.at, FileMode::Deleted, &schema, &gone).await?;
        let state = ModelState {
            kind: if model.is_fact() { "fact" } else { "dimension" }.into(),
            inputs: model.inputs().iter().map(|input| input.to_string()).collect(),
            references: BTreeMap::new(),
            tests: Vec::new(),
        };
        let pass = Pass {
            rows: rows.len() as u64,
            refused: 0,
            replaced,
            run: RelationRun {
                mode: "whole".into(),
                reason: Some(reason.text()),
                files,
                deleted,
                ..RelationRun::default()
            },
        };
        Ok(relation::model(before, schema, model.fingerprint(version), state, self.seq, pass))
    }
}
