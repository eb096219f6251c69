//! A key that is there twice, because the index that says otherwise is broken: it is named before anything is committed, or by the
//! first comparison with a lake that holds it; and once the source is mended, so is the lake.

use starlift_core::ErrorKind;

use crate::capture::lab::{Lab, why_full};
use crate::chunks::{WIDE, cut_after, history, lab, settle, unfinished};
use crate::world::of;

impl Lab {
    /// Lets in what the primary key of a table would keep out, as an index does that was built by another collation.
    async fn past_the_key(&self, table: &str, sql: &str) {
        let index = format!("where indexrelid = '{table}_pkey'::regclass");
        self.run(&format!("update pg_index set indisready = false, indisvalid = false {index}")).await;
        self.run(sql).await;
        self.run(&format!("update pg_index set indisready = true, indisvalid = true {index}")).await;
    }

    /// Changes rows that the index does not find.
    async fn by_a_scan(&self, sql: &str) {
        let scans = |to: &str| format!("set enable_indexscan {to}; set enable_bitmapscan {to}");
        self.run(&format!("{}; {sql}; {}", scans("= off"), scans("to default"))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_twice_in_the_source_is_named_and_nothing_is_committed() {
    let lab = Lab::new(
        "create table t (id int primary key, v int); insert into t select i, i from generate_series(1, 100) i;
         create table strewn (id text primary key); insert into strewn select md5(i::text) from generate_series(1, 500) i;
         create table other (id int primary key); insert into other values (1)",
    )
    .await;
    let mend = async |table: &str, condition: &str| {
        lab.by_a_scan(&format!("delete from {table} where {condition}; reindex table {table}")).await;
        lab.catch_up().await;
    };
    let again = "insert into t values (5, -1)";
    lab.past_the_key("t", again).await;
    lab.ingest_fails(ErrorKind::Data, &["table `t`", "id=5 comes again", "reindex table t"]).await;
    mend("t", "v = -1").await;
    // With the others the lake has the first row of each key, whatever shows the second.
    lab.past_the_key("t", again).await;
    lab.ingest_fails(ErrorKind::Data, &["table `t`", "id=5 comes again", "reindex table t"]).await;
    lab.by_a_scan("update t set v = v - 1 where id = 5").await;
    lab.ingest_fails(ErrorKind::Data, &["`t`", "id=5 comes again"]).await;
    mend("t", "v = -2").await;
    lab.past_the_key("strewn", "insert into strewn values (md5('77'))").await;
    lab.run("alter table strewn add column v int").await;
    lab.ingest_fails(ErrorKind::Data, &["table `strewn`", "id=28dd2c7955ce926456240b2ff0100bde comes again"]).await;
    mend("strewn", "ctid in (select ctid from strewn where id = md5('77') order by ctid desc limit 1)").await;
    lab.configure("[source.tables.t]\ncapture = \"full\"");
    lab.catch_up().await;
    lab.past_the_key("t", again).await;
    lab.ingest_fails(ErrorKind::Data, &["`t`", "id=5 comes again"]).await;
    mend("t", "v = -1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_comes_twice_in_the_chunks_of_one_run_stops_it() {
    let lab = lab(WIDE).await;
    // The first page has the one, the last the other.
    lab.past_the_key("wide", "insert into wide values (10, -1, 'again')").await;
    settle(&lab).await;
    let error = lab.try_ingest().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data, "{error:?}");
    assert!(error.render().contains("id=10 comes again"), "{error:?}");
    assert!(!lab.newest().await.relations.contains_key("wide"));
}

/// A lab whose source has the key 10 of `wide` twice, in chunks that two runs read: the second one does not know the keys of the first.
async fn in_two_runs() -> Lab {
    let lab = lab(WIDE).await;
    lab.past_the_key("wide", "insert into wide values (10, -1, 'again')").await;
    settle(&lab).await;
    cut_after(&lab, "wide", 1).await;
    lab
}

/// The source, whose key is there twice, is named, and nothing is committed; once it is mended, the next run mends the lake.
async fn named_and_mended(lab: &Lab) {
    let before = lab.manifests();
    let error = lab.try_ingest().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data, "{error:?}");
    assert!(error.render().contains("table `wide` is there twice in the source"), "{error:?}");
    assert!(error.render().contains("id=10 comes again"), "{error:?}");
    assert_eq!(lab.manifests(), before, "nothing is committed");
    lab.by_a_scan("delete from wide where v = -1; reindex table wide; insert into small values (3, 3)").await;
    let report = lab.catch_up().await;
    assert_eq!(why_full(of(&report, "wide")), Some("a key was in the lake twice"));
    assert_eq!(of(&report, "small").rows_written, 1);
    lab.run("delete from wide where id = 510").await;
    let report = lab.catch_up().await;
    assert_eq!((why_full(of(&report, "wide")), of(&report, "wide").rows_deleted), (None, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_that_holds_a_key_twice_is_mended_by_the_run_after_the_source_is() {
    let lab = in_two_runs().await;
    assert_eq!(of(&lab.ingest().await, "wide").rows, 4_001, "the trap is sprung");
    // Until something is gone, nothing is compared.
    lab.run("delete from wide where id = 500").await;
    named_and_mended(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn merged_files_and_a_key_index_that_name_one_row_of_a_key_do_not_hide_the_other() {
    let lab = in_two_runs().await;
    lab.ingest().await;
    lab.run("update wide set v = v + 0.5 where id between 20 and 900").await;
    lab.ingest().await;
    starlift::upkeep::compact(&lab.context()).await.unwrap();
    lab.run("delete from wide where id = 500").await;
    named_and_mended(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_hold_a_key_twice_are_begun_anew_once_the_source_is_mended() {
    let lab = in_two_runs().await;
    let first = unfinished(&lab, "wide").await.unwrap().first;
    // A row that the first chunk has is gone: the closing compares keys.
    lab.run("delete from wide where id = 20").await;
    let error = lab.try_ingest().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data, "{error:?}");
    assert!(error.render().contains("id=10 comes again"), "{error:?}");
    assert!(unfinished(&lab, "wide").await.unwrap().is_read());
    lab.by_a_scan("delete from wide where v = -1; reindex table wide").await;
    settle(&lab).await;
    let report = lab.catch_up().await;
    let wide = of(&report, "wide");
    assert!(wide.reason.as_ref().unwrap().starts_with("first read, in "), "{wide:?}");
    assert_eq!(wide.rows, 3_999);
    let bases: Vec<u64> = history(&lab).await.iter().filter_map(|m| Some(m.unfinished.get("wide")?.first)).collect();
    assert!(bases.iter().any(|base| *base > first), "{bases:?}");
}
