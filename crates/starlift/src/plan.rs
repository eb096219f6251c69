//! Plan: what a run would do now, found without writing anything anywhere.

use serde::Serialize;

/// What a run would do.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// What ingest would read.
    pub ingest: Vec<PlannedTable>,
    /// What transform would evaluate, given the lake as it is now.
    pub transform: Vec<PlannedModel>,
    /// What load would do, given the star as it is now, in words.
    pub load: String,
    /// What could not be found out.
    pub notes: Vec<String>,
}

/// What ingest would do with one table.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedTable {
    /// The table.
    pub name: String,
    /// `xid` or `full`.
    pub capture: String,
    /// `window` or `full`.
    pub mode: String,
    /// Why it would be read in full.
    pub reason: Option<String>,
    /// Rows that the source's statistics estimate.
    pub estimated_rows: u64,
    /// Bytes that PostgreSQL would scan.
    pub scan_bytes: u64,
}

/// What transform would do with one model.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedModel {
    /// The model.
    pub name: String,
    /// Whether it would be evaluated in this transform.
    pub evaluate: bool,
    /// Why; or what it waits for.
    pub reason: Option<String>,
    /// The tables of this run's ingest that would have it evaluated if they changed.
    pub follows: Vec<String>,
}
