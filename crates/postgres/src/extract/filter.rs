//! A condition that finds rows by their keys. COPY takes no parameters, so keys become literals: exact ones, whatever
//! the session's settings.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use starlift_core::{Column, ColumnType, Error, ErrorKind, Result};

use super::statement::select_expression;
use crate::ident::quote_literal;
use crate::render::arrow_text;

/// The condition that a row's key is one of these: `("a", "b") in ((1, 'x'), …)`, or `false` for no keys. The columns of
/// the batch are the key's, in its order.
///
/// # Errors
/// Unsupported for a key of a type without equality or literals: json and arrays.
pub fn keys_filter(key: &[Column], keys: &RecordBatch) -> Result<String> {
    if key.is_empty() || key.len() != keys.num_columns() {
        return Err(Error::internal("keys do not have the columns of their table's key"));
    }
    if keys.num_rows() == 0 {
        return Ok("false".into());
    }
    let names: Vec<String> = key.iter().map(select_expression).collect();
    let mut tuples = Vec::with_capacity(keys.num_rows());
    for row in 0..keys.num_rows() {
        let values: Vec<String> =
            key.iter().zip(keys.columns()).map(|(column, array)| literal(column, array, row)).collect::<Result<_>>()?;
        tuples.push(format!("({})", values.join(", ")));
    }
    Ok(format!("({}) in ({})", names.join(", "), tuples.join(", ")))
}

fn literal(column: &Column, array: &dyn Array, row: usize) -> Result<String> {
    let unfit = || Error::internal(format!("the key column `{}` is of another type", column.name));
    if array.is_null(row) {
        return Ok("null".into());
    }
    Ok(match &column.column_type {
        ColumnType::Bool => array.as_boolean_opt().ok_or_else(unfit)?.value(row).to_string(),
        ColumnType::Int2 => format!("'{}'::int2", value::<Int16Type>(array, row).ok_or_else(unfit)?),
        ColumnType::Int4 => format!("'{}'::int4", value::<Int32Type>(array, row).ok_or_else(unfit)?),
        ColumnType::Int8 => format!("'{}'::int8", value::<Int64Type>(array, row).ok_or_else(unfit)?),
        // Debug's form is the shortest that gives the same number back, and PostgreSQL reads NaN and inf.
        ColumnType::Float4 => format!("'{:?}'::float4", value::<Float32Type>(array, row).ok_or_else(unfit)?),
        ColumnType::Float8 => format!("'{:?}'::float8", value::<Float64Type>(array, row).ok_or_else(unfit)?),
        ColumnType::Numeric { .. } => {
            value::<Decimal128Type>(array, row).ok_or_else(unfit)?;
            format!("'{}'::numeric", arrow_text(array, row).ok_or_else(unfit)?)
        }
        ColumnType::Text => quote_literal(array.as_string_opt::<i32>().ok_or_else(unfit)?.value(row)),
        ColumnType::Uuid => {
            format!("{}::uuid", quote_literal(array.as_string_opt::<i32>().ok_or_else(unfit)?.value(row)))
        }
        ColumnType::Jsonb => {
            format!("{}::jsonb", quote_literal(array.as_string_opt::<i32>().ok_or_else(unfit)?.value(row)))
        }
        ColumnType::Bytea => {
            array.as_binary_opt::<i32>().ok_or_else(unfit)?;
            format!("decode('{}', 'hex')", arrow_text(array, row).ok_or_else(unfit)?)
        }
        ColumnType::Date => match value::<Date32Type>(array, row).ok_or_else(unfit)? {
            i32::MAX => "date 'infinity'".into(),
            i32::MIN => "date '-infinity'".into(),
            days => format!("(date '1970-01-01' + '{days}'::int4)"),
        },
        ColumnType::Time => time_literal(value::<Time64MicrosecondType>(array, row).ok_or_else(unfit)?),
        ColumnType::Timestamp => timestamp_literal(value::<TimestampMicrosecondType>(array, row).ok_or_else(unfit)?),
        ColumnType::TimestampTz => {
            let micros = value::<TimestampMicrosecondType>(array, row).ok_or_else(unfit)?;
            format!("({} at time zone 'UTC')", timestamp_literal(micros))
        }
        ColumnType::Json | ColumnType::Array(_) => {
            let message = format!("rows cannot be found by the key column `{}`", column.name);
            return Err(Error::new(ErrorKind::Unsupported, message)
                .with_detail(format!("it is `{}`", column.column_type))
                .with_hint("set `capture = \"full\"` for this table in starlift.toml"));
        }
    })
}

fn value<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> Option<T::Native> {
    array.as_primitive_opt::<T>().map(|a| a.value(row))
}

fn timestamp_literal(micros: i64) -> String {
    match micros {
        i64::MAX => "timestamp 'infinity'".into(),
        i64::MIN => "timestamp '-infinity'".into(),
        micros => format!("(timestamp '1970-01-01' + {})", interval(micros)),
    }
}

/// Days and the rest apart: an interval's seconds are read as a double, which is exact for those of one day.
fn interval(micros: i64) -> String {
    let (days, rest) = (micros.div_euclid(86_400_000_000), micros.rem_euclid(86_400_000_000));
    format!("interval '{days} days {}.{:06} seconds'", rest / 1_000_000, rest % 1_000_000)
}

fn time_literal(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("'{hour:02}:{minute:02}:{second:02}.{:06}'::time", micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int32Array, StringArray};
    use std::sync::Arc;

    fn column(name: &str, column_type: ColumnType) -> Column {
        Column { name: name.into(), column_type, nullable: false, declared: None, labels: vec![] }
    }

    #[test]
    fn keys_become_quoted_literals() {
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, -2]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["it's", "b\\"]));
        let keys = RecordBatch::try_from_iter([("id", numbers), ("na\"me", texts)]).unwrap();
        let key = [column("id", ColumnType::Int4), column("na\"me", ColumnType::Text)];
        assert_eq!(
            keys_filter(&key, &keys).unwrap(),
            r#"("id", "na""me") in (('1'::int4, 'it''s'), ('-2'::int4, E'b\\'))"#
        );
        assert_eq!(keys_filter(&key, &keys.slice(0, 0)).unwrap(), "false");
        assert!(keys_filter(&key[..1], &keys).is_err());
    }

    #[test]
    fn a_key_without_equality_is_refused() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["{}"]));
        let keys = RecordBatch::try_from_iter([("j", texts)]).unwrap();
        let error = keys_filter(&[column("j", ColumnType::Json)], &keys).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}
