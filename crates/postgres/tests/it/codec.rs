//! The codec without a server: golden bytes, chunk boundaries, damaged streams, and generated batches there and back.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int32Type, Schema, TimestampMicrosecondType};
use bytes::BytesMut;
use proptest::prelude::*;
use starlift_core::{Column, ColumnType, ErrorKind};
use starlift_postgres::{BatchEncoder, RowDecoder};

use crate::support::{array_of, column};

const HEADER: &str = "5047434f50590aff0d0a00 00000000 00000000";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn decoder(columns: &[Column]) -> RowDecoder {
    let key: Vec<String> = columns.first().map(|c| c.name.clone()).into_iter().collect();
    RowDecoder::new(columns, &key).unwrap()
}

fn decode(columns: &[Column], stream: &[u8]) -> RecordBatch {
    let mut decoder = decoder(columns);
    decoder.push(stream).unwrap();
    let schema = decoder.schema().clone();
    decoder.finish().unwrap().unwrap_or_else(|| RecordBatch::new_empty(schema))
}

fn encode(columns: &[Column], batch: &RecordBatch) -> Vec<u8> {
    let mut encoder = BatchEncoder::new(columns).unwrap();
    let mut out = BytesMut::new();
    encoder.header(&mut out);
    encoder.encode(batch, &mut out).unwrap();
    encoder.trailer(&mut out);
    out.to_vec()
}

/// One row of every type, as PostgreSQL 15 sends it, then one of nulls.
fn golden() -> (Vec<Column>, Vec<u8>) {
    let types_and_bytes = [
        (ColumnType::Int4, "00000004 00000007"),
        (ColumnType::Bool, "00000001 01"),
        (ColumnType::Int2, "00000002 8000"),
        (ColumnType::Int8, "00000008 7fffffffffffffff"),
        (ColumnType::Float4, "00000004 3fc00000"),
        (ColumnType::Float8, "00000008 bff8000000000000"),
        // 552548.62
        (ColumnType::Numeric { precision: 38, scale: 10 }, "0000000e 0003 0001 0000 0002 0037 09f4 1838"),
        (ColumnType::Text, "00000004 c3bc2027"),
        (ColumnType::Bytea, "00000003 00ff27"),
        // 2024-11-20
        (ColumnType::Date, "00000004 00002382"),
        // 11:35:00.000001
        (ColumnType::Time, "00000008 00000009b5838101"),
        // 2024-11-20 11:35:00.000001, without and with zone
        (ColumnType::Timestamp, "00000008 0002ca554f024101"),
        (ColumnType::TimestampTz, "00000008 0002ca554f024101"),
        (ColumnType::Uuid, "00000010 a0eebc999c0b4ef8bb6d6bb9bd380a11"),
        (ColumnType::Json, "00000008 7b2261223a20317d"),
        (ColumnType::Jsonb, "00000009 01 7b2261223a20317d"),
        // {1,null}
        (
            array_of(ColumnType::Int4),
            "00000020 00000001 00000001 00000017 00000002 00000001 00000004 00000001 ffffffff",
        ),
        // {}
        (array_of(ColumnType::Text), "0000000c 00000000 00000000 00000019"),
    ];
    let mut columns = Vec::new();
    let mut row = format!("{:04x}", types_and_bytes.len());
    for (index, (column_type, value)) in types_and_bytes.into_iter().enumerate() {
        columns.push(column(&format!("c{index}"), column_type, true));
        row.push_str(value);
    }
    let nulls = format!("{:04x}{}", columns.len(), "ffffffff".repeat(columns.len()));
    (columns, bytes(&format!("{HEADER}{row}{nulls}ffff")))
}

#[test]
fn golden_bytes_decode_and_encode_to_themselves() {
    let (columns, stream) = golden();
    let batch = decode(&columns, &stream);
    assert_eq!(batch.num_rows(), 2);
    let shown: Vec<String> = batch
        .columns()
        .iter()
        .map(|array| match array.as_primitive_opt::<TimestampMicrosecondType>() {
            // Showing a zone takes a database of zones.
            Some(times) => times.clone().with_timezone_opt(None::<&str>).value_as_datetime(0).unwrap().to_string(),
            None => arrow::util::display::array_value_to_string(array, 0).unwrap(),
        })
        .collect();
    assert_eq!(
        shown,
        [
            "7",
            "true",
            "-32768",
            "9223372036854775807",
            "1.5",
            "-1.5",
            "552548.6200000000",
            "ü '",
            "00ff27",
            "2024-11-20",
            "11:35:00.000001",
            "2024-11-20 11:35:00.000001",
            "2024-11-20 11:35:00.000001",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "{\"a\": 1}",
            "{\"a\": 1}",
            "[1, ]",
            "[]",
        ]
    );
    assert!(batch.columns().iter().all(|array| array.is_null(1)));
    assert_eq!(encode(&columns, &batch), stream);
}

