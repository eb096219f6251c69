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
}

impl Evaluate {
    /// The words that a manifest, `plan` and the run's card show.
    pub fn text(&self) -> String {
        match self {
            Evaluate::New => "new model".into(),
            Evaluate::Changed => "model changed".into(),
            Evaluate::Lake => "lake changed".into(),
            Evaluate::Input(name) => format!("{name} changed"),
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
            Some(_) => changed_input().map(|input| Evaluate::Input(input.clone())),
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
