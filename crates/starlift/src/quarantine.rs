//! Which rows a stage may set aside, and what stands aside.
//!
//! A refused row is an entry of its key in the state of its table or model: the count of keys knows it, it hides the older row,
//! and a good row that comes later hides it. What load refuses is an entry of `starlift.refused` in the warehouse. A stage that would set aside more rows than `max_quarantine` fails before it
//! commits. Rows that stood aside before count no more, whatever number they are.

mod again;
mod list;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use starlift_core::manifest::Manifest;
use starlift_core::refused::RefusedRows;
use starlift_core::{Error, Result};
use starlift_postgres::load::MaySetAside;

pub use again::{accept, check_names, replay};
pub use list::{QuarantinedRow, list, standing};

use crate::context::Context;
use crate::count;

/// The rows that a person lets through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Accepted {
    /// None beyond `max_quarantine`.
    #[default]
    None,
    /// Those of every table and model.
    All,
    /// Those of these tables and models.
    Of(BTreeSet<String>),
}

impl Accepted {
    fn holds(&self, name: &str) -> bool {
        match self {
            Accepted::None => false,
            Accepted::All => true,
            Accepted::Of(names) => names.contains(name),
        }
    }
}

/// What one stage has set aside so far, against what it may.
#[derive(Debug)]
pub(crate) struct Allowance {
    accepted: Accepted,
    max: u64,
    rows: AtomicU64,
}

impl Allowance {
    /// Of one stage of a run.
    pub(crate) fn of(ctx: &Context) -> Allowance {
        Allowance { accepted: ctx.accepted.clone(), max: ctx.config.quarantine.max_quarantine, rows: AtomicU64::new(0) }
    }

    /// Takes into account what earlier transactions of the same piece of work have counted.
    pub(crate) fn resume(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// What counts of the rows that a table or model sets aside anew.
    pub(crate) fn counted(&self, name: &str, new: &RefusedRows) -> u64 {
        if self.accepted.holds(name) { 0 } else { new.rows() }
    }

    /// Takes the rows that a table or model sets aside anew; the error says what is wrong with them.
    ///
    /// Errors: this error, with what to do, where they are more than allowed.
    pub(crate) fn take(&self, name: &str, new: &RefusedRows, error: impl FnOnce() -> Error) -> Result<()> {
        if self.accepted.holds(name) {
            return Ok(());
        }
        let rows = self.rows.fetch_add(new.rows(), Ordering::Relaxed) + new.rows();
        if rows <= self.max { Ok(()) } else { Err(error()) }
    }

    /// Takes rows back that a table set aside in a read which counts no more, because it is read once more.
    pub(crate) fn give_back(&self, name: &str, new: &RefusedRows) {
        if !self.accepted.holds(name) {
            self.rows.fetch_sub(new.rows(), Ordering::Relaxed);
        }
    }

    /// What one transaction of load may set aside: it counts by itself, because it may be tried more than once.
    pub(crate) fn of_load(&self, ctx: &Context, star: &Manifest, replay: bool) -> MaySetAside {
        MaySetAside {
            rows: self.max.saturating_sub(self.rows.load(Ordering::Relaxed)),
            accepted: star.relations.keys().filter(|name| self.accepted.holds(name)).cloned().collect(),
            keep_values: ctx.config.quarantine.keep_values,
            replay,
        }
    }

    /// Counts the rows that a transaction of load has set aside.
    pub(crate) fn count(&self, name: &str, new: &RefusedRows) {
        if !self.accepted.holds(name) {
            self.rows.fetch_add(new.rows(), Ordering::Relaxed);
        }
    }
}

/// A line for people about rows that were set aside.
pub(crate) fn warning(what: &str, name: &str, new: &RefusedRows) -> Option<String> {
    let rows = new.rows();
    (rows > 0).then(|| {
        let were = if rows == 1 { "was" } else { "were" };
        format!("{what} `{name}`: {} {were} set aside: {}", count::with(rows, "row"), new.summary())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: u64) -> RefusedRows {
        let mut rows = RefusedRows::default();
        for id in 0..count {
            rows.count("c", "it is NaN", || format!("id={id}"));
        }
        rows
    }

    fn allowance(accepted: Accepted, max: u64) -> Allowance {
        Allowance { accepted, max, rows: AtomicU64::new(0) }
    }

    fn take(allowance: &Allowance, name: &str, count: u64) -> bool {
        allowance.take(name, &rows(count), || Error::data("too many")).is_ok()
    }

    #[test]
    fn the_rows_of_all_tables_together_are_what_is_limited() {
        let allowance = allowance(Accepted::None, 3);
        assert!(take(&allowance, "a", 2));
        assert!(take(&allowance, "b", 1));
        assert!(take(&allowance, "b", 0));
        allowance.give_back("b", &rows(1));
        assert!(take(&allowance, "b", 1));
        assert!(!take(&allowance, "c", 1));
    }

    #[test]
    fn what_a_person_accepts_is_not_counted() {
        let of_a = allowance(Accepted::Of(["a".to_string()].into()), 0);
        assert!(take(&of_a, "a", 9));
        assert!(!take(&of_a, "b", 1));
        assert!(take(&allowance(Accepted::All, 0), "b", 9));
    }

    #[test]
    fn a_line_names_keys_and_reasons() {
        assert_eq!(warning("table", "t", &RefusedRows::default()), None);
        let line = warning("table", "t", &rows(1));
        assert_eq!(line.as_deref(), Some("table `t`: 1 row was set aside: column `c`: it is NaN in 1 row (id=0)"));
    }
}
