//! Reading a source: one snapshot, locks before it, grants, and what it says about itself.

use futures::TryStreamExt;
use starlift_core::xid::XidWindow;
use starlift_core::{Column, ErrorKind};
use starlift_postgres::catalog::TableSettings;
use starlift_postgres::extract::keys_filter;
use starlift_postgres::sqlstate::sqlstate_of;
use starlift_postgres::{BatchLimits, ConnectOptions, SourceSession, connect};
use starlift_sandbox::{Cluster, ClusterOptions};

use crate::support::{database, rows, session, table, version};

#[tokio::test]
async fn every_query_sees_the_snapshot_and_the_tables_cannot_be_rewritten_under_it() {
    let db = database("create table t (id int primary key); insert into t select generate_series(1, 1000)").await;
    let mut session = db.session().await;
    let table = table(&session, "t").await;
    session.begin(&["t".into()]).await.unwrap();
    db.owner.batch_execute("insert into t values (1001); delete from t where id <= 500").await.unwrap();
    for rewriting in ["truncate t", "alter table t alter id type bigint", "drop table t"] {
        let sql = format!("set lock_timeout = '100ms'; {rewriting}");
        let error = db.owner.batch_execute(&sql).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "55P03", "{rewriting}");
    }
    assert_eq!(session.count(&table).await.unwrap(), 1000);
    assert_eq!(rows(&session, &table, None).await.num_rows(), 1000);
    session.end().await.unwrap();
    db.owner.batch_execute("truncate t").await.unwrap();
    session.begin(&["t".into()]).await.unwrap();
    assert_eq!(session.count(&table).await.unwrap(), 0);
}

#[tokio::test]
async fn a_table_that_is_dropped_while_the_catalog_is_read_is_none() {
    let db = database("create table t (id int primary key); create table u (id int primary key)").await;
    let mut session = db.session().await;
    session.begin(&["t".into()]).await.unwrap();
    // The snapshot shows it still; whether it may be read is looked up as of now.
    db.owner.batch_execute("drop table u").await.unwrap();
    let catalog = session.catalog(&TableSettings::new(), &[]).await.unwrap();
    assert_eq!(catalog.tables.keys().collect::<Vec<_>>(), ["t"]);
}

