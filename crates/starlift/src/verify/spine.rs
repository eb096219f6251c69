//! The spine of a model: the one table whose rows are the model's rows, found from the SQL text alone.
//!
//! A model that selects from a table without dropping, grouping or multiplying its rows has one row for each of the
//! table's, and columns that it passes through unchanged must hold the table's values. That can be checked from lake
//! to warehouse without evaluating the model, so that a fault of the evaluation shows too.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Expr, GroupByExpr, Ident, JoinConstraint, JoinOperator, ObjectName, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, Statement, TableFactor, Visit, Visitor, WildcardAdditionalOptions,
};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;

/// The table that a model has one row for each row of, and what it passes through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spine {
    /// The table's name.
    pub(super) table: String,
    /// Columns that are passed through: the table's name of it, then the model's. An unqualified name may belong to a
    /// joined table; it is the spine's where the spine has such a column, else the query would be ambiguous.
    pub(super) pairs: Vec<(String, String)>,
    /// Whether every column of the table is passed through under its own name.
    pub(super) all_columns: bool,
    /// Inner joins: a row without a partner has no row in the model.
    pub(super) inner: Vec<InnerJoin>,
    /// Whether there are inner joins that [`Spine::inner`] cannot say, so that rows may be dropped for them.
    pub(super) may_drop: bool,
}

/// An inner join on one pair of columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InnerJoin {
    /// The spine's column.
    pub(super) column: String,
    /// The table that is joined.
    pub(super) table: String,
    /// Its column.
    pub(super) partner: String,
}

/// The spine of a model's query; none where it has no single one, or may drop or multiply its rows.
///
/// That is the case with WHERE, GROUP BY, HAVING, DISTINCT, QUALIFY, LIMIT, set operations, aggregates, `unnest`, and
/// joins other than LEFT and INNER. LEFT and INNER joins could multiply rows; the key of the model forbids that.
pub(super) fn spine(sql: &str) -> Option<Spine> {
    let statements = Parser::parse_sql(&GenericDialect {}, sql).ok()?;
    let [Statement::Query(query)] = statements.as_slice() else { return None };
    let select = plain_select(query)?;
    let [from] = select.from.as_slice() else { return None };
    let base = table(&from.relation)?;
    let mut spine =
        Spine { table: base.name.clone(), pairs: vec![], all_columns: false, inner: vec![], may_drop: false };
    for join in &from.joins {
        let joined = table(&join.relation);
        match &join.join_operator {
            JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => {}
            JoinOperator::Join(on) | JoinOperator::Inner(on) => {
                match joined.and_then(|joined| inner_join(on, &base, &joined)) {
                    Some(inner) => spine.inner.push(inner),
                    None => spine.may_drop = true,
                }
            }
            _ => return None,
        }
    }
    for item in &select.projection {
        match item {
            SelectItem::UnnamedExpr(expr) => {
                spine.pairs.extend(column_of(expr, &base).map(|column| (column.clone(), column)));
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                spine.pairs.extend(column_of(expr, &base).map(|column| (column, folded(alias))));
            }
            SelectItem::Wildcard(options) => spine.all_columns |= from.joins.is_empty() && is_plain(options),
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                spine.all_columns |= is_plain(options) && single(name).is_some_and(|name| name == base.alias);
            }
            _ => return None,
        }
    }
    Some(spine)
}

/// The query's SELECT, where nothing in it can drop, group or multiply rows.
fn plain_select(query: &Query) -> Option<&Select> {
    let Query { with: None, body, limit_clause: None, fetch: None, pipe_operators, .. } = query else { return None };
    let SetExpr::Select(select) = body.as_ref() else { return None };
    let no_groups = matches!(&select.group_by, GroupByExpr::Expressions(by, with) if by.is_empty() && with.is_empty());
    let plain = pipe_operators.is_empty()
        && no_groups
        && select.distinct.is_none()
        && select.top.is_none()
        && select.selection.is_none()
        && select.prewhere.is_none()
        && select.having.is_none()
        && select.qualify.is_none()
        && select.connect_by.is_empty()
        && select.lateral_views.is_empty()
        && select.exclude.is_none();
    // Without GROUP BY, an aggregate makes one row of all; `unnest` makes many of one.
    let changes_rows = select.projection.visit(&mut RowChanges).is_break();
    (plain && !changes_rows).then_some(select)
}

/// Stops at any call of a function whose result is not one value for one row, as far as its name tells.
struct RowChanges;

impl Visitor for RowChanges {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        const NAMES: [&str; 14] = [
            "count",
            "sum",
            "avg",
            "min",
            "max",
            "mean",
            "median",
            "array_agg",
            "string_agg",
            "bool_and",
            "bool_or",
            "first_value",
            "last_value",
            "unnest",
        ];
        match expr {
            Expr::Function(call) if call.over.is_none() => match single(&call.name) {
                Some(name) if NAMES.contains(&name.as_str()) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            },
            _ => ControlFlow::Continue(()),
        }
    }
}

struct Table {
    name: String,
    /// What columns are qualified with.
    alias: String,
}

fn table(factor: &TableFactor) -> Option<Table> {
    let TableFactor::Table { name, alias, args: None, sample: None, .. } = factor else { return None };
    let name = single(name)?;
    let alias = match alias {
        Some(alias) if alias.columns.is_empty() => folded(&alias.name),
        Some(_) => return None,
        None => name.clone(),
    };
    Some(Table { name, alias })
}

