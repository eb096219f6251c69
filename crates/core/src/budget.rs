//! How much of the time that somebody else allows is for work. Pure.

use std::time::Duration;

/// What is kept back of it: to say what happened, to end sessions politely, and to be through before the process is killed.
pub const RESERVE: Duration = Duration::from_secs(5);

/// The time to work until a deadline, both in milliseconds since 1970: all but [`RESERVE`], and half where there is less than
/// twice of it. None where the deadline is over before the work begins: some local stand-ins for AWS give such a one, and a
/// real one would have killed the process.
pub fn until(deadline_millis: u64, now_millis: u64) -> Option<Duration> {
    let left = Duration::from_millis(deadline_millis.checked_sub(now_millis)?);
    (!left.is_zero()).then(|| left.saturating_sub(RESERVE).max(left / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_kept_and_never_more_than_half() {
        let work = |left: u64| until(1_000_000 + left, 1_000_000).map(|d| d.as_millis());
        assert_eq!(work(120_000), Some(115_000));
        assert_eq!(work(10_000), Some(5_000));
        assert_eq!(work(6_000), Some(3_000));
        assert_eq!(work(1), Some(0));
    }

    #[test]
    fn a_deadline_that_is_over_or_none_bounds_nothing() {
        for (deadline, now) in [(0, 1_000_000), (1_000_000, 1_000_000), (999_999, 1_000_000)] {
            assert_eq!(until(deadline, now), None);
        }
        assert!(until(u64::MAX, 0).is_some());
    }
}
