//! Rows that the warehouse refuses.

use std::collections::BTreeSet;
use std::time::Duration;

use starlift::quarantine::{self, accept, replay};
use starlift::verify::{ComparisonKind, VerifyRequest, verify};
use starlift::{LoadRequest, Outcome, status, warehouse};

use super::{aside, assert_verified, context, failed, failures, settle, world_with};
use crate::cut_off::{Lost, cut_off_commit};
use crate::world::{World, of};

/// Two dimensions and two facts of a warehouse that is narrower than the source.
const NARROW: &str = "drop view if exists current_dim_design, current_fact_sales_order, current_fact_payment;
    alter table dim_design alter design_name type varchar(60);
    alter table fact_sales_order add constraint few check (units_sold < 1000000);
    alter table fact_payment alter payment_amount type numeric(10, 2)";
const LONG: &str = "update design set design_name = repeat('n', 61) where design_id = 1";

/// A loaded world with such a warehouse.
async fn narrow(settings: &str) -> World {
    let world = world_with(settings).await;
    world.create_warehouse().await;
    world.change("update payment set payment_amount = round(payment_amount, 2)").await;
    world.warehouse_client().await.batch_execute(NARROW).await.unwrap();
    world.run().await;
    world
}

async fn entries(world: &World) -> i64 {
    world.count_in_warehouse("select count(*) from starlift.refused").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_refused_row_stops_load_and_a_person_may_let_it_through() {
    let world = narrow("").await;
    world.change("update payment set payment_amount = 1.005 where payment_id in (1, 2)").await;
    world.change("update sales_order set units_sold = 1000001 where sales_order_id = 3").await;
    let ledger = "select count(*) from starlift.ledger";
    let before = world.count_in_warehouse(ledger).await;
    let stopped = failed(&world).await;
    assert_eq!(stopped.len(), 1, "{stopped:?}");
    assert_eq!(stopped[0].0, "load");
    for part in
        ["fact_payment", "payment_id=1, payment_id=2", "needs more than 2 decimals", "starlift quarantine accept"]
    {
        assert!(stopped[0].1.contains(part), "{part}: {stopped:?}");
    }
    assert_eq!((world.count_in_warehouse(ledger).await, entries(&world).await), (before, 0));

    // Of one model: the other one still stops it.
    let of_payments = BTreeSet::from(["fact_payment".to_string()]);
    let report = accept(&context(&world), &of_payments).await.unwrap();
    let stopped = failures(&report);
    assert!(stopped[0].1.contains("fails the check `few`") && stopped[0].1.contains("sales_order_id=3"), "{stopped:?}");
    assert_eq!((world.count_in_warehouse(ledger).await, entries(&world).await), (before, 0));

    let report = accept(&context(&world), &BTreeSet::new()).await.unwrap();
    assert!(failures(&report).is_empty(), "{report:?}");
    let load = report.stages.iter().find(|stage| stage.stage == "load").unwrap();
    assert_eq!((of(load, "fact_payment").rows_refused, of(load, "fact_payment").refused), (2, 2));
    let line = "model `fact_payment`: 2 rows were set aside: column `payment_amount`: it needs more than 2 decimals in \
                2 rows (payment_id=1; payment_id=2)";
    assert!(load.warnings.iter().any(|warning| warning == line), "{:?}", load.warnings);
    let list = [
        "load fact_payment payment_id=1 payment_amount",
        "load fact_payment payment_id=2 payment_amount",
        "load fact_sales_order sales_order_id=3 units_sold",
    ];
    assert_eq!(aside(&world).await, list);
    let row = quarantine::list(&context(&world)).await.unwrap().remove(0);
    assert_eq!((row.reason.as_str(), row.value), ("it needs more than 2 decimals", None));
    let of_model = |status: &starlift::status::Status, name: &str| {
        status.models.iter().find(|model| model.name == name).map(|model| model.refused)
    };
    let now = status::status(&context(&world)).await.unwrap();
    assert_eq!((of_model(&now, "fact_payment"), of_model(&now, "dim_design")), (Some(2), Some(0)));
    assert_verified(&world).await;

    // They stand aside and stop nothing, however many runs there are.
    world.change("update design set file_name = 'other' where design_id = 2").await;
    let report = world.run().await;
    assert!(report.stages[2].relations.iter().all(|relation| relation.rows_refused == 0), "{report:?}");
    let report = world.load().await;
    assert_eq!((report.outcome, aside(&world).await.len()), (Outcome::Nothing, 3));

    // The source is mended for two, and the third is deleted there.
    world.change("update payment set payment_amount = 1.5 where payment_id = 1").await;
    world.change("update sales_order set units_sold = 9 where sales_order_id = 3").await;
    world.change("delete from payment where payment_id = 2").await;
    world.run().await;
    assert!(aside(&world).await.is_empty());
    assert_verified(&world).await;
    world.assert_star_equals_source().await;
    let versions = "select count(*) from fact_payment where payment_id = 1";
    assert_eq!(world.count_in_warehouse(versions).await, 2, "the first one and the mended one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mended_column_brings_rows_back_in_the_next_run_or_by_replay() {
    for by_replay in [false, true] {
        let world = narrow("[quarantine]\nmax_quarantine = 2\nkeep_values = true").await;
        world.change("update payment set payment_amount = 1.005 where payment_id = 1").await;
        world.change("update sales_order set units_sold = 1000001 where sales_order_id = 3").await;
        world.run().await;
        let rows = quarantine::list(&context(&world)).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.value.as_deref()).collect::<Vec<_>>(), [Some("1.005"), Some("1000001")]);
        let ledger = "select string_agg(seq::text || run_id, ' ' order by seq) from starlift.ledger";
        let before: String = world.warehouse_client().await.query_one(ledger, &[]).await.unwrap().get(0);
        world
            .warehouse_client()
            .await
            .batch_execute(
                "drop view current_fact_payment; alter table fact_payment alter payment_amount type numeric;
                 alter table fact_sales_order drop constraint few",
            )
            .await
            .unwrap();
        let load = match by_replay {
            true => {
                let report = replay(&context(&world), &BTreeSet::new()).await.unwrap();
                assert!(failures(&report).is_empty(), "{report:?}");
                report.stages.into_iter().find(|stage| stage.stage == "load").unwrap()
            }
            false => world.load().await,
        };
        assert_eq!(load.outcome, Outcome::Committed);
        assert_eq!((of(&load, "fact_payment").rows_written, of(&load, "fact_payment").mode.as_str()), (1, "again"));
        assert!(aside(&world).await.is_empty());
        assert_verified(&world).await;
        world.assert_star_equals_source().await;
        let after: String = world.warehouse_client().await.query_one(ledger, &[]).await.unwrap().get(0);
        assert_eq!(after, before, "the ledger stays");
        assert_eq!(world.load().await.outcome, Outcome::Nothing);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_wait_for_the_dimension_row_that_load_refuses_and_come_back_with_it() {
    let world = narrow("[quarantine]\nmax_quarantine = 1").await;
    let facts = "select count(*) from current_fact_sales_order where design_id = 1";
    let versions = "select count(*) from fact_sales_order";
    let (all, written) = (world.count_in_warehouse(facts).await, world.count_in_warehouse(versions).await);
    assert!(all > 0);
    world.change(LONG).await;
    let report = world.run().await;
    assert_eq!(of(&report.stages[2], "fact_sales_order").rows_refused, 0, "who waits is not counted");
    let waiting = aside(&world).await;
    assert_eq!((waiting[0].as_str(), waiting.len() as i64), ("load dim_design design_id=1 design_name", 1 + all));
    assert_eq!(world.count_in_warehouse(facts).await, 0);
    assert_verified(&world).await;

    // What is hidden must stay so.
    let warehouse = world.warehouse_client().await;
    let hidden = "delete from starlift.retracted where model = 'dim_design'";
    warehouse.batch_execute(hidden).await.unwrap();
    let report = verify(&context(&world), &VerifyRequest::default()).await.unwrap();
    let differing = report.comparisons.iter().filter(|c| c.differences > 0).map(|c| (c.kind, c.name.as_str()));
    let differing: Vec<_> = differing.collect();
    let both = [ComparisonKind::StarWarehouse, ComparisonKind::LakeWarehouse].map(|kind| (kind, "dim_design"));
    assert_eq!(differing, both, "a row that stands aside is current: {report:#?}");
    let again = "insert into starlift.retracted select pipeline, model, key, seq from starlift.refused where model = 'dim_design'";
    warehouse.batch_execute(again).await.unwrap();

    // One changes meanwhile, a new one comes, and nothing is read again for the others.
    world.change("update sales_order set units_sold = 4321 where sales_order_id = (select min(sales_order_id) from sales_order where design_id = 1)").await;
    let report = world.run().await;
    assert_eq!(of(&report.stages[2], "fact_sales_order").rows_read, 1);
    assert_eq!(aside(&world).await.len() as i64, 1 + all);

    world.change("update design set design_name = 'short' where design_id = 1").await;
    world.run().await;
    assert!(aside(&world).await.is_empty());
    assert_eq!(world.count_in_warehouse(facts).await, all);
    assert_eq!(world.count_in_warehouse(versions).await, written + 1, "one version for the one that changed");
    assert_verified(&world).await;
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warehouse_that_is_cleared_or_adopted_again_comes_to_the_same() {
    let world = narrow("[quarantine]\nmax_quarantine = 2").await;
    world.change(LONG).await;
    world.change("update payment set payment_amount = 1.005 where payment_id = 1").await;
    world.run().await;
    let before = aside(&world).await;
    warehouse::clear(&context(&world)).await.unwrap();
    assert!(aside(&world).await.is_empty());
    let report = starlift::load(&context(&world), &LoadRequest::default()).await.unwrap();
    assert_eq!((of(&report, "dim_design").rows_refused, of(&report, "dim_design").mode.as_str()), (1, "adopt"));
    assert_eq!(aside(&world).await, before);
    assert_verified(&world).await;
    // Rows that stood aside are not counted again, and their entries stay.
    settle(&world, "");
    let adopt = LoadRequest { adopt: true, ..LoadRequest::default() };
    let report = starlift::load(&context(&world), &adopt).await.unwrap();
    assert!(report.relations.iter().all(|relation| relation.rows_refused + relation.rows_written == 0), "{report:?}");
    assert_eq!(aside(&world).await, before);

    world.change("update design set design_name = 'short' where design_id = 1").await;
    world.change("update payment set payment_amount = 1 where payment_id = 1").await;
    world.run().await;
    assert!(aside(&world).await.is_empty());
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_is_killed_or_does_not_hear_of_its_commit_sets_rows_aside_once() {
    let world = narrow("[quarantine]\nmax_quarantine = 1").await;
    world.change(LONG).await;
    world.ingest().await;
    world.transform().await;
    // It is given up while it waits for a fact, with its dimension row set aside.
    let blocker = world.warehouse_client().await;
    blocker.batch_execute("begin; lock table fact_sales_order in access exclusive mode").await.unwrap();
    let (context_of, request) = (context(&world), LoadRequest::default());
    let load = starlift::load(&context_of, &request);
    assert!(tokio::time::timeout(Duration::from_secs(3), load).await.is_err(), "it should have waited");
    blocker.batch_execute("rollback").await.unwrap();
    assert_eq!(entries(&world).await, 0);

    for lost in [Lost::Request, Lost::Answer] {
        let port = cut_off_commit(world.cluster.port(), lost).await;
        let mut overrides = world.overrides();
        let direct = format!(":{}/", world.cluster.port());
        overrides.warehouse_url = overrides.warehouse_url.map(|url| url.replace(&direct, &format!(":{port}/")));
        let cut = world.try_context(overrides, Default::default()).unwrap();
        let report = starlift::load(&cut, &LoadRequest::default()).await.unwrap();
        assert_eq!((report.outcome, of(&report, "dim_design").rows_refused), (Outcome::Committed, 1), "{lost:?}");
        assert_eq!(aside(&world).await[0], "load dim_design design_id=1 design_name");
        assert_verified(&world).await;
        world.change("update design set design_name = 'short' where design_id = 1").await;
        world.run().await;
        assert_eq!(entries(&world).await, 0);
        world.assert_star_equals_source().await;
        world.change(LONG).await;
        world.ingest().await;
        world.transform().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_that_wait_are_limited_together_and_a_later_one_decides() {
    let world = narrow("[quarantine]\nmax_quarantine = 1").await;
    for (id, amount) in [(1, "1.005"), (2, "2.005"), (1, "1.5")] {
        world.change(&format!("update payment set payment_amount = {amount} where payment_id = {id}")).await;
        world.ingest().await;
        world.transform().await;
    }
    // The first bad row is passed over, because a later manifest mends it.
    let report = world.load().await;
    assert_eq!(of(&report, "fact_payment").rows_refused, 1);
    assert_eq!(aside(&world).await, ["load fact_payment payment_id=2 payment_amount"]);
    assert_verified(&world).await;
    for id in [3, 4] {
        world.change(&format!("update payment set payment_amount = 0.005 where payment_id = {id}")).await;
        world.ingest().await;
        world.transform().await;
    }
    let stopped = failed(&world).await;
    assert!(stopped[0].1.contains("payment_id=4"), "one run may set one row aside: {stopped:?}");
    world.run().await;
    assert_eq!(aside(&world).await.len(), 3);
    assert_verified(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unique_constraint_outside_the_key_is_warned_of_by_doctor_and_by_every_load_that_writes_to_its_table() {
    let world = narrow("").await;
    let unique = "alter table dim_staff add constraint one_email unique (email_address)";
    world.warehouse_client().await.batch_execute(unique).await.unwrap();
    let checks = starlift::doctor::doctor(&context(&world)).await;
    let of_constraints: Vec<_> = checks.iter().filter(|check| check.name == "warehouse: constraints").collect();
    assert_eq!(of_constraints.len(), 1, "{checks:?}");
    assert_eq!(of_constraints[0].verdict, starlift::doctor::Verdict::Warn);
    assert!(of_constraints[0].detail.contains("`one_email` of `dim_staff`"), "{checks:?}");
    let mend = of_constraints[0].mend.clone().unwrap();
    assert!(mend.contains("drop constraint \"one_email\"") && mend.contains("deferrable"), "{mend}");

    world.change("update design set file_name = 'other' where design_id = 2").await;
    assert!(world.run().await.stages[2].warnings.is_empty(), "nothing was written to it");
    // Two people swap their addresses.
    world
        .change(
            "update staff s set email_address = o.email_address from staff o \
             where (s.staff_id, o.staff_id) in ((1, 2), (2, 1))",
        )
        .await;
    let stopped = failed(&world).await;
    assert!(stopped[0].1.contains("2 rows of model `dim_staff`") && stopped[0].1.contains(&mend), "{stopped:?}");
    let deferrable = mend.split('`').filter(|part| part.starts_with("alter table")).nth(1).unwrap();
    world.warehouse_client().await.batch_execute(deferrable).await.unwrap();
    assert!(world.run().await.stages[2].warnings.is_empty(), "it is checked at the end of a statement now");
    world.assert_star_equals_source().await;
    world
        .warehouse_client()
        .await
        .batch_execute(&format!("alter table dim_staff drop constraint one_email; {unique}"))
        .await
        .unwrap();
    world.change("update staff set first_name = 'Other' where staff_id = 3").await;
    let warnings = world.run().await.stages.remove(2).warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("model `dim_staff`: `one_email`"), "{warnings:?}");
    assert!(aside(&world).await.is_empty());
}
