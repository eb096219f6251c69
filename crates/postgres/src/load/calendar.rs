//! The calendar: extended by whole years to every date that a staged row refers to, in the transaction of those rows.
//!
//! There is never a gap between the years that it has and the years that it gets. The days are made in SQL; names are
//! English whatever `lc_time` says, because `to_char` translates only with the prefix TM (PostgreSQL manual, 9.8).

use std::collections::{BTreeMap, BTreeSet};

use starlift_core::{ColumnType, Error, Result};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::check::CALENDAR_BOUNDS;
use super::pair::Pair;
use super::session::{execute, query};
use super::stage::Stage;
use crate::ident::quote_ident;

/// The columns of a calendar beside its key, and their SQL for the day `d.day`.
const COLUMNS: [(&str, &str); 7] = [
    ("year", "extract(year from d.day)::int"),
    ("month", "extract(month from d.day)::int"),
    ("day", "extract(day from d.day)::int"),
    ("day_of_week", "extract(isodow from d.day)::int - 1"),
    ("day_name", "to_char(d.day, 'FMDay')"),
    ("month_name", "to_char(d.day, 'FMMonth')"),
    ("quarter", "extract(quarter from d.day)::int"),
];

/// The years that a calendar needs for dates from the year `first` to the year `last`: these, and those up to the nearest
/// year that it has, that one with them: it may have a part of it only.
pub(crate) fn years_needed(existing: &BTreeSet<i32>, first: i32, last: i32) -> (i32, i32) {
    if existing.is_empty() || existing.range(first..=last).next().is_some() {
        return (first, last);
    }
    let before = existing.range(..first).next_back();
    let after = existing.range(last..).find(|year| **year > last);
    match (before, after) {
        (Some(before), Some(after)) if first - before <= after - last => (*before, last),
        (Some(before), None) => (*before, last),
        (_, Some(after)) => (first, *after),
        (None, None) => (first, last),
    }
}

/// Extends the calendar to the dates in these columns of these stages; returns how many days were added.
///
/// The stages have been checked: their dates lie within 1900 to 2199.
///
/// # Errors
/// Config for a calendar whose key is no date, or with a required column that cannot be made.
pub(crate) async fn extend(client: &Client, calendar: Pair<'_>, dates: &[(&Stage, String)]) -> Result<u64> {
    let name = &calendar.model.name;
    let Some((first, last)) = years_referred_to(client, name, dates).await? else { return Ok(0) };
    let key = key_of(calendar)?;
    let existing = existing_years(client, calendar, &key).await?;
    let (first, last) = years_needed(&existing, first, last);
    let insert = extend_sql(calendar, &key)?;
    let (first, last) = (format!("{first:04}-01-01"), format!("{last:04}-12-31"));
    let added = execute(
        client,
        &insert,
        &[(&first, Type::TEXT), (&last, Type::TEXT)],
        &format!("cannot extend the calendar `{name}`"),
    )
    .await?;
    if added > 0 {
        tracing::info!(model = %name, days = added, "the calendar was extended");
    }
    Ok(added)
}

/// Holds a calendar to its rules: the columns of every day that differ from what the day says are written again, and the
/// days that are missing between its first and its last year are made. Returns how many days were written or made.
///
/// # Errors
/// As [`extend`].
pub(crate) async fn mend(client: &Client, calendar: Pair<'_>) -> Result<u64> {
    let name = &calendar.model.name;
    let key = key_of(calendar)?;
    let mut mended = 0;
    if let Some(update) = correct_sql(calendar, &key) {
        mended += execute(client, &update, &[], &format!("cannot mend the calendar `{name}`")).await?;
    }
    let existing = existing_years(client, calendar, &key).await?;
    let (Some(first), Some(last)) = (existing.first(), existing.last()) else { return Ok(mended) };
    let insert = extend_sql(calendar, &key)?;
    let (first, last) = (format!("{first:04}-01-01"), format!("{last:04}-12-31"));
    let parameters: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] =
        &[(&first, Type::TEXT), (&last, Type::TEXT)];
    Ok(mended + execute(client, &insert, parameters, &format!("cannot mend the calendar `{name}`")).await?)
}

/// The update of days whose columns are not what the day says; none where no column follows from the day.
fn correct_sql(calendar: Pair<'_>, key: &str) -> Option<String> {
    let of_days = |name: &str| COLUMNS.iter().find(|(column, _)| *column == name).map(|(_, value)| *value);
    let known: Vec<(String, &str)> = calendar
        .target
        .columns
        .iter()
        .filter(|c| c.name != key && !c.generated)
        .filter_map(|c| Some((quote_ident(&c.name), of_days(&c.name)?)))
        .collect();
    if known.is_empty() {
        return None;
    }
    let (first, last) = CALENDAR_BOUNDS;
    let (table, key) = (calendar.table(), quote_ident(key));
    let set: Vec<String> = known.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    let differs: Vec<String> = known.iter().map(|(name, value)| format!("t.{name} is distinct from {value}")).collect();
    Some(format!(
        "update {table} t set {} from (select g.{key} as day from {table} g where g.{key} between '{first}' and '{last}') d \
         where t.{key} = d.day and ({})",
        set.join(", "),
        differs.join(" or ")
    ))
}

