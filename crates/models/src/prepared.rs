//! From a model to a plan that can be evaluated any number of times.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::provider_as_source;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::{LogicalPlan, TableScan};
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::prelude::SQLOptions;
use datafusion::sql::parser::Statement as AnyStatement;
use datafusion::sql::sqlparser::ast::Statement;
use futures::{FutureExt, StreamExt};
use starlift_core::model::{Model, ModelKind};
use starlift_core::{Column, ColumnType, Error, Result, TableSchema};

use crate::evaluation::Evaluation;
use crate::incremental::{self, Shape};
use crate::input::{Input, InputSource};
use crate::model_test::{RowTest, RowTests, Seeds, row_tests};
use crate::{casts, dialect, failure, lenient, output, purity, ties};

/// The name of the column of a refused row that names the refused column.
pub const REFUSED_COLUMN: &str = "_refused_column";
/// The name of the column of a refused row that says why.
pub const REFUSED_REASON: &str = "_refused_reason";

/// The same rows, computed in a task of their own, which is one batch ahead of who takes them. It ends with the stream.
fn beside(mut stream: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let mut ahead = RecordBatchReceiverStream::builder(stream.schema(), 1);
    let rows = ahead.tx();
    ahead.spawn(async move {
        while let Some(batch) = stream.next().await {
            if batch.is_err() {
                // What it holds in memory goes first: whoever hears of the error may begin again, in another way.
                drop(stream);
                let _ = rows.send(batch).await;
                break;
            }
            if rows.send(batch).await.is_err() {
                break;
            }
        }
        Ok(())
    });
    ahead.build()
}

/// How the joins of one attempt are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// One side in memory: fast, and bound by the memory limit.
    HashJoins,
    /// Both sides sorted, on disk where they do not fit.
    SortedJoins,
}

/// A model that is ready to be evaluated over the inputs of its session.
#[derive(Clone)]
pub struct PreparedModel(Arc<Prepared>);

impl PreparedModel {
    /// The columns of its rows, with the key of its header.
    pub fn schema(&self) -> &TableSchema {
        &self.0.schema
    }

    /// The columns of its refused rows: the model's, all of which may be null (a refused value is), then
    /// [`REFUSED_COLUMN`] and [`REFUSED_REASON`].
    pub fn refused_schema(&self) -> &TableSchema {
        &self.0.refused_schema
    }

    /// One line for each cast in it that can fail or lose (see the strict functions), and for each function that takes values
    /// in no certain order.
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// The tests of its header that single rows can fail, with nothing tested yet.
    pub fn row_tests(&self) -> RowTests {
        RowTests::new(self.0.tests.clone(), &self.0.schema)
    }

    /// How its rows depend on those of its inputs, so that some keys can be evaluated alone.
    ///
    /// Errors: why they cannot, in words such as `it groups rows`.
    pub fn shape(&self) -> std::result::Result<&Shape, &str> {
        self.0.shape.as_ref().map_err(String::as_str)
    }

    /// Starts an evaluation over fewer rows: each scan of [`Shape::scans`] reads its source instead of its input, where
    /// one is given. Which rows suffice for which keys is for the caller to know.
    ///
    /// Errors: Config where the plan cannot be made.
    pub async fn evaluate_over(&self, sources: Vec<Option<InputSource>>) -> Result<Evaluation> {
        Evaluation::start(Arc::new(self.0.over(sources)?)).await
    }

    /// Starts an evaluation, from the first row of every input. Needs a Tokio runtime.
    ///
    /// Errors: Config where the plan cannot be made.
    pub async fn evaluate(&self) -> Result<Evaluation> {
        Evaluation::start(self.0.clone()).await
    }
}

/// What an evaluation needs to know of its model.
#[derive(Clone)]
pub(crate) struct Prepared {
    pub(crate) model: String,
    pub(crate) schema: TableSchema,
    pub(crate) refused_schema: TableSchema,
    pub(crate) warnings: Vec<String>,
    pub(crate) tests: Vec<RowTest>,
    /// The Arrow schema of good rows.
    pub(crate) arrow: SchemaRef,
    /// The Arrow schema of refused rows.
    pub(crate) refused_arrow: SchemaRef,
    /// Position of a column to the position of the hidden column with its reasons.
    pub(crate) reasons: BTreeMap<usize, usize>,
    definition: Model,
    plan: LogicalPlan,
    shape: std::result::Result<Shape, String>,
    state: SessionState,
}

/// Plans a model over the inputs that a session knows.
pub(crate) async fn prepare(model: &Model, state: SessionState, seeds: &Seeds) -> Result<PreparedModel> {
    // A bug of the planner is not to take the whole run with it.
    let prepared = AssertUnwindSafe(plan(model, state, seeds)).catch_unwind().await;
    prepared.unwrap_or_else(|_| Err(failure::panicked(&model.name)))
}

