//! Transaction ids, moved on by billions within seconds: for what happens at 2^31 and 2^32.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

use starlift_core::{Error, Result};

use super::Cluster;
use crate::failure;

/// `CLOG_XACTS_PER_PAGE * SLRU_PAGES_PER_SEGMENT` and the size of such a segment, with blocks of 8 KiB (the server's `clog.c`).
const XIDS_PER_SEGMENT: u32 = 1 << 20;
const SEGMENT_BYTES: u64 = 256 << 10;

impl Cluster {
    /// Restarts the server with `next` as its next transaction id, as if the transactions in between had run: all
    /// databases are frozen first (each row keeps its `xmin`), then `pg_resetwal` sets the id. Cluster, timeline and epoch
    /// stay the same, and the WAL position moves on, so to a client nothing but time has passed.
    ///
    /// `next` is ahead of the present one by less than 2^31 less some millions, and no transaction is open or prepared:
    /// the server refuses to start, or to write, otherwise. To pass 2^32, stop shortly before and run transactions.
    ///
    /// # Errors
    /// Where the databases cannot be frozen, or the server does not stop or start again.
    pub async fn skip_to_xid(&self, next: u32) -> Result<()> {
        self.freeze_all().await?;
        self.stop_server(false)?;
        self.provide_commit_log(next)?;
        let mut command = self.account.command(self.bin_dir.join("pg_resetwal"));
        command.args(["--next-transaction-id", &next.to_string(), "--pgdata"]).arg(self.dir.join("data"));
        let output = command.output().map_err(|e| Error::unavailable("cannot run `pg_resetwal`").with_source(e))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Error::unavailable("`pg_resetwal` refused").with_detail(said.trim().to_owned()));
        }
        self.start_server()
    }

    async fn freeze_all(&self) -> Result<()> {
        let failed = |e| failure::postgres("cannot freeze the private databases", e);
        let client = self.connect("postgres").await?;
        client.batch_execute("alter database template0 allow_connections true").await.map_err(failed)?;
        for row in client.query("select datname::text from pg_database", &[]).await.map_err(failed)? {
            let database: String = row.get(0);
            self.connect(&database).await?.batch_execute("vacuum (freeze)").await.map_err(failed)?;
        }
        client.batch_execute("alter database template0 allow_connections false").await.map_err(failed)
    }

    /// The part of the commit log that the server wants to find for its next id.
    fn provide_commit_log(&self, next: u32) -> Result<()> {
        let path = self.dir.join("data/pg_xact").join(format!("{:04X}", next / XIDS_PER_SEGMENT));
        let failed = |e| failure::io("cannot extend the commit log of the private cluster", &path, e);
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() < SEGMENT_BYTES {
            file.set_len(SEGMENT_BYTES).map_err(failed)?;
        }
        self.account.own(&path)
    }
}
