//! Writing rows as data files: Parquet with zstd, in parts of bounded size, visible part by part when whole.
//!
//! A data file is no commit: nothing reads it until a manifest names it. A crash leaves orphans, which vacuum removes.
//! Memory: one row group (`row_group_bytes` and what they are encoded to) and what an upload holds, whatever the number of
//! rows and of columns.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::basic::ZstdLevel;
use starlift_core::manifest::{DataFile, FileMode};
use starlift_core::{Error, Micros, Result, fault, key};

use crate::layout;
use crate::part::{GroupLimits, Part, failed};
use crate::store::Store;
use crate::upload::Published;

const SLICE_ROWS: usize = 8_192;
const SLICE_BYTES: usize = 4 << 20;

/// How data files are cut and packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterOptions {
    /// Rows after which a new part begins.
    pub rows_per_part: u64,
    /// Stored bytes after which a new part begins. Of a bucket, a reader keeps one part of each file that it reads on disk.
    pub bytes_per_part: u64,
    /// Rows of one row group at most.
    pub row_group_rows: usize,
    /// Bytes that the rows of a row group may take in memory, before they are encoded.
    pub row_group_bytes: usize,
    /// Level of zstd, 1 to 22.
    pub zstd_level: i32,
}

impl Default for WriterOptions {
    fn default() -> Self {
        WriterOptions {
            rows_per_part: 10_000_000,
            bytes_per_part: 32 << 20,
            row_group_rows: 128 << 10,
            row_group_bytes: 12 << 20,
            zstd_level: 3,
        }
    }
}

/// The numbers of the parts of one table or model in one run, shared by all that write them at once.
#[derive(Debug, Clone, Default)]
pub struct PartNumbers {
    given: Arc<AtomicU32>,
    /// The keys of parts that are visible.
    complete: Arc<Mutex<Vec<String>>>,
}

