//! `distinct on`, `limit` and aggregates that take values in order.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::config::ConfigOptions;
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment, WindowFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Aggregate, Distinct, DistinctOn, Expr, ExprSchemable, Limit, LogicalPlan, LogicalPlanBuilder, Sort, SortExpr,
    WindowFrame, lit,
};
use datafusion::optimizer::AnalyzerRule;

use super::{has, is_sortable, missing};

/// The name of the column that numbers the rows of a `distinct on`; nothing above sees it.
const NUMBER: &str = "__starlift_row_number";

/// Gives an order to what picks rows or takes them in order. It has to come after type coercion.
#[derive(Debug)]
pub(crate) struct TiesOfRows;

impl AnalyzerRule for TiesOfRows {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let ordered = plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Distinct(Distinct::On(on)) if !looks_outside(&on.input)? => numbered(on).map(Transformed::yes),
            LogicalPlan::Limit(limit) => limited(limit),
            LogicalPlan::Aggregate(aggregate) => aggregated(aggregate),
            other => Ok(Transformed::no(other)),
        })?;
        Ok(ordered.data)
    }

    fn name(&self) -> &str {
        "ties_of_rows"
    }
}

/// Whether a plan is part of a subquery that has to be evaluated for each row outside: that one is taken apart by its shape.
fn looks_outside(plan: &LogicalPlan) -> Result<bool> {
    plan.exists(|node| Ok(node.contains_outer_reference()))
}

/// `distinct on` as the first row of each partition, which is sorted on disk where it is large; DataFusion would look for the
/// first value of each column by itself, and keep all columns of the order for each.
fn numbered(on: DistinctOn) -> Result<LogicalPlan> {
    let DistinctOn { on_expr, select_expr, sort_expr, input, schema } = on;
    let order = sort_expr.unwrap_or_default();
    // Its rows come in the order of what they are distinct on, which a limit above relies on.
    let groups: Vec<SortExpr> = order.iter().take(on_expr.len()).cloned().collect();
    let mut number = WindowFunction::new(row_number_udwf(), vec![]);
    number.params.window_frame = WindowFrame::new((!order.is_empty()).then_some(false));
    number.params.partition_by = on_expr;
    number.params.order_by = order;
    let first = Expr::Column(Column::new_unqualified(NUMBER)).eq(lit(1_u64));
    let mut plan = LogicalPlanBuilder::new_from_arc(input).window([Expr::from(number).alias(NUMBER)])?.filter(first)?;
    if !groups.is_empty() {
        plan = plan.sort(groups)?;
    }
    let columns = select_expr.into_iter().zip(schema.iter()).map(|(expr, (qualifier, field))| {
        match expr.qualified_name() == (qualifier.cloned(), field.name().clone()) {
            true => expr,
            false => expr.unalias().alias_qualified(qualifier.cloned(), field.name()),
        }
    });
    plan.project(columns.collect::<Vec<Expr>>())?.build()
}

/// A limit over rows of which no two are equal in the order.
fn limited(limit: Limit) -> Result<Transformed<LogicalPlan>> {
    let input = match in_order(&limit.input)? {
        Some(ordered) => ordered,
        None => {
            let expr = missing(limit.input.schema(), &[], &[]);
            if expr.is_empty() || looks_outside(&limit.input)? {
                return Ok(Transformed::no(LogicalPlan::Limit(limit)));
            }
            LogicalPlan::Sort(Sort { expr, input: Arc::clone(&limit.input), fetch: None })
        }
    };
    Ok(Transformed::yes(LogicalPlan::Limit(Limit { input: Arc::new(input), ..limit })))
}

/// The same plan with an order that is whole; none where it has no order.
fn in_order(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::Sort(sort) => {
            let mut sort = sort.clone();
            sort.expr.extend(missing(sort.input.schema(), &sort.expr, &[]));
            Ok(Some(LogicalPlan::Sort(sort)))
        }
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Filter(_) | LogicalPlan::Limit(_) => {
            let below = plan.inputs().into_iter().next().map(in_order).transpose()?.flatten();
            below.map(|below| plan.with_new_exprs(plan.expressions(), vec![below])).transpose()
        }
        _ => Ok(None),
    }
}

