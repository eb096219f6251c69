//! Transaction ids: 64 bits in a snapshot, 32 bits on a row.
//!
//! PostgreSQL manual, "Transactions and Identifiers" (73.1) and "Preventing Transaction ID Wraparound Failures"
//! (25.1.5): a row's `xmin` is the low half of the 64-bit id of the transaction that wrote it.

use crate::fault;

/// The window test is exact only while the window spans fewer ids than this (half of the 32-bit circle).
pub const MAX_SPAN: u64 = 1 << 31;
const CIRCLE: u64 = 1 << 32;
/// Ids below it stand for no transaction (`FirstNormalTransactionId`), in each circle.
const FIRST_NORMAL: u64 = 3;

/// The `xmin` and `xmax` of `pg_current_snapshot()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// The oldest transaction that was still running: everything older is visible or gone for good.
    pub xmin: u64,
    /// The first id that was not yet assigned.
    pub xmax: u64,
}

impl Snapshot {
    /// Reads `xmin:xmax:xip_list`.
    pub fn parse(text: &str) -> Option<Snapshot> {
        let mut parts = text.split(':');
        let xmin = parts.next()?.parse().ok()?;
        let xmax = parts.next()?.parse().ok()?;
        parts.next()?;
        (xmin <= xmax && parts.next().is_none()).then_some(Snapshot { xmin, xmax })
    }
}

/// The transaction ids `[low, high)` whose rows one ingest reads from one table.
///
/// Any row version that the previous snapshot could not see was written by a transaction at or after that snapshot's
/// `xmin` (sub-transactions get later ids than their parents), and any that the present one sees by one before its
/// `xmax`. So the window misses none; rows whose frozen `xmin` aliases into it are read again without need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XidWindow {
    low: u64,
    span: u64,
}

impl XidWindow {
    /// The window from a watermark up to a snapshot's `xmax`; none where it spans half the circle or more, or where the
    /// watermark is ahead of the snapshot.
    pub fn new(watermark: u64, xmax: u64) -> Option<XidWindow> {
        let span = xmax.checked_sub(watermark)?;
        (span < MAX_SPAN).then_some(XidWindow { low: watermark, span })
    }

    /// The window's lower bound as rows show it, and the number of ids in it: a row belongs to the window where
    /// `(xmin - low + 2^32) mod 2^32 < span`.
    pub fn bounds(self) -> (u64, u64) {
        (self.low % CIRCLE, self.span)
    }

    /// Whether a row with this `xmin` belongs to the window.
    pub fn contains(self, xmin: u32) -> bool {
        if fault::planted("naive_xid") {
            return (self.low % CIRCLE..self.low % CIRCLE + self.span).contains(&u64::from(xmin));
        }
        (u64::from(xmin) + CIRCLE - self.low % CIRCLE) % CIRCLE < self.span
    }

    /// The same test in SQL, over a row's `xmin`.
    ///
    /// A row's id has no cast to a number but the one by way of a text, which takes twice as long as the whole scan. Its
    /// `age()` is a number: how far it is behind the newest id that its transaction knows, as 32 bits with a sign. So two ages
    /// of one transaction differ by what their ids do, on the circle, whatever that newest id is. (Ids that stand for no
    /// transaction have the age 2^31-1, and are in no window.) `age()` keeps parallel workers away, who would take it from
    /// another id.
    pub fn to_sql(self) -> String {
        let (low, span) = self.bounds();
        if fault::planted("naive_xid") {
            return format!("xmin::text::bigint >= {low} and xmin::text::bigint < {}", low + span);
        }
        let skipped = FIRST_NORMAL.saturating_sub(low);
        let (low, span) = (low + skipped, span.saturating_sub(skipped));
        format!("((select age('{low}'::xid) + {CIRCLE}) - age(xmin)) % {CIRCLE} < {span}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_id_between_watermark_and_xmax_is_missed(watermark in 0u64..1 << 40, span in 1u64..MAX_SPAN, part in 0.0f64..1.0) {
            let window = XidWindow::new(watermark, watermark + span).unwrap();
            let xid = watermark + (span as f64 * part) as u64;
            prop_assume!(xid < watermark + span);
            prop_assert!(window.contains((xid % CIRCLE) as u32));
        }

        #[test]
        fn a_recent_id_outside_the_window_is_left_out(watermark in MAX_SPAN..1 << 40, span in 0u64..MAX_SPAN, back in 1u64..MAX_SPAN) {
            let window = XidWindow::new(watermark, watermark + span).unwrap();
            prop_assert!(!window.contains(((watermark - back) % CIRCLE) as u32));
        }
    }

