//! What `starlift.toml` says, by itself: the environment and flags that go before it are merged with it by `starlift`.
//!
//! Pure, and without the engine, so that a fuzzer reads it too. No error shows a value of the file: one may be a password.

mod table;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use table::{ColumnSetting, TableConfig};

use crate::drift::DriftPolicy;
use crate::event::printable;
use crate::{Error, Result};

/// The file's name in a project.
pub const FILE: &str = "starlift.toml";

/// The sections of a `starlift.toml`. What the file leaves out is none here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `[pipeline]`, which every file has.
    pub pipeline: PipelineSection,
    /// `[source]`.
    #[serde(default)]
    pub source: SourceSection,
    /// `[lake]`.
    #[serde(default)]
    pub lake: LakeSection,
    /// `[transform]`.
    #[serde(default)]
    pub transform: TransformSection,
    /// `[warehouse]`.
    #[serde(default)]
    pub warehouse: WarehouseSection,
    /// `[calendar]`.
    #[serde(default)]
    pub calendar: CalendarSection,
    /// `[quarantine]`.
    #[serde(default)]
    pub quarantine: QuarantineSection,
}

/// `[pipeline]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineSection {
    /// The pipeline's name; see [`check_pipeline`].
    pub name: String,
}

/// Where a database is. Its `Debug` shows no URL.
#[derive(Default)]
pub struct DatabaseSection {
    /// Its URL.
    pub url: Option<String>,
    /// `file:…`, `env:…`, `aws-secretsmanager:…` or `ssm:…`.
    pub credentials: Option<String>,
    /// The schema that is used in it.
    pub schema: Option<String>,
}

impl std::fmt::Debug for DatabaseSection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let url = self.url.as_ref().map(|_| "***");
        f.debug_struct("DatabaseSection").field("url", &url).field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// `[source]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceSection {
    url: Hidden,
    credentials: Option<String>,
    schema: Option<String>,
    /// The longest that one statement may run, in seconds; 0 for no limit.
    pub statement_timeout_seconds: Option<u64>,
    /// How many connections may read one large table at once.
    pub connections: Option<u16>,
    /// MiB of a chunk of a full read; 0: never in chunks.
    pub chunk_mb: Option<u32>,
    /// From so many MiB on a table is large.
    pub large_from_mb: Option<u64>,
    /// One of so many runs makes an xid pass of a large table.
    pub xid_pass_every: Option<u32>,
    drift: Option<String>,
    tables: BTreeMap<String, table::Entry>,
}

/// `[warehouse]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WarehouseSection {
    url: Hidden,
    credentials: Option<String>,
    schema: Option<String>,
    /// The longest that one statement of a load may run, in seconds; 0 for no limit.
    pub statement_timeout_seconds: Option<u64>,
    /// Whether a large load may take foreign keys and indexes off its table meanwhile.
    pub bulk: Option<bool>,
}

/// `[lake]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LakeSection {
    /// Where ingest writes: a folder or URL.
    pub ingest: Option<String>,
    /// Where transform writes: a folder or URL.
    pub transform: Option<String>,
    /// Whether runs merge small files and keep the key index.
    pub compact: Option<bool>,
}

/// `[transform]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransformSection {
    /// Memory of the evaluation of models before it spills, in MiB.
    pub memory_mb: Option<u64>,
    /// Whether models are evaluated for the keys that changed alone, where their plan allows it.
    pub incremental: Option<bool>,
}

/// `[calendar]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CalendarSection {
    /// The first year of the calendar model.
    pub start_year: Option<i32>,
    /// The year after its last one.
    pub end_year: Option<i32>,
}

/// `[quarantine]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuarantineSection {
    /// The most rows that one run of a stage may set aside.
    pub max_quarantine: Option<u64>,
    /// Whether the refused values themselves are kept, in the lake.
    pub keep_values: Option<bool>,
}

/// A text with a password in it, which `Debug` does not show.
#[derive(Default, Deserialize)]
#[serde(transparent)]
struct Hidden(Option<String>);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "***" } else { "None" })
    }
}

impl Settings {
    /// Reads the text of a file, which `shown` names in errors.
    ///
    /// Errors: Config where it is no TOML, has an unknown key or a value of another type, by its line. Values that are words
    /// are checked by [`SourceSection::drift`] and [`SourceSection::tables`].
    pub fn parse(shown: &str, text: &str) -> Result<Settings> {
        toml::from_str(text).map_err(|e| broken(shown, text, &e))
    }
}

impl SourceSection {
    /// Where the source is.
    pub fn database(&self) -> DatabaseSection {
        let (url, credentials, schema) = (self.url.0.clone(), self.credentials.clone(), self.schema.clone());
        DatabaseSection { url, credentials, schema }
    }

    /// What is done about a table whose definition changed; none where the file does not say.
    ///
    /// Errors: Config for an unknown word.
    pub fn drift(&self) -> Result<Option<DriftPolicy>> {
        drift(self.drift.as_deref())
    }

    /// The tables that have an entry, by name.
    ///
    /// Errors: Config for an entry that cannot be used, with its table.
    pub fn tables(&self) -> Result<BTreeMap<String, TableConfig>> {
        self.tables.iter().map(|(name, entry)| Ok((name.clone(), entry.checked(name)?))).collect()
    }
}

impl WarehouseSection {
    /// Where the warehouse is.
    pub fn database(&self) -> DatabaseSection {
        let (url, credentials, schema) = (self.url.0.clone(), self.credentials.clone(), self.schema.clone());
        DatabaseSection { url, credentials, schema }
    }
}

