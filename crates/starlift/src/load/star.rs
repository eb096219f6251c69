//! What load reads from the star: the rows of one manifest, or its whole state; and what later manifests replace.

use std::collections::BTreeMap;

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use starlift_core::manifest::{FileMode, LiveFile, Manifest};
use starlift_core::state::LiveFiles;
use starlift_core::{Error, Result, TableSchema};
use starlift_lake::{Digests, State, Store, manifests, read};
use starlift_postgres::load::{LookAhead, ModelLoad};

use arrow::array::RecordBatch;

use super::order;
use crate::context::Context;

type Batches = BoxStream<'static, Result<RecordBatch>>;

/// The rows and retractions of each model: those of the manifest, or with `live` the whole state.
pub(super) fn model_loads(
    ctx: &Context,
    star: &Store,
    manifest: &Manifest,
    names: &[String],
    live: Option<&BTreeMap<String, LiveFiles>>,
) -> Result<Vec<ModelLoad<'static>>> {
    let mut loads = Vec::with_capacity(names.len());
    for name in names {
        let relation = &manifest.relations[name];
        let schema = relation.schema.clone();
        let (upserts, retractions) = match live {
            Some(live) => {
                let state = State::new(star, schema.clone(), live.get(name).cloned().unwrap_or_default());
                (whole(state), stream::empty().boxed())
            }
            None => {
                let (deleted, data): (Vec<_>, Vec<_>) =
                    manifest.files_of(name).into_iter().partition(|f| f.file.mode == FileMode::Deleted);
                (files(star, data, schema.to_arrow()), files(star, deleted, schema.key_to_arrow()))
            }
        };
        loads.push(ModelLoad {
            name: name.clone(),
            kind: order::kind(name, relation)?,
            references: relation.model.as_ref().map(|m| m.references.clone()).unwrap_or_default(),
            upserts: watched(ctx, name, upserts),
            retractions,
            schema,
        });
    }
    Ok(loads)
}

fn whole(state: State) -> Batches {
    stream::once(async move { state.scan().await }).try_flatten().boxed()
}

fn files(star: &Store, files: Vec<LiveFile>, schema: arrow::datatypes::SchemaRef) -> Batches {
    let star = star.clone();
    stream::iter(files)
        .then(move |file| {
            let (star, schema) = (star.clone(), schema.clone());
            async move { read(&star, &file.file, schema).await }
        })
        .try_flatten()
        .boxed()
}

fn watched(ctx: &Context, name: &str, batches: Batches) -> Batches {
    let (progress, name) = (ctx.progress.clone(), name.to_string());
    batches
        .inspect_ok(move |batch| {
            progress.advanced(super::STAGE, &name, batch.num_rows() as u64, batch.get_array_memory_size() as u64);
        })
        .boxed()
}

/// The star manifests after the one that is being loaded.
pub(super) struct Later<'a> {
    pub(super) star: &'a Store,
    pub(super) from: u64,
    pub(super) upto: u64,
}

impl LookAhead for Later<'_> {
    /// Which of these keys a later manifest replaces or retracts.
    async fn replaced(&self, model: &str, schema: &TableSchema, keys: &RecordBatch) -> Result<Vec<bool>> {
        let mut digests = Digests::of_key(schema)?;
        let wanted = digests.keys(keys)?;
        let mut replaced = vec![false; wanted.len()];
        for seq in self.from..=self.upto {
            let stored = manifests::read(self.star, seq).await?;
            let Some(relation) = stored.manifest.relations.get(model) else { continue };
            if relation.schema.key_to_arrow() != schema.key_to_arrow() {
                return Err(Error::config(format!("the key of model `{model}` changed in star manifest {seq}"))
                    .with_hint("run `starlift load --adopt` to bring the newest star state in"));
            }
            let later = State::new(self.star, relation.schema.clone(), stored.manifest.files_of(model));
            let found = later.touched(&wanted.iter().copied().collect()).await?;
            for (flag, key) in replaced.iter_mut().zip(&wanted) {
                *flag |= found.contains(key);
            }
        }
        Ok(replaced)
    }
}
