//! What load is given: models with their rows, the run that they belong to, and what comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::stream::BoxStream;
use serde_json::json;
use starlift_core::load_plan::LedgerHead;
use starlift_core::model::ModelKind;
use starlift_core::refused::RefusedRows;
use starlift_core::{ColumnType, Error, Result, TableSchema};

use super::unique::Hazard;
use super::view::LONGEST_NAME;
use crate::connect::IDLE_TIMEOUT;

/// Batches of rows, read as they are needed.
pub type BatchStream<'a> = BoxStream<'a, Result<RecordBatch>>;

/// Gives, for a model, the keys that manifests after the one being loaded upsert or retract: batches that hold at
/// least the model's key columns. It is asked only where rows do not fit the warehouse.
pub type LookAhead<'a> = dyn Fn(&str) -> BatchStream<'a> + Send + Sync + 'a;

/// A look-ahead where no later manifest exists, as when a warehouse is adopted.
pub fn nothing_later<'a>(_model: &str) -> BatchStream<'a> {
    Box::pin(futures::stream::empty())
}

/// Adds to the rows that a manifest brings those that the star has of these keys as of that manifest: batches of the key's
/// columns, in the order of the key. Keys that the manifest brings itself are left out.
pub type Again<'a> = Box<dyn FnOnce(BatchStream<'a>, Vec<RecordBatch>) -> BatchStream<'a> + Send + 'a>;

/// A model as load sees it; its table in the warehouse has the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelTable {
    /// The model's name.
    pub name: String,
    /// How it is loaded.
    pub kind: ModelKind,
    /// The columns that it yields, and its key.
    pub schema: TableSchema,
    /// Columns that refer to the key of another model: column to model.
    pub references: BTreeMap<String, String>,
}

impl ModelTable {
    /// The same model with documents of `json` in its key, and in columns that refer to a key, as texts: PostgreSQL has
    /// neither `=` nor an order for them, and a key of the lake is its bytes in any case.
    pub(crate) fn with_keys_that_compare(mut self) -> ModelTable {
        for column in self.schema.columns.iter_mut().filter(|column| column.column_type == ColumnType::Json) {
            if self.schema.key.contains(&column.name) || self.references.contains_key(&column.name) {
                column.column_type = ColumnType::Text;
            }
        }
        self
    }

    /// Whether the warehouse can have a table and columns of these names: PostgreSQL cuts longer ones without an error.
    ///
    /// # Errors
    /// Config with the name.
    pub fn check_names(&self) -> Result<()> {
        let columns = self.schema.columns.iter().map(|column| (format!("its column `{}`", column.name), &column.name));
        let mut names = [("its name".to_string(), &self.name)].into_iter().chain(columns);
        let Some((what, name)) = names.find(|(_, name)| name.len() > LONGEST_NAME) else { return Ok(()) };
        Err(Error::config(format!("model `{}` cannot be loaded", self.name))
            .with_detail(format!("{what} has {} bytes, and a name of PostgreSQL at most {LONGEST_NAME}", name.len()))
            .with_hint("give it a shorter one: the model by the name of its file, a column by `as`")
            .with_context("model", self.name.clone()))
    }

    /// Whether the model can be loaded at all.
    ///
    /// # Errors
    /// Config for a model without key, with a key that it does not yield, or with names that are too long.
    pub fn check(&self) -> Result<()> {
        self.check_names()?;
        let missing = self.schema.key.iter().find(|name| self.schema.column(name).is_none());
        let detail = match missing {
            Some(name) => format!("it does not yield its key column `{name}`"),
            None if self.schema.key.is_empty() => "it has no key".to_string(),
            None => return Ok(()),
        };
        Err(Error::config(format!("model `{}` cannot be loaded", self.name))
            .with_detail(detail)
            .with_hint("name the columns that identify a row in its header: `-- key: order_id`")
            .with_context("model", self.name.clone()))
    }
}

/// What is known of the rows that a manifest brings before they are read.
pub struct Ahead<'a> {
    /// How many they are, at most.
    pub rows: u64,
    /// Reads their keys: batches that hold at least the key's columns.
    pub keys: Box<dyn FnOnce() -> BatchStream<'a> + Send + 'a>,
}

/// A model with what one star manifest brings for it.
pub struct ModelLoad<'a> {
    /// The model.
    pub model: ModelTable,
    /// Rows that are new or differ, each key once; on adoption the whole state. Columns are found by name.
    pub upserts: BatchStream<'a>,
    /// What is known of them before; none where they are not to be copied straight into their table.
    pub ahead: Option<Ahead<'a>>,
    /// Keys that have no row any more: batches with at least the key columns. Not read on adoption, where they follow
    /// from the state, nor of a calendar, which never loses a day.
    pub retractions: BatchStream<'a>,
    /// How rows that stand aside are read again; none where they are not to be tried again.
    pub again: Option<Again<'a>>,
}

