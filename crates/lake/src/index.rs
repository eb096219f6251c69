//! The key index: where the newest entry of each key is, in parts that are sorted by the digests of the keys.
//!
//! A part covers some live files (`starlift_core::index`). Each entry has the digest of its key, that of its row (of a refused
//! row what is said of it; none for a tombstone), the file, counted among the covered ones with the newest first, and the
//! row's place in that file. Keys come once in all parts that cover the same files. The statistics of a part's pages say which
//! keys they can hold, so that looking for a few keys reads a few pages.
//!
//! What a crash leaves are parts that no manifest names.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryBuilder, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::arrow_reader::RowSelection;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use starlift_core::digest::hex;
use starlift_core::index::{Covers, FORM, Unit, covered, newness};
use starlift_core::manifest::{FileMode, LiveFile};
use starlift_core::state::LiveFiles;
use starlift_core::{Error, Micros, Result, TableSchema, fault};

use crate::digest::{Digests, KeyDigest, RowDigest};
use crate::keys::Keys;
use crate::reader::{Verified, damaged};
use crate::store::Store;
use crate::upkeep::Pace;
use crate::writer::{FileWriter, PartNumbers, WriterOptions};

/// The columns of a part.
pub(crate) const KEY: &str = "key";
pub(crate) const ROW: &str = "row";
pub(crate) const FILE: &str = "file";
pub(crate) const POSITION: &str = "position";

/// Entries that are sorted in memory, at about 40 bytes each, and make one part.
const PART_ENTRIES: usize = 512 << 10;
/// Parts up to this size are read whole.
const WHOLE_BYTES: u64 = 256 << 10;
const PARTS_AT_ONCE: usize = 8;
const BATCH_ENTRIES: usize = 8_192;

/// Where the newest entry of a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: KeyDigest,
    /// None for a tombstone.
    pub(crate) row: Option<RowDigest>,
    /// The number of its file among those that are covered.
    pub(crate) file: u32,
    /// Its row there.
    pub(crate) position: u32,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(KEY, DataType::FixedSizeBinary(16), false),
        Field::new(ROW, DataType::FixedSizeBinary(16), true),
        Field::new(FILE, DataType::UInt32, false),
        Field::new(POSITION, DataType::UInt32, false),
    ]))
}

/// Writes parts that cover the files of a unit.
///
/// Memory: [`PART_ENTRIES`] at a time; and [`Keys`], where there are files of more than one manifest or mode.
///
/// Errors: Data for a damaged file; Unavailable where it would take longer than it may; those of the store.
pub(crate) async fn build(
    store: &Store,
    (name, at): (&str, Micros),
    schema: &TableSchema,
    unit: &Unit,
    numbers: &PartNumbers,
    pace: Pace,
) -> Result<LiveFiles> {
    let is_one_base =
        unit.files.iter().all(|file| newness(file) == unit.files.first().map(newness).unwrap_or_default());
    let digests = Digests::new(schema)?;
    let mut settled = Keys::empty(store.spill());
    let mut entries: Vec<Entry> = Vec::new();
    let mut parts = Parts { store, name, at, numbers, written: Vec::new() };
    let (mut listed, all) = (0, unit.files.iter().map(|live| live.file.rows).sum());
    for (number, live) in unit.files.iter().enumerate() {
        let file = u32::try_from(number).map_err(|_| Error::internal("too many files make one index"))?;
        let mut position: u32 = 0;
        let mut batches = entries_of(store, live, schema);
        while let Some(batch) = batches.try_next().await? {
            if entries.len() + batch.num_rows() > PART_ENTRIES {
                parts.write(std::mem::take(&mut entries)).await?;
            }
            listed += batch.num_rows() as u64;
            pace.check(listed, all)?;
            for (key, row) in digest(&digests, live.file.mode, &batch)? {
                if is_one_base || settled.insert(key)? {
                    entries.push(Entry { key, row, file, position });
                }
                position = position.checked_add(1).ok_or_else(|| Error::internal("a file has too many rows"))?;
            }
        }
    }
    parts.write(entries).await?;
    fault::point("lake.indexed");
    let files = covered(&unit.files);
    let live = |(file, first, last): (_, KeyDigest, KeyDigest)| LiveFile {
        from: Some(unit.from),
        covers: Some(Covers { form: FORM, files: files.clone(), first: hex(&first.0), last: hex(&last.0) }),
        ..LiveFile::new(unit.upto, file)
    };
    Ok(parts.written.into_iter().map(live).collect())
}

