//! Rows that the server takes without an error and does not write: a trigger before each row that returns null, a rule that does
//! something else instead.
//!
//! Where the catalog says that a table has one of these, the rows that a write owes it are noted before, and looked for
//! afterwards. One that nothing was written of, whose key has no row, no newer version, or the very row that it had, is set aside,
//! which hides the older row: without that it would be booked as unchanged, and the warehouse be stale for good. It is tried again
//! by every load, as any row that only the server refuses. Other tables pay nothing.
//!
//! A trigger that changes a row is no matter here: only that something was written under the key is asked.

use starlift_core::{Error, Result};
use tokio_postgres::Client;

use super::aside::may_stand_aside;
use super::fact;
use super::isolate::Write;
use super::pair::Pair;
use super::refused::own_column;
use super::refusing::Refusals;
use super::session::{run, run_over_rows, value};
use super::stage::Stage;
use super::transaction::{Staged, Work};
use crate::ident::quote_ident;

/// Why such a row stands aside.
pub(crate) const SKIPPED: &str = "a trigger or rule of the warehouse skipped it";

const OWED: &str = "pg_temp.starlift_owed";

/// The rows that a write owes a table, in a temporary table.
#[derive(Debug)]
pub(crate) struct Owed {
    /// Those of them, by their keys in the model's types, that nothing was written of.
    missing: String,
}

/// Notes what a write of these rows owes; none, and nothing done, where the table writes what it is given or refuses it.
pub(crate) async fn note(client: &Client, pair: Pair<'_>, stage: &Stage, write: Write) -> Result<Option<Owed>> {
    if !pair.target.may_skip {
        return Ok(None);
    }
    let Some((rows, missing)) = statements(pair, stage, write)? else { return Ok(None) };
    let what = format!("cannot note the rows of model `{}` that are written", pair.model.name);
    run_over_rows(client, &format!("create temp table {OWED} on commit drop as {rows}"), &what).await?;
    Ok(Some(Owed { missing }))
}

/// What a write owes, and what of it is missing afterwards; none where it writes nothing.
fn statements(pair: Pair<'_>, stage: &Stage, write: Write) -> Result<Option<(String, String)>> {
    let (table, same) = (pair.table(), pair.same_key());
    let keys: Vec<String> = pair.model.schema.key.iter().map(|k| format!("s.{}", quote_ident(k))).collect();
    let keys = keys.join(", ");
    Ok(Some(match write {
        Write::Upsert => {
            // An update leaves another version of the row, in another place; until we commit nobody gives the old place away.
            let (place, part) = (own_column("place"), own_column("part"));
            let rows = format!(
                "select {keys}, t.ctid as {place}, t.tableoid as {part} from {} s left join {table} t on {same} \
                 where t.tableoid is null or {}",
                stage.table,
                pair.differs()
            );
            let missing = format!(
                "(select {keys} from {OWED} s where s.{part} is null and not exists (select from {table} t where {same}) \
                  union all select {keys} from {OWED} s join {table} t on t.ctid = s.{place} and t.tableoid = s.{part})"
            );
            (rows, missing)
        }
        Write::Append(comparison) => {
            let (newest, record_id) = (own_column("newest"), fact::record_id(pair)?);
            let rows = format!(
                "select {keys}, (select max(m.{record_id}) from {table} m) as {newest} from {}",
                fact::unseen(pair, &stage.table, comparison.of_part(stage.rows))?
            );
            // As many versions as are owed were all written, whatever a trigger made of their keys.
            let missing = format!(
                "(select {keys} from {OWED} s where not exists (select from {table} t where {same} \
                  and (s.{newest} is null or t.{record_id} > s.{newest})) \
                  and (select count(*) from {OWED} o join {} s on {}) > (select count(*) from {table} t \
                       where t.{record_id} > coalesce((select max(o.{newest}) from {OWED} o), -9223372036854775808)))",
                stage.table,
                super::aside::same_staged_key(pair, "o")
            );
            (rows, missing)
        }
        Write::Keys => return Ok(None),
    }))
}

impl Work<'_, '_> {
    /// Sets the staged rows aside that were owed and are missing.
    pub(crate) async fn set_skipped_aside(
        &self,
        client: &Client,
        model: &mut Staged<'_>,
        stage: &Stage,
        owed: &Owed,
        refusals: &mut Refusals,
    ) -> Result<()> {
        let pair = model.pair;
        // What was refused with an error has left the stage.
        let any = format!(
            "select exists (select from {} n join {} s on {})",
            owed.missing,
            stage.table,
            super::aside::same_staged_key(pair, "n")
        );
        let what = format!("cannot look for the rows of model `{}` that were written", pair.model.name);
        if value(client, &any, &what).await? {
            if !may_stand_aside(pair) {
                return Err(Error::data(format!("days of calendar `{}` were not written", pair.model.name))
                    .with_detail("a trigger or rule of the warehouse skipped them")
                    .with_hint("let the trigger return each row, or drop the rule, and run again")
                    .with_context("model", pair.model.name.clone()));
            }
            let keep_values = self.run.aside.keep_values;
            let why = ("?", SKIPPED);
            model.taken += model.aside.take_those(client, pair, stage, &owed.missing, why, keep_values).await?;
            self.set_aside(client, model, refusals).await?;
        }
        run(client, &format!("drop table {OWED}"), "cannot drop a temporary table").await
    }
}
