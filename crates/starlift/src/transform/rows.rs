//! What a model yields, whether it is evaluated or a calendar: good rows, and those that its strict functions refuse.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::nullif;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use starlift_core::model::Model;
use starlift_core::refused::RefusedRows;
use starlift_core::{Error, Result, TableSchema};
use starlift_models::{Evaluation, InputSource, PreparedModel, RowTests, calendar};

use crate::config::Config;

/// The rows of a model on their way.
pub(super) struct Rows {
    schema: TableSchema,
    infers: bool,
    keeps_values: bool,
    source: Source,
}

enum Source {
    Calendar(std::vec::IntoIter<RecordBatch>),
    Evaluation(PreparedModel, Box<Evaluation>),
}

/// Some rows that a model yields.
pub(super) struct Yielded {
    pub(super) good: RecordBatch,
    /// With the columns of `TableSchema::refused_to_arrow`.
    pub(super) refused: Option<RecordBatch>,
    /// Rows of a model with inferred members whose refused values are null, and why each of them is.
    pub(super) inferred: Option<(RecordBatch, Vec<Why>)>,
}

/// The column and the reason for which a row is refused.
pub(super) type Why = (String, String);

impl Rows {
    /// The days of the calendar.
    ///
    /// Errors: Config for years that make no calendar.
    pub(super) fn of_calendar(config: &Config) -> Result<Rows> {
        let years = config.calendar;
        let (schema, batches) = calendar(years.0, years.1)?;
        let keeps_values = config.quarantine.keep_values;
        Ok(Rows { schema, infers: false, keeps_values, source: Source::Calendar(batches.into_iter()) })
    }

    /// Starts the evaluation of a model: over its inputs, or over fewer rows of them.
    ///
    /// Errors: Config where the plan cannot be made.
    pub(super) async fn of_query(
        prepared: PreparedModel,
        sources: Option<Vec<Option<InputSource>>>,
        model: &Model,
        config: &Config,
    ) -> Result<Rows> {
        let evaluation = match sources {
            None => prepared.evaluate().await?,
            Some(sources) => prepared.evaluate_over(sources).await?,
        };
        let schema = prepared.schema().clone();
        let source = Source::Evaluation(prepared, Box::new(evaluation));
        Ok(Rows { schema, infers: model.header.infers, keeps_values: config.quarantine.keep_values, source })
    }

    pub(super) fn schema(&self) -> &TableSchema {
        &self.schema
    }

    /// What a person should know about the model although nothing failed.
    pub(super) fn warnings(&self) -> &[String] {
        match &self.source {
            Source::Calendar(_) => &[],
            Source::Evaluation(prepared, _) => prepared.warnings(),
        }
    }

    /// The tests that single rows can fail; a calendar has none.
    pub(super) fn tests(&self) -> Option<RowTests> {
        match &self.source {
            Source::Calendar(_) => None,
            Source::Evaluation(prepared, _) => Some(prepared.row_tests()),
        }
    }

    /// The same rows once more, from the first.
    pub(super) async fn again(&mut self) -> Result<Option<Evaluation>> {
        match &self.source {
            Source::Calendar(_) => Ok(None),
            Source::Evaluation(prepared, _) => Ok(Some(prepared.evaluate().await?)),
        }
    }

    /// The next rows; none at the end.
    ///
    /// Errors: those of the evaluation; Data for a refused row that has no key to stand aside under.
    pub(super) async fn next(&mut self, model: &str) -> Result<Option<Yielded>> {
        match &mut self.source {
            Source::Calendar(batches) => Ok(batches.next().map(|good| Yielded { good, refused: None, inferred: None })),
            Source::Evaluation(_, evaluation) => {
                let Some(batch) = evaluation.next_batch().await? else { return Ok(None) };
                if batch.refused.num_rows() == 0 {
                    return Ok(Some(Yielded { good: batch.rows, refused: None, inferred: None }));
                }
                let values = if self.keeps_values { batch.values } else { vec![None; batch.refused.num_rows()] };
                let refused = entries(&self.schema, &batch.refused, values)?;
                let refused = refused.ok_or_else(|| without_key(model, evaluation.refusals()))?;
                match self.infers.then(|| inferred(&self.schema, &batch.refused)).flatten() {
                    inferred @ Some(_) => Ok(Some(Yielded { good: batch.rows, refused: None, inferred })),
                    None => Ok(Some(Yielded { good: batch.rows, refused: Some(refused), inferred: None })),
                }
            }
        }
    }
}