#[test]
fn chunks_may_end_at_any_byte() {
    let (columns, stream) = golden();
    let whole = decode(&columns, &stream);
    for at in 0..=stream.len() {
        let mut decoder = decoder(&columns);
        decoder.push(&stream[..at]).unwrap();
        decoder.push(&stream[at..]).unwrap();
        assert_eq!(decoder.finish().unwrap(), Some(whole.clone()), "split at {at}");
    }
    let mut decoder = decoder(&columns);
    stream.iter().for_each(|byte| decoder.push(&[*byte]).unwrap());
    assert_eq!(decoder.finish().unwrap(), Some(whole));
}

#[test]
fn a_stream_that_ends_early_is_never_taken_for_whole() {
    let (columns, stream) = golden();
    for length in 0..stream.len() {
        let mut decoder = decoder(&columns);
        decoder.push(&stream[..length]).unwrap();
        assert_eq!(decoder.finish().unwrap_err().kind(), ErrorKind::Data, "{length} bytes");
    }
}

#[test]
fn a_damaged_stream_is_an_error_and_never_a_panic() {
    let columns =
        [column("id", ColumnType::Int4, true), column("price", ColumnType::Numeric { precision: 9, scale: 2 }, true)];
    let row = "0002 00000004 00000007 ffffffff";
    for (what, hex) in [
        ("another signature", format!("{} {row} ffff", HEADER.replace("5047", "5048"))),
        ("a critical flag", format!("{} {row} ffff", HEADER.replace("00 00000000 00000000", "00 00010000 00000000"))),
        (
            "a negative extension",
            format!("{} {row} ffff", HEADER.replace("00 00000000 00000000", "00 00000000 ffffffff")),
        ),
        ("a huge extension", format!("{} {row} ffff", HEADER.replace("00 00000000 00000000", "00 00000000 7fffffff"))),
        ("another number of values", format!("{HEADER} 0001 00000004 00000007 ffff")),
        ("a negative number of values", format!("{HEADER} fffe")),
        ("a length below null", format!("{HEADER} 0002 fffffffe ffffffff")),
        ("a number of another width", format!("{HEADER} 0002 00000003 000007 ffffffff ffff")),
        ("bytes after the trailer", format!("{HEADER} {row} ffff 00")),
        ("a numeric without digits", format!("{HEADER} 0002 ffffffff 00000008 0001 0000 0000 0000 ffff")),
    ] {
        let mut decoder = decoder(&columns);
        let error = decoder.push(&bytes(&hex)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data, "{what}");
        assert!(error.hint().is_some());
    }
    // A claimed length allocates nothing: the row just is not there yet.
    let mut decoder = decoder(&columns);
    decoder.push(&bytes(&format!("{HEADER} 0002 7fffffff 00"))).unwrap();
    assert_eq!(decoder.finish().unwrap_err().kind(), ErrorKind::Data);
}

