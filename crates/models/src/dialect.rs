//! Refuses what is SQL of PostgreSQL, is planned, and would silently yield something else.
//!
//! What can be made right is made right instead: see `meaning`.

use std::ops::ControlFlow;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result as PlanResult, ScalarValue};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan, Subquery, lit};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr as Word, JoinConstraint, JoinOperator, Select, Statement, TableFactor, TableWithJoins, Visit,
    Visitor,
};
use starlift_core::model::Model;
use starlift_core::{Error, Result};

use crate::failure;

/// Something that a model may not use.
struct Refusal {
    what: &'static str,
    detail: &'static str,
    hint: &'static str,
}

const SHARED_COLUMN: Refusal = Refusal {
    what: "`using` or `natural` with a right or full join",
    detail: "the engine takes the shared column from the left side, where it is null in rows that only the right side has",
    hint: "write `on a.id = b.id`, and select `b.id` of a right join, `coalesce(a.id, b.id)` of a full one",
};
const CARET: Refusal = Refusal {
    what: "`^`",
    detail: "it is no power to the engine but the exclusive or of bits: `2 ^ 3` would be 1",
    hint: "write `power(a, b)`; an exclusive or is `(a | b) - (a & b)`",
};
const DISTINCT_FROM: Refusal = Refusal {
    what: "`is distinct from` before `and` or `or` without parentheses",
    detail: "the engine takes all that follows for its right side: `a is distinct from (b and c)`",
    hint: "write `(a is distinct from b) and …`; a condition on the right side goes to the left",
};
const TO_CHAR: Refusal = Refusal {
    what: "`to_char` with a pattern of PostgreSQL",
    detail: "the engine knows patterns such as `%Y-%m-%d` only, and would yield the pattern itself",
    hint: "write `to_char(x, '%Y-%m-%d')`; `%H:%M:%S` is the time of day",
};
const EXISTS: Refusal = Refusal {
    what: "`exists` with a subquery that groups all rows into one",
    detail: "such a subquery has a row also where none matches; the engine finds none there",
    hint: "let the subquery `select 1` without an aggregate, or compare: `(select count(*) from …) > 0`",
};
const IN: Refusal = Refusal {
    what: "`in` with a subquery that groups all rows into one",
    detail: "such a subquery has a row also where none matches; the engine finds none there",
    hint: "compare with its one value: `x = (select count(*) from …)`",
};
const ANY_OR_ALL: Refusal = Refusal {
    what: "`any` or `all` with a subquery that groups all rows into one",
    detail: "such a subquery has a row also where none matches; the engine finds none there",
    hint: "compare with its one value: `x = (select count(*) from …)`",
};
const NOT_IN: Refusal = Refusal {
    what: "`not in` with a subquery that groups all rows into one",
    detail: "such a subquery has a row also where none matches; the engine finds none there",
    hint: "compare with its one value: `x <> (select max(y) from …)`",
};

/// Errors: Config for words that the engine reads otherwise.
pub(crate) fn check_words(model: &Model, statement: &Statement) -> Result<()> {
    match statement.visit(&mut Words) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(refusal) => Err(refused(model, &refusal)),
    }
}

/// Errors: Config for a part of the plan, as it is before any rule, that means something else to the engine.
pub(crate) fn check(model: &Model, plan: &LogicalPlan) -> Result<()> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                found = misread(expr)?;
                Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })
    })
    .map_err(|error| failure::planning(model, error))?;
    found.map_or(Ok(()), |refusal| Err(refused(model, &refusal)))
}

fn refused(model: &Model, refusal: &Refusal) -> Error {
    Error::config(format!("model `{}` uses {}, which a model may not", model.name, refusal.what))
        .with_detail(refusal.detail)
        .with_hint(format!("{} (in `{}.sql`)", refusal.hint, model.name))
        .with_context("model", model.name.clone())
}

struct Words;

impl Visitor for Words {
    type Break = Refusal;

