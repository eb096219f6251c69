//! What `doctor` asks of a warehouse before a load does: whether our role could make what is missing, and what may refuse
//! valid rows. Nothing is kept.

use starlift_core::model::ModelKind;
use starlift_core::{Error, ErrorKind, Result};
use tokio_postgres::Client;

use super::model::{LoadLimits, ModelTable};
use super::pair::Pair;
use super::session::begin;
use super::support::{Missing, Statement, missing};
use super::target_catalog::read_tables;
use super::unique::Hazard;
use crate::sqlstate::classify;

/// Lists what the warehouse lacks for these models and makes it in a transaction that is rolled back, all but indexes, which
/// take time and block writers: for them the table's owner is asked for.
///
/// # Errors
/// Those of [`super::missing_support`]; Permission, with the statements for an owner in the hint, where our role lacks a
/// grant or may not make something.
pub async fn rehearse_support(
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
    let missing = missing(transaction.client(), pipeline, schema, &pairs).await?;
    missing.refuse_grants()?;
    for statement in &missing.statements {
        rehearse(transaction.client(), &missing, statement, &pairs).await?;
    }
    transaction.rollback().await.map_err(|e| classify(e, "cannot take a rehearsal in the warehouse back"))?;
    Ok(missing.statements)
}

/// What may refuse valid rows of these models: unique constraints outside their keys. Models without columns are left out.
///
/// # Errors
/// Those of reading the catalog.
pub async fn hazards(client: &mut Client, schema: &str, models: &[ModelTable]) -> Result<Vec<Hazard>> {
    let transaction = begin(client, schema, LoadLimits::default()).await?;
    let known: Vec<&ModelTable> = models.iter().filter(|m| !m.schema.columns.is_empty()).collect();
    let names: Vec<&str> = known.iter().map(|m| m.name.as_str()).collect();
    let tables = read_tables(transaction.client(), schema, &names).await?;
    transaction.rollback().await.map_err(|e| classify(e, "cannot take a rehearsal in the warehouse back"))?;
    Ok(super::pairs(&known, &tables).iter().flat_map(|pair| pair.target.hazards(pair.model)).collect())
}

async fn rehearse(client: &Client, missing: &Missing, statement: &Statement, pairs: &[Pair<'_>]) -> Result<()> {
    if statement.is_index {
        let owned = pairs.iter().all(|p| p.target.owned || p.model.kind != ModelKind::Fact);
        return if owned { Ok(()) } else { Err(missing.refusal(&statement.object)) };
    }
    statement.make(client, missing).await
}

/// Checks tables by their names alone, where the columns of the models are not known yet: returns the names of those that
/// are missing.
///
/// # Errors
/// Permission, with the statements for an owner in the hint, where our role lacks a grant on one that exists.
pub async fn rehearse_names(client: &mut Client, schema: &str, models: &[ModelTable]) -> Result<Vec<String>> {
    let transaction = begin(client, schema, LoadLimits::default()).await?;
    let names: Vec<&str> = models.iter().map(|m| m.name.as_str()).collect();
    let tables = read_tables(transaction.client(), schema, &names).await?;
    let existing: Vec<&ModelTable> = models.iter().filter(|m| tables.contains_key(&m.name)).collect();
    let grants =
        super::support::missing_grants_on(transaction.client(), schema, &super::pairs(&existing, &tables)).await?;
    transaction.rollback().await.map_err(|e| classify(e, "cannot take a rehearsal in the warehouse back"))?;
    if !grants.is_empty() {
        let sql: Vec<&str> = grants.iter().map(|s| s.sql.as_str()).collect();
        return Err(Error::new(ErrorKind::Permission, "our role in the warehouse lacks something")
            .with_hint(format!("let an owner run, in this order:\n{}", sql.join("\n"))));
    }
    Ok(models.iter().filter(|m| !tables.contains_key(&m.name)).map(|m| m.name.clone()).collect())
}
