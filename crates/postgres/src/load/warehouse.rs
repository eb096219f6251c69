//! `warehouse create` and `warehouse clear`: each in one transaction, so that a crash leaves all of it or nothing.

use std::collections::BTreeMap;

use starlift_core::model::ModelKind;
use starlift_core::{Error, ErrorKind, Result};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::ledger::exists_in_starlift;
use super::model::{LoadLimits, ModelTable};
use super::session::{begin, count, execute, lock_pipeline, query, run, value};
use super::support::{complete, write_anew};
use super::table_sql::create_table;
use super::target_catalog::read_tables;
use crate::ident::{quote_ident, quote_qualified};
use crate::sqlstate::{classify, sqlstate_of};

/// Makes what is missing of a warehouse: its schema, tables and all that load needs. Returns what was made, for people.
///
/// Missing tables come from `warehouse_sql`, the project's own script of `create table if not exists …`, which runs
/// with the warehouse's schema as its search path; without one they are derived from the models. Tables that exist are
/// left as they are. `models` stand in load order, referred ones first; of one without columns, whose columns nobody knows
/// yet, only the table is made, by the script, and load makes the rest.
///
/// # Errors
/// What the script's statements raise; Config where it leaves a model's table missing, or a table does not go with its
/// model; Permission with the statements for an owner.
pub async fn create(
    client: &mut Client,
    pipeline: &str,
    schema: &str,
    warehouse_sql: Option<&str>,
    models: &[ModelTable],
) -> Result<Vec<String>> {
    let models: Vec<ModelTable> = models.iter().cloned().map(ModelTable::with_keys_that_compare).collect();
    let models = models.as_slice();
    models.iter().try_for_each(ModelTable::check_names)?;
    // Building an index on a fact that exists takes as long as it takes.
    let limits = LoadLimits { statement_timeout: std::time::Duration::ZERO, ..LoadLimits::default() };
    let transaction = begin(client, schema, limits).await?;
    let client = transaction.client();
    let mut made = Vec::new();
    if !schema_exists(client, schema).await? {
        let what = format!("cannot make schema `{schema}` in the warehouse");
        run(client, &format!("create schema {}", quote_ident(schema)), &what).await?;
        made.push(format!("schema `{schema}`"));
    }
    let names: Vec<&str> = models.iter().map(|m| m.name.as_str()).collect();
    let before = read_tables(client, schema, &names).await?;
    if before.len() < names.len() {
        match warehouse_sql {
            Some(sql) => run(client, sql, "the warehouse's SQL script of the project failed").await?,
            None => {
                for model in models.iter().filter(|m| !before.contains_key(&m.name)) {
                    model.check()?;
                    let what = format!("cannot make table `{}` in the warehouse", model.name);
                    run(client, &create_table(schema, model, models), &what).await?;
                }
            }
        }
    }
    let after = read_tables(client, schema, &names).await?;
    made.extend(
        names.iter().filter(|n| !before.contains_key(**n) && after.contains_key(**n)).map(|n| format!("table `{n}`")),
    );
    if let Some(left) = models.iter().find(|m| !after.contains_key(&m.name)) {
        return Err(left_out(schema, left, models));
    }
    let models: Vec<&ModelTable> = models.iter().filter(|m| !m.schema.columns.is_empty()).collect();
    let tables = super::checked_tables(client, schema, &models).await?;
    let pairs = super::pairs(&models, &tables);
    let support = complete(client, pipeline, schema, &pairs).await?;
    write_anew(client, pipeline, &pairs).await?;
    made.extend(support.into_iter().map(|s| s.object));
    transaction.commit().await.map_err(|e| classify(e, "cannot commit the warehouse's tables"))?;
    Ok(made)
}

/// The project's script made no table for a model.
fn left_out(schema: &str, model: &ModelTable, models: &[ModelTable]) -> Error {
    let error = Error::config(format!("`warehouse.sql` makes no table `{}` in schema `{schema}`", model.name))
        .with_detail(format!("model `{}` is loaded into a table of its name", model.name))
        .with_context("model", model.name.clone());
    match model.schema.columns.is_empty() {
        true => error.with_hint("add its `create table` to `warehouse.sql`"),
        false => error.with_hint(format!(
            "add its table to `warehouse.sql`, where `create table if not exists` keeps what is there:\n{}",
            create_table(schema, model, models)
        )),
    }
}

