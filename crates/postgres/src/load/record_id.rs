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
use super::view::view_name;
use crate::ident::{quote_ident, quote_literal, quote_qualified};
use crate::sqlstate::{classify, sqlstate_of};

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

/// Record ids that were taken from a sequence, all at once.
#[derive(Debug)]
pub(crate) struct Reserved {
    sequence: String,
    first: i64,
}

impl Reserved {
    /// The id of a place, from 0.
    pub(crate) fn id(&self, place: u64) -> Option<i64> {
        self.first.checked_add(i64::try_from(place).ok()?)
    }
}

/// Takes ids for so many rows from the one sequence that a fact owns, up to `most`; none where it has no such sequence, it does
/// not count by one, our role may not move it, or it has not so many left.
///
/// The table is locked: nobody else takes its ids meanwhile.
pub(crate) async fn reserve(
    client: &Client,
    pair: Pair<'_>,
    column: &String,
    rows: u64,
    most: i64,
) -> Result<Option<Reserved>> {
    let what = format!("cannot take record ids of `{}` in the warehouse", pair.model.name);
    let read = |e| classify(e, what.clone());
    let found = query(client, OWN_SEQUENCE, &[(&pair.target.oid, Type::OID), (column, Type::TEXT)], &what).await?;
    let [row] = found.as_slice() else { return Ok(None) };
    let (sequence, last): (String, i64) = (row.try_get(0).map_err(read)?, row.try_get(1).map_err(read)?);
    if !row.try_get::<_, bool>(2).map_err(read)? {
        return Ok(None);
    }
    let next = query(client, &format!("select nextval({})", quote_literal(&sequence)), &[], &what).await?;
    let [row] = next.as_slice() else { return Ok(None) };
    let reserved = Reserved { sequence, first: row.try_get(0).map_err(read)? };
    match reserved.id(rows.saturating_sub(1)).filter(|id| *id <= last.min(most)) {
        Some(id) => {
            let sql = format!("select setval({}, {id})", quote_literal(&reserved.sequence));
            query(client, &sql, &[], &what).await?;
            Ok(Some(reserved))
        }
        None => {
            release(client, &reserved).await?;
            Ok(None)
        }
    }
}

/// Gives reserved ids back, none of which is in use.
pub(crate) async fn release(client: &Client, reserved: &Reserved) -> Result<()> {
    let sql = format!("select setval({}, {}, false)", quote_literal(&reserved.sequence), reserved.first);
    query(client, &sql, &[], "cannot give record ids back").await.map(|_| ())
}

/// Every sequence that a column owns or its default names, with its last number and whether we may take a range of it.
const OWN_SEQUENCE: &str = "\
select quote_ident(n.nspname) || '.' || quote_ident(s.relname), q.seqmax,
       has_sequence_privilege(s.oid, 'UPDATE') and has_sequence_privilege(s.oid, 'USAGE') and q.seqincrement = 1 and d.owned
  from pg_attribute a
  join lateral (
    select e.oid, bool_or(e.owned) as owned from (
      select d.objid as oid, true as owned from pg_depend d
       where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
         and d.refobjid = a.attrelid and d.refobjsubid = a.attnum and d.deptype in ('a', 'i')
      union all
      select d.refobjid, false from pg_attrdef f join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = f.oid
       where f.adrelid = a.attrelid and f.adnum = a.attnum and d.refclassid = 'pg_class'::regclass) e group by e.oid) d on true
  join pg_class s on s.oid = d.oid and s.relkind = 'S'
  join pg_sequence q on q.seqrelid = s.oid
  join pg_namespace n on n.oid = s.relnamespace
 where a.attrelid = $1 and a.attname = $2";

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

/// A sequence has given its last number.
pub(crate) const SEQUENCE_IS_AT_ITS_END: &str = "2200H";
/// A number is out of the range of its column: also one of a sequence that counts further than the column.
const OUT_OF_RANGE: &str = "22003";

/// The columns of a table whose sequence has no further number for them, and whether they are `bigint`.
const USED_UP: &str = "\
select a.attname::text, quote_ident(n.nspname) || '.' || quote_ident(s.relname), a.atttypid = 'int8'::regtype
  from pg_attribute a
  join lateral (
    select d.objid as oid from pg_depend d
     where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
       and d.refobjid = a.attrelid and d.refobjsubid = a.attnum and d.deptype in ('a', 'i')
    union
    select d.refobjid from pg_attrdef f join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = f.oid
     where f.adrelid = a.attrelid and f.adnum = a.attnum and d.refclassid = 'pg_class'::regclass) d on true
  join pg_class s on s.oid = d.oid and s.relkind = 'S'
  join pg_sequence q on q.seqrelid = s.oid
  join pg_namespace n on n.oid = s.relnamespace
 where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped and q.seqincrement > 0 and not q.seqcycle
   and case when has_sequence_privilege(s.oid, 'USAGE') or has_sequence_privilege(s.oid, 'SELECT') then
         pg_sequence_last_value(s.oid) > least(q.seqmax, case a.atttypid when 'int2'::regtype then 32767
             when 'int4'::regtype then 2147483647 else 9223372036854775807 end) - q.seqincrement end
 order by a.attnum limit 1";

/// What is wrong where a write was refused because the table has no number left for a row, such as a record id: no row is to blame.
pub(crate) async fn used_up(client: &Client, pair: Pair<'_>, refused: &Error) -> Result<Option<Error>> {
    let Some(code) = sqlstate_of(refused).filter(|code| [SEQUENCE_IS_AT_ITS_END, OUT_OF_RANGE].contains(code)) else {
        return Ok(None);
    };
    let what = format!("cannot look at the sequences of `{}` in the warehouse", pair.model.name);
    let read = |e| classify(e, what.clone());
    let found = query(client, USED_UP, &[(&pair.target.oid, Type::OID)], &what).await?;
    let Some(row) = found.first() else { return Ok(None) };
    let (column, sequence): (String, String) = (row.try_get(0).map_err(read)?, row.try_get(1).map_err(read)?);
    let is_widest: bool = row.try_get(2).map_err(read)?;
    let hint = match is_widest {
        true => format!("let the owner run `alter sequence {sequence} no maxvalue;`"),
        false => format!(
            "let the owner run `drop view if exists {}; alter table {} alter column {} type bigint; alter sequence {sequence} \
             as bigint;`: load makes the view again, and grants on it have to be given again",
            quote_qualified(&pair.target.schema, &view_name(&pair.target.name)),
            pair.table(),
            quote_ident(&column)
        ),
    };
    Ok(Some(
        Error::config(format!("table `{}` of the warehouse has no number left for `{column}`", pair.target.name))
            .with_detail(format!("its sequence has given the last one (SQLSTATE {code}); no row is to blame"))
            .with_hint(hint)
            .with_context("model", pair.model.name.clone())
            .with_context("sqlstate", code.to_string()),
    ))
}
