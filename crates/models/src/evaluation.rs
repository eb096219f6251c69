//! The rows of one evaluation, with refused rows set aside.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, new_empty_array};
use arrow::compute::{filter, not};
use datafusion::execution::SendableRecordBatchStream;
use futures::{FutureExt, StreamExt};
use starlift_core::Result;
use starlift_core::refused::RefusedRows;

use crate::failure;
use crate::functions::BEFORE_VALUE;
use crate::key_texts::KeyTexts;
use crate::output::normalise;
use crate::prepared::{Attempt, Prepared};

/// The reason of a row without a key: nothing could ever replace or retract it.
const NO_KEY: &str = "it is part of the key and null";

/// Some rows that a model yields. Either part may be empty, not both.
#[derive(Debug, Clone)]
pub struct EvaluatedBatch {
    /// Good rows, with the columns of [`PreparedModel::schema`](crate::PreparedModel::schema).
    pub rows: RecordBatch,
    /// Refused rows, with the columns of [`PreparedModel::refused_schema`](crate::PreparedModel::refused_schema).
    pub refused: RecordBatch,
    /// The refused values as text, in the order of `refused`; none for a null.
    pub values: Vec<Option<String>>,
}

/// A running evaluation. Dropping it stops it.
pub struct Evaluation {
    prepared: Arc<Prepared>,
    stream: SendableRecordBatchStream,
    attempt: Attempt,
    yielded: bool,
    refusals: RefusedRows,
}

impl Evaluation {
    pub(crate) async fn start(prepared: Arc<Prepared>) -> Result<Evaluation> {
        let stream = prepared.open(Attempt::HashJoins).await?;
        Ok(Evaluation {
            prepared,
            stream,
            attempt: Attempt::HashJoins,
            yielded: false,
            refusals: RefusedRows::default(),
        })
    }

    /// The next rows; none at the end. Rows come in no particular order.
    ///
    /// Errors: what an input's stream gave, unchanged; Data where an expression fails on a row; Config where the memory
    /// limit does not suffice; Internal for a panic. After an error there is nothing more.
    pub async fn next_batch(&mut self) -> Result<Option<EvaluatedBatch>> {
        loop {
            let next = AssertUnwindSafe(self.stream.next()).catch_unwind().await;
            let batch = match next {
                Err(_) => return Err(failure::panicked(&self.prepared.model)),
                Ok(None) => return Ok(None),
                // The table that a hash join keeps in memory cannot be put aside on disk; what a sort keeps can.
                Ok(Some(Err(error)))
                    if self.attempt == Attempt::HashJoins && !self.yielded && failure::is_out_of_memory(&error) =>
                {
                    tracing::debug!(model = %self.prepared.model, "evaluating again with joins that can spill");
                    self.attempt = Attempt::SortedJoins;
                    self.stream = self.prepared.open(self.attempt).await?;
                    continue;
                }
                Ok(Some(Err(error))) => {
                    return Err(failure::execution(&self.prepared.model, &self.prepared.warnings, &error));
                }
                Ok(Some(Ok(batch))) => batch,
            };
            self.yielded = true;
            if batch.num_rows() > 0 {
                return self.split(&batch).map(Some);
            }
        }
    }

    /// The refused rows so far; all of them once [`Evaluation::next_batch`] gave none.
    pub fn refusals(&self) -> &RefusedRows {
        &self.refusals
    }

    /// Parts good rows from refused ones.
    fn split(&mut self, batch: &RecordBatch) -> Result<EvaluatedBatch> {
        let prepared = &self.prepared;
        let columns = normalise(&prepared.model, &prepared.arrow, batch)?;
        let keys = KeyTexts::new(&prepared.schema, &columns);
        let key_positions = prepared.schema.key_positions();
        // The first refused value of each row: its column and the reason.
        let mut causes: Vec<Option<(&str, &str)>> = vec![None; batch.num_rows()];
        let mut values: Vec<Option<&str>> = vec![None; batch.num_rows()];
        for (position, (column, array)) in prepared.schema.columns.iter().zip(&columns).enumerate() {
            let reasons = match prepared.reasons.get(&position) {
                Some(hidden) => Some(reasons(prepared, batch, *hidden)?),
                None => None,
            };
            let in_key = key_positions.contains(&position);
            if reasons.is_none() && !in_key {
                continue;
            }
            for (row, (cause, value)) in causes.iter_mut().zip(&mut values).enumerate() {
                let given = reasons.filter(|reasons| reasons.is_valid(row)).map(|reasons| reasons.value(row));
                let split =
                    given.map(|given| given.split_once(BEFORE_VALUE).map_or((given, None), |(r, v)| (r, Some(v))));
                let given = split.map(|(reason, _)| reason);
                let Some(reason) = given.or_else(|| (in_key && array.is_null(row)).then_some(NO_KEY)) else { continue };
                if cause.is_some() {
                    self.refusals.count_also(&column.name, reason, || keys.of(row));
                    continue;
                }
                self.refusals.count(&column.name, reason, || keys.of(row));
                *cause = Some((&column.name, reason));
                *value = split.and_then(|(_, value)| value);
            }
        }
        let refused = BooleanArray::from_iter(causes.iter().map(|cause| Some(cause.is_some())));
        let (rows, mut set_aside) = if refused.true_count() == 0 {
            (columns.clone(), prepared.arrow.fields().iter().map(|field| new_empty_array(field.data_type())).collect())
        } else {
            let good = not(&refused).map_err(|error| prepared.bug(error))?;
            (pick(prepared, &columns, &good)?, pick(prepared, &columns, &refused)?)
        };
        let kept = causes.iter().zip(&values).filter(|(cause, _)| cause.is_some());
        let values = kept.map(|(_, value)| value.map(str::to_string)).collect();
        let named = causes.iter().flatten();
        set_aside.push(Arc::new(StringArray::from_iter_values(named.clone().map(|(column, _)| column))));
        set_aside.push(Arc::new(StringArray::from_iter_values(named.map(|(_, reason)| reason))));
        Ok(EvaluatedBatch {
            rows: RecordBatch::try_new(prepared.arrow.clone(), rows).map_err(|error| prepared.bug(error))?,
            refused: RecordBatch::try_new(prepared.refused_arrow.clone(), set_aside)
                .map_err(|error| prepared.bug(error))?,
            values,
        })
    }
}

/// A hidden column of reasons.
fn reasons<'a>(prepared: &Prepared, batch: &'a RecordBatch, hidden: usize) -> Result<&'a StringArray> {
    let column = batch.columns().get(hidden).and_then(|column| column.as_string_opt::<i32>());
    column.ok_or_else(|| prepared.bug("a column of reasons is missing"))
}

/// The marked rows of each column.
fn pick(prepared: &Prepared, columns: &[ArrayRef], rows: &BooleanArray) -> Result<Vec<ArrayRef>> {
    columns.iter().map(|column| filter(column, rows).map_err(|error| prepared.bug(error))).collect()
}
