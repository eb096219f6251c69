//! The adapter to PostgreSQL: connect and TLS, catalog to schema, the COPY codec, extract and load.
//!
//! Nothing here reads a clock, the environment or a source of chance; what is needed is passed in.

pub mod codec;
pub mod connect;
pub mod ident;
pub mod secret;
pub mod sqlstate;

pub use connect::{ConnectOptions, Connection, connect};
pub use secret::Secret;
