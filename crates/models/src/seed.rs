//! Seeds: small fixed tables that a project keeps as CSV files.
//!
//! The first line names the columns. Every column is text, an empty field is null, and nothing is trimmed. Quotes as in
//! RFC 4180; a byte order mark is passed over.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use starlift_core::{Column, ColumnType, Error, Result, TableSchema};

/// Reads a seed: its columns and its rows.
///
/// Errors: Config that names the file and, where there is one, the line.
pub fn read_seed(name: &str, csv: &[u8]) -> Result<(TableSchema, RecordBatch)> {
    let bad = |line: Option<u64>, detail: String| {
        let at = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        Error::config(format!("seed `{name}.csv` cannot be read"))
            .with_detail(format!("{at}{detail}"))
            .with_hint(format!("mend `seeds/{name}.csv`: a line of column names, then as many fields in every line"))
            .with_context("file", format!("seeds/{name}.csv"))
    };
    let csv = csv.strip_prefix(b"\xef\xbb\xbf").unwrap_or(csv);
    let mut reader = csv::ReaderBuilder::new().has_headers(true).from_reader(csv);
    let broken = |error: csv::Error| {
        let line = error.position().map(csv::Position::line);
        let detail = match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("it has {len} fields where there should be {expected_len}")
            }
            csv::ErrorKind::Utf8 { .. } => "it is not UTF-8".to_string(),
            _ => "it is not CSV".to_string(),
        };
        bad(line, detail)
    };
    let header: Vec<String> = reader.headers().map_err(broken)?.iter().map(str::to_string).collect();
    if header.is_empty() {
        return Err(bad(None, "it is empty".into()));
    }
    for (position, column) in header.iter().enumerate() {
        if column.is_empty() {
            return Err(bad(Some(1), format!("column {} has no name", position + 1)));
        }
        if header[..position].contains(column) {
            return Err(bad(Some(1), format!("two columns have the name `{column}`")));
        }
    }
    let mut columns: Vec<StringBuilder> = header.iter().map(|_| StringBuilder::new()).collect();
    for record in reader.records() {
        let record = record.map_err(broken)?;
        for (column, field) in columns.iter_mut().zip(record.iter()) {
            column.append_option((!field.is_empty()).then_some(field));
        }
    }
    let schema = TableSchema {
        columns: header
            .into_iter()
            .map(|name| Column { name, column_type: ColumnType::Text, nullable: true, declared: None, labels: vec![] })
            .collect(),
        key: vec![],
        oid: None,
        partitions: vec![],
        attributes: vec![],
    };
    let arrays = columns.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef).collect();
    let rows = RecordBatch::try_new(schema.to_arrow(), arrays)
        .map_err(|error| Error::internal(format!("seed `{name}.csv` cannot be read")).with_source(error))?;
    Ok((schema, rows))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};

    use super::*;

    #[test]
    fn fields_are_text_and_an_empty_one_is_null() {
        let (schema, rows) = read_seed("names", "\u{feff}code,name\nGBP,\" Pound, Great\"\nXXX,\n".as_bytes()).unwrap();
        assert_eq!(schema.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["code", "name"]);
        let names = rows.column(1).as_string::<i32>();
        assert_eq!(names.value(0), " Pound, Great");
        assert!(names.is_null(1));
    }

    #[test]
    fn errors_name_the_file_and_the_line() {
        let cases: [(&[u8], &str); 5] = [
            (b"", "it is empty"),
            (b"a,b\n1,2\n3\n", "line 3: it has 1 fields where there should be 2"),
            (b"a,a\n1,2\n", "line 1: two columns have the name `a`"),
            (b"a,\n1,2\n", "line 1: column 2 has no name"),
            (b"a,b\n1,\xff\n", "line 2: it is not UTF-8"),
        ];
        for (csv, detail) in cases {
            let error = read_seed("names", csv).unwrap_err();
            assert_eq!(error.message(), "seed `names.csv` cannot be read");
            assert_eq!(error.detail().as_deref(), Some(detail));
        }
    }
}