#[tokio::test]
async fn a_view_is_locked_with_the_tables_below_it() {
    let db = database(
        "create table t (id int primary key); insert into t values (1);
         create view v as select id from t; create view w as select id from v;
         create materialized view m as select id from t",
    )
    .await;
    let mut session = db.session().await;
    let catalog = session.catalog(&TableSettings::new(), &["w".into(), "m".into()]).await.unwrap();
    let lockable: Vec<String> =
        catalog.tables.values().filter(|t| t.kind.is_lockable() && t.name != "t").map(|t| t.name.clone()).collect();
    assert_eq!(lockable, ["w"]);
    session.begin(&lockable).await.unwrap();
    let error = db.owner.batch_execute("set lock_timeout = '100ms'; truncate t").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "55P03");
    assert_eq!(session.count(catalog.table("w").unwrap()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_window_holds_what_the_snapshot_before_could_not_see() {
    // A cluster of its own: transactions of other databases hold `xmin` back too.
    let cluster = Cluster::start(ClusterOptions::default()).unwrap();
    let owner = cluster.connect("postgres").await.unwrap();
    let sql = "create table t (id int primary key, v int); insert into t select i, 0 from generate_series(1, 10) i";
    owner.batch_execute(sql).await.unwrap();
    let mut session = session(&ConnectOptions::from_url(&cluster.superuser_url("postgres")).unwrap()).await;
    let table = table(&session, "t").await;
    let writer = cluster.connect("postgres").await.unwrap();
    writer.batch_execute("begin; insert into t values (11, 0)").await.unwrap();
    let first = session.begin(&["t".into()]).await.unwrap().source;
    session.end().await.unwrap();
    writer.batch_execute("savepoint s; update t set v = 1 where id = 1; commit").await.unwrap();
    let second = session.begin(&["t".into()]).await.unwrap();
    assert!(
        first.xmin < second.source.xmin && first.lsn < second.source.lsn && first.identity == second.source.identity
    );
    let window = XidWindow::new(first.xmin, second.source.xmax).unwrap();
    let batch = rows(&session, &table, Some(&window.to_sql())).await;
    assert_eq!(batch.num_rows(), 2);

    let clock = owner.query_one("select (extract(epoch from clock_timestamp()) * 1000000)::bigint", &[]).await.unwrap();
    let behind = clock.get::<_, i64>(0) - second.now.0;
    assert!((0..60_000_000).contains(&behind), "{behind}");
}

#[tokio::test]
async fn the_source_says_who_it_is() {
    let db = database("create table t (id int primary key)").await;
    let mut session = db.session().await;
    let source = session.begin(&[]).await.unwrap().source;
    let row = db
        .owner
        .query_one(
            "select system_identifier::text || '/00000001/' || (select oid from pg_database where datname = current_database())
                    || ':' || current_database() from pg_control_system()",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(source.identity, row.get::<_, String>(0));
    assert_eq!(
        (source.database.as_str(), source.schema.as_str(), source.in_recovery),
        (db.name.as_str(), "public", false)
    );
    assert!(source.server_version >= 130_000 && source.lsn > 0 && source.xmin <= source.xmax);
    assert_eq!(session.server_version(), source.server_version);
}

#[tokio::test]
async fn a_source_that_hides_its_control_file_is_read_all_the_same() {
    let db = database(
        "create table t (id int primary key); create role shy login; grant select on t to shy;
         revoke execute on function pg_control_system(), pg_control_checkpoint(), pg_current_wal_insert_lsn(), pg_walfile_name(pg_lsn) from public",
    )
    .await;
    let mut session = session(&db.options_of("shy")).await;
    let source = session.begin(&["t".into()]).await.unwrap().source;
    assert!(
        source.identity.starts_with("?/?/") && source.identity.ends_with(&format!(":{}", db.name)),
        "{}",
        source.identity
    );
    assert_eq!(source.lsn, 0);
}

#[tokio::test]
async fn all_missing_grants_are_named_at_once() {
    let db = database(
        "create table a (id int primary key); create table b (id int primary key); create table \"C c\" (id int primary key);
         create role poor login; grant select on b to poor; revoke usage on schema public from public",
    )
    .await;
    let mut session = session(&db.options_of("poor")).await;
    let names = ["a".to_string(), "b".into(), "C c".into()];
    let catalog = session.catalog(&TableSettings::new(), &[]).await.unwrap();
    let error = catalog.check_access(&names).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert_eq!(error.detail().as_deref(), Some("it has no usage on the schema, and may not select from `a`, `C c`"));
    let hint = error.hint().unwrap().strip_prefix("run as the owner: ").unwrap();
    // The hint is taken by its word.
    db.owner.batch_execute(hint).await.unwrap();
    session.catalog(&TableSettings::new(), &[]).await.unwrap().check_access(&names).unwrap();
    session.begin(&names).await.unwrap();
    session.end().await.unwrap();

    db.owner.batch_execute("revoke select on a from poor").await.unwrap();
    let error = session.begin(&names).await.unwrap_err();
    assert_eq!((error.kind(), sqlstate_of(&error)), (ErrorKind::Permission, Some("42501")));
    // The failed transaction is over.
    session.begin(&names[1..]).await.unwrap();
}

#[tokio::test]
async fn rows_that_row_level_security_hides_are_an_error_not_a_delete() {
    let db = database(
        "create table t (id int primary key, who text); insert into t values (1, 'x');
         create role half login; grant select on t to half;
         alter table t enable row level security; create policy p on t using (false)",
    )
    .await;
    let mut session = session(&db.options_of("half")).await;
    let catalog = session.catalog(&TableSettings::new(), &[]).await.unwrap();
    let table = catalog.table("t").unwrap().clone();
    assert!(table.row_security);
    let error = catalog.check_access(&["t".into()]).unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::Permission, "row-level security hides rows from role `half`")
    );
    // Even unchecked, the server refuses.
    session.begin(&["t".into()]).await.unwrap();
    assert_eq!(session.count(&table).await.unwrap_err().kind(), ErrorKind::Permission);
    session.end().await.unwrap();
    db.owner.batch_execute("alter role half bypassrls").await.unwrap();
    let mut session = crate::support::session(&db.options_of("half")).await;
    session.catalog(&TableSettings::new(), &[]).await.unwrap().check_access(&["t".into()]).unwrap();
    session.begin(&["t".into()]).await.unwrap();
    assert_eq!(session.count(&table).await.unwrap(), 1);
}

#[tokio::test]
async fn a_lock_that_is_held_too_long_is_tried_again_later() {
    let db = database("create table t (id int primary key)").await;
    let mut session = db.session().await;
    db.owner.batch_execute("begin; lock table t in access exclusive mode").await.unwrap();
    session.client().batch_execute("set lock_timeout = '50ms'").await.unwrap();
    let error = session.begin(&["t".into()]).await.unwrap_err();
    assert_eq!((error.kind(), sqlstate_of(&error)), (ErrorKind::Unavailable, Some("55P03")));
    db.owner.batch_execute("rollback; drop table t").await.unwrap();
    let error = session.begin(&["t".into()]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.hint().unwrap().contains("run again"), "{error:?}");
}

#[tokio::test]
async fn keys_are_read_in_the_order_of_the_key_and_find_their_rows() {
    let db = database(
        "create type mood as enum ('a', 'b');
         create table t (note text, n numeric(38,10), ts timestamp, tz timestamptz, d date, tm time, u uuid, b bytea,
                         f float8, g real, c char(4), m mood, txt text, i8 bigint, i2 smallint, ok boolean, j jsonb,
                         primary key (txt, n, ts, tz, d, tm, u, b, f, g, c, m, i8, i2, ok, j));
         insert into t select 'note', -i / 7.0, timestamp '1969-12-31 23:59:59.999999' + i * interval '1234567.000001 s',
                timestamptz '4000-01-01 00:00+00 BC' + i * interval '1.5 s', date '1999-12-31' - i * 1000, time '23:59:59.999999',
                md5(i::text)::uuid, decode(md5(i::text), 'hex'), i / 3.0, i / 3.0::real, 'x' || i, 'b', E'it''s \\\\' || i, i, -i,
                i % 2 = 0, to_jsonb(E'\\\\' || i) from generate_series(1, 50) i",
    )
    .await;
    let mut session = db.session().await;
    let table = table(&session, "t").await;
    session.begin(&["t".into()]).await.unwrap();
    let mut stream = session.copy_keys(&table).await.unwrap();
    let batches: Vec<_> = (&mut stream).try_collect().await.unwrap();
    assert!(stream.finish("t").unwrap() > 0);
    let names: Vec<_> = batches[0].schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, table.schema.key);
    let key: Vec<Column> = table.schema.key_columns().cloned().collect();
    let some = batches[0].slice(10, 30);
    let found = rows(&session, &table, Some(&keys_filter(&key, &some).unwrap())).await;
    assert_eq!(found.num_rows(), 30);
    assert_eq!(rows(&session, &table, Some(&keys_filter(&key, &some.slice(0, 0)).unwrap())).await.num_rows(), 0);
}