/// The entries of a file: rows with all columns, keys of tombstones, refused rows.
fn entries_of(store: &Store, live: &LiveFile, schema: &TableSchema) -> BoxStream<'static, Result<RecordBatch>> {
    let arrow = match live.file.mode {
        FileMode::Deleted => schema.key_to_arrow(),
        FileMode::Refused => schema.refused_to_arrow(),
        FileMode::Full | FileMode::Window | FileMode::Index => schema.to_arrow(),
    };
    crate::reader::read(store, &live.file, arrow, None)
}

/// The digests of some entries of a file of this mode; a tombstone has none of a row.
pub(crate) fn digest(
    digests: &Digests,
    mode: FileMode,
    batch: &RecordBatch,
) -> Result<Vec<(KeyDigest, Option<RowDigest>)>> {
    Ok(match mode {
        FileMode::Deleted => digests.keys_of_key_batch(batch)?.into_iter().map(|key| (key, None)).collect(),
        FileMode::Refused => digests.refused(batch)?.into_iter().map(|(key, row)| (key, Some(row))).collect(),
        FileMode::Full | FileMode::Window | FileMode::Index => {
            digests.keys(batch)?.into_iter().zip(digests.rows(batch)?.into_iter().map(Some)).collect()
        }
    })
}

struct Parts<'a> {
    store: &'a Store,
    name: &'a str,
    at: Micros,
    numbers: &'a PartNumbers,
    written: Vec<(starlift_core::manifest::DataFile, KeyDigest, KeyDigest)>,
}

impl Parts<'_> {
    async fn write(&mut self, mut entries: Vec<Entry>) -> Result<()> {
        let sorting = tokio::task::spawn_blocking(move || {
            entries.sort_unstable_by_key(|entry| entry.key);
            entries
        });
        let entries = sorting.await.map_err(|_| Error::internal("entries could not be sorted"))?;
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
        let options = WriterOptions { rows_per_part: u64::MAX, bytes_per_part: u64::MAX, ..WriterOptions::default() };
        let writer = FileWriter::new(self.store, self.name, self.at, schema(), FileMode::Index, options)?;
        let mut writer = writer.numbered_by(self.numbers);
        for some in entries.chunks(BATCH_ENTRIES) {
            writer.write(&batch(some)?).await?;
        }
        let files = writer.finish().await?;
        self.written.extend(files.into_iter().map(|file| (file, first.key, last.key)));
        Ok(())
    }
}

fn batch(entries: &[Entry]) -> Result<RecordBatch> {
    let wrong = |e| Error::internal("an index cannot be written").with_source(e);
    let mut keys = FixedSizeBinaryBuilder::with_capacity(entries.len(), 16);
    let mut rows = FixedSizeBinaryBuilder::with_capacity(entries.len(), 16);
    for entry in entries {
        keys.append_value(entry.key.0).map_err(wrong)?;
        match entry.row {
            Some(row) => rows.append_value(row.0).map_err(wrong)?,
            None => rows.append_null(),
        }
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(keys.finish()),
        Arc::new(rows.finish()),
        Arc::new(entries.iter().map(|entry| entry.file).collect::<UInt32Array>()),
        Arc::new(entries.iter().map(|entry| entry.position).collect::<UInt32Array>()),
    ];
    RecordBatch::try_new(schema(), columns).map_err(wrong)
}

