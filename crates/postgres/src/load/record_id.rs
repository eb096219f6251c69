//! Record ids of a fact: the table's own sequence gives them, and the highest is the newest version of its key.
//!
//! A warehouse that existed before may have rows whose ids did not come from the sequence (an insert that names them, a
//! restore of the data alone). New versions would then get lower ids than old ones, or ids that are taken. So the sequence
//! is moved behind the highest id before a version is appended.

use starlift_core::{Error, ErrorKind, Result};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::pair::Pair;
use super::session::query;
use crate::ident::{quote_ident, quote_literal};
use crate::sqlstate::classify;

/// The sequence that a column takes its values from: of a serial or identity column, else the one that its default names.
const SEQUENCE: &str = "\
select s.oid, s.oid::regclass::text, has_sequence_privilege(s.oid, 'UPDATE') from pg_attribute a
  join lateral (
    select d.objid as oid from pg_depend d
     where d.classid = 'pg_class'::regclass and d.refobjid = a.attrelid and d.refobjsubid = a.attnum and d.deptype in ('a', 'i')
    union
    select d.refobjid from pg_attrdef f join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = f.oid
     where f.adrelid = a.attrelid and f.adnum = a.attnum and d.refclassid = 'pg_class'::regclass) d on true
  join pg_class s on s.oid = d.oid and s.relkind = 'S'
 where a.attrelid = $1 and a.attname = $2 limit 1";

/// Moves the sequence of a fact's record id behind the highest id of its rows, where it is not.
///
/// A sequence is not part of a transaction: if the load is rolled back, ids are skipped, which harms nobody.
///
/// # Errors
/// Permission, with the statement for an owner, where our role may not move the sequence.
pub(crate) async fn raise(client: &Client, pair: Pair<'_>) -> Result<()> {
    let name = &pair.model.name;
    let what = format!("cannot look at the record ids of `{name}` in the warehouse");
    let read = |e| classify(e, what.clone());
    let Some(record_id) = pair.target.record_id() else { return Ok(()) };
    let found = query(client, SEQUENCE, &[(&pair.target.oid, Type::OID), (&record_id.name, Type::TEXT)], &what).await?;
    let Some(row) = found.first() else { return Ok(()) };
    let (oid, sequence): (u32, String) = (row.try_get(0).map_err(read)?, row.try_get(1).map_err(read)?);
    let may_move: bool = row.try_get(2).map_err(read)?;
    let highest = format!("select max({}) from {}", quote_ident(&record_id.name), pair.table());
    let behind = format!("select ({highest}) > coalesce(pg_sequence_last_value($1), 0)");
    let rows = query(client, &behind, &[(&oid, Type::OID)], &what).await?;
    let is_behind: Option<bool> = rows.first().map(|row| row.try_get(0)).transpose().map_err(read)?.flatten();
    if is_behind != Some(true) {
        return Ok(());
    }
    let raise = format!("select setval({}, ({highest}))", quote_literal(&sequence));
    if !may_move {
        return Err(Error::new(ErrorKind::Permission, format!("the sequence of `{name}` is behind its record ids"))
            .with_detail("new versions would get lower ids than old ones, or ids that are taken")
            .with_hint(format!("let an owner run: {raise};"))
            .with_context("model", name.clone()));
    }
    query(client, &raise, &[], &what).await?;
    tracing::info!(model = %name, %sequence, "the sequence was moved behind the record ids that exist");
    Ok(())
}
