//! Base backups of a running cluster, and the servers that go on from them.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use starlift_core::{Error, Result};

use super::account::Account;
use super::{Cluster, SUPERUSER, copy, setup};
use crate::failure;

/// How a server goes on from a base backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restore {
    /// The files are put back and the server is started: it replays the backup's own WAL and goes on, on the timeline of
    /// the original. The original's later transaction ids and WAL positions are given a second time.
    SameTimeline,
    /// Archive recovery: it replays the same WAL and goes on, on a new timeline.
    NewTimeline,
    /// A hot standby that streams from the original.
    Standby,
}

/// A base backup with the WAL that it needs, in a directory of its own that is removed with it.
#[derive(Debug)]
pub struct Backup {
    /// None when a cluster has taken it over.
    dir: Option<PathBuf>,
    bin_dir: PathBuf,
    account: Account,
    password: Option<String>,
    original_port: u16,
    /// Names of databases that are given already.
    databases: u32,
}

impl Cluster {
    /// Takes a base backup while the server runs. Blocks the calling thread for a second or two.
    ///
    /// # Errors
    /// Where the server does not run, or its files cannot be copied.
    pub fn backup(&self) -> Result<Backup> {
        let dir = setup::fresh_dir(&self.account)?;
        let backup = Backup {
            dir: Some(dir.clone()),
            bin_dir: self.bin_dir.clone(),
            account: self.account.clone(),
            password: self.password.clone(),
            original_port: self.port,
            databases: self.databases.load(Ordering::Relaxed),
        };
        setup::make_private(&dir, &self.account)?;
        // A thread of its own, because the caller may be inside of a runtime, which does not wait for another one.
        let copied = std::thread::scope(|scope| {
            let copying = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|e| Error::unavailable("cannot start a runtime").with_source(e))?;
                runtime.block_on(copy::copy(self, &dir.join("data")))
            });
            copying.join().map_err(|_| Error::internal("the copy of the private cluster panicked"))
        });
        copied?.map(|()| backup)
    }

    /// Starts a hot standby of this cluster, from a base backup taken now. It is removed like any other cluster, and
    /// keeps trying to reach this one when this one stops.
    ///
    /// # Errors
    /// Those of [`backup`](Cluster::backup) and of [`start`](Cluster::start).
    pub fn standby(&self) -> Result<Cluster> {
        self.backup()?.restore(Restore::Standby)
    }
}

impl Backup {
    /// Starts a server from the backup, with the settings of the original and on a port of its own. Returns when it
    /// accepts connections: as a primary, or, as a standby, for reading.
    ///
    /// # Errors
    /// Those of [`Cluster::start`].
    pub fn restore(mut self, how: Restore) -> Result<Cluster> {
        let Some(dir) = self.dir.clone() else { return Err(Error::internal("the backup is in use")) };
        let data = dir.join("data");
        let mut settings = setup::setting("unix_socket_directories", setup::socket_dir(&dir));
        let signal = match how {
            Restore::SameTimeline => None,
            Restore::NewTimeline => {
                // There is no archive; and who connects shall find a primary.
                settings.push_str(&setup::setting("restore_command", "false"));
                settings.push_str(&setup::setting("hot_standby", "off"));
                Some("recovery.signal")
            }
            Restore::Standby => {
                settings.push_str(&setup::setting("primary_conninfo", &self.original()));
                settings.push_str(&setup::setting("wal_retrieve_retry_interval", "100ms"));
                Some("standby.signal")
            }
        };
        setup::configure(&data, &settings)?;
        if let Some(signal) = signal {
            let path = data.join(signal);
            fs::write(&path, "").map_err(|e| failure::io("cannot say how the backup is to be restored", &path, e))?;
            self.account.own(&path)?;
        }
        self.dir = None;
        let cluster = Cluster::start_in(dir, self.bin_dir.clone(), self.account.clone(), false, self.password.clone())?;
        cluster.databases.store(self.databases, Ordering::Relaxed);
        Ok(cluster)
    }

    fn original(&self) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
        let password = self.password.as_deref().map(|p| format!(" password={}", quoted(p))).unwrap_or_default();
        format!("host=127.0.0.1 port={} user={SUPERUSER}{password}", self.original_port)
    }
}

impl Drop for Backup {
    fn drop(&mut self) {
        if let Some(dir) = self.dir.take()
            && let Err(error) = fs::remove_dir_all(&dir)
        {
            tracing::warn!(%error, "a backup of a private cluster was not removed");
        }
    }
}
