//! Reading the source at one snapshot, as an ordinary role that may only read.
//!
//! Guarantees:
//! * every query between [`SourceSession::begin`] and [`SourceSession::end`] sees one snapshot (`REPEATABLE READ READ
//!   ONLY`), and the tables are locked in `ACCESS SHARE` mode *before* that snapshot is taken: a rewriting `ALTER TABLE`
//!   or a `TRUNCATE` that commits in between would make a table look empty (PostgreSQL manual, 13.6 "Caveats");
//! * rows that row-level security would hide are an error, because `row_security` is off;
//! * what is read does not depend on settings of the server, the database or the role: the session pins them, and each
//!   transaction looks whether they hold, because a pooler may have given it another session.
//!
//! A catalog that is read before `begin` may be out of date under the locks: read it again there.
//!
//! A crash leaves nothing behind: the server ends the session and its locks. While a transaction is open, DDL on the
//! tables waits for it, and queries of the application wait for that DDL: keep it short.

mod attached;
mod awake;
mod cursor;
mod filter;
mod heap;
mod identity;
mod shared;
mod statement;
mod stream;
mod window;

use std::time::Duration;

use starlift_core::manifest::Source;
use starlift_core::xid::Snapshot;
use starlift_core::{Column, Error, ErrorKind, Micros, Result, fault, wal};
use tokio_postgres::Client;
use tokio_postgres::types::PgLsn;

pub use self::filter::keys_filter;
use self::identity::Identity;
pub use self::shared::{OLDEST_WITH_RANGES, PageRange};
pub use self::statement::select_expression;
pub use self::stream::{BatchLimits, RowStream};
pub use self::window::{Marked, Window};
use crate::catalog::{Catalog, SourceTable, TableSettings, has_view, read_tables};
use crate::codec::RowDecoder;
use crate::connect::Connection;
use crate::ident::quote_qualified;
use crate::sqlstate::{class, classify, sqlstate_of};

/// The oldest server that is read: `pg_current_snapshot` and `trim_scale` came with it.
pub const OLDEST_SERVER: u32 = 130_000;
/// How long a lock may be waited for.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the server is asked how far its WAL is flushed.
const FLUSH_POLL: Duration = Duration::from_millis(10);
/// How long a commit of ours may take, and how long the server is waited for where we may make none. Its background writer puts
/// something behind what was read within 15 seconds, and the WAL writer flushes that.
const FLUSH_PATIENCE: Duration = Duration::from_secs(20);

/// The source at the snapshot of one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSnapshot {
    /// Which source, and where its transaction ids and its WAL are. Its list of tables and its horizon are for the caller to fill.
    pub source: Source,
    /// The WAL position that was read before the snapshot: whatever is committed up to it, the snapshot sees. None where it
    /// cannot be read.
    pub lsn_before: Option<u64>,
    /// The source's clock, read after the snapshot was taken.
    pub now: Micros,
}

/// A session that reads one schema of a source.
#[derive(Debug)]
pub struct SourceSession {
    connection: Connection,
    schema: String,
    server_version: u32,
    limits: BatchLimits,
    is_open: bool,
}

impl SourceSession {
    /// Takes a connection over and pins the settings of its session. A statement, a whole COPY included, may run
    /// `statement_timeout_seconds`; 0 means as long as it takes.
    ///
    /// # Errors
    /// Unsupported for a server older than PostgreSQL 13.
    pub async fn open(connection: Connection, schema: &str, statement_timeout_seconds: u64) -> Result<SourceSession> {
        let server_version = server_version(connection.client()).await?;
        if server_version < OLDEST_SERVER {
            return Err(Error::new(ErrorKind::Unsupported, "the source is older than PostgreSQL 13")
                .with_detail(format!("it is PostgreSQL {}", server_version / 10_000))
                .with_hint("read from a server of version 13 or newer, such as an upgraded replica"));
        }
        let (schema, limits) = (schema.to_string(), BatchLimits::default());
        let session = SourceSession { connection, schema, server_version, limits, is_open: false };
        let what = "cannot set up the session";
        session.execute(&statement::pinned_settings(statement_timeout_seconds), what).await?;
        session.execute(statement::RAW_BYTES, what).await?;
        Ok(session)
    }

    /// Sets how large batches are.
    pub fn with_limits(mut self, limits: BatchLimits) -> SourceSession {
        self.limits = limits;
        self
    }

    /// The client, for queries of the caller's own.
    pub fn client(&self) -> &Client {
        self.connection.client()
    }

    /// The server's version as a number, such as 150018.
    pub fn server_version(&self) -> u32 {
        self.server_version
    }

    /// Reads what the schema holds, outside of a transaction as of now, inside as of its snapshot: see [`read_tables`].
    pub async fn catalog(&self, settings: &TableSettings, views: &[String]) -> Result<Catalog> {
        read_tables(self.client(), &self.schema, settings, views).await
    }

