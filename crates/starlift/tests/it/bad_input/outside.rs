//! Rows 34 to 38 and 43: events, names, clocks and amounts.

use starlift_core::{Error, ErrorKind, Micros};
use starlift_lake::{Store, claim};

use super::says;
use crate::capture::lab::{Lab, SALE, why_full};
use crate::world::{World, files_below, of};

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_34_an_event_that_cannot_be_used_is_refused_before_anything_is_read() {
    let lab = Lab::new(SALE).await;
    lab.ingest().await;
    let deep = format!("{{\"tables_to_query\": {}", "[".repeat(10_000));
    let events = [
        r#"{"tables_to_query": ["no_such_table"]}"#,
        r#"{"tables": ["sale"]}"#,
        r#"{"tables_to_query": "sale"}"#,
        r#"{"tables_to_query": [7]}"#,
        r#"{"tables_to_query": ["sale"], "tables_to_query": []}"#,
        r#"["sale"]"#,
        "",
        "{",
        "null",
        "\u{0}",
        &deep,
        &format!("{{\"tables_to_query\": [\"{}\"]}}", "a".repeat(262_144)),
    ];
    for event in events {
        let error = starlift::ingest(&lab.context(), Some(event.as_bytes())).await.unwrap_err();
        says(&error, ErrorKind::Config, &[]);
        assert!(error.render().len() < 1_000, "an event is not repeated");
    }
    for event in [
        r#"{"sale": "sale/2024/11/20/113500000000.parquet"}"#,
        r#"{"sale": "../../etc/passwd"}"#,
        r#"{"sale": 7}"#,
        r#"{"sale": "sale/2024/11/20/113500000000.parquet", "sale": "sale/2024/11/20/113500000001.parquet"}"#,
    ] {
        let error = starlift::transform(&lab.context(), Some(event.as_bytes())).await.unwrap_err();
        says(&error, ErrorKind::Config, &[]);
    }
    assert_eq!(lab.manifests(), 1);
    // An object without anything in it means all there is to do.
    starlift::ingest(&lab.context(), Some(b"{}")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_35_no_name_of_a_table_leads_out_of_the_lake() {
    let lab = Lab::new("").await;
    let names = ["../../etc", "a/b", "..%2f", "C:\\x", "x#1", "..", "_manifests", "_claims", " ", "a\u{1}b"];
    for name in names {
        lab.run(&format!("create table \"{name}\" (id int primary key); insert into \"{name}\" values (1)")).await;
    }
    let report = lab.catch_up().await;
    assert_eq!(report.relations.len(), names.len());
    let outside = lab.lake().parent().unwrap().to_path_buf();
    for file in files_below(&outside) {
        assert!(file.starts_with("ingest/") || file == "starlift.toml", "{file}");
    }
    for file in files_below(&lab.lake()) {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_%./-".contains(&b);
        assert!(file.bytes().all(plain) && !file.contains(".."), "{file}");
    }
    lab.run("update \"../../etc\" set id = 2; delete from \"_manifests\"").await;
    lab.catch_up().await;
    // A link inside of the lake is not followed, wherever it leads.
    let target = tempfile::tempdir().unwrap();
    let folder = lab.lake().join("a%2Fb");
    std::fs::remove_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink(target.path(), &folder).unwrap();
    lab.run("insert into \"a/b\" values (2)").await;
    lab.ingest_fails(ErrorKind::Config, &["a%2Fb", "symbolic link"]).await;
    assert_eq!(files_below(target.path()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_36_a_name_with_sql_in_it_is_a_name() {
    let lab = Lab::new("create table y (id int primary key); insert into y values (1)").await;
    lab.run(
        "create table \"x\"\"; drop table y--\" (\"id\"\"; drop table y--\" int primary key, \"'; drop table y--\" text);
         insert into \"x\"\"; drop table y--\" values (1, '''; drop table y--')",
    )
    .await;
    lab.catch_up().await;
    lab.run("update \"x\"\"; drop table y--\" set \"'; drop table y--\" = 'z'; delete from y").await;
    let report = lab.catch_up().await;
    assert_eq!((of(&report, "x\"; drop table y--").rows_written, of(&report, "y").rows_deleted), (1, 1));
    assert_eq!(lab.number("select count(*) from pg_class where relname = 'y'").await, 1);
    let event = br#"{"tables_to_query": ["x\"; drop table y--"]}"#;
    starlift::ingest(&lab.context(), Some(event)).await.unwrap();
    // A value of the settings is no SQL either.
    let error =
        starlift::ingest(&lab.context(), Some(br#"{"tables_to_query": ["y'; drop table y--"]}"#)).await.unwrap_err();
    says(&error, ErrorKind::Config, &["drop table y--"]);
    lab.assert_equal().await;
}

/// Moves the end of the newest run's window, as a clock that was wrong would have left it.
async fn set_clock_of_last_run(lab: &Lab, at: Micros) {
    let mut manifest = lab.newest().await;
    manifest.at = at;
    let path = lab.lake().join(starlift_core::key::manifest(manifest.seq));
    std::fs::write(path, manifest.to_bytes().unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_37_a_clock_that_went_backwards_or_to_the_end_of_time_names_no_file_twice() {
    let lab = Lab::new(SALE).await;
    lab.catch_up().await;
    // A century ahead: the next run is one microsecond later, whatever the clock says now.
    let ahead = Micros(4_900_000_000_000_000);
    set_clock_of_last_run(&lab, ahead).await;
    lab.run("update sale set v = 7 where id = 1").await;
    lab.catch_up().await;
    assert_eq!(lab.newest().await.at, ahead.next());

    let store = Store::open(lab.lake().to_str().unwrap(), &Default::default()).unwrap();
    let last_of_9999 = Micros(253_402_300_799_999_999);
    assert_eq!(claim(&store, last_of_9999, None, "a").await.unwrap(), last_of_9999);
    for (at, floor) in [(last_of_9999, Some(last_of_9999)), (Micros(-1), None), (last_of_9999.next(), None)] {
        let error: Error = claim(&store, at, floor, "b").await.unwrap_err();
        says(&error, ErrorKind::Config, &["keys hold the years 1970 to 9999"]);
    }
    // A session in a zone with summer time, in the hour that is there twice.
    lab.run(&format!("alter database {} set timezone = 'Europe/London'", lab.database)).await;
    lab.run("update sale set last_updated = '2024-10-27 01:30+01' where id = 1; update sale set last_updated = '2024-10-27 01:30+00' where id = 2").await;
    lab.catch_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_38_two_runs_in_the_same_microsecond_never_share_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap(), &Default::default()).unwrap();
    let at = Micros(1_732_102_500_000_000);
    let claims = (0..20).map(|run| {
        let store = store.clone();
        tokio::spawn(async move { claim(&store, at, None, &format!("run {run}")).await.unwrap() })
    });
    let mut times = Vec::new();
    for time in futures::future::join_all(claims).await {
        times.push(time.unwrap().0 - at.0);
    }
    let different: std::collections::BTreeSet<i64> = times.iter().copied().collect();
    assert_eq!((different.len(), different.first()), (20, Some(&0)), "each has one of its own: {times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_43_one_large_window_and_many_tiny_ones_cost_what_they_bring() {
    let lab = Lab::new(SALE).await;
    lab.catch_up().await;
    // More rows than a batch and a row group hold.
    lab.run("insert into sale (v) select i from generate_series(1, 200000) i").await;
    let report = lab.catch_up().await;
    assert_eq!((of(&report, "sale").rows_written, why_full(of(&report, "sale"))), (200_000, None));
    // More windows than a checkpoint may be apart from the next.
    for v in 0..105 {
        if v % 10 == 0 {
            lab.run(&format!("update sale set v = {v} where id = 1")).await;
        }
        lab.ingest().await;
    }
    lab.catch_up().await;
    let newest = lab.newest().await;
    // While files are few each manifest lists them, and none before it has to be read.
    assert_eq!((newest.seq, newest.checkpoint), (108, 108));
    assert!(newest.to_bytes().unwrap().len() < 64 * 1024, "a manifest does not grow with the history");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_for_the_shipped_pipeline_is_refused_with_the_name_that_was_meant() {
    let world = World::new().await;
    let error = starlift::ingest(&world.context(), Some(br#"{"tables_to_query": ["adress"]}"#)).await.unwrap_err();
    says(&error, ErrorKind::Config, &["did you mean `address`"]);
}
