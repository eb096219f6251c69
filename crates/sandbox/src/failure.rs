//! Classifies what the operating system and PostgreSQL report into starlift's errors: the one place of this crate.

use std::path::Path;

use starlift_core::{Error, ErrorKind};

/// A file operation that failed; the message says what was tried.
pub(crate) fn io(what: impl Into<String>, path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::PermissionDenied => ErrorKind::Permission,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, what).with_context("path", path.display().to_string()).with_source(error)
}

/// A statement or connection that failed.
///
/// The server's own detail line is left out, because it quotes row values.
pub(crate) fn postgres(what: impl Into<String>, error: tokio_postgres::Error) -> Error {
    let Some(db) = error.as_db_error() else {
        return Error::unavailable(what).with_source(error);
    };
    let code = db.code().code();
    let kind = match code {
        "42501" => ErrorKind::Permission,
        _ if code.starts_with("28") => ErrorKind::Permission,
        _ if code.starts_with("08") || code.starts_with("53") || code.starts_with("57") => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, what).with_detail(format!("{} (SQLSTATE {code})", db.message()))
}
