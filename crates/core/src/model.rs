//! Models: what a header says, which tables the SQL reads, and the order in which models depend on one another.

mod depth;
mod graph;
mod header;
mod lineage;
mod references;
mod source_references;

pub use graph::{ModelGraph, nearest, some_of, unknown_input, widen};
pub use header::{Header, ModelKind, ModelTest};
pub use lineage::{Uses, uses};
pub use references::referenced_tables;
pub use source_references::{SourceReferences, source_references};

use crate::digest::sha256_hex;
use crate::error::Result;

/// One model: a SQL file with its header read and its inputs found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// The file's name without `.sql`.
    pub name: String,
    /// What its header says.
    pub header: Header,
    /// The SQL without the header; empty for a calendar.
    pub sql: String,
    /// The tables, seeds and models that it reads, sorted.
    pub inputs: Vec<String>,
}

impl Model {
    /// Reads a model file.
    ///
    /// Errors: Config for a header with an unknown key or kind, and for SQL that does not parse or is no single query.
    pub fn parse(name: &str, text: &str) -> Result<Model> {
        // Some editors begin a file with a byte order mark.
        let (header, sql) = header::parse(name, text.strip_prefix('\u{feff}').unwrap_or(text))?;
        let inputs = match header.kind {
            ModelKind::Calendar => header::no_sql(name, &sql).map(|()| Vec::new())?,
            ModelKind::Dimension | ModelKind::Fact => referenced_tables(name, &sql)?,
        };
        Ok(Model { name: name.to_string(), header, sql, inputs })
    }

    /// Names this version of the model: its text, and whatever else its rows depend on (seeds, settings, the version of
    /// the evaluation), as the caller gives it.
    pub fn fingerprint(&self, depends_on: &[&str]) -> String {
        let mut parts = vec![format!("{:?}", self.header), self.sql.clone()];
        parts.extend(depends_on.iter().map(|s| s.to_string()));
        // Length prefixes keep two lists of parts from reading the same.
        let joined: String = parts.iter().map(|p| format!("{}:{p}", p.len())).collect();
        sha256_hex(joined.as_bytes())
    }
}
