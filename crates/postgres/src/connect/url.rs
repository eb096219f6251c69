//! Connection URLs (PostgreSQL manual, 34.1.1.2), read by hand: an error must not quote a part of one, and forms such
//! as `postgres://user@/db?host=/run/postgresql` are no URLs to common parsers.

use std::path::PathBuf;
use std::time::Duration;

use starlift_core::event::printable;
use starlift_core::{Error, Result};

use super::options::{ConnectOptions, parse_ssl_mode, wrong_host};
use crate::secret::Secret;

const FORM: &str = "write it as `postgres://user:password@host:5432/database`, with reserved characters as %XX";

/// The parameters that are known.
const KEYS: [&str; 9] =
    ["host", "port", "user", "password", "dbname", "sslmode", "sslrootcert", "application_name", "connect_timeout"];

impl ConnectOptions {
    /// Reads `postgres://user:password@host:port/database?sslmode=…&sslrootcert=…`.
    ///
    /// Further parameters: `host` (a name, or the directory of a Unix socket), `port`, `user`, `password`, `dbname`,
    /// `application_name`, `connect_timeout` in seconds.
    ///
    /// # Errors
    /// Config; the text never holds the URL or a value of it.
    pub fn from_url(url: &str) -> Result<ConnectOptions> {
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .ok_or_else(|| bad("it does not start with `postgres://`"))?;
        if rest.contains('#') {
            return Err(bad("it has a `#`"));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        // The last `@`: a password that was not encoded may hold one itself.
        let (user_info, address) = authority.rsplit_once('@').map_or((None, authority), |(u, a)| (Some(u), a));

        // Some mark of a user's or password's own has ended them too early: what is taken for a name is a piece of one.
        if user_info.is_none() && path.contains('@') {
            return Err(bad("it has an `@` behind its first `/`"));
        }
        let names_are_shown = !query.contains('@');

        let mut parts = Parts::default();
        if let Some(user_info) = user_info {
            let (user, password) = user_info.split_once(':').map_or((user_info, None), |(u, p)| (u, Some(p)));
            parts.user = Some(decode(user, "user")?).filter(|u| !u.is_empty());
            parts.password = password.map(|p| decode(p, "password")).transpose()?.map(Secret::new);
        }
        parts.address(address)?;
        parts.database = Some(decode(path, "database")?).filter(|d| !d.is_empty());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| bad("a parameter has no value"))?;
            let key = decode(key, "parameter")?;
            let key = if names_are_shown || KEYS.contains(&key.as_str()) { key } else { String::from("…") };
            parts.parameter(&key, decode(value, &key)?)?;
        }
        parts.into_options()
    }
}

#[derive(Default)]
struct Parts {
    host: Option<String>,
    port: Option<u16>,
    database: Option<String>,
    user: Option<String>,
    password: Option<Secret>,
    ssl_mode: Option<String>,
    root_cert: Option<PathBuf>,
    application_name: Option<String>,
    connect_timeout: Option<Duration>,
}

impl Parts {
    fn address(&mut self, text: &str) -> Result<()> {
        if text.contains(',') {
            return Err(
                bad("it names several hosts").with_hint("name one host; a name that follows the primary is best")
            );
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, tail) = rest.split_once(']').ok_or_else(|| bad("an address has no closing bracket"))?;
                (
                    host,
                    tail.strip_prefix(':')
                        .or(Some(tail).filter(|t| t.is_empty()))
                        .ok_or_else(|| bad("its port cannot be read"))?,
                )
            }
            None => text.split_once(':').unwrap_or((text, "")),
        };
        self.host = Some(decode(host, "host")?).filter(|h| !h.is_empty());
        if !port.is_empty() {
            self.port = Some(parse_port(port)?);
        }
        Ok(())
    }

    fn parameter(&mut self, key: &str, value: String) -> Result<()> {
        match key {
            "host" => self.host = Some(value),
            "port" => self.port = Some(parse_port(&value)?),
            "user" => self.user = Some(value),
            "password" => self.password = Some(Secret::new(value)),
            "dbname" => self.database = Some(value),
            "sslmode" => self.ssl_mode = Some(value),
            // libpq's word for the system's own authorities, which is our default.
            "sslrootcert" if value == "system" => self.root_cert = None,
            "sslrootcert" => self.root_cert = Some(value.into()),
            "application_name" => self.application_name = Some(value),
            "connect_timeout" => {
                let seconds = value.parse().ok().filter(|s| (1..=3600).contains(s));
                self.connect_timeout = Some(Duration::from_secs(
                    seconds.ok_or_else(|| bad("`connect_timeout` is no number of seconds from 1 to 3600"))?,
                ));
            }
            _ => {
                return Err(bad(format!("it has the unknown parameter `{}`", printable(key)))
                    .with_hint("use `sslmode`, `sslrootcert`, `host`, `application_name` or `connect_timeout`"));
            }
        }
        Ok(())
    }

    fn into_options(self) -> Result<ConnectOptions> {
        let user = self.user.ok_or_else(|| bad("it names no user"))?;
        let database = self.database.ok_or_else(|| bad("it names no database"))?;
        let host = self.host.ok_or_else(|| bad("it names no host"))?;
        if let Some(why) = wrong_host(&host) {
            return Err(bad(why));
        }
        let mut options = ConnectOptions::new(host, database, user);
        options.password = self.password;
        options.root_cert = self.root_cert;
        options.port = self.port.unwrap_or(options.port);
        options.application_name = self.application_name.unwrap_or(options.application_name);
        options.connect_timeout = self.connect_timeout.unwrap_or(options.connect_timeout);
        options.ssl_mode = match self.ssl_mode {
            None => None,
            Some(word) => Some(parse_ssl_mode(&word).ok_or_else(|| {
                bad("its `sslmode` is unknown").with_hint("use `sslmode=verify-full`, the default for other machines")
            })?),
        };
        Ok(options)
    }
}

