//! One table of one ingest: read its window or all of it, write what is new or differs, prove the count.

use std::collections::{BTreeSet, HashSet};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use starlift_core::capture::{self, Read};
use starlift_core::manifest::{DataFile, FileMode, Proof, Relation, RelationRun, Source};
use starlift_core::relation::{self, Pass};
use starlift_core::xid::XidWindow;
use starlift_core::{Error, Micros, Result, TableSchema, fault};
use starlift_lake::{
    Difference, Digests, FileWriter, Head, KeyDigest, Multiset, State, Store, WriterOptions, tombstones,
};
use starlift_postgres::catalog::SourceTable;
use starlift_postgres::extract::SourceSession;

use super::{STAGE, Selection, reconcile};
use crate::context::{Context, now};

/// Rows of a window that are held in memory; beyond them the keys of the whole state are, instead.
const BUFFERED_ROWS: usize = 65_536;

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
}

/// What reading one table came to.
#[derive(Default)]
pub(super) struct Written {
    pub(super) rows_read: u64,
    pub(super) bytes_read: u64,
    pub(super) files: Vec<DataFile>,
    pub(super) deleted: Vec<DataFile>,
    /// Rows of the table at the snapshot.
    pub(super) rows: u64,
    /// Keys that the lake knows with what was written.
    pub(super) known: u64,
    /// Whether keys were compared one by one.
    pub(super) reconciled: bool,
}

