//! Goes through a plan and finds its scans, the equalities between their columns, and where each column comes from.

use std::collections::BTreeSet;
use std::ops::Range;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, JoinType, NullEquality};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Join, LogicalPlan, Operator};

use crate::lenient::has_subquery;

/// A scan and the position of one of its columns.
pub(super) type Origin = (usize, usize);

/// What a plan's rows come from.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) scans: Vec<Scan>,
    pub(super) equalities: Vec<Equality>,
}

/// One reading of an input.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) name: String,
    /// The types of the input's columns.
    pub(super) types: Vec<DataType>,
    /// Whether it is a seed, which never changes while the model does not.
    pub(super) is_seed: bool,
    /// Whether its row may be missing from a row of the model.
    pub(super) is_optional: bool,
}

/// Two columns of different scans that are equal in every row of the plan in which neither row is missing.
#[derive(Debug)]
pub(super) struct Equality {
    pub(super) one: Origin,
    pub(super) other: Origin,
    /// Whether it is the condition of an outer join, where `one` is on the side whose row may be missing: rows that have
    /// `other` alone do not fulfil it.
    pub(super) is_outer: bool,
}

type Columns = Vec<Option<Origin>>;
type Why = String;

/// The trace of a plan, and the origin of each of its columns; none for one that is computed.
///
/// Errors: the first part of the plan that makes it no plan of joins, in words.
pub(super) fn trace(plan: &LogicalPlan, seeds: &BTreeSet<String>) -> Result<(Trace, Columns), Why> {
    let mut tracer = Tracer { seeds, trace: Trace::default() };
    let columns = tracer.node(plan)?;
    Ok((tracer.trace, columns))
}

struct Tracer<'a> {
    seeds: &'a BTreeSet<String>,
    trace: Trace,
}

