//! What a role does not see must not look deleted.

use starlift_core::ErrorKind;

use crate::capture::lab::{Lab, SALE, number};
use crate::world::of;

#[tokio::test(flavor = "multi_thread")]
async fn row_level_security_that_comes_between_two_runs_is_an_error_and_no_delete() {
    let lab = Lab::new(SALE).await;
    lab.catch_up().await;
    lab.run("alter table sale enable row level security; create policy none on sale using (false)").await;
    let reader = lab.reader_session().await;
    assert_eq!(number(&reader, "select count(*) from sale").await, 0, "filtered without a word");
    let error = lab.ingest_fails(ErrorKind::Permission, &["`sale`", "row-level security"]).await;
    assert!(error.hint().unwrap().contains("bypassrls"), "{error:?}");
    lab.run("alter table sale disable row level security").await;
    let report = lab.catch_up().await;
    assert_eq!((of(&report, "sale").rows_written, of(&report, "sale").rows_deleted), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_would_filter_for_its_reader_is_an_error_too() {
    let lab = Lab::new(SALE).await;
    let view = "create view sale_view with (security_invoker = true) as select id, v from sale";
    if lab.version().await < 150_000 {
        return lab.knows_no(view).await;
    }
    lab.run(view).await;
    lab.configure("[source.tables.sale]\ncapture = \"none\"\n[source.tables.sale_view]\ncapture = \"full\"");
    lab.catch_up().await;
    lab.run("alter table sale enable row level security; create policy one on sale using (id = 1)").await;
    let reader = lab.reader_session().await;
    assert_eq!(number(&reader, "select count(*) from sale_view").await, 1, "filtered without a word");
    lab.ingest_fails(ErrorKind::Permission, &["sale_view", "table \"sale\""]).await;
    lab.run(&format!("alter role {} bypassrls", lab.reader)).await;
    lab.catch_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_read_some_columns_is_told_what_it_lacks() {
    let lab = Lab::new(SALE).await;
    lab.catch_up().await;
    lab.run(&format!("revoke select on sale from {0}; grant select (id, v, last_updated) on sale to {0}", lab.reader))
        .await;
    let reader = lab.reader_session().await;
    assert_eq!(number(&reader, "select count(id) from sale").await, 3);
    let error = reader.query("select xmin from sale", &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42501", "every column is granted, and `xmin` is not");
    lab.ingest_fails(ErrorKind::Permission, &["`sale`", "grant select"]).await;
}
