//! The two ordinary roles of a pipeline: one that reads the source, one that loads the warehouse.

use starlift_core::Result;
use tokio_postgres::Client;

use super::oracle::STAR_TABLES;
use super::rows::quote_literal;
use super::schema::SOURCE_TABLES;
use crate::cluster::quote_identifier;
use crate::failure;

/// Creates, or resets, a role that may log in and read the tables of the source in the client's database: no slot,
/// plugin, trigger or other privilege. The client is a superuser's.
pub async fn create_reader(client: &Client, role: &str, password: &str) -> Result<()> {
    let name = quote_identifier(role);
    let tables: Vec<String> =
        SOURCE_TABLES.iter().map(|(table, _)| format!("public.{}", quote_identifier(table))).collect();
    let mut sql = login_role(role, password);
    sql.push_str(&on_this_database("connect", role));
    sql.push_str(&format!(
        "alter role {name} set default_transaction_read_only = on; grant usage on schema public to {name}; \
         grant select on {} to {name};",
        tables.join(", ")
    ));
    run(client, &sql, role).await
}

/// Creates, or resets, a role that may log in and owns the warehouse: the schema `public` of the client's database and
/// the star tables in it. It may create the schema `starlift`. The client is a superuser's.
pub async fn create_loader(client: &Client, role: &str, password: &str) -> Result<()> {
    let name = quote_identifier(role);
    let mut sql = login_role(role, password);
    sql.push_str(&on_this_database("connect, create, temporary", role));
    sql.push_str(&format!("alter schema public owner to {name};"));
    for table in STAR_TABLES {
        sql.push_str(&format!("alter table if exists public.{table} owner to {name};"));
    }
    run(client, &sql, role).await
}

/// A role may exist already: roles belong to the cluster, not to the database.
fn login_role(role: &str, password: &str) -> String {
    let name = quote_identifier(role);
    let literal = quote_literal(role);
    format!(
        "do $$ begin if not exists (select from pg_roles where rolname = {literal}) then create role {name}; end if; end $$; \
         alter role {name} with login nosuperuser nocreatedb nocreaterole noreplication nobypassrls password {};",
        quote_literal(password)
    )
}

fn on_this_database(privileges: &str, role: &str) -> String {
    format!(
        "do $$ begin execute format('grant {privileges} on database %I to %I', current_database(), {}); end $$;",
        quote_literal(role)
    )
}

async fn run(client: &Client, sql: &str, role: &str) -> Result<()> {
    client.batch_execute(sql).await.map_err(|e| failure::postgres(format!("cannot create the role `{role}`"), e))
}
