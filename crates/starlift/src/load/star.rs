//! What load reads from the star: the rows of one manifest, or its whole state; the rows of keys that stand aside; and the
//! keys of later manifests.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::stream::{self, StreamExt, TryStreamExt};
use starlift_core::manifest::{FileMode, LiveFile, Manifest};
use starlift_core::state::{self, LiveFiles};
use starlift_core::{Error, Result, TableSchema};
use starlift_lake::reader::{read, read_keys};
use starlift_lake::{Digests, Head, KeyDigest, State, Store, manifests};
use starlift_postgres::load::{Again, Ahead, BatchStream, ModelLoad, ModelTable};

use super::order;
use crate::context::Context;

/// A model of a manifest as the warehouse sees it.
pub(crate) fn model_table(manifest: &Manifest, name: &str) -> Result<ModelTable> {
    let relation = manifest
        .relations
        .get(name)
        .ok_or_else(|| Error::internal(format!("model `{name}` is not in the star's manifest")))?;
    Ok(ModelTable {
        name: name.to_string(),
        kind: order::kind(name, relation)?,
        schema: relation.schema.clone(),
        references: relation.model.as_ref().map(|m| m.references.clone()).unwrap_or_default(),
    })
}

/// What a load brings of each model.
#[derive(Clone, Copy)]
pub(super) enum Brings<'a> {
    /// What the manifest changed.
    Changes,
    /// Its whole state, from these live files.
    State(&'a BTreeMap<String, LiveFiles>),
    /// Its whole state if it is one of these, else nothing.
    StateOf(&'a BTreeSet<String>, &'a BTreeMap<String, LiveFiles>),
}

/// The rows and retractions of each model.
pub(super) fn model_loads(
    ctx: &Context,
    star: &Store,
    manifest: &Manifest,
    names: &[String],
    brings: Brings<'_>,
) -> Result<Vec<ModelLoad<'static>>> {
    let mut loads = Vec::with_capacity(names.len());
    for name in names {
        let model = model_table(manifest, name)?;
        let nothing = || stream::empty().boxed();
        let (upserts, retractions, ahead) = match brings {
            Brings::StateOf(models, _) if !models.contains(name) => (nothing(), nothing(), None),
            Brings::State(live) | Brings::StateOf(_, live) => {
                let files = live.get(name).cloned().unwrap_or_default();
                let rows = count(&files);
                let state = State::new(star, model.schema.clone(), files)?;
                (
                    state.scan(None),
                    nothing(),
                    Some(ahead(rows, move || state.scan(Some(state.schema().key_positions())))),
                )
            }
            Brings::Changes => {
                // A row that stands aside hides the older one: what the warehouse holds of its key is not current.
                let (gone, data): (Vec<_>, Vec<_>) = manifest.files_of(name).into_iter().partition(has_no_rows);
                let upserts = rows(star, data.clone(), &model.schema);
                let (store, schema) = (star.clone(), model.schema.clone());
                let ahead = ahead(count(&data), move || keys(&store, data, &schema));
                (upserts, keys(star, gone, &model.schema), Some(ahead))
            }
        };
        let again = Some(again(ctx, star, manifest.seq, &model));
        loads.push(ModelLoad { upserts: watched(ctx, name, upserts), ahead, retractions, again, model });
    }
    Ok(loads)
}

/// What is known of rows before they are read.
fn ahead(rows: u64, keys: impl FnOnce() -> BatchStream<'static> + Send + 'static) -> Ahead<'static> {
    Ahead { rows, keys: Box::new(keys) }
}

/// Rows of files, those included that newer ones hide.
fn count(files: &[LiveFile]) -> u64 {
    state::entries(files).filter(|file| !has_no_rows(file)).map(|file| file.file.rows).sum()
}

/// How the rows of keys that stand aside are read from the state of their model as of a manifest.
fn again(ctx: &Context, star: &Store, seq: u64, model: &ModelTable) -> Again<'static> {
    let (star, pipeline, model) = (star.clone(), ctx.config.pipeline.clone(), model.clone());
    Box::new(move |upserts, keys| {
        let rows = async move {
            let digests = Digests::new(&model.schema)?;
            let mut wanted = HashSet::new();
            for batch in &keys {
                wanted.extend(digests.keys_of_key_batch(batch)?);
            }
            Ok(stream::try_unfold(
                Rest { upserts: Some(upserts), wanted, digests, star, pipeline, seq, model, state: None },
                Rest::next,
            ))
        };
        stream::once(rows).try_flatten().boxed()
    })
}

