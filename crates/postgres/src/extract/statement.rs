//! The text of the statements that read a source.

use std::time::Duration;

use starlift_core::{Column, ColumnType, fault};

use super::{LOCK_TIMEOUT, PageRange};
use crate::catalog::shows_names;
use crate::connect::{IDLE_TIMEOUT, server_waits};
use crate::ident::{quote_ident, quote_qualified};

/// How long it is where a test lowers it.
const SHORT_IDLE: Duration = Duration::from_secs(1);

/// Settings that decide what a value looks like, what is seen, and how long things may take. A timeout of 0 is none.
///
/// Nothing here is worth a compiler: the planner takes the catalog's queries for long ones, and compiling each took 30 ms.
pub(super) fn pinned_settings(statement_timeout_seconds: u64) -> String {
    let millis = |timeout: Duration| timeout.as_millis().min(i32::MAX as u128);
    format!(
        "set lock_timeout = {}; set statement_timeout = {}; set idle_in_transaction_session_timeout = {}; \
         set row_security = off; set default_transaction_read_only = on; set search_path = pg_catalog; \
         set timezone = 'UTC'; set datestyle = 'ISO, YMD'; set intervalstyle = 'postgres'; set bytea_output = 'hex'; \
         set extra_float_digits = 3; set xmloption = 'content'; set quote_all_identifiers = off; \
         set lc_monetary = 'C'; set jit = off; {}",
        millis(LOCK_TIMEOUT),
        millis(Duration::from_secs(statement_timeout_seconds)),
        millis(idle_timeout()),
        server_waits("session")
    )
}

/// How long the session may idle within its transaction.
pub(super) fn idle_timeout() -> Duration {
    if fault::planted("short_idle") { SHORT_IDLE } else { IDLE_TIMEOUT }
}

/// Whether those of them still hold that decide what is seen and what a value looks like.
pub(super) const SETTINGS_HOLD: &str = "current_setting('row_security') = 'off' and current_setting('search_path') = 'pg_catalog' \
     and current_setting('TimeZone') = 'UTC' and current_setting('DateStyle') = 'ISO, YMD' \
     and current_setting('IntervalStyle') = 'postgres' and current_setting('extra_float_digits') = '3'";

/// A database in SQL_ASCII knows no encoding, and fails a COPY whose bytes are no UTF-8. Sent as they are, the codec
/// refuses such values by column and key.
pub(super) const RAW_BYTES: &str = "select set_config('client_encoding', 'SQL_ASCII', false) \
                                    where current_setting('server_encoding') = 'SQL_ASCII'";

/// Opens the transaction and locks the tables, by name so that two runs lock in the same order. `LOCK TABLE` takes no
/// snapshot; the first query after it does.
pub(super) fn begin(schema: &str, tables: &[String]) -> String {
    let mut names: Vec<String> = tables.iter().map(|name| quote_qualified(schema, name)).collect();
    names.sort();
    names.dedup();
    let begin = "begin isolation level repeatable read read only";
    if names.is_empty() || fault::planted("no_lock") {
        begin.into()
    } else {
        format!("{begin}; lock table {} in access share mode", names.join(", "))
    }
}

/// Opens a transaction at an exported snapshot. Nothing is waited for: who asks for a lock behind someone who waits for a
/// stronger one, waits as long as they do.
pub(super) fn begin_at(schema: &str, table: &str, snapshot: &str) -> String {
    format!(
        "begin isolation level repeatable read read only; set transaction snapshot {snapshot}; \
         lock table {} in access share mode nowait",
        quote_qualified(schema, table)
    )
}

/// The snapshot, and the clock and WAL position after it. The *insert* position: with `synchronous_commit = off` the
/// snapshot sees commits that are not written yet.
pub(super) fn snapshot(lsn_readable: bool) -> String {
    let lsn = if lsn_readable {
        "case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end"
    } else {
        "null::pg_lsn"
    };
    format!(
        "select pg_current_snapshot()::text, clock_timestamp(), pg_is_in_recovery(), current_database()::text, {lsn}, \
         {SETTINGS_HOLD}"
    )
}

/// Whether the WAL is flushed up to a position, and `wal_writer_delay` in milliseconds.
pub(super) const FLUSHED: &str = "select pg_current_wal_flush_lsn() >= $1, s.setting::int4 \
                                  from pg_catalog.pg_settings s where s.name = 'wal_writer_delay'";
pub(super) const NOT_FLUSHED: &str = "cannot see whether the source has flushed what was read";

/// The COPY that reads columns of a table.
pub(super) fn copy(schema: &str, table: &str, columns: &[Column], filter: Option<&str>) -> String {
    let list: Vec<String> = columns.iter().map(select_expression).collect();
    let condition = filter.map(|f| format!(" where {f}")).unwrap_or_default();
    format!(
        "copy (select {} from {}{condition}) to stdout (format binary)",
        list.join(", "),
        quote_qualified(schema, table)
    )
}

/// The COPY that reads columns of the rows of some pages for which a condition holds. Each range is a scan of its own: a
/// list of ranges in one condition would be a scan of the whole table. (`offset 0` keeps the planner from making it that.)
pub(super) fn copy_ranges(schema: &str, table: &str, columns: &[Column], filter: &str, ranges: &[PageRange]) -> String {
    let list: Vec<String> = columns.iter().map(select_expression).collect();
    let first: Vec<String> = ranges.iter().map(|range| range.from.to_string()).collect();
    let behind: Vec<String> = ranges.iter().map(|range| range.to.unwrap_or(u32::MAX).to_string()).collect();
    format!(
        "copy (select t.* from unnest('{{{}}}'::int8[], '{{{}}}'::int8[]) as r(first, behind), lateral (select {} from {} as _t \
         where ctid >= ('(' || r.first || ',0)')::tid and ctid < ('(' || r.behind || ',0)')::tid and ({filter}) \
         offset 0) t) to stdout (format binary)",
        first.join(","),
        behind.join(","),
        list.join(", "),
        quote_qualified(schema, table)
    )
}

