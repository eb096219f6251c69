//! Every column type goes through a file and back without a change of a bit.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int16Array,
    Int32Array, Int64Array, ListArray, RecordBatch, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::concat;
use futures::TryStreamExt;
use starlift_core::manifest::FileMode;
use starlift_core::{Column, ColumnType, TableSchema};
use starlift_lake::{Digests, FileWriter, State, Store, WriterOptions};

use starlift_core::digest::sha256_hex;

use crate::fixture::{AT, live};

const TEN_TO_38: i128 = 100_000_000_000_000_000_000_000_000_000_000_000_000;

/// Four values and a null.
fn values(column_type: &ColumnType) -> ArrayRef {
    let text =
        |texts: [&str; 4]| -> ArrayRef { Arc::new(StringArray::from_iter(texts.into_iter().map(Some).chain([None]))) };
    match column_type {
        ColumnType::Bool => Arc::new(BooleanArray::from(vec![Some(true), Some(false), Some(true), Some(false), None])),
        ColumnType::Int2 => Arc::new(Int16Array::from(vec![Some(i16::MIN), Some(i16::MAX), Some(0), Some(-1), None])),
        ColumnType::Int4 => Arc::new(Int32Array::from(vec![Some(i32::MIN), Some(i32::MAX), Some(0), Some(-1), None])),
        ColumnType::Int8 => Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), Some(0), Some(-1), None])),
        ColumnType::Float4 => Arc::new(Float32Array::from(vec![
            Some(-0.0),
            Some(f32::NAN),
            Some(f32::NEG_INFINITY),
            Some(f32::MIN_POSITIVE),
            None,
        ])),
        ColumnType::Float8 => {
            Arc::new(Float64Array::from(vec![Some(-0.0), Some(f64::NAN), Some(f64::INFINITY), Some(5e-324), None]))
        }
        ColumnType::Numeric { precision, scale } => {
            let largest = 10i128.pow(u32::from(*precision)) - 1;
            let array = Decimal128Array::from(vec![Some(largest), Some(-largest), Some(0), Some(1), None]);
            Arc::new(array.with_precision_and_scale(*precision, *scale as i8).unwrap())
        }
        ColumnType::Text => text(["", "a\u{0301} 🚀 \u{10FFFF}", " trailing ", "line\nbreak\ttab \u{1}"]),
        ColumnType::Uuid => text([
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "6b29fc40-ca47-1067-b31d-00dd010662da",
            "6b29fc40-ca47-1067-b31d-00dd010662db",
        ]),
        ColumnType::Json => text(["{}", "{\"a\":  1}", "null", "[1,2]"]),
        ColumnType::Jsonb => text(["{}", "{\"a\": 1}", "null", "[1, 2]"]),
        ColumnType::Bytea => {
            Arc::new(BinaryArray::from_opt_vec(vec![Some(b""), Some(b"\x00\xff"), Some(b"abc"), Some(&[7; 300]), None]))
        }
        ColumnType::Date => {
            Arc::new(Date32Array::from(vec![Some(i32::MIN), Some(i32::MAX), Some(0), Some(-719_162), None]))
        }
        ColumnType::Time => Arc::new(Time64MicrosecondArray::from(vec![
            Some(0),
            Some(86_399_999_999),
            // PostgreSQL has 24:00:00.
            Some(86_400_000_000),
            Some(1),
            None,
        ])),
        ColumnType::Timestamp => Arc::new(TimestampMicrosecondArray::from(vec![
            Some(i64::MIN),
            Some(i64::MAX),
            Some(0),
            Some(-62_135_596_800_000_001),
            None,
        ])),
        ColumnType::TimestampTz => Arc::new(
            TimestampMicrosecondArray::from(vec![Some(i64::MIN), Some(i64::MAX), Some(0), Some(1), None])
                .with_timezone("UTC"),
        ),
        ColumnType::Array(element) => {
            let five = values(element);
            // All five at once (a null among them), none, a null list, one, and the null alone.
            let items = concat(&[five.as_ref(), five.slice(0, 1).as_ref(), five.slice(4, 1).as_ref()]).unwrap();
            let field = Arc::new(element.to_field("item", true));
            let offsets = OffsetBuffer::from_lengths([5, 0, 0, 1, 1]);
            let nulls = NullBuffer::from(vec![true, true, false, true, true]);
            Arc::new(ListArray::new(field, offsets, items, Some(nulls)))
        }
    }
}

fn every_type() -> Vec<ColumnType> {
    let mut types = vec![
        ColumnType::Bool,
        ColumnType::Int2,
        ColumnType::Int4,
        ColumnType::Int8,
        ColumnType::Float4,
        ColumnType::Float8,
        ColumnType::Numeric { precision: 38, scale: 10 },
        ColumnType::Numeric { precision: 38, scale: 38 },
        ColumnType::Numeric { precision: 9, scale: 2 },
        ColumnType::Numeric { precision: 18, scale: 0 },
        ColumnType::Numeric { precision: 1, scale: 1 },
        ColumnType::Text,
        ColumnType::Bytea,
        ColumnType::Date,
        ColumnType::Time,
        ColumnType::Timestamp,
        ColumnType::TimestampTz,
        ColumnType::Uuid,
        ColumnType::Json,
        ColumnType::Jsonb,
    ];
    types.extend(types.clone().into_iter().map(|t| ColumnType::Array(Box::new(t))));
    types
}

