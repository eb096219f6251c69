//! Where to connect, as parts: a URL or a credentials file is taken apart at once and never kept or shown.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use starlift_core::{Error, Result, fault};

use crate::secret::Secret;

/// How long a transaction may idle between statements, while what was read is written to the lake or what is to be
/// loaded comes from the star, before the server ends it.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// What the server gets beyond its own limit to say that it was reached.
const SILENCE_GRACE: Duration = Duration::from_secs(5);

/// Where and how to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectOptions {
    /// A host name, an address, or the directory of a Unix socket (it starts with `/`).
    pub host: String,
    /// The TCP port, also part of a Unix socket's name.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
    /// Its password; none where the server asks for none.
    pub password: Option<Secret>,
    /// What the user said about TLS; none means the default of the host: see [`ConnectOptions::transport`].
    pub ssl_mode: Option<SslMode>,
    /// A PEM file of the certificate authorities to trust instead of the system's.
    pub root_cert: Option<PathBuf>,
    /// Shown in `pg_stat_activity`, so that a person can find our sessions.
    pub application_name: String,
    /// How long connecting may take, TLS and authentication included.
    pub connect_timeout: Duration,
    /// How long a session may go without a byte in either direction before it is given up; none: for ever. A network that
    /// swallows everything, and a server that hangs, look like a statement that takes long: so this has to be more than
    /// the longest statement, and the longest pause between two, may take.
    pub silence_timeout: Option<Duration>,
}

/// The `sslmode` of a URL, as far as it makes a difference here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// `allow` or `prefer`: TLS is not asked for.
    Prefer,
    /// `require`, `verify-ca` or `verify-full`: TLS, and it is always verified in full.
    Verify,
}

/// How bytes travel. There is no third way, and no falling back from one to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Unencrypted, inside this machine only.
    Plain,
    /// TLS with the server's certificate and host name verified.
    VerifiedTls,
}

impl ConnectOptions {
    /// Options with the defaults for all but these three: port 5432, no password, 10 seconds to connect.
    pub fn new(host: impl Into<String>, database: impl Into<String>, user: impl Into<String>) -> ConnectOptions {
        ConnectOptions {
            host: host.into(),
            port: 5432,
            database: database.into(),
            user: user.into(),
            password: None,
            ssl_mode: None,
            root_cert: None,
            application_name: "starlift".into(),
            connect_timeout: Duration::from_secs(10),
            silence_timeout: None,
        }
    }

    /// The same with a silence that no healthy session reaches whose statements may run for this long; none where they
    /// may run for ever.
    pub fn with_longest_statement(mut self, longest: Duration) -> ConnectOptions {
        let quiet = if fault::planted("short_silence") { Duration::ZERO } else { longest.max(IDLE_TIMEOUT) };
        self.silence_timeout = (!longest.is_zero()).then_some(quiet + SILENCE_GRACE);
        self
    }

    /// How bytes travel: verified TLS to any other machine, whatever `sslmode` says; within this machine (loopback,
    /// `localhost`, a Unix socket) plain unless `sslmode` asks for TLS.
    ///
    /// # Errors
    /// Config for `sslmode=disable` to another machine, and for TLS over a Unix socket.
    pub fn transport(&self) -> Result<Transport> {
        let ssl_mode = self.ssl_mode;
        if self.host.starts_with('/') {
            return match ssl_mode {
                Some(SslMode::Verify) => Err(Error::config("a Unix socket has no TLS")
                    .with_hint("leave `sslmode` out of the URL: a Unix socket stays within this machine")),
                _ => Ok(Transport::Plain),
            };
        }
        match (self.is_local(), ssl_mode) {
            (true, Some(SslMode::Verify)) | (false, None | Some(SslMode::Prefer | SslMode::Verify)) => {
                Ok(Transport::VerifiedTls)
            }
            (true, _) => Ok(Transport::Plain),
            (false, Some(SslMode::Disable)) => {
                Err(Error::config(format!("`sslmode=disable` is refused for host `{}`", self.host))
                    .with_detail("the password and every row would cross the network in the clear")
                    .with_hint(
                        "remove `sslmode`, or use `sslmode=verify-full`, with `sslrootcert=FILE` for a private CA",
                    ))
            }
        }
    }

    /// The host and port for messages; it holds no secret.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn is_local(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// What keeps a host from being one, if anything does. Hosts are named in messages, and a URL in the place of a host, or
/// credentials in front of it, would be said with it.
pub(super) fn wrong_host(host: &str) -> Option<&'static str> {
    if host.starts_with('/') {
        return None;
    }
    let odd = |c: char| "@/?=".contains(c) || c.is_whitespace() || c.is_control();
    let is_address = || host.split('%').next().is_some_and(|address| address.parse::<IpAddr>().is_ok());
    let is_wrong = host.contains(odd) || (host.contains(':') && !is_address());
    is_wrong.then_some("its host holds more than the name of a machine")
}

/// The sslmode of its word in a URL or credentials file; the modes are those of libpq.
pub(super) fn parse_ssl_mode(word: &str) -> Option<SslMode> {
    Some(match word {
        "disable" => SslMode::Disable,
        "allow" | "prefer" => SslMode::Prefer,
        "require" | "verify-ca" | "verify-full" => SslMode::Verify,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_the_machine_without_verified_tls() {
        for host in
            ["db.example.com", "10.0.0.1", "localhost.example.com", "127.0.0.1.example.com", "192.168.0.1", "::2"]
        {
            let mut options = ConnectOptions::new(host, "d", "u");
            for mode in [None, Some(SslMode::Prefer), Some(SslMode::Verify)] {
                options.ssl_mode = mode;
                assert_eq!(options.transport().unwrap(), Transport::VerifiedTls, "{host} {mode:?}");
            }
            options.ssl_mode = Some(SslMode::Disable);
            assert!(options.transport().is_err(), "{host}");
        }
    }

    #[test]
    fn a_host_is_the_name_of_a_machine_and_no_more() {
        for host in ["db.example.com", "db_1", "10.0.0.1", "::1", "fe80::1%eth0", "/run/postgresql", "bücher.example"]
        {
            assert_eq!(wrong_host(host), None, "{host}");
        }
        for host in [
            "u:hunter2@db",
            "postgres://u:hunter2@db",
            "db password=hunter2",
            "db/d",
            "db?password",
            "db\n",
            "u:hunter2",
            "db:5432",
        ] {
            assert!(wrong_host(host).is_some_and(|why| !why.contains("hunter2")), "{host}");
        }
    }

    #[test]
    fn within_the_machine_tls_is_only_used_when_asked_for() {
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.8.8.8", "::1"] {
            let mut options = ConnectOptions::new(host, "d", "u");
            for mode in [None, Some(SslMode::Prefer), Some(SslMode::Disable)] {
                options.ssl_mode = mode;
                assert_eq!(options.transport().unwrap(), Transport::Plain, "{host} {mode:?}");
            }
            options.ssl_mode = Some(SslMode::Verify);
            assert_eq!(options.transport().unwrap(), Transport::VerifiedTls, "{host}");
        }
        let mut socket = ConnectOptions::new("/run/postgresql", "d", "u");
        assert_eq!(socket.transport().unwrap(), Transport::Plain);
        socket.ssl_mode = Some(SslMode::Verify);
        assert!(socket.transport().is_err());
    }
}