#[test]
fn refused_rows_are_left_out_and_named_by_key() {
    let columns =
        [column("id", ColumnType::Int4, false), column("price", ColumnType::Numeric { precision: 9, scale: 2 }, true)];
    let good = |id: &str| format!("0002 00000004 {id} 0000000a 0001 0000 0000 0000 0005");
    let nan = |id: &str| format!("0002 00000004 {id} 00000008 0000 0000 c000 0000");
    let fine = |id: &str| format!("0002 00000004 {id} 0000000a 0001 ffff 0000 0003 0001");
    let null_key = "0002 ffffffff ffffffff";
    let mut stream = String::from(HEADER);
    for row in [good("00000001"), nan("00000002"), fine("00000003"), good("00000004"), null_key.into(), nan("00000006")]
    {
        stream.push_str(&row);
    }
    let mut decoder = decoder(&columns);
    decoder.push(&bytes(&stream)).unwrap();
    assert_eq!((decoder.rows_buffered(), decoder.rows_read()), (2, 6));
    let batch = decoder.take_batch().unwrap().unwrap();
    assert_eq!(batch.column(0).as_primitive::<Int32Type>().values(), &[1, 4]);
    let groups: Vec<_> = decoder
        .refusals()
        .groups()
        .iter()
        .map(|g| {
            (
                g.column.as_str(),
                g.reason,
                g.examples.iter().map(|e| (e.row_in_stream, e.key.as_str())).collect::<Vec<_>>(),
            )
        })
        .collect();
    assert_eq!(
        groups,
        [
            ("price", "it is NaN", vec![(2, "id=2"), (6, "id=6")]),
            ("price", "it has more decimals than the column carries", vec![(3, "id=3")]),
            ("id", "it is null in a column that is declared not null", vec![(5, "id=null")]),
        ]
    );
    decoder.push(&bytes("ffff")).unwrap();
    assert_eq!(decoder.finish().unwrap(), None);
    let error = decoder.take_refusals().into_result("public.payment", 6).unwrap_err();
    assert_eq!(error.message(), "4 rows of table `public.payment` cannot be stored without loss");
}

#[test]
fn a_value_over_the_limit_is_refused() {
    let columns = [column("id", ColumnType::Int4, false), column("note", ColumnType::Text, true)];
    let mut decoder = decoder(&columns).with_max_value_bytes(4);
    decoder.push(&bytes(&format!("{HEADER} 0002 00000004 00000001 00000005 6161616161 ffff"))).unwrap();
    assert_eq!(decoder.finish().unwrap().map(|batch| batch.num_rows()), Some(0), "the row is not in the batch");
    let refused = decoder.take_refused().unwrap();
    let texts = |column: usize| refused.column(column).as_string::<i32>().iter().collect::<Vec<_>>();
    assert_eq!(refused.column(0).as_primitive::<Int32Type>().values().to_vec(), [1]);
    assert_eq!((texts(1), texts(3)), (vec![Some("note")], vec![None]), "values are kept only where they are asked for");
    assert_eq!(texts(2), [Some("it is larger than the limit of one value")]);
    assert_eq!(decoder.refusals().groups()[0].reason, "it is larger than the limit of one value");
}

#[test]
fn a_table_without_columns_has_rows_all_the_same() {
    let batch = decode(&[], &bytes(&format!("{HEADER} 0000 0000 ffff")));
    assert_eq!((batch.num_rows(), batch.num_columns()), (2, 0));
    assert_eq!(encode(&[], &batch), bytes(&format!("{HEADER} 0000 0000 ffff")));
}

#[test]
fn batches_are_taken_while_the_stream_goes_on() {
    let columns = [column("id", ColumnType::Int4, false)];
    let mut decoder = decoder(&columns);
    decoder.push(&bytes(&format!("{HEADER} 0001 00000004 00000001 0001"))).unwrap();
    assert_eq!((decoder.rows_buffered(), decoder.bytes_buffered()), (1, 10));
    let first = decoder.take_batch().unwrap().unwrap();
    assert_eq!(decoder.take_batch().unwrap(), None);
    decoder.push(&bytes("00000004 00000002 ffff")).unwrap();
    let second = decoder.finish().unwrap().unwrap();
    let both = concat_batches(decoder.schema(), [&first, &second]).unwrap();
    assert_eq!(both.column(0).as_primitive::<Int32Type>().values(), &[1, 2]);
}

#[test]
fn the_encoder_refuses_what_postgresql_cannot_hold() {
    for (column_type, array) in [
        (ColumnType::Uuid, Arc::new(arrow::array::StringArray::from(vec!["no uuid"])) as ArrayRef),
        (ColumnType::Text, Arc::new(arrow::array::StringArray::from(vec!["a\0"]))),
        (ColumnType::Date, Arc::new(arrow::array::Date32Array::from(vec![i32::MIN + 1]))),
        (ColumnType::Time, Arc::new(arrow::array::Time64MicrosecondArray::from(vec![-1]))),
    ] {
        let columns = [column("c", column_type.clone(), true)];
        let schema = Arc::new(Schema::new(vec![column_type.to_field("c", true)]));
        let batch = RecordBatch::try_new(schema, vec![array]).unwrap();
        let error = BatchEncoder::new(&columns).unwrap().encode(&batch, &mut BytesMut::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data, "{column_type}");
        assert!(error.detail().unwrap().starts_with("row 1: "), "{error:?}");
    }
}

