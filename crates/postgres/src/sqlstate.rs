//! What an error of the server means: the one table from SQLSTATE to [`ErrorKind`] and [`Retry`], and the one boundary
//! where errors of `tokio_postgres` become ours.
//!
//! Codes: PostgreSQL manual, appendix A.
//!
//! The server's own text is kept only where it cannot hold a row value: never its detail, hint or context lines
//! (`Key (email)=(…)`, `COPY …, line 1, column x: "…"`), never the message of a data exception (`invalid input syntax for
//! type integer: "…"`) or of anything that a function raised, nor the names that it may have made up in raising it.

use starlift_core::{Error, ErrorKind};
use tokio_postgres::error::ErrorPosition;

/// What may be tried after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same transaction again; nothing of it has happened.
    Transaction,
    /// The same transaction again, over a new connection; nothing of it has happened.
    Reconnect,
    /// Nobody can say whether the transaction was committed: look first, then decide.
    UnknownOutcome,
    /// Once more after a change: a new plan, the secret read again, a smaller batch.
    OnceChanged,
    /// Later: the server lacks space, which does not come back within seconds.
    Later,
    /// Never: the same thing fails again.
    Never,
}

/// What a SQLSTATE means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// What the reader has to do about it.
    pub kind: ErrorKind,
    /// What may be tried by itself.
    pub retry: Retry,
}

/// What each SQLSTATE means, and what each class of them (their first two characters) does for codes that no row names:
/// the only place where it is decided.
const TABLE: &[(&[&str], ErrorKind, Retry)] = {
    use ErrorKind::{Config, Data, Internal, Permission, Unavailable, Unsupported};
    &[
        // Serialisation failure, deadlock, lock timeout, out of memory, snapshot too old, an object in use or not ready.
        (&["40001", "40P01", "55P03", "53200", "72000", "55000", "55006"], Unavailable, Retry::Transaction),
        // The statement or the connection ended before the server could say how.
        (&["40003", "08007"], Unavailable, Retry::UnknownOutcome),
        // A transaction that took or idled too long, a node that became a standby, a server that stops, starts or is
        // full, a disk that failed it.
        (
            &["25P03", "25P04", "25006", "57P01", "57P02", "57P03", "57P05", "53300", "58030"],
            Unavailable,
            Retry::Reconnect,
        ),
        // A statement timeout or a person who cancelled; a prepared statement that a pooler mixed up.
        (&["57014", "26000", "42P05"], Unavailable, Retry::OnceChanged),
        // The secret may have been rotated since it was read; a new connection reads it again.
        (&["28P01"], Permission, Retry::OnceChanged),
        (&["53100"], Unavailable, Retry::Later),
        (&["42501"], Permission, Retry::Never),
        // A database that was dropped; a limit that an administrator has set, such as `temp_file_limit`; a sequence that has
        // given its last number.
        (&["57P04", "53400", "2200H"], Config, Retry::Never),
        // A foreign protocol: no server that we can talk to.
        (&["08P01"], Internal, Retry::Never),
        // Data that the server finds damaged on its own disk, or whose files are not there.
        (&["XX001", "XX002", "58P01"], Data, Retry::Never),
        // Whole classes.
        (&["08", "53", "57", "58", "HV"], Unavailable, Retry::Reconnect),
        (&["40"], Unavailable, Retry::Transaction),
        (&["0A"], Unsupported, Retry::Never),
        // Values, constraints, limits of a row, and what functions and triggers of the database raise.
        (&["09", "21", "22", "23", "27", "2F", "38", "39", "44", "54", "P0"], Data, Retry::Never),
        (&["0L", "0P", "28"], Permission, Retry::Never),
        (&["2B", "3D", "3F", "42", "55", "F0"], Config, Retry::Never),
        // What only a mistake of ours, or of the server, leads to.
        (
            &["00", "01", "02", "03", "0B", "0F", "0Z", "10", "20", "24", "25", "26", "2D", "34", "3B", "72", "XX"],
            Internal,
            Retry::Never,
        ),
    ]
};

