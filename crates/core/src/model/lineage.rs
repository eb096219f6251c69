//! Which columns of a model come from a column of a table: found by the SQL parser alone, from names.
//!
//! It is for messages. Two tables of one query that have a column of the same name are not told apart, and a column that
//! passes through a `with` query under another name is lost sight of there.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Query, Select, SelectItem, SetExpr, Statement, Visit, Visitor};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;

use super::Model;
use super::references::folded;

/// How a model uses a column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uses {
    /// The model's own columns that are made of it, sorted.
    pub columns: BTreeSet<String>,
    /// Whether it is named anywhere: also in a join, a filter or a query within.
    pub named: bool,
}

/// How a model uses a column of one of its inputs.
pub fn uses(model: &Model, column: &str) -> Uses {
    let mut found = Uses::default();
    let Ok(statements) = Parser::parse_sql(&GenericDialect {}, &model.sql) else { return found };
    if let [Statement::Query(query)] = statements.as_slice() {
        found.named = names(query.as_ref(), column);
        outputs(query, column, &mut found);
    }
    found
}

fn outputs(query: &Query, column: &str, found: &mut Uses) {
    let mut open = vec![query.body.as_ref()];
    while let Some(body) = open.pop() {
        match body {
            SetExpr::Select(select) => of_select(select, column, found),
            SetExpr::SetOperation { left, right, .. } => open.extend([left.as_ref(), right.as_ref()]),
            SetExpr::Query(inner) => open.push(inner.body.as_ref()),
            _ => {}
        }
    }
}

fn of_select(select: &Select, column: &str, found: &mut Uses) {
    for item in &select.projection {
        let made = match item {
            SelectItem::ExprWithAlias { expr, alias } if names(expr, column) => folded(alias),
            SelectItem::UnnamedExpr(expr) if last_name(expr).is_some_and(|name| name == column) => column.to_string(),
            SelectItem::UnnamedExpr(expr) if names(expr, column) => expr.to_string(),
            SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => column.to_string(),
            _ => continue,
        };
        found.named = true;
        found.columns.insert(made);
    }
}

fn last_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(folded(name)),
        Expr::CompoundIdentifier(names) => names.last().map(folded),
        _ => None,
    }
}

/// Whether a part of a query names the column.
fn names(part: &impl Visit, column: &str) -> bool {
    struct Search<'a>(&'a str);
    impl Visitor for Search<'_> {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if last_name(expr).is_some_and(|name| name == self.0) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        }
    }
    part.visit(&mut Search(column)).is_break()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql: &str, column: &str) -> (Vec<String>, bool) {
        let model = Model::parse("m", &format!("-- kind: fact\n-- key: id\n{sql}")).unwrap();
        let found = uses(&model, column);
        (found.columns.into_iter().collect(), found.named)
    }

    #[test]
    fn a_column_leads_to_the_columns_that_are_made_of_it() {
        let sql =
            "select p.id, amount * 2 as twice, p.amount, \"Amount\" as other from payment p where day > '2024-01-01'";
        assert_eq!(of(sql, "amount"), (vec!["amount".to_string(), "twice".to_string()], true));
        assert_eq!(of(sql, "Amount"), (vec!["other".to_string()], true));
        assert_eq!(of(sql, "day"), (vec![], true));
        assert_eq!(of(sql, "note"), (vec![], false));
        assert_eq!(of("select * from payment", "amount"), (vec!["amount".to_string()], true));
        assert_eq!(
            of("select id from a union all select amount as id from b", "amount"),
            (vec!["id".to_string()], true)
        );
        assert_eq!(of("with x as (select amount from a) select 1 as id from x", "amount"), (vec![], true));
        assert_eq!(of("select coalesce(amount, 0) from a", "amount"), (vec!["coalesce(amount, 0)".to_string()], true));
    }
}
