//! Reading data files: nothing is parsed before its hash is that of the manifest. Small files are read and hashed whole; of
//! large ones one row group is at a time, block by block (`partial.rs`).
//!
//! Every damage is a Data error that names the file: missing, truncated, altered, of another schema, with another number
//! of rows. A panic of the Parquet reader, which only a file that was written wrong could cause, is one too. Memory: a few
//! batches of [`BATCH_BYTES`], the pages that they come from, of files up to 1 MiB their bytes, and of files beyond
//! [`WHOLE_BYTES`] the columns of one row group; files between, and large ones from before tails were kept, stay on disk
//! ([`crate::content`]). So it does not follow the size of a file, nor its rows.

use std::path::Path;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection};
use parquet::file::metadata::{FileMetaData, ParquetMetaData};
use parquet::file::reader::Length;
use parquet::schema::types::SchemaDescriptor;
use starlift_core::manifest::{DataFile, FileMode};
use starlift_core::{Error, Result, TableSchema};
use tokio::sync::mpsc;

use crate::content::Content;
use crate::failure::{Doing, from_io};
use crate::partial::PartialFile;
use crate::store::{Found, Store};
use crate::writer::ROW_BYTES;

/// Rows of a batch at most.
pub const BATCH_ROWS: usize = 8_192;
/// Bytes of a batch, about, where its rows are wide; Arrow's texts end at 2 GiB a batch.
const BATCH_BYTES: usize = 2 << 20;
pub(crate) const BATCHES_AHEAD: usize = 2;
/// Bytes beyond which a file is not read as a whole.
const WHOLE_BYTES: u64 = 8 << 20;
const FETCH_FILES: usize = 16;
const FETCH_BYTES: u64 = 8 << 20;

/// The rows of a data file in batches of at most [`BATCH_ROWS`], with the columns at the positions of `projection` in its
/// order (all, where there is none).
///
/// `schema` is the schema of the whole file: the table's, or its key's for a file of tombstones. Errors: Data as above;
/// those of [`Store::get`].
pub fn read(
    store: &Store,
    file: &DataFile,
    schema: SchemaRef,
    projection: Option<Vec<usize>>,
) -> BoxStream<'static, Result<RecordBatch>> {
    let (store, file) = (store.clone(), file.clone());
    stream::once(async move { Verified::of(&store, &file).await })
        .map_ok(move |file| file.batches(schema.clone(), projection.clone(), None))
        .try_flatten()
        .boxed()
}

/// The keys of all entries of a file, of whatever mode, as [`read`] yields them: batches of the key's columns.
pub fn read_keys(store: &Store, file: &DataFile, schema: &TableSchema) -> BoxStream<'static, Result<RecordBatch>> {
    match file.mode {
        FileMode::Deleted => read(store, file, schema.key_to_arrow(), None),
        FileMode::Refused => read(store, file, schema.refused_to_arrow(), Some((0..schema.key.len()).collect())),
        FileMode::Full | FileMode::Window | FileMode::Index => {
            read(store, file, schema.to_arrow(), Some(schema.key_positions()))
        }
    }
}

/// What is known to be what a manifest says: a whole file, or the tail of a large one, whose rest is checked as it is read.
#[derive(Clone)]
pub(crate) enum Verified {
    Whole(VerifiedFile),
    Partial(Box<PartialFile>),
}

impl Verified {
    /// Errors: Data for a file that is missing or altered; those of the store.
    pub(crate) async fn of(store: &Store, file: &DataFile) -> Result<Verified> {
        Verified::of_some_rows(store, file, WHOLE_BYTES).await
    }

    /// The same, where only a few rows are wanted: of a file of more than `whole` bytes the tail.
    pub(crate) async fn of_some_rows(store: &Store, file: &DataFile, whole: u64) -> Result<Verified> {
        if file.bytes > whole
            && let Some(partial) = PartialFile::open(store, file).await?
        {
            return Ok(Verified::Partial(Box::new(partial)));
        }
        Ok(Verified::Whole(fetch(store.clone(), file.clone()).await?.verify().await?))
    }

    /// Decodes all rows, or the selected ones.
    pub(crate) fn batches(
        &self,
        schema: SchemaRef,
        projection: Option<Vec<usize>>,
        selection: Option<RowSelection>,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        match self {
            Verified::Whole(file) => file.batches(schema, projection, selection),
            Verified::Partial(file) => file.batches(schema, projection, selection),
        }
    }
}