/// The entries of those of these keys, which are sorted, that the covered files of a unit have.
///
/// Errors: Data for a part that is missing or altered; those of the store.
pub(crate) async fn find(store: Store, unit: Unit, wanted: Arc<[KeyDigest]>) -> Result<Vec<Entry>> {
    let parts = unit.parts.iter().skip(usize::from(fault::planted("index_part_skipped")));
    let asked = parts.filter_map(|part| {
        let (first, last) = range_of(part);
        let from = wanted.partition_point(|key| *key < first);
        let upto = wanted.partition_point(|key| *key <= last);
        (from < upto).then(|| (part.clone(), from..upto))
    });
    let asked: Vec<(LiveFile, Range<usize>)> = asked.collect();
    let found = stream::iter(asked).map(|(part, range)| find_in(store.clone(), part, Arc::clone(&wanted), range));
    let found = found.buffered(PARTS_AT_ONCE);
    let found: Vec<Vec<Entry>> = found.try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

async fn find_in(store: Store, part: LiveFile, wanted: Arc<[KeyDigest]>, range: Range<usize>) -> Result<Vec<Entry>> {
    let keys = wanted.get(range).unwrap_or_default();
    let content = Verified::of_some_rows(&store, &part.file, WHOLE_BYTES).await?;
    let selection = match &content {
        Verified::Whole(_) => None,
        Verified::Partial(file) => match pages(file.metadata(), keys) {
            Some(selection) => Some(selection),
            // All keys are between two pages.
            None => return Ok(Vec::new()),
        },
    };
    let mut found = Vec::new();
    let mut batches = content.batches(schema(), None, selection);
    while let Some(batch) = batches.try_next().await? {
        let entries = entries(&part, &batch)?;
        found.extend(entries.into_iter().filter(|entry| keys.binary_search(&entry.key).is_ok()));
    }
    Ok(found)
}

/// The rows of the pages that can hold one of these keys, by the statistics of the part; none where no page can.
fn pages(metadata: &ParquetMetaData, keys: &[KeyDigest]) -> Option<RowSelection> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    for (number, group) in metadata.row_groups().iter().enumerate() {
        let rows = usize::try_from(group.num_rows()).unwrap_or(0);
        let statistics = metadata.column_index().and_then(|index| index.get(number)?.first());
        let locations = metadata.offset_index().and_then(|index| Some(index.get(number)?.first()?.page_locations()));
        match (statistics, locations) {
            (Some(ColumnIndexMetaData::FIXED_LEN_BYTE_ARRAY(index)), Some(locations)) => {
                let first_row =
                    |page: usize| locations.get(page).and_then(|at| usize::try_from(at.first_row_index).ok());
                for page in 0..locations.len() {
                    let from = keys.partition_point(|key| Some(&key.0[..]) < index.min_value(page));
                    let may = keys.get(from).is_some_and(|key| Some(&key.0[..]) <= index.max_value(page));
                    if may && let Some(first) = first_row(page) {
                        ranges.push(start + first..start + first_row(page + 1).unwrap_or(rows));
                    }
                }
            }
            _ => ranges.push(start..start + rows),
        }
        start += rows;
    }
    (!ranges.is_empty()).then(|| RowSelection::from_consecutive_ranges(ranges.into_iter(), start))
}

/// All entries of the covered files of a unit.
pub(crate) fn all(store: &Store, unit: &Unit) -> BoxStream<'static, Result<Vec<Entry>>> {
    let (store, parts) = (store.clone(), unit.parts.clone());
    stream::iter(parts)
        .flat_map(move |part: LiveFile| {
            let batches = crate::reader::read(&store, &part.file, schema(), None);
            batches.map(move |batch| entries(&part, &batch?))
        })
        .boxed()
}

/// The entries of a batch.
///
/// Errors: Data for a batch that no part of ours can hold.
fn entries(part: &LiveFile, batch: &RecordBatch) -> Result<Vec<Entry>> {
    let wrong = || damaged(&part.file, "cannot be read", "it is no part of a key index".into());
    let [keys, rows, files, positions] = batch.columns() else { return Err(wrong()) };
    let (keys, rows) = (keys.as_fixed_size_binary_opt(), rows.as_fixed_size_binary_opt());
    let (files, positions) = (files.as_primitive_opt::<UInt32Type>(), positions.as_primitive_opt::<UInt32Type>());
    let (Some(keys), Some(rows), Some(files), Some(positions)) = (keys, rows, files, positions) else {
        return Err(wrong());
    };
    let bytes = |value: &[u8]| <[u8; 16]>::try_from(value).map_err(|_| wrong());
    let entry = |at: usize| {
        let row = if rows.is_valid(at) { Some(RowDigest(bytes(rows.value(at))?)) } else { None };
        let key = KeyDigest(bytes(keys.value(at))?);
        Ok(Entry { key, row, file: files.value(at), position: positions.value(at) })
    };
    (0..batch.num_rows()).map(entry).collect()
}

/// The digests that a part lies between; what is not said is not a limit.
fn range_of(part: &LiveFile) -> (KeyDigest, KeyDigest) {
    let said = |text: fn(&Covers) -> &String| part.covers.as_ref().and_then(|covers| parse(text(covers)));
    (said(|c| &c.first).unwrap_or(KeyDigest([0; 16])), said(|c| &c.last).unwrap_or(KeyDigest([0xff; 16])))
}

fn parse(text: &str) -> Option<KeyDigest> {
    let mut digest = [0; 16];
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in digest.iter_mut().zip((0..32).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(KeyDigest(digest))
}

/// The rows at these places, which are sorted, of so many.
pub(crate) fn select(positions: &[u32], rows: u64) -> RowSelection {
    let ranges = positions.iter().map(|position| *position as usize..*position as usize + 1);
    RowSelection::from_consecutive_ranges(ranges, usize::try_from(rows).unwrap_or(usize::MAX))
}
