//! Small tables, manifests and stores that the tests share.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use futures::{Stream, TryStreamExt};
use starlift_core::manifest::{DataFile, FORMAT, FileMode, LiveFile, Manifest, Origin};
use starlift_core::{Column, ColumnType, Micros, Result, TableSchema};
use starlift_lake::{FileWriter, KeyDigest, Keys, RowDigest, Spill, State, Store, WriterOptions};

/// 2024-11-20 11:35:00 UTC.
pub(crate) const AT: Micros = Micros(1_732_102_500_000_000);

/// `id` (the key) and `name`.
pub(crate) fn people() -> TableSchema {
    let column = |name: &str, column_type, nullable| Column {
        name: name.into(),
        column_type,
        nullable,
        declared: None,
        labels: vec![],
    };
    TableSchema {
        columns: vec![column("name", ColumnType::Text, true), column("id", ColumnType::Int4, false)],
        key: vec!["id".into()],
        oid: None,
        partitions: vec![],
        attributes: vec![],
    }
}

pub(crate) fn rows(rows: &[(i32, &str)]) -> RecordBatch {
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.1)));
    let ids: ArrayRef = Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.0)));
    RecordBatch::try_new(people().to_arrow(), vec![names, ids]).unwrap()
}

pub(crate) fn keys(ids: &[i32]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int32Array::from(ids.to_vec()));
    RecordBatch::try_new(people().key_to_arrow(), vec![ids]).unwrap()
}

/// Writes one batch as the files of one mode, at a time of its own for each seq.
pub(crate) async fn write(store: &Store, seq: u64, mode: FileMode, batch: &RecordBatch) -> Vec<LiveFile> {
    write_with(store, seq, mode, batch, WriterOptions::default()).await
}

pub(crate) async fn write_with(
    store: &Store,
    seq: u64,
    mode: FileMode,
    batch: &RecordBatch,
    options: WriterOptions,
) -> Vec<LiveFile> {
    // Full and window files of one manifest need two names here; in a real run they come from two claims.
    let at = Micros(AT.0 + seq as i64 * 10 + i64::from(mode == FileMode::Window));
    let mut writer = FileWriter::new(store, "people", at, batch.schema(), mode, options).unwrap();
    writer.write(batch).await.unwrap();
    live(seq, writer.finish().await.unwrap())
}

pub(crate) fn live(seq: u64, files: Vec<DataFile>) -> Vec<LiveFile> {
    files.into_iter().map(|file| LiveFile::new(seq, file)).collect()
}

pub(crate) async fn collect(batches: impl Stream<Item = Result<RecordBatch>> + Unpin) -> BTreeMap<i32, String> {
    let batches: Vec<RecordBatch> = batches.try_collect().await.unwrap();
    let mut found = BTreeMap::new();
    for batch in batches {
        let (names, ids) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int32Type>());
        for row in 0..batch.num_rows() {
            let twice = found.insert(ids.value(row), names.value(row).to_string());
            assert_eq!(twice, None, "key {} twice", ids.value(row));
        }
    }
    found
}

pub(crate) fn expected(rows: &[(i32, &str)]) -> BTreeMap<i32, String> {
    rows.iter().map(|(id, name)| (*id, name.to_string())).collect()
}

/// Manifest 1 of a lake.
pub(crate) fn first(write_id: &str) -> Manifest {
    Manifest {
        format: FORMAT,
        pipeline: "p".into(),
        id: "lake-1".into(),
        seq: 1,
        run_id: format!("run of {write_id}"),
        write_id: write_id.into(),
        previous_sha256: None,
        version: "0".into(),
        at: AT,
        started: AT,
        finished: AT,
        newest_change: 0,
        newest_change_sha256: None,
        checkpoint: 0,
        runs_before: None,
        compaction: false,
        origin: Origin::Transform { lake_id: "l".into(), after: 0, upto: 0, upto_sha256: None },
        relations: BTreeMap::new(),
        live: None,
        index: BTreeMap::new(),
        unfinished: BTreeMap::new(),
        complete: None,
        chunks: None,
        result: BTreeMap::new(),
        checksum: String::new(),
    }
}

pub(crate) async fn commit_ok(store: &Store, manifest: Manifest) -> starlift_lake::Stored {
    match starlift_lake::commit(store, manifest).await.unwrap() {
        starlift_lake::Commit::Committed(stored) => stored,
        starlift_lake::Commit::Superseded(theirs) => panic!("superseded by {}", theirs.manifest.write_id),
    }
}

/// Commits `length` manifests, each naming the one before it; those in `checkpoints` are checkpoints.
pub(crate) async fn chain_of(store: &Store, length: u64, checkpoints: &[u64]) -> Vec<starlift_lake::Stored> {
    let mut chain: Vec<starlift_lake::Stored> = Vec::new();
    for seq in 1..=length {
        let mut manifest = first(&format!("w{seq}"));
        manifest.seq = seq;
        if let Some(last) = chain.last() {
            manifest.previous_sha256 = Some(last.sha256.clone());
            manifest.checkpoint = last.manifest.checkpoint;
        }
        if checkpoints.contains(&seq) {
            manifest.checkpoint = seq;
            manifest.live = Some(BTreeMap::new());
        }
        chain.push(commit_ok(store, manifest).await);
    }
    chain
}

pub(crate) fn no_settings() -> BTreeMap<String, String> {
    BTreeMap::new()
}

pub(crate) fn folder_store(folder: &tempfile::TempDir) -> Store {
    Store::open(folder.path().join("lake").to_str().unwrap(), &no_settings()).unwrap()
}

/// The same test over a folder and over memory.
pub(crate) fn both_stores() -> (tempfile::TempDir, HashMap<&'static str, Store>) {
    let folder = tempfile::tempdir().unwrap();
    let stores = HashMap::from([("folder", folder_store(&folder)), ("memory", Store::in_memory())]);
    (folder, stores)
}

/// A store in memory whose readers put keys aside from so many on.
pub(crate) fn spilling_store(keys: usize) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::in_memory().spilling(Spill::into(folder.path()).with_keys_held(keys));
    (folder, store)
}

/// The digests of all entries, as a map.
pub(crate) async fn index_of(state: &State) -> HashMap<KeyDigest, RowDigest> {
    let mut found = HashMap::new();
    let mut keys: Keys = state.index().await.unwrap();
    keys.each(|key, row, _| assert_eq!(found.insert(key, row), None)).unwrap();
    found
}