    fn pre_visit_expr(&mut self, expr: &Word) -> ControlFlow<Refusal> {
        let is_condition = |expr: &Word| {
            matches!(expr, Word::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or | BinaryOperator::Xor, .. })
        };
        match expr {
            Word::BinaryOp { op: BinaryOperator::BitwiseXor, .. } => ControlFlow::Break(CARET),
            Word::IsDistinctFrom(_, right) | Word::IsNotDistinctFrom(_, right) if is_condition(right) => {
                ControlFlow::Break(DISTINCT_FROM)
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Refusal> {
        select.from.iter().try_for_each(joins)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Refusal> {
        match factor {
            TableFactor::NestedJoin { table_with_joins, .. } => joins(table_with_joins),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn joins(tables: &TableWithJoins) -> ControlFlow<Refusal> {
    let shares = tables.joins.iter().any(|join| {
        matches!(
            &join.join_operator,
            JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) | JoinOperator::FullOuter(constraint)
                if matches!(constraint, JoinConstraint::Using(_) | JoinConstraint::Natural)
        )
    });
    if shares { ControlFlow::Break(SHARED_COLUMN) } else { ControlFlow::Continue(()) }
}

fn misread(expr: &Expr) -> PlanResult<Option<Refusal>> {
    Ok(match expr {
        Expr::ScalarFunction(call) if call.func.name() == "to_char" => match call.args.get(1) {
            Some(Expr::Literal(pattern, _)) => {
                let text = pattern.try_as_str().flatten();
                text.is_some_and(|text| !text.is_empty() && !text.contains('%')).then_some(TO_CHAR)
            }
            _ => None,
        },
        Expr::Exists(exists) => {
            let row = row_of_nothing(&exists.subquery)?;
            row.is_some().then_some(EXISTS)
        }
        Expr::InSubquery(within) => match row_of_nothing(&within.subquery)? {
            Some(_) if within.negated => Some(NOT_IN),
            // A null is in nothing, as in no row.
            Some(Expr::Literal(value, _)) if value.is_null() => None,
            Some(_) => Some(IN),
            None => None,
        },
        Expr::SetComparison(comparison) => row_of_nothing(&comparison.subquery)?.is_some().then_some(ANY_OR_ALL),
        _ => None,
    })
}

/// What the first column of a correlated subquery is where no row matches the outer one, if there is a row then: it groups all
/// rows into one, and its `having` lets that one through. What cannot be told now comes back as an expression.
fn row_of_nothing(subquery: &Subquery) -> PlanResult<Option<Expr>> {
    if subquery.outer_ref_columns.is_empty() { Ok(None) } else { of_nothing(&subquery.subquery, 0) }
}

fn of_nothing(plan: &LogicalPlan, column: usize) -> PlanResult<Option<Expr>> {
    match plan {
        LogicalPlan::Projection(projection) => match projection.expr.get(column) {
            Some(expr) => on_row(expr, &projection.input),
            None => on_row(&lit(true), &projection.input),
        },
        LogicalPlan::Filter(filter) => match on_row(&filter.predicate, &filter.input)? {
            Some(Expr::Literal(
                ScalarValue::Boolean(Some(false)) | ScalarValue::Boolean(None) | ScalarValue::Null,
                _,
            )) => Ok(None),
            Some(_) => of_nothing(&filter.input, column),
            None => Ok(None),
        },
        LogicalPlan::SubqueryAlias(alias) => of_nothing(&alias.input, column),
        LogicalPlan::Sort(sort) => of_nothing(&sort.input, column),
        LogicalPlan::Limit(limit) => of_nothing(&limit.input, column),
        LogicalPlan::Distinct(distinct) => of_nothing(distinct.input(), column),
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => {
            Ok(Some(match aggregate.aggr_expr.get(column).cloned().map(Expr::unalias) {
                Some(Expr::AggregateFunction(call)) if counts(call.func.name()) => lit(0_i64),
                _ => lit(ScalarValue::Null),
            }))
        }
        _ => Ok(None),
    }
}

fn counts(aggregate: &str) -> bool {
    matches!(aggregate, "count" | "regr_count" | "approx_distinct")
}

/// An expression over the row that `input` has where no row matches; none where it has none.
fn on_row(expr: &Expr, input: &LogicalPlan) -> PlanResult<Option<Expr>> {
    if of_nothing(input, 0)?.is_none() {
        return Ok(None);
    }
    let replaced = expr.clone().unalias().transform(|expr| {
        let position = match &expr {
            Expr::Column(column) => input.schema().maybe_index_of_column(column),
            _ => None,
        };
        match position {
            Some(position) => Ok(match of_nothing(input, position)? {
                Some(value) => Transformed::yes(value),
                None => Transformed::no(expr),
            }),
            None => Ok(Transformed::no(expr)),
        }
    })?;
    let schema = merge_schema(&[input]).into();
    let simplifier = ExprSimplifier::new(SimplifyContext::builder().with_schema(schema).build());
    // What it cannot make simpler it leaves.
    let coerced = simplifier.coerce(replaced.data.clone(), input.schema());
    Ok(Some(coerced.and_then(|expr| simplifier.simplify(expr)).unwrap_or(replaced.data)))
}
