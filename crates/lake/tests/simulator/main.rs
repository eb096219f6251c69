//! The simulator: thousands of schedules of racing, dying, sleeping and repeated runs, each decided by one seed alone.
//!
//! What is real: claims, commits, manifests, heads and the store above `object_store` (with every ambiguous answer that S3
//! gives below it), and the decisions of core: how a table is read, what follows from it, which models are evaluated, whose
//! turn a load is, and what of their files is merged. In one schedule of 64 the data files are real Parquet too. What is a model: the source, the models'
//! evaluation and the statements of the warehouse.
//!
//! A failing schedule is printed step by step, with its seed: keep that in `seeds.txt`.
//!
//! `STARLIFT_SIMULATOR_SCHEDULES` sets how many are played, `STARLIFT_SIMULATOR_SEED` the first one's seed. In a soak
//! (`scripts/soak`) as many are played as fit `STARLIFT_SOAK_SECONDS`, from where `STARLIFT_SOAK_SEED` says.

mod amount;
mod files;
mod ingest;
mod invariants;
mod keep;
mod load;
mod objects;
mod planted;
mod port;
mod random;
mod record;
mod run;
mod schedule;
mod settings;
mod source;
mod tables;
mod transform;
mod vacuum;
mod warehouse;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::amount::Amount;
use crate::planted::Planted;
use crate::schedule::{Outcome, play};

/// Within so many schedules each planted bug has to be found.
const PATIENCE: u64 = 600;

/// Plays schedules on every core until one fails or `is_over` says so; returns how many were played, and the seed of the
/// one that failed.
fn first_failure(seeds: &[u64], planted: Option<Planted>, is_over: impl Fn() -> bool + Sync) -> (u64, Option<u64>) {
    let (next, played, failed) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::new(None::<u64>));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let position = next.fetch_add(1, Ordering::Relaxed) as usize;
                    let stop = is_over() || failed.lock().unwrap().is_some();
                    let Some(seed) = seeds.get(position).filter(|_| !stop) else { return };
                    if !outcome(*seed, planted, None, false).violations.is_empty() {
                        let mut failed = failed.lock().unwrap();
                        *failed = Some(failed.map_or(*seed, |other| other.min(*seed)));
                    }
                    played.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    (played.into_inner(), failed.into_inner().unwrap())
}

fn outcome(seed: u64, planted: Option<Planted>, limit: Option<usize>, traced: bool) -> Outcome {
    // Time stands still but for sleepers: whoever sleeps wakes at once.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let play = || runtime.block_on(play(seed, planted, limit, traced));
    // A hundred manifests are more than a schedule has: in most, every fourth is a checkpoint.
    let checkpoints = (!seed.is_multiple_of(4)).then_some("small_checkpoint");
    // And few rows make an index: of plain files there is none.
    let index = (seed % 64 == 7).then_some("small_index");
    with_planted(index, || with_planted(checkpoints, || with_planted(planted.and_then(Planted::in_product), play)))
}

/// What the product can be made to do exists only where it is built with debug assertions.
#[cfg(debug_assertions)]
fn with_planted<T>(name: Option<&'static str>, run: impl FnOnce() -> T) -> T {
    match name {
        Some(name) => starlift_core::fault::with_planted(name, run),
        None => run(),
    }
}

#[cfg(not(debug_assertions))]
fn with_planted<T>(_: Option<&'static str>, run: impl FnOnce() -> T) -> T {
    run()
}

/// The fewest disturbed steps with which a schedule still fails, and how.
fn shortest(seed: u64, planted: Option<Planted>) -> Outcome {
    let fails = |limit: usize| outcome(seed, planted, Some(limit), true);
    (0..400).map(fails).find(|o| !o.violations.is_empty()).unwrap_or_else(|| outcome(seed, planted, None, true))
}

fn report(seed: u64) -> String {
    let failed = shortest(seed, None);
    format!(
        "schedule {seed} fails; add the seed to tests/simulator/seeds.txt\n{}\n\n{}",
        failed.trace.join("\n"),
        failed.violations.join("\n")
    )
}

fn kept_seeds() -> Vec<u64> {
    let lines = include_str!("seeds.txt").lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(|line| line.parse().expect("a seed")).collect()
}

#[test]
fn whatever_befalls_the_runs_no_row_is_lost_doubled_or_stale() {
    let amount = Amount::asked_for();
    let seeds: Vec<u64> = kept_seeds().into_iter().chain(amount.first..amount.first + amount.count).collect();
    let (played, failed) = first_failure(&seeds, None, || amount.is_over());
    amount.report(played, failed.is_none());
    if let Some(seed) = failed {
        panic!("{}", report(seed));
    }
}

#[test]
fn a_seed_is_the_same_schedule_each_time() {
    for seed in [3, 7, 11, 71] {
        let (one, two) = (outcome(seed, None, None, true), outcome(seed, None, None, true));
        assert!(one.trace.len() > 50);
        assert_eq!(one.trace, two.trace);
        assert_eq!(one.steps, two.steps);
    }
}

/// What has to come up again and again, or the simulator shows nothing.
const TROUBLE: [&str; 34] = [
    "Ok(Committed",
    "Ok(Superseded)",
    "Ok(Replayed",
    "Ok(Nothing)",
    ": Lost",
    ": Stored",
    ": Late",
    ": Conflict",
    ": OwnConflict",
    ": Denied",
    "a put arrives late",
    "cannot tell whether",
    "the connection breaks",
    "dies: Ingest",
    "dies: Transform",
    "dies: Load",
    "the standby is behind",
    "the source is restored",
    "a table is altered",
    "a table is emptied",
    "xids jump",
    "rolls back",
    "a model is dropped",
    "a model is added",
    "by adoption",
    "COMMIT, known false, fate 0",
    "COMMIT, known false, fate 2",
    "the warehouse finishes a COMMIT",
    "the warehouse is restored",
    "another load holds the lock",
    "Ok(Vacuumed)",
    "deletes _claims/",
    "merges ",
    "compacts ",
];

#[test]
fn every_kind_of_trouble_comes_up() {
    let mut seen = [0; TROUBLE.len()];
    for seed in 1..=150 {
        let trace = outcome(seed, None, None, true).trace;
        for (count, text) in seen.iter_mut().zip(TROUBLE) {
            *count += trace.iter().filter(|line| line.contains(text)).count();
        }
    }
    let seen: Vec<(&str, usize)> = TROUBLE.into_iter().zip(seen).collect();
    println!("{seen:?}");
    assert!(seen.iter().all(|(_, count)| *count >= 5), "{seen:?}");
}

#[test]
#[cfg(debug_assertions)]
fn every_planted_bug_is_found() {
    let mut hidden = Vec::new();
    for bug in Planted::ALL {
        let seeds: Vec<u64> = (1..=PATIENCE).collect();
        match first_failure(&seeds, Some(bug), || false).1 {
            Some(seed) => {
                println!("{bug:?}: by schedule {seed}: {}", outcome(seed, Some(bug), None, false).violations[0])
            }
            None => hidden.push(bug),
        }
    }
    assert!(hidden.is_empty(), "not found within {PATIENCE} schedules: {hidden:?}");
}
