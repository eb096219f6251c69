//! Servers that end sessions or themselves: backends are terminated, and a cluster is restarted as after a crash.

use std::time::Duration;

use starlift_sandbox::{Cluster, ClusterOptions};

use super::amount::{Amount, Random, side_by_side};
use super::shop::{PATIENCE, Shop, finish};

/// Shops that live at the same time.
const SHOPS: usize = 2;
/// No run of a day takes longer than this many milliseconds on an idle machine.
const LONGEST: u64 = 600;

/// Ends the sessions of starlift in two databases, and says how many there were.
fn terminate(source: &str, warehouse: &str) -> String {
    format!(
        "select count(*) filter (where pg_terminate_backend(pid)) from pg_stat_activity \
         where datname in ('{source}', '{warehouse}') and application_name like 'starlift%'"
    )
}

/// A day whose run loses the sessions that it has at a moment of chance; returns how many those were.
async fn day(shop: &mut Shop, random: &mut Random) -> u64 {
    let administrator = shop.cluster.connect("postgres").await.unwrap();
    shop.live().await;
    let mut command = shop.command(&["run"]);
    let run = tokio::spawn(async move { finish(&mut command, PATIENCE).await });
    tokio::time::sleep(Duration::from_millis(random.below(LONGEST))).await;
    // Sessions come and go: some run has none at this moment.
    let mut terminated = 0_i64;
    while terminated == 0 && !run.is_finished() {
        let sql = terminate(&shop.source, &shop.warehouse);
        terminated = administrator.query_one(&sql, &[]).await.unwrap().get(0);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let ran = run.await.unwrap();
    assert!(matches!(ran.code, Some(0 | 75)), "{:?}: {}", ran.code, ran.stderr);
    shop.mend("terminated backends").await;
    u64::try_from(terminated).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_sessions_are_terminated_ends_and_is_mended_by_the_next() {
    let amount = Amount::of("terminated backends", 6, 100);
    let mut random = Random::of(&amount);
    let mut shops = Vec::new();
    for _ in 0..SHOPS {
        let mut shop = Shop::new().await;
        shop.mend("nothing").await;
        shops.push(shop);
    }
    for shop in side_by_side(&amount, shops, &mut random, |shop, random| Box::pin(day(shop, random))).await {
        shop.verify("the last terminated backend").await;
    }
    amount.passed();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_servers_crash_ends_and_is_mended_by_the_next() {
    let amount = Amount::of("immediate restarts", 3, 20);
    let mut random = Random::of(&amount);
    // Its own cluster, which ends with the process: see the sandbox's supervisor.
    let settings = vec![("synchronous_commit".to_string(), "on".to_string())];
    let options = ClusterOptions { settings, ..ClusterOptions::default() };
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(options).unwrap()));
    let mut shop = Shop::on(cluster).await;
    shop.mend("nothing").await;
    while amount.goes_on() {
        shop.live().await;
        let mut command = shop.command(&["run"]);
        let run = tokio::spawn(async move { finish(&mut command, PATIENCE).await });
        tokio::time::sleep(Duration::from_millis(random.below(LONGEST))).await;
        tokio::task::spawn_blocking(|| cluster.restart(true).unwrap()).await.unwrap();
        shop.lose_open_transaction();
        let ran = run.await.unwrap();
        assert!(matches!(ran.code, Some(0 | 75)), "{:?}: {}", ran.code, ran.stderr);
        shop.mend("a restart").await;
        amount.did(1);
    }
    shop.verify("the last restart").await;
    tokio::task::spawn_blocking(|| cluster.stop_server(true).unwrap()).await.unwrap();
    amount.passed();
}
