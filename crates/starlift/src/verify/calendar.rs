//! The calendar of the warehouse, checked against the rules of the calendar alone: whole years without a gap, and each
//! day's columns by PostgreSQL's own date functions.

use std::collections::BTreeMap;

use starlift_core::Result;
use starlift_postgres::ident::quote_ident;
use starlift_postgres::sqlstate::classify;
use tokio_postgres::types::Type;

use super::report::{Comparison, EXAMPLES, Example};
use super::side::{Compared, Names, key_text};
use super::sql_side::SqlSide;
use super::warehouse_view::Held;

/// What a column of this name holds of `the_day` (PostgreSQL manual, 9.9.1 and 9.8).
const FORMULAS: [(&str, &str); 7] = [
    ("year", "extract(year from the_day)::int"),
    ("month", "extract(month from the_day)::int"),
    ("day", "extract(day from the_day)::int"),
    ("day_of_week", "extract(isodow from the_day)::int - 1"),
    ("day_name", "to_char(the_day, 'FMDay')"),
    ("month_name", "to_char(the_day, 'FMMonth')"),
    ("quarter", "extract(quarter from the_day)::int"),
];

/// Adds days that break the rules to what differs; days that differ from the star already are passed over.
pub(super) async fn check(
    comparison: &mut Comparison,
    current: &SqlSide<'_>,
    names: &Names,
    held: Option<&BTreeMap<String, Held>>,
    compared: &Compared,
) -> Result<()> {
    let is_date = |name: &&String| held.and_then(|h| h.get(*name)).is_some_and(|h| h.base == "date" && !h.is_array);
    let ([key], Some(day)) = (names.key.as_slice(), names.key.first().filter(is_date)) else {
        comparison.notes.push("its key is not one date, so the rules of a calendar were not checked".into());
        return Ok(());
    };
    let failed = |e| classify(e, format!("cannot check {}", current.what));
    let (day, from) = (quote_ident(day), &current.from);

    // Load keeps to these years; far dates of others, which stand for "unknown", are no gap.
    let sql = format!(
        "select count(distinct {day}) = coalesce(max({day}) - min({day}) + 1, 0), \
                coalesce(extract(doy from min({day})) = 1 and to_char(max({day}), 'MM-DD') = '12-31', true) from {from} \
         where {day} between '1900-01-01' and '2199-12-31'"
    );
    let row = current.client.query_typed_one(&sql, &[]).await.map_err(failed)?;
    for (position, rule) in ["has a gap", "does not hold whole years"].into_iter().enumerate() {
        if !row.try_get::<_, bool>(position).map_err(failed)? {
            comparison.differences += 1;
            comparison.examples.push(Example { key: "the calendar as a whole".into(), what: rule.into() });
        }
    }

    let wrong: Vec<String> = FORMULAS
        .iter()
        .filter(|(name, _)| names.columns.iter().any(|c| c == name))
        .map(|(name, formula)| {
            format!(
                "case when {} is distinct from {formula} then '{name}' end",
                format_args!("c.{}", quote_ident(name))
            )
        })
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "select w.the_day::text, array_remove(w.wrong, null) from (select the_day, array[{}]::text[] as wrong from \
             (select *, {day} as the_day from {from} where {} <> all ($1)) c) w \
         where array_remove(w.wrong, null) <> '{{}}' order by w.the_day",
        wrong.join(", "),
        current.key_digest()
    );
    let known: Vec<&[u8]> = compared.differing.iter().map(|k| k.as_slice()).collect();
    let rows = current.client.query_typed(&sql, &[(&known, Type::BYTEA_ARRAY)]).await.map_err(failed)?;
    comparison.differences += rows.len() as u64;
    for row in rows.iter().take(EXAMPLES) {
        let columns: Vec<String> = row.try_get(1).map_err(failed)?;
        comparison.examples.push(Example {
            key: key_text(std::slice::from_ref(key), &[row.try_get(0).map_err(failed)?]),
            what: format!("differs from the calendar in {}", columns.join(", ")),
        });
    }
    comparison.examples.truncate(EXAMPLES);
    Ok(())
}
