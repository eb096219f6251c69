//! One table of one ingest: read its window or all of it, write what is new or differs, prove the count; or follow its
//! stamps, which proves none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use starlift_core::capture::{self, CaptureMode, Choice, FullReason, PassReason, Read, Turn};
use starlift_core::manifest::{CaptureState, DataFile, FileMode, Proof, Relation, RelationRun, Source};
use starlift_core::refused::RefusedRows;
use starlift_core::relation::{self, Pass};
use starlift_core::xid::XidWindow;
use starlift_core::{Error, ErrorKind, Micros, Result, fault};
use starlift_lake::{
    Difference, Digests, FileWriter, Gone, Head, Multiset, PartNumbers, Quarantine, State, Store, WriterOptions,
    tombstones,
};
use starlift_postgres::catalog::SourceTable;
use starlift_postgres::extract::SourceSession;

use super::doubled::{self, Once};
use super::incoming::Incoming;
use super::sink::{self, Sink};
use super::{STAGE, Selection};
use crate::context::{Context, now};
use crate::quarantine::Allowance;

/// How long to wait for an answer that would explain an error.
const LOOK: Duration = Duration::from_secs(5);

pub(super) struct Task<'a> {
    pub(super) ctx: &'a Context,
    pub(super) lake: &'a Store,
    pub(super) head: &'a Head,
    pub(super) source: &'a Source,
    pub(super) at: Micros,
    pub(super) seq: u64,
    pub(super) selection: &'a Selection,
    /// How each table is captured.
    pub(super) choices: &'a BTreeMap<String, Choice>,
    /// Tables that are read in full because the lake differed from them.
    pub(super) repair: &'a BTreeSet<String>,
    /// What the tables of the run set aside, together.
    pub(super) allowance: &'a Allowance,
    /// The numbers of the parts of its files.
    pub(super) numbers: Numbers,
    /// Tables whose chunks are all read, with the window that closes them.
    pub(super) closing: &'a BTreeMap<String, XidWindow>,
}

