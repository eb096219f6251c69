//! The writer zoo: seventeen sessions that write into ToteSys at the same time, each in a way of its own that makes some
//! reader lose rows: one that trusts stamps, or ids, or the order of commits, or that a row which is there stays.
//!
//! What each writer wants to do follows from the seed. What comes of it depends on who is first, as in any database, so a
//! zoo shows that a reader loses rows, or that it did not lose any this time; it does not give the same rows again.
//! ToteSys stays sound: every foreign key holds, agreed dates are dates, and what the star schema must contain can be asked
//! of the source as ever.

mod crowds;
mod keys;
mod masters;
mod stamps;
mod statements;
mod transactions;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use starlift_core::{Error, Result};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::writer::{Sql, Tally, Writer};
use crate::cluster::Cluster;
use crate::failure;

/// What a writer does again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Habit {
    /// Single statements that commit at once.
    Short,
    /// Short transactions over several tables.
    Deal,
    /// Transactions of up to two seconds, stamped with their beginning.
    Long,
    /// Begins, is idle, and only then writes, stamped with the beginning.
    IdleFirst,
    /// Savepoints, kept, nested and rolled back to.
    Savepoints,
    /// Blocks of PL/pgSQL that catch what they raise.
    Exceptions,
    /// Transactions that are prepared first and committed, or rolled back, later.
    Prepared,
    /// Transactions most of which are rolled back.
    RollsBack,
    /// Commits that share one stamp.
    Ties,
    /// Updates of what has been there for long.
    Updates,
    /// Deletes, and deleted keys that return.
    Returns,
    /// Changes of keys.
    KeyChanges,
    /// Stamps that are skewed, truncated, backdated, or not touched at all.
    Lies,
    /// Master data: addresses, departments, and who belongs to them.
    Masters,
    /// `insert … on conflict do update` and `merge` of rows that others change too.
    Upserts,
    /// Row locks beside the changes of others, and more subtransactions than a snapshot lists.
    Holds,
    /// Freezes, rewrites and clusters tables.
    Tidies,
}

impl Habit {
    /// All of them.
    pub const ALL: [Habit; 17] = [
        Habit::Short,
        Habit::Deal,
        Habit::Long,
        Habit::IdleFirst,
        Habit::Savepoints,
        Habit::Exceptions,
        Habit::Prepared,
        Habit::RollsBack,
        Habit::Ties,
        Habit::Updates,
        Habit::Returns,
        Habit::KeyChanges,
        Habit::Lies,
        Habit::Masters,
        Habit::Upserts,
        Habit::Holds,
        Habit::Tidies,
    ];

    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Habit::Short => "short",
            Habit::Deal => "deal",
            Habit::Long => "long",
            Habit::IdleFirst => "idle first",
            Habit::Savepoints => "savepoints",
            Habit::Exceptions => "exceptions",
            Habit::Prepared => "prepared",
            Habit::RollsBack => "rolls back",
            Habit::Ties => "ties",
            Habit::Updates => "updates",
            Habit::Returns => "returns",
            Habit::KeyChanges => "key changes",
            Habit::Lies => "lies",
            Habit::Masters => "masters",
            Habit::Upserts => "upserts",
            Habit::Holds => "holds",
            Habit::Tidies => "tidies",
        }
    }

    /// One turn: a transaction, or a few that belong together.
    async fn turn(self, w: &mut Writer) -> Sql<()> {
        match self {
            Habit::Short => transactions::short(w).await,
            Habit::Deal => transactions::deal(w).await,
            Habit::Long => transactions::long(w).await,
            Habit::IdleFirst => transactions::idle_first(w).await,
            Habit::Savepoints => transactions::savepoints(w).await,
            Habit::Exceptions => transactions::exceptions(w).await,
            Habit::Prepared => transactions::prepared(w).await,
            Habit::RollsBack => transactions::rolls_back(w).await,
            Habit::Ties => stamps::ties(w).await,
            Habit::Lies => stamps::lies(w).await,
            Habit::Updates => keys::updates(w).await,
            Habit::Returns => keys::returns(w).await,
            Habit::KeyChanges => keys::key_changes(w).await,
            Habit::Masters => masters::turn(w).await,
            Habit::Upserts => crowds::upserts(w).await,
            Habit::Holds => crowds::holds(w).await,
            Habit::Tidies => crowds::tidies(w).await,
        }
    }
}

