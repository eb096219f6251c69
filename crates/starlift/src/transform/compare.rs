//! What a model yields, compared with its state before: rows that are new or differ are tested and written, refused ones
//! stand aside, keys that vanished are retracted.

use std::collections::{BTreeMap, HashSet};

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use starlift_core::manifest::{FileMode, Relation, RelationRun};
use starlift_core::model::Model;
use starlift_core::refused::RefusedRows;
use starlift_core::{Error, Result, TableSchema, fault};
use starlift_lake::{
    Difference, FileWriter, Gone, KeyDigest, Keys, Quarantine, State, WriterOptions, key_text, tombstones,
};
use starlift_models::RowTests;

use super::STAGE;
use super::evaluate::{Before, Run};
use super::own_references::OwnReferences;
use super::references::References;
use super::rows::{Rows, Why, Yielded, set_aside, without_values};
use super::unique::Unique;
use crate::count;
use crate::encoders::Encoders;

/// What one model came to.
pub(super) struct Compared {
    /// Rows of its state from now on, refused ones included.
    pub(super) rows: u64,
    pub(super) replaced: bool,
    pub(super) run: RelationRun,
    pub(super) quarantine: Quarantine,
    /// Rows that were tested.
    pub(super) tested: u64,
    /// Tests that rows failed.
    pub(super) failed: BTreeMap<String, RefusedRows>,
    warned: Vec<String>,
    /// Rows that are inferred members.
    members: RefusedRows,
}

impl Compared {
    /// What tests that only warn found.
    pub(super) fn warnings(&self, model: &str) -> Vec<String> {
        let line = |test: &String| {
            let failed = self.failed.get(test)?;
            let keys: Vec<&str> = failed.groups().flat_map(|group| &group.examples).map(String::as_str).collect();
            let more = if failed.rows() > keys.len() as u64 { "; …" } else { "" };
            let rows = count::with(failed.rows(), "row");
            Some(format!("model `{model}`: {rows} failed {test} ({}{more})", keys.join("; ")))
        };
        let members = self.members.rows();
        let inferred = (members > 0).then(|| {
            let are = if members == 1 { "is an inferred member" } else { "are inferred members" };
            format!("model `{model}`: {} {are}: {}", count::with(members, "row"), self.members.summary())
        });
        self.warned.iter().filter_map(line).chain(inferred).collect()
    }
}

/// The tests of one model.
struct Tests {
    rows: Option<RowTests>,
    references: References,
    own: OwnReferences,
    unique: Unique,
}

impl Tests {
    /// For each row the column and test that it fails; none where it passes.
    async fn of(&mut self, schema: &TableSchema, rows: &RecordBatch) -> Result<Vec<Option<Why>>> {
        let mut why: Vec<Option<(String, String)>> = vec![None; rows.num_rows()];
        if let Some(tests) = &mut self.rows {
            for (slot, failed) in why.iter_mut().zip(tests.check(rows)) {
                *slot = failed.map(|failed| (failed.column.to_string(), failed.test.to_string()));
            }
        }
        let keys = rows.project(&schema.key_positions()).map_err(bug)?;
        let key = |row: usize| key_text(schema, &keys, row);
        let unique = self.unique.test(rows, key)?;
        let own = self.own.test(rows, key)?;
        let references = self.references.test(rows, key).await?;
        for (slot, ((unique, own), reference)) in why.iter_mut().zip(unique.into_iter().zip(own).zip(references)) {
            *slot = slot.take().or(unique).or(own).or(reference);
        }
        Ok(why.into_iter().map(|why| why.map(|(column, test)| (column, format!("it fails {test}")))).collect())
    }

    fn found(&self) -> Vec<(String, bool, RefusedRows)> {
        let of_rows = self.rows.iter().flat_map(RowTests::found).map(|found| (found.test, found.warns, found.failed));
        let all = of_rows.chain(self.references.found()).chain(self.own.found()).chain(self.unique.found());
        all.filter(|(.., failed)| failed.rows() > 0).map(|(test, w, f)| (test.to_string(), w, f.clone())).collect()
    }
}

