//! Sets refused values aside row by row: a plan in which strict calls of output columns give null, with a hidden column
//! of reasons for each such output column.
//!
//! A column is *marked* when a strict call can have made it. The rewritten plan keeps three promises:
//!
//! - the columns that the model asked for come first, in their order; hidden columns follow;
//! - a null that stands for a refused value never decides which rows there are: where a filter, a join condition, a
//!   `group by` or the like would look at a marked column, everything below stays strict;
//! - a hidden column is not null exactly where a strict evaluation of its column would have been an error. Branches of
//!   `case` and later arguments of `coalesce` count only where they are taken.
//!
//! What is not understood stays strict: an error of the whole model is always safe.

mod expression;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::{
    Distinct, Expr, Filter, Join, JoinType, Limit, LogicalPlan, Projection, Sort, SubqueryAlias, Union, lit,
};

use expression::{first_reason, or_null, reason};

/// Begins the names of hidden columns.
const HIDDEN: &str = "__starlift_reason_";

/// A plan whose refused values are null and have their reasons in hidden columns.
#[derive(Debug)]
pub(crate) struct Lenient {
    /// The plan; the visible columns come first.
    pub(crate) plan: LogicalPlan,
    /// Visible column to the hidden column that holds its reason, by position.
    pub(crate) reasons: BTreeMap<usize, usize>,
    visible: usize,
    /// Whether the order of the rows depends on a marked column.
    ordered_by_marked: bool,
}

/// Makes a plan lenient as far as that is safe.
pub(crate) fn rewrite(plan: &LogicalPlan) -> Result<Lenient> {
    let mut rewriter = Rewriter { hidden: 0 };
    rewriter.rewrite(plan)
}

struct Rewriter {
    /// Hidden columns named so far, so that no two have one name.
    hidden: usize,
}

