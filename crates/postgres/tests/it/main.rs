//! Tests of the adapter: pure ones of the codec, and ones with a private PostgreSQL as the oracle.

mod catalog;
mod codec;
mod connect;
mod durable;
mod extract;
mod load;
mod looks;
mod render;
mod round_trip;
mod support;
mod tls;
mod types;
mod versions;
mod windows;
