//! Runs that end between chunks, and those that go on.

use std::time::Duration;

use starlift::Outcome;
use starlift_core::manifest::Manifest;

use super::{Moments, WIDE, chunks, cut_after, history, lab, settle, unfinished};
use crate::capture::lab::Lab;
use crate::world::of;

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_fits_one_chunk_is_read_as_it_always_was() {
    let lab = lab(WIDE).await;
    lab.run("delete from wide where id > 5000").await;
    lab.run("vacuum full wide").await;
    let report = lab.catch_up().await;
    assert_eq!(of(&report, "wide").reason.as_deref(), Some("first read"));
    assert_eq!(lab.manifests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_makes_one_chunk_after_another_and_closes_the_base() {
    let lab = lab(WIDE).await;
    let report = lab.catch_up().await;
    let (wide, small) = (of(&report, "wide"), of(&report, "small"));
    let read = chunks(&lab, "wide").await;
    assert!(read.len() >= 4 && read.iter().sum::<u64>() == 4_000, "{read:?}");
    assert_eq!(wide.reason, Some(format!("first read, in {} chunks", read.len())));
    assert_eq!((wide.mode.as_str(), wide.rows, wide.rows_read, wide.rows_written), ("full", 4_000, 4_000, 4_000));
    assert_eq!((small.mode.as_str(), small.rows_written), ("full", 2), "what its first pass read is in its report");
    assert!(report.result.contains_key("small") && report.result.contains_key("wide"), "{:?}", report.result);
    let manifests = history(&lab).await;
    assert_eq!(manifests.len(), read.len() + 1);
    assert!(manifests[1..read.len()].iter().all(|m| m.relations["small"].run.is_none()), "chunks are read alone");
    assert!(manifests[..read.len()].iter().all(|m| !m.relations.contains_key("wide")), "no state has chunks");
    let upto: Vec<u64> = manifests.iter().map(Manifest::complete_upto).collect();
    assert!(upto[..read.len()].iter().all(|upto| *upto == 0) && upto[read.len()] == manifests.len() as u64, "{upto:?}");
    // And from then on by windows.
    lab.run("update wide set v = -1 where id = 10").await;
    let report = lab.catch_up().await;
    assert_eq!((of(&report, "wide").mode.as_str(), of(&report, "wide").rows_written), ("window", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_run_goes_on_where_one_ended_and_reads_nothing_again() {
    let lab = lab(WIDE).await;
    cut_after(&lab, "wide", 1).await;
    let first = unfinished(&lab, "wide").await.unwrap();
    cut_after(&lab, "wide", 2).await;
    let base = unfinished(&lab, "wide").await.unwrap();
    assert_eq!((base.first, base.chunks, base.capture.watermark), (first.first, 3, first.capture.watermark));
    lab.catch_up().await;
    assert_eq!(chunks(&lab, "wide").await.iter().sum::<u64>(), 4_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_time_is_over_reports_what_is_committed() {
    let lab = lab(WIDE).await;
    let slow = Moments::of(&lab, "wide", &[]);
    *slow.sleep.lock().unwrap() = Some((2, Duration::from_secs(6)));
    let context = lab.watched(slow.clone()).with_deadline(Some(Duration::from_secs(5)));
    let report = starlift::ingest(&context, None).await.unwrap();
    assert_eq!((report.outcome, report.seq), (Outcome::Committed, Some(1)));
    assert_eq!((of(&report, "wide").mode.as_str(), of(&report, "small").rows_written), ("chunk", 2));
    assert!(report.warnings[0].contains("the next run goes on"), "{:?}", report.warnings);
    lab.catch_up().await;
    assert_eq!(chunks(&lab, "wide").await.iter().sum::<u64>(), 4_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pass_reads_follows_from_the_time_that_its_run_was_given() {
    // Of the default `chunk_mb` none of these is large, but in 3 s a pass takes on 6 MiB of whole tables and a chunk of 6 MiB.
    let rows = "repeat(md5(i::text), 28) from generate_series(1,";
    let lab = Lab::new(&format!(
        "create table near_1 (id int primary key, filler text); insert into near_1 select i, {rows} 3600) i;
         create table near_2 (id int primary key, filler text); insert into near_2 select i, {rows} 3700) i;
         create table wide (id int primary key, filler text); insert into wide select i, {rows} 9000) i"
    ))
    .await;
    settle(&lab).await;
    for _ in 0..40 {
        let context = lab.context().with_deadline(Some(Duration::from_secs(3)));
        // On a busy machine a pass may not end in time: the next run goes on.
        let _ = starlift::ingest(&context, None).await;
        if lab.manifests() > 0 && lab.newest().await.unfinished.is_empty() {
            break;
        }
    }
    lab.assert_equal().await;
    let opened = &history(&lab).await[0];
    assert_eq!(opened.relations.keys().collect::<Vec<_>>(), ["near_1"]);
    assert_eq!(opened.unfinished.keys().collect::<Vec<_>>(), ["near_2"]);
    assert_eq!(chunks(&lab, "near_2").await, [3_700], "a chunk of its own");
    let wide = chunks(&lab, "wide").await;
    assert!(wide.len() == 2 && wide.iter().sum::<u64>() == 9_000, "{wide:?}");

    // A run without a deadline reads them as it always did.
    lab.run("alter table near_1 add a int; alter table near_2 add a int; alter table wide add a int").await;
    let report = lab.catch_up().await;
    for table in ["near_1", "near_2", "wide"] {
        assert_eq!(of(&report, table).reason.as_deref(), Some("schema changed"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_comes_again_goes_on_until_it_has_a_result_and_then_returns_it() {
    let lab = lab(WIDE).await;
    cut_after(&lab, "wide", 2).await;
    let mut context = lab.context();
    context.run_id = history(&lab).await[0].run_id.clone();
    let report = starlift::ingest(&context, None).await.unwrap();
    assert_eq!(report.outcome, Outcome::Committed);
    lab.assert_equal().await;
    let manifests = lab.manifests();
    let again = starlift::ingest(&context, None).await.unwrap();
    assert_eq!((again.outcome, again.seq, &again.result), (Outcome::Replayed, report.seq, &report.result));
    assert_eq!(lab.manifests(), manifests);
    // Its first pass, before it was cut off, is part of the result.
    assert_eq!(again.result["small"], history(&lab).await[0].result["small"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_printed_stays_in_its_result_where_others_commit_between_its_passes() {
    let lab = lab(WIDE).await;
    cut_after(&lab, "wide", 2).await;
    cut_after(&lab, "wide", 1).await;
    let before = history(&lab).await;
    assert_ne!(before[2].run_id, before[0].run_id);
    let mut context = lab.context();
    context.run_id = before[0].run_id.clone();
    let report = starlift::ingest(&context, None).await.unwrap();
    assert_eq!(report.outcome, Outcome::Committed);
    assert!(history(&lab).await.last().unwrap().result.contains_key("wide"));
    assert_eq!(report.result.get("small"), before[0].result.get("small"), "{:?}", report.result);
    let again = starlift::ingest(&context, None).await.unwrap();
    assert_eq!((again.outcome, &again.result), (Outcome::Replayed, &report.result));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_at_once_commit_each_chunk_once() {
    let lab = lab(WIDE).await;
    let (one, other) = (lab.context(), lab.context());
    let (one, other) = tokio::join!(starlift::ingest(&one, None), starlift::ingest(&other, None));
    let outcomes = [one.unwrap().outcome, other.unwrap().outcome];
    assert!(outcomes.contains(&Outcome::Committed), "{outcomes:?}");
    lab.catch_up().await;
    assert_eq!(chunks(&lab, "wide").await.iter().sum::<u64>(), 4_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_connections_read_a_chunk_together() {
    let lab = lab("create table wide (id int primary key, filler text);
        insert into wide select i, repeat(md5(i::text), 28) from generate_series(1, 72000) i")
    .await;
    lab.configure("connections = 3");
    let path = lab.lake().parent().unwrap().join("starlift.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("chunk_mb = 1", "chunk_mb = 40");
    std::fs::write(&path, text).unwrap();
    lab.catch_up().await;
    assert_eq!(chunks(&lab, "wide").await.len(), 2);
    assert_eq!(chunks(&lab, "wide").await.iter().sum::<u64>(), 72_000);
}
