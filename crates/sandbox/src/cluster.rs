//! A private PostgreSQL server, from the binaries that are installed on this machine.
//!
//! Guarantees: the server listens on the loopback interface only; its directory belongs to the user that it runs as;
//! and when the [`Cluster`] goes, by `stop`, by `Drop` or because its process was killed, the server ends and its
//! directory is removed (unless it is to be kept). The last case is the work of a small supervising shell: see
//! `supervisor.sh`. Durability is switched off: a crash of the *machine* may destroy the data.

mod account;
mod backup;
mod binaries;
mod copy;
mod setup;
mod shared;
mod standby;
mod supervisor;
mod xids;

use std::fmt;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use starlift_core::{Error, Result};
use tokio_postgres::{Client, Config, NoTls};

use self::account::Account;
use self::supervisor::{End, Server, StartFailure};
use crate::failure;

pub use self::backup::{Backup, Restore};
pub use self::shared::shared;

/// The superuser of every private cluster.
pub const SUPERUSER: &str = "postgres";

/// How often another port is tried when somebody else takes ours between choosing and listening.
const PORT_ATTEMPTS: usize = 8;

/// What a private cluster is to be like. The default is a fresh temporary directory without passwords or TLS.
#[derive(Clone, Default)]
pub struct ClusterOptions {
    /// Where the cluster lives: a directory that is missing or empty, or that holds a cluster which was kept before
    /// and is to run again. Default: a fresh directory under the system's temporary directory.
    pub dir: Option<PathBuf>,
    /// Whether the directory stays when the cluster goes. The server never does.
    pub keep: bool,
    /// Further settings of `postgresql.conf`, name and unquoted value; they win over the sandbox's own.
    pub settings: Vec<(String, String)>,
    /// The superuser's password. Where it is given, TCP connections need a password (scram-sha-256) for every role.
    pub password: Option<String>,
    /// Certificate chain and key, as PEM files, for a server that also accepts TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// A running private cluster. See the module for what happens when it goes.
pub struct Cluster {
    dir: PathBuf,
    bin_dir: PathBuf,
    port: u16,
    keep: bool,
    password: Option<String>,
    account: Account,
    server: Mutex<Option<Server>>,
    databases: AtomicU32,
}

impl Cluster {
    /// Creates the cluster and returns when it accepts connections.
    ///
    /// Blocks the calling thread for about a second: inside an async program, call it where that is acceptable or
    /// through `spawn_blocking`. As root the server runs as the user `postgres` or, if there is none, `nobody`.
    ///
    /// # Errors
    /// Where PostgreSQL is not installed, the directory cannot be used, or the server does not start; the detail then
    /// holds the end of its log. Nothing is left behind.
    pub fn start(options: ClusterOptions) -> Result<Cluster> {
        let account = Account::for_server()?;
        let bin_dir = binaries::find(&account)?;
        let dir = setup::prepare(&options, &account, &bin_dir)?;
        Cluster::start_in(dir, bin_dir, account, options.keep, options.password)
    }

    /// Starts the server of a directory that is ready for it.
    fn start_in(
        dir: PathBuf,
        bin_dir: PathBuf,
        account: Account,
        keep: bool,
        password: Option<String>,
    ) -> Result<Cluster> {
        let (server, databases) = (Mutex::new(None), AtomicU32::new(0));
        let mut cluster = Cluster { dir, bin_dir, port: 0, keep, password, account, server, databases };
        for _ in 0..PORT_ATTEMPTS {
            cluster.port = free_port()?;
            match cluster.launch() {
                Ok(()) => return Ok(cluster),
                Err(StartFailure::PortTaken) => continue,
                Err(StartFailure::Other(error)) => return Err(error),
            }
        }
        Err(Error::unavailable("no free port for a private PostgreSQL server"))
    }

    fn launch(&self) -> Result<(), StartFailure> {
        let end = if self.keep { End::Keep } else { End::Remove };
        let server = Server::start(&self.account, &self.bin_dir, &self.dir, self.port, end)?;
        *self.server_slot() = Some(server);
        Ok(())
    }

    // A panic elsewhere must not keep the server from being stopped, so a poisoned lock is used all the same.
    fn server_slot(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The TCP port on 127.0.0.1; it stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory with the PostgreSQL programs (`postgres`, `initdb`, …) that this cluster runs from.
    pub fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }

    /// The cluster's own directory: `data`, `server.log` and, where its path is short enough, the unix socket.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A connection URL without password: `postgres://user@127.0.0.1:port/database`.
    pub fn url(&self, database: &str, user: &str) -> String {
        format!("postgres://{}@127.0.0.1:{}/{}", percent_encode(user), self.port, percent_encode(database))
    }

