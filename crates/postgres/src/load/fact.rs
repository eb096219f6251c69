//! Facts: a row is appended where it differs from the newest stored version of its key, in the order of the key.
//!
//! The newest version is the one with the highest record id. Record ids come from the table's own sequence, after the
//! sort: PostgreSQL evaluates the defaults of an `INSERT … SELECT … ORDER BY` above the sort, so they grow with the key.

use starlift_core::{Error, Result, fault};
use tokio_postgres::Client;

use super::pair::Pair;
use super::session::{execute, value};
use super::stage::Stage;
use crate::ident::quote_ident;

/// How the staged rows are compared with the stored versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// Not at all: the table is empty.
    None,
    /// The newest version of each staged key through the index on (key, record id).
    Lookup,
    /// The newest version of every key, then a join.
    BySet,
}

impl Comparison {
    /// The comparison for so many of the rows that this one was chosen for.
    pub(crate) fn of_part(self, rows: u64) -> Comparison {
        if self == Comparison::BySet && rows <= FEW { Comparison::Lookup } else { self }
    }
}

/// So many rows are looked up one by one, whatever the table holds.
pub(crate) const FEW: u64 = 1_000;
/// A lookup costs about as much as this many rows of a scan.
const ROWS_PER_LOOKUP: u64 = 20;

/// Chooses the comparison by the rows on both sides.
pub(crate) fn comparison(empty: bool, staged: u64, stored: u64) -> Comparison {
    if empty || fault::planted("versions_not_compared") {
        Comparison::None
    } else if staged <= FEW || staged.saturating_mul(ROWS_PER_LOOKUP) <= stored {
        Comparison::Lookup
    } else {
        Comparison::BySet
    }
}

/// Whether the fact's table has no row.
pub(crate) async fn is_empty(client: &Client, pair: Pair<'_>) -> Result<bool> {
    let sql = format!("select not exists (select from {})", pair.table());
    value(client, &sql, &format!("cannot read `{}` in the warehouse", pair.model.name)).await
}

/// Appends the versions that are new; returns how many.
pub(crate) async fn append(client: &Client, pair: Pair<'_>, stage: &Stage, comparison: Comparison) -> Result<u64> {
    tracing::debug!(model = %pair.model.name, ?comparison, rows = stage.rows, "versions are compared");
    let sql = append_sql(pair, &stage.table, comparison)?;
    execute(client, &sql, &[], &format!("cannot insert into `{}` in the warehouse", pair.model.name)).await
}

/// The statement that appends the versions of `stage` that are new.
pub(crate) fn append_sql(pair: Pair<'_>, stage: &str, comparison: Comparison) -> Result<String> {
    Ok(format!(
        "insert into {} ({}) select {} from {} order by {}",
        pair.table(),
        pair.column_list(),
        pair.staged_values(),
        unseen(pair, stage, comparison)?,
        pair.staged_order()
    ))
}

/// The column of a fact that counts its versions, quoted.
pub(crate) fn record_id(pair: Pair<'_>) -> Result<String> {
    let column = pair.target.record_id().map(|c| quote_ident(&c.name));
    column.ok_or_else(|| Error::internal(format!("fact `{}` was not checked for a record id", pair.model.name)))
}

/// The rows `s` of `stage` that are new versions, to stand behind `from`.
pub(crate) fn unseen(pair: Pair<'_>, stage: &str, comparison: Comparison) -> Result<String> {
    let unseen = match beside_newest(pair, comparison)? {
        None => String::new(),
        Some(join) => format!("{join} where t.{} is null or {}", record_id(pair)?, pair.differs()),
    };
    Ok(format!("{stage} s{unseen}"))
}

/// The join that puts beside each row `s` of a stage the newest stored version `t` of its key, nulls where it has none; none where
/// nothing is compared.
pub(crate) fn beside_newest(pair: Pair<'_>, comparison: Comparison) -> Result<Option<String>> {
    let (table, record_id, same) = (pair.table(), record_id(pair)?, pair.same_key());
    let newest = if fault::planted("versions_out_of_order") { "asc" } else { "desc" };
    Ok(match comparison {
        Comparison::None => None,
        // Limit 1 inside makes it one probe of the index for each row.
        Comparison::Lookup => Some(format!(
            " left join lateral (select * from {table} t where {same} order by t.{record_id} {newest} limit 1) t on true"
        )),
        Comparison::BySet => {
            let key: Vec<String> = pair.model.schema.key.iter().map(|k| quote_ident(k)).collect();
            Some(format!(
                " left join (select v.* from {table} v join (select max({record_id}) as newest from {table} \
                 group by {}) n on n.newest = v.{record_id}) t on {same}",
                key.join(", ")
            ))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_comparison_follows_the_rows_on_both_sides() {
        assert_eq!(comparison(true, 5_000_000, 0), Comparison::None);
        assert_eq!(comparison(false, 10, 5), Comparison::Lookup);
        assert_eq!(comparison(false, 10_000, 5_000_000), Comparison::Lookup);
        assert_eq!(comparison(false, 1_000_000, 5_000_000), Comparison::BySet);
        assert_eq!(comparison(false, u64::MAX, u64::MAX - 1), Comparison::BySet);
        assert_eq!(Comparison::BySet.of_part(1_000), Comparison::Lookup);
        assert_eq!(Comparison::BySet.of_part(1_001), Comparison::BySet);
        assert_eq!(Comparison::None.of_part(1), Comparison::None);
    }
}
