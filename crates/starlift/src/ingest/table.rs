//! One table of one ingest: read its window or all of it, write what is new or differs, prove the count.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use starlift_core::capture::{self, Read};
use starlift_core::manifest::{DataFile, FileMode, Proof, Relation, RelationRun, Source};
use starlift_core::refused::RefusedRows;
use starlift_core::relation::{self, Pass};
use starlift_core::xid::XidWindow;
use starlift_core::{Error, Micros, Result, fault};
use starlift_lake::{
    Difference, Digests, FileWriter, Head, KeyDigest, Multiset, Quarantine, State, Store, WriterOptions, tombstones,
};
use starlift_postgres::catalog::SourceTable;
use starlift_postgres::extract::SourceSession;

use super::incoming::Incoming;
use super::sink::{self, Sink};
use super::{STAGE, Selection};
use crate::context::{Context, now};
use crate::quarantine::Allowance;

pub(super) struct Task<'a> {
    pub(super) ctx: &'a Context,
    pub(super) lake: &'a Store,
    pub(super) head: &'a Head,
    pub(super) source: &'a Source,
    pub(super) at: Micros,
    pub(super) seq: u64,
    pub(super) selection: &'a Selection,
    /// Tables that are read in full because the lake differed from them.
    pub(super) repair: &'a BTreeSet<String>,
    /// What the tables of the run set aside, together.
    pub(super) allowance: &'a Allowance,
    /// Tables whose chunks are all read, with the window that closes them.
    pub(super) closing: &'a BTreeMap<String, XidWindow>,
}

/// What reading one table came to.
#[derive(Default)]
pub(super) struct Written {
    pub(super) rows_read: u64,
    pub(super) bytes_read: u64,
    pub(super) files: Vec<DataFile>,
    pub(super) deleted: Vec<DataFile>,
    pub(super) refused: Vec<DataFile>,
    /// Rows of the table that stand aside.
    pub(super) standing: u64,
    /// Those that did not before.
    pub(super) newly_refused: RefusedRows,
    /// Rows of the table at the snapshot.
    pub(super) rows: u64,
    /// Keys that the lake knows with what was written.
    pub(super) known: u64,
    /// Whether keys were compared one by one.
    pub(super) reconciled: bool,
}

impl Written {
    pub(super) fn wrote(&mut self, wrote: sink::Written) {
        self.files = wrote.files;
        self.refused = wrote.refused;
        self.standing = wrote.standing;
        self.newly_refused = wrote.new;
    }
}

