//! Loads that fail half way, meet one another, or find a warehouse or star that was put back.

use starlift::{Context, LoadRequest, Outcome, StageReport};
use starlift_core::{Error, ErrorKind};

use crate::cut_off::{Lost, cut_off_commit};
use crate::world::{World, copy_folder};

impl World {
    /// A world whose warehouse holds the first star manifest.
    async fn once_loaded() -> World {
        let world = World::new().await;
        world.create_warehouse().await;
        world.run().await;
        world
    }

    /// A new version of sales order 5, up to the star.
    async fn sell(&self, units: i32) {
        self.change(&format!("update sales_order set units_sold = {units} where sales_order_id = 5")).await;
        self.ingest().await;
        self.transform().await;
    }

    async fn texts(&self, sql: &str) -> Vec<String> {
        self.warehouse_client().await.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// What was sold in the versions of sales order 5, oldest first.
    async fn versions(&self) -> Vec<String> {
        self.texts("select units_sold::text from fact_sales_order where sales_order_id = 5 order by sales_record_id")
            .await
    }

    async fn ledger(&self) -> Vec<String> {
        self.texts("select seq::text from starlift.ledger order by loaded_at, seq").await
    }
}

async fn adopt(context: &Context) -> Result<StageReport, Error> {
    starlift::load(context, &LoadRequest { adopt: true, ..LoadRequest::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_says_decides_how_often_a_load_is_tried() {
    let world = World::once_loaded().await;
    let warehouse = world.warehouse_client().await;
    warehouse
        .batch_execute(
            "create sequence attempts;
             create table failure (code text, message text, times int);
             create function fail() returns trigger language plpgsql as $$
                 declare f failure; begin select * into f from failure;
                 if nextval('attempts') <= f.times then
                     raise exception using errcode = f.code, message = f.message;
                 end if; return null; end $$;
             create trigger fails before update on dim_design for each statement execute function fail();",
        )
        .await
        .unwrap();
    let tried = |code: &'static str, message: &'static str, times: i32| {
        let (world, warehouse) = (&world, &warehouse);
        async move {
            let set = format!(
                "truncate failure; insert into failure values ('{code}', '{message}', {times}); \
                 alter sequence attempts restart"
            );
            warehouse.batch_execute(&set).await.unwrap();
            let outcome = adopt(&world.context()).await;
            let attempts = "select last_value - (not is_called)::int from attempts";
            let attempts: i64 = warehouse.query_one(attempts, &[]).await.unwrap().get(0);
            (attempts, outcome.map(|report| report.outcome).map_err(|error| error.kind()))
        }
    };
    let committed = Ok(Outcome::Committed);
    // Once, and then it goes well.
    for code in ["40001", "40P01", "55P03", "57P01", "57P03", "53300", "53200", "08006", "08007", "25006", "25P03"] {
        assert_eq!(tried(code, "it failed", 1).await, (2, committed), "{code}");
    }
    assert_eq!(tried("40001", "it failed", 3).await, (4, committed));
    // Once more, and not twice.
    for (code, message, kind) in [
        ("0A000", "cached plan must not change result type", ErrorKind::Unavailable),
        ("57014", "canceling statement", ErrorKind::Unavailable),
        ("28P01", "password", ErrorKind::Permission),
    ] {
        assert_eq!(tried(code, message, 1).await, (2, committed), "{code}");
        assert_eq!(tried(code, message, 9).await, (2, Err(kind)), "{code}");
    }
    // Not at all.
    for (code, kind) in [("42501", ErrorKind::Permission), ("53100", ErrorKind::Unavailable)] {
        assert_eq!(tried(code, "it failed", 1).await, (1, Err(kind)), "{code}");
    }
    // Not at all, once it is known that no row is to blame: the statement is refused without rows too.
    for (code, kind) in [
        ("0A000", ErrorKind::Unsupported),
        ("42703", ErrorKind::Config),
        ("XX000", ErrorKind::Internal),
        ("22003", ErrorKind::Data),
        ("23505", ErrorKind::Data),
        ("23514", ErrorKind::Data),
        ("P0001", ErrorKind::Data),
    ] {
        assert_eq!(tried(code, "it failed", 9).await, (2, Err(kind)), "{code}");
    }
    world.assert_star_equals_source().await;
    assert_eq!(world.ledger().await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_ended_half_way_is_replaced_and_nothing_comes_twice() {
    let world = World::once_loaded().await;
    world.sell(9001).await;
    let blocker = world.warehouse_client().await;
    blocker.batch_execute("begin; lock table fact_sales_order in access exclusive mode").await.unwrap();
    let context = world.context();
    let application = format!("starlift {}", context.run_id);
    let load = tokio::spawn(async move { starlift::load(&context, &LoadRequest::default()).await });
    // It waits for the fact, with its dimensions staged.
    let administrator = world.warehouse_client().await;
    let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
               where application_name = $1 and wait_event_type = 'Lock'";
    while administrator.query_one(end, &[&application]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(!load.is_finished(), "it should wait for the lock");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    blocker.batch_execute("rollback").await.unwrap();
    let report = load.await.unwrap().unwrap();
    assert_eq!((report.outcome, report.seq), (Outcome::Committed, Some(2)));
    assert_eq!(world.ledger().await, ["1", "2"]);
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_got_lost_is_looked_up_in_the_ledger() {
    for lost in [Lost::Request, Lost::Answer] {
        let world = World::once_loaded().await;
        world.sell(9001).await;
        world.sell(9002).await;
        let port = cut_off_commit(world.cluster.port(), lost).await;
        let mut overrides = world.overrides();
        let direct = format!(":{}/", world.cluster.port());
        overrides.warehouse_url = overrides.warehouse_url.map(|url| url.replace(&direct, &format!(":{port}/")));
        let context = world.try_context(overrides, Default::default()).unwrap();
        let report = starlift::load(&context, &LoadRequest::default()).await.unwrap();
        assert_eq!((report.outcome, report.seq), (Outcome::Committed, Some(3)), "{lost:?}");
        // The report counts both manifests, whichever way the first one came in.
        let orders = report.relations.iter().find(|r| r.name == "fact_sales_order").unwrap();
        assert_eq!(orders.rows_written, 2, "{lost:?}");
        assert_eq!(world.ledger().await, ["1", "2", "3"], "{lost:?}");
        assert_eq!(world.versions().await[1..], ["9001", "9002"], "{lost:?}");
        world.assert_star_equals_source().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loaders_that_race_bring_each_manifest_in_once_and_in_order() {
    let world = World::once_loaded().await;
    for units in [9001, 9002, 9001, 9003] {
        world.sell(units).await;
    }
    let race: Vec<_> = (0..4)
        .map(|_| {
            let context = world.context();
            tokio::spawn(async move { starlift::load(&context, &LoadRequest::default()).await })
        })
        .collect();
    for load in race {
        let report = load.await.unwrap().unwrap();
        assert!(report.seq.is_none_or(|seq| seq <= 5), "{report:?}");
    }
    assert_eq!(world.ledger().await, ["1", "2", "3", "4", "5"]);
    assert_eq!(world.versions().await[1..], ["9001", "9002", "9001", "9003"]);
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warehouse_that_is_put_back_goes_on_from_its_ledger() {
    let world = World::once_loaded().await;
    world.sell(9001).await;
    world.load().await;
    let server = world.cluster.connect("postgres").await.unwrap();
    let (now, backup) = (&world.warehouse, format!("{}_backup", world.warehouse));
    server.batch_execute(&format!("create database {backup} template {now}")).await.unwrap();
    for units in [9002, 9001] {
        world.sell(units).await;
        world.load().await;
    }
    let whole = world.versions().await;
    server.batch_execute(&format!("alter database {now} rename to {now}_lost")).await.unwrap();
    server.batch_execute(&format!("alter database {backup} rename to {now}")).await.unwrap();
    assert_eq!(world.ledger().await, ["1", "2"]);
    let report = world.load().await;
    assert_eq!((report.outcome, report.seq), (Outcome::Committed, Some(4)));
    assert_eq!(world.ledger().await, ["1", "2", "3", "4"]);
    assert_eq!(world.versions().await, whole);
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_star_that_is_put_back_stops_the_load_until_it_is_told_to_adopt() {
    let world = World::once_loaded().await;
    let backup = world.dir.path().join("backup");
    copy_folder(&world.star(), &backup);
    world.sell(9001).await;
    world.load().await;
    std::fs::remove_dir_all(world.star()).unwrap();
    copy_folder(&backup, &world.star());
    let refused = |error: Error, says: &str| {
        assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
        assert!(error.message().contains(says), "{error:?}");
        assert!(error.hint().unwrap().contains("load --adopt"), "{error:?}");
    };
    let load = || async { starlift::load(&world.context(), &LoadRequest::default()).await.unwrap_err() };
    refused(load().await, "ahead");
    // The star makes another manifest of the same seq.
    world.sell(9002).await;
    refused(load().await, "disagree");
    assert_eq!(world.versions().await[1..], ["9001"]);
    adopt(&world.context()).await.unwrap();
    assert_eq!(world.versions().await[1..], ["9001", "9002"]);
    world.assert_star_equals_source().await;
    world.sell(9003).await;
    assert_eq!(world.load().await.seq, Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_a_table_that_a_crash_would_empty_and_the_statement_that_mends_it() {
    let world = World::new().await;
    world.ingest().await;
    world.create_warehouse().await;
    let warehouse = world.warehouse_client().await;
    warehouse.batch_execute("alter table fact_payment set unlogged").await.unwrap();
    let found = async || {
        let checks = starlift::doctor::doctor(&world.context()).await;
        let check = checks.into_iter().find(|check| check.name == "warehouse: tables").unwrap();
        (check.verdict, format!("{} {}", check.detail, check.mend.unwrap_or_default()))
    };
    let (verdict, said) = found().await;
    assert_eq!(verdict, starlift::doctor::Verdict::Fail, "{said}");
    for part in ["public.fact_payment of the warehouse is unlogged", "alter table public.fact_payment set logged;"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    warehouse.batch_execute("alter table public.fact_payment set logged;").await.unwrap();
    let (verdict, said) = found().await;
    assert_eq!(verdict, starlift::doctor::Verdict::Ok, "{said}");
}
