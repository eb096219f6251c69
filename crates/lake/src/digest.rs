//! Short names of keys and rows, by which rows are compared without keeping them.
//!
//! Values are first brought into arrow's row format (`arrow::row`), where equal bytes mean equal values, null included.
//! * A [`KeyDigest`] holds those bytes themselves where they are at most 15 (every single number, date or time, a pair
//!   of 32-bit numbers, a short text), else 120 bits of their SHA-256 behind a mark that no length uses.
//! * A [`RowDigest`] is 128 bits of the SHA-256 of all columns.
//!
//! The key index holds digests. A change of their form needs a new `starlift_core::index::FORM`: a test compares them with
//! what they were, because the form is that of `arrow::row`, which a new version of it may change.
//!
//! In a key, `-0.0` counts as `0.0` and every NaN as one, as PostgreSQL compares them (manual, 8.1.3); in a row they
//! differ, because a value arrives exactly. Texts that only a collation holds for equal (`citext`, nondeterministic
//! collations) are different keys here.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, AsArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float32Type, Float64Type};
use arrow::row::{RowConverter, Rows, SortField};
use sha2::{Digest, Sha256};
use starlift_core::{Error, Result, TableSchema};

const INLINE: usize = 15;
const HASHED: u8 = 0xff;

/// Names one key of one table or model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyDigest(pub [u8; 16]);

/// Names the values of one row of one table or model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowDigest(pub [u8; 16]);

/// Makes the digests of one table's or model's batches.
pub struct Digests {
    key_positions: Vec<usize>,
    columns: usize,
    keys: RowConverter,
    rows: RowConverter,
}

impl Digests {
    /// For batches with the columns of this schema.
    ///
    /// Errors: Internal where the key names no column, or a type has no row format.
    pub fn new(schema: &TableSchema) -> Result<Digests> {
        let key_positions = schema.key_positions();
        if key_positions.len() != schema.key.len() {
            return Err(Error::internal("a key names a column that its table does not have"));
        }
        let key_arrow = schema.key_to_arrow();
        let arrow = schema.to_arrow();
        let converter = |fields: &arrow::datatypes::Fields| {
            let fields = fields.iter().map(|f| SortField::new(f.data_type().clone())).collect();
            RowConverter::new(fields).map_err(|e| Error::internal("rows of these types have no digest").with_source(e))
        };
        Ok(Digests {
            key_positions,
            columns: arrow.fields().len(),
            keys: converter(key_arrow.fields())?,
            rows: converter(arrow.fields())?,
        })
    }

    /// One digest per row, from a batch with all columns.
    ///
    /// Errors: Internal for a batch of another schema, or where there is no key.
    pub fn keys(&self, batch: &RecordBatch) -> Result<Vec<KeyDigest>> {
        self.check_width(batch)?;
        let columns: Vec<ArrayRef> = self.key_positions.iter().map(|p| Arc::clone(batch.column(*p))).collect();
        self.keys_of_columns(&columns)
    }

    /// One digest per row, from a batch with the key's columns alone, in the order of the key.
    ///
    /// Errors: as [`Digests::keys`].
    pub fn keys_of_key_batch(&self, batch: &RecordBatch) -> Result<Vec<KeyDigest>> {
        self.keys_of_columns(batch.columns())
    }

    /// One digest per row, from a batch with all columns.
    ///
    /// Errors: Internal for a batch of another schema.
    pub fn rows(&self, batch: &RecordBatch) -> Result<Vec<RowDigest>> {
        self.check_width(batch)?;
        let rows = convert(&self.rows, batch.columns())?;
        Ok(rows.iter().map(|row| RowDigest(leading(&Sha256::digest(row.data())))).collect())
    }

    /// One key digest per refused row, from a batch with the columns of [`TableSchema::refused_to_arrow`].
    ///
    /// Errors: as [`Digests::keys`].
    pub fn keys_of_refused(&self, batch: &RecordBatch) -> Result<Vec<KeyDigest>> {
        self.keys_of_columns(batch.columns().get(..self.key_positions.len()).unwrap_or_default())
    }

