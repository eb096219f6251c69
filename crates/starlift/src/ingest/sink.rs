//! Where the rows of one table go: good ones to data files, refused ones to the quarantine.

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use starlift_core::manifest::{DataFile, FileMode};
use starlift_core::refused::RefusedRows;
use starlift_core::{Error, Result};
use starlift_lake::{Difference, FileWriter, Quarantine, State};
use starlift_postgres::catalog::SourceTable;

use super::incoming::{Came, Ended};
use super::table::Task;
use crate::encoders::Encoders;

/// What one table's rows are written to.
pub(super) struct Sink {
    rows: Encoders,
    refused: FileWriter,
    pub(super) quarantine: Quarantine,
    /// What the codec says of refused rows.
    said: Ended,
}

impl Sink {
    /// A sink whose good rows are encoded by so many tasks.
    pub(super) fn new(
        task: &Task<'_>,
        table: &SourceTable,
        mode: FileMode,
        quarantine: Quarantine,
        encoders: usize,
    ) -> Result<Sink> {
        let writer = || task.writer(table, table.schema.to_arrow(), mode, encoders);
        Ok(Sink {
            rows: Encoders::start((0..encoders).map(|_| writer()).collect::<Result<_>>()?),
            refused: task.writer(table, table.schema.refused_to_arrow(), FileMode::Refused, 1)?,
            quarantine,
            said: Ended::default(),
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

    /// Writes the refused rows of a state again that stand as they stood, because the files that hold them are not named any
    /// more.
    pub(super) async fn restate(&mut self, state: &State) -> Result<()> {
        let mut refused = state.refused();
        while let Some(batch) = refused.try_next().await? {
            self.refused.write(&self.quarantine.unchanged(&batch)?).await?;
        }
        Ok(())
    }

    /// Takes note of what a stream came to, and returns the bytes that came.
    pub(super) fn ended(&mut self, ended: Ended) -> u64 {
        let bytes = ended.bytes;
        self.said = std::mem::take(&mut self.said).and(ended);
        bytes
    }

    /// The files of rows and of refused rows.
    ///
    /// Errors: those of the store; Data where the run may not set aside so many rows: nothing is committed then.
    pub(super) async fn finish(self, task: &Task<'_>, table: &SourceTable) -> Result<Written> {
        let said = self.said;
        let error = || {
            let refused = said.refusals.into_result(&table.name, said.rows).err();
            let error =
                refused.unwrap_or_else(|| Error::data(format!("rows of table `{}` cannot be stored", table.name)));
            let hint = error.hint().map(|hint| format!("{hint}; or go on without them: `starlift quarantine accept`"));
            hint.into_iter().fold(error, Error::with_hint)
        };
        let new = self.quarantine.new_rows().clone();
        // Before files are finished: what is not committed should not be written either.
        if let Err(too_many) = task.allowance.take(&table.name, &new, error) {
            self.rows.give_up().await;
            return Err(too_many);
        }
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
