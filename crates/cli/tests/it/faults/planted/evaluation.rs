//! Bugs in what models see.

use super::{Buggy, assert_caught};

async fn deletes(bugs: &'static str) -> Vec<String> {
    let mut buggy = Buggy::new(bugs).await;
    buggy.shop.change("delete from sale where sale_id = 40; delete from note where note_id = 5").await;
    buggy.run().await;
    buggy.differences().await
}

#[tokio::test(flavor = "multi_thread")]
async fn tombstones_that_are_ignored_keep_deleted_rows_for_ever() {
    let (without, with) = tokio::join!(deletes(""), deletes("tombstones_ignored"));
    assert_caught(&without, &with, "fact_sale: too many (40,");
    assert_caught(&without, &with, "dim_note: too many (5,");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_rows_joined_alone_leave_what_is_gone() {
    let (without, with) = tokio::join!(deletes(""), deletes("new_rows_only"));
    assert_caught(&without, &with, "fact_sale: too many (40,");
    assert_caught(&without, &with, "dim_note: too many (5,");
}

/// An ingest commits while a transform is between two models.
async fn ingest_during_a_transform(bugs: &'static str) -> Vec<String> {
    let mut buggy = Buggy::new(bugs).await;
    buggy.shop.change("update address set city = 'moved'; update sale set amount = 701 where sale_id = 30").await;
    let ran = buggy.try_run(&["ingest"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let transform = buggy.start(&["transform"], "transform.model_done").await;
    let sold = "begin; update customer set name = 'renamed' where customer_id = 1; \
                insert into sale values (77777, 1, 5, '2024-02-03'); commit";
    buggy.shop.change(sold).await;
    let ran = buggy.try_run(&["ingest"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let transformed = transform.go().await;
    assert_eq!(transformed.code, Some(0), "{}", transformed.stderr);
    let loaded = buggy.try_run(&["load"]).await;
    assert_eq!(loaded.code, Some(0), "{}", loaded.stderr);
    let torn = "select count(*) from current_fact_sale join current_dim_customer using (customer_id) \
                where sale_id = 77777 and name <> 'renamed'";
    if buggy.shop.count_in_warehouse(torn).await > 0 {
        return vec!["a sale is shown with a customer as of before it".into()];
    }
    buggy.run().await;
    // What this history makes of a sale's versions is another test's.
    buggy.differences().await.into_iter().filter(|line| !line.contains("versions")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_as_of_now_show_an_image_that_the_source_never_had() {
    let (without, with) = tokio::join!(ingest_during_a_transform(""), ingest_during_a_transform("inputs_now"));
    assert_caught(&without, &with, "as of before it");
}
