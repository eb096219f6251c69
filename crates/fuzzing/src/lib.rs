//! What must hold of any bytes that come from outside: one function per door, which panics where it does not hold.
//!
//! `fuzz/` calls them with bytes that libFuzzer makes up, this crate's test with the bytes that are kept in `fuzz/corpus`.
//! So what fuzzing once found stays found, on a stable compiler and without a fuzzer. It is a crate of its own because
//! it needs the adapters without the engine, which would take half an hour to build for a fuzzer.

mod change;
mod config;
mod copy;
mod documents;
mod model;
mod numeric;
mod parquet_file;

pub use change::{Numbers, changed};
pub use config::config;
pub use copy::{columns, copy};
pub use documents::{event, manifest};
pub use model::model;
pub use numeric::numeric;
pub use parquet_file::{ROWS, parquet_file, schema};

/// Panics where what must hold of these bytes does not.
pub type Check = fn(&[u8]);

/// Every target by the name of its corpus.
pub const TARGETS: [(&str, Check); 7] = [
    ("event", event),
    ("manifest", manifest),
    ("model", model),
    ("config", config),
    ("copy", copy),
    ("numeric", numeric),
    ("parquet", parquet_file),
];

/// An error from bytes that came from outside is the caller's to mend, never ours, and says how.
fn is_the_callers(error: &starlift_core::Error) {
    assert_ne!(error.kind(), starlift_core::ErrorKind::Internal, "{error:?}");
    assert!(!error.render().is_empty());
}