/// The class of a SQLSTATE; an unknown one is a bug.
pub fn class_of(code: &str) -> Class {
    let row = |wanted: &str| TABLE.iter().find(|(codes, _, _)| codes.contains(&wanted));
    match row(code).or_else(|| row(code.get(..2)?)) {
        Some((_, kind, retry)) => Class { kind: *kind, retry: *retry },
        None => Class { kind: ErrorKind::Internal, retry: Retry::Never },
    }
}

/// The class of an error of the driver while connecting or in a statement. For COMMIT see [`commit_retry`].
pub fn class(error: &tokio_postgres::Error) -> Class {
    match error.as_db_error() {
        Some(db) if is_stale_plan(db) => Class { kind: ErrorKind::Unavailable, retry: Retry::OnceChanged },
        Some(db) => class_of(db.code().code()),
        None if is_ours(error) => Class { kind: ErrorKind::Internal, retry: Retry::Never },
        // No answer of the server: the connection is gone, or never came about.
        None => Class { kind: ErrorKind::Unavailable, retry: Retry::Reconnect },
    }
}

/// What may be tried after a COMMIT that failed: the outcome is unknown unless the server itself said no.
pub fn commit_retry(error: &tokio_postgres::Error) -> Retry {
    match error.code().map(|c| c.code()) {
        // A backend may be ended after it has committed and before it could say so.
        Some(code) if code.starts_with("08") || code.starts_with("57P") => Retry::UnknownOutcome,
        Some(code) => class_of(code).retry,
        None => Retry::UnknownOutcome,
    }
}

/// Turns an error of the driver into ours. `what` says what was tried, as a message: `cannot read table "t"`.
///
/// The context holds `sqlstate` and, where the server named them, `constraint`, `table` and `column`.
pub fn classify(error: tokio_postgres::Error, what: impl Into<String>) -> Error {
    classified(error, what.into(), false)
}

/// As [`classify`], for an error of a statement over rows: one that stages, checks or writes them.
///
/// Of such a statement the server's own text is kept only where it is of a constraint, of a place in the statement itself, or
/// of the state of the server: an input function quotes the value that it refuses under any code, also under one of names
/// (`lang::regconfig`) or of bugs (`hstore`).
pub fn classify_of_rows(error: tokio_postgres::Error, what: impl Into<String>) -> Error {
    classified(error, what.into(), true)
}

fn classified(error: tokio_postgres::Error, what: String, is_over_rows: bool) -> Error {
    let class = class(&error);
    let Some(db) = error.as_db_error() else {
        return driver_error(error, class.kind, what);
    };
    let code = db.code().code();
    let is_of_statement = matches!(db.position(), Some(ErrorPosition::Original(_)));
    let may_quote = is_over_rows && !is_of_statement && !is_of_rules_or_server(code);
    let shown = if may_quote { meaning(code, is_raised(db)).to_string() } else { shown_message(db) };
    let mut ours =
        Error::new(class.kind, what).with_detail(format!("{shown} (SQLSTATE {code})")).with_context("sqlstate", code);
    for (name, value) in [("constraint", db.constraint()), ("table", db.table()), ("column", db.column())] {
        if let Some(value) = value.filter(|_| !is_raised(db)) {
            ours = ours.with_context(name, value);
        }
    }
    let hint = if may_quote && may_be_of_a_row(code) { Some(MEND_THE_ROW) } else { hint_of(code) };
    match hint.or((class.kind == ErrorKind::Unavailable).then_some(RUN_AGAIN)) {
        Some(hint) => ours.with_hint(hint),
        None => ours,
    }
}

/// Whether the server says this code of constraints, or of itself: never in the words of a value.
fn is_of_rules_or_server(code: &str) -> bool {
    ["08", "23", "40", "53", "57", "55P03"].iter().any(|start| code.starts_with(start))
}

/// The error of a server that takes no writes, a standby, whatever code it said so with.
pub(crate) fn takes_no_writes(what: impl Into<String>) -> Error {
    let code = "25006";
    let ours = Error::new(class_of(code).kind, what)
        .with_detail("the server is in recovery: it is a standby")
        .with_context("sqlstate", code);
    match hint_of(code) {
        Some(hint) => ours.with_hint(hint),
        None => ours,
    }
}

