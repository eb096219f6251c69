//! A model of the warehouse: dimensions, versions of facts, retractions and the ledger, changed in transactions under a lock.
//!
//! What the statements of a load do is told here in a few lines; when they may do it is decided by `core::load_plan`.

use std::collections::{BTreeMap, BTreeSet};

use starlift_core::load_plan::LedgerHead;

use crate::record::{Record, Shown};
use crate::tables::{MODELS, Model, Row, Rows};

/// Everything that one commit changes together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    dimensions: BTreeMap<Model, BTreeMap<i32, Row>>,
    /// In the order of their record ids.
    facts: BTreeMap<Model, Vec<Row>>,
    retracted: BTreeSet<(Model, i32)>,
    /// In the order in which they were recorded.
    ledger: Vec<LedgerRow>,
}

#[derive(Debug, Clone)]
struct LedgerRow {
    star: String,
    head: LedgerHead,
    run_id: String,
}

#[derive(Debug, Default)]
pub(crate) struct Warehouse {
    content: Content,
    /// The run whose transaction holds the pipeline's advisory lock.
    pub(crate) locked_by: Option<u32>,
    /// A COMMIT that the server got and has not finished when its client is gone: the transaction keeps its lock.
    pub(crate) late: Option<Content>,
    backups: Vec<Content>,
}

impl Content {
    /// The newest row of the ledger for a star.
    pub(crate) fn head(&self, star: &str) -> Option<LedgerHead> {
        let of_star = self.ledger.iter().filter(|row| row.star == star);
        of_star.map(|row| &row.head).max_by_key(|head| head.seq).cloned()
    }

    fn row(&self, star: &str, seq: u64) -> Option<&LedgerRow> {
        self.ledger.iter().find(|row| row.star == star && row.head.seq == seq)
    }

    pub(crate) fn sha256_at(&self, star: &str, seq: u64) -> Option<String> {
        self.row(star, seq).map(|row| row.head.manifest_sha256.clone())
    }

    pub(crate) fn run_at(&self, star: &str, seq: u64) -> Option<String> {
        self.row(star, seq).map(|row| row.run_id.clone())
    }

    /// An adopted star replaces what the ledger says of other stars, and of later seqs of this one.
    pub(crate) fn record(&mut self, star: &str, head: LedgerHead, run_id: &str, adopt: bool) {
        if adopt {
            self.ledger.retain(|row| row.star == star && row.head.seq < head.seq);
        }
        self.ledger.push(LedgerRow { star: star.into(), head, run_id: run_id.into() });
    }

    pub(crate) fn upsert(&mut self, model: Model, rows: &[Row]) {
        self.dimensions.entry(model).or_default().extend(rows.iter().map(|row| (row[0], *row)));
    }

    /// A version is appended where it differs from the newest one of its key; with `always` whatever it is.
    pub(crate) fn append(&mut self, model: Model, rows: &[Row], always: bool) {
        let versions = self.facts.entry(model).or_default();
        for row in rows {
            let newest = versions.iter().rev().find(|version| version[0] == row[0]);
            if always || newest != Some(row) {
                versions.push(*row);
            }
        }
    }

    pub(crate) fn retract(&mut self, model: Model, keys: impl IntoIterator<Item = i32>) {
        self.retracted.extend(keys.into_iter().map(|key| (model, key)));
    }

    pub(crate) fn give_back(&mut self, model: Model, rows: &[Row]) {
        for row in rows {
            self.retracted.remove(&(model, row[0]));
        }
    }

    /// Every key that a model's table holds.
    pub(crate) fn keys(&self, model: Model) -> BTreeSet<i32> {
        let dimension = self.dimensions.get(&model).into_iter().flat_map(|rows| rows.keys().copied());
        dimension.chain(self.facts.get(&model).into_iter().flatten().map(|row| row[0])).collect()
    }

    /// The view `current_<model>`.
    pub(crate) fn current(&self, model: Model) -> Rows {
        let mut newest: BTreeMap<i32, Row> = self.dimensions.get(&model).cloned().unwrap_or_default();
        newest.extend(self.facts.get(&model).into_iter().flatten().map(|row| (row[0], *row)));
        newest.into_values().filter(|row| !self.retracted.contains(&(model, row[0]))).collect()
    }

    fn shown(&self) -> Shown {
        let head = self.ledger.last().map(|row| (row.star.clone(), row.head.seq));
        Shown { head, current: MODELS.iter().map(|m| (*m, self.current(*m))).collect() }
    }
}

impl Warehouse {
    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    /// Makes a transaction's content the warehouse's, and looks at it as any reader may from now on.
    pub(crate) fn commit(&mut self, content: Content, record: &mut Record) {
        self.backups.push(std::mem::replace(&mut self.content, content));
        let content = &self.content;
        for (model, versions) in &content.facts {
            let mut newest: BTreeMap<i32, &Row> = BTreeMap::new();
            for version in versions {
                let before = newest.insert(version[0], version);
                record.demand(before != Some(version), || format!("{} {version:?} is doubled", model.name()));
            }
        }
        let persons = content.dimensions.get(&Model::DimPerson).cloned().unwrap_or_default();
        for [id, person, _] in content.current(Model::FactSale) {
            record.demand(persons.contains_key(&person), || format!("sale {id} has no person"));
        }
        record.shown.push(content.shown());
    }

    /// The server finishes what it got before its client went away.
    pub(crate) fn finish_late(&mut self, record: &mut Record) {
        if let Some(content) = self.late.take() {
            record.note(|| "the warehouse finishes a COMMIT whose client is gone".into());
            self.commit(content, record);
        }
    }

    /// Whether nobody is in a transaction.
    pub(crate) fn is_free(&self) -> bool {
        self.locked_by.is_none() && self.late.is_none()
    }

    /// `warehouse clear`: everything is emptied, and the ledger with it.
    pub(crate) fn clear(&mut self) {
        self.content = Content::default();
    }

    /// Somebody drops the schema `starlift`.
    pub(crate) fn drop_ledger(&mut self) {
        self.content.ledger.clear();
        self.content.retracted.clear();
    }

    /// A backup is put back.
    pub(crate) fn restore(&mut self, position: usize) {
        if let Some(backup) = self.backups.get(position) {
            self.content = backup.clone();
        }
    }

    pub(crate) fn backups(&self) -> usize {
        self.backups.len()
    }
}
