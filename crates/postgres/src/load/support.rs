//! What load needs beside the tables: the schema `starlift` with its three tables, an index on (key, record id) of each
//! fact, the views, and the privileges of our role.
//!
//! Guarantees: a load that finds everything in place changes no catalog and takes no exclusive lock. What is missing is
//! made in the load's own transaction, so a load that fails leaves nothing of it behind.

use std::collections::BTreeMap;

use starlift_core::model::ModelKind;
use starlift_core::{Error, ErrorKind, Result};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::model::{LoadLimits, ModelTable};
use super::pair::Pair;
use super::session::{begin, execute, query, run, value};
use super::{retraction, view};
use crate::ident::{quote_ident, quote_idents, quote_qualified};
use crate::sqlstate::{classify, sqlstate_of};

const LEDGER: &str = "\
create table starlift.ledger (
    pipeline text not null,
    star_id text not null,
    seq bigint not null,
    manifest_sha256 text not null,
    run_id text not null,
    rows jsonb not null,
    started_at timestamptz,
    loaded_at timestamptz not null default clock_timestamp(),
    primary key (pipeline, star_id, seq)
);";
const RETRACTED: &str = "\
create table starlift.retracted (
    pipeline text not null,
    model text not null,
    key jsonb not null,
    seq bigint not null,
    primary key (pipeline, model, key)
);";
const REFUSED: &str = "\
create table starlift.refused (
    pipeline text not null,
    model text not null,
    key jsonb not null,
    column_name text not null,
    reason text not null,
    value text,
    waits_for text,
    shape text,
    run_id text not null,
    seq bigint not null,
    refused_at timestamptz not null default clock_timestamp(),
    primary key (pipeline, model, key)
);";
/// The tables of the schema `starlift`, each with its statement.
pub(crate) const TABLES: [(&str, &str); 3] = [("ledger", LEDGER), ("retracted", RETRACTED), ("refused", REFUSED)];
const READ: &str = "cannot read the catalog of the warehouse";

/// A statement that makes a missing part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What it makes, for people: "view `current_dim_staff`".
    pub object: String,
    /// The statement, with its semicolon.
    pub sql: String,
    /// Whether it grants our role something, so that only somebody else can run it.
    pub is_grant: bool,
    /// Whether it makes an index, which takes time.
    pub(crate) is_index: bool,
    /// The view that it replaces, quoted.
    replaces: Option<String>,
}

impl Statement {
    fn create(object: impl Into<String>, sql: impl Into<String>) -> Statement {
        Statement { object: object.into(), sql: sql.into(), is_grant: false, is_index: false, replaces: None }
    }

    fn grant(object: impl Into<String>, sql: impl Into<String>) -> Statement {
        Statement { is_grant: true, ..Statement::create(object, sql) }
    }

    /// Runs it; `missing` is all that is missing beside it.
    pub(crate) async fn make(&self, client: &Client, missing: &Missing) -> Result<()> {
        let made = run(client, &self.sql, &format!("cannot make {}", self.object)).await;
        made.map_err(|error| match (error.kind(), sqlstate_of(&error), &self.replaces) {
            (ErrorKind::Permission, _, _) => missing.refusal(&self.object),
            // Columns that are gone, or of another type.
            (_, Some("42P16"), Some(view)) => error.with_hint(format!(
                "let the owner run `drop view {view};`: load makes the view again, and grants on it have to be given again"
            )),
            _ => error,
        })
    }
}

/// What the warehouse lacks for these models, as statements in the order in which they are to be run.
///
/// # Errors
/// Config for a table that is missing or does not go with its model, and for a view of somebody else that has the name
/// of one of ours.
pub async fn missing_support(
    client: &mut Client,
    pipeline: &str,
    schema: &str,
    models: &[ModelTable],
) -> Result<Vec<Statement>> {
    let transaction = begin(client, schema, LoadLimits::default()).await?;
    let models: Vec<ModelTable> = models.iter().cloned().map(ModelTable::with_keys_that_compare).collect();
    let models: Vec<&ModelTable> = models.iter().collect();
    let tables = super::checked_tables(transaction.client(), schema, &models).await?;
    let missing = missing(transaction.client(), pipeline, schema, &super::pairs(&models, &tables)).await?;
    transaction.rollback().await.map_err(|e| classify(e, READ))?;
    Ok(missing.statements)
}

