//! Window functions that count rows.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr::{NullTreatment, WindowFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Expr, LogicalPlan, Projection, Window, WindowFrame, WindowFrameBound, WindowFrameUnits,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::missing;

/// Gives window functions that count rows an order in which no two rows are equal that differ in what is read of them. It
/// has to come last, after the columns that nobody reads are gone: each one more is one more to sort by.
#[derive(Debug)]
pub(crate) struct TiesOfWindows;

impl OptimizerRule for TiesOfWindows {
    fn name(&self) -> &str {
        "ties_of_windows"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Window(window) => ordered(window),
            other => Ok(Transformed::no(other)),
        }
    }
}

fn ordered(window: Window) -> Result<Transformed<LogicalPlan>> {
    let schema = window.input.schema();
    let names = NamePreserver::new_for_projection();
    let (mut whole, mut others) = (Vec::new(), Vec::new());
    for expr in &window.window_expr {
        let name = names.save(expr);
        let ordered = in_whole_order(expr.clone(), schema)?;
        match ordered.transformed {
            // An order is part of an expression's name, and what is above knows the old one.
            true => whole.push(name.restore(ordered.data)),
            false => others.push(ordered.data),
        }
    }
    if whole.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Window(window)));
    }
    let is_one = others.is_empty();
    let mut plan = LogicalPlan::Window(Window::try_new(whole, Arc::clone(&window.input))?);
    if !is_one {
        // Functions of one node have one order; what is sorted for the first ones is sorted for these.
        plan = LogicalPlan::Window(Window::try_new(others, Arc::new(plan))?);
        let columns = window.schema.iter().map(|(qualifier, field)| Expr::Column(Column::from((qualifier, field))));
        plan = LogicalPlan::Projection(Projection::try_new(columns.collect(), Arc::new(plan))?);
    }
    Ok(Transformed::yes(plan))
}

fn in_whole_order(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_down(|expr| match expr {
        Expr::WindowFunction(mut call) => {
            let params = &mut call.params;
            let rest = match of(call.fun.name(), &params.window_frame, params.null_treatment) {
                Ties::Numbered => missing(schema, &params.order_by, &params.partition_by),
                Ties::Equal | Ties::AnyOrder => Vec::new(),
            };
            let is_new = !rest.is_empty();
            params.order_by.extend(rest);
            Ok(Transformed::new(Expr::WindowFunction(call), is_new, TreeNodeRecursion::Jump))
        }
        other => Ok(Transformed::no(other)),
    })
}

/// Whether the answer depends on which of equal rows comes first, and no order can be given that keeps them equal otherwise.
pub(super) fn takes_any_order(call: &WindowFunction) -> bool {
    of(call.fun.name(), &call.params.window_frame, call.params.null_treatment) == Ties::AnyOrder
}

/// What rows that are equal in the order mean to a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ties {
    /// They are one: it does not matter which comes first.
    Equal,
    /// Each has its place, and any place is right.
    Numbered,
    /// Its frame takes them together, and the function takes one of them.
    AnyOrder,
}

fn of(function: &str, frame: &WindowFrame, nulls: Option<NullTreatment>) -> Ties {
    let (start, end) = (&frame.start_bound, &frame.end_bound);
    let (from_first, to_last) = (start.is_unbounded(), end.is_unbounded());
    let is_whole = from_first && to_last;
    let in_rows = frame.units == WindowFrameUnits::Rows;
    let skips_nulls = nulls == Some(NullTreatment::IgnoreNulls);
    // A frame that holds the current row is never empty, however many rows are equal to it.
    let holds = |bound: &WindowFrameBound| bound.is_unbounded() || *bound == WindowFrameBound::CurrentRow;
    let is_numbered = match function {
        "rank" | "dense_rank" | "percent_rank" | "cume_dist" => return Ties::Equal,
        // They have no frame; one of values would not go with a longer order.
        "row_number" | "ntile" | "lag" | "lead" => in_rows || (holds(start) && holds(end)),
        "first_value" if from_first && holds(end) && !skips_nulls => true,
        "last_value" if to_last && holds(start) && !skips_nulls => true,
        "first_value" | "last_value" | "nth_value" | "array_agg" | "string_agg" | "any_value" => in_rows || is_whole,
        // Sums and the like: what is in a frame of rows depends on their places.
        _ if in_rows && !is_whole => true,
        _ => return Ties::Equal,
    };
    if is_numbered { Ties::Numbered } else { Ties::AnyOrder }
}

#[cfg(test)]
mod tests {
    use datafusion::common::ScalarValue;

    use super::*;

    fn frame(units: WindowFrameUnits, start: Option<u64>, end: Option<u64>) -> WindowFrame {
        let bound = |value: Option<u64>, far: fn(ScalarValue) -> WindowFrameBound| match value {
            None => far(ScalarValue::UInt64(None)),
            Some(0) => WindowFrameBound::CurrentRow,
            value => far(ScalarValue::UInt64(value)),
        };
        WindowFrame::new_bounds(
            units,
            bound(start, WindowFrameBound::Preceding),
            bound(end, WindowFrameBound::Following),
        )
    }

    #[test]
    fn rows_that_count_together_keep_their_order_and_those_that_are_numbered_get_a_whole_one() {
        use WindowFrameUnits::{Groups, Range, Rows};
        let usual = frame(Range, None, Some(0));
        let of = |function: &str, frame: &WindowFrame| of(function, frame, None);
        for function in ["rank", "dense_rank", "percent_rank", "cume_dist", "sum", "count", "min", "avg"] {
            assert_eq!(of(function, &usual), Ties::Equal, "{function}");
            assert_eq!(of(function, &frame(Groups, Some(1), Some(1))), Ties::Equal, "{function}");
        }
        for function in ["row_number", "ntile", "lag", "lead", "first_value"] {
            assert_eq!(of(function, &usual), Ties::Numbered, "{function}");
        }
        for function in ["last_value", "nth_value", "array_agg", "string_agg"] {
            assert_eq!(of(function, &usual), Ties::AnyOrder, "{function}");
            assert_eq!(of(function, &frame(Rows, None, Some(0))), Ties::Numbered, "{function}");
            assert_eq!(of(function, &frame(Range, None, None)), Ties::Numbered, "{function}");
        }
        assert_eq!(of("sum", &frame(Rows, Some(2), Some(0))), Ties::Numbered);
        assert_eq!(of("sum", &frame(Rows, None, None)), Ties::Equal, "all rows are in it, in any order");
        assert_eq!(of("last_value", &frame(Range, Some(0), None)), Ties::Numbered);
        assert_eq!(of("last_value", &frame(Range, Some(1), None)), Ties::AnyOrder);
        assert_eq!(of("first_value", &frame(Groups, None, Some(1))), Ties::AnyOrder);
    }

    #[test]
    fn a_value_that_is_not_null_may_come_from_any_of_the_equal_rows() {
        let usual = frame(WindowFrameUnits::Range, None, Some(0));
        assert_eq!(of("first_value", &usual, Some(NullTreatment::IgnoreNulls)), Ties::AnyOrder);
        assert_eq!(of("lag", &usual, Some(NullTreatment::IgnoreNulls)), Ties::Numbered);
    }
}
