//! What is done with a standby while it runs. Each needs a server that [`Cluster::standby`] started.

use std::time::Duration;

use starlift_core::{Error, Result};
use tokio_postgres::Client;
use tokio_postgres::types::PgLsn;

use super::Cluster;
use crate::failure;

const POLL: Duration = Duration::from_millis(10);
const POLLS: u32 = 6_000;

impl Cluster {
    /// Stops replay, and returns when it has stopped: the standby lags from now on, and still receives WAL.
    pub async fn pause_replay(&self) -> Result<()> {
        let client = self.connect("postgres").await?;
        run(&client, "select pg_wal_replay_pause()").await?;
        // PostgreSQL 13 tells only that it was asked to; there it stops before the next record.
        let tells = "select current_setting('server_version_num')::int4 >= 140000";
        let failed = |e| failure::postgres("cannot watch the private standby", e);
        if !client.query_one(tells, &[]).await.map_err(failed)?.get::<_, bool>(0) {
            return Ok(());
        }
        wait_for(&client, "select pg_get_wal_replay_pause_state() = 'paused'", "replay does not pause").await
    }

    /// Lets replay go on. See [`await_replay`](Cluster::await_replay) for when it has caught up.
    pub async fn resume_replay(&self) -> Result<()> {
        run(&self.connect("postgres").await?, "select pg_wal_replay_resume()").await
    }

    /// Returns when the standby has replayed all that `primary` has written by now.
    pub async fn await_replay(&self, primary: &Cluster) -> Result<()> {
        let client = primary.connect("postgres").await?;
        // Only flushed WAL is sent, and a commit that waits for it flushes all that is before it.
        let flush = "set synchronous_commit = local; select pg_logical_emit_message(true, 'sandbox', '')";
        run(&client, flush).await?;
        let row = client
            .query_one("select pg_current_wal_flush_lsn()", &[])
            .await
            .map_err(|e| failure::postgres("cannot see how far the primary is", e))?;
        let target: PgLsn = row.get(0);
        let caught_up = format!("select pg_last_wal_replay_lsn() >= '{target}'::pg_lsn");
        wait_for(&self.connect("postgres").await?, &caught_up, "the standby does not catch up").await
    }

    /// Makes the standby a primary, on a new timeline, and returns when it is one. The old primary is left alone.
    pub async fn promote(&self) -> Result<()> {
        let client = self.connect("postgres").await?;
        run(&client, "select pg_promote(true, 60)").await?;
        wait_for(&client, "select not pg_is_in_recovery()", "the standby is not promoted").await
    }
}

async fn run(client: &Client, sql: &str) -> Result<()> {
    client.batch_execute(sql).await.map_err(|e| failure::postgres("cannot steer the private standby", e))
}

async fn wait_for(client: &Client, condition: &str, else_: &str) -> Result<()> {
    for _ in 0..POLLS {
        let row = client
            .query_one(condition, &[])
            .await
            .map_err(|e| failure::postgres("cannot watch the private standby", e))?;
        if row.get(0) {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    Err(Error::unavailable(else_))
}