impl Tracer<'_> {
    fn node(&mut self, plan: &LogicalPlan) -> Result<Columns, Why> {
        let mut subquery = false;
        let _ = plan.apply_expressions(|expr| {
            subquery |= has_subquery(expr);
            Ok(TreeNodeRecursion::Continue)
        });
        if subquery {
            return Err("it has a subquery".into());
        }
        match plan {
            LogicalPlan::TableScan(scan) => {
                if scan.fetch.is_some() || !scan.filters.is_empty() {
                    return Err("it has a limit".into());
                }
                let name = scan.table_name.table().to_string();
                let types: Vec<DataType> =
                    scan.source.schema().fields().iter().map(|field| field.data_type().clone()).collect();
                let read: Vec<usize> = scan.projection.clone().unwrap_or_else(|| (0..types.len()).collect());
                let is_seed = self.seeds.contains(&name);
                self.trace.scans.push(Scan { name, types, is_seed, is_optional: false });
                let number = self.trace.scans.len() - 1;
                Ok(read.into_iter().map(|column| Some((number, column))).collect())
            }
            LogicalPlan::SubqueryAlias(alias) => self.node(&alias.input),
            LogicalPlan::Projection(projection) => {
                let below = self.node(&projection.input)?;
                let schema = projection.input.schema();
                Ok(projection.expr.iter().map(|expr| origin(expr, schema, &below)).collect())
            }
            LogicalPlan::Filter(filter) => {
                let columns = self.node(&filter.input)?;
                for (one, other) in equal_columns(&filter.predicate, filter.input.schema(), &columns) {
                    self.equal(one, other, false);
                }
                Ok(columns)
            }
            // The order of a model's rows means nothing; which rows a limit keeps does.
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.node(&sort.input),
            LogicalPlan::Join(join) => self.join(join),
            other => Err(why_not(other).into()),
        }
    }

    fn join(&mut self, join: &Join) -> Result<Columns, Why> {
        let first = self.trace.scans.len();
        let mut columns = self.node(&join.left)?;
        let middle = self.trace.scans.len();
        let right = self.node(&join.right)?;
        let end = self.trace.scans.len();
        let optional = match join.join_type {
            JoinType::Inner => None,
            JoinType::Left => Some(middle..end),
            JoinType::Right => Some(first..middle),
            JoinType::Full => return Err("it has a full join".into()),
            _ => return Err("it has a semi or anti join".into()),
        };
        for scan in optional.clone().unwrap_or_default() {
            let Some(scan) = self.trace.scans.get_mut(scan) else { continue };
            if std::mem::replace(&mut scan.is_optional, true) {
                return Err("it has an outer join on the optional side of another".into());
            }
        }
        let mut equal: Vec<(Origin, Origin)> = Vec::new();
        if join.null_equality == NullEquality::NullEqualsNothing {
            let pair = |(one, other): &(Expr, Expr)| {
                Some((origin(one, join.left.schema(), &columns)?, origin(other, join.right.schema(), &right)?))
            };
            equal.extend(join.on.iter().filter_map(pair));
        }
        columns.extend(right);
        if let Some(filter) = &join.filter {
            equal.extend(equal_columns(filter, &join.schema, &columns));
        }
        for (one, other) in equal {
            match &optional {
                None => self.equal(one, other, false),
                Some(optional) => self.equal_where_matched(one, other, optional),
            }
        }
        Ok(columns)
    }

    /// The condition of an outer join: what it says of one side alone holds for some rows of that side only.
    fn equal_where_matched(&mut self, one: Origin, other: Origin, optional: &Range<usize>) {
        match (optional.contains(&one.0), optional.contains(&other.0)) {
            (true, false) => self.equal(one, other, true),
            (false, true) => self.equal(other, one, true),
            _ => {}
        }
    }

    fn equal(&mut self, one: Origin, other: Origin, is_outer: bool) {
        let type_of = |(scan, column): Origin| {
            self.trace.scans.get(scan).filter(|scan| !scan.is_seed).and_then(|scan| scan.types.get(column))
        };
        let (Some(left), Some(right)) = (type_of(one), type_of(other)) else { return };
        let whole = |data_type: &DataType| data_type.is_signed_integer();
        if one.0 != other.0 && (left == right || (whole(left) && whole(right))) {
            self.trace.equalities.push(Equality { one, other, is_outer });
        }
    }
}

/// Where a plain column comes from.
fn origin(expr: &Expr, schema: &DFSchema, columns: &Columns) -> Option<Origin> {
    match expr {
        Expr::Alias(alias) => origin(&alias.expr, schema, columns),
        Expr::Column(column) => columns.get(schema.maybe_index_of_column(column)?).copied().flatten(),
        _ => None,
    }
}

/// The pairs of plain columns that have to be equal for a condition to hold.
fn equal_columns(condition: &Expr, schema: &DFSchema, columns: &Columns) -> Vec<(Origin, Origin)> {
    let pair = |expr: &Expr| match expr {
        Expr::BinaryExpr(binary) if binary.op == Operator::Eq => {
            Some((origin(&binary.left, schema, columns)?, origin(&binary.right, schema, columns)?))
        }
        _ => None,
    };
    split_conjunction(condition).into_iter().filter_map(pair).collect()
}

fn why_not(plan: &LogicalPlan) -> &'static str {
    match plan {
        LogicalPlan::Aggregate(_) => "it groups rows",
        LogicalPlan::Distinct(_) => "it leaves out equal rows",
        LogicalPlan::Window(_) => "it has a window function",
        LogicalPlan::Limit(_) | LogicalPlan::Sort(_) => "it has a limit",
        LogicalPlan::Union(_) => "it unites queries",
        LogicalPlan::Unnest(_) => "it unnests lists",
        LogicalPlan::Subquery(_) => "it has a subquery",
        LogicalPlan::RecursiveQuery(_) => "it is recursive",
        LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => "it has rows of its own",
        _ => "its plan is not one of joins",
    }
}
