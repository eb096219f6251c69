//! Opening credentials: a URL, a JSON file, a variable that holds either, or a text that AWS keeps.
//!
//! Files and variables are opened anew each time. What AWS keeps is read once and stays in memory for as long as
//! [`kept::still_counts`] says, because every connection would ask for it and each request costs time and money. It is read
//! again before that when no connection comes about with it, whatever the reason: a password that was rotated, a database that
//! was moved, a name or a port that somebody has mended.
//!
//! A relative `sslrootcert` starts at the project, wherever it is written: so one secret serves the command line and the
//! functions, whose zips hold the project's certificates.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use starlift_aws::Aws;
use starlift_core::{Error, Micros, Result, kept};
use starlift_postgres::connect::ConnectOptions;
use tokio::sync::Mutex;

use super::{ConnectionSetting, Environment, Side, missing};
use crate::secrets;

/// What was read from AWS so far, by database. Clones of a configuration share it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    source: Mutex<Option<Read>>,
    warehouse: Mutex<Option<Read>>,
}

/// What was read from AWS once.
#[derive(Debug)]
struct Read {
    options: ConnectOptions,
    at: Micros,
    /// No connection came about with it: nobody uses it again.
    has_failed: bool,
}

impl Kept {
    fn of(&self, side: Side) -> &Mutex<Option<Read>> {
        match side {
            Side::Source => &self.source,
            Side::Warehouse => &self.warehouse,
        }
    }
}

/// What opening credentials needs to know.
pub(super) struct Opening<'a> {
    pub(super) side: Side,
    pub(super) setting: &'a ConnectionSetting,
    pub(super) project_dir: &'a Path,
    pub(super) environment: &'a Environment,
    pub(super) aws: &'a Aws,
    pub(super) kept: &'a Kept,
}

/// A place in AWS.
#[derive(Clone, Copy)]
enum Remote<'a> {
    Secret(&'a str),
    Parameter(&'a str),
}

impl Opening<'_> {
    /// Opens credentials at this time, and makes their password known to the scrubber.
    pub(super) async fn open(&self, now: Micros) -> Result<ConnectOptions> {
        let Some(remote) = self.remote() else { return self.local().map(|options| self.fit(options)) };
        let mut kept = self.kept.of(self.side).lock().await;
        if let Some(read) = kept.as_ref().filter(|read| !read.has_failed && kept::still_counts(read.at, now)) {
            return Ok(read.options.clone());
        }
        let options = self.read(remote).await?;
        *kept = Some(Read { options: options.clone(), at: now, has_failed: false });
        Ok(options)
    }

    /// Opens credentials once more after an attempt that began at `since` came to no connection: none where they cannot be
    /// others now. Several whose attempts failed at once read them once.
    ///
    /// Errors: those of [`Opening::open`].
    pub(super) async fn open_again(
        &self,
        failed: &ConnectOptions,
        since: Micros,
        now: Micros,
    ) -> Result<Option<ConnectOptions>> {
        let Some(remote) = self.remote() else { return Ok(None) };
        let mut kept = self.kept.of(self.side).lock().await;
        match kept.as_mut() {
            Some(read) if read.options != *failed => return Ok(Some(read.options.clone())),
            // As new as the attempt itself.
            Some(read) if read.at >= since => {
                read.has_failed = true;
                return Ok(None);
            }
            Some(read) => read.has_failed = true,
            None => {}
        }
        tracing::info!(database = self.side.name(), "no connection came about: the credentials are read again");
        let options = self.read(remote).await?;
        let is_other = options != *failed;
        *kept = Some(Read { options: options.clone(), at: now, has_failed: !is_other });
        Ok(is_other.then_some(options))
    }

    fn remote(&self) -> Option<Remote<'_>> {
        let ConnectionSetting::Credentials(place, _) = self.setting else { return None };
        match place.split_once(':')? {
            ("aws-secretsmanager", name) => Some(Remote::Secret(name)),
            ("ssm", name) => Some(Remote::Parameter(name)),
            _ => None,
        }
    }

    async fn read(&self, remote: Remote<'_>) -> Result<ConnectOptions> {
        let read = match remote {
            Remote::Secret(name) => (self.aws.secret(name).await, format!("the secret `{name}`")),
            Remote::Parameter(name) => (self.aws.parameter(name).await, format!("the parameter `{name}`")),
        };
        let (text, place) = match read {
            (Ok(text), place) => (text, place),
            (Err(error), _) => return Err(error.with_context("database", self.side.name())),
        };
        from_json(self.side, &place, text.as_bytes()).map(|options| self.fit(options))
    }

    /// What was read, fit for use: its password known to the scrubber, its certificates where they are.
    fn fit(&self, mut options: ConnectOptions) -> ConnectOptions {
        if let Some(password) = &options.password {
            secrets::know(password.expose());
        }
        options.root_cert = options.root_cert.map(|path| self.project_dir.join(path));
        options
    }

    fn local(&self) -> Result<ConnectOptions> {
        let side = self.side;
        match self.setting {
            ConnectionSetting::Missing => Err(missing(side)),
            ConnectionSetting::Url(url, origin) => {
                ConnectOptions::from_url(url).map_err(|e| e.with_context("setting", *origin))
            }
            ConnectionSetting::Credentials(place, base) => match place.split_once(':') {
                Some(("file", path)) => from_file(side, &base.join(path)),
                Some(("env", name)) => from_variable(side, name, self.environment),
                _ => Err(Error::config(format!("`credentials` of `[{}]` has an unknown form", side.name()))
                    .with_hint("use `file:db_credentials.json`, `env:NAME`, `aws-secretsmanager:NAME` or `ssm:/NAME`")),
            },
        }
    }
}

