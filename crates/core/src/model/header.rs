//! The header of a model: comment lines `-- key: value` before the SQL.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};

/// How a model is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelKind {
    /// One row per key, the newest version.
    Dimension,
    /// Every version of a key is kept; the newest is the current one.
    Fact,
    /// Made from the `[calendar]` setting, one row a day.
    Calendar,
}

impl ModelKind {
    /// The word that headers and manifests use.
    pub fn name(self) -> &'static str {
        match self {
            ModelKind::Dimension => "dimension",
            ModelKind::Fact => "fact",
            ModelKind::Calendar => "calendar",
        }
    }

    /// The kind of a word.
    pub fn from_name(name: &str) -> Option<ModelKind> {
        [ModelKind::Dimension, ModelKind::Fact, ModelKind::Calendar].into_iter().find(|k| k.name() == name)
    }
}

/// One entry of `tests:`, such as `relationships(counterparty_id -> dim_counterparty)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelTest {
    /// `not_null`, `unique`, `accepted_values` or `relationships`.
    pub name: String,
    /// What is in its parentheses.
    pub arguments: String,
    /// Whether rows that fail it are only counted, and not refused.
    pub warns: bool,
}

impl ModelTest {
    /// The test as a header has it, without the word `warn`.
    pub fn text(&self) -> String {
        format!("{}({})", self.name, self.arguments)
    }
}

/// What the header of a model says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// How it is loaded.
    pub kind: ModelKind,
    /// The columns that identify a row.
    pub key: Vec<String>,
    /// What must hold of its rows.
    pub tests: Vec<ModelTest>,
    /// Whether a refused row comes as an inferred member, without the refused value, rather than standing aside with the rows
    /// that refer to it. Only a dimension has them (Kimball, "The Data Warehouse Toolkit", late-arriving dimensions).
    pub infers: bool,
    /// What one row stands for, for people.
    pub description: Option<String>,
}

impl Header {
    /// Columns that refer to the key of another model, from the `relationships` tests: column to model.
    pub fn references(&self) -> BTreeMap<String, String> {
        self.relationships().map(|(column, target)| (column.to_string(), target.to_string())).collect()
    }

    /// Every model and seed that a `relationships` test refers to, also where one column has several.
    pub fn referred(&self) -> BTreeSet<&str> {
        self.relationships().map(|(_, target)| target).collect()
    }

    fn relationships(&self) -> impl Iterator<Item = (&str, &str)> {
        let tests = self.tests.iter().filter(|test| test.name == "relationships");
        tests.filter_map(|test| test.arguments.split_once("->")).map(|(column, target)| (column.trim(), target.trim()))
    }
}

/// The key that every calendar has, because its rows are made by us.
const CALENDAR_KEY: &str = "date_id";
const KEYS: &str = "`kind`, `key`, `tests`, `refused` and `description`";
const TESTS: [&str; 4] = ["not_null", "unique", "accepted_values", "relationships"];

/// Splits a model file into its header and its SQL.
pub(super) fn parse(model: &str, text: &str) -> Result<(Header, String)> {
    let mut fields: BTreeMap<&str, String> = BTreeMap::new();
    let mut sql_start = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        if !trimmed.is_empty() && !trimmed.starts_with("--") {
            break;
        }
        sql_start += line.len();
        let Some((name, value)) = trimmed.trim_start_matches('-').trim().split_once(':') else { continue };
        let name = name.trim();
        // A comment such as `-- Note: …` is prose; a header key is one lower-case word.
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            continue;
        }
        if !["kind", "key", "tests", "refused", "description"].contains(&name) {
            return Err(bad(model, format!("unknown key `{name}`"), format!("a header has {KEYS}")));
        }
        if fields.insert(name, value.trim().to_string()).is_some() {
            return Err(bad(model, format!("`{name}` is given twice"), format!("keep one line `-- {name}: …`")));
        }
    }
    let sql = text[sql_start..].trim().trim_end_matches(';').trim_end().to_string();
    let kind = match fields.get("kind").map(String::as_str) {
        Some(word) => ModelKind::from_name(word).ok_or_else(|| {
            bad(model, format!("unknown kind `{word}`"), "a kind is `dimension`, `fact` or `calendar`".into())
        })?,
        None => {
            return Err(bad(
                model,
                "it has no kind".into(),
                "start the file with `-- kind: dimension` or `-- kind: fact`".into(),
            ));
        }
    };
    let key: Vec<String> = fields.get("key").map(|value| names(value)).unwrap_or_default();
    if kind == ModelKind::Calendar && key != [CALENDAR_KEY] {
        return Err(bad(
            model,
            format!("the key of a calendar is `{CALENDAR_KEY}`"),
            format!("write `-- key: {CALENDAR_KEY}`"),
        ));
    }
    if key.is_empty() {
        return Err(bad(
            model,
            "it has no key".into(),
            "name the columns that identify a row: `-- key: order_id`".into(),
        ));
    }
    let tests = tests(model, fields.get("tests").map_or("", String::as_str))?;
    let infers = match fields.get("refused").map(String::as_str) {
        None | Some("aside") => false,
        Some("inferred") if kind == ModelKind::Dimension => true,
        Some("inferred") => {
            let hint = "only a dimension can have inferred members: remove the line `-- refused: inferred`".to_string();
            return Err(bad(model, "it is no dimension".into(), hint));
        }
        Some(word) => {
            let hint = "refused rows are kept `aside` or become `inferred` members".to_string();
            return Err(bad(model, format!("unknown word `{word}` for refused rows"), hint));
        }
    };
    Ok((Header { kind, key, tests, infers, description: fields.get("description").cloned() }, sql))
}