/// How long load waits. Zero means for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadLimits {
    /// For a lock: another load of this pipeline, or somebody who alters a table.
    pub lock_timeout: Duration,
    /// For one statement.
    pub statement_timeout: Duration,
    /// The server for the next statement: it ends a transaction that idles for longer. While the star is read without a word to the
    /// server, it is sent one every tenth of that.
    pub idle_timeout: Duration,
}

impl Default for LoadLimits {
    fn default() -> Self {
        LoadLimits {
            lock_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(600),
            idle_timeout: IDLE_TIMEOUT,
        }
    }
}

/// Which rows that the warehouse refuses a load may set aside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MaySetAside {
    /// So many, of all models together. Rows that stood aside before, or only wait for others, are not counted.
    pub rows: u64,
    /// Models whose rows are not counted.
    pub accepted: BTreeSet<String>,
    /// Whether the refused value is kept beside its reason.
    pub keep_values: bool,
    /// Whether rows that stand aside are tried again although nothing has changed that is known to help them.
    pub replay: bool,
}

/// One star manifest on its way into the warehouse.
#[derive(Debug, Clone)]
pub struct LoadRun {
    /// The pipeline's name.
    pub pipeline: String,
    /// The star's id.
    pub star_id: String,
    /// The manifest's seq.
    pub seq: u64,
    /// The manifest's SHA-256.
    pub manifest_sha256: String,
    /// The run that loads it.
    pub run_id: String,
    /// The warehouse's schema.
    pub schema: String,
    /// Whether the warehouse is taken over: the rows are the newest star state, and keys of the warehouse that are not
    /// among them are retracted.
    pub adopt: bool,
    /// Models whose whole state the manifest brings although it follows another, such as one that is new or has other columns:
    /// their tables are taken over, so that keys from before which the state does not have are retracted.
    pub whole: BTreeSet<String>,
    /// The ledger's head that this load was planned from (see [`super::head`]); under the lock it must still be this.
    pub head: Option<LedgerHead>,
    /// Which rows may be set aside.
    pub aside: MaySetAside,
    /// Whether a large load may take the bulk path: locks on what it writes, for less time of its own.
    pub bulk: bool,
    /// How long to wait.
    pub limits: LoadLimits,
}

/// What became of a load.
#[derive(Debug)]
pub enum LoadOutcome {
    /// It is committed.
    Loaded(LoadReport),
    /// The warehouse held this manifest already; nothing was done.
    AlreadyLoaded,
    /// Another load moved the ledger since this one was planned; nothing was done. Plan again from this head.
    Moved {
        /// The ledger's head under the lock.
        head: Option<LedgerHead>,
    },
    /// The connection was lost during COMMIT: nobody knows whether it is committed. Connect again, read the ledger, and
    /// plan from it.
    Unknown {
        /// How it was lost.
        error: Error,
        /// What was done, if it is committed.
        report: LoadReport,
    },
}

/// What one load did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadReport {
    /// Every model with what was done to its table, in load order.
    pub models: Vec<ModelReport>,
    /// Days that were added to the calendar beyond its own rows.
    pub dates_added: u64,
    /// What may refuse valid rows of the models that it wrote to.
    pub hazards: Vec<Hazard>,
}

/// What one load did with one model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelReport {
    /// The model.
    pub model: String,
    /// Rows that the manifest brought, with those that stood aside and were tried again.
    pub staged: u64,
    /// Rows, or versions of a fact, that were inserted.
    pub inserted: u64,
    /// Rows of a dimension that were changed.
    pub updated: u64,
    /// Rows that the warehouse had already.
    pub unchanged: u64,
    /// Keys that were newly recorded as retracted.
    pub retracted: u64,
    /// Retracted keys that came back.
    pub returned: u64,
    /// Rows that do not fit, and that a later manifest replaces or retracts.
    pub passed_over: u64,
    /// Rows that were set aside and were not before, those that only wait for others left out.
    pub refused: RefusedRows,
    /// Rows that stand aside afterwards, in all.
    pub aside: u64,
}

impl LoadReport {
    /// Rows and versions that were inserted or changed, in all models.
    pub fn rows_written(&self) -> u64 {
        self.models.iter().map(|m| m.inserted + m.updated).sum()
    }

    /// The ledger's `rows`: the counts by model, without models that nothing happened to.
    pub fn to_json(&self) -> serde_json::Value {
        let mut models = serde_json::Map::new();
        for report in &self.models {
            if (ModelReport { model: report.model.clone(), aside: report.aside, ..ModelReport::default() }) == *report {
                continue;
            }
            let counts = json!({
                "staged": report.staged,
                "inserted": report.inserted,
                "updated": report.updated,
                "unchanged": report.unchanged,
                "retracted": report.retracted,
                "returned": report.returned,
                "passed_over": report.passed_over,
                "refused": report.refused.rows(),
            });
            models.insert(report.model.clone(), counts);
        }
        json!({ "models": models, "dates_added": self.dates_added })
    }
}