/// An aggregate whose functions take values in an order that leaves no two values equal which differ.
fn aggregated(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let schema = Arc::clone(aggregate.input.schema());
    let mut calls = Vec::new();
    for expr in &aggregate.aggr_expr {
        expr.apply(|expr| {
            if let Expr::AggregateFunction(call) = expr
                && is_in_order(call)
            {
                calls.push(call.clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    let base = base(&calls, &schema);
    let names = NamePreserver::new_for_projection();
    let mut changed = false;
    let mut exprs = Vec::with_capacity(aggregate.aggr_expr.len());
    for expr in &aggregate.aggr_expr {
        let name = names.save(expr);
        let ordered = expr.clone().transform_up(|expr| match expr {
            Expr::AggregateFunction(call) => {
                let (call, is_new) = match call.func.name() {
                    "any_value" => any_value(call, &schema),
                    _ if is_in_order(&call) => in_whole_order(call, &calls, &base, &schema),
                    _ => (call, false),
                };
                Ok(Transformed::new_transformed(Expr::AggregateFunction(call), is_new))
            }
            other => Ok(Transformed::no(other)),
        })?;
        changed |= ordered.transformed;
        exprs.push(if ordered.transformed { name.restore(ordered.data) } else { ordered.data });
    }
    if !changed {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let ordered = Aggregate::try_new(aggregate.input, aggregate.group_expr, exprs)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(ordered)))
}

/// Whether an aggregate has an order, or is given one: the first or last value of a group without an order, and lists of
/// different values, which are sorted once they are known.
fn is_in_order(call: &AggregateFunction) -> bool {
    match call.func.name() {
        "first_value" | "last_value" => true,
        "array_agg" | "string_agg" | "nth_value" => call.params.distinct || !call.params.order_by.is_empty(),
        _ => false,
    }
}

/// The order of a call itself; that of a list of different values is that of the values.
fn own_order(call: &AggregateFunction, schema: &DFSchema) -> Vec<SortExpr> {
    let params = &call.params;
    if !params.distinct || !params.order_by.is_empty() {
        return params.order_by.clone();
    }
    params.args.first().filter(|value| can_be_sorted(value, schema)).map(ascending).into_iter().collect()
}

/// The order that calls share as far as theirs is its beginning. Of those that the engine has to sort for, it takes the
/// longest, of those that are written before those that would be given: it sorts once.
fn base(calls: &[AggregateFunction], schema: &DFSchema) -> Vec<SortExpr> {
    let orders = |sorted: bool| {
        let calls = calls.iter().filter(move |call| !sorted || is_sorted_for(call));
        calls.map(|call| own_order(call, schema)).filter(|order| !order.is_empty())
    };
    let longer =
        |longest: Vec<SortExpr>, order: Vec<SortExpr>| if order.len() > longest.len() { order } else { longest };
    let written = calls.iter().filter(|call| is_sorted_for(call) && !call.params.order_by.is_empty());
    let longest = written.map(|call| call.params.order_by.clone()).reduce(longer);
    longest.or_else(|| orders(true).reduce(longer)).or_else(|| orders(false).next()).unwrap_or_default()
}

/// Whether the engine sorts the rows for a call, which it does once for all of them.
fn is_sorted_for(call: &AggregateFunction) -> bool {
    call.func.order_sensitivity().hard_requires()
}

/// A call with the end of its order: the arguments of all calls that share it, so that those of one group take the same row.
fn in_whole_order(
    mut call: AggregateFunction,
    calls: &[AggregateFunction],
    base: &[SortExpr],
    schema: &DFSchema,
) -> (AggregateFunction, bool) {
    let own = own_order(&call, schema);
    let shares = |order: &[SortExpr]| base.starts_with(order);
    // Orders that contradict one another stay as they are written: the engine may read one of them from its end, and refuses all others.
    let is_contradicted = |other: &AggregateFunction| is_sorted_for(other) && !shares(&other.params.order_by);
    if is_sorted_for(&call) && calls.iter().any(is_contradicted) {
        return (call, false);
    }
    if call.params.distinct {
        // It takes no order but that of its values, and none that another call contradicts.
        let fits = call.params.order_by.is_empty() && (shares(&own) || !call.func.order_sensitivity().hard_requires());
        if fits {
            call.params.order_by = own;
        }
        return (call, fits);
    }
    let mut order = if shares(&own) { base.to_vec() } else { own.clone() };
    let together = calls.iter().filter(|other| !other.params.distinct);
    let together = together.filter(|other| match shares(&own) {
        true => shares(&other.params.order_by),
        false => other.params.order_by == own,
    });
    for value in together.flat_map(|other| &other.params.args) {
        if !has(&order, value) && can_be_sorted(value, schema) {
            order.push(ascending(value));
        }
    }
    let is_new = order != call.params.order_by;
    call.params.order_by = order;
    (call, is_new)
}

/// `any_value` as the least value: any is right, and this one is always the same.
fn any_value(mut call: AggregateFunction, schema: &DFSchema) -> (AggregateFunction, bool) {
    let Some(value) = call.params.args.first().filter(|value| can_be_sorted(value, schema)) else {
        return (call, false);
    };
    call.params.order_by = vec![ascending(value)];
    call.params.null_treatment = Some(NullTreatment::IgnoreNulls);
    call.func = first_value_udaf();
    (call, true)
}

fn ascending(expr: &Expr) -> SortExpr {
    expr.clone().sort(true, false)
}

fn can_be_sorted(expr: &Expr, schema: &DFSchema) -> bool {
    !matches!(expr, Expr::Literal(..)) && expr.get_type(schema).is_ok_and(|data_type| is_sortable(&data_type))
}
