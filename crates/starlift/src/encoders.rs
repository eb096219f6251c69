//! Rows on their way to data files: encoded on tasks of their own, so that reading goes on meanwhile.
//!
//! Memory: one batch waiting and one at work for each task, besides what the writers hold.

use std::sync::Arc;

use arrow::array::RecordBatch;
use starlift_core::manifest::DataFile;
use starlift_core::{Error, Result};
use starlift_lake::FileWriter;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

/// What writes the rows of one table. Dropping it gives up what is being written.
pub(crate) struct Encoders {
    /// Before the sender, so that they are dropped first: whoever sees the sender gone completes its file.
    tasks: JoinSet<Result<Vec<DataFile>>>,
    batches: mpsc::Sender<RecordBatch>,
}

impl Encoders {
    /// One task for each writer; they share the [numbers](starlift_lake::PartNumbers) of their parts.
    pub(crate) fn start(writers: Vec<FileWriter>) -> Encoders {
        let (batches, waiting) = mpsc::channel(writers.len().max(1));
        let waiting = Arc::new(Mutex::new(waiting));
        let mut tasks = JoinSet::new();
        for writer in writers {
            tasks.spawn(encode(writer, Arc::clone(&waiting)));
        }
        Encoders { tasks, batches }
    }

    /// Hands rows over; waits while all tasks have enough to do.
    ///
    /// Errors: those of a writer, which is then over.
    pub(crate) async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        tokio::select! {
            biased;
            // A task ends before its time only by an error.
            Some(ended) = self.tasks.join_next() => Err(joined(ended).err().unwrap_or_else(ended_early)),
            sent = self.batches.send(rows.clone()) => sent.map_err(|_| ended_early()),
        }
    }

    /// Gives up what is being written, and waits until nothing of it is left.
    pub(crate) async fn give_up(mut self) {
        self.tasks.shutdown().await;
    }

    /// The files, part by part.
    ///
    /// Errors: those of a writer; complete parts are then orphans.
    pub(crate) async fn finish(self) -> Result<Vec<DataFile>> {
        let Encoders { mut tasks, batches } = self;
        drop(batches);
        let mut files = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            files.extend(joined(ended)?);
        }
        // The first part has the shortest key.
        files.sort_by(|a: &DataFile, b| (a.key.len(), &a.key).cmp(&(b.key.len(), &b.key)));
        Ok(files)
    }
}

async fn encode(mut writer: FileWriter, waiting: Arc<Mutex<mpsc::Receiver<RecordBatch>>>) -> Result<Vec<DataFile>> {
    loop {
        let next = waiting.lock().await.recv().await;
        match next {
            Some(rows) => writer.write(&rows).await?,
            None => return writer.finish().await,
        }
    }
}

fn joined(ended: Result<Result<Vec<DataFile>>, tokio::task::JoinError>) -> Result<Vec<DataFile>> {
    ended.unwrap_or_else(|error| Err(Error::internal("a task that writes data files broke off").with_source(error)))
}

fn ended_early() -> Error {
    Error::internal("a task that writes data files ended before its rows")
}