/// The rows that a manifest brings, and then those of the keys that it did not bring.
struct Rest {
    upserts: Option<BatchStream<'static>>,
    wanted: HashSet<KeyDigest>,
    digests: Digests,
    star: Store,
    pipeline: String,
    seq: u64,
    model: ModelTable,
    state: Option<BatchStream<'static>>,
}

impl Rest {
    async fn next(mut self) -> Result<Option<(RecordBatch, Rest)>> {
        if let Some(upserts) = &mut self.upserts {
            if let Some(batch) = upserts.try_next().await? {
                for key in self.digests.keys(&batch)? {
                    self.wanted.remove(&key);
                }
                return Ok(Some((batch, self)));
            }
            self.upserts = None;
            if !self.wanted.is_empty() {
                let head = Head::at(&self.star, &self.pipeline, self.seq).await?;
                let state = State::new(&self.star, self.model.schema.clone(), head.live_of(&self.model.name))?;
                self.state = Some(state.select(Arc::new(std::mem::take(&mut self.wanted)), None));
            }
        }
        let Some(state) = &mut self.state else { return Ok(None) };
        Ok(state.try_next().await?.map(|batch| (batch, self)))
    }
}

fn has_no_rows(file: &LiveFile) -> bool {
    matches!(file.file.mode, FileMode::Deleted | FileMode::Refused)
}

/// The rows of files.
fn rows(star: &Store, files: LiveFiles, schema: &TableSchema) -> BatchStream<'static> {
    let (star, data) = (star.clone(), schema.to_arrow());
    stream::iter(files).flat_map(move |file: LiveFile| read(&star, &file.file, data.clone(), None)).boxed()
}

fn watched(ctx: &Context, name: &str, batches: BatchStream<'static>) -> BatchStream<'static> {
    let (progress, name) = (ctx.progress.clone(), name.to_string());
    batches
        .inspect_ok(move |batch| {
            progress.advanced(super::STAGE, &name, batch.num_rows() as u64, batch.get_array_memory_size() as u64);
        })
        .boxed()
}

/// What manifests after `loaded`, up to `newest`, bring for the keys of these models.
pub(super) fn later(
    star: &Store,
    loads: &[ModelLoad<'_>],
    loaded: u64,
    newest: u64,
) -> impl Fn(&str) -> BatchStream<'static> + Send + Sync + use<> {
    let keys: BTreeMap<String, Vec<String>> =
        loads.iter().map(|m| (m.model.name.clone(), m.model.schema.key.clone())).collect();
    let star = star.clone();
    move |model: &str| {
        let key = keys.get(model).cloned().unwrap_or_default();
        later_keys(star.clone(), key, model.to_string(), loaded + 1, newest)
    }
}

/// The keys of a model that the manifests `from..=upto` have an entry of, row or retraction.
fn later_keys(star: Store, key: Vec<String>, model: String, from: u64, upto: u64) -> BatchStream<'static> {
    let keys_of = move |seq: u64| {
        let (star, model, key) = (star.clone(), model.clone(), key.clone());
        async move {
            let stored = manifests::read(&star, seq).await?;
            let Some(relation) = stored.manifest.relations.get(&model) else {
                return Ok(stream::empty().boxed());
            };
            if relation.schema.key != key {
                return Err(Error::config(format!("the key of model `{model}` changed in star manifest {seq}"))
                    .with_hint("run `starlift load --adopt` to bring the newest star state in"));
            }
            Ok(keys(&star, stored.manifest.files_of(&model), &relation.schema))
        }
    };
    stream::iter(from..=upto).then(keys_of).try_flatten().boxed()
}

/// The keys of all entries of files: rows, retractions, refused rows.
fn keys(star: &Store, files: LiveFiles, schema: &TableSchema) -> BatchStream<'static> {
    let (star, schema) = (star.clone(), schema.clone());
    stream::iter(files).flat_map(move |file: LiveFile| read_keys(&star, &file.file, &schema)).boxed()
}
