//! What models read: tables as of the covered ingest manifest, models as this run leaves them, seeds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use starlift_core::manifest::Relation;
use starlift_core::model::Model;
use starlift_core::state::{self, LiveFiles};
use starlift_core::{Error, Result, TableSchema};
use starlift_lake::{Head, State, Store};
use starlift_models::{InputSource, Session, SessionOptions};

use super::Relations;
use super::image::Image;
use crate::config::{Config, Project};

/// Models that a run has been through, with their schema and live files.
pub(crate) type Evaluated = BTreeMap<String, (TableSchema, LiveFiles)>;

/// A session and what is registered in it.
pub(crate) struct Inputs<'a> {
    session: Session,
    registered: BTreeSet<String>,
    project: &'a Project,
    lake: (&'a Store, &'a Head),
    star: &'a Store,
}

impl<'a> Inputs<'a> {
    /// A session without inputs, over a lake as of its head.
    pub(crate) fn new(
        config: &Config,
        project: &'a Project,
        lake: (&'a Store, &'a Head),
        star: &'a Store,
    ) -> Result<Inputs<'a>> {
        let session = Session::new(SessionOptions {
            memory_limit_bytes: usize::try_from(config.transform_memory_mb << 20).unwrap_or(usize::MAX),
            spill_dir: Some(config.spill_dir.clone()),
            ..SessionOptions::default()
        })?;
        Ok(Inputs { session, registered: BTreeSet::new(), project, lake, star })
    }

    /// The session.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// `inputs_now`: what is registered from now on is as of now. Leaks the head, which only a test sees.
    #[cfg(debug_assertions)]
    pub(crate) async fn read_now(&mut self, pipeline: &str) -> Result<()> {
        if starlift_core::fault::planted("inputs_now") {
            self.lake.1 = Box::leak(Box::new(Head::read(self.lake.0, pipeline).await?));
        }
        Ok(())
    }

    /// Registers every input of a model, and the seeds that its tests refer to.
    pub(crate) fn register(&mut self, model: &Model, evaluated: &Evaluated) -> Result<()> {
        for (name, csv) in self.project.seeds_of(model) {
            if !self.registered.contains(name) {
                self.session.register_seed(name, csv)?;
                self.registered.insert(name.to_string());
            }
        }
        for name in &model.inputs {
            if self.registered.contains(name) {
                continue;
            }
            let (store, schema, files) = self.stored(name, evaluated)?;
            let state = State::new(store, schema.clone(), files)?;
            // Scanned anew for each use: a model may read an input more than once.
            let source: InputSource = Arc::new(move || state.scan(None));
            self.session.register_input(name, &schema, source)?;
            self.registered.insert(name.clone());
        }
        Ok(())
    }

    /// The inputs of a model that have a key, before and after: tables since the covered ingest manifest `after`, models
    /// since the star's manifest before `seq`. What replaced them meanwhile is for the caller to know.
    pub(super) fn images(
        &self,
        model: &Model,
        evaluated: &Evaluated,
        relations: &Relations,
        (after, seq): (u64, u64),
    ) -> Result<BTreeMap<String, Image>> {
        let mut images = BTreeMap::new();
        for name in model.inputs.iter().filter(|name| !self.project.seeds.contains_key(*name)) {
            let (store, schema, files) = self.stored(name, evaluated)?;
            let is_model = self.project.graph.get(name).is_some();
            let relation = if is_model { relations.get(name) } else { self.table(name) };
            let before = if is_model { seq.saturating_sub(1) } else { after };
            if !schema.key.is_empty() {
                let rows = relation.map_or(0, |relation| relation.rows);
                images.insert(name.clone(), Image::new(store, schema, files, rows, before)?);
            }
        }
        Ok(images)
    }

    /// Whether the files of a table still show what it was as of a manifest and which keys were written since.
    pub(super) fn shows_since(&self, name: &str, seq: u64) -> bool {
        let files = self.lake.1.live.get(name).map(Vec::as_slice).unwrap_or_default();
        self.table(name).is_none_or(|table| state::shows_since(files, seq, table.last_change))
    }

    /// A table of the lake.
    pub(crate) fn table(&self, name: &str) -> Option<&Relation> {
        self.lake.1.manifest()?.relations.get(name)
    }

    /// Where a table or model is, with its columns and live files.
    fn stored(&self, name: &str, evaluated: &Evaluated) -> Result<(&'a Store, TableSchema, LiveFiles)> {
        if self.project.graph.get(name).is_some() {
            let missing = || Error::internal(format!("model `{name}` has no state"));
            let (schema, files) = evaluated.get(name).ok_or_else(missing)?;
            return Ok((self.star, schema.clone(), files.clone()));
        }
        let relation = self.table(name).ok_or_else(|| Error::internal(format!("table `{name}` is not in the lake")))?;
        Ok((self.lake.0, relation.schema.clone(), self.lake.1.live_of(name)))
    }
}
