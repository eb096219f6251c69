//! Where the rows of one table go: good ones to data files, refused ones to the quarantine.

use arrow::array::{Array, RecordBatch};
use futures::TryStreamExt;
use starlift_core::manifest::{DataFile, FileMode};
use starlift_core::refused::RefusedRows;
use starlift_core::{Error, Result};
use starlift_lake::{Difference, FileWriter, Quarantine};
use starlift_postgres::catalog::SourceTable;
use starlift_postgres::codec::Refusals;
use starlift_postgres::extract::RowStream;

use super::table::Task;

/// Some rows as they came from the source.
pub(super) struct Came {
    pub(super) good: RecordBatch,
    /// With the columns of `TableSchema::refused_to_arrow`.
    pub(super) refused: Option<RecordBatch>,
}

impl Came {
    /// The next rows of a stream; none at its end.
    ///
    /// Errors: those of the stream; Data for a refused row that has no key to stand aside under.
    pub(super) async fn next(task: &Task<'_>, table: &SourceTable, rows: &mut RowStream) -> Result<Option<Came>> {
        let Some(good) = rows.try_next().await? else { return Ok(None) };
        let refused = rows.take_refused();
        let key = table.schema.key.len();
        let holds_null = |batch: &RecordBatch| batch.columns().iter().take(key).any(|column| column.null_count() > 0);
        if refused.as_ref().is_some_and(holds_null) {
            rows.refusals().clone().into_result(&table.name, rows.rows_read())?;
        }
        task.advance(table, &good);
        Ok(Some(Came { good, refused }))
    }

    /// Rows, refused ones included.
    pub(super) fn rows(&self) -> u64 {
        (self.good.num_rows() + self.refused.as_ref().map_or(0, RecordBatch::num_rows)) as u64
    }
}

/// What one table's rows are written to.
pub(super) struct Sink {
    rows: FileWriter,
    refused: FileWriter,
    pub(super) quarantine: Quarantine,
    /// What the codec says of the refused rows of each stream, with the number of rows of the stream.
    said: Vec<(Refusals, u64)>,
}

impl Sink {
    pub(super) fn new(task: &Task<'_>, table: &SourceTable, mode: FileMode, quarantine: Quarantine) -> Result<Sink> {
        Ok(Sink {
            rows: task.writer(table, table.schema.to_arrow(), mode)?,
            refused: task.writer(table, table.schema.refused_to_arrow(), FileMode::Refused)?,
            quarantine,
            said: Vec::new(),
        })
    }

    /// Writes rows that are new or differ.
    pub(super) async fn changed(&mut self, came: &Came, difference: &mut Difference) -> Result<()> {
        self.quarantine.passed(&came.good)?;
        let changed = difference.push(&came.good)?;
        if let Some(refused) = &came.refused {
            difference.refuse(refused)?;
        }
        self.write(&changed, came.refused.as_ref()).await
    }

    /// Writes rows as they are.
    pub(super) async fn write(&mut self, good: &RecordBatch, refused: Option<&RecordBatch>) -> Result<()> {
        self.rows.write(good).await?;
        if let Some(refused) = refused {
            self.refused.write(&self.quarantine.take(refused)?).await?;
        }
        Ok(())
    }

    /// Ends a stream and returns the bytes that came.
    pub(super) fn ended(&mut self, table: &SourceTable, rows: &mut RowStream) -> Result<u64> {
        let (bytes, refusals) = rows.finish_refusing(&table.name)?;
        self.said.push((refusals, rows.rows_read()));
        Ok(bytes)
    }

    /// The files of rows and of refused rows.
    ///
    /// Errors: those of the store; Data where the run may not set aside so many rows: nothing is committed then.
    pub(super) async fn finish(self, task: &Task<'_>, table: &SourceTable) -> Result<Written> {
        let said = self.said;
        let error = || {
            let refused = said.into_iter().find_map(|(refusals, rows)| refusals.into_result(&table.name, rows).err());
            let error =
                refused.unwrap_or_else(|| Error::data(format!("rows of table `{}` cannot be stored", table.name)));
            let hint = error.hint().map(|hint| format!("{hint}; or go on without them: `starlift quarantine accept`"));
            hint.into_iter().fold(error, Error::with_hint)
        };
        let new = self.quarantine.new_rows().clone();
        // Before files are finished: what is not committed should not be written either.
        task.allowance.take(&table.name, &new, error)?;
        let files = self.rows.finish().await?;
        let refused = self.refused.finish().await?;
        Ok(Written { files, refused, standing: self.quarantine.rows(), new })
    }
}

/// What a sink wrote.
pub(super) struct Written {
    pub(super) files: Vec<DataFile>,
    pub(super) refused: Vec<DataFile>,
    /// Rows of the table that stand aside now.
    pub(super) standing: u64,
    /// Those that did not before.
    pub(super) new: RefusedRows,
}
