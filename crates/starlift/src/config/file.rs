//! `starlift.toml`, and its merge with environment and flags.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use starlift_aws::Aws;
use starlift_core::capture::{DEFAULT_LARGE_FROM_MB, DEFAULT_XID_PASS_EVERY};
use starlift_core::settings::{DatabaseSection, FILE, Settings, check_pipeline, no_number_of_runs};
use starlift_core::{Error, Result};

use super::{
    Config, ConnectionSetting, DatabaseConfig, Environment, Overrides, QuarantineConfig, SourceConfig, resolve,
};
use crate::secrets;

/// An estimate from what COPY reads on two cores (50 MB/s and more): seconds there, and at most about a minute on a slower machine.
const DEFAULT_CHUNK_MB: u32 = 1024;

pub(super) fn read(project_dir: &Path, environment: Environment, overrides: Overrides) -> Result<Config> {
    let path = project_dir.join(FILE);
    let text = std::fs::read_to_string(&path).map_err(|e| {
        Error::config(format!("no `{FILE}` in `{}`", project_dir.display()))
            .with_source(e)
            .with_hint("give the project's folder with `--project DIR` or STARLIFT_PROJECT; `starlift init DIR` makes a new project; `starlift demo` needs none")
    })?;
    merge(Settings::parse(&path.display().to_string(), &text)?, project_dir, environment, overrides)
}

fn merge(file: Settings, project_dir: &Path, environment: Environment, overrides: Overrides) -> Result<Config> {
    let from_environment = |name: &str| environment.get(name).map(str::to_string);
    let place = |flag: Option<String>, variable: &str, setting: Option<String>, default: &str| {
        flag.or_else(|| from_environment(variable))
            .unwrap_or_else(|| resolve(project_dir, setting.as_deref().unwrap_or(default)))
    };
    let (source, warehouse) = (file.source.database(), file.warehouse.database());
    for url in [&source.url, &warehouse.url].into_iter().flatten() {
        secrets::know_url(url);
    }
    let database = |flag: Option<String>, section: &str, file: DatabaseSection| {
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

    let tables = file.source.tables()?;
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
    let xid_pass_every =
        u32::try_from(every).ok().filter(|every| *every > 0).ok_or_else(|| no_number_of_runs("[source]"))?;
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
            drift: file.source.drift()?.unwrap_or_default(),
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
        warehouse: database(overrides.warehouse_url, "WAREHOUSE", warehouse),
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
