//! Rows that an order leaves equal: which of them comes first, so that the order in which an input's files are read, which
//! merging them changes, decides nothing.
//!
//! - [`TiesOfRows`], after the analysis, gives `distinct on`, `limit` and the aggregates that take values in order
//!   (`first_value`, `array_agg(… order by …)`) an order that leaves no two rows equal which the answer can tell apart.
//! - [`TiesOfWindows`], after columns that nobody reads are gone, does so for window functions that count rows
//!   (`row_number`, `lag`, frames in `rows`). Functions and frames that take rows of one rank together (`rank`, `sum(…) over
//!   (order by …)`) stay as they are: for them equal rows have to stay equal.
//!
//! Both only add to the end of an order, columns or arguments of types that can be sorted, ascending, null last. What cannot
//! be given an order so is warned about ([`warnings`]); docs/models.md lists what is left.

mod rows;
mod windows;

use std::collections::BTreeSet;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Expr, LogicalPlan, SortExpr};

pub(crate) use rows::TiesOfRows;
pub(crate) use windows::TiesOfWindows;

/// What every warning of this module says.
const UNCERTAIN: &str = " in no certain order; ";

/// One line for each function of an analysed plan whose answer depends on the order in which rows are read.
pub(crate) fn warnings(model: &str, plan: &LogicalPlan) -> Result<Vec<String>> {
    let mut lines = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                let said = match expr {
                    Expr::AggregateFunction(call) if takes_any_order(call) => {
                        let name = call.func.name();
                        Some(format!("`{name}` takes values{UNCERTAIN}write `{name}(… order by …)`"))
                    }
                    Expr::WindowFunction(call) if windows::takes_any_order(call) => {
                        let name = call.fun.name();
                        Some(format!(
                            "`{name}(…) over (…)` takes rows that are equal in its `order by`{UNCERTAIN}give it a frame of \
                             `rows`, or of the whole partition"
                        ))
                    }
                    _ => None,
                };
                lines.extend(said.map(|said| format!("model `{model}`: {said}")));
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(lines.into_iter().collect())
}

/// Whether a warning is one of this module's, which no error of a row has to do with.
pub(crate) fn is_warning(line: &str) -> bool {
    line.contains(UNCERTAIN)
}

/// Whether an aggregate takes values in the order in which they come. To sort them costs memory for each value, which is for
/// the model's author to spend.
fn takes_any_order(call: &AggregateFunction) -> bool {
    let is_list = matches!(call.func.name(), "array_agg" | "string_agg" | "nth_value");
    is_list && call.params.order_by.is_empty() && !call.params.distinct
}

/// What an order lacks: the columns of a schema that it does not have and that are not among these expressions, which are the
/// same in all rows that are compared.
fn missing(schema: &DFSchema, order: &[SortExpr], same: &[Expr]) -> Vec<SortExpr> {
    let sortable = schema.iter().filter(|(_, field)| is_sortable(field.data_type()));
    let columns = sortable.map(|(qualifier, field)| Expr::Column(Column::from((qualifier, field))));
    columns
        .filter(|column| !has(order, column) && !same.contains(column))
        .map(|column| column.sort(true, false))
        .collect()
}

fn has(order: &[SortExpr], expr: &Expr) -> bool {
    order.iter().any(|by| by.expr == *expr)
}

/// Whether values of a type have an order everywhere in the engine. Documents and uuids are texts; records and maps have none.
fn is_sortable(data_type: &DataType) -> bool {
    use DataType::*;
    match data_type {
        Boolean | Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => true,
        Date32 | Date64 | Time32(_) | Time64(_) | Timestamp(..) | Duration(_) => true,
        List(item) | LargeList(item) => is_sortable(item.data_type()),
        number => number.is_numeric(),
    }
}
