//! What a schedule did and promised, for the invariants to compare with what it left.

use std::collections::BTreeMap;

use crate::tables::{Model, Rows, Table};

/// A commit of a lake or star that was reported to its caller.
#[derive(Debug, Clone)]
pub(crate) struct Reported {
    pub(crate) bucket: usize,
    pub(crate) seq: u64,
    pub(crate) write_id: String,
    pub(crate) sha256: String,
}

/// What a warehouse showed after one of its commits.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    /// The star and seq of the ledger's newest row.
    pub(crate) head: Option<(String, u64)>,
    pub(crate) current: BTreeMap<Model, Rows>,
}

#[derive(Debug, Default)]
pub(crate) struct Record {
    /// What each manifest, if it was stored, has to hold: by write id, the tables that its run read.
    pub(crate) images: BTreeMap<String, BTreeMap<Table, Rows>>,
    /// The WAL position of the snapshot that each lake manifest was read at, by write id.
    pub(crate) snapshots: BTreeMap<String, u64>,
    /// The versions of the models under which each star manifest was made, by write id.
    pub(crate) versions: BTreeMap<String, BTreeMap<Model, u32>>,
    pub(crate) reported: Vec<Reported>,
    pub(crate) shown: Vec<Shown>,
    /// What should never be.
    pub(crate) violations: Vec<String>,
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) steps: usize,
}

impl Record {
    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        let step = self.steps;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{step:4} {}", text()));
        }
    }

    pub(crate) fn violation(&mut self, text: String) {
        self.note(|| format!("VIOLATION {text}"));
        self.violations.push(text);
    }

    pub(crate) fn demand(&mut self, holds: bool, text: impl FnOnce() -> String) {
        if !holds {
            self.violation(text());
        }
    }
}
