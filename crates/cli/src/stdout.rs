//! Standard output: the data that was asked for, and nothing else.

use std::io::{ErrorKind, Write};

use serde::Serialize;
use starlift_core::Error;

use crate::failure::Failure;

/// Prints text as it is; into nothing where nobody reads it any more.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // `starlift history | head` is no error; a command that failed still has to say so, and to end as one.
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(Error::unavailable("cannot write to standard output").with_source(e).into()),
        Ok(()) => Ok(()),
    }
}

/// Prints one line.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    print(&format!("{text}\n"))
}

/// Prints one JSON document on one line.
pub(crate) fn json(document: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(document)
        .map_err(|e| Error::internal("a document could not be written as JSON").with_source(e))?;
    line(&text)
}
