//! Reading parts of a data file: its tail first, whose hash is in the manifest, then the pages that are wanted, block by block,
//! whose hashes are in the tail. Nothing is parsed that was not checked.
//!
//! Memory: the tail, and of one row group the columns and pages that are wanted.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use starlift_core::digest::sha256_hex;
use starlift_core::manifest::DataFile;
use starlift_core::{Error, Result, fault};
use tokio::sync::mpsc;

use crate::blocks::{BLOCK_BYTES, BLOCKS, Blocks};
use crate::reader::{BATCHES_AHEAD, Layout, damaged, wrong_size};
use crate::store::{Found, Store};

/// Bytes between two wanted ranges that are read rather than asked for apart.
const GAP_BYTES: u64 = 2 * BLOCK_BYTES;
const RANGES_AT_ONCE: usize = 8;
/// Bytes from which on hashing is left to a thread of its own.
const HASHED_APART: usize = 1 << 20;

/// A file whose tail was read and checked.
#[derive(Clone)]
pub(crate) struct PartialFile {
    file: DataFile,
    metadata: ArrowReaderMetadata,
    bytes: Checked,
}

/// The bytes of a file, each checked before it is given.
#[derive(Clone)]
struct Checked {
    store: Store,
    file: DataFile,
    /// Where the tail begins.
    body: u64,
    tail: Bytes,
    blocks: Blocks,
}

impl PartialFile {
    /// Reads the tail of a file; none where the file has none that is known.
    ///
    /// Errors: Data for a file that is missing or altered; those of the store.
    pub(crate) async fn open(store: &Store, file: &DataFile) -> Result<Option<PartialFile>> {
        let Some(known) = &file.tail else { return Ok(None) };
        let body = file.bytes.checked_sub(known.bytes).filter(|_| known.bytes > 0);
        let body = body.ok_or_else(|| damaged(file, "cannot be read", "its tail is longer than itself".into()))?;
        let tail = fetch(store, file, body..file.bytes).await?;
        if sha256_hex(&tail) != known.sha256 {
            return Err(damaged(file, "is altered", "the SHA-256 of its tail is not the one in its manifest".into()));
        }
        let unreadable = |e: ParquetError| damaged(file, "cannot be read", e.to_string());
        let mut reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
        reader.try_parse_sized(&tail, file.bytes).map_err(unreadable)?;
        let metadata = Arc::new(reader.finish().map_err(unreadable)?);
        let said = metadata.file_metadata().key_value_metadata().into_iter().flatten();
        let hashes = said.filter(|entry| entry.key == BLOCKS).find_map(|entry| entry.value.as_ref());
        let Some(blocks) = hashes.and_then(|text| Blocks::parse(text, body)) else {
            return Err(damaged(file, "cannot be read", "its tail does not hold the hashes of its blocks".into()));
        };
        let metadata = ArrowReaderMetadata::try_new(metadata, ArrowReaderOptions::new()).map_err(unreadable)?;
        let bytes = Checked { store: store.clone(), file: file.clone(), body, tail, blocks };
        Ok(Some(PartialFile { file: file.clone(), metadata, bytes }))
    }

    /// What Parquet says of it.
    pub(crate) fn metadata(&self) -> &ParquetMetaData {
        self.metadata.metadata()
    }

    /// Decodes the file, or the selected rows of it, on a task of its own.
    pub(crate) fn batches(
        &self,
        schema: SchemaRef,
        projection: Option<Vec<usize>>,
        selection: Option<RowSelection>,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        let this = self.clone();
        let file = self.file.clone();
        let (sender, mut receiver) = mpsc::channel(BATCHES_AHEAD);
        async_stream::try_stream! {
            let task = tokio::spawn(async move {
                if let Err(error) = this.decode(schema, projection, selection, &sender).await {
                    let _ = sender.send(Err(error)).await;
                }
            });
            while let Some(batch) = receiver.recv().await {
                yield batch?;
            }
            if task.await.is_err() {
                Err(damaged(&file, "cannot be read", "the Parquet reader gave up on it".into()))?;
            }
        }
        .boxed()
    }

    /// Ends early, and without a word, where nobody receives any more.
    async fn decode(
        self,
        schema: SchemaRef,
        projection: Option<Vec<usize>>,
        selection: Option<RowSelection>,
        sender: &mpsc::Sender<Result<RecordBatch>>,
    ) -> Result<()> {
        let metadata = self.metadata.metadata();
        let layout = Layout::of(&self.file, &schema, projection, self.metadata.schema(), metadata)?;
        let mask = layout.mask(self.metadata.parquet_schema());
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(self.bytes, self.metadata.clone());
        let mut builder = builder.with_batch_size(layout.batch_rows).with_projection(mask);
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection);
        }
        let mut batches = builder.build().map_err(|e| failed(&self.file, e))?;
        while let Some(batch) = batches.try_next().await.map_err(|e| failed(&self.file, e))? {
            let batch = layout.arrange(&batch).map_err(|text| damaged(&self.file, "cannot be read", text))?;
            if batch.num_rows() > 0 && sender.send(Ok(batch)).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Our own error comes back out of parquet as it went in.
fn failed(file: &DataFile, error: ParquetError) -> Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(other) => damaged(file, "cannot be read", other.to_string()),
        },
        other => damaged(file, "cannot be read", other.to_string()),
    }
}

