//! Settings of a project, the URLs in them, and credentials.

use starlift_core::settings::{DatabaseSection, Settings, check_pipeline};
use starlift_core::{Error, ErrorKind};
use starlift_postgres::connect::ConnectOptions;

/// What this begins with and has more of is a URL, wherever it is found.
const URL: &str = "postgres://";

/// A `starlift.toml` is read, or refused with a hint; so is each URL in it, and the same bytes as credentials. No URL is shown.
pub fn config(bytes: &[u8]) {
    if let Err(error) = ConnectOptions::from_credentials("the secret", bytes) {
        is_refused_with_a_hint(&error);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let settings = match Settings::parse("starlift.toml", text) {
        Ok(settings) => settings,
        Err(error) => return is_refused_with_a_hint(&error),
    };
    if let Err(error) = check_pipeline(&settings.pipeline.name) {
        is_refused_with_a_hint(&error);
    }
    if let Err(error) = settings.source.drift() {
        is_refused_with_a_hint(&error);
    }
    if let Err(error) = settings.source.tables() {
        is_refused_with_a_hint(&error);
    }
    for database in [settings.source.database(), settings.warehouse.database()] {
        url(&database);
    }
}

fn url(database: &DatabaseSection) {
    let Some(url) = &database.url else { return };
    let mut shown = format!("{database:?}");
    match ConnectOptions::from_url(url) {
        Ok(options) => shown.push_str(&format!("{options:?}")),
        Err(error) => {
            is_refused_with_a_hint(&error);
            shown.push_str(&format!("{error:?}{}", error.render()));
        }
    }
    let is_secret = url.len() > URL.len() + 4 && url.starts_with(URL) && database.schema.as_deref() != Some(url);
    assert!(!is_secret || !shown.contains(url.as_str()), "a URL is shown: {shown}");
}

fn is_refused_with_a_hint(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
    assert!(error.hint().is_some(), "{error:?}");
}
