//! The test `unique` of a column that is not the key: which values a model yields twice.

use arrow::array::{Array, RecordBatch};
use starlift_core::model::Model;
use starlift_core::refused::RefusedRows;
use starlift_core::{Result, TableSchema};
use starlift_lake::{Digests, KeyDigest, Keys, Spill};

use super::column_test::ColumnTest;
use super::rows::Rows;

/// The columns of a model that have to be unique, with the values that are not.
pub(super) struct Unique {
    columns: Vec<Column>,
}

struct Column {
    test: ColumnTest,
    position: usize,
    digests: Digests,
    twice: Keys,
}

impl Unique {
    /// Looks through all rows of a model, if its header asks for it.
    ///
    /// Errors: those of the evaluation.
    pub(super) async fn of(model: &Model, rows: &mut Rows, spill: &Spill) -> Result<Unique> {
        let schema = rows.schema().clone();
        let mut columns = Vec::new();
        for test in model.header.tests.iter().filter(|test| test.name == "unique") {
            let name = test.arguments.as_str();
            // A key that yields two rows is an error in any case.
            let Some(column) = schema.column(name).filter(|_| schema.key != [name.to_string()]) else { continue };
            let alone = TableSchema { columns: vec![column.clone()], key: vec![name.to_string()], ..schema.clone() };
            columns.push(Column {
                test: ColumnTest::of(name, test),
                position: schema.columns.iter().position(|known| known.name == name).unwrap_or_default(),
                digests: Digests::new(&alone)?,
                twice: Keys::empty(spill),
            });
        }
        if columns.is_empty() {
            return Ok(Unique { columns });
        }
        let mut seen: Vec<Keys> = columns.iter().map(|_| Keys::empty(spill)).collect();
        let Some(mut evaluation) = rows.again().await? else { return Ok(Unique { columns }) };
        while let Some(batch) = evaluation.next_batch().await? {
            for (column, seen) in columns.iter_mut().zip(&mut seen) {
                for value in column.values(&batch.rows)?.into_iter().flatten() {
                    if !seen.insert(value)? {
                        column.twice.insert(value)?;
                    }
                }
            }
        }
        Ok(Unique { columns })
    }

    /// For each row the column and test that it fails.
    pub(super) fn test(
        &mut self,
        rows: &RecordBatch,
        key: impl Fn(usize) -> String,
    ) -> Result<Vec<Option<(String, String)>>> {
        let mut why = vec![None; rows.num_rows()];
        for column in &mut self.columns {
            for (row, (slot, value)) in why.iter_mut().zip(column.values(rows)?).enumerate() {
                let Some(value) = value else { continue };
                if column.twice.contains(&value)? {
                    column.test.fails(slot, || key(row));
                }
            }
        }
        Ok(why)
    }

    /// Each test with whether it only warns, and the rows that failed it.
    pub(super) fn found(&self) -> impl Iterator<Item = (&str, bool, &RefusedRows)> {
        self.columns.iter().map(|column| column.test.found())
    }
}

impl Column {
    /// The value of each row; none where it is null, which is like no other.
    fn values(&self, rows: &RecordBatch) -> Result<Vec<Option<KeyDigest>>> {
        let column = rows.column(self.position);
        let values = self.digests.keys_of_columns(std::slice::from_ref(column))?;
        Ok(values.into_iter().enumerate().map(|(row, value)| column.is_valid(row).then_some(value)).collect())
    }
}
