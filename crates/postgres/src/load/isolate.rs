//! Rows that only the server refuses: by a CHECK, a domain, a unique or a foreign key of several columns, a trigger, the input
//! function of a type that starlift does not know.
//!
//! All rows are written at once. Where the server refuses the statement because of a row, the rows are halved, in the order
//! of their key, until those are found that it refuses by themselves; the others are written ([`super::halving`]). Each bad row
//! costs about as many statements as the number of rows has binary digits: inside the server where it has PL/pgSQL for us
//! ([`super::block`]), else from here.
//!
//! An error is about rows where the statement has it with them and not without, and its code is not one of the server's own
//! trouble: the code tells no more, because an input function may refuse a value under any.

use starlift_core::{ErrorKind, Result};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::dimension::{self, Upserted};
use super::fact::{self, Comparison};
use super::pair::Pair;
use super::refused::own_column;
use super::session::{count, execute, keep, mark, query, run, take_back, value};
use super::stage::Stage;
use crate::ident::quote_ident;
use crate::sqlstate::{class_of, classify, may_be_of_a_row, named_in, sqlstate_of};

/// The savepoint of an attempt.
const ATTEMPT: &str = "starlift_attempt";
/// The rows with their numbers.
pub(crate) const NUMBERED: &str = "pg_temp.starlift_numbered";

/// So many rows that a table has are tried before it is said to refuse any: one alone may be older than what refuses it.
const OWN_ROWS: u32 = 3;

/// How staged rows are written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Write {
    /// As rows of a dimension.
    Upsert,
    /// As versions of a fact.
    Append(Comparison),
    /// Not at all: only their keys are made, to find those that the type of their column refuses.
    Keys,
}

impl Write {
    /// The statements that write so many rows of `from`: an update where there is one, and an insert.
    pub(crate) fn statements(self, pair: Pair<'_>, from: &str, rows: u64) -> Result<(Option<String>, String)> {
        match self {
            Write::Upsert => Ok(dimension::statements(pair, from)),
            Write::Append(comparison) => Ok((None, fact::append_sql(pair, from, comparison.of_part(rows))?)),
            Write::Keys => Ok((None, keys_sql(pair, from))),
        }
    }

    /// Writes the rows of a stage.
    pub(crate) async fn of(self, client: &Client, pair: Pair<'_>, stage: &Stage) -> Result<Upserted> {
        match self {
            Write::Upsert => dimension::upsert(client, pair, stage).await,
            Write::Append(comparison) => {
                // Of a few rows the versions are looked up, whatever was best for all.
                let comparison = comparison.of_part(stage.rows);
                let inserted = fact::append(client, pair, stage, comparison).await?;
                Ok(Upserted { inserted, ..Upserted::default() })
            }
            Write::Keys => {
                let what = format!("cannot read the keys of model `{}`", pair.model.name);
                let inserted = execute(client, &keys_sql(pair, &stage.table), &[], &what).await?;
                Ok(Upserted { inserted, ..Upserted::default() })
            }
        }
    }
}

/// Makes the keys of all rows and writes none, because none is null.
fn keys_sql(pair: Pair<'_>, from: &str) -> String {
    format!(
        "insert into starlift.retracted (pipeline, model, key, seq) \
         select '', '', k.key, 0 from (select {} as key from {from} s) k where k.key is null",
        pair.key_json("s")
    )
}

/// What became of a write.
pub(crate) enum Attempt<T> {
    /// It is done.
    Done(T),
    /// The server refused it: nothing of it is done.
    Refused(starlift_core::Error),
}

/// Tries a write; what it did is taken back where the server refused a row, as far as one such error tells.
pub(crate) async fn attempt<T>(client: &Client, write: impl Future<Output = Result<T>>) -> Result<Attempt<T>> {
    attempt_unless(client, write, is_about_rows).await
}

/// Tries a write with parts of its table taken off; what it did is taken back where the server refused a row, or to put back a
/// part: our role may not, or the part does not resolve any more.
pub(crate) async fn attempt_by_set<T>(client: &Client, write: impl Future<Output = Result<T>>) -> Result<Attempt<T>> {
    let is_about_parts = |error: &starlift_core::Error| {
        matches!(error.kind(), ErrorKind::Permission | ErrorKind::Config) && sqlstate_of(error).is_some()
    };
    attempt_unless(client, write, |error| is_about_rows(error) || is_about_parts(error)).await
}

