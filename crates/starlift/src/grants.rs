//! The two roles that a pipeline needs, each with the least that it can do its work with, as SQL for an owner to run.

use std::collections::BTreeSet;

use starlift_core::model::{Model, ModelKind};
use starlift_postgres::ident::{quote_ident, quote_literal, quote_qualified};
use starlift_postgres::load::owned_sequences;

use crate::config::Side;
use crate::context::Context;
use crate::ingest::look;

/// The names that the statements give to the roles.
pub const READER: &str = "starlift_reader";
/// See [`READER`].
pub const LOADER: &str = "starlift_loader";

/// Statements for the owners of the two databases, in the order in which they are to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    /// In the source.
    pub source: Vec<String>,
    /// In the warehouse, after the first ingest and `warehouse create`.
    pub warehouse: Vec<String>,
}

/// The statements for this project. Where a database can be asked, with whatever role, they name its tables and sequences
/// one by one.
pub async fn grants(ctx: &Context) -> Grants {
    let tables =
        look(ctx, None).await.ok().map(|seen| seen.selection.tables().into_iter().collect::<BTreeSet<String>>());
    let (schema, models) = (&ctx.config.warehouse.schema, ctx.project.graph.models());
    let sequences = match ctx.connect(Side::Warehouse).await {
        Ok(connection) => owned_sequences(connection.client(), schema, &facts(models)).await.ok(),
        Err(_) => None,
    };
    Grants {
        source: source(&ctx.config.source.database.schema, tables.as_ref()),
        warehouse: warehouse(schema, models, sequences.as_deref()),
    }
}

fn facts(models: &[Model]) -> Vec<String> {
    models.iter().filter(|m| m.header.kind == ModelKind::Fact).map(|m| m.name.clone()).collect()
}

fn source(schema: &str, tables: Option<&BTreeSet<String>>) -> Vec<String> {
    let on = match tables {
        Some(tables) => tables.iter().map(|table| quote_qualified(schema, table)).collect::<Vec<_>>().join(", "),
        None => format!("all tables in schema {}", quote_ident(schema)),
    };
    vec![
        format!("create role {READER} login nosuperuser nocreatedb nocreaterole noreplication nobypassrls;"),
        // A guard, not a right: the role could take it back for its own session, and can write nothing all the same.
        format!("alter role {READER} set default_transaction_read_only = on;"),
        on_this_database("connect", READER),
        format!("grant usage on schema {} to {READER};", quote_ident(schema)),
        format!("grant select on {on} to {READER};"),
    ]
}

fn warehouse(schema: &str, models: &[Model], sequences: Option<&[String]>) -> Vec<String> {
    let of = |is_wanted: &dyn Fn(ModelKind) -> bool| {
        let wanted = models.iter().filter(|model| is_wanted(model.header.kind));
        wanted.map(|model| quote_qualified(schema, &model.name)).collect::<Vec<_>>().join(", ")
    };
    let facts = of(&|kind| kind == ModelKind::Fact);
    let others = of(&|kind| kind != ModelKind::Fact);
    let mut statements = vec![
        format!("create role {LOADER} login nosuperuser nocreatedb nocreaterole noreplication nobypassrls;"),
        on_this_database("connect, temporary", LOADER),
        format!("grant usage on schema {}, starlift to {LOADER};", quote_ident(schema)),
        format!(
            "grant select, insert, update, delete on starlift.ledger, starlift.retracted, starlift.refused to {LOADER};"
        ),
    ];
    if !others.is_empty() {
        statements.push(format!("grant select, insert, update on {others} to {LOADER};"));
    }
    if !facts.is_empty() {
        // A fact is only appended to.
        statements.push(format!("grant select, insert on {facts} to {LOADER};"));
        // Those that record ids come from.
        match sequences {
            Some([]) => {}
            Some(named) => statements.push(format!("grant usage on sequence {} to {LOADER};", named.join(", "))),
            None => {
                let schema = quote_ident(schema);
                statements.push(format!("grant usage on all sequences in schema {schema} to {LOADER};"));
            }
        }
    }
    statements
}

/// `GRANT … ON DATABASE` takes no expression for its name.
fn on_this_database(privileges: &str, role: &str) -> String {
    format!(
        "do $$ begin execute format('grant {privileges} on database %I to %I', current_database(), {}); end $$;",
        quote_literal(role)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_named_where_they_are_known_and_quoted() {
        let tables = BTreeSet::from(["Order".to_string(), "payment".to_string()]);
        let named = source("sales", Some(&tables));
        assert_eq!(
            named.last().map(String::as_str),
            Some("grant select on \"sales\".\"Order\", \"sales\".\"payment\" to starlift_reader;")
        );
        let all = source("sales", None);
        assert_eq!(
            all.last().map(String::as_str),
            Some("grant select on all tables in schema \"sales\" to starlift_reader;")
        );
    }

    #[test]
    fn a_project_without_models_has_no_tables_to_grant() {
        assert!(warehouse("public", &[], None).iter().all(|statement| !statement.contains("on  to")));
    }
}