/// Fetches and verifies files in their order, small ones at once: at most 16 of them and 8 MiB, or one larger file.
pub(crate) fn fetch_all(store: &Store, files: Vec<DataFile>) -> BoxStream<'static, Result<Verified>> {
    let store = store.clone();
    stream::iter(together(files))
        .flat_map(move |group| {
            let store = store.clone();
            let at_once = group.len();
            stream::iter(group)
                .map(move |file| {
                    let store = store.clone();
                    async move { Verified::of(&store, &file).await }
                })
                .buffered(at_once)
        })
        .boxed()
}

fn together(files: Vec<DataFile>) -> Vec<Vec<DataFile>> {
    let mut groups: Vec<Vec<DataFile>> = Vec::new();
    let mut bytes = 0;
    for file in files {
        match groups.last_mut() {
            Some(group) if group.len() < FETCH_FILES && bytes + file.bytes <= FETCH_BYTES => {
                bytes += file.bytes;
                group.push(file);
            }
            _ => {
                bytes = file.bytes;
                groups.push(vec![file]);
            }
        }
    }
    groups
}

struct FetchedFile {
    file: DataFile,
    content: Content,
}

async fn fetch(store: Store, file: DataFile) -> Result<FetchedFile> {
    match store.open_sized(&file.key, file.bytes).await? {
        Some(Found::Whole(content)) if content.len() == file.bytes => Ok(FetchedFile { file, content }),
        Some(Found::Whole(content)) => Err(wrong_size(&file, content.len())),
        Some(Found::OtherSize(size)) => Err(wrong_size(&file, size)),
        None => Err(damaged(&file, "is missing", format!("there is no object `{}`", store.place(&file.key)))),
    }
}

impl FetchedFile {
    async fn verify(self) -> Result<VerifiedFile> {
        let FetchedFile { file, content } = self;
        let hashed = content.clone();
        // A hundred MiB take long enough to hold up every other task of this thread.
        let sha256 = tokio::task::spawn_blocking(move || hashed.sha256_hex())
            .await
            .map_err(|_| Error::internal("a data file could not be hashed"))?;
        let sha256 = sha256.map_err(|e| from_io(e, Doing::Read, Path::new(&file.key)))?;
        if sha256 != file.sha256 {
            return Err(damaged(&file, "is altered", "its SHA-256 is not the one in its manifest".into()));
        }
        Ok(VerifiedFile { file, content })
    }
}

/// The bytes of a data file that are known to be what its manifest says.
#[derive(Clone)]
pub(crate) struct VerifiedFile {
    file: DataFile,
    content: Content,
}

impl VerifiedFile {
    /// Decodes the file, or the selected rows of it, on a thread of its own.
    pub(crate) fn batches(
        &self,
        schema: SchemaRef,
        projection: Option<Vec<usize>>,
        selection: Option<RowSelection>,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        let file = self.file.clone();
        let decoding = Decoding { file: file.clone(), content: self.content.clone(), schema, projection, selection };
        let (sender, mut receiver) = mpsc::channel(BATCHES_AHEAD);
        async_stream::try_stream! {
            let thread = tokio::task::spawn_blocking(move || decoding.run(&sender));
            while let Some(batch) = receiver.recv().await {
                yield batch?;
            }
            if thread.await.is_err() {
                Err(damaged(&file, "cannot be read", "the Parquet reader gave up on it".into()))?;
            }
        }
        .boxed()
    }
}

struct Decoding {
    file: DataFile,
    content: Content,
    schema: SchemaRef,
    projection: Option<Vec<usize>>,
    selection: Option<RowSelection>,
}

impl Decoding {
    /// Ends early, and without a word, where nobody receives any more.
    fn run(self, sender: &mpsc::Sender<Result<RecordBatch>>) {
        let file = self.file.clone();
        let batches = match self.open() {
            Ok(batches) => batches,
            Err(error) => {
                let _ = sender.blocking_send(Err(error));
                return;
            }
        };
        for batch in batches {
            let batch = batch.map_err(|text| damaged(&file, "cannot be read", text));
            let last = batch.is_err();
            if sender.blocking_send(batch).is_err() || last {
                return;
            }
        }
    }

