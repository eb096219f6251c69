//! One text for one value, on both sides: what a SQL expression of PostgreSQL gives and what an Arrow array gives are
//! equal exactly when the values are. `verify` compares digests of these texts.
//!
//! They depend on no session setting, and on no version from PostgreSQL 13 on:
//!
//! | type | text |
//! | --- | --- |
//! | boolean, integers | as PostgreSQL casts them to text |
//! | numeric | `trim_scale`: without trailing zeros |
//! | text, uuid, json, jsonb | themselves |
//! | bytea | lower-case hexadecimal |
//! | real, double precision, date, time, timestamps | their binary form in lower-case hexadecimal |
//! | arrays | `[1:n]`, then for each element its length in characters, `:` and its text, or `N` for null; `,` between |
//!
//! The binary form (`float8send`, `timestamp_send`, …) is exact and cheap, while `extract(epoch from …)` is a double
//! before PostgreSQL 14, and text output depends on `DateStyle` and `TimeZone`.

use std::fmt::Write as _;

use arrow::array::{Array, AsArray, PrimitiveArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use starlift_core::digest::hex;
use starlift_core::{Column, ColumnType};

/// Days and microseconds from 1970-01-01 to 2000-01-01, where PostgreSQL counts from.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// The SQL expression of a column's text; `expression` is the column as the query names it, such as `s."price"`. It is
/// null where the column is.
pub fn sql_text(column: &Column, expression: &str) -> String {
    expression_of(&column.column_type, &format!("({expression})"))
}

fn expression_of(column_type: &ColumnType, x: &str) -> String {
    match column_type {
        ColumnType::Bool
        | ColumnType::Int2
        | ColumnType::Int4
        | ColumnType::Int8
        | ColumnType::Text
        | ColumnType::Uuid
        | ColumnType::Json
        | ColumnType::Jsonb => format!("{x}::text"),
        ColumnType::Numeric { .. } => format!("trim_scale({x})::text"),
        ColumnType::Bytea => format!("encode({x}, 'hex')"),
        ColumnType::Float4 => format!("encode(float4send({x}), 'hex')"),
        ColumnType::Float8 => format!("encode(float8send({x}), 'hex')"),
        ColumnType::Date => format!("encode(date_send({x}), 'hex')"),
        ColumnType::Time => format!("encode(time_send({x}), 'hex')"),
        ColumnType::Timestamp => format!("encode(timestamp_send({x}), 'hex')"),
        ColumnType::TimestampTz => format!("encode(timestamptz_send({x}), 'hex')"),
        ColumnType::Array(element) => {
            let text = expression_of(element, "(element.value)");
            // Null elements give a null text; the shape keeps an empty array apart from a null one.
            format!(
                "case when {x} is not null then coalesce(array_dims({x}), '') || coalesce((\
                 select string_agg(coalesce(length(element.shown)::text || ':' || element.shown, 'N'), ',' order by element.position) \
                 from (select element.position, {text} as shown from unnest({x}) with ordinality as element (value, position)) \
                 as element), '') end"
            )
        }
    }
}

/// The text of a value of an array; none for a null, and for an array of a type that no column has.
pub fn arrow_text(array: &dyn Array, row: usize) -> Option<String> {
    if row >= array.len() || array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int16 => value::<Int16Type>(array, row)?.to_string(),
        DataType::Int32 => value::<Int32Type>(array, row)?.to_string(),
        DataType::Int64 => value::<Int64Type>(array, row)?.to_string(),
        DataType::Float32 => hex(&value::<Float32Type>(array, row)?.to_be_bytes()),
        DataType::Float64 => hex(&value::<Float64Type>(array, row)?.to_be_bytes()),
        DataType::Decimal128(_, scale) => decimal(value::<Decimal128Type>(array, row)?, u32::try_from(*scale).ok()?),
        DataType::Utf8 => array.as_string_opt::<i32>()?.value(row).to_string(),
        DataType::Binary => hex(array.as_binary_opt::<i32>()?.value(row)),
        DataType::Date32 => hex(&match value::<Date32Type>(array, row)? {
            infinite @ (i32::MIN | i32::MAX) => infinite,
            days => days.checked_sub(EPOCH_DAYS)?,
        }
        .to_be_bytes()),
        DataType::Time64(TimeUnit::Microsecond) => hex(&value::<Time64MicrosecondType>(array, row)?.to_be_bytes()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let since_2000 = match value::<TimestampMicrosecondType>(array, row)? {
                infinite @ (i64::MIN | i64::MAX) => infinite,
                micros => micros.checked_sub(EPOCH_MICROS)?,
            };
            hex(&since_2000.to_be_bytes())
        }
        DataType::List(_) => list(array.as_list_opt::<i32>()?.value(row).as_ref()),
        _ => return None,
    })
}

fn value<T: arrow::datatypes::ArrowPrimitiveType>(array: &dyn Array, row: usize) -> Option<T::Native> {
    array.as_any().downcast_ref::<PrimitiveArray<T>>().map(|a| a.value(row))
}

fn list(elements: &dyn Array) -> String {
    let mut text = String::new();
    for row in 0..elements.len() {
        text.push_str(if row == 0 { "" } else { "," });
        // Writing to a String cannot fail.
        let _ = match arrow_text(elements, row) {
            Some(element) => write!(text, "{}:{element}", element.chars().count()),
            None => write!(text, "N"),
        };
    }
    if elements.is_empty() { text } else { format!("[1:{}]{text}", elements.len()) }
}

/// A decimal as PostgreSQL writes a trimmed numeric: `-0.5`, `10`, `0`.
fn decimal(value: i128, scale: u32) -> String {
    let scale = scale as usize;
    // At least one digit before the point.
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let fraction = fraction.trim_end_matches('0');
    let sign = if value < 0 { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_have_one_form() {
        for (value, scale, text) in [
            (0, 0, "0"),
            (0, 10, "0"),
            (-5, 1, "-0.5"),
            (1000, 2, "10"),
            (5_525_486_200_000_000, 10, "552548.62"),
            (-1, 38, "-0.00000000000000000000000000000000000001"),
        ] {
            assert_eq!(decimal(value, scale), text);
        }
    }
}
