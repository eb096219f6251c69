//! Binary values of one column into its Arrow builder: one match for each value, no allocation of its own.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder,
    Float64Builder, Int16Builder, Int32Builder, Int64Builder, StringBuilder, Time64MicrosecondBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::error::ArrowError;
use starlift_core::types::MAX_PRECISION;
use starlift_core::{ColumnType, Error, Result};

use super::array::ListsBuilder;
use super::numeric::Decimal;
use super::{Reject, bool, datetime, float, int, text};

/// Arrow's offsets into text and bytes have 31 bits.
const MAX_BATCH_BYTES: usize = i32::MAX as usize;

pub(super) enum ColumnBuilder {
    Bool(BooleanBuilder),
    Int2(Int16Builder),
    Int4(Int32Builder),
    Int8(Int64Builder),
    Float4(Float32Builder),
    Float8(Float64Builder),
    Numeric(Decimal128Builder, Decimal),
    Text(StringBuilder),
    Jsonb(StringBuilder),
    Uuid(StringBuilder),
    Bytea(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    List(Box<ListsBuilder>),
}

impl ColumnBuilder {
    /// A builder with room for some rows.
    pub(super) fn new(column_type: &ColumnType, rows: usize) -> Result<ColumnBuilder> {
        let arrow_type = column_type.to_arrow();
        // A guess that saves the first few enlargements; longer texts make it grow.
        let text_bytes = rows * 16;
        Ok(match column_type {
            ColumnType::Bool => Self::Bool(BooleanBuilder::with_capacity(rows)),
            ColumnType::Int2 => Self::Int2(Int16Builder::with_capacity(rows)),
            ColumnType::Int4 => Self::Int4(Int32Builder::with_capacity(rows)),
            ColumnType::Int8 => Self::Int8(Int64Builder::with_capacity(rows)),
            ColumnType::Float4 => Self::Float4(Float32Builder::with_capacity(rows)),
            ColumnType::Float8 => Self::Float8(Float64Builder::with_capacity(rows)),
            ColumnType::Numeric { precision, scale } => {
                check_numeric(*precision, *scale)?;
                let builder = Decimal128Builder::with_capacity(rows).with_data_type(arrow_type);
                Self::Numeric(builder, Decimal::new(*precision, *scale))
            }
            ColumnType::Text | ColumnType::Json => Self::Text(StringBuilder::with_capacity(rows, text_bytes)),
            ColumnType::Jsonb => Self::Jsonb(StringBuilder::with_capacity(rows, text_bytes)),
            ColumnType::Uuid => Self::Uuid(StringBuilder::with_capacity(rows, rows * 36)),
            ColumnType::Bytea => Self::Bytea(BinaryBuilder::with_capacity(rows, text_bytes)),
            ColumnType::Date => Self::Date(Date32Builder::with_capacity(rows)),
            ColumnType::Time => Self::Time(Time64MicrosecondBuilder::with_capacity(rows)),
            ColumnType::Timestamp | ColumnType::TimestampTz => {
                Self::Timestamp(TimestampMicrosecondBuilder::with_capacity(rows).with_data_type(arrow_type))
            }
            ColumnType::Array(element) => Self::List(Box::new(ListsBuilder::new(element, rows)?)),
        })
    }

    /// Appends one value. After an error nothing was appended: the caller appends a null in its place.
    #[inline]
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Reject> {
        match self {
            Self::Bool(builder) => builder.append_value(bool::decode(bytes)?),
            Self::Int2(builder) => builder.append_value(int::decode_int2(bytes)?),
            Self::Int4(builder) => builder.append_value(int::decode_int4(bytes)?),
            Self::Int8(builder) => builder.append_value(int::decode_int8(bytes)?),
            Self::Float4(builder) => builder.append_value(float::decode_float4(bytes)?),
            Self::Float8(builder) => builder.append_value(float::decode_float8(bytes)?),
            Self::Numeric(builder, decimal) => builder.append_value(decimal.decode(bytes)?),
            Self::Text(builder) => append_text(builder, text::decode(bytes)?)?,
            Self::Jsonb(builder) => append_text(builder, text::decode_jsonb(bytes)?)?,
            Self::Uuid(builder) => append_text(builder, text::decode_uuid(bytes, &mut [0; 36])?)?,
            Self::Bytea(builder) => {
                room(builder.values_slice().len(), bytes.len())?;
                builder.append_value(bytes);
            }
            Self::Date(builder) => builder.append_value(datetime::decode_date(bytes)?),
            Self::Time(builder) => builder.append_value(datetime::decode_time(bytes)?),
            Self::Timestamp(builder) => builder.append_value(datetime::decode_timestamp(bytes)?),
            Self::List(builder) => builder.append(bytes)?,
        }
        Ok(())
    }

    pub(super) fn append_null(&mut self) {
        match self {
            Self::Bool(builder) => builder.append_null(),
            Self::Int2(builder) => builder.append_null(),
            Self::Int4(builder) => builder.append_null(),
            Self::Int8(builder) => builder.append_null(),
            Self::Float4(builder) => builder.append_null(),
            Self::Float8(builder) => builder.append_null(),
            Self::Numeric(builder, _) => builder.append_null(),
            Self::Text(builder) | Self::Jsonb(builder) | Self::Uuid(builder) => builder.append_null(),
            Self::Bytea(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Time(builder) => builder.append_null(),
            Self::Timestamp(builder) => builder.append_null(),
            Self::List(builder) => builder.append_null(),
        }
    }

    /// What was appended; the builder is empty afterwards.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Bool(builder) => Arc::new(builder.finish()),
            Self::Int2(builder) => Arc::new(builder.finish()),
            Self::Int4(builder) => Arc::new(builder.finish()),
            Self::Int8(builder) => Arc::new(builder.finish()),
            Self::Float4(builder) => Arc::new(builder.finish()),
            Self::Float8(builder) => Arc::new(builder.finish()),
            Self::Numeric(builder, _) => Arc::new(builder.finish()),
            Self::Text(builder) | Self::Jsonb(builder) | Self::Uuid(builder) => ArrayBuilder::finish(builder),
            Self::Bytea(builder) => ArrayBuilder::finish(builder),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Time(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
            Self::List(builder) => builder.finish()?,
        })
    }
}

/// A numeric column that Arrow's decimal cannot be is a mistake of the caller's, and would overflow later.
pub(super) fn check_numeric(precision: u8, scale: u8) -> Result<()> {
    if (1..=MAX_PRECISION).contains(&precision) && scale <= precision {
        return Ok(());
    }
    Err(Error::internal(format!("numeric({precision},{scale}) is no column type")))
}

fn append_text(builder: &mut StringBuilder, text: &str) -> Result<(), Reject> {
    room(builder.values_slice().len(), text.len())?;
    builder.append_value(text);
    Ok(())
}

/// The builder would panic where its offsets end.
fn room(used: usize, more: usize) -> Result<(), Reject> {
    if more > MAX_BATCH_BYTES - used.min(MAX_BATCH_BYTES) { Err(Reject::BatchFull) } else { Ok(()) }
}
