//! The sandbox against a real PostgreSQL: it leaves nothing behind, and its data are the same for ever.

mod backup;
mod cluster;
mod oracle;
mod totesys;
mod zoo;