#[tokio::test]
async fn batches_keep_to_their_limits_and_a_table_without_rows_gives_none() {
    let db = database(
        "create table t (id int primary key, v text); insert into t select i, repeat('x', 100) from generate_series(1, 5000) i;
         create table empty (id int primary key); create table nothing (); insert into nothing default values",
    )
    .await;
    for (limits, batches_at_least) in [
        (BatchLimits { rows: 100, ..BatchLimits::default() }, 50),
        (BatchLimits { bytes: 10_000, ..BatchLimits::default() }, 50),
        (BatchLimits::default(), 1),
    ] {
        let mut session = db.session().await.with_limits(limits);
        let table = table(&session, "t").await;
        session.begin(&["t".into()]).await.unwrap();
        let stream = session.copy_rows(&table, None).await.unwrap();
        let batches: Vec<_> = stream.try_collect().await.unwrap();
        assert!(batches.len() >= batches_at_least, "{} batches", batches.len());
        assert!(batches.iter().all(|b| b.num_rows() <= limits.rows));
        assert_eq!(batches.iter().map(|b| b.num_rows()).sum::<usize>(), 5000);
    }
    let mut session = db.session().await;
    session.begin(&["empty".into(), "nothing".into()]).await.unwrap();
    let empty = table(&session, "empty").await;
    let mut stream = session.copy_rows(&empty, None).await.unwrap();
    assert!(stream.try_next().await.unwrap().is_none() && stream.try_next().await.unwrap().is_none());
    let nothing = table(&session, "nothing").await;
    assert_eq!(rows(&session, &nothing, None).await.num_rows(), 1);
}

#[tokio::test]
async fn a_value_over_the_limit_is_refused_by_key_and_the_rest_arrives() {
    let db = database(
        "create table t (id int primary key, v text); insert into t values (1, 'short'), (2, repeat('x', 100000))",
    )
    .await;
    let mut session = db.session().await.with_limits(BatchLimits { value_bytes: 1000, ..BatchLimits::default() });
    let table = table(&session, "t").await;
    session.begin(&["t".into()]).await.unwrap();
    let mut stream = session.copy_rows(&table, None).await.unwrap();
    assert_eq!(stream.finish("t").unwrap_err().kind(), ErrorKind::Internal, "before its end");
    let batches: Vec<_> = (&mut stream).try_collect().await.unwrap();
    assert_eq!(batches[0].num_rows(), 1);
    assert!(stream.finish("t").unwrap_err().detail().unwrap().contains("id=2"));
}