#[test]
fn a_batch_of_other_types_is_our_bug_and_says_so() {
    let columns = [column("c", ColumnType::Int4, true)];
    let schema = Arc::new(Schema::new(vec![ColumnType::Int8.to_field("c", true)]));
    let batch = RecordBatch::try_new(schema, vec![new_null_array(&ColumnType::Int8.to_arrow(), 1)]).unwrap();
    let mut encoder = BatchEncoder::new(&columns).unwrap();
    assert_eq!(encoder.encode(&batch, &mut BytesMut::new()).unwrap_err().kind(), ErrorKind::Internal);
    let none = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        vec![],
        &RecordBatchOptions::new().with_row_count(Some(1)),
    );
    assert_eq!(encoder.encode(&none.unwrap(), &mut BytesMut::new()).unwrap_err().kind(), ErrorKind::Internal);
    for impossible in [
        ColumnType::Numeric { precision: 39, scale: 0 },
        array_of(ColumnType::Numeric { precision: 3, scale: 4 }),
        array_of(array_of(ColumnType::Int4)),
    ] {
        let columns = [column("c", impossible, true)];
        assert_eq!(BatchEncoder::new(&columns).unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(RowDecoder::new(&columns, &[]).map(|_| ()).unwrap_err().kind(), ErrorKind::Internal);
    }
}

fn scalar_types() -> Vec<ColumnType> {
    vec![
        ColumnType::Bool,
        ColumnType::Int2,
        ColumnType::Int4,
        ColumnType::Int8,
        ColumnType::Float4,
        ColumnType::Float8,
        ColumnType::Numeric { precision: 38, scale: 10 },
        ColumnType::Numeric { precision: 5, scale: 5 },
        ColumnType::Text,
        ColumnType::Bytea,
        ColumnType::Date,
        ColumnType::Time,
        ColumnType::Timestamp,
        ColumnType::TimestampTz,
        ColumnType::Uuid,
        ColumnType::Json,
        ColumnType::Jsonb,
    ]
}

/// The binary form of some value of a type, as the server could send it.
fn value_of(column_type: &ColumnType) -> BoxedStrategy<Vec<u8>> {
    match column_type {
        ColumnType::Bool => any::<bool>().prop_map(|v| vec![u8::from(v)]).boxed(),
        ColumnType::Int2 => any::<i16>().prop_map(|v| v.to_be_bytes().to_vec()).boxed(),
        ColumnType::Int4 => any::<i32>().prop_map(|v| v.to_be_bytes().to_vec()).boxed(),
        ColumnType::Int8 => any::<i64>().prop_map(|v| v.to_be_bytes().to_vec()).boxed(),
        ColumnType::Float4 => any::<u32>().prop_map(|v| v.to_be_bytes().to_vec()).boxed(),
        ColumnType::Float8 => any::<u64>().prop_map(|v| v.to_be_bytes().to_vec()).boxed(),
        ColumnType::Numeric { precision: 5, .. } => (1u16..10).prop_map(|v| numeric(-1, 1, &[v * 1000])).boxed(),
        ColumnType::Numeric { .. } => (1u16..10_000, any::<bool>(), 1u16..100)
            .prop_map(|(a, negative, b)| {
                let mut bytes = numeric(1, 6, &[a, 0, 7, (b - b % 10 + 1) * 100]);
                bytes[4] = if negative { 0x40 } else { 0 };
                bytes
            })
            .boxed(),
        ColumnType::Text | ColumnType::Json => "[^\\x00]{0,12}".prop_map(String::into_bytes).boxed(),
        ColumnType::Jsonb => "[^\\x00]{0,12}".prop_map(|text| [vec![1], text.into_bytes()].concat()).boxed(),
        ColumnType::Bytea => proptest::collection::vec(any::<u8>(), 0..12).boxed(),
        ColumnType::Date => (-2_451_545..2_145_031_949i32).prop_map(|v| v.to_be_bytes().to_vec()).boxed(),
        ColumnType::Time => (0..=86_400_000_000i64).prop_map(|v| v.to_be_bytes().to_vec()).boxed(),
        ColumnType::Timestamp | ColumnType::TimestampTz => {
            (-211_813_488_000_000_000..9_222_425_352_054_775_807i64).prop_map(|v| v.to_be_bytes().to_vec()).boxed()
        }
        ColumnType::Uuid => proptest::array::uniform16(any::<u8>()).prop_map(|v| v.to_vec()).boxed(),
        ColumnType::Array(element) => {
            let oid = element_oid(element);
            proptest::collection::vec(proptest::option::of(value_of(element)), 0..4)
                .prop_map(move |values| {
                    let nulls = u32::from(values.iter().any(Option::is_none));
                    let mut bytes: Vec<u8> =
                        [u32::from(!values.is_empty()), nulls, oid].iter().flat_map(|n| n.to_be_bytes()).collect();
                    if !values.is_empty() {
                        bytes.extend([values.len() as u32, 1].iter().flat_map(|n| n.to_be_bytes()));
                    }
                    values.iter().for_each(|value| field(value.as_deref(), &mut bytes));
                    bytes
                })
                .boxed()
        }
    }
}

