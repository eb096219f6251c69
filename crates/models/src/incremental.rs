//! Whether a model can be evaluated for some of its keys alone, and how one comes from a changed row to these keys.
//!
//! The plan has to be made of projections, filters, joins and scans. Each reading of an input is a *scan* of its own, also
//! where two read the same input. One scan is the *driver*: its rows have the model's key in plain columns, and each row of
//! the model comes from one of them. From other scans *links*, equalities of plain columns, lead to the driver.
//!
//! Claim 1, of affected keys. A row of the model that is there only before or only after a change is the row of a key that
//! is found so: take each changed row of each scan in its image before and in its image after; go along the links to the
//! driver, in the images after. Why: the row comes from one row of each scan. Of the scans whose row changed take one that
//! has no other such scan between itself and the driver: its row is the one before or the one after, and all rows
//! between it and the driver did not change, so that they are in the image after. Filters are left out, which finds more
//! keys and never fewer.
//!
//! Claim 2, of restricted scans. Over those rows of the driver that have the wanted keys, and those rows of other scans
//! that links lead to from them, the plan yields what it yields for these keys over all rows.
//!
//! Outer joins keep both claims under three conditions, which are checked: the driver is not on the side whose row may be
//! missing; that side has no outer join within; and its links come from the outer join's own condition, or from
//! conditions above it, which no missing row fulfils. A row is there without its other half before a change, and with
//! it after, only where that half changed, and then its condition leads to the row.

mod route;
mod trace;

use std::collections::BTreeSet;

use datafusion::logical_expr::LogicalPlan;
use starlift_core::TableSchema;

/// How the rows of a model depend on those of its inputs, as far as keys are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The names of the inputs as the plan scans them, in its order.
    pub scans: Vec<String>,
    /// The scan whose rows have the model's key.
    pub driver: usize,
    /// The positions of the driver's columns that are the key, in the order of the key.
    pub key: Vec<usize>,
    /// For each scan its link, one step nearer to the driver; none for the driver, for seeds, and where there is none.
    pub links: Vec<Option<Link>>,
    /// The scans that have a link, nearer ones first.
    pub order: Vec<usize>,
}

/// Columns by which rows of a scan are joined with those of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The other scan.
    pub to: usize,
    /// Positions of equal columns: the scan's own, the other's. Both have one type, or are whole numbers.
    pub columns: Vec<(usize, usize)>,
}

/// The shape of a model's plan, which yields the columns of `schema` first.
///
/// Errors: why it has none, in words that go on after the model's name: `it groups rows`.
pub(crate) fn shape(
    plan: &LogicalPlan,
    schema: &TableSchema,
    seeds: &BTreeSet<String>,
) -> std::result::Result<Shape, String> {
    let (trace, columns) = trace::trace(plan, seeds)?;
    let mut key = Vec::with_capacity(schema.key.len());
    for position in schema.key_positions() {
        let Some(column) = schema.columns.get(position) else { return Err("its key is not known".into()) };
        let Some(origin) = columns.get(position).copied().flatten() else {
            return Err(format!("its key column `{}` is computed", column.name));
        };
        key.push((origin, column.column_type.to_arrow()));
    }
    route::route(trace, &key)
}
