//! Rows of a model that refer to rows of others: those whose dimension row stands aside wait with it, and new ones whose
//! dimension row does not exist fail the test `relationships`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use futures::TryStreamExt;
use starlift_core::model::{Model, ModelKind, ModelTest};
use starlift_core::refused::{RefusedRows, waits_for};
use starlift_core::{Result, TableSchema};
use starlift_lake::{Digests, KeyDigest, Keys, RowDigest, Spill, State, Store};

use super::column_test::ColumnTest;
use super::inputs::Evaluated;
use crate::config::Project;

/// The refused keys of models that have any, as this run leaves them.
pub(super) type RefusedKeys = BTreeMap<String, HashSet<KeyDigest>>;

/// Batches of rows whose keys are looked for.
const LOOKED_FOR: usize = 2;

/// The references of one model.
pub(super) struct References {
    list: Vec<Reference>,
}

struct Reference {
    test: ColumnTest,
    position: usize,
    target: String,
    key_type: DataType,
    digests: Digests,
    refused: HashSet<KeyDigest>,
    state: State,
    spill: Spill,
    /// Keys that have a row.
    known: Keys,
    /// How often some keys were looked for; beyond [`LOOKED_FOR`] all keys are known.
    looked: usize,
}

impl References {
    /// Of a model with these columns, to models that this run has been through or passed over.
    ///
    /// Errors: Internal for states that do not fit their schema.
    pub(super) fn of(
        project: &Project,
        model: &Model,
        schema: &TableSchema,
        star: &Store,
        states: &Evaluated,
        refused: &RefusedKeys,
    ) -> Result<References> {
        let mut list = Vec::new();
        for test in &model.header.tests {
            let Some((column, target)) = pair(test) else { continue };
            let is_other_table = project
                .graph
                .get(target)
                .is_some_and(|other| other.header.kind != ModelKind::Calendar && other.name != model.name);
            let position = schema.columns.iter().position(|known| known.name == column);
            let (Some((target_schema, files)), Some(position), true) = (states.get(target), position, is_other_table)
            else {
                continue;
            };
            let [key] = target_schema.key.as_slice() else { continue };
            let Some(key) = target_schema.column(key) else { continue };
            list.push(Reference {
                test: ColumnTest::of(column, test),
                position,
                target: target.to_string(),
                key_type: key.column_type.to_arrow(),
                digests: Digests::new(target_schema)?,
                refused: refused.get(target).cloned().unwrap_or_default(),
                state: State::new(star, target_schema.clone(), files.clone())?,
                spill: star.spill().clone(),
                known: Keys::empty(star.spill()),
                looked: 0,
            });
        }
        Ok(References { list })
    }

    /// For each row the column and reason why it waits; none where no dimension row of it stands aside.
    pub(super) fn waiting(&self, rows: &RecordBatch) -> Result<Vec<Option<(&str, String)>>> {
        let mut why = vec![None; rows.num_rows()];
        for reference in self.list.iter().filter(|reference| !reference.refused.is_empty()) {
            for (slot, key) in why.iter_mut().zip(reference.keys(rows)?) {
                if slot.is_none() && key.is_some_and(|key| reference.refused.contains(&key)) {
                    *slot = Some((reference.test.column.as_str(), waits_for(&reference.target)));
                }
            }
        }
        Ok(why)
    }

    /// The keys of rows that are in the model's own state and refer to one of these keys of a target.
    ///
    /// Errors: as in the stream of [`State::scan`].
    pub(super) async fn referring(&self, own: &State, targets: &RefusedKeys) -> Result<HashSet<KeyDigest>> {
        let digests = Digests::new(own.schema())?;
        let mut found = HashSet::new();
        for reference in &self.list {
            let Some(keys) = targets.get(&reference.target).filter(|keys| !keys.is_empty()) else { continue };
            let columns = [vec![reference.position], own.schema().key_positions()].concat();
            let mut rows = own.scan(Some(columns));
            while let Some(batch) = rows.try_next().await? {
                let (refers, key) = batch.columns().split_at(1);
                for (target, key) in reference.keys_of(&refers[0])?.into_iter().zip(digests.keys_of_columns(key)?) {
                    if target.is_some_and(|target| keys.contains(&target)) {
                        found.insert(key);
                    }
                }
            }
        }
        Ok(found)
    }

