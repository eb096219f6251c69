//! Rows as values, and the two ways to write them: lines of `COPY` and literals of SQL.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::instant::{date_text, stamp_text};

/// One value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Field {
    Null,
    Int(i64),
    Text(Cow<'static, str>),
    /// An amount in hundredths; written with exactly two decimals, so trailing zeros occur.
    Cents(i64),
    Bool(bool),
    /// A day since 1970-01-01, as agreed dates are kept: text.
    Date(i64),
    /// Milliseconds since 1970-01-01.
    Stamp(i64),
}

impl Field {
    pub(crate) fn text(text: impl Into<Cow<'static, str>>) -> Field {
        Field::Text(text.into())
    }

    fn write_copy(&self, out: &mut String) {
        match self {
            Field::Null => out.push_str("\\N"),
            Field::Text(text) => {
                for c in text.chars() {
                    match c {
                        '\\' => out.push_str("\\\\"),
                        '\t' => out.push_str("\\t"),
                        '\n' => out.push_str("\\n"),
                        '\r' => out.push_str("\\r"),
                        c => out.push(c),
                    }
                }
            }
            plain => plain.write_plain(out),
        }
    }

    /// As a literal of SQL; it takes its type from the column that it is assigned to.
    pub(crate) fn literal(&self) -> String {
        match self {
            Field::Null => "null".to_owned(),
            Field::Text(text) => quote_literal(text),
            Field::Date(_) | Field::Stamp(_) => {
                let mut out = String::from("'");
                self.write_plain(&mut out);
                out.push('\'');
                out
            }
            plain => {
                let mut out = String::new();
                plain.write_plain(&mut out);
                out
            }
        }
    }

    // Writing to a String cannot fail.
    fn write_plain(&self, out: &mut String) {
        match self {
            Field::Null | Field::Text(_) => {}
            Field::Int(n) => _ = write!(out, "{n}"),
            Field::Cents(n) => {
                let sign = if *n < 0 { "-" } else { "" };
                _ = write!(out, "{sign}{}.{:02}", n.unsigned_abs() / 100, n.unsigned_abs() % 100);
            }
            Field::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Field::Date(day) => out.push_str(&date_text(*day)),
            Field::Stamp(ms) => out.push_str(&stamp_text(*ms)),
        }
    }
}

/// A string literal of SQL; the server's default `standard_conforming_strings` makes backslashes plain.
pub(crate) fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The values of a row, in the order of the table's columns.
pub(crate) type Row = Vec<Field>;

/// Appends a row as one line of `COPY … FROM STDIN` in the text format.
pub(crate) fn write_copy(row: &[Field], out: &mut String) {
    for (i, field) in row.iter().enumerate() {
        if i > 0 {
            out.push('\t');
        }
        field.write_copy(out);
    }
    out.push('\n');
}

/// An `INSERT` of one row; `table` is written as it is.
pub(crate) fn insert(table: &str, row: &[Field]) -> String {
    let values: Vec<String> = row.iter().map(Field::literal).collect();
    format!("insert into {table} values ({})", values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_for_copy_and_for_sql() {
        let row = vec![
            Field::Int(7),
            Field::Null,
            Field::text("it's\ta\\b"),
            Field::Cents(55_254_860),
            Field::Cents(-5),
            Field::Bool(true),
            Field::Date(0),
            Field::Stamp(1),
        ];
        let mut line = String::new();
        write_copy(&row, &mut line);
        assert_eq!(line, "7\t\\N\tit's\\ta\\\\b\t552548.60\t-0.05\ttrue\t1970-01-01\t1970-01-01 00:00:00.001\n");
        assert_eq!(
            insert("t", &row),
            "insert into t values (7, null, 'it''s\ta\\b', 552548.60, -0.05, true, '1970-01-01', '1970-01-01 00:00:00.001')"
        );
    }
}