async fn fetch(store: &Store, file: &DataFile, range: Range<u64>) -> Result<Bytes> {
    let expected = range.end - range.start;
    match store.get_range(&file.key, range, file.bytes).await? {
        Some(Found::Whole(bytes)) if bytes.len() as u64 == expected => Ok(bytes),
        Some(Found::Whole(bytes)) => {
            Err(damaged(file, "is altered", format!("of {expected} bytes that were asked for {} came", bytes.len())))
        }
        Some(Found::OtherSize(size)) => Err(wrong_size(file, size)),
        None => Err(damaged(file, "is missing", format!("there is no object `{}`", store.place(&file.key)))),
    }
}

impl Checked {
    async fn ranges(&self, wanted: Vec<Range<u64>>) -> Result<Vec<Bytes>> {
        let in_body = wanted.iter().filter(|range| range.start < self.body && range.start < range.end);
        let spans = together(in_body.map(|range| self.blocks.around(range)));
        let fetched = stream::iter(spans.clone()).map(|span| self.span(span)).buffered(RANGES_AT_ONCE);
        let fetched: Vec<Bytes> = fetched.try_collect().await?;
        let outside = |range: &Range<u64>| {
            let detail = format!("it names bytes {} to {} of {}", range.start, range.end, self.file.bytes);
            damaged(&self.file, "cannot be read", detail)
        };
        let slice = |bytes: &Bytes, start: u64, range: &Range<u64>| {
            let from = usize::try_from(range.start.checked_sub(start)?).ok()?;
            let upto = usize::try_from(range.end.checked_sub(start)?).ok()?;
            (from <= upto && upto <= bytes.len()).then(|| bytes.slice(from..upto))
        };
        let piece = |range: &Range<u64>| {
            if range.is_empty() {
                return Ok(Bytes::new());
            }
            if range.start >= self.body {
                return slice(&self.tail, self.body, range).ok_or_else(|| outside(range));
            }
            // What Parquet still held back when the body ended is in the tail.
            let in_body = range.start..range.end.min(self.body);
            let span = spans.iter().position(|span| span.start <= in_body.start && in_body.end <= span.end);
            let found = span.and_then(|at| slice(fetched.get(at)?, spans.get(at)?.start, &in_body));
            let found = found.ok_or_else(|| outside(range))?;
            if range.end <= self.body {
                return Ok(found);
            }
            let rest = slice(&self.tail, self.body, &(self.body..range.end)).ok_or_else(|| outside(range))?;
            Ok([found, rest].concat().into())
        };
        wanted.iter().map(piece).collect()
    }

    /// Whole blocks of the body.
    async fn span(&self, span: Range<u64>) -> Result<Bytes> {
        let start = span.start;
        let bytes = fetch(&self.store, &self.file, span).await?;
        let altered = if bytes.len() < HASHED_APART {
            self.blocks.altered(start, &bytes)
        } else {
            let (blocks, hashed) = (self.blocks.clone(), bytes.clone());
            let hashing = tokio::task::spawn_blocking(move || blocks.altered(start, &hashed));
            hashing.await.map_err(|_| Error::internal("a data file could not be hashed"))?
        };
        match altered.filter(|_| !fault::planted("blocks_unchecked")) {
            None => Ok(bytes),
            Some(block) => {
                let detail = format!("the hash of its block {block} is not the one in its tail");
                Err(damaged(&self.file, "is altered", detail))
            }
        }
    }
}

/// Ranges that are near one another as one.
fn together(ranges: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let sorted: BTreeSet<(u64, u64)> = ranges.map(|range| (range.start, range.end)).collect();
    let mut spans: Vec<Range<u64>> = Vec::new();
    for (start, end) in sorted {
        match spans.last_mut() {
            Some(last) if start <= last.end + GAP_BYTES => last.end = last.end.max(end),
            _ => spans.push(start..end),
        }
    }
    spans
}

impl AsyncFileReader for Checked {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move { Ok(self.get_byte_ranges(vec![range]).await?.pop().unwrap_or_default()) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        async move { self.ranges(ranges).await.map_err(|e| ParquetError::External(Box::new(e))) }.boxed()
    }

    /// Never asked for: the metadata is at hand.
    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async { Err(ParquetError::General("the footer was read before".into())) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_near_one_another_are_asked_for_at_once() {
        let far = 10 * BLOCK_BYTES;
        let spans = together([far..far + 1, 0..5, 3..9, 20..30].into_iter());
        assert_eq!(spans, [0..30, far..far + 1]);
    }
}
