//! What each choice of the layout of data files costs and saves: processor time of writing, and bytes. `cargo bench -p
//! starlift-lake`; docs/performance.md keeps what it printed when the choice was made. Linux only: the time is that of `/proc`.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use starlift_core::Micros;
use starlift_core::manifest::FileMode;
use starlift_lake::{FileWriter, Store, WriterOptions};

/// Batches of a file, and rows of a batch as ingest makes them.
const BATCHES: i64 = 64;
const ROWS: i64 = 16_384;
const TIMES: usize = 3;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("| {} payments | cpu s | MB |\n| --- | ---: | ---: |", BATCHES * ROWS);
    let options = WriterOptions::default;
    let mut kinds: Vec<(String, WriterOptions)> = [1, 2, 3, 5, 9]
        .map(|level| (format!("zstd level {level}"), WriterOptions { zstd_level: level, ..options() }))
        .to_vec();
    for thousands in [32, 128, 512] {
        let kind = WriterOptions { row_group_rows: thousands << 10, ..options() };
        kinds.push((format!("row groups of {}k rows", thousands), kind));
    }
    for (name, options) in kinds {
        let mut least = f64::INFINITY;
        let mut bytes = 0;
        for _ in 0..TIMES {
            let (seconds, stored) = runtime.block_on(write(options))?;
            least = least.min(seconds);
            bytes = stored;
        }
        println!("| {name} | {least:.2} | {:.1} |", bytes as f64 / 1e6);
    }
    Ok(())
}

/// Writes one file; returns processor time and stored bytes.
async fn write(options: WriterOptions) -> Result<(f64, u64), Error> {
    let dir = tempfile::tempdir()?;
    let store = Store::open(&dir.path().display().to_string(), &BTreeMap::new())?;
    let first = batch(0)?;
    let mut writer = FileWriter::new(&store, "payment", Micros(1), first.schema(), FileMode::Full, options)?;
    let mut spent = 0.0;
    for number in 0..BATCHES {
        let batch = batch(number)?;
        let begun = cpu()?;
        writer.write(&batch).await?;
        spent += cpu()? - begun;
    }
    let begun = cpu()?;
    let files = writer.finish().await?;
    Ok((spent + cpu()? - begun, files.iter().map(|file| file.bytes).sum()))
}

/// Nanoseconds on a processor, of this process.
fn cpu() -> Result<f64, Error> {
    let text = std::fs::read_to_string("/proc/self/schedstat")?;
    let nanoseconds = text.split(' ').next().and_then(|word| word.parse::<f64>().ok());
    // Some kernels do not tell: then it is wall time.
    static BEGUN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    Ok(nanoseconds.map_or_else(|| BEGUN.get_or_init(Instant::now).elapsed().as_secs_f64(), |n| n / 1e9))
}

/// A number without a pattern.
fn hash(value: i64) -> i64 {
    let mixed = (value as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33) as i64
}

fn batch(number: i64) -> Result<RecordBatch, Error> {
    let ids = || number * ROWS..(number + 1) * ROWS;
    let ints = |value: fn(i64) -> i64| Arc::new(ids().map(|i| value(i) as i32).collect::<Int32Array>()) as ArrayRef;
    let amounts = ids().map(|i| i128::from(hash(i) % 60_000_000) * 100_000_000).collect::<Decimal128Array>();
    let dates = ids().map(|i| Some(format!("2024-{:02}-{:02}", 1 + i / 90_000 % 12, 1 + i / 4_000 % 28)));
    let times = || {
        let micros = ids().map(|i| 1_700_000_000_000_000 + i * 11_000_000 + hash(i) % 1_000 * 1_000);
        Arc::new(TimestampMicrosecondArray::from(micros.collect::<Vec<i64>>())) as ArrayRef
    };
    let columns: [(&str, ArrayRef); 11] = [
        ("payment_id", ints(|i| i)),
        ("transaction_id", ints(|i| i)),
        ("party_id", ints(|i| hash(i) % 20)),
        ("amount", Arc::new(amounts.with_precision_and_scale(38, 10)?)),
        ("currency_id", ints(|i| i % 3)),
        ("paid", Arc::new(ids().map(|i| Some(i % 7 != 0)).collect::<BooleanArray>())),
        ("date", Arc::new(dates.collect::<StringArray>())),
        ("company_ac", ints(|i| 10_000_000 + hash(i + 1) % 90_000_000)),
        ("party_ac", ints(|i| 10_000_000 + hash(i + 2) % 90_000_000)),
        ("created_at", times()),
        ("last_updated", times()),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true)))?)
}