/// The SQLSTATE that an error of ours was made from.
pub fn sqlstate_of(error: &Error) -> Option<&str> {
    error.context().iter().find(|(name, _)| *name == "sqlstate").map(|(_, code)| code.as_str())
}

/// The beginnings of the codes that no row leads to, whatever the statement does with it: the server or the connection is in
/// trouble, another session is in the way, a privilege or a number of a sequence is missing, a file on its disk is damaged.
const NEVER_OF_A_ROW: [&str; 20] = [
    "08", "0L", "0P", "25", "28", "40", "53", "57", "58", "72", "HV", "2200H", "26000", "42501", "42P05", "55000",
    "55006", "55P03", "XX001", "XX002",
];

/// Those of rows that may be written once others are: a row that they refer to is not there yet, or one that is about to
/// change holds their value; and what functions and triggers raise, who may have looked for another row.
const MAY_COME_IN_LATER: [&str; 14] =
    ["09", "20", "21", "23000", "23001", "23503", "23505", "23P01", "27", "2F", "38", "39", "44", "P0"];

/// Whether an error of this code may be that of one row among many, if it does not come up without rows: the input functions
/// of types, and what triggers do with a value, refuse it under any code.
pub(crate) fn may_be_of_a_row(code: &str) -> bool {
    !NEVER_OF_A_ROW.iter().any(|start| code.starts_with(start))
}

/// The SQL of the contrary of [`may_be_of_a_row`].
pub(crate) fn is_never_of_a_row_sql(code: &str) -> String {
    starts_with_any_sql(code, &NEVER_OF_A_ROW)
}

/// Whether a row that was refused with this code may be written once others are.
pub(crate) fn may_come_in_later(code: &str) -> bool {
    MAY_COME_IN_LATER.iter().any(|start| code.starts_with(start))
}

/// The SQL of [`may_come_in_later`].
pub(crate) fn may_come_in_later_sql(code: &str) -> String {
    starts_with_any_sql(code, &MAY_COME_IN_LATER)
}

fn starts_with_any_sql(code: &str, starts: &[&str]) -> String {
    format!("{code} ~ '^({})'", starts.join("|"))
}

/// What may be tried after an error of ours, wherever it came from; for COMMIT see [`commit_retry`].
pub fn retry_of(error: &Error) -> Retry {
    match (sqlstate_of(error), error.kind()) {
        (Some(code), ErrorKind::Unavailable) if class_of(code).kind != ErrorKind::Unavailable => Retry::OnceChanged,
        (Some(code), _) => class_of(code).retry,
        (None, ErrorKind::Unavailable) => Retry::Reconnect,
        (None, _) => Retry::Never,
    }
}

/// The constraint, table or column that the server named in an error.
pub fn named_in(error: &Error, what: &str) -> Option<String> {
    error.context().iter().find(|(name, _)| *name == what).map(|(_, value)| value.clone())
}

/// What helps against a row that the server refuses where nothing can be set aside.
const MEND_THE_ROW: &str = "mend the row in the source, or what refuses it in the warehouse; if load stops at the older rows \
     all the same, `starlift load --adopt` brings the newest in";

/// What helps where nothing else is known: what is unavailable now may be there in a moment.
const RUN_AGAIN: &str = "run again; the work of this run is kept";

fn driver_error(error: tokio_postgres::Error, kind: ErrorKind, what: String) -> Error {
    let mut ours = Error::new(kind, what);
    // A server that ends a session is met as an end, or as a socket that takes no more: that depends on the moment alone.
    if kind == ErrorKind::Unavailable {
        ours = ours.with_hint(RUN_AGAIN);
    }
    if error.is_closed() {
        return ours.with_detail("the server closed the connection");
    }
    // Errors without an answer of the server come from sockets, TLS and the protocol: they hold no row value.
    ours.with_source(error)
}

/// Errors that the driver makes when it is used in the wrong way: no network is to blame. It has no public kind.
fn is_ours(error: &tokio_postgres::Error) -> bool {
    let text = error.to_string();
    [
        "error serializing",
        "error deserializing",
        "invalid column",
        "expected ",
        "query returned",
        "invalid configuration",
    ]
    .iter()
    .any(|start| text.starts_with(start))
}

