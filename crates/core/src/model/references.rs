//! Which tables a query reads, by the SQL parser alone: ingest needs it and has no engine.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{Query, Statement, TableFactor, Visit, Visitor};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;

use super::depth::{DEEPEST, is_too_deep};

use crate::error::{Error, Result};

/// The names of the tables, seeds and models that a model's query reads, sorted. Names of `with` queries are left out.
///
/// Errors: Config where the text does not parse, or is anything but one query.
pub fn referenced_tables(model: &str, sql: &str) -> Result<Vec<String>> {
    let bad = |detail: String| {
        Error::config(format!("model `{model}` cannot be read"))
            .with_detail(detail)
            .with_hint(format!("mend `{model}.sql`: it holds one `select` in the dialect of DataFusion"))
            .with_context("model", model)
    };
    if is_too_deep(sql) {
        return Err(bad(format!("it has more than {DEEPEST} operators, joins or unions one upon another")).with_hint(
            "write a long chain as `in (…)`, `case`, `concat(…)` or `coalesce(…)`, or divide it between models",
        ));
    }
    let statements = Parser::parse_sql(&GenericDialect {}, sql).map_err(|e| bad(e.to_string()))?;
    let [Statement::Query(query)] = statements.as_slice() else {
        return Err(bad("it is not one `select` query".into()));
    };
    let mut names = Names::default();
    let _ = query.visit(&mut names);
    if let Some(name) = names.qualified {
        return Err(bad(format!("it names `{name}`; tables are named without a schema")));
    }
    Ok(names.tables.into_iter().collect())
}

#[derive(Default)]
struct Names {
    tables: BTreeSet<String>,
    scopes: Vec<Scope>,
    qualified: Option<String>,
}

/// A query that is being visited, and the `with` names that its parts see.
struct Scope {
    query: *const Query,
    visible: BTreeSet<String>,
    /// A name that is not recursive is seen after its own query, not in it: `with t as (select * from t)` reads a table.
    after: Vec<(*const Query, String)>,
}

impl Visitor for Names {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let mut scope = Scope { query: std::ptr::from_ref(query), visible: BTreeSet::new(), after: Vec::new() };
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let name = folded(&cte.alias.name);
            if query.with.as_ref().is_some_and(|with| with.recursive) {
                scope.visible.insert(name);
            } else {
                scope.after.push((std::ptr::from_ref(cte.query.as_ref()), name));
            }
        }
        self.scopes.push(scope);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let ended = std::ptr::from_ref(query);
        while self.scopes.pop().is_some_and(|scope| scope.query != ended) {}
        if let Some(outer) = self.scopes.last_mut() {
            let seen = outer.after.iter().filter(|(query, _)| *query == ended).map(|(_, name)| name.clone());
            outer.visible.extend(seen);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        // A table with arguments is a table function.
        if let TableFactor::Table { name, args: None, .. } = factor {
            let parts: Vec<_> = name.0.iter().filter_map(|part| part.as_ident()).collect();
            match parts.as_slice() {
                [one] => {
                    let name = folded(one);
                    if !self.scopes.iter().any(|scope| scope.visible.contains(&name)) {
                        self.tables.insert(name);
                    }
                }
                _ => self.qualified = Some(name.to_string()),
            }
        }
        ControlFlow::Continue(())
    }
}

/// Unquoted names fold to lower case, as in PostgreSQL and DataFusion.
pub(super) fn folded(name: &sqlparser::ast::Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_that_no_stack_holds_is_refused_and_a_byte_order_mark_passed_over() {
        let text = |sql: &str| format!("\u{feff}-- kind: dimension\n-- key: id\n{sql}\n");
        let model = crate::model::Model::parse("dim_t", &text("select id from t")).unwrap();
        assert_eq!(
            (model.sql.as_str(), model.header.key.as_slice()),
            ("select id from t", ["id".to_string()].as_slice())
        );
        let chain = format!("select id, {}1 as x from t", "1 + ".repeat(20_000));
        let error = crate::model::Model::parse("dim_t", &text(&chain)).unwrap_err();
        assert_eq!(error.message(), "model `dim_t` cannot be read");
        assert!(error.detail().unwrap().contains("more than 500 operators"), "{error:?}");
    }

    #[test]
    fn a_with_name_hides_a_table_only_where_it_is_seen() {
        let reads = |sql: &str| referenced_tables("m", sql).unwrap();
        assert_eq!(reads("with a as (select * from b) select * from a join c on true"), ["b", "c"]);
        assert_eq!(reads("with a as (select * from a) select * from a"), ["a"]);
        assert_eq!(reads("with a as (select 1), b as (select * from a) select * from b"), [] as [&str; 0]);
        assert_eq!(reads("with a as (select * from b), b as (select 1) select * from a, b"), ["b"]);
        assert_eq!(reads("with recursive a as (select 1 union all select * from a) select * from a"), [] as [&str; 0]);
        assert_eq!(reads("select * from (with a as (select 1) select * from a) x join a on true"), ["a"]);
        assert_eq!(
            reads("with A as (select 1) select * from a where exists (select * from a join \"A\" on true)"),
            ["A"]
        );
    }
}
