//! Loads that meet one another, and rows that miss one another.

use starlift_core::ErrorKind;
use starlift_postgres::load::LoadOutcome;

use super::fixture::*;

const SQL: &str = "create table dim_shop (shop_id int primary key, name text);
    create table fact_sale (record_id serial primary key, sale_id int not null, shop_id int references dim_shop)";

fn shop() -> starlift_postgres::load::ModelTable {
    dimension("dim_shop", "shop_id int4, name text")
}

fn sale() -> starlift_postgres::load::ModelTable {
    refers(fact("fact_sale", "sale_id int4, shop_id int4"), "shop_id", "dim_shop")
}

fn changes() -> Vec<Change> {
    vec![change(&shop(), &[&["1", "a"]]), change(&sale(), &[&["1", "1"], &["2", NULL]])]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_loads_of_one_manifest_one_wins_and_the_other_finds_it_there() {
    let first = Warehouse::with(SQL).await;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let mut w = first.again().await;
        tasks.push(tokio::spawn(async move { w.run(1, true, None, changes()).await }));
    }
    let (mut loaded, mut already) = (0, 0);
    for task in tasks {
        match task.await.unwrap().unwrap() {
            LoadOutcome::Loaded(_) => loaded += 1,
            LoadOutcome::AlreadyLoaded => already += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((loaded, already), (1, 3));
    assert_eq!(first.one("select count(*) from fact_sale").await, "2");
}

#[tokio::test]
async fn a_ledger_row_that_somebody_writes_without_our_lock_wins_and_takes_our_rows_back() {
    for (hash, is_the_same) in [("hash 2", true), ("another", false)] {
        let mut w = Warehouse::with(SQL).await;
        w.next(changes()).await.unwrap();
        let head = w.head().await;
        let other = w.again().await;
        // A transaction sees the list of sessions as it was when it first looked, hence a third one.
        let watch = w.again().await;
        let row = format!(
            "begin; insert into starlift.ledger (pipeline, star_id, seq, manifest_sha256, run_id, rows) \
             values ('{PIPELINE}', '{STAR}', 2, '{hash}', 'other', '{{}}')"
        );
        other.execute(&row).await;
        let load = w.run(2, false, head, vec![change(&shop(), &[&["1", "b"]]), change(&sale(), &[&["3", "1"]])]);
        let commit = async {
            let waits = "select count(*) from pg_stat_activity where datname = current_database() \
                         and wait_event_type = 'Lock' and query like 'insert into starlift.ledger%'";
            while watch.one(waits).await == "0" {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            other.execute("commit").await;
        };
        let (outcome, ()) = tokio::join!(load, commit);
        match outcome.unwrap() {
            LoadOutcome::AlreadyLoaded => assert!(is_the_same),
            LoadOutcome::Moved { head } => assert!(!is_the_same && head.is_some_and(|head| head.seq == 2)),
            other => panic!("{other:?}"),
        }
        assert_eq!(other.rows("select name from dim_shop").await, ["a"]);
        assert_eq!(other.one("select count(*) from fact_sale").await, "2");
    }
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_to_be_tried_again_at_the_primary() {
    use starlift_sandbox::{Cluster, ClusterOptions};
    let cluster = tokio::task::spawn_blocking(|| Cluster::start(ClusterOptions::default())).await.unwrap().unwrap();
    cluster.stop_server(false).unwrap();
    std::fs::write(cluster.dir().join("data/standby.signal"), "").unwrap();
    cluster.start_server().unwrap();
    let client = cluster.connect("postgres").await.unwrap();
    let mut w = Warehouse {
        client,
        database: "postgres".into(),
        schema: "public".into(),
        seq: 0,
        later: Default::default(),
        bulk: true,
        aside: Default::default(),
        state: Default::default(),
    };
    let error = w.run(1, true, None, changes()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", text(&error));
    assert!(error.hint().unwrap().contains("primary"), "{}", text(&error));
}

#[tokio::test]
async fn a_load_that_is_dropped_half_way_leaves_nothing_and_the_next_one_goes_on() {
    let mut w = Warehouse::with(SQL).await;
    let blocker = w.again().await;
    blocker.execute("begin; lock table fact_sale in access exclusive mode").await;
    // It waits for the lock on the fact, with the dimension already written.
    let cut = tokio::time::timeout(std::time::Duration::from_millis(700), w.next(changes())).await;
    assert!(cut.is_err(), "the load should have waited");
    drop(w.client);
    blocker.execute("rollback").await;
    let mut again = blocker.again().await;
    assert_eq!(again.one("select count(*) from dim_shop").await, "0");
    again.next(changes()).await.unwrap();
    assert_eq!(again.one("select count(*) from current_fact_sale").await, "2");
}

#[tokio::test]
async fn a_lock_that_is_not_free_is_to_be_tried_again() {
    let mut w = Warehouse::with(SQL).await;
    w.next(changes()).await.unwrap();
    let blocker = w.again().await;
    blocker.execute("begin; lock table dim_shop in exclusive mode").await;
    w.execute("select 1").await;
    let head = w.head().await;
    let error = w
        .run_with_lock_timeout(2, head, vec![change(&shop(), &[&["1", "b"]]), change(&sale(), &[])], 200)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", text(&error));
    blocker.execute("rollback").await;
    w.next(vec![change(&shop(), &[&["1", "b"]]), change(&sale(), &[])]).await.unwrap();
    assert_eq!(w.one("select name from dim_shop").await, "b");
}

#[tokio::test]
async fn a_fact_without_its_dimension_is_refused_by_key_unless_a_later_manifest_has_it() {
    // With and without a foreign key in the warehouse.
    for sql in [SQL.to_string(), SQL.replace(" references dim_shop", "")] {
        let mut w = Warehouse::with(&sql).await;
        let orphans =
            || vec![change(&shop(), &[&["1", "a"]]), change(&sale(), &[&["1", "1"], &["2", "7"], &["3", "8"]])];
        let error = w.next(orphans()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        let said = text(&error);
        for part in ["fact_sale", "`shop_id`", "has no row in `dim_shop`", "2 rows", "sale_id=2, sale_id=3"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(w.one("select count(*) from dim_shop").await, "0");
        w.later(&sale(), &[&["2", "1"], &["3", "1"]]);
        let done = w.next(orphans()).await.unwrap();
        assert_eq!((report(&done, "fact_sale").inserted, report(&done, "fact_sale").passed_over), (1, 2));
    }
}

#[tokio::test]
async fn a_stream_that_fails_leaves_nothing_behind() {
    use starlift_core::Error;
    use starlift_postgres::load::{self, ModelLoad};
    let mut w = Warehouse::with(SQL).await;
    let rows = batch(&shop().schema.columns, &[vec!["1".into(), "a".into()]]);
    let model = ModelLoad {
        model: shop(),
        upserts: Box::pin(futures::stream::iter([Ok(rows), Err(Error::unavailable("the store is away"))])),
        retractions: load::nothing_later("dim_shop"),
        again: None,
        ahead: None,
    };
    let run = w.a_run(1, true, None);
    let error = load::load(&mut w.client, &run, vec![model], &load::nothing_later).await.unwrap_err();
    assert_eq!(error.message(), "the store is away");
    assert_eq!(w.one("select count(*) from dim_shop").await, "0");
    w.next(changes()).await.unwrap();
    assert_eq!(w.one("select count(*) from dim_shop").await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_pipelines_may_load_for_the_first_time_at_once_and_share_a_calendar() {
    use starlift_core::model::ModelKind;
    use starlift_postgres::load::{self, ModelLoad};
    let first = Warehouse::with(
        "create table dim_date (date_id date primary key, year int, month int, day int, day_of_week int, \
         day_name text, month_name text, quarter int);
         create table fact_a (id serial primary key, k int, day date references dim_date);
         create table fact_b (id serial primary key, k int, day date references dim_date)",
    )
    .await;
    let calendar = model("dim_date", ModelKind::Calendar, "date_id date, year int4");
    let mut tasks = Vec::new();
    for name in ["a", "b"] {
        let mut w = first.again().await;
        let mut run = w.a_run(1, true, None);
        run.pipeline = format!("pipeline {name}");
        let fact = fact(&format!("fact_{name}"), "k int4, day date");
        let calendar = calendar.clone();
        tasks.push(tokio::spawn(async move {
            let rows = batch(&fact.schema.columns, &[vec!["1".into(), "2024-05-06".into()]]);
            let models = vec![
                ModelLoad {
                    model: calendar,
                    upserts: load::nothing_later("dim_date"),
                    retractions: load::nothing_later("dim_date"),
                    again: None,
                    ahead: None,
                },
                ModelLoad {
                    model: fact,
                    upserts: Box::pin(futures::stream::iter([Ok(rows)])),
                    retractions: load::nothing_later("fact"),
                    again: None,
                    ahead: None,
                },
            ];
            load::load(&mut w.client, &run, models, &load::nothing_later).await
        }));
    }
    for task in tasks {
        let outcome = task.await.unwrap().unwrap();
        assert!(matches!(outcome, LoadOutcome::Loaded(_)), "{outcome:?}");
    }
    assert_eq!(first.one("select count(*) from dim_date").await, "366");
    assert_eq!(first.one("select count(*) from starlift.ledger").await, "2");
    assert_eq!(first.one("select count(*) from current_fact_a, current_fact_b").await, "1");
}
