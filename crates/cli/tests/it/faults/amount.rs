//! How much a test does: its short form, or in a soak as much as fits the time that it is given.

#![allow(clippy::disallowed_methods, reason = "a test measures time and is told how long to take by its environment")]

use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The variable with the seconds that a figure of a soak may take, and the one with the file for its results.
const SECONDS: &str = "STARLIFT_SOAK_SECONDS";
const RESULTS: &str = "STARLIFT_SOAK_RESULTS";

/// Counts what a test did of what it is to do.
pub(crate) struct Amount {
    figure: &'static str,
    wanted: u64,
    reached: AtomicU64,
    has_passed: AtomicBool,
    until: Option<Instant>,
    begun: Instant,
}

impl Amount {
    /// `short` times; in a soak `long` times, or as often as there is time.
    pub(crate) fn of(figure: &'static str, short: u64, long: u64) -> Arc<Amount> {
        let begun = Instant::now();
        let seconds = std::env::var(SECONDS).ok().map(|text| text.parse().expect("a number of seconds"));
        let until = seconds.map(|seconds| begun + Duration::from_secs(seconds));
        let wanted = if until.is_some() { long } else { short };
        Arc::new(Amount {
            figure,
            wanted,
            reached: AtomicU64::new(0),
            has_passed: AtomicBool::new(false),
            until,
            begun,
        })
    }

    /// Whether there is more to do.
    pub(crate) fn goes_on(&self) -> bool {
        self.reached.load(Ordering::SeqCst) < self.wanted && self.until.is_none_or(|until| Instant::now() < until)
    }

    /// So many more are done, and all was well.
    pub(crate) fn did(&self, more: u64) {
        self.reached.fetch_add(more, Ordering::SeqCst);
    }

    /// The test has come to its end.
    pub(crate) fn passed(&self) {
        self.has_passed.store(true, Ordering::SeqCst);
    }
}

/// What happens on a day, and how much of the amount that is.
pub(crate) type Day<'a> = Pin<Box<dyn Future<Output = u64> + Send + 'a>>;

/// Lets shops live side by side, each through its days until the amount is reached; a day that panics fails the test.
pub(crate) async fn side_by_side<S, D>(amount: &Arc<Amount>, shops: Vec<S>, random: &mut Random, day: D) -> Vec<S>
where
    S: Send + 'static,
    D: for<'a> Fn(&'a mut S, &'a mut Random) -> Day<'a> + Clone + Send + 'static,
{
    let lives: Vec<_> = shops
        .into_iter()
        .map(|mut shop| {
            let (amount, mut random, day) = (Arc::clone(amount), Random(random.next()), day.clone());
            tokio::spawn(async move {
                while amount.goes_on() {
                    amount.did(day(&mut shop, &mut random).await);
                }
                shop
            })
        })
        .collect();
    let mut shops = Vec::new();
    for life in lives {
        shops.push(life.await.unwrap());
    }
    shops
}

/// A test that failed reports too: what it reached before.
impl Drop for Amount {
    fn drop(&mut self) {
        let verdict = if self.has_passed.load(Ordering::SeqCst) { "ok" } else { "failed" };
        let seconds = self.begun.elapsed().as_secs();
        let reached = self.reached.load(Ordering::SeqCst);
        let line = format!("{}\t{reached}\t{}\t{seconds}\t{verdict}\n", self.figure, self.wanted);
        let Some(path) = std::env::var_os(RESULTS) else { return };
        let written = std::fs::File::options().append(true).create(true).open(path);
        if let Err(error) = written.and_then(|mut file| file.write_all(line.as_bytes())) {
            eprintln!("the result of `{}` cannot be kept: {error}", self.figure);
        }
    }
}

/// Random numbers that a seed repeats (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A seed that differs from run to run in a soak, and is printed so that it can be repeated.
    pub(crate) fn of(amount: &Amount) -> Random {
        let seed = match std::env::var("STARLIFT_SOAK_SEED").ok().and_then(|seed| seed.parse().ok()) {
            Some(seed) => seed,
            None if amount.until.is_some() => {
                u64::from(std::process::id()) << 20 ^ u64::from(amount.begun.elapsed().subsec_nanos())
            }
            None => 1,
        };
        eprintln!("{}: STARLIFT_SOAK_SEED={seed}", amount.figure);
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}