impl Task<'_> {
    /// Reads one table and returns its relation as of the manifest to come.
    pub(super) async fn read(&self, session: &SourceSession, name: &str) -> Result<Relation> {
        let begun = now();
        let table = self.selection.table(name)?;
        let newest = self.head.manifest();
        let before = newest.and_then(|m| m.relations.get(name));
        let mode = self.ctx.config.capture(name);
        let fingerprint = table.schema.fingerprint();
        let has_key = !table.schema.key.is_empty();
        let read = capture::decide_read(mode, has_key, &fingerprint, before, self.source);
        let read = if self.repair.contains(name) { read.repairing() } else { read };

        let state = self.state(table, before, &fingerprint)?;
        let rows_before = before.map_or(0, |r| r.rows);
        let (written, replaced) = match read {
            Read::Window(window) => (self.window(session, table, &state, rows_before, window).await?, false),
            Read::Full { replaces: true, .. } if before.is_some_and(|b| b.fingerprint == fingerprint) => {
                self.keyless(session, table, &state).await?
            }
            Read::Full { replaces: true, .. } => (self.replace(session, table).await?, true),
            Read::Full { replaces: false, .. } => (self.compare(session, table, &state).await?, false),
        };
        // Before the proof: rows that came with a partition may be why it does not add up, or does by chance.
        session.check_partitions(table).await?;
        let run = RelationRun {
            mode: if matches!(read, Read::Window(_)) { "window" } else { "full" }.into(),
            reason: match read {
                Read::Window(_) => None,
                Read::Full { reason, .. } => Some(reason.text().into()),
            },
            rows_read: written.rows_read,
            bytes_read: written.bytes_read,
            millis: now().millis_since(begun),
            proof: Some(self.prove(table, &written)?),
            files: written.files,
            deleted: written.deleted,
        };
        let pass = Pass { rows: written.rows, replaced, run };
        let capture = capture::state_after(mode, self.source, self.at);
        Ok(relation::table(before, table.schema.clone(), capture, self.seq, pass))
    }

    /// The rows of the xid window, less those that equal the state; then the count, then the keys if they differ.
    async fn window(
        &self,
        session: &SourceSession,
        table: &SourceTable,
        state: &State,
        rows_before: u64,
        window: XidWindow,
    ) -> Result<Written> {
        let mut written = Written::default();
        let mut writer = self.writer(table, table.schema.to_arrow(), FileMode::Window)?;
        let filter = window.to_sql();
        #[cfg(debug_assertions)]
        let filter = crate::planted::visible(self.lake, self.seq, filter).await?;
        let new_keys = {
            let mut rows = session.copy_rows(table, Some(filter)).await?;
            let mut buffered: Vec<RecordBatch> = Vec::new();
            let mut count = 0;
            let mut difference: Option<Difference> = None;
            while let Some(batch) = rows.try_next().await? {
                self.advance(table, &batch);
                written.rows_read += batch.num_rows() as u64;
                count += batch.num_rows();
                match &mut difference {
                    Some(difference) => writer.write(&difference.push(&batch)?).await?,
                    None => buffered.push(batch),
                }
                if difference.is_none() && count > BUFFERED_ROWS {
                    let whole = Difference::new(&table.name, table.schema.clone(), state.index().await?)?;
                    difference = Some(flush(whole, &mut buffered, &mut writer).await?);
                }
            }
            written.bytes_read += rows.finish(&table.name)?;
            fault::point("ingest.table_copied");
            let difference = match difference {
                Some(difference) => difference,
                None => {
                    let known = state.find(&keys_of(&table.schema, &buffered)?).await?;
                    flush(Difference::new(&table.name, table.schema.clone(), known)?, &mut buffered, &mut writer)
                        .await?
                }
            };
            difference.new_keys().clone()
        };
        written.rows = session.count(table).await?;
        written.known = rows_before + new_keys.len() as u64;
        if written.rows == written.known {
            written.files = writer.finish().await?;
            return Ok(written);
        }
        let found = reconcile::reconcile(self, session, table, state, &new_keys, &mut writer).await?;
        written.known = found.kept + new_keys.len() as u64 + found.fetched;
        written.reconciled = true;
        written.rows_read += found.fetched;
        written.bytes_read += found.bytes_read;
        written.files = writer.finish().await?;
        written.deleted = found.tombstones;
        Ok(written)
    }

    /// Every row, as the new base of the table's state.
    async fn replace(&self, session: &SourceSession, table: &SourceTable) -> Result<Written> {
        let mut written = Written::default();
        let mut writer = self.writer(table, table.schema.to_arrow(), FileMode::Full)?;
        let mut rows = session.copy_rows(table, None).await?;
        while let Some(batch) = rows.try_next().await? {
            self.advance(table, &batch);
            written.rows_read += batch.num_rows() as u64;
            writer.write(&batch).await?;
        }
        written.bytes_read = rows.finish(&table.name)?;
        written.files = writer.finish().await?;
        written.rows = session.count(table).await?;
        written.known = written.rows_read;
        Ok(written)
    }

    /// Every row, compared with the state: only what differs is written.
    async fn compare(&self, session: &SourceSession, table: &SourceTable, state: &State) -> Result<Written> {
        let mut written = Written::default();
        let mut writer = self.writer(table, table.schema.to_arrow(), FileMode::Window)?;
        let before = state.index().await?;
        let keys_before = before.len() as u64;
        let mut difference = Difference::new(&table.name, table.schema.clone(), before)?;
        let mut rows = session.copy_rows(table, None).await?;
        while let Some(batch) = rows.try_next().await? {
            self.advance(table, &batch);
            written.rows_read += batch.num_rows() as u64;
            writer.write(&difference.push(&batch)?).await?;
        }
        written.bytes_read = rows.finish(&table.name)?;
        written.files = writer.finish().await?;
        let gone = difference.unseen();
        written.known = keys_before + difference.new_keys().len() as u64 - gone.len() as u64;
        written.reconciled = true;
        written.deleted = self.tombstones(table, state, gone).await?;
        written.rows = session.count(table).await?;
        Ok(written)
    }

    /// A table without a key: written again as a whole, and only where its rows as a multiset differ from the state.
    async fn keyless(&self, session: &SourceSession, table: &SourceTable, state: &State) -> Result<(Written, bool)> {
        let digests = Digests::new(&table.schema)?;
        let mut now = Multiset::default();
        let mut written = Written::default();
        let mut rows = session.copy_rows(table, None).await?;
        while let Some(batch) = rows.try_next().await? {
            self.advance(table, &batch);
            written.rows_read += batch.num_rows() as u64;
            now.add(&digests, &batch)?;
        }
        written.bytes_read = rows.finish(&table.name)?;
        if now == state.multiset().await? {
            (written.rows, written.known) = (written.rows_read, written.rows_read);
            return Ok((written, false));
        }
        Ok((self.replace(session, table).await?, true))
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
        let mut writer = self.writer(table, table.schema.key_to_arrow(), FileMode::Deleted)?;
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

    fn writer(&self, table: &SourceTable, schema: SchemaRef, mode: FileMode) -> Result<FileWriter> {
        FileWriter::new(self.lake, &table.name, self.at, schema, mode, WriterOptions::default())
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

async fn flush(
    mut difference: Difference,
    buffered: &mut Vec<RecordBatch>,
    writer: &mut FileWriter,
) -> Result<Difference> {
    for batch in buffered.drain(..) {
        writer.write(&difference.push(&batch)?).await?;
    }
    Ok(difference)
}

fn keys_of(schema: &TableSchema, batches: &[RecordBatch]) -> Result<HashSet<KeyDigest>> {
    let digests = Digests::new(schema)?;
    let mut keys = HashSet::new();
    for batch in batches {
        keys.extend(digests.keys(batch)?);
    }
    Ok(keys)
}
