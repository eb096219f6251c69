//! PostgreSQL's `numeric` on the wire, in both directions, for columns of any precision and scale.

use std::sync::Arc;

use arrow::array::{AsArray, Decimal128Array, RecordBatch};
use arrow::datatypes::{Decimal128Type, Schema};
use bytes::BytesMut;
use starlift_core::{Column, ColumnType, ErrorKind};
use starlift_postgres::{BatchEncoder, RowDecoder};

use crate::copy::column;

/// Precision, scale, then the value as PostgreSQL sends it; its last 16 bytes are also taken as a number to encode.
///
/// A value is carried exactly, refused or malformed: what is carried comes back as the same number, by the same bytes each time.
pub fn numeric(bytes: &[u8]) {
    let [precision, scale, wire @ ..] = bytes else { return };
    let precision = precision % 38 + 1;
    let scale = scale % (precision + 1);
    let columns = [column("n", ColumnType::Numeric { precision, scale }, true)];
    if let Some(value) = decode(&columns, wire) {
        comes_back(&columns, value);
    }
    if let Some(last) = wire.last_chunk::<16>() {
        // Every decimal of this precision, and none beyond.
        comes_back(&columns, i128::from_be_bytes(*last) % 10i128.pow(precision.into()));
    }
}

fn comes_back(columns: &[Column; 1], value: i128) {
    let wire = encode(columns, value);
    assert_eq!(decode(columns, &wire), Some(value));
    // A column of 38 digits holds what any other one does.
    let [only] = columns;
    if let ColumnType::Numeric { scale, .. } = only.column_type {
        assert_eq!(decode(&[column("n", ColumnType::Numeric { precision: 38, scale }, true)], &wire), Some(value));
    }
}

/// The value as an unscaled number; none where it is refused or malformed.
fn decode(columns: &[Column; 1], wire: &[u8]) -> Option<i128> {
    let mut stream = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x01".to_vec();
    stream.extend_from_slice(&i32::try_from(wire.len()).ok()?.to_be_bytes());
    stream.extend_from_slice(wire);
    stream.extend_from_slice(&(-1i16).to_be_bytes());
    let mut decoder = RowDecoder::new(columns, &[]).expect("a numeric column");
    match decoder.push(&stream).and_then(|()| decoder.finish()) {
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Data, "{error:?}");
            None
        }
        Ok(None) => panic!("a row came"),
        Ok(Some(batch)) if batch.num_rows() == 0 => {
            assert_eq!(decoder.refusals().rows(), 1, "what is not carried is refused");
            assert_eq!(decoder.take_refused().map(|refused| refused.num_rows()), Some(1), "and set aside");
            None
        }
        Ok(Some(batch)) => Some(batch.column(0).as_primitive::<Decimal128Type>().value(0)),
    }
}

/// The bytes of the value alone.
fn encode(columns: &[Column; 1], value: i128) -> Vec<u8> {
    let [only] = columns;
    let field = only.column_type.to_field(&only.name, true);
    let array = Decimal128Array::from(vec![value]).with_data_type(field.data_type().clone());
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::new(array)]).expect("one row");
    let mut out = BytesMut::new();
    BatchEncoder::new(columns).expect("a numeric column").encode(&batch, &mut out).expect("a decimal can be encoded");
    // The number of values and the length of the one come first.
    out.get(6..).expect("a row with a value").to_vec()
}