    /// The superuser's connection URL, with the password if the cluster has one.
    pub fn superuser_url(&self, database: &str) -> String {
        match &self.password {
            None => self.url(database, SUPERUSER),
            Some(password) => format!(
                "postgres://{SUPERUSER}:{}@127.0.0.1:{}/{}",
                percent_encode(password),
                self.port,
                percent_encode(database)
            ),
        }
    }

    /// Connects as superuser, without TLS. The connection is driven by a task of the current tokio runtime and ends
    /// when the client is dropped.
    pub async fn connect(&self, database: &str) -> Result<Client> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user(SUPERUSER).dbname(database);
        if let Some(password) = &self.password {
            config.password(password);
        }
        let (client, connection) = config
            .connect(NoTls)
            .await
            .map_err(|e| failure::postgres(format!("cannot connect to the private database `{database}`"), e))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the private cluster ended");
            }
        });
        Ok(client)
    }

    /// Creates an empty database.
    pub async fn create_database(&self, name: &str) -> Result<()> {
        let client = self.connect("postgres").await?;
        client
            .batch_execute(&format!("create database {}", quote_identifier(name)))
            .await
            .map_err(|e| failure::postgres(format!("cannot create the private database `{name}`"), e))
    }

    /// Creates an empty database under a name that this cluster has not given before, and returns the name.
    pub async fn fresh_database(&self, prefix: &str) -> Result<String> {
        let name = format!("{prefix}_{}", self.databases.fetch_add(1, Ordering::Relaxed) + 1);
        self.create_database(&name).await?;
        Ok(name)
    }

    /// Stops the server and keeps the data. `immediate` skips the checkpoint, as a crash would. A server that is
    /// stopped already stays so.
    pub fn stop_server(&self, immediate: bool) -> Result<()> {
        match self.server_slot().take() {
            Some(server) => server.stop(if immediate { End::Immediate } else { End::Fast }),
            None => Ok(()),
        }
    }

    /// Starts a server that [`stop_server`](Cluster::stop_server) stopped, on the same port. A running one stays.
    pub fn start_server(&self) -> Result<()> {
        if self.server_slot().is_some() {
            return Ok(());
        }
        self.launch().map_err(|failure| match failure {
            StartFailure::PortTaken => {
                Error::unavailable(format!("port {} was taken while the private server was stopped", self.port))
            }
            StartFailure::Other(error) => error,
        })
    }

    /// Stops and starts the server: every connection is cut. `immediate` as in [`stop_server`](Cluster::stop_server).
    pub fn restart(&self, immediate: bool) -> Result<()> {
        self.stop_server(immediate)?;
        self.start_server()
    }

    /// Stops the server and removes the directory, unless it is to be kept. `Drop` does the same, without the error.
    pub fn stop(self) -> Result<()> {
        self.finish()
    }

    fn finish(&self) -> Result<()> {
        let stopped = match self.server_slot().take() {
            Some(server) => server.stop(if self.keep { End::Keep } else { End::Remove }),
            None => Ok(()),
        };
        // The supervisor has removed what its user may; the directory's entry in a parent of ours may be left.
        if !self.keep && self.dir.exists() {
            std::fs::remove_dir_all(&self.dir)
                .map_err(|e| failure::io("cannot remove the directory of the private cluster", &self.dir, e))?;
        }
        stopped
    }
}

// Written by hand, because a password must not be printed.
impl fmt::Debug for ClusterOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterOptions")
            .field("dir", &self.dir)
            .field("keep", &self.keep)
            .field("settings", &self.settings)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("tls", &self.tls)
            .finish()
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("dir", &self.dir).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            tracing::warn!(%error, "a private cluster was not cleaned up");
        }
    }
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|e| Error::unavailable("no free port for a private PostgreSQL server").with_source(e))
}

/// An SQL identifier, quoted.
pub(crate) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_reserves_is_encoded() {
        assert_eq!(percent_encode("p@ss:w/ö%"), "p%40ss%3Aw%2F%C3%B6%25");
    }

    #[test]
    fn options_do_not_print_their_password() {
        let options = ClusterOptions { password: Some("s3cret".into()), ..ClusterOptions::default() };
        assert!(!format!("{options:?}").contains("s3cret"));
    }

    #[test]
    fn a_quote_in_an_identifier_is_doubled() {
        assert_eq!(quote_identifier("a\"b"), "\"a\"\"b\"");
    }
}