/// One column of each type, and `id`.
fn table() -> (TableSchema, RecordBatch) {
    let types = every_type();
    let column =
        |name: String, column_type, nullable| Column { name, column_type, nullable, declared: None, labels: vec![] };
    let mut columns = vec![column("id".into(), ColumnType::Int4, false)];
    columns.extend(types.iter().enumerate().map(|(n, t)| column(format!("c{n}"), t.clone(), true)));
    let schema = TableSchema { columns, key: vec!["id".into()], oid: None, partitions: vec![], attributes: vec![] };
    let ids: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3, 4, 5]));
    let arrays = [ids].into_iter().chain(types.iter().map(values)).collect();
    let batch = RecordBatch::try_new(schema.to_arrow(), arrays).unwrap();
    (schema, batch)
}

#[tokio::test]
async fn every_type_is_read_as_it_was_written() {
    let (schema, batch) = table();
    let store = Store::in_memory();
    let mut writer =
        FileWriter::new(&store, "t", AT, schema.to_arrow(), FileMode::Full, WriterOptions::default()).unwrap();
    writer.write(&batch).await.unwrap();
    let files = writer.finish().await.unwrap();
    let state = State::new(&store, schema.clone(), live(1, files)).unwrap();
    let read: Vec<RecordBatch> = state.scan(None).try_collect().await.unwrap();
    assert_eq!(read.len(), 1);
    for (position, column) in schema.columns.iter().enumerate() {
        let (before, after) = (batch.column(position).to_data(), read[0].column(position).to_data());
        assert_eq!(before, after, "{}", column.column_type);
    }
    assert_eq!(read[0].schema(), batch.schema());
    // Arrow's equality holds -0.0 for 0.0; digests do not.
    let digests = Digests::new(&schema).unwrap();
    assert_eq!(digests.rows(&read[0]).unwrap(), digests.rows(&batch).unwrap());
}

#[test]
fn every_type_may_be_in_a_key_and_a_row_digest() {
    for column_type in every_type() {
        let column = Column {
            name: "c".into(),
            column_type: column_type.clone(),
            nullable: true,
            declared: None,
            labels: vec![],
        };
        let schema = TableSchema {
            columns: vec![column],
            key: vec!["c".into()],
            oid: None,
            partitions: vec![],
            attributes: vec![],
        };
        let batch = RecordBatch::try_new(schema.to_arrow(), vec![values(&column_type)]).unwrap();
        let digests = Digests::new(&schema).unwrap();
        let distinct = if column_type == ColumnType::Bool { 3 } else { 5 };
        let keys: std::collections::BTreeSet<_> = digests.keys(&batch).unwrap().into_iter().collect();
        let rows: std::collections::BTreeSet<_> = digests.rows(&batch).unwrap().into_iter().collect();
        assert_eq!((keys.len(), rows.len()), (distinct, distinct), "{column_type}");
    }
}

#[test]
fn the_extremes_of_the_default_numeric_are_in_the_table() {
    let array = values(&ColumnType::Numeric { precision: 38, scale: 10 });
    let array = array.as_any().downcast_ref::<Decimal128Array>().unwrap();
    assert_eq!((array.value(0), array.value(1)), (TEN_TO_38 - 1, 1 - TEN_TO_38));
}

/// Files of the key index hold digests: where this fails, `starlift_core::index::FORM` has to be raised, so that what older
/// versions wrote is passed over.
#[test]
fn digests_have_the_form_that_files_of_the_key_index_hold() {
    let mut all = Vec::new();
    let (schema, batch) = table();
    all.extend(Digests::new(&schema).unwrap().rows(&batch).unwrap().into_iter().flat_map(|digest| digest.0));
    for column_type in every_type() {
        let of = |name: &str, column_type| Column {
            name: name.into(),
            column_type,
            nullable: true,
            declared: None,
            labels: vec![],
        };
        let columns = vec![of("c", column_type.clone()), of("id", ColumnType::Int4)];
        for key in [vec!["c".to_string()], vec!["id".into(), "c".into()]] {
            let schema =
                TableSchema { columns: columns.clone(), key, oid: None, partitions: vec![], attributes: vec![] };
            let ids: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3, 4, 5]));
            let batch = RecordBatch::try_new(schema.to_arrow(), vec![values(&column_type), ids]).unwrap();
            all.extend(Digests::new(&schema).unwrap().keys(&batch).unwrap().into_iter().flat_map(|digest| digest.0));
        }
    }
    assert_eq!(
        (starlift_core::index::FORM, sha256_hex(&all).as_str()),
        (1, "d50cd76b49d330cff0bc63f395014d15d4c99331c5c3c8659964c7e8197f088b")
    );
}
