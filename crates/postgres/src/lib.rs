//! The adapter to PostgreSQL: connect and TLS, catalog to schema, the COPY codec, extract and load.
//!
//! Nothing here reads a clock, the environment or a source of chance; what is needed is passed in.

pub mod catalog;
pub mod codec;
pub mod connect;
pub mod extract;
pub mod ident;
pub mod load;
pub mod render;
pub mod secret;
pub mod sqlstate;

pub use catalog::{Catalog, ColumnSetting, SourceTable, TableKind, TableSettings};
pub use codec::{BatchEncoder, Refusals, RowDecoder};
pub use connect::{ConnectOptions, Connection, connect};
pub use extract::{BatchLimits, RowStream, SourceSession, SourceSnapshot, server_version};
pub use secret::Secret;
