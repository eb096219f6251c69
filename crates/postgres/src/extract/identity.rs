//! Which cluster, timeline and database this is. Transaction ids of another one mean nothing here.

use starlift_core::{Result, wal};
use tokio_postgres::Client;
use tokio_postgres::types::PgLsn;

use crate::sqlstate::{class, classify};
use starlift_core::ErrorKind;

/// What stands for a part that a managed service does not let us see.
const UNKNOWN: &str = "?";

pub(super) struct Identity {
    /// `system identifier/timeline/database oid:database name`.
    pub(super) text: String,
    /// Where the newest record of the WAL ended, or was replayed, where it can be read.
    pub(super) lsn: Option<u64>,
}

/// On a primary the name of the current WAL file holds the timeline that is written now; the control file learns of a
/// promotion only with the next checkpoint.
const PRIMARY_TIMELINE: &str = "select substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)";
/// On a standby it is the newest timeline that the control file knows, in the form of a WAL file's name.
const STANDBY_TIMELINE: &str = "
select lpad(upper(to_hex(greatest(c.timeline_id, r.min_recovery_end_timeline))), 8, '0')
from pg_control_checkpoint() c, pg_control_recovery() r";
/// Where a primary does not tell its WAL position.
const CONTROL_TIMELINE: &str = "select lpad(upper(to_hex(timeline_id)), 8, '0') from pg_control_checkpoint()";

/// Reads the identity, outside of a transaction, because each part may be denied.
///
/// A promotion in between is harmless: the identity is then that of before, and the next run reads in full.
pub(super) async fn read(client: &Client) -> Result<Identity> {
    const DATABASE: &str = "
select pg_is_in_recovery(), d.oid::text || ':' || d.datname
from pg_catalog.pg_database d where d.datname = current_database()";
    let what = "cannot read which database the source is";
    let row = client.query_one(DATABASE, &[]).await.map_err(|e| classify(e, what))?;
    let in_recovery: bool = row.try_get(0).map_err(|e| classify(e, what))?;
    let database: String = row.try_get(1).map_err(|e| classify(e, what))?;

    let system = text(client, "select system_identifier::text from pg_control_system()").await?;
    let position =
        if in_recovery { "select pg_last_wal_replay_lsn()::text" } else { "select pg_current_wal_insert_lsn()::text" };
    let lsn: Option<PgLsn> = text(client, position).await?.and_then(|lsn| lsn.parse().ok());
    let mut timeline = text(client, if in_recovery { STANDBY_TIMELINE } else { PRIMARY_TIMELINE }).await?;
    if timeline.is_none() {
        timeline = text(client, CONTROL_TIMELINE).await?;
    }
    let part = |found: Option<String>| found.unwrap_or_else(|| UNKNOWN.to_string());
    Ok(Identity {
        text: format!("{}/{}/{database}", part(system), part(timeline)),
        lsn: lsn.map(|lsn| wal::record_end(lsn.into())),
    })
}

/// One text; none where it is null, denied or not offered by this server.
async fn text(client: &Client, sql: &str) -> Result<Option<String>> {
    match client.query_one(sql, &[]).await {
        Ok(row) => row.try_get(0).map_err(|e| classify(e, "cannot read which database the source is")),
        Err(error) => match class(&error).kind {
            ErrorKind::Permission | ErrorKind::Config | ErrorKind::Unsupported => Ok(None),
            // 55000: the server was promoted, or is a standby after all.
            _ if error.code().is_some_and(|c| c.code() == "55000") => Ok(None),
            _ => Err(classify(error, "cannot read which database the source is")),
        },
    }
}
