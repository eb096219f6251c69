//! Configuration: flag, then environment, then `starlift.toml`, then default.
//!
//! The environment is read once, by the shell, and handed in as plain data; nothing below this module looks at it.
//! A relative path in the file is relative to the project, one from a flag or the environment to the current directory; but
//! `sslrootcert` is relative to the project wherever it is written.

mod credentials;
mod environment;
mod file;
mod project;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use starlift_aws::Aws;
use starlift_core::capture::{CaptureMode, Wish};
use starlift_core::drift::DriftPolicy;
use starlift_core::{Error, Micros, Result};
use starlift_postgres::connect::ConnectOptions;

pub use environment::Environment;
pub use project::Project;
pub use starlift_core::settings::TableConfig;

use crate::secrets;

/// Flags that win over environment and file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// URL of the source database.
    pub source_url: Option<String>,
    /// URL of the warehouse database.
    pub warehouse_url: Option<String>,
    /// Where the lake is.
    pub lake_ingest: Option<String>,
    /// Where the star is.
    pub lake_transform: Option<String>,
}

/// Everything a stage needs to know, with secrets not yet opened.
#[derive(Debug, Clone)]
pub struct Config {
    /// The pipeline's name: one lake, one star and one set of ledger rows belong to it.
    pub pipeline: String,
    /// The source database.
    pub source: SourceConfig,
    /// Where the lake is: a folder or URL.
    pub lake_ingest: String,
    /// Where the star is: a folder or URL.
    pub lake_transform: String,
    /// Whether runs merge small files and keep the key index; `lake compact` does so in any case.
    pub lake_compact: bool,
    /// The warehouse database.
    pub warehouse: DatabaseConfig,
    /// The longest that one statement of a load may run in the warehouse, in seconds; 0 for no limit.
    pub warehouse_statement_timeout_seconds: u64,
    /// Whether a large load may take foreign keys and indexes off its table meanwhile, which locks it.
    pub warehouse_bulk: bool,
    /// Years of the calendar model: from the first, up to but not including the second.
    pub calendar: (i32, i32),
    /// Memory that the evaluation of models may use before it spills to disk, in MiB.
    pub transform_memory_mb: u64,
    /// Whether models are evaluated for the keys that changed alone, where their plan allows it.
    pub transform_incremental: bool,
    /// Where is put aside what does not fit in memory: of the evaluation of models, keys, and files of a bucket.
    pub spill_dir: PathBuf,
    /// What becomes of refused rows.
    pub quarantine: QuarantineConfig,
    /// Settings of the object store (`AWS_*`), from the environment.
    pub store_options: BTreeMap<String, String>,
    environment: Environment,
    project_dir: PathBuf,
    aws: Aws,
    kept: Arc<credentials::Kept>,
}

/// What becomes of refused rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuarantineConfig {
    /// The most rows that one run of a stage may set aside, beside those that stand aside already.
    pub max_quarantine: u64,
    /// Whether the refused values themselves are kept, in the lake.
    pub keep_values: bool,
}

/// A database and the schema that starlift uses in it.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// Where the URL or credentials come from.
    pub connection: ConnectionSetting,
    /// The schema.
    pub schema: String,
}

/// The source database and what to read from it.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// The database and schema.
    pub database: DatabaseConfig,
    /// What is done about a table whose definition changed, unless its entry says otherwise.
    pub drift: DriftPolicy,
    /// Entries that override how a table is read.
    pub tables: BTreeMap<String, TableConfig>,
    /// The longest that one statement may run in the source, in seconds; 0 for no limit.
    pub statement_timeout_seconds: u64,
    /// How many connections may read one large table at once; 1: that of the run alone.
    pub connections: usize,
    /// Bytes of a chunk: a full read of a larger table goes in such parts, each in a transaction of its own; 0: never.
    pub chunk_bytes: u64,
    /// From so many MiB on a table is large: not every run scans it, unless its entry says so.
    pub large_from_mb: u64,
    /// One of so many runs makes an xid pass of a large table, unless its entry says otherwise.
    pub xid_pass_every: u32,
}

/// Where a connection's secrets are, and who said so.
#[derive(Clone)]
pub enum ConnectionSetting {
    /// A URL, with the place that gave it. Never printed.
    Url(String, &'static str),
    /// `file:…`, `env:…`, `aws-secretsmanager:…` or `ssm:…`, with the folder that a relative path starts from.
    Credentials(String, PathBuf),
    /// Nothing was given.
    Missing,
}

impl std::fmt::Debug for ConnectionSetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ConnectionSetting::Url(_, origin) => write!(f, "Url(*** from {origin})"),
            ConnectionSetting::Credentials(place, _) => write!(f, "Credentials({place})"),
            ConnectionSetting::Missing => f.write_str("Missing"),
        }
    }
}

/// Which of the two databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The operational database.
    Source,
    /// The warehouse.
    Warehouse,
}

impl Side {
    /// The word in messages and the section of the file.
    pub fn name(self) -> &'static str {
        match self {
            Side::Source => "source",
            Side::Warehouse => "warehouse",
        }
    }
}

