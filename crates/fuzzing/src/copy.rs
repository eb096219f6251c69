//! The stream that PostgreSQL sends: any bytes, in chunks of any size, for tables of several shapes.

use arrow::array::RecordBatch;
use bytes::BytesMut;
use starlift_core::{Column, ColumnType, Error, ErrorKind};
use starlift_postgres::{BatchEncoder, RowDecoder};

/// Larger values are refused, so that refusing them is reached by small inputs.
const MAX_VALUE_BYTES: usize = 4096;

/// The first byte picks the table, the second the size of the chunks; the rest is the stream.
///
/// However it is cut, the same comes of it: the same error, or the same rows and refusals. What was decoded can be encoded,
/// and decoding that gives the same bytes again.
pub fn copy(bytes: &[u8]) {
    let [table, chunk, stream @ ..] = bytes else { return };
    let columns = columns(*table);
    let whole = decode(&columns, stream, stream.len().max(1));
    let cut = decode(&columns, stream, usize::from(*chunk).max(1));
    match (whole, cut) {
        (Ok((whole, refused)), Ok((cut, refused_cut))) => {
            assert_eq!(refused, refused_cut);
            let encoded = encode(&columns, &whole);
            assert_eq!(encoded, encode(&columns, &cut));
            let (again, refused) = decode(&columns, &encoded, encoded.len()).expect("what was written can be read");
            assert_eq!(refused, 0, "what was carried once is carried again");
            assert_eq!(encoded, encode(&columns, &again));
        }
        (Err(whole), Err(cut)) => assert_eq!(whole.render(), cut.render()),
        (whole, cut) => panic!("whole: {:?}, cut: {:?}", whole.map(|r| r.1), cut.map(|r| r.1)),
    }
}

/// Batches and the number of refused rows.
fn decode(columns: &[Column], stream: &[u8], chunk: usize) -> Result<(Vec<RecordBatch>, u64), Error> {
    let key: Vec<String> = columns.first().map(|column| column.name.clone()).into_iter().collect();
    let mut decoder = RowDecoder::new(columns, &key)?.with_max_value_bytes(MAX_VALUE_BYTES);
    let mut batches = Vec::new();
    let mut read = || {
        for chunk in stream.chunks(chunk) {
            decoder.push(chunk)?;
            if decoder.rows_buffered() >= 3 {
                batches.extend(decoder.take_batch()?);
            }
        }
        batches.extend(decoder.finish()?);
        Ok(())
    };
    read().inspect_err(|error: &Error| assert_eq!(error.kind(), ErrorKind::Data, "{error:?}"))?;
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows as u64 + decoder.refusals().rows(), decoder.rows_read(), "every row is carried or refused");
    Ok((batches, decoder.refusals().rows()))
}

fn encode(columns: &[Column], batches: &[RecordBatch]) -> Vec<u8> {
    let mut encoder = BatchEncoder::new(columns).expect("columns of a table");
    let mut out = BytesMut::new();
    encoder.header(&mut out);
    for batch in batches {
        encoder.encode(batch, &mut out).expect("decoded rows can be encoded");
    }
    encoder.trailer(&mut out);
    out.to_vec()
}

/// Tables of one column of each type, of all types together, of none, and of an ordinary shop.
pub fn columns(table: u8) -> Vec<Column> {
    let array = |element| ColumnType::Array(Box::new(element));
    let types = [
        ColumnType::Int4,
        ColumnType::Bool,
        ColumnType::Int2,
        ColumnType::Int8,
        ColumnType::Float4,
        ColumnType::Float8,
        ColumnType::Numeric { precision: 38, scale: 10 },
        ColumnType::Numeric { precision: 10, scale: 2 },
        ColumnType::Text,
        ColumnType::Bytea,
        ColumnType::Date,
        ColumnType::Time,
        ColumnType::Timestamp,
        ColumnType::TimestampTz,
        ColumnType::Uuid,
        ColumnType::Json,
        ColumnType::Jsonb,
        array(ColumnType::Int4),
        array(ColumnType::Text),
        array(ColumnType::Numeric { precision: 38, scale: 10 }),
    ];
    let picked = match usize::from(table) {
        0 => types.to_vec(),
        1 => Vec::new(),
        2 => vec![ColumnType::Int4, ColumnType::Text, ColumnType::Numeric { precision: 10, scale: 2 }],
        one => types.get(one % types.len()).into_iter().cloned().collect(),
    };
    let named = picked.into_iter().enumerate();
    named.map(|(index, column_type)| column(&format!("c{index}"), column_type, table != 2 || index > 0)).collect()
}

pub(crate) fn column(name: &str, column_type: ColumnType, nullable: bool) -> Column {
    Column { name: name.into(), column_type, nullable, declared: None, labels: Vec::new() }
}
