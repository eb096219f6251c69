//! A private PostgreSQL and a ToteSys that lives: for the demo, tests and benchmarks.
//!
//! [`Cluster`] starts a server from the installed binaries in a directory of its own and leaves neither a process nor
//! a file behind, however its owner ends. [`totesys`] fills a database with the history of a small business, lives
//! its days one by one, and knows what the star schema must contain at any moment. Nothing here reads a clock or a
//! source of entropy for data: the same seed gives the same rows for ever.

pub mod cluster;
mod failure;
pub mod proxy;
pub mod s3;
pub mod totesys;

pub use cluster::{Backup, Cluster, ClusterOptions, Restore, shared};
