//! Connections that read parts of one large table at the snapshot of the run's session, each on a thread of its own.
//!
//! A thread and not a task, because a connection and who decodes its rows wake each other for every few kilobytes: between
//! threads that costs as much as the decoding. Where fewer connections are to be had than asked for, those that are read
//! it; where none is, the session itself does.

use std::sync::Arc;

use starlift_core::{Error, Result};
use starlift_postgres::catalog::SourceTable;
use starlift_postgres::extract::{PageRange, SourceSession};
use tokio::sync::{mpsc, oneshot};

use super::incoming::{Came, Ended};
use super::pages::{self, Pages, Part};
use super::table::Task;
use crate::config::Side;
use crate::context::Context;

/// Bytes of the batches that all connections make at once. Each has one in the making, and as many wait for the writers and at
/// them: about four times as much in all, whatever the number of connections.
const BATCHES_BYTES: usize = 4 << 20;

/// What the threads read.
struct Work {
    /// Bytes of a batch.
    batch_bytes: usize,
    ctx: Context,
    table: SourceTable,
    snapshot: String,
    pages: Pages,
    /// A condition on the rows.
    condition: Option<String>,
}

enum Message {
    Came(Came),
    /// A connection has nothing left to read.
    Ended(Ended),
    Failed(Error),
}

/// Connections at work. Dropping them ends their sessions.
pub(super) struct Readers {
    number: usize,
    running: usize,
    messages: mpsc::Receiver<Message>,
    ended: Ended,
}

impl Readers {
    /// Opens connections that read all of a table, or a part of it; none where the session itself reads it.
    ///
    /// Errors: those of the session.
    pub(super) async fn start(
        task: &Task<'_>,
        session: &SourceSession,
        table: &SourceTable,
        part: Option<&Part>,
    ) -> Result<Option<Readers>> {
        let allowed = task.ctx.config.source.connections;
        let bytes = part.map_or(table.bytes, |part| part.bytes);
        let number = pages::connections(allowed, session.server_version(), table, bytes);
        let Some(number) = number else { return Ok(None) };
        let Some(snapshot) = session.export_snapshot().await? else {
            tracing::warn!(table = %table.name, "read by one connection: the role may not export a snapshot");
            return Ok(None);
        };
        let pages = part.map_or_else(|| Pages::of(bytes, number), |part| Pages::of_part(part, number));
        let condition = part.map(|part| part.condition.clone());
        let batch_bytes = BATCHES_BYTES / number;
        let (ctx, of) = (task.ctx.clone(), table.clone());
        let work = Arc::new(Work { batch_bytes, ctx, table: of, snapshot, pages, condition });
        let (sender, messages) = mpsc::channel(number);
        let mut answers = Vec::with_capacity(number);
        for _ in 0..number {
            let (ready, answer) = oneshot::channel();
            let (work, sender) = (Arc::clone(&work), sender.clone());
            std::thread::Builder::new()
                .name("starlift read".into())
                .spawn(move || run(&work, ready, &sender))
                .map_err(|e| Error::unavailable("no thread can be started to read the source").with_source(e))?;
            answers.push(answer);
        }
        let mut running = 0;
        for answer in answers {
            match answer.await {
                Ok(Ok(())) => running += 1,
                Ok(Err(error)) => tracing::warn!(table = %table.name, %error, "read by fewer connections"),
                // It broke off before it could say why.
                Err(_) => tracing::warn!(table = %table.name, "read by fewer connections"),
            }
        }
        let readers = Readers { number: running, running, messages, ended: Ended::default() };
        Ok((running > 0).then_some(readers))
    }

    /// How many connections read.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// The next rows, of any part; none once all came.
    ///
    /// Errors: the first of any connection.
    pub(super) async fn next(&mut self) -> Result<Option<Came>> {
        while self.running > 0 {
            match self.messages.recv().await {
                Some(Message::Came(came)) => return Ok(Some(came)),
                Some(Message::Ended(part)) => {
                    self.running -= 1;
                    self.ended = std::mem::take(&mut self.ended).and(part);
                }
                Some(Message::Failed(error)) => return Err(error),
                None => return Err(Error::internal("a connection to the source ended without a word")),
            }
        }
        Ok(None)
    }

    /// What all parts came to.
    pub(super) fn finish(self) -> Ended {
        self.ended
    }
}

fn run(work: &Work, ready: oneshot::Sender<Result<()>>, out: &mpsc::Sender<Message>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(Error::unavailable("no connection can be prepared").with_source(error)));
            return;
        }
    };
    runtime.block_on(async {
        let session = match work.open().await {
            Ok(session) => session,
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        if ready.send(Ok(())).is_err() {
            return;
        }
        let done = tokio::select! {
            // Nobody takes rows any more: the run was given up.
            () = out.closed() => return,
            done = work.read(&session, out) => done,
        };
        let last = done.map_or_else(Message::Failed, Message::Ended);
        let _ = out.send(last).await;
        session.close().await;
    });
}

impl Work {
    async fn open(&self) -> Result<SourceSession> {
        let connection = self.ctx.connect(Side::Source).await?;
        let source = &self.ctx.config.source;
        let mut session =
            SourceSession::open(connection, &source.database.schema, source.statement_timeout_seconds).await?;
        session.begin_at(&self.snapshot, &self.table).await?;
        Ok(session)
    }

    /// Reads parts until none is left.
    async fn read(&self, session: &SourceSession, out: &mpsc::Sender<Message>) -> Result<Ended> {
        let mut ended = Ended::default();
        while let Some(part) = self.pages.take() {
            let is_all = part == PageRange { from: 0, to: None };
            let rows = match &self.condition {
                None => session.copy_rows(&self.table, (!is_all).then(|| part.filter())).await?,
                Some(condition) => session.copy_pages(&self.table, part, condition).await?,
            };
            let mut rows = rows.with_values(self.ctx.config.quarantine.keep_values).with_batch_bytes(self.batch_bytes);
            while let Some(came) = Came::next(&self.table, &mut rows).await? {
                // Who does not listen any more has an error of its own.
                let _ = out.send(Message::Came(came)).await;
            }
            ended = ended.and(Ended::of(&self.table, &mut rows)?);
        }
        // Here, because what this session has read of a child is locked as long as its transaction is open, and can be seen.
        session.check_children(&self.table).await?;
        Ok(ended)
    }
}