    /// A window somewhere around a multiple of 2^32, and the id of a row from up to two circles before to the window's end.
    fn cases(count: u32) -> impl Iterator<Item = (XidWindow, u64, u64)> {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: u64| {
            // xorshift64: the same cases in every run.
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        (0..count).map(move |_| {
            let reach = [1 << 4, 1 << 16, MAX_SPAN][random(3) as usize];
            let span = 1 + random(reach - 1);
            let watermark = (2 + random(4)) * CIRCLE - MAX_SPAN + random(CIRCLE);
            let age = [span, reach.saturating_mul(2), 2 * CIRCLE][random(3) as usize];
            let xid = watermark + span - 1 - random(age).min(watermark + span - 1);
            (XidWindow::new(watermark, watermark + span).unwrap(), watermark, xid)
        })
    }

    /// In 64 bits nothing wraps: a row is wanted where its id is at or after the watermark.
    #[test]
    fn rows_of_every_age_agree_with_a_model_of_64_bits() {
        let (mut wanted, mut aliases, mut crossings) = (0, 0, 0);
        for (window, watermark, xid) in cases(2_000_000) {
            let is_read = window.contains((xid % CIRCLE) as u32);
            if xid >= watermark {
                assert!(is_read, "row of {xid} is missed by {window:?}");
                wanted += 1;
                crossings += u32::from(xid / CIRCLE > watermark / CIRCLE);
            } else if watermark - xid <= CIRCLE - window.span {
                assert!(!is_read, "row of {xid} is read by {window:?} without need");
            } else {
                // Frozen for a circle or longer: its id may look new, and it is read once more.
                aliases += u32::from(is_read);
            }
        }
        assert!(wanted > 500_000 && aliases > 10_000 && crossings > 10_000, "{wanted} {aliases} {crossings}");
    }

    #[test]
    fn comparing_32_bits_as_numbers_would_lose_rows_at_the_crossing() {
        let naive = |xid: u64, watermark: u64| xid % CIRCLE >= watermark % CIRCLE;
        let lost = cases(100_000).filter(|(_, watermark, xid)| xid >= watermark && !naive(*xid, *watermark)).count();
        assert!(lost > 1_000, "{lost}");
        // And what is frozen would be read in every run after it.
        assert!(naive(741, CIRCLE + 10) && !XidWindow::new(CIRCLE + 10, CIRCLE + 20).unwrap().contains(741));
    }

    #[test]
    fn a_window_of_half_the_circle_is_refused() {
        assert_eq!(XidWindow::new(5, 5 + MAX_SPAN), None);
        assert_eq!(XidWindow::new(6, 5), None);
    }

    #[test]
    fn snapshots_are_read_as_postgresql_writes_them() {
        assert_eq!(Snapshot::parse("740:744:741,742"), Some(Snapshot { xmin: 740, xmax: 744 }));
        assert_eq!(Snapshot::parse("740:740:"), Some(Snapshot { xmin: 740, xmax: 740 }));
        for bad in ["", "740", "744:740:", "a:b:", "1:2:3:4"] {
            assert_eq!(Snapshot::parse(bad), None, "{bad}");
        }
    }
}