impl Run<'_> {
    /// Writes the rows that are new or differ, those that are refused, and the keys that vanished.
    ///
    /// Where the columns changed, every row is written as a new base, and vanished keys are found among the old ones. Where
    /// the key itself changed there is nothing to compare: a new base makes load take the model's table over. `only` are the
    /// keys that were evaluated, where these are not all; the columns are then those of the state.
    pub(super) async fn compare(
        &self,
        model: &Model,
        rows: &mut Rows,
        schema: &TableSchema,
        own: Option<&Relation>,
        before: &Before,
        only: Option<&HashSet<KeyDigest>>,
    ) -> Result<Compared> {
        let old_schema = own.map(|r| &r.schema);
        let replaced = old_schema != Some(schema);
        let same_key = old_schema.is_some_and(|old| old.key_to_arrow() == schema.key_to_arrow());
        let state = State::new(self.star, old_schema.unwrap_or(schema).clone(), self.star_head.live_of(&model.name))?;
        let known = match only {
            Some(keys) => Keys::before(self.star.spill(), state.find(keys).await?)?,
            None if same_key => state.index().await?,
            None => Keys::empty(self.star.spill()),
        };
        let mut difference = Difference::new(&model.name, schema.clone(), known)?;
        let standing = Quarantine::of(&state).await?;
        let mut quarantine = if replaced { standing.replacing(schema)? } else { standing };
        let (project, states) = (&self.ctx.project, &before.states);
        let mut tests = Tests {
            rows: rows.tests(),
            references: References::of(project, model, schema, self.star, states, &before.refused)?,
            own: OwnReferences::of(model, rows, self.star.spill()).await?,
            unique: Unique::of(model, rows, self.star.spill()).await?,
        };

        let mode = if replaced { FileMode::Full } else { FileMode::Window };
        let mut writer = Encoders::start(vec![self.writer(&model.name, schema.to_arrow(), mode)?]);
        let mut refused = self.writer(&model.name, schema.refused_to_arrow(), FileMode::Refused)?;
        let (mut count, mut bytes, mut tested) = (0, 0, 0);
        let mut members = RefusedRows::default();
        while let Some(Yielded { good, refused: unreadable, inferred }) = rows.next(&model.name).await? {
            let good = with_members(schema, good, inferred, &mut members)?;
            let size = good.get_array_memory_size() as u64;
            let here = (good.num_rows() + unreadable.as_ref().map_or(0, RecordBatch::num_rows)) as u64;
            self.ctx.progress.advanced(STAGE, &model.name, here, size);
            count += here;
            bytes += size;
            fault::point("transform.mid_model");
            if let Some(unreadable) = &unreadable {
                difference.refuse(unreadable)?;
                refused.write(&quarantine.take(unreadable)?).await?;
            }
            let (good, waiting) = self.waiting(&tests, schema, good)?;
            if let Some(waiting) = &waiting {
                difference.refuse(waiting)?;
                refused.write(&quarantine.take_waiting(waiting)?).await?;
            }
            let good = match model.header.infers {
                // Before they are compared: what is stored is the member, not the row that it stands for.
                true => {
                    tested += good.num_rows() as u64;
                    let why = tests.of(schema, &good).await?;
                    members_of(schema, good, why, &mut members)?
                }
                false => good,
            };
            quarantine.passed(&good)?;
            let new = difference.push(&good)?;
            let candidates = if replaced { good } else { new };
            let (passed, failed) = match model.header.infers {
                true => (candidates, None),
                false => {
                    tested += candidates.num_rows() as u64;
                    let why = tests.of(schema, &candidates).await?;
                    self.split(schema, candidates, why)?
                }
            };
            writer.write(&passed).await?;
            if let Some(failed) = &failed {
                refused.write(&quarantine.take(failed)?).await?;
            }
        }
        let new_keys = difference.new_keys();
        let mut unseen = Gone::of(difference.into_keys())?;
        let gone = unseen.len();
        quarantine.gone(&mut unseen)?;
        // Before files are finished: what is not committed should not be written either.
        self.allowance.take(&model.name, quarantine.new_rows(), || too_many(&model.name, quarantine.new_rows()))?;
        let files = writer.finish().await?;
        let refused = refused.finish().await?;
        fault::point("transform.rows_written");
        let mut deleted = Vec::new();
        // Days that leave the calendar's settings go too: models read what the settings say, and load takes no day away.
        if !unseen.is_empty() {
            let mut writer = self.writer(&model.name, schema.key_to_arrow(), FileMode::Deleted)?;
            let mut keys = tombstones(&state, unseen);
            while let Some(batch) = keys.try_next().await? {
                writer.write(&batch).await?;
            }
            deleted = writer.finish().await?;
            fault::point("transform.retractions_written");
        }
        let rows = match only {
            Some(_) => (own.map_or(0, |own| own.rows) + new_keys).saturating_sub(gone),
            None => count,
        };
        let found = tests.found();
        let warned = found.iter().filter(|(_, warns, _)| *warns).map(|(test, ..)| test.clone()).collect();
        let failed = found.into_iter().map(|(test, _, failed)| (test, failed)).collect();
        let run =
            RelationRun { rows_read: count, bytes_read: bytes, files, deleted, refused, ..RelationRun::default() };
        Ok(Compared { rows, replaced, run, quarantine, tested, failed, warned, members })
    }

    /// Good rows, and those that wait for a row that stands aside.
    fn waiting(
        &self,
        tests: &Tests,
        schema: &TableSchema,
        rows: RecordBatch,
    ) -> Result<(RecordBatch, Option<RecordBatch>)> {
        let why = tests.references.waiting(&rows)?;
        let why = why.into_iter().map(|why| why.map(|(column, reason)| (column.to_string(), reason))).collect();
        self.split(schema, rows, why)
    }

    /// Parts rows without a reason from those with one.
    fn split(
        &self,
        schema: &TableSchema,
        rows: RecordBatch,
        why: Vec<Option<Why>>,
    ) -> Result<(RecordBatch, Option<RecordBatch>)> {
        if why.iter().all(Option::is_none) {
            return Ok((rows, None));
        }
        let good: BooleanArray = why.iter().map(|why| Some(why.is_none())).collect();
        let aside: BooleanArray = why.iter().map(|why| Some(why.is_some())).collect();
        let reasons: Vec<(&str, String)> =
            why.iter().flatten().map(|(column, reason)| (column.as_str(), reason.clone())).collect();
        let aside = filter_record_batch(&rows, &aside).map_err(bug)?;
        let aside = set_aside(schema, &aside, &reasons, self.ctx.config.quarantine.keep_values)?;
        Ok((filter_record_batch(&rows, &good).map_err(bug)?, Some(aside)))
    }

    fn writer(&self, name: &str, schema: SchemaRef, mode: FileMode) -> Result<FileWriter> {
        FileWriter::new(self.star, name, self.at, schema, mode, WriterOptions::default())
    }
}

