//! What runs scan in the source: bytes that PostgreSQL reads, from its disk or its cache.

use starlift_core::capture::Choice;
use starlift_postgres::catalog::SourceTable;

/// Runs of a day, one every five minutes.
pub(crate) const RUNS_A_DAY: u64 = 288;
/// A row that an index leads to costs a page, at most.
const PAGE_BYTES: u64 = 8_192;

/// What runs scan of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scans {
    /// A run that reads it completely.
    pub(crate) pass: u64,
    /// A run that does not.
    pub(crate) between: u64,
    /// One of so many runs reads it completely.
    every: u64,
}

impl Scans {
    /// Of a table that is captured so; a cursor would read so many rows, where that is known.
    pub(crate) fn of(table: &SourceTable, choice: &Choice, stamped: Option<u64>) -> Scans {
        Scans::new(table.bytes, choice.xid_pass_every, choice.cursor.as_ref().and(stamped))
    }

    fn new(bytes: u64, xid_pass_every: Option<u32>, stamped: Option<u64>) -> Scans {
        let between = stamped.map_or(0, |rows| rows.saturating_mul(PAGE_BYTES).min(bytes));
        Scans { pass: bytes, between, every: xid_pass_every.unwrap_or(1).max(1).into() }
    }

    /// What a day of runs scans.
    pub(crate) fn a_day(&self) -> u64 {
        let passes = RUNS_A_DAY.div_ceil(self.every);
        let between = self.between.saturating_mul(RUNS_A_DAY - passes);
        self.pass.saturating_mul(passes).saturating_add(between)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_so_many_passes_and_what_comes_between() {
        assert_eq!(Scans::new(1_000_000, None, None).a_day(), 288_000_000);
        assert_eq!(Scans::new(1_000_000, Some(12), None).a_day(), 24_000_000);
        assert_eq!(Scans::new(1_000_000, Some(12), Some(10)).a_day(), 24_000_000 + 264 * 81_920);
        assert_eq!(Scans::new(1_000_000, Some(12), Some(u64::MAX)).between, 1_000_000);
    }
}