async fn schema_exists(client: &Client, schema: &str) -> Result<bool> {
    let what = "cannot read the schemas of the warehouse";
    let sql = "select exists (select from pg_namespace where nspname = $1)";
    let rows = query(client, sql, &[(&schema, Type::TEXT)], what).await?;
    rows.first().map_or(Ok(false), |row| row.try_get(0)).map_err(|e| classify(e, what))
}

/// Counts the rows of the models' tables, those that exist.
pub async fn count_rows(client: &Client, schema: &str, models: &[ModelTable]) -> Result<BTreeMap<String, u64>> {
    let names: Vec<&str> = models.iter().map(|m| m.name.as_str()).collect();
    let mut counts = BTreeMap::new();
    for name in existing(client, schema, &names).await? {
        let sql = format!("select count(*) from {}", quote_qualified(schema, &name));
        let rows: i64 = value(client, &sql, &format!("cannot count the rows of `{name}`")).await?;
        counts.insert(name, count(rows));
    }
    Ok(counts)
}

async fn existing(client: &Client, schema: &str, names: &[&str]) -> Result<Vec<String>> {
    let what = "cannot read the tables of the warehouse";
    let sql = "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
               where n.nspname = $1 and c.relname = any ($2) and c.relkind in ('r', 'p') order by 1";
    let rows = query(client, sql, &[(&schema, Type::TEXT), (&names, Type::TEXT_ARRAY)], what).await?;
    rows.iter().map(|row| row.try_get(0).map_err(|e| classify(e, what))).collect()
}

/// What clearing did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleared {
    /// The tables that are empty now.
    pub tables: Vec<String>,
    /// Whether they were truncated and their record ids start again; else the rows were deleted, which our role may do
    /// where it may not truncate, and record ids go on.
    pub truncated: bool,
}

/// Empties the tables of the models and forgets what this pipeline loaded, so that the next load adopts the warehouse.
///
/// # Errors
/// Unavailable where a load of this pipeline holds the lock; Permission where our role may neither truncate nor delete;
/// what the server says where tables outside the pipeline refer to these.
pub async fn clear(client: &mut Client, pipeline: &str, schema: &str, models: &[ModelTable]) -> Result<Cleared> {
    let limits = LoadLimits { statement_timeout: std::time::Duration::ZERO, ..LoadLimits::default() };
    let mut transaction = begin(client, schema, limits).await?;
    lock_pipeline(transaction.client(), pipeline).await?;
    let names: Vec<&str> = models.iter().map(|m| m.name.as_str()).collect();
    let tables = existing(transaction.client(), schema, &names).await?;
    let mut truncated = true;
    if !tables.is_empty() {
        let list: Vec<String> = tables.iter().map(|name| quote_qualified(schema, name)).collect();
        let what = "cannot empty the tables of the warehouse";
        let savepoint = transaction.savepoint("starlift_truncate").await.map_err(|e| classify(e, what))?;
        let sql = format!("truncate {} restart identity", list.join(", "));
        match run(savepoint.client(), &sql, what).await {
            Ok(()) => savepoint.commit().await.map_err(|e| classify(e, what))?,
            Err(error) if error.kind() == ErrorKind::Permission && sqlstate_of(&error) == Some("42501") => {
                savepoint.rollback().await.map_err(|e| classify(e, what))?;
                truncated = false;
                delete_rows(transaction.client(), schema, models, &tables).await?;
            }
            Err(error) => return Err(error),
        }
    }
    for table in ["ledger", "retracted", "refused"] {
        if exists_in_starlift(transaction.client(), table).await? {
            let sql = format!("delete from starlift.{table} where pipeline = $1");
            let what = format!("cannot clear starlift.{table}");
            execute(transaction.client(), &sql, &[(&pipeline, Type::TEXT)], &what).await?;
        }
    }
    transaction.commit().await.map_err(|e| classify(e, "cannot commit the clearing of the warehouse"))?;
    Ok(Cleared { tables, truncated })
}

/// Facts first, then the others from last to first, so that no foreign key is in the way.
async fn delete_rows(client: &Client, schema: &str, models: &[ModelTable], tables: &[String]) -> Result<()> {
    let (facts, others): (Vec<_>, Vec<_>) =
        models.iter().rev().filter(|m| tables.contains(&m.name)).partition(|m| m.kind == ModelKind::Fact);
    for model in facts.into_iter().chain(others) {
        let sql = format!("delete from {}", quote_qualified(schema, &model.name));
        execute(client, &sql, &[], &format!("cannot empty `{}` in the warehouse", model.name)).await?;
    }
    Ok(())
}