/// "Cached plan must not change result type", by the routine that says it: the message may be translated.
fn is_stale_plan(db: &tokio_postgres::error::DbError) -> bool {
    let says_so = db.routine() == Some("RevalidateCachedQuery") || db.message().contains("cached plan");
    db.code().code() == "0A000" && says_so
}

/// The server's message where it holds no row value, else what its code says.
fn shown_message(db: &tokio_postgres::error::DbError) -> String {
    let code = db.code().code();
    let raised = is_raised(db);
    let speaks_of_values = matches!(code.get(..2), Some("21" | "22" | "2F" | "38" | "39" | "44" | "54" | "P0" | "HV"));
    if !raised && !speaks_of_values {
        return db.message().to_string();
    }
    meaning(code, raised).to_string()
}

/// What a code means, where the server's words may hold a row value.
fn meaning(code: &str, raised: bool) -> &'static str {
    match code {
        "2200H" => "a sequence has given its last number",
        "22001" => "a value is too long for its column",
        "22003" => "a number is out of the range of its column",
        "22007" | "22008" => "a date or time cannot be held",
        "22012" => "a division by zero",
        "22021" => "a text has bytes that the database's encoding does not know",
        "22P02" => "a value is not in the form of its column's type",
        "22P03" => "a binary value is not in the form of its column's type",
        "22P04" => "the COPY data does not fit the columns",
        "22P05" => "a text has a character that the database's encoding does not have",
        "42501" if !raised => "our role lacks a privilege",
        _ if raised => "a function or trigger of the database refused",
        _ if code.starts_with("54") => "a limit of the server was reached",
        _ if code.starts_with("22") => "a value was refused by the database",
        _ if may_be_of_a_row(code) => "the database refused a value, or what it does with one",
        _ => "the database refused the statement",
    }
}

/// Whether a function or trigger of the database had a hand in the text: `raise` and its like in other languages may put
/// anything into it, under any code, and what a function executes may be SQL that it made from values.
fn is_raised(db: &tokio_postgres::error::DbError) -> bool {
    let raises = |routine: &str| {
        routine == "exec_stmt_raise"
            || ["PLy_", "plperl_", "pltcl_", "plv8"].iter().any(|start| routine.starts_with(start))
    };
    db.routine().is_some_and(raises) || matches!(db.position(), Some(ErrorPosition::Internal { .. }))
}

