//! The files of a running cluster, copied by the low-level backup functions of the server: `pg_basebackup` is not everywhere.
//!
//! Guarantees: the copy begins at a checkpoint, has the WAL up to its end, and is as good as a crash at its end. A file that
//! goes while the others are copied is replayed from that WAL; a full image of each page is in it, whatever the settings.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use starlift_core::{Error, Result};

use super::Cluster;
use super::account::Account;
use crate::failure;

/// Directories that are copied without their files (PostgreSQL manual, "Backing Up The Data Directory"); WAL comes last.
const EMPTY: [&str; 8] =
    ["pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans", "pg_wal"];
const LEFT_OUT: [&str; 3] = ["postmaster.pid", "postmaster.opts", "pg_internal.init"];
const CONTROL: &str = "global/pg_control";
const VERSION_15: i32 = 150_000;

/// Copies the data directory of `cluster` to `to`, which does not exist. `Backup` removes what an error leaves.
pub(super) async fn copy(cluster: &Cluster, to: &Path) -> Result<()> {
    let failed = |e| failure::postgres("the private server takes no backup", e);
    let from = cluster.dir.join("data");
    // The backup ends with the session that began it.
    let client = cluster.connect("postgres").await?;
    let version = "select current_setting('server_version_num')::int4";
    let version: i32 = client.query_one(version, &[]).await.map_err(failed)?.get(0);
    let (start, stop) = if version < VERSION_15 {
        ("pg_start_backup('sandbox', true, false)", "pg_stop_backup(false, false)")
    } else {
        ("pg_backup_start('sandbox', true)", "pg_backup_stop(false)")
    };
    let first = format!("select pg_walfile_name({start})");
    let first: String = client.query_one(&first, &[]).await.map_err(failed)?.get(0);

    tree(&from, to, &cluster.account)?;
    // Where recovery of a standby would have to end is in the control file: nothing that is copied is newer than it.
    file(&from.join(CONTROL), &to.join(CONTROL), &cluster.account)?;

    let stop = format!("select pg_walfile_name(lsn), labelfile from {stop}");
    let row = client.query_one(&stop, &[]).await.map_err(failed)?;
    let (last, label): (String, String) = (row.get(0), row.get(1));
    let path = to.join("backup_label");
    fs::write(&path, label).map_err(|e| failure::io("cannot write the label of the backup", &path, e))?;
    cluster.account.own(&path)?;
    wal(&from.join("pg_wal"), &to.join("pg_wal"), &first, &last, &cluster.account)
}

fn tree(from: &Path, to: &Path, account: &Account) -> Result<()> {
    directory(to, account)?;
    for (name, is_dir) in entries(from)? {
        let (source, target) = (from.join(&name), to.join(&name));
        if EMPTY.contains(&name.as_str()) {
            directory(&target, account)?;
        } else if is_dir && !name.starts_with("pgsql_tmp") {
            tree(&source, &target, account)?;
        } else if from.ends_with("pg_tblspc") {
            return Err(Error::internal("a private cluster with a tablespace cannot be copied"));
        } else if !is_dir && !LEFT_OUT.contains(&name.as_str()) && !source.ends_with(CONTROL) {
            file(&source, &target, account)?;
        }
    }
    Ok(())
}

/// The segments from the first to the last, and the history of the timelines.
fn wal(from: &Path, to: &Path, first: &str, last: &str, account: &Account) -> Result<()> {
    for (name, is_dir) in entries(from)? {
        let is_segment = name.len() == last.len() && name.as_str() >= first && name.as_str() <= last;
        if !is_dir && (is_segment || name.ends_with(".history")) {
            file(&from.join(&name), &to.join(&name), account)?;
        }
    }
    // A checkpoint while the files were copied may have taken the first one away.
    if [first, last].iter().all(|name| to.join(name).exists()) {
        return Ok(());
    }
    Err(Error::unavailable("the private server did not keep the WAL of its backup"))
}

/// Names in a directory that may go meanwhile, and whether each is a directory.
fn entries(dir: &Path) -> Result<Vec<(String, bool)>> {
    let failed = |e| failure::io("cannot list the files of the private cluster", dir, e);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        match entry.file_type() {
            Ok(kind) => found.push((entry.file_name().to_string_lossy().into_owned(), kind.is_dir())),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(failed(e)),
        }
    }
    Ok(found)
}

fn directory(path: &Path, account: &Account) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(|e| failure::io("cannot create a directory of the backup", path, e))?;
    account.own(path)
}

fn file(from: &Path, to: &Path, account: &Account) -> Result<()> {
    match fs::copy(from, to) {
        Ok(_) => account.own(to),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(failure::io("cannot copy a file of the private cluster", from, e)),
    }
}