/// Good rows, and those that the evaluation already made inferred members of.
fn with_members(
    schema: &TableSchema,
    good: RecordBatch,
    inferred: Option<(RecordBatch, Vec<Why>)>,
    members: &mut RefusedRows,
) -> Result<RecordBatch> {
    let Some((rows, why)) = inferred else { return Ok(good) };
    count_members(schema, &rows, why.iter().map(|(column, reason)| Some((column.as_str(), reason.as_str()))), members)?;
    concat_batches(&schema.to_arrow(), [&good, &rows]).map_err(bug)
}

/// Rows with inferred members in place of those that are refused.
fn members_of(
    schema: &TableSchema,
    rows: RecordBatch,
    why: Vec<Option<Why>>,
    members: &mut RefusedRows,
) -> Result<RecordBatch> {
    if why.iter().all(Option::is_none) {
        return Ok(rows);
    }
    count_members(schema, &rows, why.iter().map(|w| w.as_ref().map(|(c, r)| (c.as_str(), r.as_str()))), members)?;
    let columns: Vec<(&str, String)> =
        why.iter().map(|why| why.as_ref().map_or(("", String::new()), |(c, r)| (c.as_str(), r.clone()))).collect();
    without_values(schema, &rows, &columns).ok_or_else(|| {
        Error::data("a refused row cannot be an inferred member")
            .with_detail("the value that is refused is part of its key, or its column takes no null")
            .with_hint("remove the line `-- refused: inferred` of the model, and such rows stand aside")
    })
}

fn count_members<'a>(
    schema: &TableSchema,
    rows: &RecordBatch,
    why: impl Iterator<Item = Option<(&'a str, &'a str)>>,
    members: &mut RefusedRows,
) -> Result<()> {
    let keys = rows.project(&schema.key_positions()).map_err(bug)?;
    for (row, why) in why.enumerate() {
        if let Some((column, reason)) = why {
            members.count(column, reason, || key_text(schema, &keys, row));
        }
    }
    Ok(())
}

fn bug(error: arrow::error::ArrowError) -> Error {
    Error::internal("rows cannot be filtered").with_source(error)
}

fn too_many(model: &str, refused: &RefusedRows) -> Error {
    let rows = refused.rows();
    Error::data(format!("model `{model}` refuses {rows} row{}", if rows == 1 { "" } else { "s" }))
        .with_detail(refused.summary())
        .with_hint(
            "mend these rows in the source and run again, or go on without them: `starlift quarantine accept`; nothing was \
             committed and nothing is lost",
        )
        .with_context("model", model)
}
