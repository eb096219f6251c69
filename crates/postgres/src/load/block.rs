//! The halving of rows that only the server refuses, as one block of PL/pgSQL inside the server.
//!
//! It does what [`super::halving`] does from outside, in the same order and with the same ranges, without a
//! dozen messages for each bad row. The server keeps the rows that it refused, each with code, constraint, column and place
//! of the error, in a temporary table, and tells nothing else: what an error means is read from one row of each kind, which
//! is tried again from outside. Rows that may come in later, once others are, stay in that table until they are asked for. A block ends after some seconds, so that a run that is given up need not wait for it, and the next one goes
//! on from the ranges that are left.

use starlift_core::{Error, ErrorKind, Result};
use tokio_postgres::Client;

use super::fact;
use super::isolate::{NUMBERED, Write};
use super::pair::Pair;
use super::refused::own_column;
use super::session::{keep, mark, query, run, run_over_rows, take_back, value};
use crate::ident::quote_literal;
use crate::sqlstate::{classify, is_never_of_a_row_sql, may_come_in_later_sql};

/// The rows that were refused, by their numbers.
const REFUSED: &str = "pg_temp.starlift_refused_rows";
/// The setting by which a block tells what it did: a transaction's own.
const TOLD: &str = "starlift.isolated";
const SAVEPOINT: &str = "starlift_block";
const SECONDS: u32 = 5;
/// A foreign key's. It is checked after everything else that a statement is refused for: what such a range holds is fine but for it.
pub(crate) const FOREIGN_KEY: &str = "23503";

/// Halves rows inside the server.
pub(crate) struct Block {
    update_few: Option<String>,
    insert_few: String,
    update_many: Option<String>,
    insert_many: String,
}

/// What one block did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) updated: u64,
    pub(crate) inserted: u64,
    /// Rows that were refused for good.
    pub(crate) refused: u64,
    /// Rows and ranges that were put off.
    pub(crate) put_off: u64,
    /// Ranges that are left, the next one last.
    pub(crate) left: Vec<(i64, i64)>,
}

/// How far one block goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// So many rows that are refused for good.
    pub(crate) refused: u64,
    /// So many that are put off.
    pub(crate) put_off: u64,
    /// Whether a range is put off as a whole that nothing but a foreign key refuses.
    pub(crate) by_set: bool,
}

/// Rows that were refused alike.
pub(crate) struct Kind {
    /// The number of one of them.
    pub(crate) row: i64,
    condition: String,
}

impl Block {
    /// For a write of numbered rows.
    pub(crate) async fn of(client: &Client, pair: Pair<'_>, write: Write) -> Result<Block> {
        let sql = format!(
            "create temp table {REFUSED} (row int8, last int8, state text, constrained text, named text, place text) on commit drop"
        );
        run(client, &sql, "cannot keep the numbers of refused rows").await?;
        let between = |first: &str, last: &str| {
            format!("(select * from {NUMBERED} where {} between {first} and {last})", own_column("row"))
        };
        // A plan that is kept is worth most for few rows; for many a plan for so many is.
        let (update_few, insert_few) =
            write.statements(pair, &between("starlift_first", "starlift_last"), fact::FEW)?;
        let (update_many, insert_many) = write.statements(pair, &between("$1", "$2"), u64::MAX)?;
        Ok(Block { update_few, insert_few, update_many, insert_many })
    }

