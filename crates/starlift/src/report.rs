//! What one stage did, as data: printed as cards, as JSON, or kept by a test.

use serde::Serialize;
use starlift_core::Micros;
use starlift_core::event::StageResult;
use starlift_core::manifest::{Manifest, Proof, Relation, RelationRun};
use starlift_core::unfinished::Unfinished;

/// How a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It committed.
    Committed,
    /// There was nothing to do.
    Nothing,
    /// Another run committed first; the next run covers this one's rows.
    Superseded,
    /// A run with this id had committed before; its result is returned.
    Replayed,
}

/// What one stage did.
#[derive(Debug, Clone, Serialize)]
pub struct StageReport {
    /// `ingest`, `transform` or `load`.
    pub stage: &'static str,
    /// The run.
    pub run_id: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The newest manifest that it committed, replayed or loaded.
    pub seq: Option<u64>,
    /// When it started.
    pub started: Micros,
    /// Time that it took.
    pub millis: u64,
    /// The contract's result; load has none.
    pub result: StageResult,
    /// Each table or model that it looked at.
    pub relations: Vec<RelationReport>,
    /// What a person should know although nothing failed.
    pub warnings: Vec<String>,
}

/// What one stage did with one table or model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RelationReport {
    /// The table or model.
    pub name: String,
    /// `full`, `window`, `whole`, `incremental`, or how it was loaded.
    pub mode: String,
    /// Why it was read in full or evaluated, and why whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Rows that came in.
    pub rows_read: u64,
    /// Bytes that came in.
    pub bytes_read: u64,
    /// Rows that were written: to files, or into the warehouse.
    pub rows_written: u64,
    /// Tombstones or retractions.
    pub rows_deleted: u64,
    /// Rows that were set aside and were not before.
    pub rows_refused: u64,
    /// Rows of its state that stand aside afterwards.
    pub refused: u64,
    /// Files that were written.
    pub files: u64,
    /// Bytes that were written.
    pub bytes_written: u64,
    /// Rows of its state afterwards.
    pub rows: u64,
    /// Time that it took.
    pub millis: u64,
    /// What ingest proved about the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
}

impl RelationReport {
    /// Whether the run did anything with it but look.
    pub fn has_news(&self) -> bool {
        self.rows_written + self.rows_deleted + self.rows_refused + self.files > 0
    }

    /// The report of a table or model in a manifest; none where the run did not touch it.
    pub fn of(name: &str, relation: &Relation) -> Option<RelationReport> {
        let run: &RelationRun = relation.run.as_ref()?;
        Some(RelationReport { refused: relation.refused, rows: relation.rows, ..RelationReport::of_run(name, run) })
    }

    /// Every table or model that the run of a manifest touched, those of which it read a chunk among them.
    pub fn all_of(manifest: &Manifest) -> Vec<RelationReport> {
        let states = manifest.relations.iter().filter_map(|(name, relation)| RelationReport::of(name, relation));
        let chunks = manifest.unfinished.iter().filter_map(|(name, base)| RelationReport::of_chunk(name, base));
        states.chain(chunks).collect()
    }

    /// The report of a table of which the run read a chunk; none where it read none.
    fn of_chunk(name: &str, base: &Unfinished) -> Option<RelationReport> {
        let run = base.run.as_ref()?;
        Some(RelationReport { refused: base.refused, rows: base.rows, ..RelationReport::of_run(name, run) })
    }

    fn of_run(name: &str, run: &RelationRun) -> RelationReport {
        RelationReport {
            name: name.to_string(),
            mode: run.mode.clone(),
            reason: run.reason.clone(),
            rows_read: run.rows_read,
            bytes_read: run.bytes_read,
            rows_written: run.rows_written(),
            rows_deleted: run.rows_deleted(),
            rows_refused: run.rows_refused(),
            files: run.all_files().count() as u64,
            bytes_written: run.bytes_written(),
            millis: run.millis,
            proof: run.proof,
            ..RelationReport::default()
        }
    }

    /// What this and an earlier pass of the same run did with one table. What closes a base tells of its chunks already.
    fn after(self, earlier: &RelationReport) -> RelationReport {
        if earlier.mode == CHUNK && self.mode != CHUNK {
            return self;
        }
        let is_first = earlier.reason.is_some() && self.reason.is_none();
        let (mode, reason) =
            if is_first { (earlier.mode.clone(), earlier.reason.clone()) } else { (self.mode, self.reason) };
        RelationReport {
            mode,
            reason,
            rows_read: self.rows_read + earlier.rows_read,
            bytes_read: self.bytes_read + earlier.bytes_read,
            rows_written: self.rows_written + earlier.rows_written,
            rows_deleted: self.rows_deleted + earlier.rows_deleted,
            rows_refused: self.rows_refused + earlier.rows_refused,
            files: self.files + earlier.files,
            bytes_written: self.bytes_written + earlier.bytes_written,
            millis: self.millis + earlier.millis,
            ..self
        }
    }
}

/// The mode of a pass that read a chunk of a table.
const CHUNK: &str = "chunk";

impl StageReport {
    /// A report of a stage that did nothing (yet).
    pub fn nothing(stage: &'static str, run_id: &str, started: Micros, now: Micros) -> StageReport {
        StageReport {
            stage,
            run_id: run_id.to_string(),
            outcome: Outcome::Nothing,
            seq: None,
            started,
            millis: now.millis_since(started),
            result: StageResult::new(),
            relations: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// The report of a committed manifest, new or replayed.
    pub fn of_manifest(
        stage: &'static str,
        manifest: &Manifest,
        outcome: Outcome,
        started: Micros,
        now: Micros,
    ) -> StageReport {
        StageReport {
            outcome,
            seq: Some(manifest.seq),
            result: manifest.result.clone(),
            relations: RelationReport::all_of(manifest),
            ..StageReport::nothing(stage, &manifest.run_id, started, now)
        }
    }

    /// The report of a run that began at `started`, of which this is a further pass and `earlier` all before it.
    pub(crate) fn after(mut self, earlier: &StageReport, started: Micros) -> StageReport {
        let ended = Micros(self.started.0.saturating_add_unsigned(self.millis.saturating_mul(1_000)));
        (self.started, self.millis) = (started, ended.millis_since(started));
        if self.outcome != Outcome::Committed {
            return self;
        }
        let mut relations: Vec<RelationReport> = Vec::new();
        for relation in std::mem::take(&mut self.relations) {
            let before = earlier.relations.iter().find(|before| before.name == relation.name);
            relations.push(before.map_or(relation.clone(), |before| relation.after(before)));
        }
        let is_new = |before: &&RelationReport| relations.iter().all(|relation| relation.name != before.name);
        let others: Vec<RelationReport> = earlier.relations.iter().filter(is_new).cloned().collect();
        relations.extend(others);
        relations.sort_by(|a, b| a.name.cmp(&b.name));
        self.relations = relations;
        self.warnings = earlier.warnings.iter().cloned().chain(std::mem::take(&mut self.warnings)).collect();
        self
    }
}
