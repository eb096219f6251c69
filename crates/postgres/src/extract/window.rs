//! The rows of a window, found and counted by one scan of the table.
//!
//! The scan counts all rows and marks the pages in which rows of the window are, as a bit string. Then only the marked pages are
//! read. Both see one snapshot, so that what is read is what was marked.

use starlift_core::Result;

use super::{OLDEST_WITH_RANGES, PageRange, RowStream, SourceSession, statement};
use crate::catalog::{SourceTable, TableKind};
use crate::ident::quote_qualified;

/// Bits of the mark, at most: 512 bytes that each row of the window copies once.
const MOST_BITS: u64 = 4_096;
/// Pages that share a bit, at least.
const FEWEST_PAGES: u64 = 8;
const PAGE_BYTES: u64 = 8_192;
/// A table of fewer pages is read as a whole.
const FEW_PAGES: u64 = 256;
/// With more of its pages marked than one of so many, a table is read as a whole.
const WHOLE_FROM: u64 = 4;

const LARGEST: &str =
    "select max(pg_catalog.pg_relation_size(relid)) from pg_catalog.pg_partition_tree($1::oid::regclass) where isleaf";

/// What one scan found of a table at the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// All rows of the table.
    pub rows: u64,
    /// Where rows of the window are; none where there are none.
    pub marked: Option<Marked>,
}

/// Where rows of a window are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marked {
    /// Anywhere.
    Anywhere,
    /// In these pages.
    Pages(Vec<PageRange>),
}

impl SourceSession {
    /// Counts the rows of a table, and finds those for which `filter`, an SQL condition over its columns, holds.
    pub async fn find_window(&self, table: &SourceTable, filter: &str) -> Result<Window> {
        self.must_be_open()?;
        let bits = if self.server_version < OLDEST_WITH_RANGES { None } else { Bits::of(self.numbered(table).await?) };
        let mark = match &bits {
            // `width_bucket` looks the page up among the first ones of the bits.
            Some(bits) => format!("bit_or(set_bit(B'0'::bit({}), {}, 1))", bits.number, bits.of_a_row()),
            None => "bit_or(B'1'::bit(1))".into(),
        };
        let name = quote_qualified(&self.schema, &table.name);
        let sql = format!("select count(*), ({mark} filter (where {filter}))::text from {name}");
        let row = self.client().query_one(&sql, &[]).await.map_err(|e| self.failed("read", table, e))?;
        let rows: i64 = row.try_get(0).map_err(|e| self.failed("read", table, e))?;
        let set: Option<String> = row.try_get(1).map_err(|e| self.failed("read", table, e))?;
        let marked = set.map(|set| bits.map_or(Marked::Anywhere, |bits| bits.marked(&set)));
        Ok(Window { rows: u64::try_from(rows).unwrap_or(0), marked })
    }

    /// Bytes of the pages that are numbered together: those of the largest partition, where a table has some.
    async fn numbered(&self, table: &SourceTable) -> Result<u64> {
        let Some(oid) = table.schema.oid.filter(|_| table.kind == TableKind::Partitioned) else {
            return Ok(table.bytes);
        };
        let row = self
            .client()
            .query_one(LARGEST, &[&oid])
            .await
            .map_err(|e| self.failed("look at the pages of", table, e))?;
        let bytes: Option<i64> = row.try_get(0).map_err(|e| self.failed("look at the pages of", table, e))?;
        Ok(bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0))
    }

    /// Reads the rows that [`SourceSession::find_window`] found, by the same condition.
    pub async fn copy_window(&self, table: &SourceTable, filter: &str, marked: &Marked) -> Result<RowStream> {
        let columns = &table.schema.columns;
        let sql = match marked {
            Marked::Anywhere => statement::copy(&self.schema, &table.name, columns, Some(filter)),
            Marked::Pages(ranges) => statement::copy_ranges(&self.schema, &table.name, columns, filter, ranges),
        };
        self.copy_by(table, columns, &sql).await
    }
}

/// How the pages of a large table share bits.
struct Bits {
    pages: u64,
    step: u64,
    number: u64,
}

impl Bits {
    /// Of a table of so many bytes; none where it is small.
    fn of(bytes: u64) -> Option<Bits> {
        let pages = bytes.div_ceil(PAGE_BYTES);
        let step = pages.div_ceil(MOST_BITS).max(FEWEST_PAGES);
        (pages >= FEW_PAGES).then(|| Bits { pages, step, number: pages.div_ceil(step) })
    }

    /// The first page of a bit. Beyond 32 bits PostgreSQL has no pages.
    fn page(&self, bit: u64) -> u32 {
        u32::try_from(bit * self.step).unwrap_or(u32::MAX)
    }

    /// The bit of a row, as an SQL expression.
    fn of_a_row(&self) -> String {
        let first: Vec<String> = (1..self.number).map(|bit| format!("\"({},0)\"", self.page(bit))).collect();
        format!("width_bucket(ctid, '{{{}}}'::tid[])", first.join(","))
    }

    fn marked(&self, set: &str) -> Marked {
        let set: Vec<u64> = (0u64..).zip(set.bytes()).filter(|(_, bit)| *bit == b'1').map(|(bit, _)| bit).collect();
        if set.len() as u64 * self.step * WHOLE_FROM > self.pages {
            return Marked::Anywhere;
        }
        let mut ranges: Vec<PageRange> = Vec::new();
        for bit in set {
            let from = self.page(bit);
            // The table may have grown since its size was read: the last bit stands for all pages behind it.
            let to = (bit + 1 < self.number).then(|| self.page(bit + 1));
            match ranges.last_mut() {
                Some(last) if last.to == Some(from) => last.to = to,
                _ => ranges.push(PageRange { from, to }),
            }
        }
        Marked::Pages(ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(bits: &Bits, set: &[u64]) -> String {
        (0..bits.number).map(|bit| if set.contains(&bit) { '1' } else { '0' }).collect()
    }

    #[test]
    fn marked_pages_that_touch_are_one_range_and_the_last_bit_has_no_end() {
        let bits = Bits::of(100_000 * PAGE_BYTES).unwrap();
        assert_eq!((bits.step, bits.number), (25, 4_000));
        assert_eq!(
            bits.marked(&set(&bits, &[0, 1, 5, 3_999])),
            Marked::Pages(vec![
                PageRange { from: 0, to: Some(50) },
                PageRange { from: 125, to: Some(150) },
                PageRange { from: 99_975, to: None },
            ])
        );
        assert!(bits.of_a_row().starts_with("width_bucket(ctid, '{\"(25,0)\",\"(50,0)\","));
    }

    #[test]
    fn small_tables_and_large_windows_are_read_as_a_whole() {
        assert!(Bits::of(20 * PAGE_BYTES).is_none());
        let bits = Bits::of(8_192 * PAGE_BYTES).unwrap();
        let third: Vec<u64> = (0..bits.number).step_by(3).collect();
        assert_eq!(bits.marked(&set(&bits, &third)), Marked::Anywhere);
        let tenth: Vec<u64> = (0..bits.number).step_by(10).collect();
        assert!(matches!(bits.marked(&set(&bits, &tenth)), Marked::Pages(ranges) if ranges.len() == tenth.len()));
    }
}
