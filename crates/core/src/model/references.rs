//! Which tables a query reads, by the SQL parser alone: ingest needs it and has no engine.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{Query, Statement, TableFactor, Visit, Visitor};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;

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
    let statements = Parser::parse_sql(&GenericDialect {}, sql).map_err(|e| bad(e.to_string()))?;
    let [Statement::Query(query)] = statements.as_slice() else {
        return Err(bad("it is not one `select` query".into()));
    };
    let mut names = Names::default();
    let _ = query.visit(&mut names);
    if let Some(name) = names.qualified {
        return Err(bad(format!("it names `{name}`; tables are named without a schema")));
    }
    Ok(names.tables.difference(&names.queries).cloned().collect())
}

#[derive(Default)]
struct Names {
    tables: BTreeSet<String>,
    queries: BTreeSet<String>,
    qualified: Option<String>,
}

impl Visitor for Names {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let Some(with) = &query.with {
            self.queries.extend(with.cte_tables.iter().map(|cte| folded(&cte.alias.name)));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        // A table with arguments is a table function.
        if let TableFactor::Table { name, args: None, .. } = factor {
            let parts: Vec<_> = name.0.iter().filter_map(|part| part.as_ident()).collect();
            match parts.as_slice() {
                [one] => {
                    self.tables.insert(folded(one));
                }
                _ => self.qualified = Some(name.to_string()),
            }
        }
        ControlFlow::Continue(())
    }
}

/// Unquoted names fold to lower case, as in PostgreSQL and DataFusion.
fn folded(name: &sqlparser::ast::Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}
