//! A session: the inputs that models are evaluated over, and the bounds of their evaluation.
//!
//! Guarantees:
//!
//! - nothing is read but what is registered here: there are no object stores, no files, no table functions and no
//!   information schema; nothing is written but spill files;
//! - memory of joins, sorts and aggregates stays within the limit; what may be put aside goes to the spill folder.
//!
//! A crash leaves at most a folder of spill files in the spill folder. Nothing ever reads it again; it may be deleted.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use starlift_core::model::{Model, unknown_input};
use starlift_core::{Error, Result, TableSchema};

use crate::arithmetic::CheckedArithmetic;
use crate::checked_sum::checked_sum;
use crate::extremes::extremes;
use crate::functions;
use crate::input::{Input, InputSource};
use crate::meaning::{self, Meaning};
use crate::memory::{SessionMemory, merge_bytes};
use crate::model_test::Seeds;
use crate::prepared::{PreparedModel, prepare};
use crate::seed::read_seed;
use crate::ties::{TiesOfRows, TiesOfWindows};

/// The catalog and the schema that hold the inputs; models name neither.
const CATALOG: (&str, &str) = ("starlift", "inputs");

/// Memory that there has to be for each row of a batch: a sort that spilled merges many runs and holds a batch of each,
/// so that a small limit needs small batches.
const MEMORY_PER_BATCH_ROW: usize = 16 << 10;

/// The bounds of a session.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Bytes that joins, sorts and aggregates may hold in memory together.
    pub memory_limit_bytes: usize,
    /// Where they put aside what does not fit; none means that they fail instead.
    pub spill_dir: Option<PathBuf>,
    /// How many parts of a plan may run at the same time; at least 1.
    pub partitions: usize,
    /// Rows of a batch, at most; at least 1. A limit under 128 MiB makes batches smaller than the default.
    pub batch_rows: usize,
}

impl Default for SessionOptions {
    /// 256 MiB, no spill folder, one partition, 8192 rows.
    fn default() -> Self {
        SessionOptions { memory_limit_bytes: 256 << 20, spill_dir: None, partitions: 1, batch_rows: 8192 }
    }
}

/// Inputs that models can be prepared and evaluated over.
#[derive(Clone)]
pub struct Session {
    context: SessionContext,
    /// What tests of models compare with.
    seeds: Arc<Mutex<Seeds>>,
}

impl Session {
    /// A session without inputs.
    ///
    /// Errors: Config where the spill folder cannot be used.
    pub fn new(options: SessionOptions) -> Result<Session> {
        let spill = match options.spill_dir {
            Some(dir) => DiskManagerMode::Directories(vec![dir]),
            None => DiskManagerMode::Disabled,
        };
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(SessionMemory::new(options.memory_limit_bytes)))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(spill))
            .build_arc()
            .map_err(|error| {
                Error::config("the folder for spilling cannot be used")
                    .with_hint("name a folder that exists and can be written")
                    .with_source(error)
            })?;
        // It is registered by default, so that `file://` would reach the whole disk.
        let _ = runtime.deregister_object_store(ObjectStoreUrl::local_filesystem().as_ref());

        let partitions = options.partitions.max(1);
        let mut config = SessionConfig::new()
            .with_target_partitions(partitions)
            .with_batch_size(options.batch_rows.min(options.memory_limit_bytes / MEMORY_PER_BATCH_ROW).max(1))
            .with_information_schema(false)
            .with_default_catalog_and_schema(CATALOG.0, CATALOG.1);
        let settings = config.options_mut();
        // `1.1` is a number of ten tenths and one, as in PostgreSQL, not the float next to it.
        settings.sql_parser.parse_float_as_decimal = true;
        settings.sql_parser.map_string_types_to_utf8view = false;
        // The default of 10 MiB for each sort would be all of a small limit.
        let reserve = settings.execution.sort_spill_reservation_bytes;
        settings.execution.sort_spill_reservation_bytes = reserve.min(merge_bytes(options.memory_limit_bytes));

        let mut builder = SessionStateBuilder::new()
            // The default id is random, and nothing here may be.
            .with_session_id("starlift".into())
            .with_config(config)
            .with_runtime_env(runtime)
            .with_default_features()
            .with_table_function_list(vec![])
            .with_analyzer_rule(Arc::new(CheckedArithmetic))
            .with_analyzer_rule(Arc::new(Meaning))
            .with_analyzer_rule(Arc::new(TiesOfRows))
            .with_optimizer_rule(Arc::new(TiesOfWindows));
        *builder.file_formats() = None;
        *builder.table_factories() = None;
        let context = SessionContext::new_with_state(builder.build());
        for function in functions::all().chain(meaning::functions()) {
            context.register_udf(function);
        }
        context.register_udaf(checked_sum());
        extremes().into_iter().for_each(|function| context.register_udaf(function));
        Ok(Session { context, seeds: Arc::default() })
    }

    /// Registers a table, or a model that was evaluated before, under the name that models use.
    ///
    /// Errors: Config where the name is taken.
    pub fn register_input(&self, name: &str, schema: &TableSchema, source: InputSource) -> Result<()> {
        let table = Input::table(name, schema.to_arrow(), source).map_err(|error| cannot_register(name, error))?;
        self.register(name, Arc::new(table))
    }

    /// Registers a seed: CSV with a line of column names; see [`read_seed`].
    ///
    /// Errors: Config where the CSV cannot be read (with file and line), or the name is taken.
    pub fn register_seed(&self, name: &str, csv: &[u8]) -> Result<()> {
        let (schema, rows) = read_seed(name, csv)?;
        let table = MemTable::try_new(schema.to_arrow(), vec![vec![rows.clone()]])
            .map_err(|error| cannot_register(name, error))?;
        self.register(name, Arc::new(table))?;
        self.seeds.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_string(), rows);
        Ok(())
    }

    /// Plans a model over the registered inputs. No input is opened.
    ///
    /// Errors: Config for SQL that cannot be planned, for a function that is not immutable (`now()`), for anything but
    /// a query, for what the engine takes for something else than PostgreSQL does, and for columns and tests that do not fit
    /// the header; Unsupported for SQL or types that are not carried.
    pub async fn prepare(&self, model: &Model) -> Result<PreparedModel> {
        let mut known = self.names();
        known.sort();
        for input in &model.inputs {
            if !known.contains(input) {
                return Err(unknown_input(&model.name, input, known.iter().map(String::as_str)));
            }
        }
        let seeds = self.seeds.lock().unwrap_or_else(PoisonError::into_inner).clone();
        prepare(model, self.context.state(), &seeds).await
    }

    fn names(&self) -> Vec<String> {
        let schema = self.context.catalog(CATALOG.0).and_then(|catalog| catalog.schema(CATALOG.1));
        schema.map(|schema| schema.table_names()).unwrap_or_default()
    }

    fn register(&self, name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
        if self.names().iter().any(|known| known == name) {
            return Err(Error::config(format!("two inputs have the name `{name}`"))
                .with_hint("give the seed or the model another name; a model reads tables, seeds and models by name")
                .with_context("table", name));
        }
        // A bare reference is taken as it is: a name may hold capitals and dots.
        match self.context.register_table(TableReference::bare(name), table) {
            Ok(_) => Ok(()),
            Err(error) => Err(cannot_register(name, error)),
        }
    }
}

fn cannot_register(name: &str, error: DataFusionError) -> Error {
    Error::internal(format!("input `{name}` cannot be registered")).with_source(error).with_context("table", name)
}