impl Task<'_> {
    /// Reads one table and returns its relation as of the manifest to come, and the rows that it set aside anew.
    pub(super) async fn read(&self, session: &SourceSession, name: &str) -> Result<(Relation, RefusedRows)> {
        let begun = now();
        let table = self.selection.table(name)?;
        let newest = self.head.manifest();
        let before = newest.and_then(|m| m.relations.get(name));
        let mode = self.ctx.config.capture(name);
        let fingerprint = table.schema.fingerprint();
        let read = self.decide(table);

        let state = self.state(table, before, &fingerprint)?;
        let rows_before = before.map_or(0, |r| r.rows);
        let (written, replaced) = match read {
            Read::Window(window) => (self.window(session, table, &state, rows_before, window).await?, false),
            Read::Full { replaces: true, .. } if self.closing.contains_key(name) => {
                (Box::pin(self.close(session, table, before)).await?, true)
            }
            Read::Full { replaces: true, .. } if before.is_some_and(|b| b.fingerprint == fingerprint) => {
                self.keyless(session, table, &state).await?
            }
            Read::Full { replaces: true, .. } => {
                let standing = self.standing(table, before).await?;
                (self.replace(session, table, standing).await?, true)
            }
            Read::Full { replaces: false, .. } => (self.compare(session, table, &state).await?, false),
        };
        // Before the proof: rows that came with a partition may be why it does not add up, or does by chance.
        session.check_partitions(table).await?;
        let run = RelationRun {
            mode: if matches!(read, Read::Window(_)) { "window" } else { "full" }.into(),
            reason: match read {
                Read::Window(_) => None,
                Read::Full { reason, .. } => Some(self.reason(name, reason)),
            },
            rows_read: written.rows_read,
            bytes_read: written.bytes_read,
            millis: now().millis_since(begun) + self.millis_of_chunks(name),
            proof: Some(self.prove(table, &written)?),
            files: written.files,
            deleted: written.deleted,
            refused: written.refused,
        };
        let pass = Pass { rows: written.rows, refused: written.standing, replaced, run };
        let capture = capture::state_after(mode, self.source, self.at);
        let relation = relation::table(before, table.schema.clone(), capture, self.seq, pass);
        Ok((relation, written.newly_refused))
    }

    /// How this run reads a table.
    pub(super) fn decide(&self, table: &SourceTable) -> Read {
        let before = self.head.manifest().and_then(|m| m.relations.get(&table.name));
        let (mode, has_key) = (self.ctx.config.capture(&table.name), !table.schema.key.is_empty());
        let read = capture::decide_read(mode, has_key, &table.schema.fingerprint(), before, self.source);
        if self.repair.contains(&table.name) { read.repairing() } else { read }
    }

    /// Every row, as the new base of the table's state.
    async fn replace(&self, session: &SourceSession, table: &SourceTable, standing: Quarantine) -> Result<Written> {
        let mut written = Written::default();
        let mut rows = Incoming::whole(self, session, table).await?;
        let standing = standing.replacing(&table.schema)?;
        let mut sink = Sink::new(self, table, FileMode::Full, standing, rows.encoders())?;
        while let Some(came) = rows.next(self, table).await? {
            written.rows_read += came.rows();
            sink.write(&came.good, came.refused.as_ref()).await?;
        }
        written.bytes_read = sink.ended(rows.finish(table)?);
        written.wrote(sink.finish(self, table).await?);
        written.rows = session.count(table).await?;
        written.known = written.rows_read;
        Ok(written)
    }

    /// Every row, compared with the state: only what differs is written.
    async fn compare(&self, session: &SourceSession, table: &SourceTable, state: &State) -> Result<Written> {
        let mut written = Written::default();
        let mut sink = Sink::new(self, table, FileMode::Window, Quarantine::of(state).await?, 1)?;
        let before = state.index().await?;
        let keys_before = before.len() as u64;
        let mut difference = Difference::new(&table.name, table.schema.clone(), before)?;
        let mut rows = Incoming::whole(self, session, table).await?;
        while let Some(came) = rows.next(self, table).await? {
            written.rows_read += came.rows();
            sink.changed(&came, &mut difference).await?;
        }
        written.bytes_read = sink.ended(rows.finish(table)?);
        let gone = difference.unseen();
        sink.quarantine.gone(&gone);
        written.known = keys_before + difference.new_keys().len() as u64 - gone.len() as u64;
        written.reconciled = true;
        written.wrote(sink.finish(self, table).await?);
        written.deleted = self.tombstones(table, state, gone).await?;
        written.rows = session.count(table).await?;
        Ok(written)
    }

    /// A table without a key: written again as a whole, and only where its rows as a multiset differ from the state.
    async fn keyless(&self, session: &SourceSession, table: &SourceTable, state: &State) -> Result<(Written, bool)> {
        let digests = Digests::new(&table.schema)?;
        let mut now = Multiset::default();
        let mut quarantine = Quarantine::of(state).await?.replacing(&table.schema)?;
        let mut written = Written::default();
        let mut rows = Incoming::whole(self, session, table).await?;
        while let Some(came) = rows.next(self, table).await? {
            written.rows_read += came.rows();
            now.add(&digests, &came.good)?;
            if let Some(refused) = &came.refused {
                quarantine.take(refused)?;
            }
        }
        written.bytes_read = rows.finish(table)?.bytes;
        if now == state.multiset().await? && !quarantine.has_changed() {
            (written.rows, written.known) = (written.rows_read, written.rows_read);
            written.standing = quarantine.rows();
            return Ok((written, false));
        }
        Ok((self.replace(session, table, Quarantine::of(state).await?).await?, true))
    }

    pub(super) async fn tombstones(
        &self,
        table: &SourceTable,
        state: &State,
        gone: HashSet<KeyDigest>,
    ) -> Result<Vec<DataFile>> {
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        let mut writer = self.writer(table, table.schema.key_to_arrow(), FileMode::Deleted, 1)?;
        let mut keys = tombstones(state, gone);
        while let Some(batch) = keys.try_next().await? {
            writer.write(&batch).await?;
        }
        let files = writer.finish().await?;
        fault::point("ingest.tombstones_written");
        Ok(files)
    }

    pub(super) fn advance(&self, table: &SourceTable, batch: &RecordBatch) {
        fault::point("ingest.mid_copy");
        let bytes = batch.get_array_memory_size() as u64;
        self.ctx.progress.advanced(STAGE, &table.name, batch.num_rows() as u64, bytes);
    }

    /// What stood aside of a table, also where it had other columns.
    pub(super) async fn standing(&self, table: &SourceTable, before: Option<&Relation>) -> Result<Quarantine> {
        match before {
            Some(before) if before.refused > 0 => {
                let files = self.head.live_of(&table.name);
                Quarantine::of(&State::new(self.lake, before.schema.clone(), files)?).await
            }
            _ => Quarantine::empty(&table.schema),
        }
    }

    /// A writer, one of so many that share the memory.
    pub(super) fn writer(
        &self,
        table: &SourceTable,
        schema: SchemaRef,
        mode: FileMode,
        writers: usize,
    ) -> Result<FileWriter> {
        let default = WriterOptions::default();
        let options = WriterOptions { row_group_bytes: default.row_group_bytes / writers.max(1), ..default };
        FileWriter::new(self.lake, &table.name, self.at, schema, mode, options)
    }

    /// The state to compare with: nothing where the stored rows have other columns and are replaced as a whole.
    fn state(&self, table: &SourceTable, before: Option<&Relation>, fingerprint: &str) -> Result<State> {
        let same = before.is_some_and(|b| b.fingerprint == fingerprint);
        let files = if same { self.head.live_of(&table.name) } else { Vec::new() };
        State::new(self.lake, table.schema.clone(), files)
    }

    /// The count that the snapshot gave is the number of rows that the lake holds after this run: promise 1.
    fn prove(&self, table: &SourceTable, written: &Written) -> Result<Proof> {
        let proof = Proof { counted: written.rows, known: written.known, reconciled: written.reconciled };
        if proof.agrees() {
            return Ok(proof);
        }
        let Proof { counted, known, .. } = proof;
        Err(Error::data(format!("table `{}` does not add up", table.name))
            .with_detail(format!("the lake would hold {known} rows, and the snapshot has {counted}"))
            .with_hint(format!(
                "its key may not be unique (inheritance, a view): set `capture = \"full\"` for `{}` in starlift.toml",
                table.name
            )))
    }
}