fn parse_port(text: &str) -> Result<u16> {
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| bad("its port is no number from 1 to 65535"))
}

fn bad(detail: impl Into<String>) -> Error {
    Error::config("a connection URL cannot be used").with_detail(detail).with_hint(FORM)
}

/// Percent-decoding (RFC 3986, 2.1).
fn decode(text: &str, part: &str) -> Result<String> {
    let broken = || bad(format!("its {} has a `%` that is not followed by two hexadecimal digits", printable(part)));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        let (high, low) = (digit().ok_or_else(broken)?, digit().ok_or_else(broken)?);
        bytes.push((high * 16 + low) as u8);
    }
    let text = String::from_utf8(bytes).map_err(|_| bad(format!("its {} is no UTF-8", printable(part))))?;
    if text.contains('\0') {
        return Err(bad(format!("its {} has a zero byte", printable(part))));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::options::SslMode;
    use super::*;

    #[test]
    fn a_full_url_is_taken_apart() {
        let options = ConnectOptions::from_url(
            "postgres://us%40er:p%40s%2Fs%3A@db.example.com:6543/my%20db?sslmode=require&sslrootcert=/etc/ca.pem&connect_timeout=3",
        )
        .unwrap();
        assert_eq!((options.user.as_str(), options.host.as_str(), options.port), ("us@er", "db.example.com", 6543));
        assert_eq!(options.password, Some(Secret::new("p@s/s:")));
        assert_eq!(options.database, "my db");
        assert_eq!(options.ssl_mode, Some(SslMode::Verify));
        assert_eq!(options.root_cert, Some(PathBuf::from("/etc/ca.pem")));
        assert_eq!(options.connect_timeout, Duration::from_secs(3));
    }

    #[test]
    fn sockets_and_addresses_are_hosts_too() {
        let socket = ConnectOptions::from_url("postgresql://u@/d?host=/run/postgresql&port=5433").unwrap();
        assert_eq!((socket.host.as_str(), socket.port), ("/run/postgresql", 5433));
        let encoded = ConnectOptions::from_url("postgres://u@%2Frun%2Fpostgresql/d").unwrap();
        assert_eq!(encoded.host, "/run/postgresql");
        let address = ConnectOptions::from_url("postgres://u@[::1]:5433/d").unwrap();
        assert_eq!((address.host.as_str(), address.address().as_str()), ("::1", "[::1]:5433"));
    }

    #[test]
    fn a_url_that_cannot_be_used_is_never_quoted() {
        for url in [
            "hunter2",
            "mysql://u:hunter2@h/d",
            "postgres://u:hunter2@h",
            "postgres://u:hunter2@/d",
            "postgres://:hunter2@h/d",
            "postgres://u:hunter2%@h/d",
            "postgres://u:hunter2%ff@h/d",
            "postgres://u:hunter2%00@h/d",
            "postgres://u:hunter2@h:port/d",
            "postgres://u:hunter2@h:0/d",
            "postgres://u:hunter2@h:99999/d",
            "postgres://u:hunter2@[::1/d",
            "postgres://u:hunter2@[::1]x/d",
            "postgres://u:hunter2@h,i/d",
            "postgres://u:1/hunter2@h/d?user=x",
            "postgres://u:1?hunter2=x@h/d",
            "postgres://u:1?hunter2%=x@h/d",
            "postgres://u@x:hunter2%40y@h%40hunter2/d",
            "postgres://u@/d?host=v:hunter2@h",
            "postgres://u:hunter2@h/d?sslmode=hunter2",
            "postgres://u:hunter2@h/d?pass=hunter2",
            "postgres://u:hunter2@h/d?hunter",
            "postgres://u:hunter2@h/d?connect_timeout=hunter2",
            "postgres://u:hunter2@h/d#x",
        ] {
            let error = ConnectOptions::from_url(url).unwrap_err();
            let shown = format!("{error:?}{error}");
            assert!(!shown.contains("hunter2") && error.hint().is_some(), "{url}: {shown}");
        }
    }

    #[test]
    fn debug_of_options_shows_no_password() {
        let options = ConnectOptions::from_url("postgres://u:hunter2@h/d").unwrap();
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