/// Refuses a name that would not do as a folder, a column's value and a part of names in AWS.
///
/// Errors: Config.
pub fn check_pipeline(name: &str) -> Result<()> {
    let fits = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if fits {
        return Ok(());
    }
    Err(Error::config("`name` of `[pipeline]` cannot be used").with_hint("use 1 to 63 letters, digits, `_` and `-`"))
}

/// The error for a number of runs that is none, in a section.
pub fn no_number_of_runs(section: &str) -> Error {
    Error::config(format!("`xid_pass_every` of `{section}` cannot be used")).with_hint("give 1 or more runs")
}

fn drift(word: Option<&str>) -> Result<Option<DriftPolicy>> {
    let unknown = |word: &str| {
        Error::config(format!("`drift = \"{}\"` is unknown", printable(word))).with_hint("use `evolve` or `fail`")
    };
    word.map(|word| DriftPolicy::from_name(word).ok_or_else(|| unknown(word))).transpose()
}

/// toml's own rendering shows the line, which may hold a password; its message may quote a value.
fn broken(shown: &str, text: &str, error: &toml::de::Error) -> Error {
    // A span may begin within a character or past the end.
    let before = |end: usize| text.bytes().take(end).filter(|byte| *byte == b'\n').count();
    let line = error.span().map(|span| before(span.start) + 1);
    let message = without_values(error.message());
    Error::config(format!("`{shown}` cannot be used"))
        .with_detail(match line {
            Some(line) => format!("line {line}: {message}"),
            None => message,
        })
        .with_hint("the README lists every setting")
}

/// A message about a value's type repeats the value, of which only what was expected is kept. Elsewhere, text in double quotes is a
/// value; names are in backticks.
fn without_values(message: &str) -> String {
    let about_value = ["invalid type", "invalid value"].into_iter().find(|about| message.starts_with(about));
    if let Some(about) = about_value {
        return match message.rsplit_once(", expected ") {
            Some((_, expected)) => format!("{about}, expected {}", in_words(expected)),
            None => about.to_string(),
        };
    }
    message.split('"').enumerate().map(|(i, part)| if i % 2 == 0 { part } else { "…" }).collect::<Vec<_>>().join("\"")
}

/// What a setting has to be, without Rust's names of types.
fn in_words(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, not below 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        _ if expected.starts_with("struct ") => "a section",
        _ => expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn parse(text: &str) -> Result<Settings> {
        Settings::parse(FILE, text)
    }

    #[test]
    fn what_a_file_leaves_out_is_none() {
        let settings = parse("[pipeline]\nname = \"shop\"").unwrap();
        assert_eq!(settings.pipeline.name, "shop");
        assert_eq!(settings.source.drift().unwrap(), None);
        assert!(settings.source.tables().unwrap().is_empty());
        assert_eq!(settings.warehouse.database().url, None);
        assert_eq!(settings.quarantine.max_quarantine, None);
    }

    #[test]
    fn an_error_names_the_line_and_no_value() {
        let error = parse("[pipeline]\nname = \"shop\"\n[source]\nconnections = \"hunter2\"").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.render().contains("line 4"), "{}", error.render());
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    #[test]
    fn no_part_of_a_value_of_another_type_is_shown() {
        let shown = |line: &str| {
            let error = parse(&format!("[pipeline]\nname = \"shop\"\n{line}")).unwrap_err();
            assert!(!format!("{error:?} {}", error.render()).contains("ter2"), "{line}: {error:?}");
            error.detail().unwrap().to_string()
        };
        for value in [r#""hun\"ter2""#, r#"'", expected hunter2"'"#, r#"["hunter2"]"#, "{ hunter2 = 1 }"] {
            let line = format!("[source]\nconnections = {value}");
            assert!(shown(&line).contains("expected a whole number, not below 0"), "{}", shown(&line));
        }
        assert_eq!(shown("[source]\nurl = 4711"), "line 4: invalid type, expected a string");
        assert_eq!(shown("[calendar]\nstart_year = 4711000000000"), "line 4: invalid value, expected a whole number");
        assert_eq!(
            shown("[source]\nconnections = -4711"),
            "line 4: invalid value, expected a whole number, not below 0"
        );
        assert_eq!(shown("[lake]\ncompact = 4711"), "line 4: invalid type, expected a boolean");
        assert_eq!(shown("[source.tables]\nt = 4711"), "line 4: invalid type, expected a section");
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = parse("[pipeline]\nname = \"shop\"\n[lake]\ncompakt = true").unwrap_err();
        assert!(error.render().contains("`compakt`"), "{}", error.render());
    }

    #[test]
    fn debug_shows_no_url() {
        let settings = parse("[pipeline]\nname = \"shop\"\n[source]\nurl = \"postgresql://u:hunter2@h/d\"").unwrap();
        assert!(!format!("{settings:?} {:?}", settings.source.database()).contains("hunter2"));
        assert_eq!(settings.source.database().url.as_deref(), Some("postgresql://u:hunter2@h/d"));
    }

    #[test]
    fn a_pipelines_name_is_short_and_plain() {
        for name in ["shop", "a-b_9", &"x".repeat(63)] {
            check_pipeline(name).unwrap();
        }
        for name in ["", "a/b", "ä", "a b", &"x".repeat(64)] {
            assert_eq!(check_pipeline(name).unwrap_err().kind(), ErrorKind::Config, "{name}");
        }
    }
}
