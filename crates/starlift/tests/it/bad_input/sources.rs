//! Rows 18, 19 and 21 to 26: a source that changes, refuses, goes away or comes back as another.

use std::sync::Arc;

use starlift::context::Progress;
use starlift_core::ErrorKind;
use starlift_sandbox::{Cluster, ClusterOptions, Restore};

use super::{ingest_fails, manifests};
use crate::capture::lab::{Lab, Meanwhile, SALE, connect, number, why_full};
use crate::world::{World, files_below, of};

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_18_a_table_that_a_model_needs_and_that_is_gone_is_named_before_anything_is_read() {
    let world = World::new().await;
    world.create_warehouse().await;
    world.run().await;
    world.change("alter table design rename to pattern").await;
    ingest_fails(&world, ErrorKind::Config, &["design"]).await;
    assert_eq!(manifests(files_below(&world.lake())), 1);
    let error =
        starlift::ingest(&world.context(), Some(br#"{"tables_to_query": ["no_such_table"]}"#)).await.unwrap_err();
    super::says(&error, ErrorKind::Config, &["no_such_table"]);
    world.change("alter table pattern rename to design").await;
    world.run().await;
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_19_a_table_is_never_read_as_empty_because_it_is_rewritten() {
    let lab = Lab::new(SALE).await;
    lab.run("create table first (id int primary key); insert into first values (1)").await;
    lab.catch_up().await;
    for rewrite in [
        "truncate sale",
        "drop table sale",
        "alter table sale alter v type bigint",
        "alter table sale drop column v",
        "cluster sale using sale_pkey",
    ] {
        let meanwhile = Meanwhile::at(&lab, "first", &format!("set lock_timeout = '100ms'; {rewrite}"));
        let report = starlift::ingest(&lab.watched(meanwhile.clone()), None).await.unwrap();
        assert_eq!(meanwhile.outcome(), "55P03", "{rewrite} has to wait for the run");
        assert_eq!((of(&report, "sale").rows, of(&report, "sale").rows_deleted), (3, 0), "{rewrite}");
    }
    lab.run("begin; create temp table kept as select * from sale; truncate sale; insert into sale select * from kept; commit").await;
    assert_eq!(of(&lab.catch_up().await, "sale").rows, 3);
    lab.run("alter table sale alter v type bigint").await;
    assert_eq!(why_full(of(&lab.catch_up().await, "sale")), Some("schema changed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_21_no_plan_outlives_a_change_of_the_schema() {
    let world = World::new().await;
    world.create_warehouse().await;
    world.run().await;
    // One context over all runs, as a loop of runs has it.
    let context = world.context();
    for (source, warehouse) in [
        (
            "alter table design alter design_name type varchar(400)",
            "alter table dim_design alter design_name type varchar(400)",
        ),
        (
            "alter table payment alter payment_amount type numeric(14,2)",
            "alter table fact_payment alter payment_amount type numeric(14,2)",
        ),
        ("alter table design alter design_name type text", "alter table dim_design alter design_name type text"),
    ] {
        world.change(source).await;
        world.change("update design set design_name = design_name || '.' where design_id = 1").await;
        let warehouse_client = world.warehouse_client().await;
        // A view holds on to the type of its columns; load makes it again.
        warehouse_client.batch_execute("drop view current_dim_design, current_fact_payment").await.unwrap();
        warehouse_client.batch_execute(warehouse).await.unwrap();
        let report = starlift::run(&context.for_new_run()).await;
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        world.assert_star_equals_source().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_22_all_tables_that_may_not_be_read_are_named_before_anything_is_read() {
    let lab = Lab::new(SALE).await;
    lab.run("create table other (id int primary key); create table third (id int primary key)").await;
    lab.run(&format!("revoke select on sale, other from {}", lab.reader)).await;
    let error = lab.ingest_fails(ErrorKind::Permission, &["sale", "other", "grant select"]).await;
    assert!(!error.render().contains("third"), "{error:?}");
    assert_eq!(files_below(&lab.lake()), Vec::<String>::new(), "not even a claim");
    lab.run(&format!("grant select on sale, other to {}", lab.reader)).await;
    lab.catch_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_23_a_table_whose_rows_are_hidden_from_the_role_is_an_error_and_no_delete() {
    let lab = Lab::new(SALE).await;
    lab.catch_up().await;
    lab.run("alter table sale enable row level security; create policy one on sale using (id = 1)").await;
    lab.ingest_fails(ErrorKind::Permission, &["`sale`", "row-level security"]).await;
    lab.run("alter table sale disable row level security").await;
    assert_eq!(of(&lab.catch_up().await, "sale").rows_deleted, 0);
}

/// Crashes a server when ingest begins with a table.
struct Crash(Cluster);

impl Progress for Crash {
    fn started(&self, _: &'static str, name: &str) {
        if name == "sale" {
            self.0.restart(true).unwrap();
        }
    }

    fn advanced(&self, _: &'static str, _: &str, _: u64, _: u64) {}
    fn finished(&self, _: &'static str, _: &str) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_24_a_session_or_server_that_ends_while_it_is_read_is_to_be_tried_again() {
    let lab = Lab::new(SALE).await;
    let terminate = format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{}'", lab.reader);
    let meanwhile = Meanwhile::at(&lab, "sale", &terminate);
    let error = starlift::ingest(&lab.watched(meanwhile.clone()), None).await.unwrap_err();
    assert_eq!(meanwhile.outcome(), "");
    assert_eq!((error.kind(), lab.manifests()), (ErrorKind::Unavailable, 0), "{error:?}");
    let cancel = terminate.replace("pg_terminate_backend", "pg_cancel_backend");
    // Between two statements there is nothing to cancel: such a run goes on.
    let _ = starlift::ingest(&lab.watched(Meanwhile::at(&lab, "sale", &cancel)), None).await;
    lab.catch_up().await;

    let cluster = Cluster::start(ClusterOptions::default()).unwrap();
    let mut lab = Lab::on(&cluster, SALE).await;
    let crash = Arc::new(Crash(cluster));
    let error = starlift::ingest(&lab.watched(crash.clone()), None).await.unwrap_err();
    assert_eq!((error.kind(), lab.manifests()), (ErrorKind::Unavailable, 0), "{error:?}");
    lab.move_to(&crash.0).await;
    assert_eq!(of(&lab.catch_up().await, "sale").rows, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_24_a_standby_whose_recovery_cancels_the_reader_is_to_be_tried_again() {
    // What is replayed does not wait for readers; and nobody else's snapshot keeps `vacuum` from removing versions.
    let settings = [("max_standby_streaming_delay", "0"), ("autovacuum", "off")];
    let settings = settings.map(|(name, value)| (name.to_string(), value.to_string())).to_vec();
    let primary = Cluster::start(ClusterOptions { settings, ..ClusterOptions::default() }).unwrap();
    let mut lab = Lab::on(&primary, SALE).await;
    lab.run("create table first (id int primary key); insert into first values (1)").await;
    let standby = primary.standby().unwrap();
    standby.await_replay(&primary).await.unwrap();
    lab.read_from(&standby);
    let cancelled = format!(
        "select confl_lock + confl_snapshot from pg_stat_database_conflicts where datname = '{}'",
        lab.database
    );
    let conflicts = [
        // Locks that the primary takes are taken on the standby, where the run holds its own.
        "alter table sale add column w int",
        // Versions that the run's snapshot still sees are removed; `freeze` waits for a page that somebody else holds.
        "update sale set v = v + 1; delete from sale where id = 3; vacuum (freeze) sale",
    ];
    for (seen, conflict) in conflicts.into_iter().enumerate() {
        let statements = conflict.split("; ").map(String::from).collect::<Vec<_>>();
        let conflict_now = Arc::new(OnPrimary {
            url: primary.superuser_url(&lab.database),
            // A session in the database of the conflict might be the one that is cancelled.
            standby: standby.superuser_url("postgres"),
            statements,
        });
        let error = starlift::ingest(&lab.watched(conflict_now), None).await.unwrap_err();
        assert_eq!((error.kind(), lab.manifests()), (ErrorKind::Unavailable, seen), "{conflict}: {}", error.render());
        assert!(error.hint().is_some(), "{conflict}: {}", error.render());
        let on_standby = standby.connect("postgres").await.unwrap();
        // The server's counters come a moment later.
        for attempt in 0.. {
            if number(&on_standby, &cancelled).await > seen as i64 {
                break;
            }
            assert!(attempt < 250, "{conflict}: it was no conflict of recovery");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        standby.await_replay(&primary).await.unwrap();
        lab.catch_up().await;
    }
}

/// Runs statements on the primary when ingest begins with the first table, and waits until the standby has replayed them.
struct OnPrimary {
    url: String,
    standby: String,
    statements: Vec<String>,
}

impl Progress for OnPrimary {
    fn started(&self, _: &'static str, name: &str) {
        if name != "first" {
            return;
        }
        let (url, standby, statements) = (self.url.clone(), self.standby.clone(), self.statements.clone());
        let change = async move {
            let primary = connect(&url).await;
            for statement in &statements {
                primary.batch_execute(statement).await.unwrap();
            }
            // Only flushed WAL is sent: neither `vacuum` nor a commit with the sandbox's `synchronous_commit = off` flushes.
            let flush = "set synchronous_commit = local; select pg_logical_emit_message(true, '', '')";
            primary.batch_execute(flush).await.unwrap();
            let end: String = primary.query_one("select pg_current_wal_flush_lsn()::text", &[]).await.unwrap().get(0);
            let standby = connect(&standby).await;
            let behind = format!("select (pg_last_wal_replay_lsn() < '{end}')::int::int8");
            for _ in 0..1000 {
                if number(&standby, &behind).await == 0 {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            panic!("the standby does not replay");
        };
        let run = move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(change);
        };
        std::thread::spawn(run).join().unwrap();
    }

    fn advanced(&self, _: &'static str, _: &str, _: u64, _: u64) {}
    fn finished(&self, _: &'static str, _: &str) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_25_a_source_on_another_timeline_or_cluster_is_read_in_full_for_that_reason() {
    let original = Cluster::start(ClusterOptions::default()).unwrap();
    let mut lab = Lab::on(&original, SALE).await;
    lab.catch_up().await;
    let backup = original.backup().unwrap();
    lab.run("update sale set v = 9").await;
    lab.catch_up().await;
    original.stop().unwrap();
    let recovered = backup.restore(Restore::NewTimeline).unwrap();
    lab.move_to(&recovered).await;
    assert_eq!(why_full(of(&lab.catch_up().await, "sale")), Some("source changed"));
    let manifest = lab.newest().await;
    assert_eq!(manifest.relations["sale"].run.as_ref().unwrap().reason.as_deref(), Some("source changed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_26_a_standby_behind_the_last_run_is_to_be_tried_again() {
    let primary = Cluster::start(ClusterOptions::default()).unwrap();
    let mut lab = Lab::on(&primary, SALE).await;
    let standby = primary.standby().unwrap();
    standby.await_replay(&primary).await.unwrap();
    standby.pause_replay().await.unwrap();
    lab.run("update sale set v = v + 1; delete from sale where id = 3").await;
    lab.catch_up().await;
    lab.read_from(&standby);
    lab.ingest_fails(ErrorKind::Unavailable, &["standby", "behind"]).await;
    standby.resume_replay().await.unwrap();
    standby.await_replay(&primary).await.unwrap();
    let report = lab.catch_up().await;
    assert_eq!((of(&report, "sale").rows_written, of(&report, "sale").rows_deleted), (0, 0));
}