impl PartNumbers {
    /// The next number, from 1; none where there are no more.
    fn next(&self) -> Option<u32> {
        let taken = self.given.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |number| number.checked_add(1));
        taken.ok()?.checked_add(1)
    }

    fn completed(&self, key: &str) {
        self.complete.lock().unwrap_or_else(PoisonError::into_inner).push(key.to_string());
    }

    /// The keys of the parts that are complete, in the order in which they became so.
    pub(crate) fn complete(&self) -> Vec<String> {
        self.complete.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Writes the rows (with [`FileMode::Deleted`] the keys, with [`FileMode::Refused`] the refused rows, with [`FileMode::Index`]
/// entries of the key index) of one table or model in one run: one writer for each, or several that share their [`PartNumbers`].
pub struct FileWriter {
    store: Store,
    name: String,
    at: Micros,
    mode: FileMode,
    schema: SchemaRef,
    options: WriterOptions,
    level: ZstdLevel,
    numbers: PartNumbers,
    merges: bool,
    open: Option<Open>,
    files: Vec<DataFile>,
}

/// The key of a data file's metadata that says how many bytes a row takes in memory, in the slice where they are largest.
/// Encoded sizes do not tell: a dictionary makes equal texts small.
pub(crate) const ROW_BYTES: &str = "starlift.row_bytes";

struct Open {
    key: String,
    part: Part,
}

impl FileWriter {
    /// A writer of `core::key::data(name, at, part)`, or of `core::key::deleted` for keys that are gone and
    /// `core::key::refused` for refused rows; `at` must be claimed. Creates nothing yet.
    ///
    /// Errors: Config for a level that zstd does not have, or an option that is 0.
    pub fn new(
        store: &Store,
        name: &str,
        at: Micros,
        schema: SchemaRef,
        mode: FileMode,
        options: WriterOptions,
    ) -> Result<FileWriter> {
        let wrong = |what: &str| Error::config(format!("data files cannot be written with {what}"));
        let WriterOptions { rows_per_part, bytes_per_part, row_group_rows, row_group_bytes, zstd_level } = options;
        if rows_per_part == 0 || bytes_per_part == 0 || row_group_rows == 0 || row_group_bytes == 0 {
            return Err(wrong("a size of 0"));
        }
        let level =
            ZstdLevel::try_new(zstd_level).map_err(|e| wrong(&format!("zstd level {zstd_level}")).with_source(e))?;
        Ok(FileWriter {
            store: store.clone(),
            name: name.to_string(),
            at,
            mode,
            schema,
            options,
            level,
            numbers: PartNumbers::default(),
            merges: false,
            open: None,
            files: Vec::new(),
        })
    }

    /// Takes the numbers of its parts from these.
    pub fn numbered_by(mut self, numbers: &PartNumbers) -> FileWriter {
        self.numbers = numbers.clone();
        self
    }

    /// Writes what was merged, whose keys are `core::key::merged`.
    pub(crate) fn merging(mut self) -> FileWriter {
        self.merges = true;
        self
    }

    /// Adds rows. Batches may differ from the schema in nullability and metadata, not in types.
    ///
    /// Errors: Data where a column that may not be null holds a null; Internal for other types; those of the store.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = self.conform(batch)?;
        let mut offset = 0;
        let slice = slice_rows(&batch);
        while offset < batch.num_rows() {
            let rows = slice.min(batch.num_rows() - offset);
            self.write_slice(&batch.slice(offset, rows)).await?;
            offset += rows;
        }
        Ok(())
    }

    /// Completes the last part. No rows, no file.
    ///
    /// Errors: those of the store; then nothing of this part is visible, and parts before it are orphans.
    pub async fn finish(mut self) -> Result<Vec<DataFile>> {
        self.close_part().await?;
        Ok(self.files)
    }

    /// Gives up what is being written. Parts that are complete stay as orphans, which no manifest names.
    pub async fn abort(self) {
        if let Some(open) = self.open {
            open.part.abort().await;
        }
    }

    /// Rows written so far.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|f| f.rows).sum::<u64>() + self.open.as_ref().map_or(0, |open| open.part.rows())
    }

    fn conform(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let types = |schema: &SchemaRef| schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
        if types(&batch.schema()) != types(&self.schema) {
            return Err(Error::internal(format!("rows of `{}` do not have the types of its schema", self.name)));
        }
        // Arrow's message would name the first such column too, but without the table.
        let nulls =
            batch.columns().iter().zip(self.schema.fields()).find(|(c, f)| c.null_count() > 0 && !f.is_nullable());
        if let Some((_, field)) = nulls {
            return Err(Error::data(format!("column `{}` of `{}` holds a null", field.name(), self.name))
                .with_detail("its schema says that it is never null"));
        }
        RecordBatch::try_new(self.schema.clone(), batch.columns().to_vec())
            .map_err(|e| Error::internal(format!("rows of `{}` do not fit its schema", self.name)).with_source(e))
    }

    async fn write_slice(&mut self, slice: &RecordBatch) -> Result<()> {
        let Open { part, .. } = match &mut self.open {
            Some(open) => open,
            None => {
                let open = self.open_part(slice).await?;
                self.open.insert(open)
            }
        };
        part.write(slice).await.map_err(failed)?;
        fault::point("lake.mid_file");
        let bytes = part.bytes() as u64;
        if part.rows() >= self.options.rows_per_part || bytes >= self.options.bytes_per_part || part.is_full() {
            self.close_part().await?;
        }
        Ok(())
    }

    async fn open_part(&mut self, first: &RecordBatch) -> Result<Open> {
        let too_many = || Error::internal(format!("`{}` has too many parts", self.name));
        let number = self.numbers.next().ok_or_else(too_many)?;
        let key = match self.mode {
            FileMode::Index => key::index(&self.name, self.at, number),
            _ if self.merges => key::merged(&self.name, self.at, number),
            FileMode::Deleted => key::deleted(&self.name, self.at, number),
            FileMode::Refused => key::refused(&self.name, self.at, number),
            FileMode::Full | FileMode::Window => key::data(&self.name, self.at, number),
        };
        let upload = self.store.upload(&key).await?;
        let properties = match self.mode {
            FileMode::Index => layout::of_index(self.level),
            _ => layout::properties(self.level, self.options.row_group_rows, first),
        };
        let limits = GroupLimits { rows: self.options.row_group_rows, bytes: self.options.row_group_bytes };
        let part = Part::new(upload, self.schema.clone(), properties, limits).map_err(failed)?;
        Ok(Open { key, part })
    }

    async fn close_part(&mut self) -> Result<()> {
        let Some(Open { key, part }) = self.open.take() else { return Ok(()) };
        let rows = part.rows();
        let (published, tail) = part.publish(|| fault::point("lake.file_complete")).await?;
        self.numbers.completed(&key);
        fault::point("lake.file_published");
        let Published { bytes, sha256 } = published;
        self.files.push(DataFile { key, rows, bytes, sha256, mode: self.mode, tail });
        Ok(())
    }
}

/// Rows of a slice: fewer where they are wide.
fn slice_rows(batch: &RecordBatch) -> usize {
    let row_bytes = batch.get_array_memory_size() / batch.num_rows().max(1);
    (SLICE_BYTES / row_bytes.max(1)).clamp(1, SLICE_ROWS)
}
