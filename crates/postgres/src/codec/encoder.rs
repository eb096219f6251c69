//! Arrow batches to a COPY BINARY stream.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int16Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::DataType;
use bytes::{BufMut, BytesMut};
use starlift_core::{Column, ColumnType, Error, Result};

use super::builder::check_numeric;
use super::{HEADER, NULL, Reject, array, bool, bytea, datetime, float, int, numeric, text};

/// Writes batches as a COPY BINARY stream for a table whose columns have the types of
/// [`ColumnType::postgres_type`], in this order. Values arrive exactly; a numeric without its trailing zeros.
///
/// ```text
/// header, encode(batch), encode(batch), …, trailer
/// ```
#[derive(Debug)]
pub struct BatchEncoder {
    columns: Vec<Column>,
    types: Vec<DataType>,
    rows_written: u64,
}

impl BatchEncoder {
    /// An encoder for these columns in their order.
    ///
    /// # Errors
    /// Internal for more columns than a row can have, and for a type that no column has.
    pub fn new(columns: &[Column]) -> Result<BatchEncoder> {
        // PostgreSQL's own limit is 1600 (MaxHeapAttributeNumber); the format's is this.
        if i16::try_from(columns.len()).is_err() {
            return Err(Error::internal(format!("{} columns are too many for a row", columns.len())));
        }
        for column in columns {
            let element = match &column.column_type {
                ColumnType::Array(element) => element,
                other => other,
            };
            match element {
                ColumnType::Numeric { precision, scale } => check_numeric(*precision, *scale)?,
                ColumnType::Array(_) => return Err(Error::internal("an array of arrays is no column type")),
                _ => {}
            }
        }
        let types = columns.iter().map(|c| c.column_type.to_arrow()).collect();
        Ok(BatchEncoder { columns: columns.to_vec(), types, rows_written: 0 })
    }

    /// What every stream starts with.
    pub fn header(&self, out: &mut BytesMut) {
        out.put_slice(HEADER);
    }

    /// Appends the rows of a batch whose columns are of the types of [`ColumnType::to_arrow`].
    ///
    /// # Errors
    /// Data for a value that the PostgreSQL type cannot hold, by column and row, Internal for a batch of other types.
    /// After an error `out` holds part of a row and cannot be sent.
    pub fn encode(&mut self, batch: &RecordBatch, out: &mut BytesMut) -> Result<()> {
        let columns = self.values(batch.columns())?;
        let width = columns.len() as i16;
        // A guess that saves most enlargements: a length and eight bytes for each value.
        out.reserve(batch.num_rows() * (2 + 12 * columns.len()));
        for row in 0..batch.num_rows() {
            out.put_i16(width);
            for (index, values) in columns.iter().enumerate() {
                values.encode(row, out).map_err(|reject| self.refused(index, row, reject))?;
            }
        }
        self.rows_written += batch.num_rows() as u64;
        Ok(())
    }

    /// What every stream ends with.
    pub fn trailer(&self, out: &mut BytesMut) {
        out.put_i16(-1);
    }

    /// Rows that were encoded so far.
    pub fn rows_written(&self) -> u64 {
        self.rows_written
    }

    fn values<'a>(&self, arrays: &'a [ArrayRef]) -> Result<Vec<Values<'a>>> {
        if arrays.len() != self.columns.len() {
            let message = format!("a batch has {} columns instead of {}", arrays.len(), self.columns.len());
            return Err(Error::internal(message));
        }
        self.columns
            .iter()
            .zip(&self.types)
            .zip(arrays)
            .map(|((column, wanted), array)| {
                let found = array.data_type();
                // The name of a list's field and its nullability make no difference.
                let same = match (wanted, found) {
                    (DataType::List(wanted), DataType::List(found)) => wanted.data_type() == found.data_type(),
                    _ => wanted == found,
                };
                let values = if same { Values::new(&column.column_type, array) } else { None };
                values.ok_or_else(|| {
                    Error::internal(format!("column `{}` is `{found}` instead of `{wanted}`", column.name))
                })
            })
            .collect()
    }

    fn refused(&self, column: usize, row: usize, reject: Reject) -> Error {
        let name = self.columns.get(column).map_or("", |c| c.name.as_str());
        let reason = match reject {
            Reject::Refused(reason) => reason,
            Reject::BatchFull => "it is larger than PostgreSQL's limit of 1 GB",
            Reject::Malformed => "it is no value of its type",
        };
        Error::data(format!("column `{name}` holds a value that PostgreSQL cannot store"))
            .with_detail(format!("row {}: {reason}", self.rows_written + row as u64 + 1))
            .with_context("column", name)
    }
}