    /// For each row the column and test that it fails; none where every dimension row is there.
    pub(super) async fn test(
        &mut self,
        rows: &RecordBatch,
        key: impl Fn(usize) -> String,
    ) -> Result<Vec<Option<(String, String)>>> {
        let mut why = vec![None; rows.num_rows()];
        for reference in self.list.iter_mut().filter(|_| rows.num_rows() > 0) {
            let values = reference.keys(rows)?;
            reference.look_for(&values).await?;
            for (row, (slot, value)) in why.iter_mut().zip(values).enumerate() {
                let Some(value) = value else { continue };
                if !reference.known.contains(&value)? {
                    reference.test.fails(slot, || key(row));
                }
            }
        }
        Ok(why)
    }

    /// Each test with whether it only warns, and the rows that failed it.
    pub(super) fn found(&self) -> impl Iterator<Item = (&str, bool, &RefusedRows)> {
        self.list.iter().map(|reference| reference.test.found())
    }
}

impl Reference {
    /// Finds out which of these keys have a row: a few by asking for them, more by reading all keys.
    async fn look_for(&mut self, values: &[Option<KeyDigest>]) -> Result<()> {
        if self.looked > LOOKED_FOR {
            return Ok(());
        }
        let mut open: HashSet<KeyDigest> = HashSet::new();
        for key in values.iter().flatten() {
            if !self.known.contains(key)? {
                open.insert(*key);
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        self.looked += 1;
        if self.looked <= LOOKED_FOR {
            let found = self.state.find(&open).await?;
            let mut found = found.into_keys().filter(|key| !self.refused.contains(key));
            return found.try_for_each(|key| self.known.insert(key).map(|_| ()));
        }
        let mut known = Keys::empty(&self.spill);
        let mut keys = self.state.scan(Some(self.state.schema().key_positions()));
        while let Some(batch) = keys.try_next().await? {
            // A state has each key once.
            let mut keys = self.digests.keys_of_key_batch(&batch)?.into_iter();
            keys.try_for_each(|key| known.add_before(key, RowDigest([0; 16])))?;
        }
        known.complete()?;
        self.known = known;
        Ok(())
    }

    /// The key that each row refers to; none where it refers to none, or to a value that is no key of that type.
    fn keys(&self, rows: &RecordBatch) -> Result<Vec<Option<KeyDigest>>> {
        self.keys_of(rows.column(self.position))
    }

    fn keys_of(&self, column: &ArrayRef) -> Result<Vec<Option<KeyDigest>>> {
        keys_of(&self.digests, &self.key_type, column)
    }
}

/// The key of this type that each value refers to; none where it is null, or no key of that type.
pub(super) fn keys_of(digests: &Digests, key_type: &DataType, column: &ArrayRef) -> Result<Vec<Option<KeyDigest>>> {
    let column = match column.data_type() == key_type {
        true => Arc::clone(column),
        false => match cast(column, key_type) {
            Ok(cast) => cast,
            // Types that do not go together are the warehouse's to judge.
            Err(_) => return Ok(vec![None; column.len()]),
        },
    };
    let keys = digests.keys_of_columns(&[Arc::clone(&column)])?;
    Ok(keys.into_iter().enumerate().map(|(row, key)| column.is_valid(row).then_some(key)).collect())
}

/// The column and the model of a test `relationships`.
pub(super) fn pair(test: &ModelTest) -> Option<(&str, &str)> {
    let (column, target) = test.arguments.split_once("->").filter(|_| test.name == "relationships")?;
    Some((column.trim(), target.trim()))
}
