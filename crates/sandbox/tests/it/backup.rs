//! Standbys, restored servers and transaction ids that are far ahead.

use std::path::PathBuf;

use starlift_core::ErrorKind;
use starlift_sandbox::{Cluster, ClusterOptions, Restore};

async fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(cluster: &Cluster, database: &str, sql: &str) -> T {
    cluster.connect(database).await.unwrap().query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_standby_follows_pauses_and_is_promoted_and_a_backup_is_restored() {
    let password = Some("s3cr't\\".to_string());
    let primary = Cluster::start(ClusterOptions { password, ..ClusterOptions::default() }).unwrap();
    let database = primary.fresh_database("db").await.unwrap();
    let client = primary.connect(&database).await.unwrap();
    client.batch_execute("create table t (a int); insert into t values (1)").await.unwrap();
    let backup = primary.backup().unwrap();
    let standby = primary.standby().unwrap();
    let count = "select count(*) from t";
    client.batch_execute("insert into t values (2)").await.unwrap();
    standby.await_replay(&primary).await.unwrap();
    assert_eq!(one::<i64>(&standby, &database, count).await, 2);
    standby.pause_replay().await.unwrap();
    client.batch_execute("insert into t values (3)").await.unwrap();
    assert_eq!(one::<i64>(&standby, &database, count).await, 2);
    standby.resume_replay().await.unwrap();
    standby.await_replay(&primary).await.unwrap();
    assert_eq!(one::<i64>(&standby, &database, count).await, 3);
    standby.promote().await.unwrap();
    standby.connect(&database).await.unwrap().batch_execute("insert into t values (4)").await.unwrap();
    assert_eq!((one::<i64>(&standby, &database, count).await, one::<i64>(&primary, &database, count).await), (4, 3));
    assert_eq!(standby.pause_replay().await.unwrap_err().kind(), ErrorKind::Internal, "it is no standby any more");

    let restored = backup.restore(Restore::NewTimeline).unwrap();
    assert_eq!(one::<i64>(&restored, &database, count).await, 1);
    let file = "select pg_walfile_name(pg_current_wal_insert_lsn())";
    assert!(one::<String>(&restored, &database, file).await.starts_with("00000002"));
    assert_ne!(restored.fresh_database("db").await.unwrap(), database, "its names go on");
    let dirs: Vec<PathBuf> = [&primary, &standby, &restored].map(|c| c.dir().to_path_buf()).into();
    drop(client);
    // The primary first: a standby does not need it to end.
    drop((primary, standby, restored));
    for dir in dirs {
        assert!(!dir.exists(), "{} is left", dir.display());
    }
}

#[tokio::test]
async fn transaction_ids_are_skipped_and_pass_two_to_the_32() {
    let cluster = Cluster::start(ClusterOptions::default()).unwrap();
    let client = cluster.connect("postgres").await.unwrap();
    client.batch_execute("create table t (a int); insert into t values (1)").await.unwrap();
    drop(client);
    let next = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
    let lsn = "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint";
    let before = one::<i64>(&cluster, "postgres", lsn).await;
    for id in [2_000_000_000, 4_000_000_000, u32::MAX] {
        cluster.skip_to_xid(id).await.unwrap();
        assert!(one::<i64>(&cluster, "postgres", next).await >= i64::from(id));
    }
    let client = cluster.connect("postgres").await.unwrap();
    client.batch_execute("insert into t values (2)").await.unwrap();
    client.batch_execute("insert into t values (3)").await.unwrap();
    assert!(one::<i64>(&cluster, "postgres", next).await > 1 << 32);
    assert!(one::<i64>(&cluster, "postgres", lsn).await > before);
    assert_eq!(one::<i64>(&cluster, "postgres", "select count(*) from t").await, 3);
    let newest = "select (xmin::text::bigint < 100)::int::bigint from t where a = 3";
    assert_eq!(one::<i64>(&cluster, "postgres", newest).await, 1);
}
