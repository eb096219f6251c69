//! Data files, as real Parquet by the lake's own writer and reader, or as plain numbers, which are twenty times as fast.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch};
use arrow::datatypes::Int32Type;
use bytes::Bytes;
use futures::TryStreamExt;
use starlift_core::digest::sha256_hex;
use starlift_core::manifest::{DataFile, FileMode, LiveFile};
use starlift_core::{Error, Micros, Result, TableSchema, key};
use starlift_lake::{CreateOutcome, FileWriter, State, Store, WriterOptions};

use crate::planted::Planted;
use crate::run::Run;
use crate::tables::{Row, Rows};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Plain,
    Parquet,
}

/// One file, or none where there are no rows. Of rows that are gone only the `id` is kept.
pub(crate) async fn write(
    run: &Run,
    bucket: usize,
    name: &str,
    at: Micros,
    mode: FileMode,
    schema: &TableSchema,
    rows: &[Row],
) -> Result<Vec<DataFile>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    if run.format == Format::Parquet {
        return parquet(&run.store(bucket), name, at, mode, schema, rows).await;
    }
    let key = match mode {
        FileMode::Deleted => key::deleted(name, at, 1),
        FileMode::Refused => key::refused(name, at, 1),
        FileMode::Index => key::index(name, at, 1),
        FileMode::Full | FileMode::Window => key::data(name, at, 1),
    };
    Ok(vec![write_plain(run, bucket, key, mode, rows).await?])
}

/// One plain file under this key.
pub(crate) async fn write_plain(
    run: &Run,
    bucket: usize,
    key: String,
    mode: FileMode,
    rows: &[Row],
) -> Result<DataFile> {
    let content: Bytes = rows.iter().flatten().flat_map(|n| n.to_le_bytes()).collect();
    let file = DataFile {
        rows: rows.len() as u64,
        bytes: content.len() as u64,
        sha256: sha256_hex(&content),
        mode,
        tail: None,
        key: key.clone(),
    };
    if run.port.planted(Planted::ClaimIgnored) {
        // As the completion of an upload in parts does.
        run.port.point().await;
        run.port.with(|w| w.buckets[bucket].stored.insert(key, content));
    } else if run.store(bucket).create(&key, content).await? == CreateOutcome::Exists {
        return Err(Error::unavailable(format!("the key `{key}` is taken")));
    }
    Ok(file)
}

async fn parquet(
    store: &Store,
    name: &str,
    at: Micros,
    mode: FileMode,
    schema: &TableSchema,
    rows: &[Row],
) -> Result<Vec<DataFile>> {
    let column = |n: usize| Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row[n]))) as ArrayRef;
    let (arrow, columns) = match mode {
        FileMode::Deleted => (schema.key_to_arrow(), vec![column(0)]),
        FileMode::Refused | FileMode::Index => return Err(Error::internal("no row of the simulator is refused")),
        FileMode::Full | FileMode::Window => (schema.to_arrow(), vec![column(0), column(1), column(2)]),
    };
    let batch = RecordBatch::try_new(arrow.clone(), columns).map_err(|e| Error::internal("no batch").with_source(e))?;
    let mut writer = FileWriter::new(store, name, at, arrow, mode, WriterOptions::default())?;
    writer.write(&batch).await?;
    writer.finish().await
}

/// The state of a table or model as a run reads it.
pub(crate) async fn state(run: &Run, bucket: usize, schema: &TableSchema, live: &[LiveFile]) -> Result<Rows> {
    let mut live = live.to_vec();
    if run.port.planted(Planted::TombstonesIgnored) {
        live.retain(|file| file.file.mode != FileMode::Deleted);
    }
    let store = run.store(bucket);
    if run.format == Format::Parquet {
        let batches: Vec<RecordBatch> = State::new(&store, schema.clone(), live)?.scan(None).try_collect().await?;
        let mut rows = Rows::new();
        for batch in &batches {
            let column = |n: usize| batch.column(n).as_primitive::<Int32Type>().values();
            rows.extend((0..batch.num_rows()).map(|n| [column(0)[n], column(1)[n], column(2)[n]]));
        }
        rows.sort_unstable();
        return Ok(rows);
    }
    let mut contents = Vec::new();
    for file in live {
        let content = store.get(&file.file.key).await?;
        contents.push((file.clone(), plain(&file.file, content)?));
    }
    Ok(newest(contents, !schema.key.is_empty()))
}

/// The rows of one file of a manifest, or the keys that it lists.
pub(crate) async fn rows(run: &Run, bucket: usize, schema: &TableSchema, file: LiveFile) -> Result<Rows> {
    if run.format == Format::Plain {
        let content = run.store(bucket).get(&file.file.key).await?;
        return plain(&file.file, content);
    }
    let store = run.store(bucket);
    let is_deleted = file.file.mode == FileMode::Deleted;
    let arrow = if is_deleted { schema.key_to_arrow() } else { schema.to_arrow() };
    let batches: Vec<RecordBatch> = starlift_lake::reader::read(&store, &file.file, arrow, None).try_collect().await?;
    let mut rows = Rows::new();
    for batch in &batches {
        let value = |n: usize, row: usize| {
            if n < batch.num_columns() { batch.column(n).as_primitive::<Int32Type>().value(row) } else { 0 }
        };
        rows.extend((0..batch.num_rows()).map(|row| [value(0, row), value(1, row), value(2, row)]));
    }
    Ok(rows)
}

/// The rows of a plain file that is what its manifest says.
pub(crate) fn plain(file: &DataFile, content: Option<Bytes>) -> Result<Rows> {
    let content = content.ok_or_else(|| Error::data(format!("data file `{}` is missing", file.key)))?;
    if content.len() as u64 != file.bytes || sha256_hex(&content) != file.sha256 {
        return Err(Error::data(format!("data file `{}` is altered", file.key)));
    }
    let number = |four: &[u8]| four.try_into().map(i32::from_le_bytes).unwrap_or_default();
    Ok(content.chunks(12).map(|row| [number(&row[..4]), number(&row[4..8]), number(&row[8..])]).collect())
}

/// Per key the newest entry, row or tombstone; of a table without a key every row.
pub(crate) fn newest(mut contents: Vec<(LiveFile, Rows)>, has_key: bool) -> Rows {
    if !has_key {
        let mut rows: Rows = contents.into_iter().flat_map(|(_, rows)| rows).collect();
        rows.sort_unstable();
        return rows;
    }
    contents.sort_by_key(|(file, _)| std::cmp::Reverse((file.seq, file.file.mode == FileMode::Deleted)));
    let mut settled = BTreeSet::new();
    let mut state = BTreeMap::new();
    for (file, rows) in contents {
        for row in rows {
            if settled.insert(row[0]) && file.file.mode != FileMode::Deleted {
                state.insert(row[0], row);
            }
        }
    }
    state.into_values().collect()
}
