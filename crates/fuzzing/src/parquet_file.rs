//! Data files that are not what starlift wrote, although their size and SHA-256 are those of the manifest.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use futures::TryStreamExt;
use starlift_core::digest::sha256_hex;
use starlift_core::manifest::{DataFile, FileMode};
use starlift_core::{ErrorKind, Result};
use starlift_lake::{Store, reader};
use tokio::runtime::Runtime;

use crate::copy::columns;

/// Rows of the files in the corpus, and of the manifest that names what the fuzzer made of them.
pub const ROWS: u64 = 5;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().build().expect("a runtime without I/O"));

/// A column of every type.
pub fn schema() -> SchemaRef {
    let fields: Vec<_> = columns(0).iter().map(|c| c.column_type.to_field(&c.name, c.nullable)).collect();
    Arc::new(Schema::new(fields))
}

/// A file is read with as many rows as its manifest says, or is a Data error that names it; a panic of the Parquet
/// reader does not come out.
pub fn parquet_file(bytes: &[u8]) {
    for projection in [None, Some(vec![8, 0])] {
        match RUNTIME.block_on(rows(bytes, projection)) {
            Ok(rows) => assert_eq!(rows, ROWS),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Data, "{error:?}");
                assert!(error.hint().is_some() && error.message().contains("fuzzed.parquet"), "{error:?}");
            }
        }
    }
}

async fn rows(bytes: &[u8], projection: Option<Vec<usize>>) -> Result<u64> {
    let store = Store::in_memory();
    let key = "t/fuzzed.parquet".to_string();
    store.create(&key, Bytes::copy_from_slice(bytes)).await?;
    let sha256 = sha256_hex(bytes);
    let file = DataFile { key, rows: ROWS, bytes: bytes.len() as u64, sha256, mode: FileMode::Full, tail: None };
    let batches = reader::read(&store, &file, schema(), projection);
    batches.try_fold(0, async |rows, batch| Ok(rows + batch.num_rows() as u64)).await
}