    /// Writes the rows of the ranges, and finds those that are refused, or a few more seconds' worth of them.
    ///
    /// None, and nothing done, where this role has no PL/pgSQL.
    pub(crate) async fn run(&self, client: &Client, left: &[(i64, i64)], bounds: Bounds) -> Result<Option<Done>> {
        mark(client, SAVEPOINT).await?;
        let sql = format!("do language plpgsql {}", quote_literal(&self.body(left, bounds)));
        match run_over_rows(client, &sql, "cannot find the rows that the warehouse refuses").await {
            Ok(()) => keep(client, SAVEPOINT).await?,
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Internal) => return Err(error),
            Err(error) => {
                tracing::info!(reason = %error, "refused rows are looked for from outside");
                take_back(client, SAVEPOINT).await?;
                return Ok(None);
            }
        }
        let told: String =
            value(client, &format!("select current_setting('{TOLD}')"), "cannot read refused rows").await?;
        read(&told).map(Some)
    }

    fn body(&self, left: &[(i64, i64)], bounds: Bounds) -> String {
        let numbers =
            |of: fn(&(i64, i64)) -> i64| left.iter().map(|range| of(range).to_string()).collect::<Vec<_>>().join(", ");
        let with_numbers = |sql: &str| format!("execute {} using starlift_first, starlift_last", quote_literal(sql));
        let counted = |sql: Option<String>| {
            sql.map_or_else(String::new, |sql| format!("{sql}; get diagnostics starlift_u = row_count;"))
        };
        format!(
            "#variable_conflict use_column
            declare
                starlift_firsts int8[] := array[{firsts}]::int8[];
                starlift_lasts int8[] := array[{lasts}]::int8[];
                starlift_depth int := {depth};
                starlift_first int8; starlift_last int8; starlift_u int8; starlift_i int8;
                starlift_updated int8 := 0; starlift_inserted int8 := 0; starlift_found int8 := 0; starlift_put_off int8 := 0;
                starlift_state text; starlift_constraint text; starlift_column text; starlift_place text;
                starlift_end timestamptz := clock_timestamp() + interval '{SECONDS} s';
            begin
                while starlift_depth > 0 and starlift_found < {most} and starlift_put_off < {most_put_off}
                      and clock_timestamp() < starlift_end loop
                    starlift_first := starlift_firsts[starlift_depth];
                    starlift_last := starlift_lasts[starlift_depth];
                    starlift_depth := starlift_depth - 1;
                    begin
                        starlift_u := 0;
                        if starlift_last - starlift_first < {few} then
                            {update_few}
                            {insert_few}; get diagnostics starlift_i = row_count;
                        else
                            {update_many}
                            {insert_many}; get diagnostics starlift_i = row_count;
                        end if;
                        starlift_updated := starlift_updated + starlift_u;
                        starlift_inserted := starlift_inserted + starlift_i;
                    exception when others then
                        get stacked diagnostics starlift_state = returned_sqlstate, starlift_place = pg_exception_context,
                            starlift_constraint = constraint_name, starlift_column = column_name;
                        if {never} then
                            raise;
                        elsif starlift_first = starlift_last or {by_set} and starlift_state = '{FOREIGN_KEY}' then
                            insert into {REFUSED} values
                                (starlift_first, starlift_last, starlift_state, starlift_constraint, starlift_column, starlift_place);
                            if {later} then
                                starlift_put_off := starlift_put_off + 1;
                            else
                                starlift_found := starlift_found + 1;
                            end if;
                        else
                            starlift_firsts[starlift_depth + 2] := starlift_first;
                            starlift_lasts[starlift_depth + 2] := starlift_first + (starlift_last - starlift_first) / 2;
                            starlift_firsts[starlift_depth + 1] := starlift_lasts[starlift_depth + 2] + 1;
                            starlift_lasts[starlift_depth + 1] := starlift_last;
                            starlift_depth := starlift_depth + 2;
                        end if;
                    end;
                end loop;
                perform set_config('{TOLD}', json_build_array(starlift_updated, starlift_inserted, starlift_found, starlift_put_off,
                    starlift_firsts[1:starlift_depth], starlift_lasts[1:starlift_depth])::text, true);
            end",
            firsts = numbers(|range| range.0),
            lasts = numbers(|range| range.1),
            depth = left.len(),
            most = bounds.refused.min(i64::MAX.unsigned_abs()),
            most_put_off = bounds.put_off.min(i64::MAX.unsigned_abs()),
            by_set = bounds.by_set,
            never = is_never_of_a_row_sql("starlift_state"),
            later = may_come_in_later_sql("starlift_state"),
            few = fact::FEW,
            update_few = counted(self.update_few.clone()),
            insert_few = self.insert_few,
            update_many = counted(self.update_many.as_deref().map(with_numbers)),
            insert_many = with_numbers(&self.insert_many),
        )
    }

    /// Rows that were refused alike, the first of those that nothing has been said of yet; with those that were put off, or
    /// without.
    pub(crate) async fn next_kind(client: &Client, with_put_off: bool) -> Result<Option<Kind>> {
        let what = "cannot read refused rows";
        let of_all = if with_put_off { "true".into() } else { format!("not {}", may_come_in_later_sql("state")) };
        let sql = format!(
            "select row, format('v.state = %L and v.constrained = %L and v.named = %L and hashtextextended(v.place, 0) = %s', \
             state, constrained, named, hashtextextended(place, 0)) from {REFUSED} where {of_all} order by row limit 1"
        );
        let rows = query(client, &sql, &[], what).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let read = |e| classify(e, what);
        Ok(Some(Kind { row: first.try_get(0).map_err(read)?, condition: first.try_get(1).map_err(read)? }))
    }

    /// The ranges that were put off, in their order, once all has been said of the others.
    pub(crate) async fn put_off(client: &Client) -> Result<Vec<(i64, i64)>> {
        let what = "cannot read refused rows";
        let rows = query(client, &format!("select row, last from {REFUSED} order by row"), &[], what).await?;
        let read = |e| classify(e, what);
        rows.iter().map(|row| Ok((row.try_get(0).map_err(read)?, row.try_get(1).map_err(read)?))).collect()
    }

    /// Forgets the ranges that were put off.
    pub(crate) async fn forget(client: &Client) -> Result<()> {
        run(client, &format!("delete from {REFUSED}"), "cannot forget refused rows").await
    }

    /// Forgets the numbers of refused rows.
    pub(crate) async fn end(client: &Client) -> Result<()> {
        run(client, &format!("drop table {REFUSED}"), "cannot drop a temporary table").await
    }
}