/// Refused rows of an evaluation as entries of their keys; none where one has no key.
fn entries(schema: &TableSchema, refused: &RecordBatch, values: Vec<Option<String>>) -> Result<Option<RecordBatch>> {
    let width = schema.columns.len();
    let mut columns: Vec<_> =
        schema.key_positions().iter().map(|position| Arc::clone(refused.column(*position))).collect();
    if columns.iter().any(|column| column.null_count() > 0) {
        return Ok(None);
    }
    columns.extend(refused.columns().iter().skip(width).take(2).cloned());
    columns.push(Arc::new(StringArray::from_iter(values)));
    entry_batch(schema, columns).map(Some)
}

/// Refused rows of an evaluation, whose refused values are null, as rows of the model; none where one of its columns takes no
/// null.
fn inferred(schema: &TableSchema, refused: &RecordBatch) -> Option<(RecordBatch, Vec<Why>)> {
    let width = schema.columns.len();
    let rows = RecordBatch::try_new(schema.to_arrow(), refused.columns().get(..width)?.to_vec()).ok()?;
    let text = |column: usize| refused.columns().get(width + column)?.as_string_opt::<i32>();
    let (columns, reasons) = (text(0)?, text(1)?);
    let why =
        (0..rows.num_rows()).map(|row| (columns.value(row).to_string(), reasons.value(row).to_string())).collect();
    Some((rows, why))
}

/// Characters of a refused value that are kept.
const VALUE_KEPT: usize = 1_000;

/// The word of an inferred member where a text was refused.
const UNKNOWN: &str = "unknown";

/// The rows with `unknown`, or null, in the column that each is refused for; none where such a column is part of the key, or
/// takes no null.
pub(super) fn without_values(schema: &TableSchema, rows: &RecordBatch, why: &[(&str, String)]) -> Option<RecordBatch> {
    let mut columns = Vec::with_capacity(rows.num_columns());
    for (column, array) in schema.columns.iter().zip(rows.columns()) {
        let blank: BooleanArray = why.iter().map(|(name, _)| Some(*name == column.name)).collect();
        if blank.true_count() == 0 {
            columns.push(Arc::clone(array));
            continue;
        }
        if schema.key.contains(&column.name) {
            return None;
        }
        columns.push(match array.as_string_opt::<i32>() {
            Some(texts) => {
                let value = |row: usize| match blank.value(row) {
                    true => Some(UNKNOWN),
                    false => texts.is_valid(row).then(|| texts.value(row)),
                };
                Arc::new((0..texts.len()).map(value).collect::<StringArray>())
            }
            None => nullif(array, &blank).ok()?,
        });
    }
    RecordBatch::try_new(schema.to_arrow(), columns).ok()
}

/// Good rows that are refused all the same, each with a column and a reason, as entries of their keys.
pub(super) fn set_aside(
    schema: &TableSchema,
    rows: &RecordBatch,
    why: &[(&str, String)],
    keep_values: bool,
) -> Result<RecordBatch> {
    let mut columns: Vec<_> =
        schema.key_positions().iter().map(|position| Arc::clone(rows.column(*position))).collect();
    columns.push(Arc::new(why.iter().map(|(column, _)| Some(*column)).collect::<StringArray>()));
    columns.push(Arc::new(why.iter().map(|(_, reason)| Some(reason.as_str())).collect::<StringArray>()));
    let form = FormatOptions::new();
    let value = |(row, (column, _)): (usize, &(&str, String))| {
        let array = rows.column_by_name(column).filter(|array| keep_values && array.is_valid(row))?;
        let text = ArrayFormatter::try_new(array.as_ref(), &form).ok()?.value(row).try_to_string().ok()?;
        Some(text.chars().take(VALUE_KEPT).collect::<String>())
    };
    columns.push(Arc::new(why.iter().enumerate().map(value).collect::<StringArray>()));
    entry_batch(schema, columns)
}

fn entry_batch(schema: &TableSchema, columns: Vec<arrow::array::ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(schema.refused_to_arrow(), columns)
        .map_err(|e| Error::internal("refused rows do not have their columns").with_source(e))
}

fn without_key(model: &str, refused: &RefusedRows) -> Error {
    Error::data(format!("model `{model}` refuses a row that has no key"))
        .with_detail(refused.summary())
        .with_hint(
            "mend these rows in the source, or leave them out in the model; nothing was committed and nothing is lost",
        )
        .with_context("model", model)
}
