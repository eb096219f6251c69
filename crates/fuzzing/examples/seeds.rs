//! Writes the seeds that are made by a rule into a corpus folder: `cargo run -p starlift-fuzzing --example seeds fuzz/corpus`.
//!
//! The rows are as PostgreSQL 15 sends them; the Parquet files are what starlift makes of them.

use std::path::Path;

use bytes::Bytes;
use starlift_core::manifest::FileMode;
use starlift_core::{ColumnType, Micros};
use starlift_fuzzing::{ROWS, columns, schema};
use starlift_lake::{FileWriter, Store, WriterOptions};
use starlift_postgres::RowDecoder;

const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const NULL: &str = "ffffffff";

/// Two values of each column of table 0.
const VALUES: [[&str; 2]; 20] = [
    ["00000004 00000007", "00000004 80000000"],
    ["00000001 01", "00000001 00"],
    ["00000002 8000", "00000002 0001"],
    ["00000008 7fffffffffffffff", "00000008 ffffffffffffffff"],
    ["00000004 3fc00000", "00000004 7fc00000"],
    ["00000008 bff8000000000000", "00000008 7ff0000000000000"],
    ["0000000e 0003 0001 0000 0002 0037 09f4 1838", "00000008 0000 0000 0000 0000"],
    ["0000000c 0002 0000 4000 0002 0003 1194", "0000000a 0001 0000 0000 0002 0064"],
    ["00000004 c3bc2027", "00000000"],
    ["00000003 00ff27", "00000000"],
    ["00000004 00002382", "00000004 ffffb65f"],
    ["00000008 00000009b5838101", "00000008 000000141dd76000"],
    ["00000008 0002ca554f024101", "00000008 fffd35aab0fdbeff"],
    ["00000008 0002ca554f024101", "00000008 0000000000000000"],
    ["00000010 a0eebc999c0b4ef8bb6d6bb9bd380a11", "00000010 00000000000000000000000000000000"],
    ["00000008 7b2261223a20317d", "00000004 6e756c6c"],
    ["00000009 01 7b2261223a20317d", "00000005 01 6e756c6c"],
    [
        "00000020 00000001 00000001 00000017 00000002 00000001 00000004 00000001 ffffffff",
        "0000000c 00000000 00000000 00000017",
    ],
    ["0000000c 00000000 00000000 00000019", "0000001b 00000001 00000000 00000019 00000001 00000001 00000003 e282ac"],
    [
        "0000000c 00000000 00000000 000006a4",
        "00000022 00000001 00000000 000006a4 00000001 00000001 0000000a 0001 0000 0000 0000 0001",
    ],
];

/// What a decimal column cannot hold, and what is no numeric at all.
const NUMERICS: [(&str, &str); 8] = [
    ("zero", "0000 0000 0000 0000"),
    ("price", "0002 0000 0000 0002 0003 1194"),
    ("negative", "0003 0001 4000 0002 0037 09f4 1838"),
    ("nan", "0000 0000 c000 0000"),
    ("infinity", "0000 0000 d000 0020"),
    ("tiny", "0001 fffd 0000 000a 0064"),
    ("38_digits", "000a 0009 0000 0000 0063 270f 270f 270f 270f 270f 270f 270f 270f 270f"),
    ("digit_of_10000", "0001 0000 0000 0000 2710"),
];

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).expect("hex"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect()
}

fn stream(rows: &[Vec<&str>]) -> Vec<u8> {
    let mut stream = HEADER.to_vec();
    for row in rows {
        stream.extend(u16::try_from(row.len()).expect("few columns").to_be_bytes());
        row.iter().for_each(|value| stream.extend(bytes(value)));
    }
    stream.extend((-1i16).to_be_bytes());
    stream
}

fn all_types() -> Vec<Vec<&'static str>> {
    let row = |pick: usize| VALUES.map(|values| values[pick]).to_vec();
    vec![row(0), row(1), vec![NULL; VALUES.len()], row(1), row(0)]
}

fn write(folder: &Path, name: &str, content: &[u8]) {
    std::fs::create_dir_all(folder).expect("a folder");
    std::fs::write(folder.join(name), content).expect("a seed");
}

/// The file that starlift writes of the rows of table 0, in row groups of this many rows.
async fn parquet(row_group_rows: usize) -> Bytes {
    let mut decoder = RowDecoder::new(&columns(0), &[]).expect("columns");
    decoder.push(&stream(&all_types())).expect("a stream");
    let batch = decoder.finish().expect("a whole stream").expect("rows");
    assert_eq!(batch.num_rows() as u64, ROWS);
    let store = Store::in_memory();
    let options = WriterOptions { row_group_rows, ..WriterOptions::default() };
    let mut writer =
        FileWriter::new(&store, "t", Micros(0), schema(), FileMode::Full, options).expect("a writer of these options");
    writer.write(&batch).await.expect("rows of this schema");
    let files = writer.finish().await.expect("a file");
    let [file] = files.as_slice() else { panic!("one part") };
    store.get(&file.key).await.expect("a store").expect("the file")
}

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::disallowed_methods, reason = "a tool for developers")]
async fn main() {
    let folder = std::env::args().nth(1).expect("the folder of the corpora");
    let folder = Path::new(&folder);
    let copy = |name: &str, table: u8, content: &[u8]| {
        write(&folder.join("copy"), name, &[&[table, 7], content].concat());
    };
    copy("every_type", 0, &stream(&all_types()));
    copy("no_columns", 1, &stream(&[vec![], vec![]]));
    copy("no_rows", 2, &stream(&[]));
    let shop = |id, name, price| vec![id, name, price];
    let rows = [shop(VALUES[0][0], VALUES[8][0], VALUES[7][0]), shop(VALUES[0][1], NULL, VALUES[7][1])];
    copy("a_shop", 2, &stream(&rows));
    copy("a_null_key", 2, &stream(&[shop(NULL, NULL, NULL)]));
    copy("cut", 2, &stream(&rows)[..50]);
    for (index, values) in VALUES.iter().enumerate() {
        let table = u8::try_from(index + VALUES.len()).expect("few types");
        copy(&format!("type_{index:02}"), table, &stream(&values.map(|value| vec![value])));
    }
    for (name, value) in NUMERICS {
        for (precision, scale) in [(38u8, 10u8), (10, 2)] {
            let content = [&[precision - 1, scale][..], &bytes(value)].concat();
            write(&folder.join("numeric"), &format!("{name}_{precision}_{scale}"), &content);
        }
    }
    for (name, row_group_rows) in [("one_group", 1_000), ("groups_of_two", 2)] {
        write(&folder.join("parquet"), name, &parquet(row_group_rows).await);
    }
    let good = parquet(1_000).await;
    write(&folder.join("parquet"), "truncated", &good[..good.len() / 2]);
    write(&folder.join("parquet"), "empty", b"");
    write(&folder.join("parquet"), "magic_alone", b"PAR1PAR1");
    assert!(matches!(columns(0)[6].column_type, ColumnType::Numeric { .. }), "the values above are in this order");
}
