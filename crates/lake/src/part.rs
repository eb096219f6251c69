//! One part of a data file on its way: rows are gathered until they make a row group, then its columns are encoded one after
//! the other, and the row group goes to the upload.
//!
//! One after the other and not side by side, because each column that is open has a compressor with tables of its own, of
//! some hundred kilobytes: those of 300 columns would take more memory than the rows. Memory: the rows of a row group as Arrow
//! has them (at most `row_group_bytes` and one slice), their encoded form, and one column's compressor.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use starlift_core::Error;
use starlift_core::index::Tail;

use crate::blocks::BLOCKS;
use crate::upload::{Published, Upload};
use crate::writer::ROW_BYTES;

/// Parquet numbers row groups with 15 bits, and keeps what is known of each until the file ends.
const MOST_GROUPS: usize = 4_096;

/// How large a row group may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupLimits {
    pub(crate) rows: usize,
    /// As Arrow holds them.
    pub(crate) bytes: usize,
}

/// A part that is being written.
pub(crate) struct Part {
    upload: Upload,
    file: SerializedFileWriter<Vec<u8>>,
    columns: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    limits: GroupLimits,
    gathered: Vec<RecordBatch>,
    gathered_rows: usize,
    gathered_bytes: usize,
    groups: usize,
    rows: u64,
    /// Bytes of a row, in the slice where they are largest.
    row_bytes: usize,
}

impl Part {
    /// A part without rows.
    pub(crate) fn new(
        upload: Upload,
        schema: SchemaRef,
        properties: WriterProperties,
        limits: GroupLimits,
    ) -> Result<Part> {
        let writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties))?;
        let (file, columns) = writer.into_serialized_writer()?;
        Ok(Part {
            upload,
            file,
            columns,
            schema,
            limits,
            gathered: Vec::new(),
            gathered_rows: 0,
            gathered_bytes: 0,
            groups: 0,
            rows: 0,
            row_bytes: 0,
        })
    }

    /// Rows so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Stored bytes so far, about: those of the row group on its way are not known yet.
    pub(crate) fn bytes(&self) -> usize {
        self.file.bytes_written()
    }

    /// Whether it can hold no more, whatever its size.
    pub(crate) fn is_full(&self) -> bool {
        self.groups >= MOST_GROUPS
    }

    /// Takes some rows, of exactly its schema.
    pub(crate) async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let bytes = bytes_in_memory(rows);
        self.row_bytes = self.row_bytes.max(bytes / rows.num_rows().max(1));
        self.rows += rows.num_rows() as u64;
        let mut offset = 0;
        while offset < rows.num_rows() {
            let room = self.limits.rows.saturating_sub(self.gathered_rows).max(1);
            let rows = rows.slice(offset, room.min(rows.num_rows() - offset));
            offset += rows.num_rows();
            self.gathered_rows += rows.num_rows();
            self.gathered_bytes += bytes_in_memory(&rows);
            self.gathered.push(rows);
            if self.gathered_rows >= self.limits.rows || self.gathered_bytes >= self.limits.bytes {
                self.end_group().await?;
            }
        }
        Ok(())
    }

    /// Completes the file and makes it visible: its row groups, and the tail with the hashes of their blocks.
    pub(crate) async fn publish(mut self, complete: impl FnOnce()) -> starlift_core::Result<(Published, Option<Tail>)> {
        self.end_group().await.map_err(failed)?;
        // All of the row groups has to be with the upload before the tail begins.
        self.send().await.map_err(failed)?;
        let blocks = self.upload.blocks();
        self.file.append_key_value_metadata(KeyValue::new(ROW_BYTES.to_string(), self.row_bytes.to_string()));
        self.file.append_key_value_metadata(KeyValue::new(BLOCKS.to_string(), blocks.end_body()));
        self.file.finish().map_err(failed)?;
        self.send().await.map_err(failed)?;
        complete();
        Ok((self.upload.publish().await?, blocks.tail()))
    }

    /// Gives the part up; nothing of it is visible.
    pub(crate) async fn abort(self) {
        self.upload.abort().await;
    }

    /// Encodes what was gathered as a row group.
    async fn end_group(&mut self) -> Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        self.encode()?;
        self.gathered.clear();
        (self.gathered_rows, self.gathered_bytes) = (0, 0);
        self.groups += 1;
        self.send().await
    }

    fn encode(&mut self) -> Result<()> {
        let mut writers = self.columns.create_column_writers(self.groups)?.into_iter();
        let mut group = self.file.next_row_group()?;
        for (position, field) in self.schema.fields().iter().enumerate() {
            // A list has a leaf in place of itself; all others are leaves.
            let mut leaves: Vec<ArrowColumnWriter> = Vec::with_capacity(1);
            for batch in &self.gathered {
                for (number, leaf) in compute_leaves(field, batch.column(position))?.iter().enumerate() {
                    if leaves.len() == number {
                        leaves.extend(writers.next());
                    }
                    let missing = || ParquetError::General("a column has no writer".into());
                    leaves.get_mut(number).ok_or_else(missing)?.write(leaf)?;
                }
            }
            for leaf in leaves {
                leaf.close()?.append_to_row_group(&mut group)?;
            }
        }
        group.close()?;
        Ok(())
    }

    /// Hands the encoded bytes to the upload.
    async fn send(&mut self) -> Result<()> {
        self.file.flush()?;
        let encoded = std::mem::take(self.file.inner_mut());
        self.upload.write(encoded.into()).await.map_err(|e| ParquetError::External(Box::new(e)))
    }
}

/// What the rows of a slice take, without what other slices of the same buffers do.
fn bytes_in_memory(slice: &RecordBatch) -> usize {
    slice.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}

/// Our own error comes back out of parquet as it went in.
pub(crate) fn failed(error: ParquetError) -> Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(other) => Error::internal("a data file cannot be written").with_source(other.to_string()),
        },
        other => Error::internal("a data file cannot be written").with_source(other),
    }
}