/// Makes what [`missing_support`] lists, in one transaction; returns what was made.
///
/// # Errors
/// As [`missing_support`]; Permission, with the statements for an owner in the hint, where our role may not.
pub async fn create_support(
    client: &mut Client,
    pipeline: &str,
    schema: &str,
    models: &[ModelTable],
) -> Result<Vec<Statement>> {
    let transaction = begin(client, schema, LoadLimits::default()).await?;
    let models: Vec<ModelTable> = models.iter().cloned().map(ModelTable::with_keys_that_compare).collect();
    let models: Vec<&ModelTable> = models.iter().collect();
    let tables = super::checked_tables(transaction.client(), schema, &models).await?;
    let pairs = super::pairs(&models, &tables);
    let made = complete(transaction.client(), pipeline, schema, &pairs).await?;
    write_anew(transaction.client(), pipeline, &pairs).await?;
    transaction.commit().await.map_err(|e| classify(e, "cannot commit what load needs in the warehouse"))?;
    Ok(made)
}

/// Makes what is missing inside the caller's transaction; returns what was made.
pub(crate) async fn complete(
    client: &Client,
    pipeline: &str,
    schema: &str,
    pairs: &[Pair<'_>],
) -> Result<Vec<Statement>> {
    // Pipelines have locks of their own; two first loads must not make the schema at the same time.
    let lock = "select pg_advisory_xact_lock(hashtextextended('starlift support', 0))";
    execute(client, lock, &[], "cannot lock the schema starlift").await?;
    let missing = missing(client, pipeline, schema, pairs).await?;
    missing.refuse_grants()?;
    for statement in &missing.statements {
        statement.make(client, &missing).await?;
        tracing::info!(object = %statement.object, "made in the warehouse");
    }
    Ok(missing.statements)
}

/// Writes the retractions of earlier versions in the form that the views of today compare with. It is for after [`complete`].
pub(crate) async fn write_anew(client: &Client, pipeline: &str, pairs: &[Pair<'_>]) -> Result<()> {
    for pair in pairs.iter().filter(|pair| pair.model.kind != ModelKind::Calendar) {
        retraction::write_anew(client, *pair, pipeline).await?;
    }
    Ok(())
}

/// What is missing, and the role that it is missing for.
pub(crate) struct Missing {
    /// In the order in which they are to be run.
    pub(crate) statements: Vec<Statement>,
    /// Our role, quoted.
    role: String,
}

impl Missing {
    /// The statements for an owner: what he makes in the schema `starlift` has to be opened to our role as well.
    fn for_owner(&self) -> Vec<Statement> {
        let made = |object: &str| self.statements.iter().any(|s| !s.is_grant && s.object == object);
        let role = &self.role;
        let mut all = self.statements.clone();
        if made("schema `starlift`") {
            let sql = format!("grant usage on schema starlift to {role};");
            all.push(Statement::grant("the use of schema `starlift`", sql));
        }
        for (table, _) in TABLES {
            if made(&format!("table `starlift.{table}`")) {
                let sql = format!("grant select, insert, update, delete on starlift.{table} to {role};");
                all.push(Statement::grant(format!("the use of `starlift.{table}`"), sql));
            }
        }
        all
    }

    /// Stops where our role lacks a privilege, which it cannot give to itself.
    pub(crate) fn refuse_grants(&self) -> Result<()> {
        match self.statements.iter().find(|s| s.is_grant) {
            Some(grant) => Err(self.refusal(&grant.object)),
            None => Ok(()),
        }
    }

    pub(crate) fn refusal(&self, object: &str) -> Error {
        let sql: Vec<String> = self.for_owner().into_iter().map(|s| s.sql).collect();
        Error::new(ErrorKind::Permission, "our role in the warehouse lacks something and may not make it")
            .with_detail(format!("it stopped at {object}"))
            .with_hint(format!("let an owner run, in this order:\n{}", sql.join("\n")))
    }
}

/// Reads the catalog and lists what is missing.
pub(crate) async fn missing(client: &Client, pipeline: &str, schema: &str, pairs: &[Pair<'_>]) -> Result<Missing> {
    let role: String = value(client, "select quote_ident(current_user)", READ).await?;
    let mut statements = missing_in_starlift(client, &role).await?;
    for pair in pairs {
        statements.extend(missing_index(*pair));
    }
    statements.extend(missing_views(client, pipeline, schema, pairs).await?);
    statements.extend(missing_grants(client, &role, schema, pairs).await?);
    Ok(Missing { statements, role })
}

async fn missing_in_starlift(client: &Client, role: &str) -> Result<Vec<Statement>> {
    let sql = "select n.oid is not null, coalesce(has_schema_privilege(n.oid, 'USAGE'), false), \
                      array(select c.relname::text from pg_class c where c.relnamespace = n.oid and c.relname = any ($1)), \
                      array(select p from unnest(array['select', 'insert', 'update', 'delete']) p \
                            where exists (select from pg_class c where c.relnamespace = n.oid and c.relname = any ($1) \
                                          and not has_table_privilege(c.oid, p))) \
               from (select 1) one left join pg_namespace n on n.nspname = 'starlift'";
    let names: Vec<&str> = TABLES.iter().map(|(name, _)| *name).collect();
    let rows = query(client, sql, &[(&names, Type::TEXT_ARRAY)], READ).await?;
    let Some(row) = rows.first() else { return Ok(Vec::new()) };
    let flag = |position: usize| row.try_get::<_, bool>(position).map_err(|e| classify(e, READ));
    let (schema, usable) = (flag(0)?, flag(1)?);
    let existing: Vec<String> = row.try_get(2).map_err(|e| classify(e, READ))?;
    let lacking: Vec<String> = row.try_get(3).map_err(|e| classify(e, READ))?;
    let mut statements = Vec::new();
    if !schema {
        statements.push(Statement::create("schema `starlift`", "create schema starlift;"));
    } else if !usable {
        let sql = format!("grant usage on schema starlift to {role};");
        statements.push(Statement::grant("the use of schema `starlift`", sql));
    }
    for (table, create) in TABLES.iter().filter(|(name, _)| !existing.iter().any(|known| known == name)) {
        statements.push(Statement::create(format!("table `starlift.{table}`"), *create));
    }
    if !lacking.is_empty() {
        let tables: Vec<String> = existing.iter().map(|name| format!("starlift.{name}")).collect();
        let sql = format!("grant {} on {} to {role};", lacking.join(", "), tables.join(", "));
        statements.push(Statement::grant("the use of the tables of schema `starlift`", sql));
    }
    Ok(statements)
}

fn missing_index(pair: Pair<'_>) -> Option<Statement> {
    let record_id = pair.target.record_id().filter(|_| pair.model.kind == ModelKind::Fact)?;
    let key = &pair.model.schema.key;
    if pair.target.has_version_index(key, &record_id.name) {
        return None;
    }
    let name = view::object_name(&format!("{}_version_idx", pair.target.name));
    let columns = quote_idents(key.iter().map(String::as_str).chain([record_id.name.as_str()]));
    let sql = format!("create index if not exists {} on {} ({columns});", quote_ident(&name), pair.table());
    Some(Statement { is_index: true, ..Statement::create(format!("index `{name}`"), sql) })
}

/// What stands in the schema under the name of a view.
struct Existing {
    kind: String,
    comment: Option<String>,
    columns: Vec<String>,
    /// The tables that it reads, if it is a view.
    reads: Vec<u32>,
}

async fn missing_views(client: &Client, pipeline: &str, schema: &str, pairs: &[Pair<'_>]) -> Result<Vec<Statement>> {
    let names: Vec<String> = pairs.iter().map(|p| view::view_name(&p.model.name)).collect();
    let sql = "select c.relname::text, c.relkind::text, obj_description(c.oid, 'pg_class'), \
                      array(select a.attname::text from pg_attribute a \
                            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum), \
                      array(select distinct d.refobjid from pg_rewrite w join pg_depend d \
                              on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid and d.refclassid = 'pg_class'::regclass \
                            where w.ev_class = c.oid) \
               from pg_class c where c.relnamespace = (select oid from pg_namespace where nspname = $1) and c.relname = any ($2)";
    let rows = query(client, sql, &[(&schema, Type::TEXT), (&names, Type::TEXT_ARRAY)], READ).await?;
    let mut existing: BTreeMap<String, Existing> = BTreeMap::new();
    for row in rows {
        let read = |e| classify(e, READ);
        let found = Existing {
            kind: row.try_get(1).map_err(read)?,
            comment: row.try_get(2).map_err(read)?,
            columns: row.try_get(3).map_err(read)?,
            reads: row.try_get(4).map_err(read)?,
        };
        existing.insert(row.try_get(0).map_err(read)?, found);
    }
    let mut statements = Vec::new();
    for (pair, name) in pairs.iter().zip(names) {
        let model = &pair.model.name;
        let definition = view::definition(*pair, pipeline);
        match existing.get(&name) {
            Some(found) if found.kind != "v" || !view::is_ours(found.comment.as_deref()) => {
                return Err(Error::config(format!("`{name}` in the warehouse is not a view of starlift"))
                    .with_detail(format!("the current rows of model `{model}` are to be seen under this name"))
                    .with_hint(format!("rename it, such as `alter view {} rename to …;`, and run again", {
                        quote_qualified(schema, &name)
                    }))
                    .with_context("model", model.clone()));
            }
            Some(found) if found.comment == Some(view::comment(model, &definition)) => {}
            found => {
                let view = quote_qualified(schema, &name);
                let columns: Vec<&str> = pair.target.columns.iter().map(|c| c.name.as_str()).collect();
                // Of another table, such as one that was put away under another name, the columns in the same places are not the same.
                let own = found.filter(|found| found.reads.contains(&pair.target.oid));
                let mut sql = own.map_or_else(Vec::new, |own| view::renames(&view, &own.columns, &columns));
                sql.push(view::create_sql(schema, model, &definition));
                let made = Statement::create(format!("view `{name}`"), sql.join("\n"));
                statements.push(Statement { replaces: found.map(|_| view), ..made });
            }
        }
    }
    Ok(statements)
}

/// The grants that our role lacks on these tables and their schema.
pub(crate) async fn missing_grants_on(client: &Client, schema: &str, pairs: &[Pair<'_>]) -> Result<Vec<Statement>> {
    let role: String = value(client, "select quote_ident(current_user)", READ).await?;
    missing_grants(client, &role, schema, pairs).await
}

async fn missing_grants(client: &Client, role: &str, schema: &str, pairs: &[Pair<'_>]) -> Result<Vec<Statement>> {
    let temporary: bool = value(client, "select has_database_privilege(current_database(), 'TEMP')", READ).await?;
    let database: String = value(client, "select quote_ident(current_database())", READ).await?;
    let sql = "select has_schema_privilege(oid, 'USAGE') from pg_namespace where nspname = $1";
    let rows = query(client, sql, &[(&schema, Type::TEXT)], READ).await?;
    let usable: bool = rows.first().map_or(Ok(true), |row| row.try_get(0)).map_err(|e| classify(e, READ))?;
    let mut statements = Vec::new();
    if !usable {
        let sql = format!("grant usage on schema {} to {role};", quote_ident(schema));
        statements.push(Statement::grant(format!("the use of schema `{schema}`"), sql));
    }
    if !temporary {
        let sql = format!("grant temporary on database {database} to {role};");
        statements.push(Statement::grant("the right to make temporary tables", sql));
    }
    for pair in pairs {
        // A fact is only appended to.
        let needed = |p: &&String| p.as_str() != "update" || pair.model.kind != ModelKind::Fact;
        let lacking: Vec<&str> = pair.target.lacking.iter().filter(needed).map(String::as_str).collect();
        if !lacking.is_empty() {
            let sql = format!("grant {} on {} to {role};", lacking.join(", "), pair.table());
            statements.push(Statement::grant(format!("privileges on table `{}`", pair.target.name), sql));
        }
        // The last number of an identity is asked for where versions are appended.
        let identity = pair.target.locked_identity.as_ref().filter(|_| pair.model.kind == ModelKind::Fact);
        for sequence in pair.target.locked_sequence.iter().chain(identity) {
            let sql = format!("grant usage on sequence {sequence} to {role};");
            statements.push(Statement::grant(format!("the sequence of table `{}`", pair.target.name), sql));
        }
    }
    Ok(statements)
}
