//! An input of a model: a table, a seed or another model, as a stream that is opened anew for every scan.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::StreamExt;
use futures::stream::BoxStream;
use starlift_core::{Error, Result};

/// Opens the rows of an input, from the first one, each time it is called.
///
/// A model that reads an input twice (a join with itself) opens it twice, possibly at the same time; an input that a
/// model does not read is never opened. Batches have the columns of the input's schema in its order; an error ends the
/// stream and comes out of the evaluation as it is.
pub type InputSource = Arc<dyn Fn() -> BoxStream<'static, Result<RecordBatch>> + Send + Sync>;

pub(crate) struct Input {
    name: String,
    schema: SchemaRef,
    source: InputSource,
}

impl Input {
    /// The table that DataFusion scans.
    pub(crate) fn table(name: &str, schema: SchemaRef, source: InputSource) -> Result<StreamingTable, DataFusionError> {
        let input = Input { name: name.to_string(), schema: schema.clone(), source };
        StreamingTable::try_new(schema, vec![Arc::new(input)])
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("name", &self.name).finish_non_exhaustive()
    }
}

impl PartitionStream for Input {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (name, schema) = (self.name.clone(), self.schema.clone());
        let batches = (self.source)().map(move |batch| {
            let conformed = batch.and_then(|batch| conform(&name, &schema, &batch));
            conformed.map_err(|error| DataFusionError::External(Box::new(error)))
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches))
    }
}

/// Gives a batch exactly the fields that the input was registered with: a file's own schema may lack our metadata.
fn conform(name: &str, schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    let bad = |detail: String| {
        Error::data(format!("input `{name}` has rows that do not match its columns"))
            .with_detail(detail)
            .with_hint(format!("read `{name}` in full again: its stored files do not fit its manifest"))
            .with_context("table", name)
    };
    if batch.num_columns() != schema.fields().len() {
        return Err(bad(format!("{} columns where there should be {}", batch.num_columns(), schema.fields().len())));
    }
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        if field.data_type() != column.data_type() {
            let (found, wanted) = (column.data_type(), field.data_type());
            return Err(bad(format!("column `{}` holds {found} where there should be {wanted}", field.name())));
        }
        if !field.is_nullable() && column.null_count() > 0 {
            return Err(bad(format!("column `{}` has nulls and may not", field.name())));
        }
    }
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &rows)
        .map_err(|_| bad("its columns differ in length".into()))
}
