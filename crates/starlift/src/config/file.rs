//! `starlift.toml`, and its merge with environment and flags.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use starlift_aws::Aws;
use starlift_core::capture::{CaptureMode, DEFAULT_LARGE_FROM_MB, DEFAULT_XID_PASS_EVERY};
use starlift_core::drift::DriftPolicy;
use starlift_core::types::MAX_PRECISION;
use starlift_core::{ColumnType, Error, Result};
use starlift_postgres::catalog::ColumnSetting;

use super::{
    Config, ConnectionSetting, DatabaseConfig, Environment, Overrides, QuarantineConfig, SourceConfig, TableConfig,
    resolve,
};
use crate::secrets;

/// The file's name in a project.
pub(super) const FILE: &str = "starlift.toml";
/// An estimate from what COPY reads on two cores (50 MB/s and more): seconds there, and at most about a minute on a slower machine.
const DEFAULT_CHUNK_MB: u32 = 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    pipeline: Pipeline,
    #[serde(default)]
    source: SourceSection,
    #[serde(default)]
    lake: Lake,
    #[serde(default)]
    transform: Transform,
    #[serde(default)]
    warehouse: Database,
    #[serde(default)]
    calendar: Calendar,
    #[serde(default)]
    quarantine: Quarantine,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Quarantine {
    max_quarantine: Option<u64>,
    keep_values: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pipeline {
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct SourceSection {
    url: Option<String>,
    credentials: Option<String>,
    schema: Option<String>,
    statement_timeout_seconds: Option<u64>,
    connections: Option<u16>,
    chunk_mb: Option<u32>,
    large_from_mb: Option<u64>,
    xid_pass_every: Option<u32>,
    drift: Option<String>,
    #[serde(default)]
    tables: BTreeMap<String, Table>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Database {
    url: Option<String>,
    credentials: Option<String>,
    schema: Option<String>,
    statement_timeout_seconds: Option<u64>,
    bulk: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Table {
    capture: Option<String>,
    cursor: Option<String>,
    xid_pass_every: Option<u32>,
    drift: Option<String>,
    #[serde(default)]
    columns: BTreeMap<String, Column>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Column {
    numeric: Option<String>,
    #[serde(rename = "as")]
    read_as: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Lake {
    ingest: Option<String>,
    transform: Option<String>,
    compact: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Transform {
    memory_mb: Option<u64>,
    incremental: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Calendar {
    start_year: Option<i32>,
    end_year: Option<i32>,
}

pub(super) fn read(project_dir: &Path, environment: Environment, overrides: Overrides) -> Result<Config> {
    let path = project_dir.join(FILE);
    let text = std::fs::read_to_string(&path).map_err(|e| {
        Error::config(format!("no `{FILE}` in `{}`", project_dir.display()))
            .with_source(e)
            .with_hint("give the project's folder with `--project DIR` or STARLIFT_PROJECT; `starlift init DIR` makes a new project; `starlift demo` needs none")
    })?;
    let file: File = toml::from_str(&text).map_err(|e| broken(&path, &text, &e))?;
    merge(file, project_dir, environment, overrides)
}

fn merge(file: File, project_dir: &Path, environment: Environment, overrides: Overrides) -> Result<Config> {
    let from_environment = |name: &str| environment.get(name).map(str::to_string);
    let place = |flag: Option<String>, variable: &str, setting: Option<String>, default: &str| {
        flag.or_else(|| from_environment(variable))
            .unwrap_or_else(|| resolve(project_dir, setting.as_deref().unwrap_or(default)))
    };
    for url in [&file.source.url, &file.warehouse.url].into_iter().flatten() {
        secrets::know_url(url);
    }
    let database = |flag: Option<String>, section: &str, file: Database| {
        let variable = |key: &str| environment.get(&format!("STARLIFT_{section}_{key}")).map(str::to_string);
        let connection = if let Some(url) = flag {
            ConnectionSetting::Url(url, "flag")
        } else if let Some(url) = variable("URL") {
            ConnectionSetting::Url(url, "environment")
        } else if let Some(place) = variable("CREDENTIALS") {
            ConnectionSetting::Credentials(place, PathBuf::new())
        } else if let Some(url) = file.url {
            ConnectionSetting::Url(url, FILE)
        } else if let Some(place) = file.credentials {
            ConnectionSetting::Credentials(place, project_dir.to_path_buf())
        } else {
            ConnectionSetting::Missing
        };
        let schema = variable("SCHEMA").or(file.schema).unwrap_or_else(|| "public".into());
        DatabaseConfig { connection, schema }
    };

    let tables = file.source.tables.into_iter().map(|(name, table)| Ok((name.clone(), table_config(&name, table)?)));
    let tables = tables.collect::<Result<BTreeMap<_, _>>>()?;
    let source = Database {
        url: file.source.url,
        credentials: file.source.credentials,
        schema: file.source.schema,
        statement_timeout_seconds: None,
        bulk: None,
    };
    let number = |variable: &str, setting: Option<i32>, default: i32| match environment.get(variable) {
        None => Ok(setting.unwrap_or(default)),
        Some(text) => text.parse().map_err(|_| {
            Error::config(format!("{variable} is no number"))
                .with_hint("give whole digits, or unset it to take the file's")
        }),
    };
    let start_year = number("STARLIFT_CALENDAR_START_YEAR", file.calendar.start_year, 2020)?;
    let end_year = number("STARLIFT_CALENDAR_END_YEAR", file.calendar.end_year, 2031)?;
    let memory = number(
        "STARLIFT_TRANSFORM_MEMORY_MB",
        file.transform.memory_mb.map(|mb| i32::try_from(mb).unwrap_or(i32::MAX)),
        256,
    )?;
    let connections =
        number("STARLIFT_SOURCE_CONNECTIONS", file.source.connections.map(i32::from), default_connections())?;
    if !(1..=64).contains(&connections) {
        return Err(Error::config("`connections` of `[source]` cannot be used").with_hint("give 1 to 64"));
    }
    let chunk_mb = file.source.chunk_mb.map(u64::from);
    let chunk_mb = whole(&environment, "STARLIFT_SOURCE_CHUNK_MB", chunk_mb, DEFAULT_CHUNK_MB.into())?;
    let large_from_mb =
        whole(&environment, "STARLIFT_SOURCE_LARGE_FROM_MB", file.source.large_from_mb, DEFAULT_LARGE_FROM_MB)?;
    let every = file.source.xid_pass_every.map(u64::from);
    let every = whole(&environment, "STARLIFT_SOURCE_XID_PASS_EVERY", every, DEFAULT_XID_PASS_EVERY.into())?;
    let xid_pass_every = u32::try_from(every).ok().filter(|every| *every > 0).ok_or_else(|| passes("[source]"))?;
    let switch = |name: &str, in_file: Option<bool>| match environment.get(name) {
        None => Ok(in_file.unwrap_or(true)),
        Some(text) => text.parse::<bool>().map_err(|_| {
            Error::config(format!("{name} is neither `true` nor `false`"))
                .with_hint("give one of these words, or unset it to take the file's")
        }),
    };
    let compact = switch("STARLIFT_LAKE_COMPACT", file.lake.compact)?;
    let incremental = switch("STARLIFT_TRANSFORM_INCREMENTAL", file.transform.incremental)?;
    let bulk = switch("STARLIFT_WAREHOUSE_BULK", file.warehouse.bulk)?;
    let quarantine = QuarantineConfig {
        max_quarantine: match environment.get("STARLIFT_QUARANTINE_MAX_QUARANTINE") {
            None => file.quarantine.max_quarantine.unwrap_or(0),
            Some(text) => text.parse().map_err(|_| {
                Error::config("STARLIFT_QUARANTINE_MAX_QUARANTINE is no number")
                    .with_hint("give whole digits, or unset it")
            })?,
        },
        keep_values: file.quarantine.keep_values.unwrap_or(false),
    };
    if memory < 16 {
        return Err(Error::config("`memory_mb` of `[transform]` is too small").with_hint("give at least 16"));
    }
    let pipeline = from_environment("STARLIFT_PIPELINE_NAME").unwrap_or(file.pipeline.name);
    check_pipeline(&pipeline)?;
    Ok(Config {
        pipeline,
        source: SourceConfig {
            database: database(overrides.source_url, "SOURCE", source),
            tables,
            drift: drift(file.source.drift.as_deref())?.unwrap_or_default(),
            statement_timeout_seconds: file.source.statement_timeout_seconds.unwrap_or(3600),
            connections: usize::try_from(connections).unwrap_or(1),
            chunk_bytes: chunk_mb.saturating_mul(1 << 20),
            large_from_mb,
            xid_pass_every,
        },
        lake_ingest: place(overrides.lake_ingest, "STARLIFT_LAKE_INGEST", file.lake.ingest, "lake/ingest"),
        lake_compact: compact,
        lake_transform: place(
            overrides.lake_transform,
            "STARLIFT_LAKE_TRANSFORM",
            file.lake.transform,
            "lake/transform",
        ),
        warehouse_statement_timeout_seconds: file.warehouse.statement_timeout_seconds.unwrap_or(3600),
        warehouse_bulk: bulk,
        warehouse: database(overrides.warehouse_url, "WAREHOUSE", file.warehouse),
        calendar: (start_year, end_year),
        transform_incremental: incremental,
        transform_memory_mb: memory.unsigned_abs().into(),
        spill_dir: PathBuf::from(environment.get("TMPDIR").unwrap_or("/tmp")),
        quarantine,
        aws: Aws::new(&environment.with_prefix("AWS_")),
        kept: Arc::default(),
        store_options: environment.with_prefix("AWS_"),
        environment,
        project_dir: project_dir.to_path_buf(),
    })
}

/// One for each core: more would only wait for each other, and each is a connection that the source's other users lack.
fn default_connections() -> i32 {
    std::thread::available_parallelism().map_or(1, |cores| i32::try_from(cores.get().min(4)).unwrap_or(1))
}

/// A whole number from the environment, else from the file.
fn whole(environment: &Environment, variable: &str, setting: Option<u64>, default: u64) -> Result<u64> {
    let Some(text) = environment.get(variable) else { return Ok(setting.unwrap_or(default)) };
    text.parse().map_err(|_| {
        Error::config(format!("{variable} is no number")).with_hint("give whole digits, or unset it to take the file's")
    })
}

fn passes(section: &str) -> Error {
    Error::config(format!("`xid_pass_every` of `{section}` cannot be used")).with_hint("give 1 or more runs")
}

fn check_pipeline(name: &str) -> Result<()> {
    let fits = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if fits {
        return Ok(());
    }
    Err(Error::config("`name` of `[pipeline]` cannot be used").with_hint("use 1 to 63 letters, digits, `_` and `-`"))
}

fn table_config(name: &str, table: Table) -> Result<TableConfig> {
    let at = |error: Error| error.with_context("table", name);
    let capture = match table.capture.as_deref() {
        None => None,
        Some("auto") => None,
        Some("xid") => Some(CaptureMode::Xid),
        Some("cursor") => Some(CaptureMode::Cursor),
        Some("full") => Some(CaptureMode::Full),
        Some("none") => Some(CaptureMode::None),
        Some(word) => {
            return Err(at(Error::config(format!(
                "`capture = \"{}\"` of table `{name}` is unknown",
                starlift_core::event::printable(word)
            ))
            .with_hint("use `auto`, `xid`, `cursor`, `full` or `none`")));
        }
    };
    if table.xid_pass_every == Some(0) {
        return Err(at(passes(&format!("[source.tables.{name}]"))));
    }
    let columns = table.columns.into_iter().map(|(column, setting)| {
        let setting = column_setting(&setting).ok_or_else(|| {
            at(Error::config(format!("the setting of column `{column}` of table `{name}` cannot be used")).with_hint(format!(
                "use {{ numeric = \"decimal(38,4)\" }} (at most {MAX_PRECISION} digits), {{ numeric = \"text\" }} or {{ as = \"text\" }}"
            )))
        })?;
        Ok((column, setting))
    });
    let drift = drift(table.drift.as_deref()).map_err(at)?;
    let (cursor, xid_pass_every) = (table.cursor, table.xid_pass_every);
    Ok(TableConfig { capture, cursor, xid_pass_every, drift, columns: columns.collect::<Result<_>>()? })
}

fn drift(word: Option<&str>) -> Result<Option<DriftPolicy>> {
    let unknown = |word: &str| {
        Error::config(format!("`drift = \"{}\"` is unknown", starlift_core::event::printable(word)))
            .with_hint("use `evolve` or `fail`")
    };
    word.map(|word| DriftPolicy::from_name(word).ok_or_else(|| unknown(word))).transpose()
}

fn column_setting(column: &Column) -> Option<ColumnSetting> {
    match (column.numeric.as_deref(), column.read_as.as_deref()) {
        (Some("text"), None) => Some(ColumnSetting::NumericText),
        (Some(decimal), None) => match decimal.replace("decimal", "numeric").replace(' ', "").parse() {
            Ok(ColumnType::Numeric { precision, scale }) => Some(ColumnSetting::Decimal { precision, scale }),
            _ => None,
        },
        (None, Some("text")) => Some(ColumnSetting::AsText),
        _ => None,
    }
}

/// toml's own rendering shows the line, which may hold a password; its message may quote a value.
fn broken(path: &Path, text: &str, error: &toml::de::Error) -> Error {
    let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let message = without_values(error.message());
    Error::config(format!("`{}` cannot be used", path.display()))
        .with_detail(match line {
            Some(line) => format!("line {line}: {message}"),
            None => message,
        })
        .with_hint("the README lists every setting")
}

/// Text in double quotes is a value; names are in backticks.
fn without_values(message: &str) -> String {
    message.split('"').enumerate().map(|(i, part)| if i % 2 == 0 { part } else { "…" }).collect::<Vec<_>>().join("\"")
}
