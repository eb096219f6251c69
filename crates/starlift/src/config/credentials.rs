//! Opening credentials: a URL, a JSON file, or a variable that holds either.

use std::path::Path;

use starlift_core::{Error, Result};
use starlift_postgres::connect::ConnectOptions;

use super::{ConnectionSetting, Environment, Side, missing};
use crate::secrets;

/// Opens credentials, and makes their password known to the scrubber.
pub(super) fn open(side: Side, setting: &ConnectionSetting, environment: &Environment) -> Result<ConnectOptions> {
    let options = read(side, setting, environment)?;
    if let Some(password) = &options.password {
        secrets::know(password.expose());
    }
    Ok(options)
}

fn read(side: Side, setting: &ConnectionSetting, environment: &Environment) -> Result<ConnectOptions> {
    match setting {
        ConnectionSetting::Missing => Err(missing(side)),
        ConnectionSetting::Url(url, origin) => {
            ConnectOptions::from_url(url).map_err(|e| e.with_context("setting", *origin))
        }
        ConnectionSetting::Credentials(place, base) => match place.split_once(':') {
            Some(("file", path)) => from_file(side, &base.join(path)),
            Some(("env", name)) => from_variable(side, name, environment),
            Some(("aws-secretsmanager", _)) => Err(Error::new(
                starlift_core::ErrorKind::Unsupported,
                format!(
                    "the credentials of the {} are in AWS Secrets Manager, which this version does not open",
                    side.name()
                ),
            )
            .with_hint(format!("set STARLIFT_{}_URL, or use `file:` or `env:`", side.name().to_uppercase()))),
            _ => Err(Error::config(format!("`credentials` of `[{}]` has an unknown form", side.name()))
                .with_hint("use `file:db_credentials.json` or `env:NAME`")),
        },
    }
}

fn from_file(side: Side, path: &Path) -> Result<ConnectOptions> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|e| {
        Error::config(format!("cannot read the credentials of the {} in `{shown}`", side.name()))
            .with_source(e)
            .with_hint(format!(
                "copy `{shown}.example` to `{shown}` and fill it in, or set STARLIFT_{}_URL",
                side.name().to_uppercase()
            ))
    })?;
    from_json(side, &format!("`{shown}`"), &bytes)
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
