//! How the columns of a data file are encoded, chosen by its first rows.
//!
//! A dictionary pays where values repeat. Where they do not, building it takes most of the time of writing, and its indexes
//! come on top of the values. Numbers and times without one are stored as differences, which are small where rows come in
//! the order of a key or a time. (`perf` on an ingest of 3 million payments: dictionaries of all columns took a quarter of it.)
//!
//! zstd level 3 and row groups of 128k rows ([`WriterOptions`](crate::WriterOptions)): of payments, levels 1 to 3 differ by a tenth of
//! the time of writing, level 5 takes twice as long, and none of them is a fiftieth smaller; groups of 32k to 512k rows take the same.
//! Statistics are kept of pages, so that a key is looked for in a few of them. `cargo bench -p starlift-lake` prints the figures,
//! docs/performance.md keeps them.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::{partition, sort};
use arrow::datatypes::DataType;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::index;

/// Rows that are looked at.
const SAMPLE_ROWS: usize = 4_096;
/// Bytes after which a dictionary is given up, where later rows repeat less than the first ones.
const DICTIONARY_BYTES: usize = 256 << 10;

/// The properties of a file that begins with these rows.
pub(crate) fn properties(level: ZstdLevel, row_group_rows: usize, first: &RecordBatch) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_max_row_group_row_count(Some(row_group_rows))
        .set_created_by(format!("starlift {}", env!("CARGO_PKG_VERSION")));
    for (field, array) in first.schema_ref().fields().iter().zip(first.columns()) {
        if repeats(array) {
            continue;
        }
        let path = ColumnPath::from(vec![field.name().clone()]);
        builder = builder.set_column_dictionary_enabled(path.clone(), false);
        if is_whole_number(field.data_type()) {
            builder = builder.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        }
    }
    builder.build()
}

/// Entries of a page of the key index: few, so that little is read for one key.
const INDEX_PAGE_ROWS: usize = 2_048;

/// The properties of a part of the key index: its first column is sorted, and the pages of all columns hold the same entries.
pub(crate) fn of_index(level: ZstdLevel) -> WriterProperties {
    let column = |name: &str| ColumnPath::from(vec![name.to_string()]);
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_column_statistics_enabled(column(index::KEY), EnabledStatistics::Page)
        .set_column_encoding(column(index::KEY), Encoding::DELTA_BYTE_ARRAY)
        // Hashes have no order and no pattern.
        .set_column_compression(column(index::ROW), Compression::UNCOMPRESSED)
        .set_column_encoding(column(index::FILE), Encoding::DELTA_BINARY_PACKED)
        .set_column_encoding(column(index::POSITION), Encoding::DELTA_BINARY_PACKED)
        .set_write_batch_size(INDEX_PAGE_ROWS)
        .set_data_page_row_count_limit(INDEX_PAGE_ROWS)
        .set_created_by(format!("starlift {}", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Whether a value comes twice on average, or cannot be compared.
fn repeats(array: &ArrayRef) -> bool {
    let sample = array.slice(0, array.len().min(SAMPLE_ROWS));
    let sorted = if sample.data_type().is_nested() { None } else { sort(&sample, None).ok() };
    let values = sorted.and_then(|sorted| partition(&[sorted]).ok()).map(|ranges| ranges.len());
    values.is_none_or(|values| 2 * values <= sample.len())
}

/// Whether Parquet stores the type as INT32 or INT64.
fn is_whole_number(data_type: &DataType) -> bool {
    match data_type {
        DataType::Decimal128(precision, _) => *precision <= 18,
        other => other.is_integer() || other.is_temporal(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int32Array, StringArray};

    use super::*;

    #[test]
    fn what_repeats_has_a_dictionary_and_numbers_that_do_not_are_differences() {
        let rows = 5_000;
        let numbers: ArrayRef = Arc::new((0..rows).collect::<Int32Array>());
        let few: ArrayRef = Arc::new((0..rows).map(|n| n % 7).collect::<Int32Array>());
        let texts: ArrayRef = Arc::new((0..rows).map(|n| Some(n.to_string())).collect::<StringArray>());
        let nulls: ArrayRef = Arc::new(StringArray::new_null(rows as usize));
        let columns = [("numbers", numbers), ("few", few), ("texts", texts), ("nulls", nulls)];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap();
        let properties = properties(ZstdLevel::default(), 1_000, &batch);
        let of = |name: &str| {
            let path = ColumnPath::from(name);
            (properties.dictionary_enabled(&path), properties.encoding(&path))
        };
        assert_eq!(of("numbers"), (false, Some(Encoding::DELTA_BINARY_PACKED)));
        assert_eq!(of("few"), (true, None));
        assert_eq!(of("texts"), (false, None));
        assert_eq!(of("nulls"), (true, None));
    }
}