fn hint_of(code: &str) -> Option<&'static str> {
    Some(match code {
        "28P01" => "check user and password in the credentials; `starlift doctor` tries them",
        "28000" => "let the role log in: `alter role … login`, and look at the server's pg_hba.conf and its sslmode",
        "3D000" => "check `database` in the credentials",
        "3F000" => "check `schema` in starlift.toml",
        "42501" => "grant the missing privilege; `starlift doctor` lists the statements",
        "42P01" => "a table is missing: `starlift doctor` shows what is there",
        "42703" => "a column is missing: `starlift plan` shows what changed",
        "26000" | "42P05" => {
            "a pooler in transaction mode mixes sessions up: point the URL at the server itself, or at a pooler in session mode"
        }
        "53100" => "make room on the disk of the server, then run again",
        "53300" => "the server has no free connection: run again later, or raise `max_connections`",
        "55P03" => "another session holds a lock on it: run again when it has ended",
        "57014" => "raise the statement timeout, or run again when the server is less busy",
        "57P03" => "the server is starting or stopping: run again in a moment",
        "2200H" => {
            "let the owner widen it: `alter sequence … as bigint` (or `no maxvalue`), and its column, `alter table … alter \
             column … type bigint`"
        }
        "23502" | "23503" | "23505" | "23514" => {
            "mend the row in the source, or the constraint; if load stops at the older rows all the same, \
             `starlift load --adopt` brings the newest in"
        }
        "25006" => "this server takes no writes: point the URL at the primary",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_ours_remembers_what_may_be_tried() {
        let with_code = |kind, code: &str| Error::new(kind, "it failed").with_context("sqlstate", code);
        assert_eq!(retry_of(&with_code(ErrorKind::Unavailable, "40001")), Retry::Transaction);
        assert_eq!(retry_of(&with_code(ErrorKind::Data, "23505")), Retry::Never);
        // A stale plan has the code of what is not supported.
        assert_eq!(retry_of(&with_code(ErrorKind::Unavailable, "0A000")), Retry::OnceChanged);
        assert_eq!(retry_of(&Error::unavailable("the server closed the connection")), Retry::Reconnect);
        assert_eq!(retry_of(&Error::config("a setting is wrong")), Retry::Never);
    }

    #[test]
    fn codes_have_the_kind_and_retry_of_the_documentation() {
        use ErrorKind::*;
        for (codes, kind, retry) in [
            (&["40001", "40P01", "55P03", "53200", "40000", "55000"][..], Unavailable, Retry::Transaction),
            (&["08000", "08001", "08003", "08006", "57P01", "57P02", "57P03", "57P05"], Unavailable, Retry::Reconnect),
            (&["25P03", "25P04", "25006", "53300", "53000", "58030", "57000"], Unavailable, Retry::Reconnect),
            (&["08007", "40003"], Unavailable, Retry::UnknownOutcome),
            (&["57014", "26000", "42P05"], Unavailable, Retry::OnceChanged),
            (&["28P01"], Permission, Retry::OnceChanged),
            (&["53100"], Unavailable, Retry::Later),
            (&["22003", "22007", "22008", "22021", "22P02", "21000", "44000", "54000"], Data, Retry::Never),
            (&["23502", "23503", "23505", "23514", "23P01"], Data, Retry::Never),
            (&["P0001", "38000", "39P01", "XX001", "XX002", "58P01"], Data, Retry::Never),
            (
                &["42P01", "42703", "42601", "3D000", "3F000", "57P04", "53400", "55P02", "F0000", "2200H"],
                Config,
                Retry::Never,
            ),
            (&["42501", "28000", "0P000"], Permission, Retry::Never),
            (&["0A000"], Unsupported, Retry::Never),
            (&["XX000", "08P01", "25001", "25P02", "", "2", "00000", "é1", "ZZ999"], Internal, Retry::Never),
        ] {
            for code in codes {
                assert_eq!(class_of(code), Class { kind, retry }, "{code}");
            }
        }
        // Every class of appendix A is decided, and nothing is decided twice.
        let decided: Vec<&str> = TABLE.iter().flat_map(|(codes, _, _)| codes.iter().copied()).collect();
        let classes = "00 01 02 03 08 09 0A 0B 0F 0L 0P 0Z 10 20 21 22 23 24 25 26 27 28 2B 2D 2F 34 38 39 3B 3D 3F 40 \
                       42 44 53 54 55 57 58 72 F0 HV P0 XX";
        for class in classes.split_whitespace() {
            assert_eq!(decided.iter().filter(|code| **code == class).count(), 1, "{class}");
        }
        for code in &decided {
            assert_eq!(decided.iter().filter(|other| *other == code).count(), 1, "{code}");
        }
    }

    #[test]
    fn an_error_of_any_code_may_be_of_a_row_unless_the_server_has_another_reason() {
        // What a reader has to wait for, or is not allowed to do, is no matter of a row, whatever the table says of it next.
        for (codes, kind, _) in
            TABLE.iter().filter(|(_, kind, _)| matches!(kind, ErrorKind::Unavailable | ErrorKind::Permission))
        {
            for code in *codes {
                assert!(!may_be_of_a_row(&format!("{code:0<5}")), "{code}: {kind:?}");
            }
        }
        for code in ["53400", "57P04", "58P01", "XX001", "25P02", "08P01", "2200H", "42501", "55P03"] {
            assert!(!may_be_of_a_row(code), "{code}");
        }
        for code in ["22P05", "23505", "42704", "42601", "42P01", "3F000", "XX000", "0A000", "20000", "P0001", "54000"]
        {
            assert!(may_be_of_a_row(code), "{code}");
        }
        for (code, later) in [("23503", true), ("23505", true), ("P0001", true), ("23514", false), ("22003", false)] {
            assert_eq!(may_come_in_later(code), later, "{code}");
            assert!(may_be_of_a_row(code), "{code}");
        }
        assert_eq!(may_come_in_later_sql("x"), "x ~ '^(09|20|21|23000|23001|23503|23505|23P01|27|2F|38|39|44|P0)'");
    }
}