    /// For each refused row the digest of its key, and one of what is said of it: no row has the same.
    ///
    /// Errors: as [`Digests::keys`].
    pub fn refused(&self, batch: &RecordBatch) -> Result<Vec<(KeyDigest, RowDigest)>> {
        Ok(self.keys_of_refused(batch)?.into_iter().zip(self.said_of_refused(batch)?).collect())
    }

    /// For each refused row a digest of column, reason and value.
    ///
    /// Errors: Internal for a batch of other columns.
    pub fn said_of_refused(&self, batch: &RecordBatch) -> Result<Vec<RowDigest>> {
        let columns = batch.columns().get(self.key_positions.len()..).unwrap_or_default();
        let text = |column: &ArrayRef| column.as_string_opt::<i32>().cloned();
        let texts: Vec<_> = columns.iter().filter_map(text).collect();
        if texts.len() != 3 {
            return Err(Error::internal("refused rows do not have their columns"));
        }
        let digest = |row: usize| {
            let mut hash = Sha256::new();
            hash.update(b"refused");
            for text in &texts {
                let text = text.is_valid(row).then(|| text.value(row));
                hash.update(text.map_or(-1, |text| text.len() as i64).to_be_bytes());
                hash.update(text.unwrap_or_default());
            }
            RowDigest(leading(&hash.finalize()))
        };
        Ok((0..batch.num_rows()).map(digest).collect())
    }

    /// One digest per row, from the key's columns in the order of the key.
    ///
    /// Errors: as [`Digests::keys`].
    pub fn keys_of_columns(&self, columns: &[ArrayRef]) -> Result<Vec<KeyDigest>> {
        if columns.len() != self.key_positions.len() || columns.is_empty() {
            return Err(Error::internal("a batch does not have the columns of the key"));
        }
        let columns: Vec<ArrayRef> = columns.iter().map(equal_floats).collect();
        let rows = convert(&self.keys, &columns)?;
        Ok(rows.iter().map(|row| key_digest(row.data())).collect())
    }

    fn check_width(&self, batch: &RecordBatch) -> Result<()> {
        if batch.num_columns() == self.columns {
            Ok(())
        } else {
            Err(Error::internal("a batch does not have the columns of its table"))
        }
    }
}

fn convert(converter: &RowConverter, columns: &[ArrayRef]) -> Result<Rows> {
    converter
        .convert_columns(columns)
        .map_err(|e| Error::internal("a batch is not of its table's types").with_source(e))
}

fn key_digest(bytes: &[u8]) -> KeyDigest {
    let mut digest = [0; 16];
    if bytes.len() <= INLINE {
        digest[0] = bytes.len() as u8;
        digest[1..=bytes.len()].copy_from_slice(bytes);
    } else {
        digest = leading(&Sha256::digest(bytes));
        digest[0] = HASHED;
    }
    KeyDigest(digest)
}

fn leading(hash: &[u8]) -> [u8; 16] {
    let mut first = [0; 16];
    for (to, from) in first.iter_mut().zip(hash) {
        *to = *from;
    }
    first
}

/// Floats that PostgreSQL holds for equal get equal bits.
fn equal_floats(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float32 => one_form(column.as_primitive::<Float32Type>(), f32::NAN),
        DataType::Float64 => one_form(column.as_primitive::<Float64Type>(), f64::NAN),
        _ => Arc::clone(column),
    }
}

