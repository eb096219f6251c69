//! What every stage is given: settings, the project, the clock, ids, and someone who watches.
//!
//! This is the only place besides the shells that looks at a clock or makes up an id.

use std::sync::Arc;
use std::time::Duration;

use starlift_core::{Error, Micros, Result};
use starlift_lake::Store;
use starlift_postgres::{ConnectOptions, Connection};
use tokio::time::Instant;

use crate::config::{Config, Project, Side};
use crate::quarantine::Accepted;

/// What a stage works with. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// Settings.
    pub config: Arc<Config>,
    /// Models and seeds.
    pub project: Arc<Project>,
    /// Who hears how far a stage is.
    pub progress: Arc<dyn Progress>,
    /// The id of this run: the same id again returns the result of the first time.
    pub run_id: String,
    /// Refused rows that a person lets through.
    pub(crate) accepted: Accepted,
    /// When a stage gives up, if it has not ended by then.
    deadline: Option<Deadline>,
}

/// The time that a run was given, and when it is over.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    given: Duration,
    over: Instant,
}

/// Hears how far a stage is. Calls come in order for one table or model; none may block.
pub trait Progress: Send + Sync {
    /// A stage begins with a table or model.
    fn started(&self, stage: &'static str, name: &str);
    /// So many more rows and bytes were read for it.
    fn advanced(&self, stage: &'static str, name: &str, rows: u64, bytes: u64);
    /// The stage is through with it.
    fn finished(&self, stage: &'static str, name: &str);
}

/// Nobody watches.
pub struct Unwatched;

impl Progress for Unwatched {
    fn started(&self, _: &'static str, _: &str) {}
    fn advanced(&self, _: &'static str, _: &str, _: u64, _: u64) {}
    fn finished(&self, _: &'static str, _: &str) {}
}

impl Context {
    /// A context for one run. Without a run id one is made up.
    pub fn new(config: Config, project: Project, progress: Arc<dyn Progress>, run_id: Option<String>) -> Context {
        Context {
            config: Arc::new(config),
            project: Arc::new(project),
            progress,
            run_id: run_id.unwrap_or_else(new_id),
            accepted: Accepted::None,
            deadline: None,
        }
    }

    /// The same context with so much time from now on; none means as long as it takes.
    pub fn with_deadline(mut self, given: Option<Duration>) -> Context {
        self.deadline = given.map(|given| Deadline { given, over: Instant::now() + given });
        self
    }

    /// The same context, in which these refused rows do not count against `max_quarantine`.
    pub fn accepting(mut self, accepted: Accepted) -> Context {
        self.accepted = accepted;
        self
    }

    /// What a stage comes to, unless the deadline is over before. A stage that is given up is like one that crashed: what
    /// it committed stays, all else is as if it had never been.
    pub(crate) async fn in_time<T>(&self, stage: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(deadline) = self.deadline else { return work.await };
        tokio::time::timeout_at(deadline.over, work).await.unwrap_or_else(|_| {
            Err(Error::unavailable(format!("{stage} did not end within its deadline"))
                .with_detail(format!("the run was given {} s", deadline.given.as_secs()))
                .with_hint("run again: it goes on from what is committed; or give it more time"))
        })
    }

    /// How much of the time that the run was given is left, and how much that was; none means as long as it takes.
    pub(crate) fn time_left(&self) -> Option<(Duration, Duration)> {
        let deadline = self.deadline?;
        Some((deadline.over.saturating_duration_since(Instant::now()), deadline.given))
    }

    /// The same context for a new run.
    pub fn for_new_run(&self) -> Context {
        Context { run_id: new_id(), ..self.clone() }
    }

    /// The lake's store.
    pub fn lake(&self) -> Result<Store> {
        Store::open(&self.config.lake_ingest, &self.config.store_options)
    }

    /// The star's store.
    pub fn star(&self) -> Result<Store> {
        Store::open(&self.config.lake_transform, &self.config.store_options)
    }

    /// A new connection to one of the databases, named after this run so that an administrator can find it.
    pub async fn connect(&self, side: Side) -> Result<Connection> {
        let options = self.connection(side)?;
        starlift_postgres::connect(&options).await.map_err(|e| e.with_context("database", side.name()))
    }

    /// How to connect to one of the databases, named after this run so that an administrator can find it.
    pub fn connection(&self, side: Side) -> Result<ConnectOptions> {
        let mut options = self.config.connection(side)?;
        options.application_name = format!("starlift {}", self.run_id);
        Ok(match side {
            // Every session with the source pins this limit.
            Side::Source => {
                options.with_longest_statement(Duration::from_secs(self.config.source.statement_timeout_seconds))
            }
            Side::Warehouse => options,
        })
    }
}

/// The time by this machine's clock.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn now() -> Micros {
    Micros(chrono::Utc::now().timestamp_micros())
}

/// A new random id (UUID version 4).
pub fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
