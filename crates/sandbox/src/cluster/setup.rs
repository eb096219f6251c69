//! The cluster's directory: created, initialised and configured before the server first starts.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use starlift_core::{Error, Result};

use super::account::Account;
use super::{ClusterOptions, SUPERUSER};
use crate::failure;

/// Linux allows 107 bytes for the path of a socket, macOS 103; the file's name takes up to 15 with its slash.
const SOCKET_DIR_LIMIT: usize = 103 - 15;

/// Makes the directory ready for the server and returns its path. On an error, what was created is removed.
pub(crate) fn prepare(options: &ClusterOptions, account: &Account, bin_dir: &Path) -> Result<PathBuf> {
    let dir = match &options.dir {
        Some(dir) => claim(dir)?,
        None => fresh_dir(account)?,
    };
    let kept_before = dir.join("data/PG_VERSION").exists();
    let outcome = fill(&dir, options, account, bin_dir, kept_before);
    if outcome.is_err() && !kept_before {
        // The error at hand says more than one about the clean-up would.
        let _ = fs::remove_dir_all(&dir);
    }
    outcome.map(|()| dir)
}

/// A fresh directory where the server's user can go.
pub(crate) fn fresh_dir(account: &Account) -> Result<PathBuf> {
    let preferred = std::env::temp_dir();
    let root = [preferred.clone(), "/tmp".into(), "/var/tmp".into()]
        .into_iter()
        .find(|d| account.can_enter(d))
        .unwrap_or(preferred);
    tempfile::Builder::new()
        .prefix("starlift-pg-")
        .tempdir_in(&root)
        .map(tempfile::TempDir::keep)
        .map_err(|e| failure::io("cannot create a directory for the private cluster", &root, e))
}

/// The directory that the caller named, if it is ours to use: it will be removed with everything in it.
fn claim(dir: &Path) -> Result<PathBuf> {
    let unusable = |e| failure::io("cannot use the directory for the private cluster", dir, e);
    fs::create_dir_all(dir).map_err(unusable)?;
    let dir = dir.canonicalize().map_err(unusable)?;
    let empty = fs::read_dir(&dir).map_err(unusable)?.next().is_none();
    if empty || dir.join("data/PG_VERSION").exists() {
        return Ok(dir);
    }
    Err(Error::config("the directory for the private cluster holds something else")
        .with_context("path", dir.display().to_string())
        .with_hint("name a directory that is empty or does not exist"))
}

/// Gives a directory to the server's user, and to nobody else.
pub(crate) fn make_private(dir: &Path, account: &Account) -> Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
        .map_err(|e| failure::io("cannot make the directory of the private cluster private", dir, e))?;
    account.own(dir)
}

fn fill(dir: &Path, options: &ClusterOptions, account: &Account, bin_dir: &Path, kept_before: bool) -> Result<()> {
    make_private(dir, account)?;
    if !account.can_enter(dir) {
        return Err(Error::config("the user of the private server cannot enter its directory")
            .with_context("path", dir.display().to_string())
            .with_hint("PostgreSQL refuses to run as root: name a directory outside of root's home"));
    }
    let data = dir.join("data");
    if !kept_before {
        initdb(dir, &data, options, account, bin_dir)?;
    }
    if let Some((certificate, key)) = &options.tls {
        // The server wants to own its key, and nobody else to read it.
        place(certificate, &data.join("server.crt"), account)?;
        place(key, &data.join("server.key"), account)?;
    }
    configure(&data, &configuration(dir, options))
}

/// Appends to `postgresql.conf`, where later lines win.
pub(crate) fn configure(data: &Path, text: &str) -> Result<()> {
    let conf = data.join("postgresql.conf");
    OpenOptions::new()
        .append(true)
        .open(&conf)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| failure::io("cannot configure the private cluster", &conf, e))
}

fn initdb(dir: &Path, data: &Path, options: &ClusterOptions, account: &Account, bin_dir: &Path) -> Result<()> {
    let mut command = account.command(bin_dir.join("initdb"));
    command.args(["--encoding=UTF8", "--locale=C", "--no-sync", "-U", SUPERUSER, "-D"]).arg(data);
    let password_file = dir.join("password");
    match &options.password {
        None => {
            command.arg("--auth=trust");
        }
        Some(password) => {
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&password_file)
                .and_then(|mut file| file.write_all(password.as_bytes()))
                .map_err(|e| failure::io("cannot hand the password to initdb", &password_file, e))?;
            account.own(&password_file)?;
            command.args(["--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile"]).arg(&password_file);
        }
    }
    let output = command.output();
    let _ = fs::remove_file(&password_file);
    let output = output.map_err(|e| Error::unavailable("cannot run `initdb`").with_source(e))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::unavailable("`initdb` could not create the private cluster").with_detail(said.trim().to_owned()))
}

fn place(from: &Path, to: &Path, account: &Account) -> Result<()> {
    let content = fs::read(from).map_err(|e| failure::io("cannot read the TLS material", from, e))?;
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(to)
        .and_then(|mut file| file.write_all(&content))
        .map_err(|e| failure::io("cannot copy the TLS material", to, e))?;
    account.own(to)
}

/// Where the unix socket of a cluster goes; empty, for none, where the path does not do.
pub(crate) fn socket_dir(dir: &Path) -> &str {
    let fits = dir.as_os_str().as_bytes().len() <= SOCKET_DIR_LIMIT;
    // Several socket directories are separated by commas, so a path with one cannot be given.
    dir.to_str().filter(|text| fits && !text.contains([',', '"'])).unwrap_or_default()
}

/// A cluster's settings for `postgresql.conf`.
fn configuration(dir: &Path, options: &ClusterOptions) -> String {
    let own = [
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", socket_dir(dir)),
        ("fsync", "off"),
        ("synchronous_commit", "off"),
        // Ingest waits until what it has read is flushed.
        ("wal_writer_delay", "10ms"),
        ("full_page_writes", "off"),
        ("max_wal_size", "4GB"),
        ("max_prepared_transactions", "64"),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
        ("lc_messages", "C"),
    ];
    let tls = options
        .tls
        .iter()
        .flat_map(|_| [("ssl", "on"), ("ssl_cert_file", "server.crt"), ("ssl_key_file", "server.key")]);
    let given = options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut text = String::from("\n# The sandbox's settings: fast, private, and never for data that matters.\n");
    for (name, value) in own.into_iter().chain(tls).chain(given) {
        text.push_str(&setting(name, value));
    }
    text
}

/// A line of `postgresql.conf`.
pub(crate) fn setting(name: &str, value: &str) -> String {
    format!("{name} = '{}'\n", value.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_quoted_and_a_long_path_gets_no_socket() {
        let options =
            ClusterOptions { settings: vec![("application_name".into(), "it's".into())], ..ClusterOptions::default() };
        let text = configuration(Path::new(&format!("/{}", "x".repeat(100))), &options);
        assert!(text.contains("unix_socket_directories = ''\n"), "{text}");
        assert!(text.ends_with("application_name = 'it''s'\n"), "{text}");
        assert!(configuration(Path::new("/tmp/a"), &options).contains("unix_socket_directories = '/tmp/a'\n"));
    }
}
