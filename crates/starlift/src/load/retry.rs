//! When a transaction of load is tried again: decided from the class of its error alone. Pure.

use std::time::Duration;

use starlift_core::digest::sha256_hex;
use starlift_postgres::sqlstate::Retry;

/// How often a transaction is tried again where nothing of it has happened, or nobody knows whether it has.
pub(super) const RETRIES: u32 = 5;
/// The wait before the first retry; each later one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The failures of one transaction so far.
#[derive(Debug, Default)]
pub(super) struct Failures {
    count: u32,
    /// Whether it was tried once more with what may have changed: a new plan, the secret read again.
    changed: bool,
}

impl Failures {
    /// How long to wait before the next try after a failure of this class; none where it has to stop.
    ///
    /// Every try connects, reads its credentials and plans anew, which is all that [`Retry::OnceChanged`] asks for. Space
    /// on a disk ([`Retry::Later`]) does not come back within seconds: the next run finds it.
    pub(super) fn wait(&mut self, retry: Retry, run_id: &str) -> Option<Duration> {
        let may_retry = match retry {
            Retry::Transaction | Retry::Reconnect | Retry::UnknownOutcome => self.count < RETRIES,
            Retry::OnceChanged => !std::mem::replace(&mut self.changed, true) && self.count < RETRIES,
            Retry::Later | Retry::Never => false,
        };
        if !may_retry {
            return None;
        }
        let wait = FIRST_WAIT * (1 << self.count);
        self.count += 1;
        Some(wait.mul_f64(0.5 + jitter(run_id, self.count)))
    }

    /// How often it failed.
    pub(super) fn count(&self) -> u32 {
        self.count
    }
}

/// From 0 to 1, another one for each run and try, so that runs which met once do not meet again.
fn jitter(run_id: &str, attempt: u32) -> f64 {
    let hash = sha256_hex(format!("{run_id} {attempt}").as_bytes());
    let bits = hash.get(..4).and_then(|hex| u16::from_str_radix(hex, 16).ok()).unwrap_or_default();
    f64::from(bits) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tries(retries: &[Retry]) -> usize {
        let mut failures = Failures::default();
        retries.iter().take_while(|retry| failures.wait(**retry, "run").is_some()).count()
    }

    #[test]
    fn the_class_decides_how_often() {
        for retry in [Retry::Transaction, Retry::Reconnect, Retry::UnknownOutcome] {
            assert_eq!(tries(&[retry; 10]), RETRIES as usize);
        }
        assert_eq!(tries(&[Retry::OnceChanged; 10]), 1);
        assert_eq!(tries(&[Retry::Later; 10]), 0);
        assert_eq!(tries(&[Retry::Never; 10]), 0);
        // One change is one change, whatever failed in between.
        assert_eq!(tries(&[Retry::OnceChanged, Retry::Transaction, Retry::OnceChanged]), 2);
    }

    #[test]
    fn waits_grow_and_differ_from_run_to_run() {
        let waits = |run: &str| {
            let mut failures = Failures::default();
            std::iter::from_fn(|| failures.wait(Retry::Transaction, run)).collect::<Vec<_>>()
        };
        let (one, other) = (waits("one"), waits("other"));
        assert_ne!(one, other);
        for (attempt, wait) in one.iter().chain(&other).enumerate() {
            let nominal = FIRST_WAIT * (1 << (attempt as u32 % RETRIES));
            assert!(*wait >= nominal / 2 && *wait <= nominal * 3 / 2, "{wait:?}");
        }
        // All of them together are the time that a server has to come back.
        assert!(one.iter().sum::<Duration>() < Duration::from_secs(5));
    }
}