impl Rewriter {
    fn rewrite(&mut self, plan: &LogicalPlan) -> Result<Lenient> {
        match plan {
            LogicalPlan::Projection(projection) => self.projection(plan, projection),
            LogicalPlan::SubqueryAlias(alias) => {
                let inner = self.rewrite(&alias.input)?;
                self.above(plan, inner, &[], |input| {
                    Ok(LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(input, alias.alias.clone())?))
                })
            }
            LogicalPlan::Filter(filter) => {
                let inner = self.rewrite(&filter.input)?;
                self.above(plan, inner, &[&filter.predicate], |input| {
                    Ok(LogicalPlan::Filter(Filter::try_new(filter.predicate.clone(), input)?))
                })
            }
            LogicalPlan::Sort(sort) => self.sort(plan, sort),
            LogicalPlan::Limit(limit) => {
                let inner = self.rewrite(&limit.input)?;
                if inner.ordered_by_marked {
                    return Ok(Lenient::strict(plan));
                }
                self.above(plan, inner, &[], |input| Ok(LogicalPlan::Limit(Limit { input, ..limit.clone() })))
            }
            // Rows that carry a reason differ from all rows that carry none, so the others are told apart as before.
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let inner = self.rewrite(input)?;
                self.above(plan, inner, &[], |input| Ok(LogicalPlan::Distinct(Distinct::All(input))))
            }
            LogicalPlan::Join(join) => self.join(plan, join),
            LogicalPlan::Union(union) => self.union(plan, union),
            _ => Ok(Lenient::strict(plan)),
        }
    }

    /// Puts a node that passes its columns through above a lenient input, unless it looks at marked columns.
    fn above(
        &mut self,
        plan: &LogicalPlan,
        inner: Lenient,
        looks_at: &[&Expr],
        node: impl FnOnce(Arc<LogicalPlan>) -> Result<LogicalPlan>,
    ) -> Result<Lenient> {
        if inner.reasons.is_empty() || looks_at.iter().any(|expr| inner.marks(expr)) {
            return Ok(Lenient::strict(plan));
        }
        Ok(Lenient { plan: node(Arc::new(inner.plan))?, ..inner })
    }

    fn sort(&mut self, plan: &LogicalPlan, sort: &Sort) -> Result<Lenient> {
        let inner = self.rewrite(&sort.input)?;
        let by_marked = sort.expr.iter().any(|by| inner.marks(&by.expr));
        // The order of a model's rows means nothing; which rows a limit keeps does.
        if inner.reasons.is_empty() || (by_marked && sort.fetch.is_some()) {
            return Ok(Lenient::strict(plan));
        }
        let ordered_by_marked = inner.ordered_by_marked || by_marked;
        let plan = LogicalPlan::Sort(Sort { input: Arc::new(inner.plan), ..sort.clone() });
        Ok(Lenient { plan, ordered_by_marked, ..inner })
    }

    fn projection(&mut self, plan: &LogicalPlan, projection: &Projection) -> Result<Lenient> {
        let mut inner = self.rewrite(&projection.input)?;
        // A subquery can look at a column of the outer query where no expression shows it.
        if !inner.reasons.is_empty() && projection.expr.iter().any(has_subquery) {
            inner = Lenient::strict(&projection.input);
        }
        let mut columns = Vec::with_capacity(projection.expr.len());
        let mut hidden = Vec::new();
        let mut reasons = BTreeMap::new();
        for (position, expr) in projection.expr.iter().enumerate() {
            let own = reason(expr)?;
            let inherited = inner.marked_columns(expr);
            columns.push(match &own {
                Some(_) => {
                    let (qualifier, field) = projection.schema.qualified_field(position);
                    or_null(expr.clone())?.unalias().alias_qualified(qualifier.cloned(), field.name())
                }
                None => expr.clone(),
            });
            let found: Vec<Expr> = own.into_iter().chain(inherited).collect();
            if let Some(reason) = first_reason(found) {
                reasons.insert(position, projection.expr.len() + hidden.len());
                hidden.push(reason.alias(self.hidden_name()));
            }
        }
        if reasons.is_empty() {
            return Ok(Lenient::strict(plan));
        }
        let visible = columns.len();
        columns.extend(hidden);
        let plan = LogicalPlan::Projection(Projection::try_new(columns, Arc::new(inner.plan))?);
        Ok(Lenient { plan, reasons, visible, ordered_by_marked: inner.ordered_by_marked })
    }

    fn join(&mut self, plan: &LogicalPlan, join: &Join) -> Result<Lenient> {
        if !matches!(join.join_type, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full) {
            return Ok(Lenient::strict(plan));
        }
        let left = self.rewrite(&join.left)?;
        let right = self.rewrite(&join.right)?;
        let mut conditions = join.on.iter().flat_map(|(left, right)| [left, right]).chain(&join.filter);
        let unmarked = left.reasons.is_empty() && right.reasons.is_empty();
        if unmarked || conditions.any(|expr| left.marks(expr) || right.marks(expr)) {
            return Ok(Lenient::strict(plan));
        }
        let (left_columns, right_columns) = (left.columns(), right.columns());
        let (left_visible, left_hidden) = left_columns.split_at(left.visible);
        let (right_visible, right_hidden) = right_columns.split_at(right.visible);
        let columns: Vec<Expr> =
            [left_visible, right_visible, left_hidden, right_hidden].into_iter().flatten().cloned().collect();
        let visible = left.visible + right.visible;
        let moved_left = left.reasons.iter().map(|(column, hidden)| (*column, hidden + right.visible));
        let moved_right = right
            .reasons
            .iter()
            .map(|(column, hidden)| (left.visible + column, visible + left_hidden.len() + (hidden - right.visible)));
        let reasons = moved_left.chain(moved_right).collect();
        let joined = LogicalPlan::Join(Join::try_new(
            Arc::new(left.plan),
            Arc::new(right.plan),
            join.on.clone(),
            join.filter.clone(),
            join.join_type,
            join.join_constraint,
            join.null_equality,
            join.null_aware,
        )?);
        let plan = LogicalPlan::Projection(Projection::try_new(columns, Arc::new(joined))?);
        Ok(Lenient { plan, reasons, visible, ordered_by_marked: false })
    }

    fn union(&mut self, plan: &LogicalPlan, union: &Union) -> Result<Lenient> {
        let inputs = union.inputs.iter().map(|input| self.rewrite(input)).collect::<Result<Vec<_>>>()?;
        let marked: BTreeSet<usize> = inputs.iter().flat_map(|input| input.reasons.keys().copied()).collect();
        if marked.is_empty() {
            return Ok(Lenient::strict(plan));
        }
        let visible = union.schema.fields().len();
        let names: Vec<String> = marked.iter().map(|_| self.hidden_name()).collect();
        let reasons = marked.iter().enumerate().map(|(number, column)| (*column, visible + number)).collect();
        let mut aligned = Vec::with_capacity(inputs.len());
        for input in inputs {
            let all = input.columns();
            let mut columns = all[..input.visible].to_vec();
            for (column, name) in marked.iter().zip(&names) {
                let reason = input.reasons.get(column).map(|hidden| all[*hidden].clone());
                columns.push(reason.unwrap_or_else(|| lit(ScalarValue::Utf8(None))).alias(name));
            }
            aligned.push(Arc::new(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(input.plan))?)));
        }
        let plan = LogicalPlan::Union(Union::try_new_with_loose_types(aligned)?);
        Ok(Lenient { plan, reasons, visible, ordered_by_marked: false })
    }

    fn hidden_name(&mut self) -> String {
        self.hidden += 1;
        format!("{HIDDEN}{}", self.hidden)
    }
}

impl Lenient {
    /// The plan as it is, without a marked column.
    fn strict(plan: &LogicalPlan) -> Lenient {
        let visible = plan.schema().fields().len();
        Lenient { plan: plan.clone(), reasons: BTreeMap::new(), visible, ordered_by_marked: false }
    }

    fn schema(&self) -> &DFSchema {
        self.plan.schema()
    }

    /// Every column of the plan, as expressions of a node above it.
    fn columns(&self) -> Vec<Expr> {
        self.schema().iter().map(|(qualifier, field)| Expr::Column(Column::from((qualifier, field)))).collect()
    }

    /// The hidden columns of the marked columns that an expression reads.
    fn marked_columns(&self, expr: &Expr) -> Vec<Expr> {
        if self.reasons.is_empty() {
            return Vec::new();
        }
        let read: BTreeSet<usize> =
            expr.column_refs().into_iter().filter_map(|column| self.schema().maybe_index_of_column(column)).collect();
        let hidden: BTreeSet<usize> = read.iter().filter_map(|column| self.reasons.get(column).copied()).collect();
        hidden.into_iter().map(|position| Expr::Column(Column::from(self.schema().qualified_field(position)))).collect()
    }

    /// Whether an expression can see a marked column.
    fn marks(&self, expr: &Expr) -> bool {
        !self.reasons.is_empty() && (has_subquery(expr) || !self.marked_columns(expr).is_empty())
    }
}

/// Whether an expression has a query within.
pub(crate) fn has_subquery(expr: &Expr) -> bool {
    let mut found = false;
    let _ = expr.apply(|expr| {
        found |=
            matches!(expr, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_));
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}
