//! Rows that ingest refuses.

use std::collections::BTreeSet;

use starlift::quarantine::{self, accept, replay};

use super::{aside, assert_verified, context, failed, failures, settle, world_with};
use crate::world::of;

const PRICES: &str = "update purchase_order set item_unit_price = 'NaN' where purchase_order_id in (1, 2);
                      update purchase_order set item_unit_price = 1.123456789012 where purchase_order_id = 3";

#[tokio::test(flavor = "multi_thread")]
async fn more_refused_rows_than_allowed_stop_the_stage_and_mending_the_source_is_enough() {
    let world = world_with("[quarantine]\nmax_quarantine = 2").await;
    world.create_warehouse().await;
    world.run().await;
    world.change(PRICES).await;

    let failures = failed(&world).await;
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(
        failures[0]
            .1
            .contains("`item_unit_price` in 2 of 3 rows: it is NaN (purchase_order_id=1; purchase_order_id=2)"),
        "{failures:?}"
    );
    assert!(aside(&world).await.is_empty(), "nothing was committed");

    // What is mended in the source is read again, because the watermark stayed where it was.
    world.change("update purchase_order set item_unit_price = 7.5 where purchase_order_id in (1, 3)").await;
    let report = world.run().await;
    assert_eq!(
        (of(&report.stages[0], "purchase_order").rows_refused, of(&report.stages[0], "purchase_order").refused),
        (1, 1)
    );
    assert_eq!(aside(&world).await, ["ingest purchase_order purchase_order_id=2 item_unit_price"]);
    assert_verified(&world).await;
    let current = "select count(*) from current_fact_purchase_order where purchase_order_id = 2";
    assert_eq!(world.count_in_warehouse(current).await, 0, "the older version is not current any more");

    // It comes back exactly once.
    world.change("update purchase_order set item_unit_price = 9.75 where purchase_order_id = 2").await;
    world.run().await;
    assert!(aside(&world).await.is_empty());
    assert_verified(&world).await;
    world.assert_star_equals_source().await;
    let report = world.run().await;
    assert!(report.stages.iter().all(|stage| stage.result.is_empty()), "nothing is written again");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_stand_aside_are_counted_once_and_deleted_with_their_row() {
    let world = world_with("[quarantine]\nmax_quarantine = 1\nkeep_values = true").await;
    world.create_warehouse().await;
    world.run().await;
    world.change("update payment set payment_amount = 'NaN' where payment_id = 5").await;
    world.run().await;
    let rows = quarantine::list(&context(&world)).await.unwrap();
    assert_eq!(
        rows.iter().map(|row| (row.reason.as_str(), row.value.as_deref())).collect::<Vec<_>>(),
        [("it is NaN", Some("NaN"))]
    );
    // The row is read again and is refused again: that is nothing new, and leaves room for another one.
    world.change("update payment set paid = not paid where payment_id = 5").await;
    let report = world.run().await;
    assert_eq!(of(&report.stages[0], "payment").rows_refused, 0);
    world.change("update payment set payment_amount = 0.12345678901 where payment_id = 6").await;
    world.run().await;
    assert_eq!(aside(&world).await.len(), 2);
    assert_eq!(quarantine::list(&context(&world)).await.unwrap()[1].value.as_deref(), Some("0.12345678901"));
    assert_verified(&world).await;

    world.change("delete from payment where payment_id in (5, 6, 7)").await;
    let report = world.run().await;
    assert_eq!(of(&report.stages[0], "payment").rows_deleted, 3);
    assert!(aside(&world).await.is_empty());
    assert_verified(&world).await;
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_accepts_what_is_refused_and_a_setting_brings_it_back() {
    let world = world_with("").await;
    world.create_warehouse().await;
    world.change(PRICES).await;
    assert_eq!(failed(&world).await.len(), 1, "the first read of a table stops as well");
    let accepted = accept(&context(&world), &BTreeSet::from(["payment".to_string()])).await.unwrap();
    assert_eq!(failures(&accepted).len(), 1, "these rows were not meant");
    let unknown = accept(&context(&world), &BTreeSet::from(["purchase_ordr".to_string()])).await.unwrap_err();
    assert_eq!(unknown.hint(), Some("did you mean `purchase_order`?"));

    let accepted = accept(&context(&world), &BTreeSet::new()).await.unwrap();
    assert!(failures(&accepted).is_empty(), "{:?}", failures(&accepted));
    assert!(
        accepted.stages[0].warnings[0].starts_with("table `purchase_order`: 3 rows were set aside"),
        "{accepted:?}"
    );
    assert_eq!(aside(&world).await.len(), 3);
    assert_verified(&world).await;
    world.run().await;
    // Reading all of it again changes nothing.
    let replayed = replay(&context(&world), &BTreeSet::new()).await.unwrap();
    assert!(failures(&replayed).is_empty(), "{replayed:?}");
    assert!(of(&replayed.stages[0], "purchase_order").rows_read > 3);
    assert_eq!(aside(&world).await.len(), 3);

    // Twelve decimals fit now; NaN is no decimal of any size.
    settle(&world, "[source.tables.purchase_order.columns]\nitem_unit_price = { numeric = \"decimal(38,12)\" }");
    world.run().await;
    assert_eq!(aside(&world).await.len(), 2, "those that stand aside anyway do not stop the run");
    assert_verified(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_without_a_key_set_rows_aside_too() {
    let world = world_with("[quarantine]\nmax_quarantine = 2").await;
    let table = "create table reading (at timestamp, amount numeric); grant select on reading to public;
                 insert into reading values ('2024-01-01', 1), ('2024-01-01', 'NaN'), (null, 2), (null, 'NaN')";
    world.change(table).await;
    let report = world.ingest().await;
    assert_eq!((of(&report, "reading").rows, of(&report, "reading").refused), (4, 2));
    let report = world.ingest().await;
    assert_eq!((of(&report, "reading").files, of(&report, "reading").refused), (0, 2), "nothing changed");
    world.change("update reading set amount = 3 where amount = 'NaN' and at is null").await;
    let report = world.ingest().await;
    assert_eq!((of(&report, "reading").rows_written, of(&report, "reading").refused), (3, 1));
    world.change("insert into reading values (now(), 'NaN'), (now(), 'NaN')").await;
    assert_eq!(of(&world.ingest().await, "reading").refused, 3);
}
