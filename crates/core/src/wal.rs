//! WAL positions, as `pg_lsn` counts them.

/// Bytes of a page, unless the server was built with another size: then a position is taken as it is.
const PAGE: u64 = 8_192;
/// Bytes of the header of a page, and of that of a segment's first page (`access/xlog_internal.h` in the server's source).
const SHORT_HEADER: u64 = 24;
const LONG_HEADER: u64 = 40;
/// Segments have a power of two of these.
const SMALLEST_SEGMENT: u64 = 1 << 20;

/// Where the newest record ended, by the position at which the next one will begin: the same, but for the header of a page
/// between the two. Nobody replays or flushes that header before a record follows it, so a standby of a primary
/// that rests would never reach the position behind it.
pub fn record_end(insert: u64) -> u64 {
    match insert % PAGE {
        SHORT_HEADER => insert - SHORT_HEADER,
        LONG_HEADER if (insert - LONG_HEADER).is_multiple_of(SMALLEST_SEGMENT) => insert - LONG_HEADER,
        _ => insert,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_a_page_belongs_to_the_record_that_is_not_there_yet() {
        let segment = 3 * (16 << 20);
        for (insert, end) in [
            (segment + LONG_HEADER, segment),
            (segment, segment),
            (segment + PAGE + SHORT_HEADER, segment + PAGE),
            // Ends of records.
            (segment + PAGE + LONG_HEADER, segment + PAGE + LONG_HEADER),
            (segment + PAGE + 32, segment + PAGE + 32),
            (segment + 48, segment + 48),
            (0, 0),
        ] {
            assert_eq!(record_end(insert), end, "{insert}");
        }
    }
}
