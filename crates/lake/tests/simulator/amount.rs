//! How many schedules are played: a short form in the tests, and in a soak as many as fit its time.

#![allow(clippy::disallowed_methods, reason = "a test measures time and is told how long to take by its environment")]

use std::io::Write;
use std::time::{Duration, Instant};

/// Enough to find every planted bug many times over, in seconds.
const SHORT: u64 = 2_000;
const LONG: u64 = 100_000;

/// Which schedules are to be played, and until when.
pub(crate) struct Amount {
    pub(crate) first: u64,
    pub(crate) count: u64,
    until: Option<Instant>,
    begun: Instant,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

impl Amount {
    /// What the environment asks for: see the simulator's first page.
    pub(crate) fn asked_for() -> Amount {
        let begun = Instant::now();
        let until = number("STARLIFT_SOAK_SECONDS").map(|seconds| begun + Duration::from_secs(seconds));
        let of_soak = number("STARLIFT_SOAK_SEED").or_else(|| until.map(|_| u64::from(std::process::id())));
        // The seeds of two soaks do not meet.
        let first = number("STARLIFT_SIMULATOR_SEED").or_else(|| of_soak.map(|seed| seed << 24)).unwrap_or(1);
        let count = number("STARLIFT_SIMULATOR_SCHEDULES").unwrap_or(if until.is_some() { LONG } else { SHORT });
        Amount { first, count, until, begun }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// Adds what was reached to the table of a soak.
    pub(crate) fn report(&self, played: u64, passed: bool) {
        let Some(path) = std::env::var_os("STARLIFT_SOAK_RESULTS") else { return };
        let (seconds, verdict) = (self.begun.elapsed().as_secs(), if passed { "ok" } else { "failed" });
        let line = format!("simulated schedules\t{played}\t{}\t{seconds}\t{verdict}\n", self.count);
        let written = std::fs::File::options().append(true).create(true).open(path);
        written.and_then(|mut file| file.write_all(line.as_bytes())).expect("the file for results can be written");
    }
}
