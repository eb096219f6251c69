//! A first load of many rows into a fact with foreign keys: they are dropped, and added again after the insert, in the
//! same transaction.
//!
//! PostgreSQL checks a foreign key row by row, but one that is added to a filled table by set: 2 million rows into a
//! fact with nine of them took 158 s one way and 12 s the other. Dropping takes an exclusive lock on the fact and on
//! every dimension that it refers to, until the commit; so it is done only where the fact is empty and the stage large,
//! and not where the lock is not free. A crash leaves the constraints as they were, because nothing was committed.

use starlift_core::{Result, fault};
use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use super::pair::Pair;
use super::session::{query, run};
use crate::ident::{quote_ident, quote_literal};
use crate::sqlstate::classify;

/// From this many staged rows on, foreign keys are taken off an empty fact.
const ROWS: u64 = 10_000;
/// How long the exclusive locks are waited for before the plain path is taken.
const LOCK_TIMEOUT: &str = "2s";

/// Whether foreign keys are to be taken off before an insert.
pub(crate) fn worth_dropping(empty: bool, staged: u64, owned: bool, foreign_keys: usize) -> bool {
    empty && owned && foreign_keys > 0 && (staged > ROWS || fault::planted("small_first_load"))
}

/// A constraint that was taken off, and how to put it back.
#[derive(Debug, Clone)]
pub(crate) struct Dropped {
    name: String,
    add: Vec<String>,
}

/// Takes the foreign keys off a fact; none where the server refuses (a lock is not free, an event trigger objects) or our
/// role may not put one of them back.
pub(crate) async fn drop_foreign_keys(
    transaction: &mut Transaction<'_>,
    pair: Pair<'_>,
) -> Result<Option<Vec<Dropped>>> {
    let what = format!("cannot read the foreign keys of `{}`", pair.model.name);
    let sql = "select f.conname::text, pg_get_constraintdef(f.oid), obj_description(f.oid, 'pg_constraint'), \
                      f.coninhcount = 0 and c.relkind = 'r' and has_table_privilege(f.confrelid, 'REFERENCES') \
               from pg_constraint f join pg_class c on c.oid = f.conrelid \
               where f.contype = 'f' and f.conrelid = $1 order by f.conname";
    let oid = pair.target.oid;
    let rows = query(transaction.client(), sql, &[(&oid, Type::OID)], &what).await?;
    let table = pair.table();
    let mut dropped = Vec::new();
    for row in rows {
        let read = |e| classify(e, what.clone());
        let name: String = row.try_get(0).map_err(read)?;
        let definition: String = row.try_get(1).map_err(read)?;
        let comment: Option<String> = row.try_get(2).map_err(read)?;
        let can_be_added: bool = row.try_get(3).map_err(read)?;
        if !can_be_added {
            return Ok(None);
        }
        let mut add = vec![format!("alter table {table} add constraint {} {definition}", quote_ident(&name))];
        if let Some(comment) = comment {
            let comment = quote_literal(&comment);
            add.push(format!("comment on constraint {} on {table} is {comment}", quote_ident(&name)));
        }
        dropped.push(Dropped { name, add });
    }
    let drops: Vec<String> = dropped.iter().map(|d| format!("drop constraint {}", quote_ident(&d.name))).collect();
    let savepoint = transaction.savepoint("starlift_foreign_keys").await.map_err(|e| classify(e, what.clone()))?;
    let sql = format!("set local lock_timeout = '{LOCK_TIMEOUT}'; alter table {table} {}", drops.join(", "));
    match run(savepoint.client(), &sql, "cannot take off foreign keys").await {
        Ok(()) => {
            savepoint.commit().await.map_err(|e| classify(e, what))?;
            fault::point("load.foreign_keys_dropped");
            tracing::info!(model = %pair.model.name, constraints = dropped.len(), "foreign keys are checked by set");
            Ok(Some(dropped))
        }
        Err(error) if !transaction_is_lost(&error) => {
            savepoint.rollback().await.map_err(|e| classify(e, what))?;
            tracing::info!(model = %pair.model.name, reason = %error, "foreign keys are checked row by row");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether the server did not answer at all: there is no transaction to go on with.
fn transaction_is_lost(error: &starlift_core::Error) -> bool {
    crate::sqlstate::sqlstate_of(error).is_none_or(|code| code.starts_with("08") || code.starts_with("57P"))
}

/// Puts the foreign keys back, under their names; the server checks all rows.
pub(crate) async fn add_foreign_keys(
    transaction: &Transaction<'_>,
    pair: Pair<'_>,
    dropped: &[Dropped],
    lock_timeout: std::time::Duration,
) -> Result<()> {
    let settings = format!("set local lock_timeout = {}", super::session::millis(lock_timeout));
    run(transaction.client(), &settings, "cannot set a timeout").await?;
    for constraint in dropped {
        let what = format!("rows of `{}` break its foreign key `{}`", pair.model.name, constraint.name);
        for sql in &constraint.add {
            run(transaction.client(), sql, &what).await?;
        }
        fault::point("load.foreign_keys_added");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_large_first_load_of_a_table_of_ours_is_worth_it() {
        assert!(worth_dropping(true, 2_000_000, true, 9));
        assert!(!worth_dropping(false, 2_000_000, true, 9));
        assert!(!worth_dropping(true, 10_000, true, 9));
        assert!(!worth_dropping(true, 2_000_000, false, 9));
        assert!(!worth_dropping(true, 2_000_000, true, 0));
    }
}
