//! ToteSys: a small change costs what changed, and the star is the one that a whole evaluation gives.

use starlift::config::{Environment, Overrides};
use starlift::plan::{PlannedModel, plan};
use starlift::{Head, StageReport};
use starlift_lake::Store;

use super::star::state;
use crate::world::{World, of};

fn transformed(stages: &[StageReport]) -> &StageReport {
    stages.iter().find(|stage| stage.stage == "transform").unwrap()
}

/// How a model was evaluated: the word, the rows that were evaluated, those that were written, and the retractions.
fn how(report: &StageReport, model: &str) -> (String, u64, u64, u64) {
    let model = of(report, model);
    (model.mode.clone(), model.rows_read, model.rows_written, model.rows_deleted)
}

/// The star is the one that a whole evaluation of the lake gives.
async fn assert_whole_gives_the_same(world: &World) {
    let place = world.dir.path().join("whole");
    let _ = std::fs::remove_dir_all(&place);
    let place = place.to_string_lossy().into_owned();
    let overrides = Overrides { lake_transform: Some(place.clone()), ..world.overrides() };
    let context = world.try_context(overrides, Environment::default()).unwrap();
    starlift::transform(&context, None).await.unwrap();
    let (ours, theirs) = (world.context().star().unwrap(), Store::open(&place, &Default::default()).unwrap());
    let pipeline = &context.config.pipeline;
    let (one, other) = (Head::read(&ours, pipeline).await.unwrap(), Head::read(&theirs, pipeline).await.unwrap());
    for name in one.manifest().unwrap().relations.keys() {
        assert_eq!(state(&ours, &one, name).await, state(&theirs, &other, name).await, "{name}");
        let rows = |head: &Head| head.manifest().unwrap().relations[name].rows;
        assert_eq!(rows(&one), rows(&other), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_change_costs_what_changed() {
    let world = World::of_scale(0.1).await;
    world.create_warehouse().await;
    let first = world.run().await;
    let transactions = of(transformed(&first.stages), "dim_transaction").rows_read;
    assert!(transactions > 100, "{transactions}");
    assert_eq!(how(transformed(&first.stages), "dim_transaction").0, "whole");

    world
        .change(
            "update \"transaction\" set last_updated = last_updated + interval '1 s' where transaction_id in (1, 2, 3);
             update sales_order set units_sold = units_sold + 1 where sales_order_id in (5, 6);
             delete from payment where payment_id = 7",
        )
        .await;
    let report = world.run().await;
    let report = transformed(&report.stages);
    assert_eq!(how(report, "dim_transaction"), ("incremental".into(), 3, 0, 0));
    assert_eq!(how(report, "fact_sales_order"), ("incremental".into(), 2, 2, 0));
    assert_eq!(how(report, "fact_payment"), ("incremental".into(), 0, 0, 1));
    world.assert_star_equals_source().await;
    assert_whole_gives_the_same(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_the_rows_that_join_with_it_and_no_others() {
    let world = World::new().await;
    world.create_warehouse().await;
    world.run().await;
    let source = world.source_client().await;
    let of_address = "select legal_address_id, count(*) from counterparty group by 1 order by 2 desc, 1 limit 1";
    let row = source.query_one(of_address, &[]).await.unwrap();
    let (address, counterparties): (i32, i64) = (row.get(0), row.get(1));
    let members: i64 = source
        .query_one("select count(*) from staff where department_id = 1 or staff_id = 2", &[])
        .await
        .unwrap()
        .get(0);
    world
        .change(&format!(
            "update address set city = 'Leeds' where address_id = {address};
             update department set department_name = 'Weaving' where department_id = 1;
             update staff set department_id = 3 where staff_id = 2;
             update currency set currency_code = 'QQQ' where currency_id = 1"
        ))
        .await;
    let report = world.run().await;
    let report = transformed(&report.stages);
    let counterparties = counterparties as u64;
    assert_eq!(how(report, "dim_counterparty"), ("incremental".into(), counterparties, counterparties, 0));
    assert_eq!(how(report, "dim_location"), ("incremental".into(), 1, 1, 0));
    assert_eq!(how(report, "dim_currency"), ("incremental".into(), 1, 1, 0), "with its seed, by an outer join");
    let (mode, evaluated, ..) = how(report, "dim_staff");
    assert_eq!((mode.as_str(), evaluated), ("incremental", members as u64));
    world.assert_star_equals_source().await;
    assert_whole_gives_the_same(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_says_how_and_a_setting_turns_it_off() {
    let world = World::new().await.with_own_project();
    let grouped = "-- kind: dimension\n-- key: city\nselect city, count(*) as addresses from address group by city";
    std::fs::write(world.project.join("models/dim_city.sql"), grouped).unwrap();
    let planned = async |environment: Environment| -> Vec<PlannedModel> {
        plan(&world.try_context(world.overrides(), environment).unwrap()).await.unwrap().transform
    };
    let said = |models: &[PlannedModel], name: &str| {
        let model = models.iter().find(|model| model.name == name).unwrap();
        (model.how.clone().unwrap_or_default(), model.whole_because.clone().unwrap_or_default())
    };
    let off = || Environment::of([("STARLIFT_TRANSFORM_INCREMENTAL", "false")]);
    let word = |how: &str, why: &str| (how.to_string(), why.to_string());
    assert_eq!(said(&planned(Environment::default()).await, "fact_payment"), word("whole", ""), "nothing is there yet");

    world.ingest().await;
    world.transform().await;
    let models = planned(Environment::default()).await;
    assert_eq!(said(&models, "fact_payment"), word("incremental", ""));
    assert_eq!(said(&models, "dim_currency"), word("incremental", ""));
    assert_eq!(said(&models, "dim_city"), word("whole", "it groups rows"));
    assert_eq!(said(&planned(off()).await, "fact_payment"), word("whole", "`incremental` is off"));

    world.change("update address set city = 'Leeds' where address_id = 1").await;
    world.ingest().await;
    let context = world.try_context(world.overrides(), off()).unwrap();
    let report = starlift::transform(&context, None).await.unwrap();
    assert_eq!(of(&report, "dim_location").mode, "whole");
    assert_eq!(of(&report, "dim_city").reason.as_deref(), Some("address changed"));
    world.change("update address set city = 'York' where address_id = 1").await;
    world.ingest().await;
    let report = world.transform().await;
    assert_eq!(how(&report, "dim_location"), ("incremental".into(), 1, 1, 0), "the setting is no reason to start anew");
    assert_eq!(of(&report, "dim_city").reason.as_deref(), Some("address changed; it groups rows"));
}