    /// Whether the schema has a view, materialised view or foreign table of this name.
    ///
    /// # Errors
    /// What the server says.
    pub async fn has_view(&self, name: &str) -> Result<bool> {
        has_view(self.client(), &self.schema, name).await
    }

    /// Opens the transaction: locks these tables, then takes the snapshot. Views cannot be locked: leave them out.
    ///
    /// # Errors
    /// Unavailable where a lock is not given within [`LOCK_TIMEOUT`], or a table is gone; Permission where the role may not
    /// read one ([`Catalog::check_access`] names all of them before). No transaction is open afterwards.
    pub async fn begin(&mut self, tables: &[String]) -> Result<SourceSnapshot> {
        if self.is_open {
            return Err(Error::internal("a transaction on the source is open already"));
        }
        // Outside of the transaction, because parts of it may be denied, and an error would end the transaction.
        let identity = identity::read(self.client()).await?;
        self.is_open = true;
        let snapshot = self.lock_and_look(tables, identity).await;
        if snapshot.is_err() {
            // The first error says more than one about the rollback would.
            let _ = self.end().await;
        }
        snapshot
    }

    async fn lock_and_look(&self, tables: &[String], identity: Identity) -> Result<SourceSnapshot> {
        let what = format!("cannot lock the tables of schema `{}` for reading", self.schema);
        self.execute(&statement::begin(&self.schema, tables), &what).await.map_err(|error| {
            match sqlstate_of(&error) {
                // The names came from the catalog a moment ago.
                Some("42P01") => Error::unavailable(what)
                    .with_detail(error.detail().unwrap_or_default())
                    .with_hint("a table was dropped or renamed while the run began: run again"),
                _ => error,
            }
        })?;
        let what = "cannot take a snapshot of the source";
        let odd = |error| classify(error, what);
        let row = self.client().query_one(&statement::snapshot(identity.lsn.is_some()), &[]).await.map_err(odd)?;
        must_hold(row.try_get(5).map_err(odd)?)?;
        let text: String = row.try_get(0).map_err(odd)?;
        let xids = Snapshot::parse(&text)
            .ok_or_else(|| Error::internal(what).with_detail("`pg_current_snapshot` has an unexpected form"))?;
        let clock: std::time::SystemTime = row.try_get(1).map_err(odd)?;
        let lsn: Option<PgLsn> = row.try_get(4).map_err(odd)?;
        let source = Source {
            identity: identity.text,
            in_recovery: row.try_get(2).map_err(odd)?,
            server_version: self.server_version,
            database: row.try_get(3).map_err(odd)?,
            schema: self.schema.clone(),
            xmin: xids.xmin,
            xmax: xids.xmax,
            lsn: lsn.map_or(0, |lsn| wal::record_end(lsn.into())),
            tables: Vec::new(),
            horizon: None,
        };
        Ok(SourceSnapshot { source, lsn_before: identity.lsn, now: micros(clock)? })
    }