fn inner_join(on: &JoinConstraint, base: &Table, joined: &Table) -> Option<InnerJoin> {
    let (column, partner) = match on {
        JoinConstraint::Using(names) => match names.as_slice() {
            [name] => single(name).map(|name| (name.clone(), name))?,
            _ => return None,
        },
        JoinConstraint::On(expr) => {
            let Expr::BinaryOp { left, op: BinaryOperator::Eq, right } = unnested(expr) else { return None };
            let (left, right) = (qualified(left)?, qualified(right)?);
            let (ours, theirs) = if left.0 == base.alias { (left, right) } else { (right, left) };
            if ours.0 != base.alias || theirs.0 != joined.alias {
                return None;
            }
            (ours.1, theirs.1)
        }
        _ => return None,
    };
    Some(InnerJoin { column, table: joined.name.clone(), partner })
}

/// The name of a plain column reference that can be the base's.
fn column_of(expr: &Expr, base: &Table) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(folded(name)),
        _ => qualified(expr).filter(|(alias, _)| *alias == base.alias).map(|(_, column)| column),
    }
}

fn qualified(expr: &Expr) -> Option<(String, String)> {
    match unnested(expr) {
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [alias, column] => Some((folded(alias), folded(column))),
            _ => None,
        },
        _ => None,
    }
}

fn unnested(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => unnested(inner),
        _ => expr,
    }
}

fn single(name: &ObjectName) -> Option<String> {
    match name.0.as_slice() {
        [part] => part.as_ident().map(folded),
        _ => None,
    }
}

fn is_plain(options: &WildcardAdditionalOptions) -> bool {
    options.opt_ilike.is_none()
        && options.opt_exclude.is_none()
        && options.opt_except.is_none()
        && options.opt_replace.is_none()
        && options.opt_rename.is_none()
        && options.opt_alias.is_none()
}

/// Unquoted names fold to lower case, as in PostgreSQL and DataFusion.
fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
    }

    #[test]
    fn a_fact_passes_plain_and_renamed_columns_through() {
        let spine = spine(
            "select sales_order_id, created_at::date as created_date, Staff_ID as sales_staff_id, \
             parse_date(agreed_payment_date) as agreed_payment_date, \"Odd\" from sales_order order by 1",
        )
        .unwrap();
        assert_eq!(spine.table, "sales_order");
        let expected = pairs(&[("sales_order_id", "sales_order_id"), ("staff_id", "sales_staff_id"), ("Odd", "Odd")]);
        assert_eq!(spine.pairs, expected);
        assert!(spine.inner.is_empty() && !spine.may_drop && !spine.all_columns);
    }

    #[test]
    fn a_dimension_over_a_join_names_what_the_join_may_drop() {
        let spine = spine(
            "select s.staff_id, s.first_name as name, d.department_name, coalesce(d.location, '') as location \
             from staff s join department d on (d.department_id = s.department_id)",
        )
        .unwrap();
        assert_eq!(spine.pairs, pairs(&[("staff_id", "staff_id"), ("first_name", "name")]));
        let join =
            InnerJoin { column: "department_id".into(), table: "department".into(), partner: "department_id".into() };
        assert_eq!((spine.inner, spine.may_drop), (vec![join], false));
    }

    #[test]
    fn left_joins_drop_nothing_and_odd_inner_joins_may() {
        assert!(!spine("select a.x from a left join b on a.x > b.x").unwrap().may_drop);
        let using = spine("select x from a inner join b using (x)").unwrap();
        assert_eq!(using.inner, [InnerJoin { column: "x".into(), table: "b".into(), partner: "x".into() }]);
        for sql in [
            "select a.x from a join b on a.x > b.x",
            "select a.x from a join b on a.x = b.x and a.y = b.y",
            "select a.x from a join (select 1 as x) b on a.x = b.x",
            "select a.x from a left join b on a.y = b.y join c on b.x = c.x",
        ] {
            assert!(spine(sql).unwrap().may_drop, "{sql}");
        }
    }

    #[test]
    fn a_star_passes_every_column_of_its_table() {
        assert!(spine("select * from design").unwrap().all_columns);
        assert!(spine("select d.*, 1 as one from design d").unwrap().all_columns);
        assert!(!spine("select b.* from a left join b using (x)").unwrap().all_columns);
        assert!(!spine("select * exclude (x) from a").unwrap().all_columns);
    }

    #[test]
    fn whatever_drops_groups_or_multiplies_rows_has_no_spine() {
        for sql in [
            "select x from a where x > 1",
            "select x from a group by x",
            "select distinct x from a",
            "select x from a limit 5",
            "select x from a fetch first 5 rows only",
            "select x from a union all select x from b",
            "select max(x) as x from a",
            "select unnest(x) as x from a",
            "select a.x from a, b",
            "select a.x from a cross join b",
            "select a.x from a right join b using (x)",
            "select a.x from a full join b using (x)",
            "with a as (select 1 as x) select x from a",
            "select x from (select 1 as x) a",
            "select x from s.a",
            "select x from generate_series(1, 2)",
            "no sql",
            "",
        ] {
            assert_eq!(spine(sql), None, "{sql}");
        }
    }
}
