//! Both ways of evaluating a model come to the same: random models over random histories are evaluated whole and
//! incrementally, and after each step everything that the two stars hold and committed is compared, row for row.
//!
//! `make test` goes through histories for a quarter of a minute; `STARLIFT_SOAK_SECONDS` says for how long instead, and
//! `STARLIFT_SOAK_SEED` where the seeds begin. A failure names its seed, which alone gives the history again.

#![allow(clippy::disallowed_methods, reason = "a test measures time and is told how long to take by its environment")]

mod history;
mod models;
mod random;
mod star;
mod totesys;
mod upkeep;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use history::History;
use random::Random;
use star::{Pair, Step};

use crate::soak::result;

/// What some histories came to.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    histories: u64,
    /// Transforms that committed, and those that stopped: both ways.
    committed: u64,
    stopped: u64,
    /// Evaluations of a model by the way that may be incremental.
    incremental: u64,
    whole: u64,
    /// Rows of models that the two ways evaluated.
    rows_incremental: u64,
    rows_whole: u64,
}

/// Goes through one history. Returns what differs first, in words.
fn history(seed: u64, tally: &mut Tally) -> Result<(), String> {
    // Short histories come to merged and indexed files with lower limits.
    #[cfg(debug_assertions)]
    return starlift_core::fault::with_planted("small_index", || of_seed(seed, tally));
    #[cfg(not(debug_assertions))]
    of_seed(seed, tally)
}

fn of_seed(seed: u64, tally: &mut Tally) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut random = Random::new(seed);
        let models = models::project(&mut random);
        let pair = Pair::new(&models);
        let mut history = History::new(&pair.lake());
        tally.histories += 1;
        for step in 0..2 + random.below(5) {
            // Transform may cover several ingests at once.
            for _ in 0..=usize::from(step > 0 && random.chance(200)) {
                history.step(&mut random).await;
            }
            match pair.transform().await.map_err(|what| format!("seed {seed}, step {step}: {what}\n{models:#?}"))? {
                Step::Stopped if step == 0 => return Ok(()),
                Step::Stopped => tally.stopped += 1,
                Step::Committed(ways) => {
                    tally.committed += 1;
                    tally.incremental += ways.incremental;
                    tally.whole += ways.whole;
                    tally.rows_incremental += ways.rows_incremental;
                    tally.rows_whole += ways.rows_whole;
                }
            }
        }
        Ok(())
    })
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.histories += other.histories;
        self.committed += other.committed;
        self.stopped += other.stopped;
        self.incremental += other.incremental;
        self.whole += other.whole;
        self.rows_incremental += other.rows_incremental;
        self.rows_whole += other.rows_whole;
    }
}

fn plan() -> (Duration, u64) {
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        Err(_) => default,
    };
    (Duration::from_secs(number("STARLIFT_SOAK_SECONDS", 15)), number("STARLIFT_SOAK_SEED", 1))
}

/// However busy the machine is, so many histories are gone through.
const LEAST: u64 = 20;
/// Threads that go through histories.
const PLAYERS: usize = 2;
/// How many histories a full soak goes through.
const WANTED: u64 = 20_000;

#[test]
fn both_ways_of_evaluating_a_model_come_to_the_same() {
    let ((time, first), begun) = (plan(), Instant::now());
    let next = AtomicU64::new(0);
    let play = || {
        let mut tally = Tally::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if begun.elapsed() >= time && number >= LEAST {
                return tally;
            }
            if let Err(difference) = history((first << 32) + number, &mut tally) {
                panic!("{difference}");
            }
        }
    };
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let players: Vec<_> = (0..PLAYERS).map(|_| scope.spawn(play)).collect();
        players.into_iter().for_each(|player| tally.add(player.join().expect("both ways come to the same")));
    });
    println!("incremental: {tally:?}");
    assert!(tally.incremental > tally.histories, "too little was evaluated incrementally: {tally:?}");
    assert!(tally.committed > tally.stopped, "too many histories stopped: {tally:?}");
    result("histories evaluated both ways", tally.histories, WANTED, begun.elapsed().as_secs());
}

/// The bugs of joining only the new rows of an input with the current state of the others, and of not seeing that all rows of
/// an input were merged away.
#[cfg(debug_assertions)]
#[test]
fn new_rows_alone_are_not_enough_nor_what_merging_left() {
    for bug in ["new_rows_only", "merged_away_unseen"] {
        let found = starlift_core::fault::with_planted(bug, || {
            (0..200).find_map(|seed| Some((seed, history(seed, &mut Tally::default()).err()?)))
        });
        let (seed, found) = found.unwrap_or_else(|| panic!("{bug} was not caught"));
        println!("{bug}: by history {seed}");
        assert!(found.contains("differ"), "{bug}: {found}");
    }
}
