//! Tests of a model's header that single rows can fail, run over the rows that a run is about to write.
//!
//! | test | a row fails where |
//! | --- | --- |
//! | `not_null(column)` | the column is null |
//! | `accepted_values(column: a, b)` | the column is neither null nor one of the listed values |
//! | `relationships(column -> seed)` | the column is not null and its value is not in the seed's column of that name |
//!
//! Values are compared by their texts, those of decimals and floats as numbers: `20` is the `20.0000000000` of a numeric.
//!
//! `unique` and a relationship to another model need more than one row, and more than this model: transform knows them.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use starlift_core::model::{Model, ModelTest};
use starlift_core::refused::RefusedRows;
use starlift_core::{ColumnType, Error, Result, TableSchema};

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
    column_type: ColumnType,
    /// The values that pass besides null, in their [`form`]; none means that all pass but null.
    accepted: Option<BTreeSet<String>>,
}

/// The tests of a model's header that single rows can fail.
///
/// Errors: Config for a test that names a column which the model or the seed does not have, or that lists what is no number for a
/// decimal or a float.
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
        let column_type = schema.columns.get(position).map_or(ColumnType::Text, |known| known.column_type.clone());
        let accepted = match accepted {
            Some(values) => Some(forms(&column_type, values).map_err(|detail| bad(model, &text, detail))?),
            None => None,
        };
        found.push(RowTest { text, warns: test.warns, column: column.to_string(), position, column_type, accepted });
    }
    Ok(found)
}

/// The column of a test and the values that pass; nothing where the test is not about single rows.
type Subject<'a> = Option<(&'a str, Option<Values>)>;

/// The values that pass, as they are written.
enum Values {
    /// In a header.
    Listed(Vec<String>),
    /// In a seed, all of whose values are texts.
    Seed(Vec<String>),
}

fn subject<'a>(test: &'a ModelTest, seeds: &Seeds) -> Result<Subject<'a>, String> {
    Ok(match test.name.as_str() {
        "not_null" => Some((test.arguments.as_str(), None)),
        "accepted_values" => {
            let form = "write it as `accepted_values(column: one, another)`";
            let (column, values) = test.arguments.split_once(':').ok_or(form)?;
            Some((
                column.trim(),
                Some(Values::Listed(values.split(',').map(|value| value.trim().to_string()).collect())),
            ))
        }
        "relationships" => match test.arguments.split_once("->") {
            Some((column, seed)) => match seeds.get(seed.trim()) {
                Some(rows) => {
                    let column = column.trim();
                    let known = rows.column_by_name(column).and_then(|values| values.as_string_opt::<i32>());
                    let known = known.ok_or_else(|| format!("seed `{}` has no column `{column}`", seed.trim()))?;
                    Some((column, Some(Values::Seed(known.iter().flatten().map(str::to_string).collect()))))
                }
                None => None,
            },
            None => None,
        },
        _ => None,
    })
}

/// The forms of the values that pass. A seed may have values that are none of the column's.
fn forms(column_type: &ColumnType, values: Values) -> Result<BTreeSet<String>, String> {
    match values {
        Values::Seed(values) => Ok(values.iter().filter_map(|value| form(column_type, value)).collect()),
        Values::Listed(values) => {
            let no_number = |value: &str| format!("`{value}` is no number, and the model yields {column_type}");
            values.iter().map(|value| form(column_type, value).ok_or_else(|| no_number(value))).collect()
        }
    }
}

/// The text by which a value is compared, the same for equal values; none for one that a column of this type cannot hold.
fn form(column_type: &ColumnType, text: &str) -> Option<String> {
    match column_type {
        ColumnType::Numeric { .. } => decimal(text),
        // The zero that is added makes -0 a plain 0.
        ColumnType::Float4 => text.parse().ok().map(|value: f32| (value + 0.0).to_string()),
        ColumnType::Float8 => text.parse().ok().map(|value: f64| (value + 0.0).to_string()),
        _ => Some(text.to_string()),
    }
}

/// A decimal without zeros that say nothing: `-0.5`, `10`, `0`.
fn decimal(text: &str) -> Option<String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut all = whole.bytes().chain(fraction.bytes()).peekable();
    if all.peek().is_none() || !all.all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    Some(match (whole.trim_start_matches('0'), fraction.trim_end_matches('0')) {
        ("", "") => "0".into(),
        ("", fraction) => format!("{sign}0.{fraction}"),
        (whole, "") => format!("{sign}{whole}"),
        (whole, fraction) => format!("{sign}{whole}.{fraction}"),
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
            let options = FormatOptions::new();
            let Ok(texts) = ArrayFormatter::try_new(column.as_ref(), &options) else { return Vec::new() };
            let form_of = |row: usize| form(&test.column_type, &texts.value(row).try_to_string().ok()?);
            let passes = |row: usize| form_of(row).is_some_and(|form| accepted.contains(&form));
            rows.filter(|row| column.is_valid(*row) && !passes(*row)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_form() {
        let decimal = ColumnType::Numeric { precision: 38, scale: 10 };
        for (text, expected) in [
            ("20", Some("20")),
            ("20.0000000000", Some("20")),
            ("+020.50", Some("20.5")),
            (".5", Some("0.5")),
            ("-0.0", Some("0")),
            ("-0.50", Some("-0.5")),
            ("", None),
            (".", None),
            ("1e3", None),
            ("2\u{664}", None),
        ] {
            assert_eq!(form(&decimal, text).as_deref(), expected, "{text}");
        }
        for (text, expected) in [("20", Some("20")), ("2e1", Some("20")), ("-0.0", Some("0")), ("x", None)] {
            assert_eq!(form(&ColumnType::Float8, text).as_deref(), expected, "{text}");
        }
        assert_eq!(form(&ColumnType::Float4, "0.1"), form(&ColumnType::Float4, "0.10"));
        assert_eq!(form(&ColumnType::Text, "20.0").as_deref(), Some("20.0"));
    }
}