#[tokio::test]
async fn a_session_that_is_ended_by_the_server_can_be_tried_again() {
    let db = database("create table t (id int primary key, v text); insert into t select i, repeat('x', 1000) from generate_series(1, 50000) i").await;
    let mut session = db.session().await;
    let table = table(&session, "t").await;
    session.begin(&["t".into()]).await.unwrap();
    let pid: i32 = session.client().query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let mut stream = session.copy_rows(&table, None).await.unwrap();
    assert!(stream.try_next().await.unwrap().is_some());
    db.owner.execute("select pg_terminate_backend($1)", &[&pid]).await.unwrap();
    let error = loop {
        match stream.try_next().await {
            Ok(Some(_)) => continue,
            Ok(None) => panic!("a stream that was cut came to its end"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(stream.try_next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_limit_of_the_role_does_not_end_a_session_that_waits_for_the_lake() {
    let db = database("create table t (id int primary key)").await;
    let role = format!("hasty_{}", db.name);
    db.owner.batch_execute(&format!("create role {role} login; grant select on t to {role}")).await.unwrap();
    // It came with 14.
    if version().await >= 140_000 {
        db.owner.batch_execute(&format!("alter role {role} set idle_session_timeout = '2s'")).await.unwrap();
    }
    let mut session = session(&db.options_of(&role)).await;
    // As between two chunks, while the manifest is put and files are merged.
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    session.begin(&["t".into()]).await.unwrap();
}

#[tokio::test]
async fn a_transaction_in_another_session_than_the_one_that_was_set_up_reads_nothing() {
    let db = database("create table t (id int primary key)").await;
    let (mut session, mut reader) = (db.session().await, db.session().await);
    session.begin(&["t".into()]).await.unwrap();
    let table = table(&session, "t").await;
    let snapshot = session.export_snapshot().await.unwrap().unwrap();
    // As a pooler in transaction mode would have it, which gives the next transaction a session that nobody has set up.
    for (setting, pinned, other) in [
        ("row_security", "off", "on"),
        ("search_path", "pg_catalog", "public"),
        ("timezone", "'UTC'", "'Asia/Kathmandu'"),
        ("datestyle", "'ISO, YMD'", "'German'"),
        ("intervalstyle", "postgres", "iso_8601"),
        ("extra_float_digits", "3", "1"),
    ] {
        reader.client().batch_execute(&format!("set {setting} to {other}")).await.unwrap();
        let error = reader.begin_at(&snapshot, &table).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{setting}: {error:?}");
        assert!(error.hint().unwrap().contains("session mode"), "{error:?}");
        assert_eq!(reader.begin(&["t".into()]).await.unwrap_err().kind(), ErrorKind::Config, "{setting}");
        reader.client().batch_execute(&format!("set {setting} to {pinned}")).await.unwrap();
    }
    reader.begin_at(&snapshot, &table).await.unwrap();
}

#[tokio::test]
async fn nothing_is_written_and_nothing_is_read_outside_of_the_transaction() {
    let db = database("create table t (id int primary key)").await;
    let mut session = db.session().await;
    let table = table(&session, "t").await;
    assert_eq!(session.count(&table).await.unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(session.copy_rows(&table, None).await.map(|_| ()).unwrap_err().kind(), ErrorKind::Internal);
    let error = session.client().batch_execute("insert into t values (1)").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42P01", "the search path is pinned");
    let error = session.client().batch_execute("insert into public.t values (1)").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "25006", "and so is read only");
    session.begin(&["t".into()]).await.unwrap();
    assert_eq!(session.begin(&["t".into()]).await.unwrap_err().kind(), ErrorKind::Internal);
    session.end().await.unwrap();
    session.end().await.unwrap();
    session.close().await;
}

#[tokio::test]
async fn a_standby_is_read_like_its_primary() {
    let dir = tempfile::Builder::new().prefix("starlift-standby-").tempdir_in("/tmp").unwrap();
    let place = dir.path().join("cluster");
    let options = |keep| ClusterOptions { dir: Some(place.clone()), keep, ..ClusterOptions::default() };
    let open =
        |permissions| std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(permissions));
    open(0o755).unwrap();
    let primary = Cluster::start(options(true)).unwrap();
    let owner = primary.connect("postgres").await.unwrap();
    owner.batch_execute("create table t (id int primary key); insert into t values (1), (2)").await.unwrap();
    let url = primary.superuser_url("postgres");
    let mut session = session(&ConnectOptions::from_url(&url).unwrap()).await;
    let before = session.begin(&["t".into()]).await.unwrap().source;
    session.close().await;
    drop(owner);
    primary.stop().unwrap();

    std::fs::write(place.join("data/standby.signal"), "").unwrap();
    let standby = Cluster::start(options(false)).unwrap();
    let url = standby.superuser_url("postgres");
    let options = ConnectOptions::from_url(&url).unwrap();
    let mut session = SourceSession::open(connect(&options).await.unwrap(), "public", 60).await.unwrap();
    let table = table(&session, "t").await;
    let now = session.begin(&["t".into()]).await.unwrap().source;
    assert!(now.in_recovery && !before.in_recovery);
    assert_eq!(now.identity, before.identity);
    assert!(now.lsn >= before.lsn && now.xmax >= before.xmax, "{now:?} {before:?}");
    assert_eq!(rows(&session, &table, None).await.num_rows(), 2);
}
