//! A large table that several connections read at one snapshot, and what makes that one connection.

use std::collections::BTreeSet;

use starlift::verify::{VerifyRequest, verify};
use starlift_core::ErrorKind;

use crate::quarantine::{aside, context, failures, settle};
use crate::world::{World, files_below, of};

/// 40 MB in pages of 8 rows.
const WIDE: &str = "create table wide (id int primary key, price numeric, filler text);
    insert into wide select i, i / 4.0, repeat(md5(i::text), 28) from generate_series(1, 40000) i;
    grant select on wide to public; analyze wide";

async fn world(settings: &str) -> World {
    let world = World::new().await.with_own_project();
    world.change(WIDE).await;
    settle(&world, settings);
    world
}

/// With so many connections to the source.
fn connections(world: &World, number: u32) {
    let path = world.project.join("starlift.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("[source]"));
    std::fs::write(&path, text.replace("[source]", &format!("[source]\nconnections = {number}"))).unwrap();
}

async fn assert_equal(world: &World) {
    let report = verify(&context(world), &VerifyRequest::default()).await.unwrap();
    assert!(report.equal() && report.pending() == 0, "{report:#?}");
}

/// The data files of the newest state that hold the table.
fn files(world: &World) -> usize {
    files_below(&world.lake()).iter().filter(|file| file.starts_with("wide/")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn several_connections_read_each_row_once_and_one_reads_the_same() {
    let world = world("").await;
    connections(&world, 3);
    let report = world.ingest().await;
    assert_eq!(of(&report, "wide").rows_read, 40_000);
    assert_eq!(files(&world), 3, "each connection has a writer");
    world.create_warehouse().await;
    world.run().await;
    assert_equal(&world).await;

    // Changes come by a window again, and a lake that differs is read in full and compared.
    world.change("update wide set price = -1 where id % 5000 = 0; delete from wide where id = 7").await;
    let report = world.ingest().await;
    assert_eq!((of(&report, "wide").rows_read, of(&report, "wide").rows_written), (8, 8));
    world.change("alter table wide add more int default 5").await;
    let report = world.ingest().await;
    assert_eq!(of(&report, "wide").rows_written, 39_999);
    world.run().await;
    assert_equal(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_several_connections_refuse_are_one_message_and_one_count() {
    let world = world("").await;
    connections(&world, 3);
    world.change("update wide set price = 'NaN' where id in (1, 20000, 40000)").await;
    let report = starlift::run(&context(&world)).await;
    let stopped = failures(&report);
    assert!(stopped[0].1.contains("`price` in 3 of 40000 rows: it is NaN"), "{stopped:?}");
    assert_eq!(files(&world), 0, "what is not committed is not written");

    let accepted = starlift::quarantine::accept(&context(&world), &BTreeSet::from(["wide".to_string()])).await.unwrap();
    assert!(accepted.failures.iter().all(|failure| failure.stage != "ingest"), "{accepted:?}");
    let refused = aside(&world).await;
    assert_eq!(refused.len(), 3);
    world.change("update wide set price = 0 where price = 'NaN'").await;
    world.ingest().await;
    assert!(aside(&world).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_other_connection_is_to_be_had_the_session_reads_by_itself() {
    let world = world("").await;
    connections(&world, 3);
    // The run has one connection; a second is refused.
    let name = format!("limited_{}", world.source);
    let role =
        format!("create role {name} login connection limit 1; grant select on all tables in schema public to {name}");
    world.change(&role).await;
    let mut overrides = world.overrides();
    overrides.source_url = Some(world.source_url().replace(&user(&world.source_url()), &format!("//{name}@")));
    let limited = world.try_context(overrides, starlift::config::Environment::default()).unwrap();
    let report = starlift::ingest(&limited, None).await.unwrap();
    assert_eq!(of(&report, "wide").rows_read, 40_000);
    assert_eq!(files(&world), 1);

    world.change("revoke execute on function pg_export_snapshot() from public").await;
    world.change("alter table wide add more int default 5").await;
    let report = world.ingest().await;
    assert_eq!(of(&report, "wide").rows_written, 40_000);
    assert_eq!(files(&world), 2);
}

/// The limits are lowered on the thread of the test alone, which is the one that the run's session is made on.
#[cfg(debug_assertions)]
#[test]
fn the_session_that_holds_the_snapshot_outlives_readers_that_take_longer_than_it_may_idle() {
    use starlift_core::fault;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(world(""));
    connections(&world, 3);
    let slowly = || {
        let ingest = || runtime.block_on(starlift::ingest(&context(&world), None));
        fault::with_planted("short_idle", || fault::with_planted("slow_writer", ingest))
    };
    let error = fault::with_planted("session_idles", slowly).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    let report = slowly().unwrap();
    assert_eq!((of(&report, "wide").rows_read, of(&report, "wide").rows), (40_000, 40_000));
}

/// `//user:password@` of a URL.
fn user(url: &str) -> String {
    let from = url.find("//").unwrap();
    let to = url.find('@').unwrap();
    url[from..=to].to_string()
}
