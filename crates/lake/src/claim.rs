//! The claim: before a run writes a file, it makes the time in its keys its own.
//!
//! A claim is one create-only object, `_claims/<yyyymmddhhmmssffffff>`, whose bytes name its owner. Two runs, also two
//! with the same clock or a stopped one that wakes up, never hold the same time, so data keys need no further check
//! and uploads in parts are safe. A run that dies leaves its claim: that time is used up, and nothing else happens.

use bytes::Bytes;
use starlift_core::{Error, Micros, Result, fault, key};

use crate::store::{CreateOutcome, Store};

const TRIES: u32 = 1_000;
/// The most by which one try is later than the one before.
const LONGEST_STEP: i64 = 1_000_000;
/// The first microsecond of the year 10000, which no key of fixed length can hold.
const END_OF_KEYS: Micros = Micros(253_402_300_800_000_000);

/// Claims a free time at or after `at` that is later than `floor` (the time in the manifest before).
///
/// Where a time is taken, the next try is 1, 2, 4, … µs later, up to a second: a clock that was put back comes to times of runs
/// that died, or were superseded, and gets past thousands of them in a few tries.
///
/// `owner` must be made up for this one attempt, such as its `write_id`: a claim that is found with the same owner is
/// taken for the caller's own.
///
/// Errors: Config for a time that no key holds; Unavailable where 1,000 times in a row are taken; those of
/// [`Store::create`].
pub async fn claim(store: &Store, at: Micros, floor: Option<Micros>, owner: &str) -> Result<Micros> {
    let at = if fault::planted("stopped_clock") { Micros(0) } else { at };
    let mut at = floor.map_or(at, |floor| at.max(floor.next()));
    let mut step = 1;
    for _ in 0..TRIES {
        if at < Micros(0) || at >= END_OF_KEYS {
            return Err(Error::config(format!("the time {at} cannot name files"))
                .with_detail("keys hold the years 1970 to 9999")
                .with_hint("set the clock of the source"));
        }
        match store.create(&key::claim(at), Bytes::from(owner.to_string())).await? {
            CreateOutcome::Created => return Ok(at),
            CreateOutcome::Exists if fault::planted("claim_ignored") => return Ok(at),
            CreateOutcome::Exists => {
                at = Micros(at.0.saturating_add(step));
                step = (step * 2).min(LONGEST_STEP);
            }
        }
    }
    Err(Error::unavailable(format!("no free time for the run's files up to {at}"))
        .with_hint("run again; check that not many runs of this pipeline start at once"))
}
