//! What a snapshot saw is on the source's disk before anybody builds on it.

use std::process::Command;

use starlift_core::ErrorKind;
use starlift_core::manifest::Source;
use starlift_postgres::{ConnectOptions, SourceSession};
use starlift_sandbox::{Cluster, ClusterOptions};
use tokio_postgres::Client;
use tokio_postgres::types::PgLsn;

use crate::support::session;

/// The server's processes that write by themselves, stopped as by a disk that hangs, until this is dropped.
struct Stopped(Vec<i32>);

impl Stopped {
    async fn writers(owner: &Client) -> Stopped {
        let sql = "select pid from pg_stat_activity where backend_type in ('walwriter', 'background writer')";
        let pids = owner.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect::<Vec<_>>();
        assert_eq!(pids.len(), 2);
        let stopped = Stopped(pids);
        stopped.signal("-STOP");
        stopped
    }

    fn signal(&self, signal: &str) {
        let pids = self.0.iter().map(i32::to_string);
        assert!(Command::new("kill").arg(signal).args(pids).status().unwrap().success());
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.signal("-CONT");
    }
}

async fn is_flushed(owner: &Client, source: &Source) -> bool {
    let sql = "select pg_current_wal_flush_lsn() >= $1";
    owner.query_one(sql, &[&PgLsn::from(source.lsn)]).await.unwrap().get(0)
}

/// A snapshot that sees a commit which a crash would take back.
async fn sees_a_commit(owner: &Client, session: &mut SourceSession) -> Source {
    owner.batch_execute("set synchronous_commit = off; insert into t default values").await.unwrap();
    let source = session.begin(&["t".into()]).await.unwrap().source;
    session.end().await.unwrap();
    assert!(!is_flushed(owner, &source).await, "the trap is not sprung");
    source
}

#[tokio::test]
async fn where_the_servers_writers_hang_a_commit_of_ours_flushes_what_was_read_or_the_run_ends() {
    let cluster = Cluster::start(ClusterOptions::default()).unwrap();
    let owner = cluster.connect("postgres").await.unwrap();
    let sql = "create table t (id int generated always as identity primary key); create role reader login; \
               grant select on t to reader";
    owner.batch_execute(sql).await.unwrap();
    let mut session = session(&ConnectOptions::from_url(&cluster.url("postgres", "reader")).unwrap()).await;
    let stopped = Stopped::writers(&owner).await;
    let source = sees_a_commit(&owner, &mut session).await;
    session.await_durable(&source).await.unwrap();
    assert!(is_flushed(&owner, &source).await);

    // An error may not end the session, nor leave a transaction open.
    let revoke = "do $$ begin execute (
        select string_agg(format('revoke execute on function %s from public', oid::regprocedure), '; ')
        from pg_proc where proname = 'pg_logical_emit_message'); end $$";
    owner.batch_execute(revoke).await.unwrap();
    let source = sees_a_commit(&owner, &mut session).await;
    let error = session.await_durable(&source).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(!is_flushed(&owner, &source).await && error.hint().unwrap().contains("run again"), "{error:?}");
    drop(stopped);
    session.await_durable(&source).await.unwrap();
    assert!(is_flushed(&owner, &source).await);
    session.begin(&["t".into()]).await.unwrap();
}