impl Kind {
    /// The rows, with their numbers.
    pub(crate) fn rows(&self) -> String {
        let number = own_column("row");
        format!("(select n.* from {NUMBERED} n join {REFUSED} v on v.row = n.{number} where {})", self.condition)
    }

    /// All has been said of them.
    pub(crate) async fn done(&self, client: &Client) -> Result<()> {
        let sql = format!("delete from {REFUSED} v where {}", self.condition);
        run(client, &sql, "cannot forget refused rows").await
    }

    /// The one row is not refused any more.
    pub(crate) async fn not_this(&self, client: &Client) -> Result<()> {
        let sql = format!("delete from {REFUSED} v where v.row = {}", self.row);
        run(client, &sql, "cannot forget refused rows").await
    }
}

fn read(told: &str) -> Result<Done> {
    type Told = (u64, u64, u64, u64, Option<Vec<i64>>, Option<Vec<i64>>);
    let (updated, inserted, refused, put_off, firsts, lasts): Told = serde_json::from_str(told)
        .map_err(|e| Error::internal("what was told of refused rows cannot be read").with_source(e))?;
    let left = firsts.unwrap_or_default().into_iter().zip(lasts.unwrap_or_default()).collect();
    Ok(Done { updated, inserted, refused, put_off, left })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_block_tells_is_read() {
        let done = read("[1, 2, 3, 4, [7,5], [9,6]]").unwrap();
        assert_eq!(done, Done { updated: 1, inserted: 2, refused: 3, put_off: 4, left: vec![(7, 9), (5, 6)] });
        assert_eq!(read("[0, 0, 0, 0, [], []]").unwrap(), Done::default());
        assert!(read("[]").is_err());
    }
}