/// Which of the two stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// What ingest writes.
    Lake,
    /// What transform writes.
    Star,
}

impl Place {
    /// Both.
    pub const ALL: [Place; 2] = [Place::Lake, Place::Star];
}

/// How a place begins that is the value of a parameter.
pub(crate) const PARAMETER: &str = "ssm:";

impl Config {
    /// Reads `starlift.toml` of a project and merges it with environment and flags. Opens no secret, and
    /// asks nobody: see [`Config::resolved`].
    ///
    /// Errors: Config where the file is missing, does not parse, or has an unknown key.
    pub fn read(project_dir: &Path, environment: Environment, overrides: Overrides) -> Result<Config> {
        secrets::know_environment(&environment);
        for url in [&overrides.source_url, &overrides.warehouse_url].into_iter().flatten() {
            secrets::know_url(url);
        }
        file::read(project_dir, environment, overrides)
    }

    /// The same settings with the places of lake and star that AWS keeps (`ssm:/NAME`) read from there. Of the two only those
    /// that are asked for: whoever runs one stage may not be allowed to read the other.
    ///
    /// Errors: those of [`Aws::parameter`], and Config where what it holds is no place.
    pub async fn resolved(mut self, places: &[Place]) -> Result<Config> {
        for place in places {
            let setting = match place {
                Place::Lake => &mut self.lake_ingest,
                Place::Star => &mut self.lake_transform,
            };
            let Some(name) = setting.strip_prefix(PARAMETER) else { continue };
            let value = self.aws.parameter(name).await?.trim().to_string();
            if value.is_empty() || value.starts_with(PARAMETER) {
                return Err(Error::config(format!("the parameter `{name}` names no place"))
                    .with_hint("give it a folder or `s3://bucket/prefix`"));
            }
            *setting = value;
        }
        Ok(self)
    }

    /// Opens the credentials of a database. Those that AWS keeps may have been read some minutes before `now`.
    ///
    /// Errors: Config where they are missing or cannot be read; the message names where they were looked for. Those of
    /// [`Aws::secret`] where AWS keeps them.
    pub async fn connection(&self, side: Side, now: Micros) -> Result<ConnectOptions> {
        self.opening(side).open(now).await
    }

    /// Opens the credentials of a database once more, after an attempt to connect with them that began at `since` has failed;
    /// none where they are still the same. Those that AWS keeps may have been changed since they were read.
    ///
    /// Errors: those of [`Config::connection`].
    pub async fn connection_again(
        &self,
        side: Side,
        failed: &ConnectOptions,
        since: Micros,
        now: Micros,
    ) -> Result<Option<ConnectOptions>> {
        self.opening(side).open_again(failed, since, now).await
    }

    fn opening(&self, side: Side) -> credentials::Opening<'_> {
        let database = match side {
            Side::Source => &self.source.database,
            Side::Warehouse => &self.warehouse,
        };
        let (environment, aws, kept) = (&self.environment, &self.aws, &*self.kept);
        let project_dir = &self.project_dir;
        credentials::Opening { side, setting: &database.connection, project_dir, environment, aws, kept }
    }

    /// The project's folder.
    pub fn project_dir(&self) -> &Path {
        &self.project_dir
    }

    /// What is done about a table whose definition changed.
    pub fn drift(&self, table: &str) -> DriftPolicy {
        self.source.tables.get(table).and_then(|t| t.drift).unwrap_or(self.source.drift)
    }

    /// Whether no setting says that a table is left alone.
    pub fn is_captured(&self, table: &str) -> bool {
        self.source.tables.get(table).and_then(|t| t.capture) != Some(CaptureMode::None)
    }

    /// What the settings say about how a table is captured.
    pub fn capture(&self, table: &str) -> Wish {
        let entry = self.source.tables.get(table);
        Wish {
            mode: entry.and_then(|t| t.capture),
            cursor: entry.and_then(|t| t.cursor.clone()),
            xid_pass_every: entry.and_then(|t| t.xid_pass_every).unwrap_or(self.source.xid_pass_every),
            large_from_mb: self.source.large_from_mb,
        }
    }
}

/// A path from the file starts at the project; a URL, and the name of a parameter, stay as they are.
fn resolve(base: &Path, place: &str) -> String {
    if place.contains("://")
        || place.starts_with(PARAMETER)
        || Path::new(place).is_absolute()
        || base.as_os_str().is_empty()
    {
        return place.to_string();
    }
    base.join(place).to_string_lossy().into_owned()
}

fn missing(side: Side) -> Error {
    let name = side.name();
    Error::config(format!("no credentials for the {name} database"))
        .with_detail(format!(
            "neither STARLIFT_{0}_URL nor `credentials` under `[{name}]` is given",
            name.to_uppercase()
        ))
        .with_hint(format!(
        "write `credentials = \"file:{}\"` under `[{name}]` in starlift.toml and the JSON that the README shows into that file, or set STARLIFT_{}_URL",
        if name == "source" { "db_credentials.json" } else { "warehouse_credentials.json" },
        name.to_uppercase()
    ))
}