fn one_form<T: ArrowPrimitiveType>(column: &PrimitiveArray<T>, nan: T::Native) -> ArrayRef
where
    T::Native: PartialEq,
{
    let zero = T::Native::ZERO;
    let form = |value: T::Native| match value {
        // Plain `==`: -0.0 equals 0.0, and a NaN does not equal itself.
        value if PartialEq::eq(&value, &zero) => zero,
        value if !PartialEq::eq(&value, &value) => nan,
        value => value,
    };
    Arc::new(column.unary::<_, T>(form))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int32Array, StringArray};
    use starlift_core::{Column, ColumnType};
    use std::collections::HashSet;

    fn schema(types: &[ColumnType]) -> TableSchema {
        let columns: Vec<Column> = types
            .iter()
            .enumerate()
            .map(|(i, t)| Column {
                name: format!("c{i}"),
                column_type: t.clone(),
                nullable: true,
                declared: None,
                labels: vec![],
            })
            .collect();
        let key = columns.iter().map(|c| c.name.clone()).collect();
        TableSchema { columns, key, oid: None, partitions: vec![], attributes: vec![] }
    }

    fn keys(schema: &TableSchema, columns: Vec<ArrayRef>) -> Vec<KeyDigest> {
        let batch = RecordBatch::try_new(schema.to_arrow(), columns).unwrap();
        Digests::new(schema).unwrap().keys(&batch).unwrap()
    }

    #[test]
    fn short_keys_are_kept_and_long_ones_are_marked() {
        assert_eq!(key_digest(&[1; 15]).0[0], 15);
        assert_eq!(key_digest(&[]).0, [0; 16]);
        assert_eq!(key_digest(&[1; 16]).0[0], HASHED);
        // What would look like a hashed key is not one of 15 bytes or less.
        assert_ne!(key_digest(&[0]), key_digest(&[0, 0]));
        assert_ne!(key_digest(&[1; 16]), key_digest(&[1; 17]));
    }

    #[test]
    fn neighbouring_columns_do_not_run_into_one_another() {
        let schema = schema(&[ColumnType::Text, ColumnType::Text]);
        let left = StringArray::from(vec![Some("ab"), Some("a"), Some(""), None, Some("abcdefghijklmnop")]);
        let right = StringArray::from(vec![Some("c"), Some("bc"), None, Some(""), Some("q")]);
        let digests: HashSet<_> = keys(&schema, vec![Arc::new(left), Arc::new(right)]).into_iter().collect();
        assert_eq!(digests.len(), 5);
    }

    #[test]
    fn floats_that_postgresql_holds_for_equal_are_one_key_and_two_rows() {
        let schema = schema(&[ColumnType::Float8]);
        let other_nan = f64::from_bits(f64::NAN.to_bits() | 1);
        let values: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, other_nan, -f64::NAN, 1.0]));
        let k = keys(&schema, vec![Arc::clone(&values)]);
        assert_eq!(k[0], k[1]);
        assert_eq!([k[2], k[2]], [k[3], k[4]]);
        assert_ne!(k[0], k[5]);
        let batch = RecordBatch::try_new(schema.to_arrow(), vec![values]).unwrap();
        let rows = Digests::new(&schema).unwrap().rows(&batch).unwrap();
        assert_ne!(rows[0], rows[1]);
    }

    #[test]
    fn a_batch_of_another_shape_is_refused() {
        let digests = Digests::new(&schema(&[ColumnType::Int4])).unwrap();
        let two = schema(&[ColumnType::Int4, ColumnType::Int4]);
        let column: ArrayRef = Arc::new(Int32Array::from(vec![1]));
        let batch = RecordBatch::try_new(two.to_arrow(), vec![Arc::clone(&column), column]).unwrap();
        assert!(digests.keys(&batch).is_err() && digests.rows(&batch).is_err());
        let text = schema(&[ColumnType::Text]);
        let batch = RecordBatch::try_new(text.to_arrow(), vec![Arc::new(StringArray::from(vec!["x"]))]).unwrap();
        assert!(digests.keys(&batch).is_err());
        let mut lost = schema(&[ColumnType::Int4]);
        lost.key = vec!["gone".into()];
        assert!(Digests::new(&lost).is_err());
    }
}
