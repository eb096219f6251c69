//! Who reads a lake while a base is unfinished: transform, verify, status, plan, history, vacuum.

use std::time::Duration;

use starlift::Outcome;
use starlift::verify::{ComparisonKind, Verdict, VerifyRequest, verify};

use super::{WIDE, cut_after, history, lab, unfinished};
use crate::world::of;

const MODEL: &str = "-- kind: dimension\n-- key: id\nselect id, v from wide";
const OTHER: &str = "-- kind: dimension\n-- key: id\nselect id, v from small";

#[tokio::test(flavor = "multi_thread")]
async fn transform_stops_before_the_first_chunk_and_goes_on_at_the_closing_manifest() {
    let lab = lab(WIDE).await;
    lab.model("dim_wide", MODEL);
    lab.model("dim_small", OTHER);
    cut_after(&lab, "wide", 2).await;
    let report = starlift::transform(&lab.context(), None).await.unwrap();
    assert_eq!(report.outcome, Outcome::Nothing);
    assert!(report.warnings[0].contains("`wide` is read in full (first read: 2 of about"), "{:?}", report.warnings);
    lab.ingest().await;
    let closed = lab.newest().await.seq;
    let report = starlift::transform(&lab.context(), None).await.unwrap();
    assert_eq!((of(&report, "dim_wide").rows, of(&report, "dim_small").rows), (4_000, 2));

    // A table that has a state keeps it until its new base is closed, for models that are new as well.
    lab.run("update wide set v = -1 where id = 10; update small set v = 7; alter table wide add column more int").await;
    lab.run("insert into wide values (5, 5, 'five', 5)").await;
    cut_after(&lab, "wide", 2).await;
    let newest = lab.newest().await;
    assert_eq!((newest.relations["wide"].rows, newest.relations["wide"].schema.columns.len()), (4_000, 3));
    assert_eq!((newest.complete_upto(), newest.relations["small"].last_change > closed), (closed, true));
    let report = starlift::transform(&lab.context(), None).await.unwrap();
    assert_eq!(report.outcome, Outcome::Nothing, "{report:?}");
    lab.model("dim_new", "-- kind: dimension\n-- key: id\nselect id, v as value from wide");
    let report = starlift::transform(&lab.context(), None).await.unwrap();
    assert_eq!((report.outcome, of(&report, "dim_new").rows), (Outcome::Committed, 4_000));
    assert!(report.relations.iter().all(|r| r.name != "dim_small"), "what the first pass read waits too");
    lab.ingest().await;
    let report = starlift::transform(&lab.context(), None).await.unwrap();
    assert_eq!((of(&report, "dim_wide").rows, of(&report, "dim_wide").rows_written), (4_001, 2));
    assert_eq!(of(&report, "dim_small").rows_written, 2);
    let again = starlift::transform(&lab.context(), None).await.unwrap();
    assert_eq!((again.outcome, again.warnings), (Outcome::Nothing, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_table_is_pending_for_verify_and_said_by_status_plan_and_history() {
    let lab = lab(WIDE).await;
    lab.model("dim_wide", MODEL);
    cut_after(&lab, "wide", 2).await;
    let progress = unfinished(&lab, "wide").await.unwrap().text();
    assert!(progress.starts_with("first read: 2 of about "), "{progress}");
    let report = verify(&lab.context(), &VerifyRequest::default()).await;
    let report = report.unwrap();
    let wide = report.comparisons.iter().find(|c| c.kind == ComparisonKind::SourceLake && c.name == "wide").unwrap();
    assert_eq!((wide.verdict, wide.pending), (Verdict::Pending, 4_000));
    assert!(wide.notes[0].contains(&progress), "{:?}", wide.notes);

    let status = starlift::status::status(&lab.context()).await.unwrap();
    assert_eq!(status.pending[0], format!("ingest: `wide`: {progress}"));
    assert!(status.pending[1].starts_with("transform waits: `wide`"), "{:?}", status.pending);
    let plan = starlift::plan::plan(&lab.context()).await.unwrap();
    let wide = plan.ingest.iter().find(|table| table.name == "wide").unwrap();
    assert_eq!(wide.reason.as_deref(), Some(progress.as_str()));
    assert!(
        !plan.transform[0].evaluate && plan.notes.iter().any(|note| note.starts_with("transform waits")),
        "{plan:?}"
    );
    let (entries, _) = starlift::history::history(&lab.context(), 10).await.unwrap();
    let chunk = &entries.iter().find(|e| e.seq == 2).unwrap().relations[0];
    assert_eq!((chunk.mode.as_str(), chunk.reason.as_deref()), ("chunk", Some(progress.as_str())));
}

#[tokio::test(flavor = "multi_thread")]
async fn vacuum_leaves_the_chunks_and_takes_what_a_dead_run_left() {
    let lab = lab(WIDE).await;
    cut_after(&lab, "wide", 3).await;
    let files = crate::world::files_below(&lab.lake());
    let dead = lab.lake().join("wide/2001/01/01/000000000000.parquet");
    std::fs::create_dir_all(dead.parent().unwrap()).unwrap();
    std::fs::write(&dead, "").unwrap();
    let age = starlift::vacuum::VacuumRequest { older_than: Duration::ZERO, delete: true };
    starlift::vacuum::vacuum(&lab.context(), age).await.unwrap();
    assert!(!dead.exists());
    let left = crate::world::files_below(&lab.lake());
    assert!(files.iter().filter(|file| file.starts_with("wide/")).all(|file| left.contains(file)));
    lab.catch_up().await;
    assert!(history(&lab).await.len() > 4);
}
