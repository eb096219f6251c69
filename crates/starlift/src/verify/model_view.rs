//! A model and its view of current rows, side by side: which columns can be compared, and what load has still to bring.

use std::collections::{BTreeMap, HashSet};

use futures::TryStreamExt;
use starlift_core::manifest::Relation;
use starlift_core::{Result, TableSchema};
use starlift_lake::reader::read_keys;
use starlift_lake::{Store, manifests};
use starlift_postgres::load::view_name;

use super::lake_side::digests_of_keys;
use super::report::{Comparison, NOT_COMPARED, Verdict};
use super::row_digest::RowDigest;
use super::sql_side::SqlColumn;
use super::warehouse_view::{Held, WarehouseView, column, padded_key};

/// The columns of a model that its view holds.
pub(super) struct ModelView {
    /// The key, as the view shows it.
    pub(super) key: Vec<SqlColumn>,
    /// Every column that can be compared, with its name.
    pub(super) columns: Vec<(String, SqlColumn)>,
    /// Columns of types that have no text in common.
    pub(super) left_out: Vec<String>,
}

impl ModelView {
    /// Pairs a model's columns with those of its view.
    ///
    /// Where the view is not there, or lacks a column, or its key cannot be compared, `comparison` is what is to be
    /// reported.
    pub(super) fn new(
        schema: &TableSchema,
        held: Option<&BTreeMap<String, Held>>,
        comparison: &mut Comparison,
    ) -> Option<ModelView> {
        let missing = |comparison: &mut Comparison, note: String| {
            comparison.verdict = Verdict::Missing;
            comparison.notes.push(note);
            None
        };
        let view = view_name(&comparison.name);
        let Some(held) = held else {
            let note = format!("the warehouse has no view `{view}`: run `starlift load`");
            return missing(comparison, note);
        };
        let mut found = ModelView { key: vec![], columns: vec![], left_out: vec![] };
        for c in &schema.columns {
            let Some(held) = held.get(&c.name) else {
                return missing(comparison, format!("view `{view}` of the warehouse has no column `{}`", c.name));
            };
            match column(c, held) {
                Some(sql) => found.columns.push((c.name.clone(), sql)),
                None => found.left_out.push(c.name.clone()),
            }
        }
        found.key = schema.key.iter().filter_map(|name| found.column(name)).collect();
        if found.key.is_empty() || found.key.len() != schema.key.len() {
            return missing(comparison, format!("the key of view `{view}` is of a type that cannot be compared"));
        }
        Some(found)
    }

    /// A column by its name.
    pub(super) fn column(&self, name: &str) -> Option<SqlColumn> {
        self.columns.iter().find(|(n, _)| n == name).map(|(_, sql)| sql.clone())
    }

    /// What was left out, as a note, which matters for what is equal too.
    pub(super) fn note(&self) -> Option<String> {
        let names: Vec<String> = self.left_out.iter().map(|name| format!("`{name}`")).collect();
        (!names.is_empty())
            .then(|| format!("{NOT_COMPARED}, because the warehouse holds another type: {}", names.join(", ")))
    }
}

/// The keys that star manifests after the loaded one upsert or retract: what the warehouse holds of them is pending.
pub(super) struct Later {
    first: u64,
    last: u64,
    keys: BTreeMap<String, HashSet<RowDigest>>,
    none: HashSet<RowDigest>,
}

impl Later {
    /// Reads the manifests after `loaded` up to `newest`; keys as the warehouse holds them.
    pub(super) async fn read(star: &Store, warehouse: &WarehouseView, loaded: u64, newest: u64) -> Result<Later> {
        let mut later = Later { first: loaded + 1, last: newest, keys: BTreeMap::new(), none: HashSet::new() };
        for seq in later.first..=newest {
            let stored = manifests::read(star, seq).await?;
            for (name, relation) in &stored.manifest.relations {
                later.add(star, warehouse, name, relation).await?;
            }
        }
        Ok(later)
    }

    async fn add(&mut self, star: &Store, warehouse: &WarehouseView, name: &str, relation: &Relation) -> Result<()> {
        let Some(run) = &relation.run else { return Ok(()) };
        let padded = padded_key(&relation.schema.key, warehouse.columns(name).await?.as_ref());
        for file in run.all_files() {
            let mut keys = read_keys(star, file, &relation.schema);
            while let Some(batch) = keys.try_next().await? {
                let digests = digests_of_keys(&batch, &padded).into_iter().flatten();
                self.keys.entry(name.to_string()).or_default().extend(digests);
            }
        }
        Ok(())
    }

    /// The keys of one model.
    pub(super) fn of(&self, model: &str) -> &HashSet<RowDigest> {
        self.keys.get(model).unwrap_or(&self.none)
    }

    /// Counts what is still to be loaded of a model as pending, and says so.
    pub(super) fn note(&self, comparison: &mut Comparison) {
        let waiting = self.of(&comparison.name).len() as u64;
        if waiting > 0 {
            comparison.pending = comparison.pending.max(waiting);
            let which = match (self.first, self.last) {
                (first, last) if first == last => format!("star manifest {first} is"),
                (first, last) => format!("star manifests {first} to {last} are"),
            };
            comparison.notes.push(format!("{which} not loaded yet"));
        }
    }
}
