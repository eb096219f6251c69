//! What every stage is given: settings, the project, the clock, ids, and someone who watches.
//!
//! This is the only place besides the shells that looks at a clock or makes up an id.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use starlift_core::{Error, Micros, Result};
use starlift_lake::{Head, Spill, Store};
use starlift_postgres::{ConnectOptions, Connection};
use tokio::time::Instant;

use crate::config::{Config, PARAMETER, Place, Project, Side};
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
    /// The stores that were opened: their clients and connections are made once.
    stores: Arc<Stores>,
}

#[derive(Default)]
struct Stores {
    lake: OnceLock<Store>,
    star: OnceLock<Store>,
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
            stores: Arc::default(),
        }
    }

    /// The same context with so much time from now on; none means as long as it takes.
    pub fn with_deadline(self, given: Option<Duration>) -> Context {
        self.with_deadline_from(Instant::now(), given)
    }

    /// The same context with so much time from this moment on: what it took to make it ready counts as well.
    pub fn with_deadline_from(mut self, begun: Instant, given: Option<Duration>) -> Context {
        // A time that no clock reaches bounds nothing.
        self.deadline = given.and_then(|given| Some(Deadline { given, over: begun.checked_add(given)? }));
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

    /// When one of so many parts of the time that is left is over; none means as long as it takes.
    pub(crate) fn share_of_time(&self, parts: u32) -> Option<Instant> {
        let over = self.deadline?.over;
        let now = Instant::now();
        Some(now + over.saturating_duration_since(now) / parts.max(1))
    }

    /// The same context for a new run.
    pub fn for_new_run(&self) -> Context {
        self.for_run(new_id())
    }

    /// The same context for the run of this id.
    pub fn for_run(&self, run_id: String) -> Context {
        Context { run_id, ..self.clone() }
    }

    /// Makes ready what a run will need: opens stores and reads the credentials that AWS keeps. What is ready stays so for
    /// all clones of this context.
    ///
    /// Errors: the first; a run then tries again by itself.
    pub async fn prepare(&self, places: &[Place], sides: &[Side]) -> Result<()> {
        for place in places {
            self.store(*place)?;
        }
        for side in sides {
            self.config.connection(*side, now()).await?;
        }
        Ok(())
    }

    /// The lake's store.
    pub fn lake(&self) -> Result<Store> {
        self.store(Place::Lake)
    }

    /// The star's store.
    pub fn star(&self) -> Result<Store> {
        self.store(Place::Star)
    }

    /// What the lake's newest manifest says.
    ///
    /// Errors: Config where the place is another pipeline's, or a star's; Data for a damaged manifest; those of the store.
    pub(crate) async fn lake_head(&self) -> Result<Head> {
        let lake = self.lake()?;
        Head::read(&lake, &self.config.pipeline).await?.of_lake(&lake)
    }

    /// What the star's newest manifest says. Errors: as those of the lake.
    pub(crate) async fn star_head(&self) -> Result<Head> {
        let star = self.star()?;
        Head::read(&star, &self.config.pipeline).await?.of_star(&star)
    }

    /// Where keys and files that do not fit in memory are put aside.
    pub(crate) fn spill(&self) -> Spill {
        Spill::into(&self.config.spill_dir)
    }

    fn store(&self, place: Place) -> Result<Store> {
        let (opened, url) = match place {
            Place::Lake => (&self.stores.lake, &self.config.lake_ingest),
            Place::Star => (&self.stores.star, &self.config.lake_transform),
        };
        if let Some(store) = opened.get() {
            return Ok(store.clone());
        }
        if url.starts_with(PARAMETER) {
            return Err(Error::internal(format!("`{url}` was not looked up before it was opened")));
        }
        let store = Store::open(url, &self.config.store_options)?.spilling(self.spill());
        Ok(opened.get_or_init(|| store).clone())
    }

    /// A new connection to one of the databases, named after this run so that an administrator can find it. Where none comes
    /// about, credentials that may have been changed since they were read are read again, and tried once more if they were.
    pub async fn connect(&self, side: Side) -> Result<Connection> {
        self.connect_as(side, |options| options).await
    }

    /// The same with options that are adjusted.
    pub(crate) async fn connect_as(
        &self,
        side: Side,
        adjusted: impl Fn(ConnectOptions) -> ConnectOptions,
    ) -> Result<Connection> {
        let in_database = |e: Error| e.with_context("database", side.name());
        let since = now();
        let options = self.config.connection(side, since).await?;
        let failure = match starlift_postgres::connect(&adjusted(self.named(side, options.clone()))).await {
            Ok(connection) => return Ok(connection),
            Err(error) => in_database(error),
        };
        match self.config.connection_again(side, &options, since, now()).await {
            Ok(Some(others)) => {
                starlift_postgres::connect(&adjusted(self.named(side, others))).await.map_err(in_database)
            }
            Ok(None) => Err(failure),
            // What keeps the stage from its database comes first.
            Err(error) => {
                let detail = error.detail();
                tracing::warn!(database = side.name(), detail, "the credentials cannot be read again: {error}");
                Err(failure)
            }
        }
    }

    /// How to connect to one of the databases, named after this run so that an administrator can find it.
    fn named(&self, side: Side, mut options: ConnectOptions) -> ConnectOptions {
        options.application_name = format!("starlift {}", self.run_id);
        match side {
            // Every session with the source pins this limit.
            Side::Source => {
                options.with_longest_statement(Duration::from_secs(self.config.source.statement_timeout_seconds))
            }
            Side::Warehouse => options,
        }
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
