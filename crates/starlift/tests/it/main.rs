//! The stages on a private PostgreSQL: one binary, because linking the engine takes longer than the tests.

mod bad_input;
mod capture;
mod chunks;
mod config_bytes;
mod contract;
mod credentials;
mod cut_off;
mod days;
mod drift;
mod grants;
mod incremental;
mod loads;
mod oddities;
mod parts;
mod quarantine;
mod s3;
mod soak;
mod verify;
mod world;