/// The numbers of the parts of files, by table and what they hold: a table that is read twice in one run goes on numbering.
#[derive(Default)]
pub(super) struct Numbers(Mutex<BTreeMap<(String, &'static str), PartNumbers>>);

impl Numbers {
    fn of(&self, table: &str, mode: FileMode) -> PartNumbers {
        let kind = match mode {
            FileMode::Full | FileMode::Window => "rows",
            FileMode::Deleted => "deleted",
            FileMode::Refused => "refused",
            FileMode::Index => "index",
        };
        let mut numbers = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        numbers.entry((table.to_string(), kind)).or_default().clone()
    }
}

/// A table whose turn it was.
pub(super) struct Taken {
    relation: Relation,
    /// Rows that were set aside anew.
    refused: RefusedRows,
    /// Whether the state is the table's image now.
    is_complete: bool,
}

/// What the tables of a run came to.
#[derive(Default)]
pub(super) struct Done {
    /// Those whose state is their image now.
    pub(super) complete: BTreeSet<String>,
    /// Rows that were set aside anew.
    pub(super) refused: BTreeMap<String, RefusedRows>,
}

impl Done {
    /// Takes note of a table; none where the run left it alone.
    pub(super) fn take(&mut self, name: &str, taken: Option<Taken>, relations: &mut BTreeMap<String, Relation>) {
        let Some(taken) = taken else { return };
        if taken.is_complete {
            self.complete.insert(name.to_string());
        }
        self.refused.insert(name.to_string(), taken.refused);
        relations.insert(name.to_string(), taken.relation);
    }
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
    /// Gives one table its turn; none where it is left alone. With `asked` it is read completely.
    pub(super) async fn turn(
        &self,
        session: &SourceSession,
        name: &str,
        asked: Option<PassReason>,
    ) -> Result<Option<Taken>> {
        let begun = now();
        let table = self.selection.table(name)?;
        let before = self.before(name);
        let choice = self.choice(name)?;
        let mut turn = self.decide(table, asked)?;
        if turn == Turn::Wait {
            return Ok(None);
        }
        let read = Box::pin(self.read(session, table, before, turn)).await;
        let mut read = explained(session, table, read).await;
        if read.as_ref().is_err_and(|error| doubled::unsound(error).is_some()) {
            if matches!(turn, Turn::Cursor(_)) {
                session.stamped_is_read().await?;
            }
            doubled::check(self, session, table).await?;
            if !self.closing.contains_key(name) {
                tracing::warn!(
                    stage = STAGE,
                    run_id = self.ctx.run_id,
                    table = name,
                    "the lake holds a key of it twice that the source has once: it is read in full"
                );
                turn = Turn::Complete(Read::Full { reason: FullReason::Doubled, replaces: true }, None);
                read = Box::pin(self.anew(session, table, before)).await;
            }
        }
        let (written, replaced) = read?;
        // Before the proof: rows that came with a partition or a child may be why it does not add up, or does by chance.
        session.check_partitions(table).await?;
        session.check_children(table).await?;
        let (mode, reason) = match turn {
            Turn::Complete(Read::Window(_), why) => ("window", why.map(|why| why.text().to_string())),
            Turn::Complete(Read::Full { reason, .. }, _) => ("full", Some(self.reason(name, reason))),
            Turn::Cursor(_) | Turn::Wait => ("cursor", None),
        };
        let is_complete = matches!(turn, Turn::Complete(..));
        let run = RelationRun {
            mode: mode.into(),
            reason,
            rows_read: written.rows_read,
            bytes_read: written.bytes_read,
            millis: now().millis_since(begun) + self.millis_of_chunks(name),
            proof: if is_complete { Some(self.prove(table, &written)?) } else { None },
            files: written.files,
            deleted: written.deleted,
            refused: written.refused,
        };
        let pass = Pass { rows: written.rows, refused: written.standing, replaced, run };
        let kept = before.and_then(|b| b.capture.as_ref());
        let capture = capture::state_after_turn(choice, turn, kept, self.source, self.seq, self.at);
        let capture = CaptureState { names: table.names.clone(), ..capture };
        let relation = relation::table(before, table.schema.clone(), capture, self.seq, pass);
        Ok(Some(Taken { relation, refused: written.newly_refused, is_complete }))
    }

    /// Reads a table as its turn wants it, and says whether what came replaces the state.
    async fn read(
        &self,
        session: &SourceSession,
        table: &SourceTable,
        before: Option<&Relation>,
        turn: Turn,
    ) -> Result<(Written, bool)> {
        let name = table.name.as_str();
        let fingerprint = table.schema.but_for_partitions(before.map(|before| &before.schema)).fingerprint();
        let state = self.state(table, before, &fingerprint)?;
        let rows_before = before.map_or(0, |r| r.rows);
        Ok(match (turn, &self.choice(name)?.cursor) {
            (Turn::Wait, _) => return Err(Error::internal("a table is read whose turn it is not")),
            (Turn::Cursor(_), None) => return Err(Error::internal("a cursor without a column")),
            (Turn::Cursor(from), Some(column)) => {
                (self.stamped(session, table, &state, rows_before, (column, from)).await?, false)
            }
            (Turn::Complete(Read::Window(window), _), _) => {
                (self.window(session, table, &state, rows_before, window).await?, false)
            }
            (Turn::Complete(Read::Full { replaces: true, .. }, _), _) if self.closing.contains_key(name) => {
                (Box::pin(self.close(session, table, before)).await?, true)
            }
            (Turn::Complete(Read::Full { replaces: true, .. }, _), _)
                if table.schema.key.is_empty() && before.is_some_and(|b| b.fingerprint == fingerprint) =>
            {
                self.keyless(session, table, &state).await?
            }
            (Turn::Complete(Read::Full { replaces: true, .. }, _), _) => self.anew(session, table, before).await?,
            (Turn::Complete(Read::Full { replaces: false, .. }, _), _) => {
                (self.compare(session, table, &state, rows_before).await?, false)
            }
        })
    }

    /// Every row, in the place of the state before, and that it is so.
    async fn anew(
        &self,
        session: &SourceSession,
        table: &SourceTable,
        before: Option<&Relation>,
    ) -> Result<(Written, bool)> {
        let standing = self.standing(table, before).await?;
        Ok((self.replace(session, table, standing).await?, true))
    }

    /// What the newest manifest has of a table.
    fn before(&self, name: &str) -> Option<&Relation> {
        self.head.manifest()?.relations.get(name)
    }

    /// How a table is captured.
    pub(super) fn choice(&self, name: &str) -> Result<&Choice> {
        self.choices.get(name).ok_or_else(|| Error::internal("a table without a capture mode"))
    }

    /// What this run does with a table. With `asked` it reads it completely.
    pub(super) fn decide(&self, table: &SourceTable, asked: Option<PassReason>) -> Result<Turn> {
        let name = &table.name;
        let (choice, before) = (self.choice(name)?, self.before(name));
        let turn =
            capture::decide_turn(choice, &table.schema, table.names.as_deref(), before, self.source, self.seq, asked);
        Ok(match turn {
            Turn::Complete(read, _) if self.repair.contains(name) => Turn::Complete(read.repairing(), None),
            turn => turn,
        })
    }

    /// Every row, as the new base of the table's state.
    async fn replace(&self, session: &SourceSession, table: &SourceTable, standing: Quarantine) -> Result<Written> {
        let mut written = Written::default();
        let mut rows = Incoming::whole(self, session, table).await?;
        let standing = standing.replacing(&table.schema)?;
        let mut sink = Sink::new(self, table, FileMode::Full, standing, rows.encoders())?;
        let mut once = Once::new(table, self.lake.spill())?;
        written.rows_read = self.write_all(&mut rows, table, &mut sink, &mut once).await?;
        written.bytes_read = sink.ended(rows.finish(table)?);
        written.wrote(sink.finish(self, table).await?);
        written.rows = session.count(table).await?;
        written.known = written.rows_read;
        Ok(written)
    }

    /// Writes rows as they come, each key once, and says how many they were.
    pub(super) async fn write_all(
        &self,
        rows: &mut Incoming,
        table: &SourceTable,
        sink: &mut Sink,
        once: &mut Once,
    ) -> Result<u64> {
        let mut number = 0;
        while let Some(came) = rows.next(self, table).await? {
            number += came.rows();
            once.take(table, &came)?;
            sink.write(&came.good, came.refused.as_ref()).await?;
        }
        Ok(number)
    }

    /// Every row, compared with the state: only what differs is written.
    async fn compare(
        &self,
        session: &SourceSession,
        table: &SourceTable,
        state: &State,
        rows_before: u64,
    ) -> Result<Written> {
        let mut written = Written::default();
        let mut sink = Sink::new(self, table, FileMode::Window, Quarantine::of(state).await?, 1)?;
        let known = doubled::sound(table, state.index().await?)?;
        let mut difference = Difference::new(&table.name, table.schema.clone(), known)?;
        let mut rows = Incoming::whole(self, session, table).await?;
        while let Some(came) = rows.next(self, table).await? {
            written.rows_read += came.rows();
            sink.changed(&came, &mut difference).await?;
        }
        written.bytes_read = sink.ended(rows.finish(table)?);
        let keys = difference.into_keys();
        doubled::whole(table, keys.len(), rows_before)?;
        written.known = keys.seen() + keys.new_keys();
        let mut gone = Gone::of(keys)?;
        sink.quarantine.gone(&mut gone)?;
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

    pub(super) async fn tombstones(&self, table: &SourceTable, state: &State, gone: Gone) -> Result<Vec<DataFile>> {
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
        let writer = FileWriter::new(self.lake, &table.name, self.at, schema, mode, options)?;
        Ok(writer.numbered_by(&self.numbers.of(&table.name, mode)))
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
        let (Proof { counted, known, .. }, name) = (proof, &table.name);
        let is_full = table.schema.key.is_empty() || self.choice(name)?.mode == CaptureMode::Full;
        let hint = if is_full {
            format!(
                "run again; what shows other rows each time that it is read cannot be captured: set `capture = \"none\"` for `{name}` in starlift.toml"
            )
        } else {
            format!(
                "its key may not be unique (inheritance, a view): set `capture = \"full\"` for `{name}` in starlift.toml"
            )
        };
        Err(Error::data(format!("table `{name}` does not add up"))
            .with_detail(format!("the lake would hold {known} rows, and the snapshot has {counted}"))
            .with_hint(hint))
    }
}

/// What was read of a table, or why it is wrong: rows of a child that came meanwhile say more than an error about the rows themselves.
pub(super) async fn explained<T>(session: &SourceSession, table: &SourceTable, read: Result<T>) -> Result<T> {
    if read.as_ref().is_err_and(|error| error.kind() == ErrorKind::Data) {
        // Behind the rest of a long COPY the answer is not waited for.
        let looked = tokio::time::timeout(LOOK, session.check_children(table)).await;
        // A transaction that the server ended cannot be asked.
        if let Ok(Err(came)) = looked
            && came.kind() == ErrorKind::Unavailable
        {
            return Err(came);
        }
    }
    read
}