    fn open(self) -> Result<impl Iterator<Item = Result<RecordBatch, String>>> {
        let Decoding { file, content, schema, projection, selection } = self;
        // Texts of parquet and arrow speak of positions and types, not of values.
        let unreadable = |e: &dyn std::fmt::Display| damaged(&file, "cannot be read", e.to_string());
        let builder = ParquetRecordBatchReaderBuilder::try_new(content).map_err(|e| unreadable(&e))?;
        let layout = Layout::of(&file, &schema, projection, builder.schema(), builder.metadata())?;
        let mask = layout.mask(builder.parquet_schema());
        let mut builder = builder.with_batch_size(layout.batch_rows).with_projection(mask);
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection);
        }
        let reader = builder.build().map_err(|e| unreadable(&e))?;
        Ok(reader.map(move |batch| layout.arrange(&batch.map_err(|e| e.to_string())?)))
    }
}

/// Which columns of a file are read, and in which order they are given.
pub(crate) struct Layout {
    yielded: SchemaRef,
    stored: Vec<usize>,
    order: Vec<usize>,
    /// Rows of a batch.
    pub(crate) batch_rows: usize,
}

impl Layout {
    /// Errors: Data where the file has other columns or another number of rows than its manifest says; Internal for a
    /// column that the schema does not have.
    pub(crate) fn of(
        file: &DataFile,
        schema: &SchemaRef,
        projection: Option<Vec<usize>>,
        found: &SchemaRef,
        metadata: &ParquetMetaData,
    ) -> Result<Layout> {
        if found.fields() != schema.fields() {
            return Err(damaged(file, "has other columns than its manifest says", describe(schema, found)));
        }
        let rows = metadata.file_metadata().num_rows();
        if u64::try_from(rows) != Ok(file.rows) {
            let detail = format!("it holds {rows} rows, its manifest says {}", file.rows);
            return Err(damaged(file, "has another number of rows than its manifest says", detail));
        }
        let wanted = projection.unwrap_or_else(|| (0..schema.fields().len()).collect());
        let yielded = project_schema(schema, &wanted)?;
        // Parquet returns columns in the file's order, each once.
        let mut stored = wanted.clone();
        stored.sort_unstable();
        stored.dedup();
        let order: Vec<usize> = wanted.iter().filter_map(|p| stored.binary_search(p).ok()).collect();
        Ok(Layout { yielded, stored, order, batch_rows: batch_rows(metadata.file_metadata()) })
    }

    pub(crate) fn mask(&self, schema: &SchemaDescriptor) -> ProjectionMask {
        ProjectionMask::roots(schema, self.stored.iter().copied())
    }

    /// A batch as it was read, in our schema, without the metadata of its file, so that every batch of a table has the same.
    pub(crate) fn arrange(&self, batch: &RecordBatch) -> Result<RecordBatch, String> {
        let columns = self.order.iter().map(|position| batch.column(*position).clone()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(self.yielded.clone(), columns, &options).map_err(|e| e.to_string())
    }
}

/// How many rows make a batch of a file: fewer where they are wide. Files of other writers do not say.
fn batch_rows(file: &FileMetaData) -> usize {
    let said = file.key_value_metadata().into_iter().flatten().find(|entry| entry.key == ROW_BYTES);
    let row_bytes = said.and_then(|entry| entry.value.as_ref()?.parse::<usize>().ok()).unwrap_or(0);
    (BATCH_BYTES / row_bytes.max(1)).clamp(1, BATCH_ROWS)
}

/// The schema of the columns at these positions, in their order.
pub(crate) fn project_schema(schema: &SchemaRef, positions: &[usize]) -> Result<SchemaRef> {
    let projected = schema.project(positions);
    projected.map(Into::into).map_err(|_| Error::internal("a column was asked for that its table does not have"))
}

fn describe(expected: &SchemaRef, found: &SchemaRef) -> String {
    let named = expected.fields().iter().zip(found.fields()).find(|(e, f)| e != f);
    match named {
        Some((e, _)) => format!("column `{}` is another one, or of another type", e.name()),
        None => format!("{} columns instead of {}", found.fields().len(), expected.fields().len()),
    }
}

pub(crate) fn wrong_size(file: &DataFile, size: u64) -> Error {
    let what = if size < file.bytes { "is truncated" } else { "is altered" };
    damaged(file, what, format!("it has {size} bytes, its manifest says {}", file.bytes))
}

pub(crate) fn damaged(file: &DataFile, what: &str, detail: String) -> Error {
    Error::data(format!("data file `{}` {what}", file.key))
        .with_detail(detail)
        .with_hint("restore this object from a backup or an older version of the bucket")
        .with_context("file", file.key.clone())
}
