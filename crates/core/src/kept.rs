//! How long what somebody else keeps, and may change at any time, counts after it was read. Pure.

use crate::Micros;

/// Nobody works with what was there before for longer than these ten minutes, even where it still works: a database that was
/// moved may go on answering at its old place.
const COUNTS_FOR: i64 = 10 * 60 * 1_000_000;

/// Whether what was read at a time still counts at another. Both are of the wall clock: a function that is frozen between two
/// invocations may not see other clocks go on. One that was set back proves nothing.
pub fn still_counts(read: Micros, now: Micros) -> bool {
    (0..COUNTS_FOR).contains(&now.0.saturating_sub(read.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_counts_for_ten_minutes_and_no_longer() {
        let counts = |seconds: i64| still_counts(Micros(1_000_000), Micros(1_000_000 + seconds * 1_000_000));
        assert!(counts(0) && counts(300) && counts(599));
        assert!(!counts(600) && !counts(86_400));
    }

    #[test]
    fn a_clock_that_was_set_back_has_it_read_again() {
        assert!(!still_counts(Micros(1_000_000), Micros(999_999)));
        assert!(!still_counts(Micros(i64::MIN), Micros(i64::MAX)));
        assert!(!still_counts(Micros(i64::MAX), Micros(i64::MIN)));
    }
}
