//! The versions of a fact: load appends one only where it differs from the one before, so two neighbours that are equal
//! are a row that was doubled behind load's back.
//!
//! A warehouse that was taken over may hold doubled versions from before. They are told apart by the transaction that
//! wrote them: older than the oldest ledger row of this star means that load had nothing to do with them (a note; the
//! view shows each key once anyway). Two thousand million transactions later, or in a warehouse that was put back from a
//! dump, which has new transaction ids, this is a guess.

use starlift_core::Result;
use starlift_postgres::sqlstate::classify;
use tokio_postgres::types::Type;

use super::matching::CANDIDATES;
use super::report::{Comparison, EXAMPLES, Example};
use super::side::{Names, by_key, key_text};
use super::sql_side::SqlSide;
use super::star_warehouse::Loaded;

/// Adds keys with two equal neighbours among their versions to what differs.
pub(super) async fn check(
    comparison: &mut Comparison,
    loaded: &Loaded<'_>,
    current: &SqlSide<'_>,
    names: &Names,
) -> Result<()> {
    let client = current.client;
    let table = loaded.warehouse.table(&comparison.name);
    let failed = |e| classify(e, format!("cannot read the versions of `{table}` in the warehouse"));
    let Some(record_id) = client.query_typed_opt(RECORD_ID, &[(&table, Type::TEXT)]).await.map_err(failed)? else {
        comparison.notes.push("its versions were not looked at: its table has no record id".into());
        return Ok(());
    };
    let record_id: String = record_id.try_get(0).map_err(failed)?;
    let shown: Vec<&str> = current.key.iter().map(|c| c.shown.as_str()).collect();
    let star_id = loaded.head.manifest().map(|m| m.id.clone()).unwrap_or_default();
    // `offset 0` keeps the digests from being made again for the window and the condition.
    let sql = format!(
        "select v.shown, bool_or(v.age <= (select max(age(l.xmin)) from starlift.ledger l \
                                           where l.pipeline = $1 and l.star_id = $2)) as ours \
         from (select d.*, lag(d.content) over (partition by d.key order by d.record_id) as before \
               from (select {key} as key, array[{shown}]::text[] as shown, {content} as content, \
                            {record_id} as record_id, age(xmin) as age from {table} offset 0) d) v \
         where v.content = v.before group by v.key, v.shown order by ours desc nulls last",
        key = current.key_digest(),
        shown = shown.join(", "),
        content = current.content_digest(),
    );
    let parameters: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] =
        &[(&loaded.pipeline, Type::TEXT), (&star_id, Type::TEXT)];
    let rows = client.query_typed(&sql, parameters).await.map_err(failed)?;

    let mut doubled: Vec<Vec<Option<String>>> = Vec::new();
    let mut from_before: u64 = 0;
    for row in rows {
        if row.try_get::<_, Option<bool>>(1).map_err(failed)?.unwrap_or(false) {
            comparison.differences += 1;
            if doubled.len() < CANDIDATES {
                doubled.push(row.try_get(0).map_err(failed)?);
            }
        } else {
            from_before += 1;
        }
    }
    doubled.sort_by(|a, b| by_key(a, b));
    let examples =
        doubled.iter().map(|key| Example { key: key_text(&names.key, key), what: "twice in warehouse".into() });
    comparison.examples.extend(examples);
    comparison.examples.truncate(EXAMPLES);
    if from_before > 0 {
        comparison.notes.push(format!("{from_before} keys have equal versions from before this star was loaded"));
    }
    Ok(())
}

// Views and foreign tables have no `xmin`.
const RECORD_ID: &str = "\
select quote_ident(a.attname) from pg_class c
join pg_index i on i.indrelid = c.oid and i.indisprimary and i.indnkeyatts = 1
join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0]
where c.oid = to_regclass($1) and c.relkind in ('r', 'p')";
