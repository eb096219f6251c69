//! The planner's statistics of a table that a load has changed beyond recognition.
//!
//! Autovacuum comes within a minute or so. Until then the planner takes a fact that was just filled for one of 200 keys, and may
//! compare the versions in the view `current_<fact>` pairwise.

use starlift_core::Result;
use tokio_postgres::Client;

use super::pair::Pair;
use super::session::run;
use crate::ident::quote_idents;

/// Fewer rows are read in no time whatever the plan.
const ROWS: u64 = 10_000;
/// Statistics are made anew where at least a tenth of the rows came: what autovacuum takes for worth it by default.
const SHARE: u64 = 10;
/// Pages are sampled in proportion to it: 3,000 of them tell a key from an attribute, in some ten milliseconds.
const TARGET: u32 = 10;

/// Samples the key and the record id of a table into which so many rows were written, if that is worth it.
///
/// Only its owner may, and nobody is waited for: a table that is being vacuumed gets its statistics so.
pub(crate) async fn refresh(client: &Client, pair: Pair<'_>, written: u64) -> Result<()> {
    if !pair.target.owned || !is_worth(written, pair.target.estimated_rows) {
        return Ok(());
    }
    let key = &pair.model.schema.key;
    // A dimension may have a serial column for its key; a column that is named twice is refused.
    let record_id = pair.target.record_id().filter(|c| !key.contains(&c.name));
    let columns = quote_idents(key.iter().chain(record_id.map(|c| &c.name)).map(String::as_str));
    let sql =
        format!("set local default_statistics_target = {TARGET}; analyze (skip_locked) {} ({columns})", pair.table());
    run(client, &sql, &format!("cannot analyze `{}`", pair.model.name)).await
}

fn is_worth(written: u64, stored: u64) -> bool {
    written >= ROWS && written.saturating_mul(SHARE) >= stored
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_follow_what_changed_much() {
        assert!(is_worth(10_000, 0) && is_worth(10_000, 100_000) && is_worth(u64::MAX, u64::MAX));
        assert!(!is_worth(9_999, 0) && !is_worth(10_000, 100_001) && !is_worth(0, 0));
    }
}