fn element_oid(element: &ColumnType) -> u32 {
    let wanted = element.postgres_type();
    let oids = [
        ("boolean", 16),
        ("bytea", 17),
        ("bigint", 20),
        ("smallint", 21),
        ("integer", 23),
        ("text", 25),
        ("json", 114),
        ("real", 700),
        ("double precision", 701),
        ("date", 1082),
        ("time", 1083),
        ("timestamp", 1114),
        ("timestamptz", 1184),
        ("numeric", 1700),
        ("uuid", 2950),
        ("jsonb", 3802),
    ];
    oids.iter().find(|(name, _)| *name == wanted).unwrap().1
}

fn numeric(weight: i16, scale: u16, digits: &[u16]) -> Vec<u8> {
    let head = [digits.len() as u16, weight as u16, 0, scale];
    head.iter().chain(digits).flat_map(|n| n.to_be_bytes()).collect()
}

fn field(value: Option<&[u8]>, out: &mut Vec<u8>) {
    match value {
        None => out.extend((-1i32).to_be_bytes()),
        Some(value) => {
            out.extend((value.len() as i32).to_be_bytes());
            out.extend(value);
        }
    }
}

type Rows = Vec<Vec<Option<Vec<u8>>>>;

fn streams() -> impl Strategy<Value = (Vec<Column>, Rows)> {
    let mut types = scalar_types();
    types.extend(scalar_types().into_iter().map(array_of));
    proptest::collection::vec(proptest::sample::select(types), 1..6).prop_flat_map(|types| {
        let values: Vec<_> = types.iter().map(|t| proptest::option::of(value_of(t))).collect();
        let columns = types.into_iter().enumerate().map(|(i, t)| column(&format!("c{i}"), t, true)).collect();
        (Just::<Vec<Column>>(columns), proptest::collection::vec(values, 0..20))
    })
}

fn stream_of(rows: &Rows) -> Vec<u8> {
    let mut out = bytes(HEADER);
    for row in rows {
        out.extend((row.len() as i16).to_be_bytes());
        row.iter().for_each(|value| field(value.as_deref(), &mut out));
    }
    out.extend([0xff, 0xff]);
    out
}

proptest! {
    #[test]
    fn what_is_decoded_encodes_to_the_same_bytes((columns, rows) in streams(), chunk in 1usize..64) {
        let stream = stream_of(&rows);
        let mut decoder = decoder(&columns);
        for chunk in stream.chunks(chunk) {
            decoder.push(chunk).unwrap();
        }
        prop_assert!(decoder.refusals().is_empty(), "{:?}", decoder.refusals());
        let schema = decoder.schema().clone();
        let batch = decoder.finish().unwrap().unwrap_or_else(|| RecordBatch::new_empty(schema));
        prop_assert_eq!(batch.num_rows(), rows.len());
        prop_assert_eq!(encode(&columns, &batch), stream);
    }

    #[test]
    fn no_altered_byte_makes_it_panic((columns, rows) in streams(), at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let mut stream = stream_of(&rows);
        let at = at.index(stream.len());
        stream[at] = byte;
        let mut decoder = decoder(&columns);
        if decoder.push(&stream).is_ok() {
            let _ = decoder.finish();
        }
    }

    #[test]
    fn no_bytes_at_all_make_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..128)) {
        let (columns, _) = golden();
        let mut decoder = decoder(&columns);
        let stream = [bytes(HEADER), vec![0, 18], tail].concat();
        if decoder.push(&stream).is_ok() {
            let _ = decoder.finish();
        }
    }
}