fn from_file(side: Side, path: &Path) -> Result<ConnectOptions> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|e| {
        let mend = match e.kind() {
            ErrorKind::PermissionDenied => format!("let this user read `{shown}`"),
            _ if example_of(path).exists() => format!("copy `{shown}.example` to `{shown}` and fill it in"),
            _ => format!(
                r#"write `{{"user": "…", "password": "…", "host": "…", "database": "…", "port": 5432}}` to `{shown}`"#
            ),
        };
        Error::config(format!("cannot read the credentials of the {} in `{shown}`", side.name()))
            .with_source(e)
            .with_hint(format!("{mend}, or set STARLIFT_{}_URL", side.name().to_uppercase()))
    })?;
    from_json(side, &format!("`{shown}`"), &bytes)
}

/// Beside the credentials, where the project has one.
fn example_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".example");
    name.into()
}

fn from_variable(side: Side, name: &str, environment: &Environment) -> Result<ConnectOptions> {
    let Some(text) = environment.get(name) else {
        return Err(Error::config(format!(
            "the variable `{name}` with the credentials of the {} is not set",
            side.name()
        ))
        .with_hint(format!("set {name}, or STARLIFT_{}_URL", side.name().to_uppercase())));
    };
    if text.trim_start().starts_with('{') {
        return from_json(side, &format!("the variable `{name}`"), text.as_bytes());
    }
    secrets::know_url(text);
    ConnectOptions::from_url(text)
}

/// The message names places and keys, never a value.
fn from_json(side: Side, place: &str, bytes: &[u8]) -> Result<ConnectOptions> {
    const EXAMPLE: &[u8] = b"CHANGE_ME";
    if bytes.windows(EXAMPLE.len()).any(|window| window == EXAMPLE) {
        return Err(Error::config(format!(
            "the credentials of the {} in {place} still hold CHANGE_ME of the example",
            side.name()
        ))
        .with_hint(format!("fill them in, or set STARLIFT_{}_URL", side.name().to_uppercase())));
    }
    ConnectOptions::from_credentials(place, bytes)
}