/// Tries a write; what it did is taken back where it failed with such an error.
pub(crate) async fn attempt_unless<T>(
    client: &Client,
    write: impl Future<Output = Result<T>>,
    is_refusal: impl Fn(&starlift_core::Error) -> bool,
) -> Result<Attempt<T>> {
    mark(client, ATTEMPT).await?;
    match write.await {
        Ok(done) => {
            keep(client, ATTEMPT).await?;
            Ok(Attempt::Done(done))
        }
        Err(error) if is_refusal(&error) => {
            take_back(client, ATTEMPT).await?;
            Ok(Attempt::Refused(error))
        }
        Err(error) => Err(error),
    }
}

/// Whether an error may be about rows: see the module.
pub(crate) fn is_about_rows(error: &starlift_core::Error) -> bool {
    error.kind() != ErrorKind::Unavailable && sqlstate_of(error).is_some_and(may_be_of_a_row)
}

/// Whether an error says by its code that it is about values, rules or what a function raised. Any other code is that of a
/// function or trigger that is broken as well.
pub(crate) fn says_that_it_is_about_rows(error: &starlift_core::Error) -> bool {
    sqlstate_of(error).is_some_and(|code| class_of(code).kind == ErrorKind::Data)
}

/// Whether the table refuses rows that it has already, and all that are tried, in the same way: then it refuses any. None where it has
/// no row.
pub(crate) async fn refuses_its_own(
    client: &Client,
    pair: Pair<'_>,
    write: Write,
    refused: &starlift_core::Error,
) -> Result<Option<bool>> {
    let what = format!("cannot write a row of `{}` again", pair.model.name);
    let mut found = None;
    for offset in 0..OWN_ROWS {
        mark(client, ATTEMPT).await?;
        let tried = execute(client, &write_again_sql(pair, write, offset), &[], &what).await;
        match tried {
            Ok(rows) => {
                take_back(client, ATTEMPT).await?;
                return Ok(if rows == 0 { found } else { Some(false) });
            }
            Err(error) if is_about_rows(&error) => {
                take_back(client, ATTEMPT).await?;
                if sqlstate_of(&error) != sqlstate_of(refused) {
                    return Ok(Some(false));
                }
                found = Some(true);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The statement that writes a row which the table has once more.
fn write_again_sql(pair: Pair<'_>, write: Write, offset: u32) -> String {
    let (table, columns) = (pair.table(), pair.column_list());
    if let (Write::Append(_), Some(id)) = (write, pair.target.record_id()) {
        let id = quote_ident(&id.name);
        return format!(
            "insert into {table} ({columns}) select {columns} from {table} order by {id} desc limit 1 offset {offset}"
        );
    }
    let same = |names: &[&str], of: &str, between: &str| {
        let same = |name: &&str| format!("{of}{0} = o.{0}", quote_ident(name));
        names.iter().map(same).collect::<Vec<_>>().join(between)
    };
    let all: Vec<&str> = pair.columns().map(|(column, _)| column.name.as_str()).collect();
    let key: Vec<&str> = pair.key().map(|(column, _)| column.name.as_str()).collect();
    format!(
        "update {table} t set {} from (select * from {table} limit 1 offset {offset}) o where {}",
        same(&all, "", ", "),
        same(&key, "t.", " and ")
    )
}

/// The rows of a stage by number, to be written range by range.
pub(crate) struct Numbered {
    /// How many they are.
    pub(crate) rows: u64,
    /// Ranges that are left, the next one last.
    pub(crate) left: Vec<(i64, i64)>,
}

impl Numbered {
    /// Numbers the rows of a stage in the order of their key.
    pub(crate) async fn of(client: &Client, pair: Pair<'_>, stage: &Stage) -> Result<Numbered> {
        let what = format!("cannot number the rows of model `{}`", pair.model.name);
        let key: Vec<String> = pair.model.schema.key.iter().map(|k| format!("s.{}", quote_ident(k))).collect();
        let number = own_column("row");
        let sql = format!(
            "create temp table {NUMBERED} on commit drop as \
             select row_number() over (order by {}) as {number}, s.* from {} s; \
             create index on {NUMBERED} ({number}); analyze {NUMBERED} ({number})",
            key.join(", "),
            stage.table
        );
        run(client, &sql, &what).await?;
        let rows: i64 = value(client, &format!("select count(*) from {NUMBERED}"), &what).await?;
        // Halves, because all of them together were refused already.
        let mut numbered = Numbered { rows: count(rows), left: Vec::new() };
        numbered.split(1, rows);
        Ok(numbered)
    }

    /// Comes back to the halves of a range that was refused; a single row is not halved.
    pub(crate) fn split(&mut self, first: i64, last: i64) {
        if first > last {
            return;
        }
        if first == last {
            self.left.push((first, last));
            return;
        }
        let middle = first + (last - first) / 2;
        self.left.push((middle + 1, last));
        self.left.push((first, middle));
    }

    /// Ranges as one stage.
    pub(crate) fn stage(ranges: &[(i64, i64)]) -> Stage {
        let number = own_column("row");
        let rows: i64 = ranges.iter().map(|(first, last)| last - first + 1).sum();
        let table = match ranges {
            [(first, last)] => format!("(select * from {NUMBERED} where {number} between {first} and {last})"),
            _ => {
                let bounds = |of: fn(&(i64, i64)) -> i64| {
                    ranges.iter().map(|range| of(range).to_string()).collect::<Vec<_>>().join(", ")
                };
                format!(
                    "(select n.* from unnest(array[{}]::int8[], array[{}]::int8[]) r (first, last) \
                     join {NUMBERED} n on n.{number} between r.first and r.last)",
                    bounds(|range| range.0),
                    bounds(|range| range.1)
                )
            }
        };
        Stage { table, rows: count(rows), days: None }
    }

    /// Forgets the numbers.
    pub(crate) async fn end(client: &Client) -> Result<()> {
        run(client, &format!("drop table {NUMBERED}"), "cannot drop a temporary table").await
    }
}

/// The column that the server refused a row for, `?` where it is not one, and why: without a value.
pub(crate) async fn reason(client: &Client, pair: Pair<'_>, error: &starlift_core::Error) -> Result<(String, String)> {
    let constraint = named_in(error, "constraint");
    let said = |what: &str| match &constraint {
        Some(name) => format!("it {what} `{name}`"),
        None => format!("it {what} of the warehouse"),
    };
    let reason = match sqlstate_of(error) {
        Some("23502") => "it is null, and the column takes no null".to_string(),
        Some("23503") => said("breaks the foreign key"),
        Some("23505") => match constraint.as_deref().and_then(|name| pair.target.unique(pair.model, name)) {
            Some(_) => format!(
                "{}; a row that is gone, or changes too, may hold its value",
                said("breaks the unique constraint")
            ),
            None => said("breaks the unique constraint"),
        },
        Some("23514") => said("fails the check"),
        Some("23P01") => said("breaks the exclusion constraint"),
        _ => format!("the warehouse refuses it: {}", error.detail().unwrap_or_default()),
    };
    let column = match (named_in(error, "column"), &constraint) {
        (Some(column), _) => Some(column),
        (None, Some(constraint)) => column_of(client, pair, constraint).await?,
        (None, None) => None,
    };
    Ok((column.unwrap_or_else(|| "?".into()), reason))
}

/// The one column of a constraint: of the table itself, or of a domain that one column has.
async fn column_of(client: &Client, pair: Pair<'_>, constraint: &str) -> Result<Option<String>> {
    let sql = "with recursive layer as ( \
                   select a.attnum, a.atttypid as type from pg_attribute a where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped \
                   union all \
                   select l.attnum, t.typbasetype from layer l join pg_type t on t.oid = l.type where t.typtype = 'd' \
               ), named as ( \
                   select k.attnum from pg_constraint c, unnest(c.conkey) k (attnum) where c.conrelid = $1 and c.conname = $2 \
                   union select k.attnum from pg_index i join pg_class x on x.oid = i.indexrelid, unnest(i.indkey::int2[]) k (attnum) \
                    where i.indrelid = $1 and x.relname = $2 \
                   union select l.attnum from pg_constraint c join layer l on l.type = c.contypid where c.conname = $2 \
               ) select min(a.attname::text) from named n join pg_attribute a on a.attrelid = $1 and a.attnum = n.attnum \
               having count(*) = 1";
    let what = "cannot read the constraints of the warehouse";
    let rows = query(client, sql, &[(&pair.target.oid, Type::OID), (&constraint, Type::TEXT)], what).await?;
    rows.first().map_or(Ok(None), |row| row.try_get(0)).map_err(|e| classify(e, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_come_in_the_order_of_the_rows_until_single_ones() {
        let mut numbered = Numbered { rows: 5, left: Vec::new() };
        numbered.split(1, 5);
        let mut seen = Vec::new();
        while let Some((first, last)) = numbered.left.pop() {
            seen.push((first, last));
            if (first..=last).contains(&4) && first != last {
                numbered.split(first, last);
            }
        }
        assert_eq!(seen, [(1, 3), (4, 5), (4, 4), (5, 5)]);
    }

    #[test]
    fn one_row_is_tried_by_itself_and_none_is_not() {
        let mut numbered = Numbered { rows: 5, left: Vec::new() };
        numbered.split(1, 0);
        assert_eq!(numbered.left.pop(), None);
        numbered.split(1, 1);
        assert_eq!(numbered.left.pop(), Some((1, 1)));
    }
}
