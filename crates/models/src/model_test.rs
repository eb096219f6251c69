//! Tests of a model's header, run over the rows that it yields as they pass.
//!
//! | test | a row fails where |
//! | --- | --- |
//! | `not_null(column)` | the column is null |
//! | `accepted_values(column: a, b)` | the column is neither null nor one of the listed values |
//! | `relationships(column -> seed)` | the column is not null and its value is not in the seed's column of that name |
//!
//! `unique` is what the comparison by key finds, and a relationship to another model is what load checks: both need more
//! than one row at a time. A failed test does not refuse its row.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use starlift_core::model::{Model, ModelTest};
use starlift_core::{Error, Result, TableSchema};

use crate::refusal::Refusals;

/// The seeds of a session by name.
pub(crate) type Seeds = BTreeMap<String, RecordBatch>;

/// A test that some rows failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedTest {
    /// The test as the header has it, such as `relationships(currency_code -> currency_names)`.
    pub test: String,
    /// How many rows failed it.
    pub rows: u64,
    /// The keys of the first of them, at most [`Refusals::EXAMPLES`].
    pub examples: Vec<String>,
}

/// One test that single rows can fail.
#[derive(Debug)]
pub(crate) struct RowTest {
    text: String,
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
        let text = format!("{}({})", test.name, test.arguments);
        let Some((column, accepted)) = subject(test, seeds).map_err(|detail| bad(model, &text, detail))? else {
            continue;
        };
        let position = schema
            .columns
            .iter()
            .position(|known| known.name == column)
            .ok_or_else(|| bad(model, &text, format!("the model yields no column `{column}`")))?;
        found.push(RowTest { text, position, accepted });
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

/// What each test of a model found so far.
#[derive(Debug, Default)]
pub(crate) struct TestResults(Vec<FailedTest>);

impl TestResults {
    /// The tests that failed, in the order in which they first did.
    pub(crate) fn failed(&self) -> &[FailedTest] {
        &self.0
    }

    /// Runs tests over good rows; `key` gives the text of a row's key.
    pub(crate) fn check(&mut self, tests: &[RowTest], columns: &[ArrayRef], key: impl Fn(usize) -> String) {
        for test in tests {
            let Some(column) = columns.get(test.position) else { continue };
            match &test.accepted {
                None if column.null_count() == 0 => {}
                None => {
                    for row in (0..column.len()).filter(|row| column.is_null(*row)) {
                        self.count(&test.text, || key(row));
                    }
                }
                Some(accepted) => {
                    let form = FormatOptions::new();
                    let Ok(texts) = ArrayFormatter::try_new(column.as_ref(), &form) else { continue };
                    for row in (0..column.len()).filter(|row| column.is_valid(*row)) {
                        let passes = texts.value(row).try_to_string().is_ok_and(|text| accepted.contains(&text));
                        if !passes {
                            self.count(&test.text, || key(row));
                        }
                    }
                }
            }
        }
    }

    fn count(&mut self, test: &str, key: impl FnOnce() -> String) {
        let position = self.0.iter().position(|failed| failed.test == test).unwrap_or_else(|| {
            self.0.push(FailedTest { test: test.to_string(), rows: 0, examples: Vec::new() });
            self.0.len() - 1
        });
        if let Some(failed) = self.0.get_mut(position) {
            failed.rows += 1;
            if failed.examples.len() < Refusals::EXAMPLES {
                failed.examples.push(key());
            }
        }
    }
}
