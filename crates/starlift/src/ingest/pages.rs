//! How a table is cut into parts that several connections read.

use std::sync::atomic::{AtomicU32, Ordering};

use starlift_postgres::catalog::{SourceTable, TableKind};
use starlift_postgres::extract::{OLDEST_WITH_RANGES, PageRange};

/// Bytes of a page, unless the server was built with another size: then parts are larger or smaller, not wrong.
const PAGE_BYTES: u64 = 8_192;
/// A smaller table is read faster by one connection than others are opened.
const SMALLEST_TABLE_BYTES: u64 = 32 << 20;
/// Parts for each connection: whoever is done first takes more.
const PARTS_EACH: u64 = 8;
/// The largest part, in pages: 256 MiB.
const LARGEST_PART: u64 = 32_768;

/// A part of a table that is read by itself, in a chunk.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// The first page.
    pub(super) from: u32,
    /// The first page that is not in it.
    pub(super) to: u32,
    /// About how much it is.
    pub(super) bytes: u64,
    /// An SQL condition on its rows.
    pub(super) condition: String,
}

/// How many connections of their own read so many bytes of a table, given how many may read at once; none where the session
/// reads them itself.
///
/// None for small tables; for those with partitions or children, whose pages are numbered for each; and for servers that
/// would scan the whole table for each part. A single one as well has a thread of its own, where it need not be woken by another
/// for every few kilobytes.
pub(super) fn connections(allowed: usize, server_version: u32, table: &SourceTable, bytes: u64) -> Option<usize> {
    let in_parts = table.kind == TableKind::Table
        && table.schema.partitions.is_empty()
        && server_version >= OLDEST_WITH_RANGES
        && bytes >= SMALLEST_TABLE_BYTES;
    in_parts.then_some(allowed.max(1))
}

/// The parts of one table, or of a chunk of it, that nobody has taken yet.
#[derive(Debug)]
pub(super) struct Pages {
    first: u32,
    /// Where the last part ends; none: at the end of the table.
    end: Option<u32>,
    step: u32,
    parts: u32,
    next: AtomicU32,
}

impl Pages {
    /// Of a table of so many bytes, for so many connections.
    pub(super) fn of(bytes: u64, connections: usize) -> Pages {
        let pages = bytes.div_ceil(PAGE_BYTES).max(1);
        Pages::from(0, None, pages, connections)
    }

    /// Of the pages of a chunk.
    pub(super) fn of_part(part: &Part, connections: usize) -> Pages {
        Pages::from(part.from, Some(part.to), u64::from(part.to.saturating_sub(part.from)).max(1), connections)
    }

    fn from(first: u32, end: Option<u32>, pages: u64, connections: usize) -> Pages {
        let parts = if connections > 1 { PARTS_EACH * connections as u64 } else { 1 };
        let largest = if connections > 1 { LARGEST_PART } else { u64::from(u32::MAX) };
        let step = pages.div_ceil(parts).clamp(1, largest);
        // PostgreSQL numbers pages with 32 bits.
        let parts = u32::try_from(pages.div_ceil(step)).unwrap_or(u32::MAX);
        Pages { first, end, step: u32::try_from(step).unwrap_or(u32::MAX), parts, next: AtomicU32::new(0) }
    }

    /// Takes the next part.
    pub(super) fn take(&self) -> Option<PageRange> {
        let parts = self.parts;
        let part =
            self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < parts).then_some(n + 1)).ok()?;
        let from = self.first.saturating_add(part.saturating_mul(self.step));
        Some(PageRange { from, to: if part + 1 < parts { Some(from.saturating_add(self.step)) } else { self.end } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pages: &Pages) -> Vec<PageRange> {
        std::iter::from_fn(|| pages.take()).collect()
    }

    #[test]
    fn the_parts_of_a_table_follow_each_other_and_the_last_has_no_end() {
        for bytes in [0, 1, 8_192, 8_193, 1 << 20, 289 << 20, 3 << 40] {
            for connections in [1, 2, 7] {
                let parts = all(&Pages::of(bytes, connections));
                assert_eq!(parts[0].from, 0, "{bytes}");
                assert_eq!(parts.last().unwrap().to, None, "{bytes}");
                assert!(parts.windows(2).all(|pair| pair[0].to == Some(pair[1].from)), "{bytes}");
                assert!(parts.iter().all(|part| part.to.is_none_or(|to| to > part.from)), "{bytes}");
            }
        }
    }

    #[test]
    fn the_parts_of_a_chunk_are_its_pages() {
        for (from, to) in [(0, 1), (7, 8), (7, 1_000), (3, 100_000)] {
            let part = Part { from, to, bytes: 1, condition: "true".into() };
            let parts = all(&Pages::of_part(&part, 3));
            assert_eq!((parts[0].from, parts.last().unwrap().to), (from, Some(to)));
            assert!(parts.windows(2).all(|pair| pair[0].to == Some(pair[1].from)), "{parts:?}");
            assert!(parts.iter().all(|part| part.to.is_some_and(|to| to > part.from)), "{parts:?}");
        }
    }

    #[test]
    fn each_connection_has_several_parts_and_none_is_huge() {
        assert_eq!(all(&Pages::of(289 << 20, 2)).len(), 16);
        assert_eq!(all(&Pages::of(1 << 40, 2)).len(), 4_096);
        assert_eq!(all(&Pages::of(1 << 40, 1)), [PageRange { from: 0, to: None }], "one scan, from end to end");
    }
}
