//! One chunk of one table, and the closing of a base whose chunks are all read (`starlift_core::chunk` has the proof).
//!
//! A chunk's files are named by its manifest as part of an unfinished base. The manifest that closes the base names them again,
//! as the table's new base, with the rows, tombstones and refused rows of the closing window beside them. A crash before a
//! manifest leaves files that nobody names; the next run reads that chunk once more.

use starlift_core::capture::{self, FullReason};
use starlift_core::chunk::{Chunk, ChunkRead, Heap};
use starlift_core::manifest::{CaptureState, FileMode, LiveFile, Relation, RelationRun};
use starlift_core::refused::RefusedRows;
use starlift_core::unfinished::Unfinished;
use starlift_core::{Error, Result, fault};
use starlift_lake::{Quarantine, State};
use starlift_postgres::catalog::SourceTable;
use starlift_postgres::extract::SourceSession;

use super::doubled::Once;
use super::incoming::Incoming;
use super::pages::Part;
use super::sink::Sink;
use super::table::{Task, Written, explained};
use crate::context::now;

impl Task<'_> {
    /// Reads a chunk, and returns the base with it and the rows that were set aside anew. `once` knows the keys of the chunks before that
    /// this run has read.
    ///
    /// Errors: Data where a key comes twice; Unavailable where a partition or a child came meanwhile.
    pub(super) async fn chunk(
        &self,
        session: &SourceSession,
        name: &str,
        (chunk, heap, reason): (Chunk, Heap, FullReason),
        once: &mut Once,
    ) -> Result<(Unfinished, RefusedRows)> {
        let begun = now();
        let table = self.selection.table(name)?;
        let part = Part {
            from: chunk.from,
            to: chunk.to,
            bytes: share(table.bytes, chunk.to.saturating_sub(chunk.from), heap.pages),
            condition: format!("not ({})", session.window_filter(table, chunk.left_out).await?),
        };
        let before = self.head.manifest().and_then(|m| m.relations.get(name));
        let standing = self.standing(table, before).await?.replacing(&table.schema)?;
        let mut rows = Incoming::part(self, session, table, &part).await?;
        let mut sink = Sink::new(self, table, FileMode::Full, standing, rows.encoders())?;
        let mut run = RelationRun { mode: "chunk".into(), ..RelationRun::default() };
        let read = self.write_all(&mut rows, table, &mut sink, once).await;
        run.rows_read = explained(session, table, read).await?;
        run.bytes_read = sink.ended(rows.finish(table)?);
        session.check_partitions(table).await?;
        session.check_children(table).await?;
        let wrote = sink.finish(self, table).await?;
        fault::point("ingest.chunk_copied");
        (run.files, run.refused) = (wrote.files, wrote.refused);
        run.millis = now().millis_since(begun);
        let mode = self.choice(name)?.mode;
        let read = ChunkRead {
            schema: table.schema.clone(),
            reason: reason.text().into(),
            capture: CaptureState { names: table.names.clone(), ..capture::state_after(mode, self.source, self.at) },
            heap,
            refused: wrote.standing,
            counted: self.allowance.counted(name, &wrote.new),
            run,
        };
        let mut base = Unfinished::with(self.base(name), chunk, read, self.seq);
        let text = base.text();
        if let Some(run) = &mut base.run {
            run.reason = Some(text);
        }
        Ok((base, wrote.new))
    }

    /// Closes a base: what changed since its first chunk, compared with the chunks as if they were the table's state.
    ///
    /// Errors: as for a state that holds a key twice, where the chunks do.
    pub(super) async fn close(
        &self,
        session: &SourceSession,
        table: &SourceTable,
        before: Option<&Relation>,
    ) -> Result<Written> {
        let missing = || Error::internal(format!("table `{}` has no base to close", table.name));
        let base = self.base(&table.name).ok_or_else(missing)?;
        let window = *self.closing.get(&table.name).ok_or_else(missing)?;
        // Each key is in one chunk: they are one layer of the state, whatever manifest named them.
        let chunks = self.head.chunks_of(&table.name).into_iter();
        let chunks: Vec<LiveFile> = chunks.map(|live| LiveFile { seq: base.first, ..live }).collect();
        let state = State::new(self.lake, table.schema.clone(), chunks.clone())?;
        let quarantine = Quarantine::of(&state).await?.knowing(self.standing(table, before).await?);
        let mut written = self.window_over(session, table, (&state, quarantine, base.rows), window, true).await?;
        let rows = chunks.into_iter().map(|live| live.file).filter(|file| file.mode == FileMode::Full);
        written.files = rows.chain(written.files).collect();
        written.rows_read += base.rows;
        written.bytes_read += base.bytes_read;
        Ok(written)
    }

    /// The unfinished base of a table.
    fn base(&self, name: &str) -> Option<&Unfinished> {
        self.head.manifest()?.unfinished.get(name)
    }

    fn closed(&self, name: &str) -> Option<&Unfinished> {
        self.base(name).filter(|_| self.closing.contains_key(name))
    }

    /// Why a table was read in full, and in how many chunks.
    pub(super) fn reason(&self, name: &str, reason: FullReason) -> String {
        match self.closed(name) {
            Some(base) => format!("{}, in {} chunks", reason.text(), base.chunks),
            None => reason.text().into(),
        }
    }

    /// The time that the chunks took of a table that is closed.
    pub(super) fn millis_of_chunks(&self, name: &str) -> u64 {
        self.closed(name).map_or(0, |base| base.millis)
    }
}

/// What so many of all pages are of some bytes.
fn share(bytes: u64, pages: u32, all: u32) -> u64 {
    let part = u128::from(bytes) * u128::from(pages) / u128::from(all.max(1));
    u64::try_from(part).unwrap_or(bytes)
}
