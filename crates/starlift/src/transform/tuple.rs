//! What rows hold in some columns, named as keys are, so that rows of two inputs can be matched without keeping them.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use starlift_core::{Column, ColumnType, Error, Result, TableSchema};
use starlift_lake::{Digests, KeyDigest};

/// Some columns of an input.
pub(super) struct Tuple {
    positions: Vec<usize>,
    types: Vec<DataType>,
    digests: Digests,
    /// Whether a row with a null among them counts: a key with a null is one, but nothing equals it.
    takes_nulls: bool,
}

impl Tuple {
    /// The columns of a key of the model, at these positions of an input: digests are those of the model's keys.
    ///
    /// Errors: Internal for a position that the input does not have.
    pub(super) fn key(schema: &TableSchema, positions: &[usize]) -> Result<Tuple> {
        let types = positions.iter().map(|position| Ok(column(schema, *position)?.column_type.clone()));
        Tuple::new(positions.to_vec(), types.collect::<Result<_>>()?, true)
    }

    /// Columns of two inputs, pair by pair, that are compared with one another: whole numbers of two widths as the
    /// widest, everything else as it is.
    ///
    /// Errors: as [`Tuple::key`].
    pub(super) fn pair(one: &TableSchema, other: &TableSchema, columns: &[(usize, usize)]) -> Result<(Tuple, Tuple)> {
        let mut types = Vec::with_capacity(columns.len());
        for (left, right) in columns {
            let (left, right) = (&column(one, *left)?.column_type, &column(other, *right)?.column_type);
            types.push(if left.to_arrow() == right.to_arrow() { left.clone() } else { ColumnType::Int8 });
        }
        let left = Tuple::new(columns.iter().map(|(left, _)| *left).collect(), types.clone(), false)?;
        let right = Tuple::new(columns.iter().map(|(_, right)| *right).collect(), types, false)?;
        Ok((left, right))
    }

    fn new(positions: Vec<usize>, types: Vec<ColumnType>, takes_nulls: bool) -> Result<Tuple> {
        let named = |(number, column_type): (usize, &ColumnType)| Column {
            name: number.to_string(),
            column_type: column_type.clone(),
            nullable: true,
            declared: None,
            labels: vec![],
        };
        let columns: Vec<Column> = types.iter().enumerate().map(named).collect();
        let key = columns.iter().map(|column| column.name.clone()).collect();
        let alone = TableSchema { columns, key, oid: None, partitions: vec![], attributes: vec![] };
        let types = types.iter().map(ColumnType::to_arrow).collect();
        Ok(Tuple { positions, types, digests: Digests::new(&alone)?, takes_nulls })
    }

    /// The positions of the columns in their input.
    pub(super) fn positions(&self) -> &[usize] {
        &self.positions
    }

    /// Whether its digests are those of the input's own key.
    pub(super) fn is_key_of(&self, schema: &TableSchema) -> bool {
        let types = schema.key_columns().map(|column| column.column_type.to_arrow());
        self.positions == schema.key_positions() && types.eq(self.types.iter().cloned())
    }

    /// The digest of each row, from these columns alone; none for a row that nothing equals.
    ///
    /// Errors: Internal for other columns.
    pub(super) fn of(&self, columns: &[ArrayRef]) -> Result<Vec<Option<KeyDigest>>> {
        let cast = |(array, data_type): (&ArrayRef, &DataType)| match array.data_type() == data_type {
            true => Ok(Arc::clone(array)),
            false => cast(array, data_type)
                .map_err(|e| Error::internal("columns of a join cannot be compared").with_source(e)),
        };
        let columns: Vec<ArrayRef> = columns.iter().zip(&self.types).map(cast).collect::<Result<_>>()?;
        let digests = self.digests.keys_of_columns(&columns)?;
        let counts = |row: usize| self.takes_nulls || columns.iter().all(|column| column.is_valid(row));
        Ok(digests.into_iter().enumerate().map(|(row, digest)| counts(row).then_some(digest)).collect())
    }
}

fn column(schema: &TableSchema, position: usize) -> Result<&Column> {
    schema.columns.get(position).ok_or_else(|| Error::internal("a join names a column that its input does not have"))
}

/// Adds what rows hold, which come with the columns of the tuple alone.
pub(super) async fn add(
    mut rows: BoxStream<'static, Result<RecordBatch>>,
    tuple: &Tuple,
    values: &mut HashSet<KeyDigest>,
) -> Result<()> {
    while let Some(batch) = rows.try_next().await? {
        values.extend(tuple.of(batch.columns())?.into_iter().flatten());
    }
    Ok(())
}

/// What rows hold in the columns of `wanted`, of those that hold one of `values` in the columns of `given`. Rows come with
/// the columns of `given`, then those of `wanted`.
pub(super) async fn matched(
    mut rows: BoxStream<'static, Result<RecordBatch>>,
    given: &Tuple,
    values: &HashSet<KeyDigest>,
    wanted: &Tuple,
) -> Result<HashSet<KeyDigest>> {
    let mut found = HashSet::new();
    while let Some(batch) = rows.try_next().await? {
        let (left, right) = batch.columns().split_at(given.positions.len());
        for (value, answer) in given.of(left)?.into_iter().zip(wanted.of(right)?) {
            if let (Some(_), Some(answer)) = (value.filter(|value| values.contains(value)), answer) {
                found.insert(answer);
            }
        }
    }
    Ok(found)
}
