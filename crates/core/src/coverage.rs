//! What transform has to do: which models to evaluate, found from the newest manifests of lake and star.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::manifest::{Manifest, Origin};

/// A model as the project has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelNow {
    /// Its name.
    pub name: String,
    /// Names its SQL, header, seeds and evaluation.
    pub fingerprint: String,
    /// The source tables and models that it reads.
    pub inputs: Vec<String>,
}

/// Why a model is evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evaluate {
    /// The star has no state of it.
    New,
    /// Its SQL, header, seeds or settings changed.
    Changed,
    /// The lake is another one than before.
    Lake,
    /// An input changed since the covered seq.
    Input(String),
    /// A person asked for it: the star differed from what the lake says.
    Repair,
}

impl Evaluate {
    /// The words that a manifest, `plan` and the run's card show.
    pub fn text(&self) -> String {
        match self {
            Evaluate::New => "new model".into(),
            Evaluate::Changed => "model changed".into(),
            Evaluate::Lake => "lake changed".into(),
            Evaluate::Input(name) => format!("{name} changed"),
            Evaluate::Repair => "repair".into(),
        }
    }
}

/// What one transform does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransformPlan {
    /// The ingest seq that the star covers so far; 0 where coverage starts.
    pub after: u64,
    /// The ingest seq that the star will cover.
    pub upto: u64,
    /// Models to evaluate, in the order in which they were given, with the reason.
    pub evaluate: Vec<(String, Evaluate)>,
    /// Models that wait for tables which no ingest has read yet.
    pub waiting: BTreeMap<String, Vec<String>>,
    /// Models that the star has and the project has no more.
    pub dropped: Vec<String>,
    /// Whether nothing has to be committed: all changes are covered and all fingerprints agree.
    pub settled: bool,
}

/// Plans a transform. `models` come in dependency order.
///
/// Errors: Config where the star covers more than the lake holds, which means that one of them was put back.
pub fn plan(lake: &Manifest, star: Option<&Manifest>, models: &[ModelNow]) -> Result<TransformPlan> {
    plan_repair(lake, star, models, &BTreeSet::new())
}

/// Plans a transform that evaluates the models in `again` whatever the manifests say, and with them what reads them.
///
/// Errors: those of [`plan`].
pub fn plan_repair(
    lake: &Manifest,
    star: Option<&Manifest>,
    models: &[ModelNow],
    again: &BTreeSet<String>,
) -> Result<TransformPlan> {
    let covered = star.and_then(|s| match &s.origin {
        Origin::Transform { lake_id, upto, .. } => Some((lake_id.as_str(), *upto)),
        Origin::Ingest { .. } => None,
    });
    let same_lake = covered.is_none_or(|(lake_id, _)| lake_id == lake.id);
    let after = covered.filter(|_| same_lake).map_or(0, |(_, upto)| upto);
    if after > lake.seq {
        return Err(Error::config("the star covers more than the lake holds")
            .with_detail(format!("the star covers ingest manifest {after}, the newest in the lake is {}", lake.seq))
            .with_hint("put the lake's missing manifests back, or start a new star by pointing `lake.transform` at an empty place"));
    }

    let model_names: BTreeSet<&str> = models.iter().map(|m| m.name.as_str()).collect();
    let mut evaluate: Vec<(String, Evaluate)> = Vec::new();
    let mut waiting: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for model in models {
        let missing: Vec<String> = model
            .inputs
            .iter()
            .filter(|input| {
                let is_model = model_names.contains(input.as_str());
                (is_model && waiting.contains_key(*input)) || (!is_model && !lake.relations.contains_key(*input))
            })
            .cloned()
            .collect();
        if !missing.is_empty() {
            waiting.insert(model.name.clone(), missing);
            continue;
        }
        let changed_input = || {
            model.inputs.iter().find(|input| {
                evaluate.iter().any(|(name, _)| name == *input)
                    || (!model_names.contains(input.as_str())
                        && lake.relations.get(*input).is_some_and(|r| r.last_change > after))
            })
        };
        let reason = match star.and_then(|s| s.relations.get(&model.name)) {
            None => Some(Evaluate::New),
            Some(_) if !same_lake => Some(Evaluate::Lake),
            Some(before) if before.fingerprint != model.fingerprint => Some(Evaluate::Changed),
            Some(_) => changed_input()
                .map(|input| Evaluate::Input(input.clone()))
                .or_else(|| again.contains(&model.name).then_some(Evaluate::Repair)),
        };
        if let Some(reason) = reason {
            evaluate.push((model.name.clone(), reason));
        }
    }

    let dropped: Vec<String> = star
        .map(|s| s.relations.keys().filter(|name| !model_names.contains(name.as_str())).cloned().collect())
        .unwrap_or_default();
    let settled = evaluate.is_empty() && dropped.is_empty() && same_lake && lake.newest_change <= after;
    Ok(TransformPlan { after, upto: lake.seq, evaluate, waiting, dropped, settled })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{ModelState, Relation};
    use crate::schema::TableSchema;
    use crate::succession::{Draft, next};
    use crate::time::Micros;

    fn manifest(origin: Origin, names: &[&str]) -> Manifest {
        let relation = |name: &&str| {
            let relation = Relation {
                schema: TableSchema {
                    columns: vec![],
                    key: vec!["id".into()],
                    oid: None,
                    partitions: vec![],
                    attributes: vec![],
                },
                fingerprint: "f".into(),
                rows: 1,
                refused: 0,
                last_change: 1,
                base: 1,
                capture: None,
                model: Some(ModelState {
                    kind: "fact".into(),
                    inputs: vec![],
                    references: BTreeMap::new(),
                    tests: vec![],
                }),
                run: None,
            };
            (name.to_string(), relation)
        };
        let draft = Draft {
            pipeline: "p".into(),
            new_id: "lake".into(),
            run_id: "r".into(),
            write_id: "w".into(),
            version: "0".into(),
            at: Micros(1),
            started: Micros(1),
            finished: Micros(1),
            origin,
            relations: names.iter().map(relation).collect(),
            upkept: BTreeMap::new(),
            compaction: false,
        };
        next(None, BTreeMap::new(), draft)
    }

    #[test]
    fn a_repair_evaluates_what_it_is_asked_for_and_what_reads_it_although_nothing_changed() {
        let covers = || Origin::Transform { lake_id: "lake".into(), after: 0, upto: 1, upto_sha256: None };
        let (lake, star) = (manifest(covers(), &["t"]), manifest(covers(), &["a", "b", "c"]));
        let model = |(name, input): (&str, &str)| ModelNow {
            name: name.into(),
            fingerprint: "f".into(),
            inputs: vec![input.into()],
        };
        let models = [("a", "t"), ("b", "a"), ("c", "t")].map(model);
        assert!(plan(&lake, Some(&star), &models).unwrap().settled);
        let repair = plan_repair(&lake, Some(&star), &models, &["a".to_string()].into()).unwrap();
        let expected = [("a".to_string(), Evaluate::Repair), ("b".to_string(), Evaluate::Input("a".into()))];
        assert_eq!((repair.settled, repair.evaluate), (false, expected.to_vec()));
    }
}