/// How a column is selected, so that its binary form is that of its [`ColumnType`]: what is carried as another type than
/// its own is cast. (`char(n)` loses its padding by that, as in every conversion of PostgreSQL's.)
pub fn select_expression(column: &Column) -> String {
    let name = quote_ident(&column.name);
    let is_text = |declared: &str| declared == "text" || declared.starts_with("character varying");
    let Some(declared) = column.declared.as_deref() else { return name };
    // Of any type, what its output function gives. (A composite value of nulls is no null, which `is null` would say.)
    let shown = || format!("case when num_nulls({name}) = 0 then concat({name}) end");
    match (&column.column_type, declared.strip_suffix("[]")) {
        (ColumnType::Text, _) if shows_names(column) => shown(),
        (ColumnType::Array(_), _) if shows_names(column) => format!("({})::text[]", shown()),
        (ColumnType::Text, None) if is_text(declared) => name,
        (ColumnType::Text, _) => format!("{name}::text"),
        (ColumnType::Array(element), Some(declared)) if **element == ColumnType::Text && is_text(declared) => name,
        (ColumnType::Array(element), _) if **element == ColumnType::Text => format!("{name}::text[]"),
        // Composites and arrays of them, and domains over json, which stay what they are.
        (ColumnType::Json, _) if declared != "json" => format!("to_json({name})"),
        // money and oid, and domains over numeric and bigint.
        (ColumnType::Numeric { .. }, _) if !declared.starts_with("numeric") => format!("{name}::numeric"),
        (ColumnType::Int8, _) if declared != "bigint" => format!("{name}::int8"),
        (ColumnType::Array(element), Some(declared)) => match **element {
            ColumnType::Numeric { .. } if !declared.starts_with("numeric") => format!("{name}::numeric[]"),
            ColumnType::Int8 if declared != "bigint" => format!("{name}::int8[]"),
            _ => name,
        },
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, column_type: ColumnType, declared: &str) -> Column {
        Column { name: name.into(), column_type, nullable: true, declared: Some(declared.into()), labels: vec![] }
    }

    #[test]
    fn only_what_is_no_text_yet_is_cast() {
        let texts = || ColumnType::Array(Box::new(ColumnType::Text));
        for (column_type, declared, expected) in [
            (ColumnType::Text, "text", "\"c\""),
            (ColumnType::Text, "character varying(3)", "\"c\""),
            (ColumnType::Text, "character(3)", "\"c\"::text"),
            (ColumnType::Text, "public.mood", "\"c\"::text"),
            (ColumnType::Text, "integer[]", "\"c\"::text"),
            (ColumnType::Text, "text[]", "\"c\"::text"),
            (texts(), "character varying(3)[]", "\"c\""),
            (texts(), "public.mood[]", "\"c\"::text[]"),
            (texts(), "public.texts", "\"c\"::text[]"),
            (ColumnType::Int4, "public.year", "\"c\""),
            (ColumnType::Text, "interval", "\"c\"::text"),
            (ColumnType::Json, "json", "\"c\""),
            (ColumnType::Json, "public.pair[]", "to_json(\"c\")"),
            (ColumnType::Numeric { precision: 19, scale: 2 }, "money", "\"c\"::numeric"),
            (ColumnType::Numeric { precision: 10, scale: 2 }, "numeric(10,2)", "\"c\""),
            (ColumnType::Array(Box::new(ColumnType::Int8)), "oid[]", "\"c\"::int8[]"),
            (ColumnType::Array(Box::new(ColumnType::Int8)), "bigint[]", "\"c\""),
        ] {
            assert_eq!(select_expression(&column("c", column_type, declared)), expected, "{declared}");
        }
    }

    #[test]
    fn labels_and_fields_are_shown_by_the_output_function_of_their_type() {
        let shown = "case when num_nulls(\"c\") = 0 then concat(\"c\") end";
        let named = |column_type, declared: &str| {
            let labels = vec!["sad".to_string()];
            select_expression(&Column { labels, ..column("c", column_type, declared) })
        };
        let texts = ColumnType::Array(Box::new(ColumnType::Text));
        assert_eq!(named(ColumnType::Text, "public.mood"), shown);
        assert_eq!(named(texts, "public.mood[]"), format!("({shown})::text[]"));
        // How a column is computed is no label, and has no type of the database's.
        assert_eq!(named(ColumnType::Text, "character(3)"), "\"c\"::text");
        assert_eq!(named(ColumnType::Json, "public.pair"), "to_json(\"c\")");
    }

    #[test]
    fn tables_are_quoted_and_locked_in_one_order() {
        assert_eq!(
            begin("public", &["transaction".into(), "a\"b".into()]),
            "begin isolation level repeatable read read only; \
             lock table \"public\".\"a\"\"b\", \"public\".\"transaction\" in access share mode"
        );
        assert_eq!(begin("public", &[]), "begin isolation level repeatable read read only");
        assert_eq!(
            copy("s", "t", &[column("c", ColumnType::Int4, "integer")], Some("true")),
            "copy (select \"c\" from \"s\".\"t\" where true) to stdout (format binary)"
        );
        assert_eq!(copy("s", "t", &[], None), "copy (select  from \"s\".\"t\") to stdout (format binary)");
    }
}
