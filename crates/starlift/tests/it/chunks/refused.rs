//! Rows that cannot be carried, in chunks.

use std::collections::BTreeSet;

use starlift::quarantine::{accept, list};
use starlift::verify::{ComparisonKind, Verdict, VerifyRequest, verify};
use starlift_core::ErrorKind;

use super::{Moments, WIDE, chunks, cut_after, lab, settle};
use crate::capture::lab::Lab;
use crate::world::of;

const NAN: &str = "update wide set v = 'NaN' where id in (10, 20, 39990)";

/// All that does not stand aside is equal.
async fn assert_equal_but_for_refused(lab: &Lab) {
    let report = verify(&lab.context(), &VerifyRequest::default()).await.unwrap();
    let of_source: Vec<_> = report.comparisons.iter().filter(|c| c.kind == ComparisonKind::SourceLake).collect();
    assert!(!of_source.is_empty() && of_source.iter().all(|c| c.verdict == Verdict::Equal), "{report:?}");
}

async fn aside(lab: &Lab) -> Vec<String> {
    list(&lab.context()).await.unwrap_or_default().into_iter().map(|row| row.key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_rows_of_all_chunks_count_once_and_together() {
    let lab = lab(WIDE).await;
    lab.run(NAN).await;
    lab.run("cluster wide using wide_pkey").await;
    settle(&lab).await;
    lab.configure("[quarantine]\nmax_quarantine = 2");
    // In the order of keys there are two in the first chunk, one in the last: with the third it is too much, in this run and in the next.
    for _ in 0..2 {
        let error = lab.try_ingest().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data, "{error:?}");
        let base = super::unfinished(&lab, "wide").await.unwrap();
        assert_eq!((base.refused, base.counted), (2, 2));
    }
    let read = chunks(&lab, "wide").await.len();
    let report = accept(&lab.context(), &BTreeSet::from(["wide".to_string()])).await;
    assert!(report.is_ok(), "{report:?}");
    assert_eq!(chunks(&lab, "wide").await.len(), read + 1, "accepting goes on too");
    assert_equal_but_for_refused(&lab).await;
    assert_eq!(lab.newest().await.relations["wide"].refused, 3);
    assert_eq!(aside(&lab).await, ["id=10", "id=20", "id=39990"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_refused_in_a_chunk_is_what_it_is_at_the_end() {
    let lab = lab(WIDE).await;
    lab.run("update wide set v = 'NaN' where id in (10, 20, 30, 40)").await;
    lab.run("cluster wide using wide_pkey").await;
    settle(&lab).await;
    lab.configure("[quarantine]\nmax_quarantine = 6");
    cut_after(&lab, "wide", 1).await;
    assert_eq!(super::unfinished(&lab, "wide").await.unwrap().refused, 4);
    // It can be carried now, is gone, is refused as before, and one more is.
    let later = "update wide set v = 7 where id = 10; delete from wide where id = 20;
                 update wide set filler = 'touched' where id = 30; update wide set v = 'NaN' where id = 50";
    let moments = Moments::of(&lab, "wide", &[(1, later)]);
    let report = starlift::ingest(&lab.watched(moments.clone()), None).await.unwrap();
    moments.passed();
    assert_equal_but_for_refused(&lab).await;
    assert_eq!((of(&report, "wide").rows, of(&report, "wide").refused), (3_999, 3));
    assert_eq!(aside(&lab).await, ["id=30", "id=40", "id=50"]);
    lab.run("update wide set v = 1 where v = 'NaN'").await;
    lab.catch_up().await;
    assert!(aside(&lab).await.is_empty());
}