/// A calendar is made from settings alone.
pub(super) fn no_sql(model: &str, sql: &str) -> Result<()> {
    if sql.is_empty() {
        return Ok(());
    }
    Err(bad(model, "a calendar has no SQL".into(), "remove the query, or use `-- kind: dimension`".into()))
}

fn tests(model: &str, text: &str) -> Result<Vec<ModelTest>> {
    let mut tests = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let form = || {
            let example = "write tests as `not_null(price), relationships(customer_id -> dim_customer)`";
            bad(model, "its tests cannot be read".into(), example.into())
        };
        let (name, tail) = rest.split_once('(').ok_or_else(form)?;
        let (arguments, tail) = tail.split_once(')').ok_or_else(form)?;
        let name = name.trim();
        if !TESTS.contains(&name) {
            return Err(bad(model, format!("unknown test `{name}`"), format!("a test is one of {}", TESTS.join(", "))));
        }
        if name == "relationships" && !arguments.contains("->") {
            return Err(form());
        }
        let tail = tail.trim_start();
        let (warns, tail) = match tail.strip_prefix("warn") {
            Some(after) if after.trim_start().is_empty() || after.trim_start().starts_with(',') => (true, after),
            _ => (false, tail),
        };
        let arguments = with_plain_column(name, arguments.trim());
        tests.push(ModelTest { name: name.to_string(), arguments, warns });
        rest = tail.trim_start().trim_start_matches(',').trim_start();
    }
    Ok(tests)
}

/// The names of a list; a comma within quotes is part of a name.
fn names(list: &str) -> Vec<String> {
    let mut is_quoted = false;
    let parts = list.split(|c: char| {
        is_quoted ^= c == '"';
        c == ',' && !is_quoted
    });
    parts.map(|part| unquoted(part.trim())).filter(|name| !name.is_empty()).collect()
}

/// What is in the parentheses of a test, its column without quotes.
fn with_plain_column(test: &str, arguments: &str) -> String {
    let end = match test {
        "accepted_values" => arguments.find(':'),
        "relationships" => arguments.find("->"),
        _ => None,
    };
    let (column, others) = arguments.split_at(end.unwrap_or(arguments.len()));
    let space = if others.starts_with("->") { " " } else { "" };
    match column.starts_with('"') {
        true => format!("{}{space}{others}", unquoted(column.trim_end())).trim_end().to_string(),
        false => arguments.to_string(),
    }
}

/// A name, which may stand in quotes as it does in SQL.
fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_string(),
    }
}

fn bad(model: &str, detail: String, hint: String) -> Error {
    Error::config(format!("the header of model `{model}` cannot be used"))
        .with_detail(detail)
        .with_hint(hint)
        .with_context("model", model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_stand_in_quotes_as_in_sql() {
        let text = "-- kind: fact\n-- key: id, \"Order, \"\"no\"\"\", \"x\"\n\
                    -- tests: not_null(\"Größe\"), relationships(\"a b\"->dim_a), accepted_values(\"c d\": 1, 2), unique(id)\nselect 1";
        let (header, _) = parse("m", text).unwrap();
        assert_eq!(header.key, ["id", "Order, \"no\"", "x"]);
        let tests: Vec<String> = header.tests.iter().map(ModelTest::text).collect();
        assert_eq!(
            tests,
            ["not_null(Größe)", "relationships(a b ->dim_a)", "accepted_values(c d: 1, 2)", "unique(id)"]
        );
        assert_eq!(header.references()["a b"], "dim_a");
    }

    #[test]
    fn a_calendar_has_the_key_that_its_rows_have() {
        assert_eq!(parse("dim_date", "-- kind: calendar\n-- key: date_id\n").unwrap().0.key, ["date_id"]);
        for text in ["-- kind: calendar\n", "-- kind: calendar\n-- key: day\n"] {
            let error = parse("dim_date", text).unwrap_err();
            assert_eq!(error.hint(), Some("write `-- key: date_id`"));
        }
    }

    #[test]
    fn a_column_may_refer_to_more_than_one() {
        let text = "-- kind: fact\n-- key: id\n-- tests: relationships(code -> codes), relationships(code -> dim_a) warn\nselect 1";
        let (header, _) = parse("m", text).unwrap();
        assert_eq!(header.referred().into_iter().collect::<Vec<_>>(), ["codes", "dim_a"]);
    }
}
