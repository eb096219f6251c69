//! Credentials files and secrets: a JSON object with `user`, `password`, `host`, `database` and `port`.

use serde_json::{Map, Value};
use starlift_core::event::printable;
use starlift_core::{Error, Result};

use super::options::{ConnectOptions, parse_ssl_mode, wrong_host};
use crate::secret::Secret;

const FORM: &str = r#"give {"user": "…", "password": "…", "host": "…", "database": "…", "port": 5432}"#;

impl ConnectOptions {
    /// Reads a credentials object. `port` may be a number or a text; `sslmode` and `sslrootcert` may be added. `origin`
    /// names where it came from, for messages.
    ///
    /// # Errors
    /// Config; a key may be named, a value never.
    pub fn from_credentials(origin: &str, json: &[u8]) -> Result<ConnectOptions> {
        let bad = |detail: String| {
            Error::config(format!("the credentials in {origin} cannot be used")).with_detail(detail).with_hint(FORM)
        };
        let value: Value = serde_json::from_slice(json)
            .map_err(|e| bad(format!("it is no JSON at line {} column {}", e.line(), e.column())))?;
        let Value::Object(mut fields) = value else { return Err(bad("it is no JSON object".into())) };
        let mut text = |key: &str| take_text(&mut fields, key).map_err(&bad);
        let (user, password, host, database) = (text("user")?, text("password")?, text("host")?, text("database")?);
        let (ssl_mode, root_cert) = (text("sslmode")?, text("sslrootcert")?);
        let port = match fields.remove("port") {
            None | Some(Value::Null) => None,
            Some(Value::Number(number)) => Some(number.as_u64()),
            Some(Value::String(text)) => Some(text.trim().parse().ok()),
            Some(_) => Some(None),
        };
        if let Some(key) = fields.keys().next() {
            return Err(bad(format!("it has the unknown key `{}`", printable(key))));
        }
        let needed = |key: &str, value: Option<String>| {
            value.filter(|v| !v.is_empty()).ok_or_else(|| bad(format!("`{key}` is missing or empty")))
        };
        let host = needed("host", host)?;
        if host == "CHANGE_ME" {
            return Err(bad("it still is the example".into()));
        }
        if let Some(why) = wrong_host(&host) {
            return Err(bad(why.into()));
        }
        let mut options = ConnectOptions::new(host, needed("database", database)?, needed("user", user)?);
        options.password = password.map(Secret::new);
        if let Some(port) = port {
            options.port = port
                .and_then(|p| u16::try_from(p).ok())
                .filter(|p| *p > 0)
                .ok_or_else(|| bad("`port` is no number from 1 to 65535".into()))?;
        }
        options.root_cert = root_cert.filter(|path| path != "system").map(Into::into);
        if let Some(word) = ssl_mode {
            options.ssl_mode = Some(parse_ssl_mode(&word).ok_or_else(|| bad("`sslmode` is unknown".into()))?);
        }
        Ok(options)
    }
}

fn take_text(fields: &mut Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match fields.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.contains('\0') => Ok(Some(text)),
        Some(_) => Err(format!("`{key}` is no text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contracts_object_is_read_with_either_kind_of_port() {
        for port in ["5433", "\"5433\""] {
            let json =
                format!(r#"{{"user": "u", "password": "hunter2", "host": "h", "database": "d", "port": {port}}}"#);
            let options = ConnectOptions::from_credentials("`c.json`", json.as_bytes()).unwrap();
            assert_eq!((options.host.as_str(), options.port), ("h", 5433));
            assert_eq!(options.password, Some(Secret::new("hunter2")));
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_no_value_is_shown() {
        for (json, says) in [
            ("hunter2", "line 1"),
            (r#"["hunter2"]"#, "object"),
            (r#"{"password": "hunter2", "host": "h", "database": "d"}"#, "`user`"),
            (r#"{"user": "u", "password": 7, "host": "h", "database": "d"}"#, "`password`"),
            (r#"{"user": "u", "host": "h", "database": "d", "pass": "hunter2"}"#, "`pass`"),
            (r#"{"user": "u", "host": "h", "database": "d", "port": "hunter2"}"#, "`port`"),
            (r#"{"user": "u", "host": "h", "database": "d", "port": 0}"#, "`port`"),
            (r#"{"user": "u", "host": "h", "database": "d", "sslmode": "hunter2"}"#, "`sslmode`"),
            (r#"{"user": "u", "host": "u:hunter2@h", "database": "d"}"#, "its host"),
            (r#"{"user": "CHANGE_ME", "host": "CHANGE_ME", "database": "CHANGE_ME"}"#, "example"),
        ] {
            let error = ConnectOptions::from_credentials("`c.json`", json.as_bytes()).unwrap_err();
            let shown = format!("{error:?}");
            assert!(shown.contains(says) && !shown.contains("hunter2"), "{json}: {shown}");
        }
    }
}
