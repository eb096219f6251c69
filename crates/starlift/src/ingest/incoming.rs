//! The rows of a whole table as they come, by one connection or several.

use std::time::Duration;

use arrow::array::{Array, RecordBatch};
use futures::TryStreamExt;
use starlift_core::{Result, fault};
use starlift_postgres::catalog::SourceTable;
use starlift_postgres::codec::Refusals;
use starlift_postgres::extract::{PageRange, RowStream, SourceSession};

use super::pages::Part;
use super::readers::Readers;
use super::table::Task;

/// How long rows wait where a test makes writers slow.
const SLOW: Duration = Duration::from_millis(100);

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
    pub(super) async fn next(table: &SourceTable, rows: &mut RowStream) -> Result<Option<Came>> {
        let Some(good) = rows.try_next().await? else { return Ok(None) };
        let refused = rows.take_refused();
        let key = table.schema.key.len();
        let holds_null = |batch: &RecordBatch| batch.columns().iter().take(key).any(|column| column.null_count() > 0);
        if refused.as_ref().is_some_and(holds_null) {
            rows.refusals().clone().into_result(&table.name, rows.rows_read())?;
        }
        Ok(Some(Came { good, refused }))
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.good.get_array_memory_size() + self.refused.as_ref().map_or(0, RecordBatch::get_array_memory_size)
    }

    /// Rows, refused ones included.
    pub(super) fn rows(&self) -> u64 {
        (self.good.num_rows() + self.refused.as_ref().map_or(0, RecordBatch::num_rows)) as u64
    }
}

/// What is known once all rows came.
#[derive(Default)]
pub(super) struct Ended {
    /// Bytes that came from the source.
    pub(super) bytes: u64,
    /// Rows, refused ones included.
    pub(super) rows: u64,
    /// What the codec says of refused rows.
    pub(super) refusals: Refusals,
}

impl Ended {
    /// Of a stream that was read to its end.
    ///
    /// Errors: Internal before its end.
    pub(super) fn of(table: &SourceTable, rows: &mut RowStream) -> Result<Ended> {
        let (bytes, refusals) = rows.finish_refusing(&table.name)?;
        Ok(Ended { bytes, rows: rows.rows_read(), refusals })
    }

    /// With what another part of the table came to.
    pub(super) fn and(mut self, other: Ended) -> Ended {
        self.refusals.merge(other.refusals);
        Ended { bytes: self.bytes + other.bytes, rows: self.rows + other.rows, refusals: self.refusals }
    }
}

/// The rows of a table, or of a part of it.
pub(super) enum Incoming {
    /// By the session that holds the snapshot.
    One(Box<RowStream>),
    /// By others at its snapshot, in parts and in no order.
    Several(Readers),
}

impl Incoming {
    /// The rows of a stream of the session itself.
    pub(super) fn of(task: &Task<'_>, rows: RowStream) -> Incoming {
        Incoming::One(Box::new(rows.with_values(task.ctx.config.quarantine.keep_values)))
    }

    /// All rows, by as many connections as may and can.
    pub(super) async fn whole(task: &Task<'_>, session: &SourceSession, table: &SourceTable) -> Result<Incoming> {
        match Readers::start(task, session, table, None).await? {
            Some(readers) => Ok(Incoming::Several(readers)),
            None => Ok(Incoming::of(task, session.copy_rows(table, None).await?)),
        }
    }

    /// The rows of a part, by as many connections as may and can.
    pub(super) async fn part(
        task: &Task<'_>,
        session: &SourceSession,
        table: &SourceTable,
        part: &Part,
    ) -> Result<Incoming> {
        match Readers::start(task, session, table, Some(part)).await? {
            Some(readers) => Ok(Incoming::Several(readers)),
            None => {
                let pages = PageRange { from: part.from, to: Some(part.to) };
                Ok(Incoming::of(task, session.copy_pages(table, pages, &part.condition).await?))
            }
        }
    }

    /// How many tasks keep up with it.
    pub(super) fn encoders(&self) -> usize {
        match self {
            Incoming::One(_) => 1,
            Incoming::Several(readers) => readers.number(),
        }
    }

    /// The next rows; none once all came.
    ///
    /// Errors: those of the streams; Data for a refused row that has no key to stand aside under.
    pub(super) async fn next(&mut self, task: &Task<'_>, table: &SourceTable) -> Result<Option<Came>> {
        let came = match self {
            Incoming::One(rows) => Came::next(table, rows).await?,
            Incoming::Several(readers) => readers.next().await?,
        };
        if fault::planted("slow_writer") {
            tokio::time::sleep(SLOW).await;
        }
        if let Some(came) = &came {
            task.advance(table, &came.good);
        }
        Ok(came)
    }

    /// What all of it came to.
    ///
    /// Errors: Internal before its end.
    pub(super) fn finish(self, table: &SourceTable) -> Result<Ended> {
        match self {
            Incoming::One(mut rows) => Ended::of(table, &mut rows),
            Incoming::Several(readers) => Ok(readers.finish()),
        }
    }
}
