//! Networks that fail: a proxy cuts, resets or stalls a connection at a byte of one direction, in front of the source, the
//! warehouse and the store. Every run ends by its deadline, and the next one mends all.

#![allow(
    clippy::disallowed_methods,
    reason = "a test measures time and finds its server by a variable that `make test` sets"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use starlift_sandbox::proxy::{Direction, Failure, NetworkFault, Proxy};
use starlift_sandbox::s3::S3Server;

use super::amount::{Amount, Random, side_by_side};
use super::shop::{Shop, finish};
use crate::support::Ran;

/// What a run is given, and what it may take beyond it.
const DEADLINE: Duration = Duration::from_secs(20);
const GRACE: Duration = Duration::from_secs(10);
const BUCKET: &str = "starlift-faults";

/// A shop whose every connection goes through a proxy: to the source, the warehouse and the store.
struct Networked {
    shop: Shop,
    proxies: [Proxy; 3],
    /// The server and the place of lake and star, where they are not folders.
    bucket: Option<(Arc<S3Server>, String)>,
    /// Bytes that a day's run carries, by proxy and direction.
    carried: [[u64; 2]; 3],
}

impl Networked {
    async fn new(bucket: Option<(Arc<S3Server>, String)>) -> Networked {
        let shop = Shop::new().await;
        let port = shop.cluster.port();
        let store = bucket.as_ref().map_or(port, |(server, _)| server.port());
        let proxies = [start(port).await, start(port).await, start(store).await];
        let mut networked = Networked { shop, proxies, bucket, carried: [[0; 2]; 3] };
        for day in 0..2 {
            if day > 0 {
                networked.shop.live().await;
            }
            networked.proxies.iter().for_each(|proxy| proxy.arm(None));
            networked.mend("nothing").await;
        }
        networked.carried = networked
            .proxies
            .each_ref()
            .map(|proxy| [proxy.carried(Direction::ToServer), proxy.carried(Direction::ToClient)]);
        networked
    }

    async fn run(&self, args: &[&str]) -> Ran {
        let mut command = self.shop.command(args);
        command
            .env("STARLIFT_SOURCE_URL", self.shop.source_url(self.proxies[0].port()))
            .env("STARLIFT_WAREHOUSE_URL", self.shop.warehouse_url(self.proxies[1].port()))
            .env("STARLIFT_PLANTED", "short_silence");
        if let Some((_, place)) = &self.bucket {
            command
                .envs(S3Server::settings(self.proxies[2].port()))
                .env("AWS_TIMEOUT", "3s")
                .env("STARLIFT_LAKE_INGEST", format!("{place}/ingest"))
                .env("STARLIFT_LAKE_TRANSFORM", format!("{place}/transform"));
        }
        finish(&mut command, DEADLINE + GRACE).await
    }

    /// A run over a healthy network, and the comparison.
    async fn mend(&mut self, after: &str) {
        let ran = self.run(&["run"]).await;
        assert_eq!(ran.code, Some(0), "the run after {after}: {}\n{}", ran.stdout, ran.stderr);
        self.shop.note_versions().await;
        let wrong = self.shop.differences().await;
        assert!(wrong.is_empty(), "after {after}: {}", wrong.join("\n"));
    }

    /// A day whose run meets a fault. Whether it came about: a run may carry fewer bytes than the one that was measured.
    async fn day(&mut self, proxy: usize, fault: NetworkFault) -> bool {
        self.shop.live().await;
        self.proxies[proxy].arm(Some(fault));
        let begun = Instant::now();
        let ran = self.run(&["run", "--deadline", &format!("{}s", DEADLINE.as_secs())]).await;
        let what = format!("{fault:?} of proxy {proxy}, after {:?}", begun.elapsed());
        assert!(matches!(ran.code, Some(0 | 75)), "{what}: {:?}: {}", ran.code, ran.stderr);
        let has_struck = self.proxies[proxy].has_struck();
        self.proxies[proxy].arm(None);
        self.mend(&what).await;
        has_struck
    }
}

async fn start(port: u16) -> Proxy {
    Proxy::start(port).await.expect("a proxy on loopback")
}

fn python() -> PathBuf {
    let python = std::env::var_os("STARLIFT_TEST_S3_PYTHON").map(PathBuf::from);
    python.expect("run the tests by `make test`, which installs the S3-like server and sets STARLIFT_TEST_S3_PYTHON")
}

/// Goes through these proxies, directions and failures in turn, at bytes of chance.
async fn days(amount: Arc<Amount>, shops: Vec<Networked>, proxies: &'static [usize]) {
    let mut random = Random::of(&amount);
    let turns = Arc::new(AtomicUsize::new(0));
    let shops = side_by_side(&amount, shops, &mut random, move |networked, random| {
        let turn = turns.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { u64::from(fault(networked, proxies, turn, random).await) })
    });
    for mut networked in shops.await {
        networked.mend("the last fault of the network").await;
        let ran = networked.run(&["verify"]).await;
        assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
    }
    amount.passed();
}

async fn fault(networked: &mut Networked, proxies: &[usize], turn: usize, random: &mut Random) -> bool {
    let proxy = proxies[turn % proxies.len()];
    let direction = [Direction::ToServer, Direction::ToClient][turn / proxies.len() % 2];
    let failure = [Failure::Cut, Failure::Reset, Failure::Stall, Failure::Cut, Failure::Reset][turn % 5];
    let after = random.below(networked.carried[proxy][direction as usize]);
    networked.day(proxy, NetworkFault { direction, after, failure }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_end_in_time_and_are_mended_when_the_network_to_the_databases_fails() {
    let amount = Amount::of("network faults, databases", 6, 200);
    let shops = vec![Networked::new(None).await, Networked::new(None).await];
    days(amount, shops, &[0, 1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_end_in_time_and_are_mended_when_the_network_to_the_store_fails() {
    let amount = Amount::of("network faults, store", 4, 100);
    let server = Arc::new(S3Server::start(&python(), BUCKET).await.unwrap());
    let bucket = |name| Some((Arc::clone(&server), format!("s3://{BUCKET}/{name}")));
    let shops = vec![Networked::new(bucket("first")).await, Networked::new(bucket("second")).await];
    days(amount, shops, &[2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_database_is_given_up_and_a_deadline_ends_a_run_that_waits() {
    let mut networked = Networked::new(None).await;
    for (proxy, deadline, wanted) in [(0, "20s", "silent"), (1, "20s", "silent"), (0, "2s", "within its deadline")] {
        networked.shop.live().await;
        // In the middle of what the catalog answers, which every run asks.
        let after = 3_000;
        let stall = NetworkFault { direction: Direction::ToClient, after, failure: Failure::Stall };
        networked.proxies[proxy].arm(Some(stall));
        let begun = Instant::now();
        let ran = networked.run(&["run", "--deadline", deadline]).await;
        assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
        assert!(networked.proxies[proxy].has_struck());
        assert!(ran.stderr.contains(wanted), "{}", ran.stderr);
        // A load that lost its session tries again, an ingest leaves that to the next run.
        assert_eq!(ran.code, Some(if proxy == 1 { 0 } else { 75 }), "{}", ran.stderr);
        networked.proxies[proxy].arm(None);
        networked.mend("a silent database").await;
    }
}
