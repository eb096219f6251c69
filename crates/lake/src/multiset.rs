//! Whether two tables without a key hold the same rows, each as often, in any order.

use arrow::array::RecordBatch;
use futures::{Stream, TryStreamExt};
use starlift_core::{Result, TableSchema};

use crate::digest::Digests;

/// The number of rows and the sum of their digests modulo 2^128.
///
/// Equal multisets are equal here. Different ones differ, except by an accident of about 1 in 2^128; against rows that
/// someone chose to collide it is no protection (Bellare and Micciancio, "A New Paradigm for Collision-Free Hashing",
/// 1997, on sums of hashes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Multiset {
    rows: u64,
    sum: u128,
}

impl Multiset {
    /// Adds the rows of a batch.
    ///
    /// Errors: those of [`Digests::rows`].
    pub fn add(&mut self, digests: &Digests, batch: &RecordBatch) -> Result<()> {
        for row in digests.rows(batch)? {
            self.sum = self.sum.wrapping_add(u128::from_le_bytes(row.0));
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// The multiset of a stream, which is read to its end one batch at a time.
    ///
    /// Errors: those of the stream, and of [`Digests::rows`].
    pub async fn of(
        schema: &TableSchema,
        mut batches: impl Stream<Item = Result<RecordBatch>> + Unpin,
    ) -> Result<Multiset> {
        let digests = Digests::new(schema)?;
        let mut all = Multiset::default();
        while let Some(batch) = batches.try_next().await? {
            all.add(&digests, &batch)?;
        }
        Ok(all)
    }

    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        self.rows
    }
}