fn key_of(calendar: Pair<'_>) -> Result<String> {
    match calendar.model.schema.key_columns().collect::<Vec<_>>().as_slice() {
        [key] if key.column_type == ColumnType::Date => Ok(key.name.clone()),
        _ => Err(Error::config(format!("the key of calendar `{}` is not one date", calendar.model.name))),
    }
}

async fn years_referred_to(client: &Client, name: &str, dates: &[(&Stage, String)]) -> Result<Option<(i32, i32)>> {
    if dates.is_empty() {
        return Ok(None);
    }
    let year = |column: &str| format!("extract(year from {column})::int");
    // One scan of each stage, however many dates it has.
    let mut stages: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut parts = Vec::new();
    for (stage, column) in dates {
        match &stage.days {
            None => stages.entry(stage.table.as_str()).or_default().push(quote_ident(column)),
            // What was copied straight into its table was looked at on the way.
            Some(days) => parts.extend(days.get(column).map(|(first, last)| {
                format!("select date '1970-01-01' + ({first}) as first, date '1970-01-01' + ({last}) as last")
            })),
        }
    }
    let of_all = |aggregate: &str, columns: &[String]| {
        columns.iter().map(|column| format!("{aggregate}({column})")).collect::<Vec<_>>().join(", ")
    };
    parts.extend(stages.into_iter().map(|(table, columns)| {
        let (first, last) = (of_all("min", &columns), of_all("max", &columns));
        format!("select least({first}) as first, greatest({last}) as last from {table}")
    }));
    if parts.is_empty() {
        return Ok(None);
    }
    let sql =
        format!("select {}, {} from ({}) r", year("min(r.first)"), year("max(r.last)"), parts.join(" union all "));
    let what = format!("cannot find the dates for calendar `{name}`");
    let rows = query(client, &sql, &[], &what).await?;
    let classify = |e| crate::sqlstate::classify(e, what.clone());
    let Some(row) = rows.first() else { return Ok(None) };
    let first: Option<i32> = row.try_get(0).map_err(classify)?;
    let last: Option<i32> = row.try_get(1).map_err(classify)?;
    Ok(first.zip(last))
}

async fn existing_years(client: &Client, calendar: Pair<'_>, key: &str) -> Result<BTreeSet<i32>> {
    let (first, last) = CALENDAR_BOUNDS;
    let key = quote_ident(key);
    // Far dates that stand for "unknown" (9999-12-31) are no years to be contiguous with.
    let sql = format!(
        "select distinct extract(year from t.{key})::int from {} t where t.{key} between '{first}' and '{last}'",
        calendar.table()
    );
    let what = format!("cannot read the calendar `{}`", calendar.model.name);
    let rows = query(client, &sql, &[], &what).await?;
    rows.iter().map(|row| row.try_get(0).map_err(|e| crate::sqlstate::classify(e, what.clone()))).collect()
}

fn extend_sql(calendar: Pair<'_>, key: &str) -> Result<String> {
    let mut names = vec![quote_ident(key)];
    let mut values = vec!["d.day".to_string()];
    for column in &calendar.target.columns {
        if column.name == key || column.generated {
            continue;
        }
        match COLUMNS.iter().find(|(name, _)| *name == column.name) {
            Some((name, value)) => {
                names.push(quote_ident(name));
                values.push((*value).to_string());
            }
            None if column.not_null && !column.fills_itself => {
                let known: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
                return Err(Error::config(format!(
                    "column `{}` of calendar `{}` cannot be made for new days",
                    column.name, calendar.model.name
                ))
                .with_detail(format!("a calendar has its date and {}", known.join(", ")))
                .with_hint("let the column take null, or give it a default in the warehouse"));
            }
            None => {}
        }
    }
    let key = quote_ident(key);
    // Another pipeline may share the calendar and add the same days at the same time.
    Ok(format!(
        "insert into {table} ({}) select {} from (select g::date as day from generate_series($1::timestamp, \
         $2::timestamp, interval '1 day') g) d where not exists (select from {table} t where t.{key} = d.day) \
         order by d.day on conflict do nothing",
        names.join(", "),
        values.join(", "),
        table = calendar.table()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_years_reach_to_the_nearest_year_that_exists() {
        let existing: BTreeSet<i32> = (2020..=2030).collect();
        assert_eq!(years_needed(&existing, 2033, 2035), (2030, 2035));
        assert_eq!(years_needed(&existing, 2015, 2016), (2015, 2020));
        assert_eq!(years_needed(&existing, 2024, 2025), (2024, 2025));
        assert_eq!(years_needed(&existing, 2015, 2040), (2015, 2040));
        assert_eq!(years_needed(&existing, 2031, 2031), (2030, 2031));
        assert_eq!(years_needed(&BTreeSet::new(), 2024, 2025), (2024, 2025));
    }

    #[test]
    fn a_lone_early_year_is_not_reached_for() {
        let existing: BTreeSet<i32> = [1900].into_iter().chain(2020..=2030).collect();
        assert_eq!(years_needed(&existing, 2015, 2016), (2015, 2020));
        assert_eq!(years_needed(&existing, 1903, 1903), (1900, 1903));
    }
}