/// A zoo that was let loose on a database. Dropping it tells the writers to stop, without waiting for them.
#[derive(Debug)]
pub struct Zoo {
    writers: Vec<(Habit, JoinHandle<Result<Tally>>)>,
    stop: watch::Sender<bool>,
    versions: Arc<AtomicU64>,
}

/// What the writers of a zoo did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZooReport {
    /// Each writer.
    pub habits: Vec<HabitReport>,
}

/// What one writer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HabitReport {
    /// What it does.
    pub habit: Habit,
    /// Transactions that it committed.
    pub commits: u64,
    /// Row versions that it committed: rows inserted or updated.
    pub versions: u64,
    /// Rows that it deleted.
    pub deletes: u64,
    /// Row versions that it took back, by its own will.
    pub rolled_back: u64,
    /// Transactions that the server refused, because of a deadlock or of what another writer did.
    pub refused: u64,
}

impl ZooReport {
    /// Row versions that were committed.
    pub fn versions(&self) -> u64 {
        self.habits.iter().map(|h| h.versions).sum()
    }

    /// Rows that were deleted.
    pub fn deletes(&self) -> u64 {
        self.habits.iter().map(|h| h.deletes).sum()
    }
}

impl Zoo {
    /// Lets the seventeen writers loose on a ToteSys with a history, as superuser.
    ///
    /// # Errors
    /// Where a session cannot be opened, or the database has no history.
    pub async fn release(cluster: &Cluster, database: &str, seed: u64) -> Result<Zoo> {
        let (stop, stopped) = watch::channel(false);
        let versions = Arc::new(AtomicU64::new(0));
        let mut writers = Vec::with_capacity(Habit::ALL.len());
        for (number, habit) in (0..).zip(Habit::ALL) {
            let client = cluster.connect(database).await?;
            let mut writer = Writer::new(client, database, seed, number, stopped.clone(), versions.clone()).await?;
            let task = tokio::spawn(async move {
                let lived = live(habit, &mut writer).await;
                lived.map_err(|e| failure::postgres(format!("the writer `{}` of the zoo failed", habit.name()), e))?;
                Ok(writer.tally)
            });
            writers.push((habit, task));
        }
        Ok(Zoo { writers, stop, versions })
    }

    /// Row versions that were committed so far.
    pub fn versions(&self) -> u64 {
        self.versions.load(Ordering::Relaxed)
    }

    /// Tells the writers to stop and waits until the last one has ended its transaction.
    ///
    /// # Errors
    /// What made a writer stop before it was told to.
    pub async fn quiet(self) -> Result<ZooReport> {
        // Nobody listens any more where every writer has failed; that is told below.
        let _ = self.stop.send(true);
        let mut habits = Vec::with_capacity(self.writers.len());
        for (habit, task) in self.writers {
            let tally = task.await.map_err(|e| Error::internal("a writer of the zoo panicked").with_source(e))??;
            habits.push(HabitReport {
                habit,
                commits: tally.commits,
                versions: tally.versions,
                deletes: tally.deletes,
                rolled_back: tally.rolled_back,
                refused: tally.refused,
            });
        }
        Ok(ZooReport { habits })
    }
}

/// Turns until it is told to stop. What the server refuses because of another writer is rolled back and forgotten.
async fn live(habit: Habit, writer: &mut Writer) -> Sql<()> {
    while !writer.is_told_to_stop() {
        match habit.turn(writer).await {
            Ok(()) => {}
            Err(error) if is_somebody_elses(&error) => writer.give_up().await?,
            Err(error) => return Err(error),
        }
        writer.rest(0, 400).await;
    }
    Ok(())
}

/// Deadlock, serialisation, a lock that is held too long, or a row that another writer took away or brought first.
fn is_somebody_elses(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| ["40P01", "40001", "55P03", "23503", "23505"].contains(&code.code()))
}