/// A column of a batch with its type found out, once for all rows.
enum Values<'a> {
    Bool(&'a BooleanArray),
    Int2(&'a Int16Array),
    Int4(&'a Int32Array),
    Int8(&'a Int64Array),
    Float4(&'a Float32Array),
    Float8(&'a Float64Array),
    Numeric(&'a Decimal128Array, u8),
    Text(&'a StringArray),
    Jsonb(&'a StringArray),
    Uuid(&'a StringArray),
    Bytea(&'a BinaryArray),
    Date(&'a Date32Array),
    Time(&'a Time64MicrosecondArray),
    Timestamp(&'a TimestampMicrosecondArray),
    List(&'a ListArray, Box<Values<'a>>, u32),
}

impl<'a> Values<'a> {
    fn new(column_type: &ColumnType, array: &'a dyn Array) -> Option<Values<'a>> {
        Some(match column_type {
            ColumnType::Bool => Self::Bool(array.as_boolean_opt()?),
            ColumnType::Int2 => Self::Int2(array.as_primitive_opt()?),
            ColumnType::Int4 => Self::Int4(array.as_primitive_opt()?),
            ColumnType::Int8 => Self::Int8(array.as_primitive_opt()?),
            ColumnType::Float4 => Self::Float4(array.as_primitive_opt()?),
            ColumnType::Float8 => Self::Float8(array.as_primitive_opt()?),
            ColumnType::Numeric { scale, .. } => Self::Numeric(array.as_primitive_opt()?, *scale),
            ColumnType::Text | ColumnType::Json => Self::Text(array.as_string_opt()?),
            ColumnType::Jsonb => Self::Jsonb(array.as_string_opt()?),
            ColumnType::Uuid => Self::Uuid(array.as_string_opt()?),
            ColumnType::Bytea => Self::Bytea(array.as_binary_opt()?),
            ColumnType::Date => Self::Date(array.as_primitive_opt()?),
            ColumnType::Time => Self::Time(array.as_primitive_opt()?),
            ColumnType::Timestamp | ColumnType::TimestampTz => Self::Timestamp(array.as_primitive_opt()?),
            ColumnType::Array(element) => {
                let list = array.as_list_opt::<i32>()?;
                let values = Values::new(element, list.values())?;
                Self::List(list, Box::new(values), array::element_oid(element)?)
            }
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Bool(array) => array.is_null(row),
            Self::Int2(array) => array.is_null(row),
            Self::Int4(array) => array.is_null(row),
            Self::Int8(array) => array.is_null(row),
            Self::Float4(array) => array.is_null(row),
            Self::Float8(array) => array.is_null(row),
            Self::Numeric(array, _) => array.is_null(row),
            Self::Text(array) | Self::Jsonb(array) | Self::Uuid(array) => array.is_null(row),
            Self::Bytea(array) => array.is_null(row),
            Self::Date(array) => array.is_null(row),
            Self::Time(array) => array.is_null(row),
            Self::Timestamp(array) => array.is_null(row),
            Self::List(array, _, _) => array.is_null(row),
        }
    }

    fn encode(&self, row: usize, out: &mut BytesMut) -> Result<(), Reject> {
        if self.is_null(row) {
            out.put_i32(NULL);
            return Ok(());
        }
        match self {
            Self::Bool(array) => bool::encode(array.value(row), out),
            Self::Int2(array) => int::encode_int2(array.value(row), out),
            Self::Int4(array) => int::encode_int4(array.value(row), out),
            Self::Int8(array) => int::encode_int8(array.value(row), out),
            Self::Float4(array) => float::encode_float4(array.value(row), out),
            Self::Float8(array) => float::encode_float8(array.value(row), out),
            Self::Numeric(array, scale) => numeric::encode(array.value(row), *scale, out),
            Self::Text(array) => text::encode(array.value(row), out)?,
            Self::Jsonb(array) => text::encode_jsonb(array.value(row), out)?,
            Self::Uuid(array) => text::encode_uuid(array.value(row), out)?,
            Self::Bytea(array) => bytea::encode(array.value(row), out)?,
            Self::Date(array) => datetime::encode_date(array.value(row), out)?,
            Self::Time(array) => datetime::encode_time(array.value(row), out)?,
            Self::Timestamp(array) => datetime::encode_timestamp(array.value(row), out)?,
            Self::List(array, elements, oid) => {
                let offsets = array.value_offsets();
                let (Some(from), Some(to)) = (offsets.get(row), offsets.get(row + 1)) else {
                    return Err(Reject::Malformed);
                };
                let range = *from as usize..*to as usize;
                let has_nulls = range.clone().any(|element| elements.is_null(element));
                let start = array::begin(*oid, range.len(), has_nulls, out)?;
                for element in range {
                    elements.encode(element, out)?;
                }
                array::end(start, out)?;
            }
        }
        Ok(())
    }
}
