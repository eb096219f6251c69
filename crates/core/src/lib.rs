//! Words and decisions of starlift: no I/O, no async, no clock, no environment.
//!
//! Everything here is plain data and pure functions, so that every decision of a stage can be tested without a
//! database or a store.

pub mod alarm;
pub mod budget;
pub mod capture;
pub mod chunk;
pub mod coverage;
pub mod digest;
pub mod drift;
pub mod error;
pub mod event;
pub mod fault;
pub mod index;
pub mod kept;
pub mod key;
pub mod load_plan;
pub mod manifest;
pub mod model;
pub mod refused;
pub mod relation;
pub mod schema;
pub mod settings;
pub mod state;
pub mod succession;
pub mod time;
pub mod types;
pub mod unfinished;
pub mod vacuum;
pub mod wal;
pub mod xid;

pub use error::{Error, ErrorKind, Result};
pub use schema::{Column, TableSchema};
pub use time::Micros;
pub use types::ColumnType;
