//! What models read: tables as of the covered ingest manifest, models as this run leaves them, seeds.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use starlift_core::model::Model;
use starlift_core::state::LiveFiles;
use starlift_core::{Error, Result, TableSchema};
use starlift_lake::{State, Store};
use starlift_models::Session;

use crate::config::Project;
use crate::head::Head;

/// Registers every input of a model with the session.
///
/// `evaluated` holds the models that this run has been through, with their schema and live files.
pub(super) fn register(
    session: &mut Session,
    project: &Project,
    model: &Model,
    (lake, lake_head): (&Store, &Head),
    (star, evaluated): (&Store, &BTreeMap<String, (TableSchema, LiveFiles)>),
) -> Result<()> {
    for name in &model.inputs {
        if session.has_input(name) {
            continue;
        }
        if let Some(csv) = project.seeds.get(name) {
            session.register_seed(name, csv)?;
        } else if project.graph.get(name).is_some() {
            let (schema, files) = evaluated.get(name).ok_or_else(|| Error::internal(format!("model `{name}` has no state")))?;
            session.register_input(name, schema, rows(State::new(star, schema.clone(), files.clone())))?;
        } else {
            let relation = lake_head
                .manifest()
                .and_then(|m| m.relations.get(name))
                .ok_or_else(|| Error::internal(format!("table `{name}` is not in the lake")))?;
            let state = State::new(lake, relation.schema.clone(), lake_head.live_of(name));
            session.register_input(name, &relation.schema, rows(state))?;
        }
    }
    Ok(())
}

/// A source of rows that may be scanned several times, each time from the start.
fn rows(state: State) -> starlift_models::Source {
    Arc::new(move || {
        let state = state.clone();
        stream::once(async move { state.scan().await }).try_flatten().boxed()
    })
}
