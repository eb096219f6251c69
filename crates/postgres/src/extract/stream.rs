//! The rows of one COPY as Arrow batches.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::{Stream, StreamExt};
use starlift_core::Result;
use tokio_postgres::CopyOutStream;

use crate::codec::{MAX_VALUE_BYTES, Refusals, RowDecoder};
use crate::sqlstate::classify;

/// How large batches are. Whichever limit is reached first ends a batch; the row that reaches it is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Rows of a batch.
    pub rows: usize,
    /// Bytes of a batch, as PostgreSQL sends them.
    pub bytes: usize,
    /// Bytes of one value; a larger one is refused.
    pub value_bytes: usize,
}

impl Default for BatchLimits {
    fn default() -> BatchLimits {
        BatchLimits { rows: 16_384, bytes: 4 << 20, value_bytes: MAX_VALUE_BYTES }
    }
}

/// Rows that arrive, as a stream of batches. Read it to its end, then [`finish`](Self::finish) says whether all of them
/// were taken.
///
/// An item that is an error is Unavailable where the server or the connection broke off, Data where the stream is
/// damaged; what came before is of no use then, because rows are missing. The stream ends after an error.
pub struct RowStream {
    table: String,
    chunks: Pin<Box<CopyOutStream>>,
    decoder: RowDecoder,
    limits: BatchLimits,
    bytes_read: u64,
    is_done: bool,
}

impl std::fmt::Debug for RowStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowStream")
            .field("table", &self.table)
            .field("bytes_read", &self.bytes_read)
            .finish_non_exhaustive()
    }
}

impl RowStream {
    pub(super) fn new(table: String, chunks: CopyOutStream, decoder: RowDecoder, limits: BatchLimits) -> RowStream {
        RowStream { table, chunks: Box::pin(chunks), decoder, limits, bytes_read: 0, is_done: false }
    }

    /// The Arrow schema of the batches.
    pub fn schema(&self) -> &SchemaRef {
        self.decoder.schema()
    }

    /// Bytes that came from the server so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Rows that came so far, refused ones included.
    pub fn rows_read(&self) -> u64 {
        self.decoder.rows_read()
    }

    /// Keeps the refused values of refused rows.
    pub fn with_values(mut self, keep: bool) -> RowStream {
        self.decoder = self.decoder.with_values(keep);
        self
    }

    /// Ends batches at so many bytes: of several streams that share memory each has a part.
    pub fn with_batch_bytes(self, bytes: usize) -> RowStream {
        RowStream { limits: BatchLimits { bytes, ..self.limits }, ..self }
    }

    /// The refused rows since the last batch, after each batch and at the end of the stream: with the columns of
    /// [`TableSchema::refused_to_arrow`](starlift_core::TableSchema::refused_to_arrow), a key that was itself refused as null.
    pub fn take_refused(&mut self) -> Option<RecordBatch> {
        self.decoder.take_refused()
    }

    /// What was refused so far.
    pub fn refusals(&self) -> &Refusals {
        self.decoder.refusals()
    }

    /// The bytes that came from the server and what was refused, after the end of the stream.
    ///
    /// # Errors
    /// Internal before the end.
    pub fn finish_refusing(&mut self, table: &str) -> Result<(u64, Refusals)> {
        if !self.is_done {
            return Err(starlift_core::Error::internal(format!("table `{table}` was not read to its end")));
        }
        Ok((self.bytes_read, self.decoder.take_refusals()))
    }

    /// The bytes that came from the server, after the end of the stream. `table` is the name for messages.
    ///
    /// # Errors
    /// Data where rows were refused: it names columns, reasons and keys. Internal before the end.
    pub fn finish(&mut self, table: &str) -> Result<u64> {
        let (bytes_read, refusals) = self.finish_refusing(table)?;
        refusals.into_result(table, self.decoder.rows_read())?;
        Ok(bytes_read)
    }

    /// Takes a chunk in; gives a batch where one is full.
    fn take(&mut self, chunk: Result<bytes::Bytes, tokio_postgres::Error>) -> Result<Option<RecordBatch>> {
        let chunk = chunk.map_err(|e| classify(e, format!("cannot read table `{}`", self.table)))?;
        self.bytes_read += chunk.len() as u64;
        self.decoder.push(&chunk)?;
        // Refused rows fill a batch as good ones do: they are kept until it is taken.
        let full =
            self.decoder.rows_pending() >= self.limits.rows || self.decoder.bytes_buffered() >= self.limits.bytes;
        if full { self.decoder.take_batch() } else { Ok(None) }
    }
}

impl Stream for RowStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        while !this.is_done {
            let outcome = match ready!(this.chunks.poll_next_unpin(context)) {
                Some(chunk) => this.take(chunk),
                None => {
                    this.is_done = true;
                    this.decoder.finish()
                }
            };
            match outcome {
                Ok(None) => {}
                Ok(Some(batch)) => return Poll::Ready(Some(Ok(batch))),
                Err(error) => {
                    this.is_done = true;
                    return Poll::Ready(Some(Err(error.with_context("table", this.table.clone()))));
                }
            }
        }
        Poll::Ready(None)
    }
}
