//! Tests of a model's header that single rows can fail, run over the rows that a run is about to write.
//!
//! | test | a row fails where |
//! | --- | --- |
//! | `not_null(column)` | the column is null |
//! | `accepted_values(column: a, b)` | the column is neither null nor one of the listed values |
//! | `relationships(column -> seed)` | the column is not null and its value is not in the seed's column of that name |
//!
//! `unique` and a relationship to another model need more than one row, and more than this model: transform knows them.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use starlift_core::model::{Model, ModelTest};
use starlift_core::refused::RefusedRows;
use starlift_core::{Error, Result, TableSchema};

use crate::key_texts::KeyTexts;

/// The seeds of a session by name.
pub(crate) type Seeds = BTreeMap<String, RecordBatch>;

/// One test that single rows can fail.
#[derive(Debug, Clone)]
pub(crate) struct RowTest {
    text: String,
    warns: bool,
    column: String,
    position: usize,
    /// The values that pass besides null; none means that all pass but null.
    accepted: Option<BTreeSet<String>>,
}

/// The tests of a model's header that single rows can fail.
///
/// Errors: Config for a test that names a column which the model or the seed does not have.
pub(crate) fn row_tests(model: &Model, schema: &TableSchema, seeds: &Seeds) -> Result<Vec<RowTest>> {
    let mut found = Vec::new();
    for test in &model.header.tests {
        let text = test.text();
        let position = |column: &str| {
            let position = schema.columns.iter().position(|known| known.name == column);
            position.ok_or_else(|| bad(model, &text, format!("the model yields no column `{column}`")))
        };
        let Some((column, accepted)) = subject(test, seeds).map_err(|detail| bad(model, &text, detail))? else {
            // A test that others run needs its column no less.
            position(test.arguments.split("->").next().unwrap_or_default().trim())?;
            continue;
        };
        let position = position(column)?;
        found.push(RowTest { text, warns: test.warns, column: column.to_string(), position, accepted });
    }
    Ok(found)
}

/// The column of a test and the values that pass; nothing where the test is not about single rows.
type Subject<'a> = Option<(&'a str, Option<BTreeSet<String>>)>;

fn subject<'a>(test: &'a ModelTest, seeds: &Seeds) -> Result<Subject<'a>, String> {
    Ok(match test.name.as_str() {
        "not_null" => Some((test.arguments.as_str(), None)),
        "accepted_values" => {
            let form = "write it as `accepted_values(column: one, another)`";
            let (column, values) = test.arguments.split_once(':').ok_or(form)?;
            Some((column.trim(), Some(values.split(',').map(|value| value.trim().to_string()).collect())))
        }
        "relationships" => match test.arguments.split_once("->") {
            Some((column, seed)) => match seeds.get(seed.trim()) {
                Some(rows) => {
                    let column = column.trim();
                    let known = rows.column_by_name(column).and_then(|values| values.as_string_opt::<i32>());
                    let known = known.ok_or_else(|| format!("seed `{}` has no column `{column}`", seed.trim()))?;
                    Some((column, Some(known.iter().flatten().map(str::to_string).collect())))
                }
                None => None,
            },
            None => None,
        },
        _ => None,
    })
}

fn bad(model: &Model, test: &str, detail: impl Into<String>) -> Error {
    Error::config(format!("test `{test}` of model `{}` cannot be run", model.name))
        .with_detail(detail)
        .with_hint(format!("mend the line `-- tests:` of `{}.sql`", model.name))
        .with_context("model", model.name.clone())
}

/// The tests of a model that single rows can fail, with what they found so far.
#[derive(Debug, Clone)]
pub struct RowTests {
    tests: Vec<RowTest>,
    schema: TableSchema,
    rows: u64,
    failed: Vec<RefusedRows>,
}

/// Why a row is refused: the column of a test that it failed, and the test as the header has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedTest<'a> {
    /// The column.
    pub column: &'a str,
    /// The test.
    pub test: &'a str,
}

/// What one test found.
#[derive(Debug, Clone, Copy)]
pub struct TestFound<'a> {
    /// The test as the header has it.
    pub test: &'a str,
    /// Whether rows that fail it are only counted.
    pub warns: bool,
    /// Rows that failed it, with the keys of a few.
    pub failed: &'a RefusedRows,
}

impl RowTests {
    pub(crate) fn new(tests: Vec<RowTest>, schema: &TableSchema) -> RowTests {
        RowTests { schema: schema.clone(), rows: 0, failed: vec![RefusedRows::default(); tests.len()], tests }
    }

    /// Rows that were tested so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// What each test found so far, in the order of the header.
    pub fn found<'a>(&'a self) -> impl Iterator<Item = TestFound<'a>> {
        let of =
            |(test, failed): (&'a RowTest, &'a RefusedRows)| TestFound { test: &test.text, warns: test.warns, failed };
        self.tests.iter().zip(&self.failed).map(of)
    }

    /// Tests rows with the model's columns. For each the first test that refuses it, none where it passes.
    pub fn check(&mut self, batch: &RecordBatch) -> Vec<Option<FailedTest<'_>>> {
        self.rows += batch.num_rows() as u64;
        let keys = KeyTexts::new(&self.schema, batch.columns());
        let mut refusing: Vec<Option<usize>> = vec![None; batch.num_rows()];
        for (number, (test, found)) in self.tests.iter().zip(&mut self.failed).enumerate() {
            let Some(column) = batch.columns().get(test.position) else { continue };
            for row in failing(test, column) {
                found.count(&test.column, &test.text, || keys.of(row));
                if let Some(slot) = refusing.get_mut(row).filter(|_| !test.warns) {
                    slot.get_or_insert(number);
                }
            }
        }
        let of = |number: usize| {
            let test = self.tests.get(number)?;
            Some(FailedTest { column: &test.column, test: &test.text })
        };
        refusing.into_iter().map(|number| number.and_then(of)).collect()
    }
}

/// The rows of a column that fail a test.
fn failing(test: &RowTest, column: &ArrayRef) -> Vec<usize> {
    let rows = 0..column.len();
    match &test.accepted {
        None if column.null_count() == 0 => Vec::new(),
        None => rows.filter(|row| column.is_null(*row)).collect(),
        Some(accepted) => {
            let form = FormatOptions::new();
            let Ok(texts) = ArrayFormatter::try_new(column.as_ref(), &form) else { return Vec::new() };
            let passes = |row: usize| texts.value(row).try_to_string().is_ok_and(|text| accepted.contains(&text));
            rows.filter(|row| column.is_valid(*row) && !passes(*row)).collect()
        }
    }
}