async fn plan(model: &Model, state: SessionState, seeds: &Seeds) -> Result<PreparedModel> {
    if model.header.kind == ModelKind::Calendar {
        return Err(Error::internal(format!("model `{}` is a calendar and has no query", model.name)));
    }
    let bad = |error| failure::planning(model, error);
    let written = query(model, &state).await?;
    purity::check(model, &written)?;
    dialect::check(model, &written)?;
    let nothing = |_: &LogicalPlan, _: &dyn datafusion::optimizer::AnalyzerRule| {};
    let analysed = state.analyzer().execute_and_check(written.clone(), state.config_options(), nothing).map_err(bad)?;
    let schema = output::table_schema(model, analysed.schema())?;
    let tests = row_tests(model, &schema, seeds)?;
    let mut warnings = casts::warnings(&model.name, &analysed).map_err(bad)?;
    warnings.extend(ties::warnings(&model.name, &analysed).map_err(bad)?);
    let lenient = lenient::rewrite(&written).map_err(bad)?;
    // The evaluation optimises anew; here it only has to be known whether that works.
    state.optimize(&lenient.plan).map_err(bad)?;
    let refused_schema = refused_schema(&schema);
    let shape = incremental::shape(&lenient.plan, &schema, &seeds.keys().cloned().collect::<BTreeSet<_>>());
    Ok(PreparedModel(Arc::new(Prepared {
        model: model.name.clone(),
        arrow: schema.to_arrow(),
        refused_arrow: refused_schema.to_arrow(),
        schema,
        refused_schema,
        warnings,
        tests,
        reasons: lenient.reasons,
        definition: model.clone(),
        plan: lenient.plan,
        shape,
        state,
    })))
}

/// Plans the SQL of a model, which has to be one query that neither writes nor sets anything.
async fn query(model: &Model, state: &SessionState) -> Result<LogicalPlan> {
    let bad = |error| failure::planning(model, error);
    let dialect = state.config_options().sql_parser.dialect;
    let statement = state.sql_to_statement(&model.sql, &dialect).map_err(bad)?;
    let is_query = matches!(&statement, AnyStatement::Statement(inner) if matches!(**inner, Statement::Query(_)));
    let refused = |detail: String| {
        Error::config(format!("model `{}` cannot be planned", model.name))
            .with_detail(detail)
            .with_hint(format!("let `{}.sql` hold one `select`; starlift writes what it yields", model.name))
            .with_context("model", model.name.clone())
    };
    if !is_query {
        return Err(refused("it is not one `select` query".into()));
    }
    if let AnyStatement::Statement(inner) = &statement {
        dialect::check_words(model, inner)?;
    }
    let plan = state.statement_to_plan(statement).await.map_err(bad)?;
    let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    read_only.verify_plan(&plan).map_err(|_| refused("it writes or sets something".into()))?;
    Ok(plan)
}

fn refused_schema(schema: &TableSchema) -> TableSchema {
    let mut refused = schema.clone();
    for column in &mut refused.columns {
        column.nullable = true;
    }
    for name in [REFUSED_COLUMN, REFUSED_REASON] {
        refused.columns.push(Column {
            name: name.into(),
            column_type: ColumnType::Text,
            nullable: false,
            declared: None,
            labels: vec![],
        });
    }
    refused
}

impl Prepared {
    /// The same model over other sources, one for each scan in the order of the plan.
    fn over(&self, sources: Vec<Option<InputSource>>) -> Result<Prepared> {
        let mut sources = sources.into_iter();
        let replaced = self.plan.clone().transform_down(|node| match node {
            LogicalPlan::TableScan(scan) => match sources.next().flatten() {
                Some(source) => {
                    let table = Input::table(scan.table_name.table(), scan.source.schema(), source)?;
                    let source = provider_as_source(Arc::new(table));
                    Ok(Transformed::yes(LogicalPlan::TableScan(TableScan { source, ..scan })))
                }
                None => Ok(Transformed::no(LogicalPlan::TableScan(scan))),
            },
            other => Ok(Transformed::no(other)),
        });
        let plan = replaced.map_err(|error| failure::planning(&self.definition, error))?.data;
        Ok(Prepared { plan, ..self.clone() })
    }

    /// Opens the rows of the plan, hidden columns included.
    pub(crate) async fn open(&self, attempt: Attempt) -> Result<SendableRecordBatchStream> {
        let mut state = self.state.clone();
        if attempt == Attempt::SortedJoins {
            // DataFusion sorts for a join only where it may use more than one partition.
            let partitions = state.config().target_partitions().max(2);
            let options = state.config_mut().options_mut();
            options.optimizer.prefer_hash_join = false;
            options.execution.target_partitions = partitions;
        }
        let opening = async {
            let plan = state.create_physical_plan(&self.plan).await?;
            execute_stream(plan, state.task_ctx())
        };
        match AssertUnwindSafe(opening).catch_unwind().await {
            Ok(Ok(stream)) => Ok(beside(stream)),
            Ok(Err(error)) => Err(failure::planning(&self.definition, error)),
            Err(_) => Err(failure::panicked(&self.model)),
        }
    }

    /// An error that should be impossible.
    pub(crate) fn bug(&self, what: impl Display) -> Error {
        Error::internal(format!("the rows of model `{}` do not fit its plan", self.model))
            .with_detail(what.to_string())
            .with_context("model", self.model.clone())
    }
}
