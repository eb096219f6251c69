//! The test `relationships` of a model to itself, as of staff to their managers: which keys the model yields, and which rows refer
//! to none of them.
//!
//! A row that stands aside is an entry of its key, so that rows which refer to it pass: only what is nowhere fails.

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use starlift_core::model::{Model, ModelTest};
use starlift_core::refused::RefusedRows;
use starlift_core::{Result, TableSchema};
use starlift_lake::{Digests, KeyDigest, Keys, Spill};

use super::column_test::ColumnTest;
use super::references::{keys_of, pair};
use super::rows::Rows;

/// The references of a model to itself, with the keys that it yields.
pub(super) struct OwnReferences {
    list: Vec<Column>,
    keys: Keys,
}

struct Column {
    test: ColumnTest,
    position: usize,
    digests: Digests,
    key_type: DataType,
}

/// Whether a test needs all keys of its own model.
pub(super) fn is_own(model: &Model, test: &ModelTest) -> bool {
    pair(test).is_some_and(|(_, target)| target == model.name)
}

impl OwnReferences {
    /// Looks through all rows of a model, if its header asks for it.
    ///
    /// Errors: those of the evaluation.
    pub(super) async fn of(model: &Model, rows: &mut Rows, spill: &Spill) -> Result<OwnReferences> {
        let schema = rows.schema().clone();
        let mut found = OwnReferences { list: Vec::new(), keys: Keys::empty(spill) };
        for test in model.header.tests.iter().filter(|test| is_own(model, test)) {
            let Some((name, _)) = pair(test) else { continue };
            let position = schema.columns.iter().position(|known| known.name == name);
            let (Some(position), [key]) = (position, schema.key.as_slice()) else { continue };
            let Some(key) = schema.column(key) else { continue };
            found.list.push(Column {
                test: ColumnTest::of(name, test),
                position,
                digests: Digests::new(&schema)?,
                key_type: key.column_type.to_arrow(),
            });
        }
        if !found.list.is_empty() {
            found.read(&schema, rows).await?;
        }
        Ok(found)
    }

    async fn read(&mut self, schema: &TableSchema, rows: &mut Rows) -> Result<()> {
        let Some(mut evaluation) = rows.again().await? else { return Ok(()) };
        let digests = Digests::new(schema)?;
        let positions = schema.key_positions();
        while let Some(batch) = evaluation.next_batch().await? {
            // Both begin with the model's columns.
            for part in [&batch.rows, &batch.refused] {
                let key: Vec<_> = positions.iter().map(|position| part.column(*position).clone()).collect();
                for key in digests.keys_of_columns(&key)? {
                    self.keys.insert(key)?;
                }
            }
        }
        Ok(())
    }

    /// For each row the column and test that it fails.
    pub(super) fn test(
        &mut self,
        rows: &RecordBatch,
        key: impl Fn(usize) -> String,
    ) -> Result<Vec<Option<(String, String)>>> {
        let mut why = vec![None; rows.num_rows()];
        for column in &mut self.list {
            let values: Vec<Option<KeyDigest>> =
                keys_of(&column.digests, &column.key_type, rows.column(column.position))?;
            for (row, (slot, value)) in why.iter_mut().zip(values).enumerate() {
                let Some(value) = value else { continue };
                if !self.keys.contains(&value)? {
                    column.test.fails(slot, || key(row));
                }
            }
        }
        Ok(why)
    }

    /// Each test with whether it only warns, and the rows that failed it.
    pub(super) fn found(&self) -> impl Iterator<Item = (&str, bool, &RefusedRows)> {
        self.list.iter().map(|column| column.test.found())
    }
}