    /// Counts the rows of a table at the snapshot.
    pub async fn count(&self, table: &SourceTable) -> Result<u64> {
        self.must_be_open()?;
        let sql = format!("select count(*) from {}", quote_qualified(&self.schema, &table.name));
        let row = self.client().query_one(&sql, &[]).await.map_err(|e| self.failed("count", table, e))?;
        let count: i64 = row.try_get(0).map_err(|e| self.failed("count", table, e))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Reads the rows of a table for which `filter`, an SQL condition over its columns, holds; without one, all.
    ///
    /// A stream that is dropped before its end leaves the session busy with the rest: drop the session too.
    pub async fn copy_rows(&self, table: &SourceTable, filter: Option<String>) -> Result<RowStream> {
        self.copy(table, &table.schema.columns, filter).await
    }

    /// Reads the key of every row: the key's columns in the order of the key.
    pub async fn copy_keys(&self, table: &SourceTable) -> Result<RowStream> {
        let columns: Vec<Column> = table.schema.key_columns().cloned().collect();
        self.copy(table, &columns, None).await
    }

    async fn copy(&self, table: &SourceTable, columns: &[Column], filter: Option<String>) -> Result<RowStream> {
        let sql = statement::copy(&self.schema, &table.name, columns, filter.as_deref());
        self.copy_by(table, columns, &sql).await
    }

    /// The rows that a COPY of these columns gives.
    async fn copy_by(&self, table: &SourceTable, columns: &[Column], sql: &str) -> Result<RowStream> {
        self.must_be_open()?;
        let decoder = RowDecoder::new(columns, &table.schema.key)?.with_max_value_bytes(self.limits.value_bytes);
        let chunks = self.client().copy_out(sql).await.map_err(|e| self.failed("read", table, e))?;
        Ok(RowStream::new(format!("{}.{}", self.schema, table.name), chunks, decoder, self.limits))
    }

    /// Waits until the server has flushed what the snapshot saw, so that no crash of it takes back what was read: with
    /// `synchronous_commit = off` a commit is visible before it is on disk, and its transaction id is given again after a
    /// crash. To be called after [`end`](Self::end), so that nobody waits for our locks meanwhile.
    ///
    /// A server that has nothing to wait for flushes such commits within three times `wal_writer_delay` (PostgreSQL manual, 30.4
    /// "Asynchronous Commit"). After twice that time a commit of our own, of an empty message and nothing else, makes it flush: a disk may
    /// be stalled, or what is behind the last commit be WAL that nobody waits for.
    ///
    /// # Errors
    /// Unavailable where it is not flushed [`FLUSH_PATIENCE`] later.
    pub async fn await_durable(&self, source: &Source) -> Result<()> {
        if source.in_recovery || source.lsn == 0 || fault::planted("durability_ignored") {
            return Ok(());
        }
        let lsn = PgLsn::from(source.lsn);
        let (mut waited, mut has_pushed) = (Duration::ZERO, false);
        loop {
            let row = match self.client().query_one(statement::FLUSHED, &[&lsn]).await {
                Ok(row) => row,
                // A service that does not tell cannot be waited for.
                Err(error) if class(&error).kind == ErrorKind::Permission => return Ok(()),
                // 55000: it became a standby, which does not write.
                Err(error) if error.code().is_some_and(|c| c.code() == "55000") => return Ok(()),
                Err(error) => return Err(classify(error, statement::NOT_FLUSHED)),
            };
            let odd = |error| classify(error, statement::NOT_FLUSHED);
            let (flushed, delay): (bool, i32) = (row.try_get(0).map_err(odd)?, row.try_get(1).map_err(odd)?);
            let limit = 6 * Duration::from_millis(delay.unsigned_abs().into());
            if flushed {
                return Ok(());
            }
            if waited >= limit && !has_pushed {
                self.push().await?;
                has_pushed = true;
                continue;
            }
            if waited >= limit + FLUSH_PATIENCE {
                return Err(not_flushed());
            }
            tokio::time::sleep(FLUSH_POLL).await;
            waited += FLUSH_POLL;
        }
    }

    /// Makes the server flush its WAL by a commit, where the role may.
    async fn push(&self) -> Result<()> {
        match tokio::time::timeout(FLUSH_PATIENCE, self.client().batch_execute(PUSH)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the role may not make the source flush its WAL: it is waited for");
                self.execute("rollback", statement::NOT_FLUSHED).await
            }
            Err(_) => Err(not_flushed()),
        }
    }

    /// Ends the transaction, whatever its state, and gives the locks back; nothing where none is open.
    pub async fn end(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_open) {
            return Ok(());
        }
        self.execute("rollback", "cannot end the transaction on the source").await
    }

    /// Ends the session politely.
    pub async fn close(self) {
        self.connection.close().await;
    }

    fn must_be_open(&self) -> Result<()> {
        if self.is_open { Ok(()) } else { Err(Error::internal("the source is read outside of a transaction")) }
    }

    async fn execute(&self, sql: &str, what: &str) -> Result<()> {
        self.client().batch_execute(sql).await.map_err(|error| classify(error, what))
    }

    fn failed(&self, verb: &str, table: &SourceTable, error: tokio_postgres::Error) -> Error {
        classify(error, format!("cannot {verb} table `{}.{}`", self.schema, table.name))
    }
}

/// A commit that waits until it is on the server's own disk, and with it all that came before.
const PUSH: &str = "begin read write; set local synchronous_commit = local; \
                    select pg_catalog.pg_logical_emit_message(true, 'starlift', ''); commit";

fn not_flushed() -> Error {
    Error::unavailable("the source has not flushed what was read")
        .with_detail("a crash of it could take back commits that were seen, and nothing is committed")
        .with_hint("look at its disk and its WAL writer, and run again")
}

/// Whether the settings of the session are those of the transaction.
fn must_hold(settings_hold: bool) -> Result<()> {
    if settings_hold {
        return Ok(());
    }
    Err(Error::config("the settings of the session on the source do not hold in its transaction")
        .with_detail("a pooler in transaction mode gives each transaction another session")
        .with_hint("point the source at the server itself, or at a pooler in session mode"))
}

/// The server's version as a number, such as 150018.
pub async fn server_version(client: &Client) -> Result<u32> {
    let what = "cannot read the server's version";
    let row = client
        .query_one("select current_setting('server_version_num')::int", &[])
        .await
        .map_err(|e| classify(e, what))?;
    let version: i32 = row.try_get(0).map_err(|e| classify(e, what))?;
    Ok(u32::try_from(version).unwrap_or(0))
}

/// A point in time of the server's, which counts in microseconds.
pub(crate) fn micros(time: std::time::SystemTime) -> Result<Micros> {
    let since = time.duration_since(std::time::UNIX_EPOCH).ok();
    let micros = since.and_then(|d| i64::try_from(d.as_micros()).ok());
    micros.map(Micros).ok_or_else(|| {
        Error::config("the clock of the source is before 1970").with_hint("set the clock of the source's server")
    })
}
