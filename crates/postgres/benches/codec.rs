//! The COPY BINARY codec alone: `cargo bench -p starlift-postgres`. Where time is too noisy, `scripts/instructions` counts the
//! instructions of [`decode`] and [`encode`] instead.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use bytes::BytesMut;
use divan::counter::ItemsCount;
use starlift_core::{Column, ColumnType, TableSchema};
use starlift_postgres::codec::{BatchEncoder, RowDecoder};

/// Rows of a batch, as ingest makes them.
const ROWS: usize = 16_384;

fn main() {
    divan::main();
}

fn column(name: &str, column_type: ColumnType) -> Column {
    Column { name: name.into(), column_type, nullable: true, declared: None, labels: vec![] }
}

/// A payment: six numbers, an amount, a flag, a text, two times.
fn payments() -> (Vec<Column>, RecordBatch) {
    let numbers = ["payment_id", "transaction_id", "party_id", "currency_id", "company_ac", "party_ac"];
    let mut columns: Vec<Column> = numbers.into_iter().map(|name| column(name, ColumnType::Int4)).collect();
    columns.push(column("amount", ColumnType::Numeric { precision: 38, scale: 10 }));
    columns.push(column("paid", ColumnType::Bool));
    columns.push(column("date", ColumnType::Text));
    columns.push(column("created_at", ColumnType::Timestamp));
    columns.push(column("last_updated", ColumnType::Timestamp));
    let of = |value: fn(i64) -> i64| (0..ROWS as i64).map(value).collect::<Vec<i64>>();
    let mut arrays: Vec<ArrayRef> = numbers
        .iter()
        .map(|_| Arc::new((0..ROWS as i32).map(|i| i.wrapping_mul(7_919)).collect::<Int32Array>()) as ArrayRef)
        .collect();
    let amounts = of(|i| i * 7_919 % 60_000_000).into_iter().map(|cents| i128::from(cents) * 100_000_000);
    arrays.push(Arc::new(
        amounts.collect::<Decimal128Array>().with_precision_and_scale(38, 10).expect("a decimal of 38 digits"),
    ));
    arrays.push(Arc::new((0..ROWS).map(|i| Some(i % 7 != 0)).collect::<BooleanArray>()));
    arrays.push(Arc::new(
        (0..ROWS).map(|i| Some(format!("2024-{:02}-{:02}", 1 + i % 12, 1 + i % 28))).collect::<StringArray>(),
    ));
    for _ in 0..2 {
        arrays.push(Arc::new(TimestampMicrosecondArray::from(of(|i| 1_700_000_000_000_000 + i * 11_000_123))));
    }
    let schema =
        TableSchema { columns: columns.clone(), key: vec![], oid: None, partitions: vec![], attributes: vec![] };
    (columns, RecordBatch::try_new(schema.to_arrow(), arrays).expect("a batch of payments"))
}

fn stream(columns: &[Column], batch: &RecordBatch) -> BytesMut {
    let mut encoder = BatchEncoder::new(columns).expect("an encoder");
    let mut bytes = BytesMut::new();
    encoder.header(&mut bytes);
    encoder.encode(batch, &mut bytes).expect("encoded rows");
    encoder.trailer(&mut bytes);
    bytes
}

#[inline(never)]
fn decode(columns: &[Column], bytes: &[u8], chunk: usize) -> RecordBatch {
    let mut decoder = RowDecoder::new(columns, &[]).expect("a decoder");
    bytes.chunks(chunk).for_each(|chunk| decoder.push(chunk).expect("a whole stream"));
    decoder.finish().expect("a whole stream").expect("rows")
}

#[inline(never)]
fn encode(columns: &[Column], batch: &RecordBatch) -> BytesMut {
    stream(columns, batch)
}

#[divan::bench]
fn decode_payments(bencher: divan::Bencher<'_, '_>) {
    let (columns, batch) = payments();
    let bytes = stream(&columns, &batch);
    bencher.counter(ItemsCount::new(ROWS)).bench(|| decode(&columns, &bytes, 8_192));
}

/// Chunks that end within nearly every row, and one chunk of everything.
#[divan::bench(args = [130, 16 << 20])]
fn decode_in_chunks(bencher: divan::Bencher<'_, '_>, chunk: usize) {
    let (columns, batch) = payments();
    let bytes = stream(&columns, &batch);
    bencher.counter(ItemsCount::new(ROWS)).bench(|| decode(&columns, &bytes, chunk));
}

#[divan::bench]
fn encode_payments(bencher: divan::Bencher<'_, '_>) {
    let (columns, batch) = payments();
    bencher.counter(ItemsCount::new(ROWS)).bench(|| encode(&columns, &batch));
}

#[divan::bench(args = [0, 6, 10])]
fn decode_columns(bencher: divan::Bencher<'_, '_>, position: usize) {
    let (columns, batch) = payments();
    let (column, array) = (vec![columns[position].clone()], batch.column(position).clone());
    let schema =
        TableSchema { columns: column.clone(), key: vec![], oid: None, partitions: vec![], attributes: vec![] };
    let batch = RecordBatch::try_new(schema.to_arrow(), vec![array]).expect("a batch of one column");
    let bytes = stream(&column, &batch);
    bencher.counter(ItemsCount::new(ROWS)).bench(|| decode(&column, &bytes, 8_192));
}
