//! What a model yields, whether it is evaluated or a calendar; and the error that names what it refuses.

use arrow::array::RecordBatch;
use starlift_core::model::{Model, ModelKind};
use starlift_core::{Error, Result, TableSchema};
use starlift_models::{Evaluation, FailedTest, Refusals, Session, calendar};

use crate::count;

/// The rows of a model on their way.
pub(super) struct Rows {
    schema: TableSchema,
    warnings: Vec<String>,
    source: Source,
}

enum Source {
    Calendar(std::vec::IntoIter<RecordBatch>),
    Evaluation(Box<Evaluation>),
}

impl Rows {
    /// Starts the evaluation of a model whose inputs are registered.
    pub(super) async fn of(session: &Session, model: &Model, years: (i32, i32)) -> Result<Rows> {
        match model.header.kind {
            ModelKind::Calendar => {
                let (schema, batches) = calendar(years.0, years.1)?;
                Ok(Rows { schema, warnings: Vec::new(), source: Source::Calendar(batches.into_iter()) })
            }
            ModelKind::Dimension | ModelKind::Fact => {
                let prepared = session.prepare(model).await?;
                Ok(Rows {
                    schema: prepared.schema().clone(),
                    warnings: prepared.warnings().to_vec(),
                    source: Source::Evaluation(Box::new(prepared.evaluate().await?)),
                })
            }
        }
    }

    pub(super) fn schema(&self) -> &TableSchema {
        &self.schema
    }

    /// What a person should know although nothing failed; complete once the rows are read to their end.
    pub(super) fn warnings(&self, model: &str) -> Vec<String> {
        let mut warnings = self.warnings.clone();
        if let Source::Evaluation(evaluation) = &self.source {
            let line = |test: &FailedTest| {
                let rows = count::with(test.rows, "row");
                format!("model `{model}`: {rows} failed {} ({})", test.test, test.examples.join("; "))
            };
            warnings.extend(evaluation.failed_tests().iter().map(line));
        }
        warnings
    }

    /// The next good rows; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        match &mut self.source {
            Source::Calendar(batches) => Ok(batches.next()),
            Source::Evaluation(evaluation) => Ok(evaluation.next_batch().await?.map(|batch| batch.rows)),
        }
    }

    /// Nothing where every row was good.
    ///
    /// Errors: Data that names column, reason and the first keys.
    pub(super) fn check_refusals(&self, model: &str) -> Result<()> {
        match &self.source {
            Source::Evaluation(evaluation) if !evaluation.refusals().is_empty() => {
                Err(refused(model, evaluation.refusals()))
            }
            _ => Ok(()),
        }
    }
}

fn refused(model: &str, refusals: &Refusals) -> Error {
    let lines: Vec<String> = refusals
        .groups()
        .map(|group| {
            let keys: Vec<&str> = group.examples.iter().map(|refusal| refusal.key.as_str()).collect();
            let more = if group.rows > keys.len() as u64 { ", …" } else { "" };
            format!("column `{}`: {} in {} rows ({}{more})", group.column, group.reason, group.rows, keys.join("; "))
        })
        .collect();
    let rows = refusals.rows();
    Error::data(format!("model `{model}` refuses {rows} row{}", if rows == 1 { "" } else { "s" }))
        .with_detail(lines.join("; "))
        .with_hint("mend these rows in the source and run again; nothing was committed and nothing is lost")
        .with_context("model", model)
}
