//! The contracts between the stages: events, results, keys, replays, races.

use starlift::{LoadRequest, Outcome};
use starlift_core::key;
use starlift_sandbox::totesys::SOURCE_TABLES;

use crate::world::{World, copy_folder, files_below, of};

#[tokio::test(flavor = "multi_thread")]
async fn a_result_names_the_first_file_of_each_table_with_rows_and_the_file_exists() {
    let world = World::new().await;
    let report = world.ingest().await;
    let mut names: Vec<&str> = report.result.keys().map(String::as_str).collect();
    let mut tables: Vec<&str> = SOURCE_TABLES.iter().map(|(table, _)| *table).collect();
    names.sort();
    tables.sort();
    assert_eq!(names, tables);
    for (name, file) in &report.result {
        assert!(key::is_data_key(name, file), "{file}");
        assert!(world.lake().join(file).is_file(), "{file}");
    }
    let event = serde_json::to_vec(&report.result).unwrap();
    let transformed = starlift::transform(&world.context(), Some(&event)).await.unwrap();
    assert_eq!(transformed.result.len(), 11);
    world.create_warehouse().await;
    let event = Some(serde_json::to_vec(&transformed.result).unwrap());
    starlift::load(&world.context(), &LoadRequest { event, ..LoadRequest::default() }).await.unwrap();
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_to_query_narrows_a_run_and_is_widened_by_joins_and_foreign_keys() {
    let world = World::new().await;
    let report = starlift::ingest(&world.context(), Some(br#"{"tables_to_query": ["staff"]}"#)).await.unwrap();
    let names: Vec<&str> = report.result.keys().map(String::as_str).collect();
    assert_eq!(names, ["department", "staff"]);
    // Models whose tables no ingest has read yet wait.
    let transformed = world.transform().await;
    assert!(transformed.result.contains_key("dim_staff"));
    assert!(!transformed.result.contains_key("fact_sales_order"));
    assert!(transformed.warnings.iter().any(|w| w.contains("fact_sales_order")));
    world.create_warehouse().await;
    world.load().await;
    world.run().await;
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_a_narrowed_run_does_not_read_keeps_its_own_watermark() {
    let world = World::new().await;
    world.create_warehouse().await;
    world.run().await;
    world.change("update payment set payment_amount = 12.34 where payment_id = 2").await;
    for _ in 0..3 {
        world.change("update design set file_name = file_name || 'x' where design_id = 1").await;
        starlift::ingest(&world.context(), Some(br#"{"tables_to_query": ["design"]}"#)).await.unwrap();
    }
    let report = world.run().await;
    assert_eq!(of(&report.stages[0], "payment").rows_written, 1);
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_comes_again_with_its_id_returns_its_result_and_writes_nothing() {
    let world = World::new().await;
    let context = world.context_of_run("once");
    let first = starlift::ingest(&context, None).await.unwrap();
    let star_first = starlift::transform(&context, None).await.unwrap();
    let files = (files_below(&world.lake()), files_below(&world.star()));
    world.change("update design set file_name = 'changed' where design_id = 1").await;
    for _ in 0..10 {
        let again = starlift::ingest(&context, None).await.unwrap();
        assert_eq!((again.outcome, &again.result), (Outcome::Replayed, &first.result));
        let again = starlift::transform(&context, None).await.unwrap();
        assert_eq!((again.outcome, &again.result), (Outcome::Replayed, &star_first.result));
    }
    assert_eq!((files_below(&world.lake()), files_below(&world.star())), files);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_runs_that_start_from_one_manifest_one_commits_and_the_others_are_superseded() {
    const RUNS: i64 = 24;
    let world = World::new().await;
    world.ingest().await;
    world.change("update design set file_name = 'changed' where design_id = 1").await;
    let blocker = world.source_client().await;
    blocker.batch_execute("begin; lock table design in access exclusive mode").await.unwrap();
    let race: Vec<_> = (0..RUNS)
        .map(|_| {
            let context = world.context();
            tokio::spawn(async move { starlift::ingest(&context, None).await.unwrap() })
        })
        .collect();
    // Each has read the newest manifest before it asks for its locks.
    let waiting =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    let administrator = world.source_client().await;
    while administrator.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) < RUNS {
        assert!(race.iter().all(|run| !run.is_finished()), "they should wait for the lock");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    blocker.batch_execute("rollback").await.unwrap();
    let (mut committed, mut superseded) = (0, 0);
    for run in race {
        let report = run.await.unwrap();
        match report.outcome {
            Outcome::Committed => {
                committed += 1;
                assert_eq!(report.seq, Some(2));
            }
            Outcome::Superseded => {
                superseded += 1;
                assert!(report.result.is_empty());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((committed, superseded), (1, RUNS - 1));
    world.create_warehouse().await;
    world.run().await;
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_runs_that_overlap_leave_the_star_equal() {
    let world = World::new().await;
    world.create_warehouse().await;
    world.change("update sales_order set units_sold = units_sold + 7 where sales_order_id < 20").await;
    let race: Vec<_> = (0..3)
        .map(|_| {
            let context = world.context();
            tokio::spawn(async move { starlift::run(&context).await })
        })
        .collect();
    for run in race {
        let report = run.await.unwrap();
        assert!(report.failures.is_empty(), "{:?}", report.failures);
    }
    world.run().await;
    world.assert_star_equals_source().await;
    let doubled = "select count(*) from (select sales_order_id from fact_sales_order group by 1 having count(*) > 1) x";
    assert_eq!(world.count_in_warehouse(doubled).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_warehouse_is_adopted_and_not_doubled() {
    let world = World::new().await;
    world.create_warehouse().await;
    world.run().await;
    let warehouse = world.warehouse_client().await;
    // Somebody else's warehouse: no ledger, a stale row, a row of a key that the source does not have.
    warehouse
        .batch_execute(
            "drop schema starlift cascade;
             update dim_design set design_name = 'stale' where design_id = 1;
             update fact_payment set payment_amount = 1.23 where payment_id = 2;
             insert into dim_design values (777777, 'gone', 'gone', 'gone');",
        )
        .await
        .unwrap();
    let before = world.count_in_warehouse("select count(*) from fact_sales_order").await;
    let report = world.load().await;
    assert_eq!(of(&report, "fact_sales_order").rows_written, 0);
    assert_eq!(of(&report, "fact_payment").rows_written, 1);
    assert_eq!(of(&report, "dim_design").rows_written, 1);
    assert_eq!(world.count_in_warehouse("select count(*) from fact_sales_order").await, before);
    assert_eq!(world.count_in_warehouse("select count(*) from starlift.retracted").await, 1);
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cleared_warehouse_is_filled_again_by_the_next_load() {
    let world = World::new().await;
    world.create_warehouse().await;
    world.run().await;
    starlift::warehouse::clear(&world.context()).await.unwrap();
    assert_eq!(world.count_in_warehouse("select count(*) from fact_sales_order").await, 0);
    world.load().await;
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_ahead_stops_the_load_until_it_is_told_to_adopt() {
    let world = World::new().await;
    world.create_warehouse().await;
    world.run().await;
    world.warehouse_client().await.batch_execute("update starlift.ledger set seq = 9").await.unwrap();
    let error = starlift::load(&world.context(), &LoadRequest::default()).await.unwrap_err();
    assert_eq!(error.kind(), starlift_core::ErrorKind::Config);
    assert!(error.hint().unwrap().contains("--adopt"));
    starlift::load(&world.context(), &LoadRequest { adopt: true, ..LoadRequest::default() }).await.unwrap();
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_reached_after_the_first_load_is_taken_over_too() {
    let world = World::new().await;
    world.create_warehouse().await;
    let warehouse = world.warehouse_client().await;
    warehouse.batch_execute("insert into dim_payment_type values (77, 'gone')").await.unwrap();
    starlift::ingest(&world.context(), Some(br#"{"tables_to_query": ["design"]}"#)).await.unwrap();
    world.transform().await;
    world.load().await;
    world.run().await;
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_was_away_comes_back_without_the_rows_that_went_meanwhile() {
    let world = World::new().await.with_own_project();
    world.create_warehouse().await;
    world.run().await;
    let (file, kept) = (world.project.join("models/fact_payment.sql"), world.dir.path().join("fact_payment.sql"));
    std::fs::rename(&file, &kept).unwrap();
    world.run().await;
    world.change("delete from payment where payment_id in (3, 4, 5)").await;
    world.run().await;
    std::fs::rename(&kept, &file).unwrap();
    world.run().await;
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_star_refuses_a_lake_that_was_put_back_and_went_another_way() {
    let world = World::new().await;
    world.create_warehouse().await;
    world.ingest().await;
    let before = world.dir.path().join("before");
    copy_folder(&world.lake(), &before);
    world.change("update design set design_name = 'one way' where design_id = 1").await;
    world.run().await;
    std::fs::remove_dir_all(world.lake()).unwrap();
    copy_folder(&before, &world.lake());
    world.change("update design set design_name = 'another way' where design_id = 1").await;
    world.ingest().await;
    let error = starlift::transform(&world.context(), None).await.unwrap_err();
    assert_eq!(error.kind(), starlift_core::ErrorKind::Config);
    assert!(error.hint().is_some_and(|hint| hint.contains("lake.transform")), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_or_added_model_is_evaluated_with_the_source_away() {
    let world = World::new().await.with_own_project();
    world.create_warehouse().await;
    world.run().await;
    let models = world.project.join("models");
    std::fs::write(
        models.join("dim_design.sql"),
        "-- kind: dimension\n-- key: design_id\nselect design_id, upper(design_name) as design_name, file_location, file_name from design",
    )
    .unwrap();
    std::fs::write(
        models.join("dim_city.sql"),
        "-- kind: dimension\n-- key: city\nselect city, count(*) as addresses from address group by city",
    )
    .unwrap();
    world
        .warehouse_client()
        .await
        .batch_execute("create table dim_city (city text primary key, addresses bigint not null)")
        .await
        .unwrap();
    let mut overrides = world.overrides();
    overrides.source_url = Some("postgres://nobody@127.0.0.1:1/nothing".into());
    let context = world.try_context(overrides, Default::default()).unwrap();
    let report = starlift::run(&context).await;
    let failed: Vec<_> = report.failures.iter().map(|f| (f.stage, f.error.kind())).collect();
    assert_eq!(failed, [("ingest", starlift_core::ErrorKind::Unavailable)]);
    let transform = &report.stages[0];
    assert_eq!(of(transform, "dim_design").reason.as_deref(), Some("model changed"));
    assert_eq!(of(transform, "dim_city").reason.as_deref(), Some("new model"));
    assert_eq!(
        world
            .count_in_warehouse("select count(*) from current_dim_design where design_name <> upper(design_name)")
            .await,
        0
    );
    let cities = world.count_in_warehouse("select sum(addresses)::bigint from current_dim_city").await;
    let addresses: i64 =
        world.source_client().await.query_one("select count(*) from address", &[]).await.unwrap().get(0);
    assert_eq!(cities, addresses);
}
