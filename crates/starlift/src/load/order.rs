//! The order in which models of one manifest are loaded: the calendar, dimensions, then facts, each after what it refers to.

use std::collections::BTreeSet;

use starlift_core::manifest::{Manifest, Relation};
use starlift_core::model::ModelKind;
use starlift_core::{Error, Result};

/// The kind of a model in a manifest.
pub(crate) fn kind(name: &str, relation: &Relation) -> Result<ModelKind> {
    relation
        .model
        .as_ref()
        .and_then(|m| ModelKind::from_name(&m.kind))
        .ok_or_else(|| Error::data(format!("the star's manifest says nothing of the kind of `{name}`")))
}

/// Names of all models in the order of the load.
pub(crate) fn load_order(manifest: &Manifest) -> Result<Vec<String>> {
    let mut rest: BTreeSet<&String> = manifest.relations.keys().collect();
    let mut order = Vec::with_capacity(rest.len());
    let rank = |name: &String| -> Result<u8> {
        Ok(match kind(name, &manifest.relations[name])? {
            ModelKind::Calendar => 0,
            ModelKind::Dimension => 1,
            ModelKind::Fact => 2,
        })
    };
    while !rest.is_empty() {
        let waits = |name: &String| {
            let references = manifest.relations[name].model.iter().flat_map(|m| m.references.values());
            references.into_iter().any(|target| target != name && rest.contains(target))
        };
        let mut ready: Vec<&String> = rest.iter().copied().filter(|name| !waits(name)).collect();
        if ready.is_empty() {
            // Tables that refer to one another in a circle: the order by kind and name is as good as any.
            ready = rest.iter().copied().collect();
        }
        let mut ranked = ready.into_iter().map(|name| Ok((rank(name)?, name))).collect::<Result<Vec<_>>>()?;
        ranked.sort();
        let Some((_, next)) = ranked.first() else { break };
        rest.remove(*next);
        order.push((*next).clone());
    }
    Ok(order)
}
