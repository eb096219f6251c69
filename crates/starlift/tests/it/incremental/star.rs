//! Two stars over one lake, one of which is evaluated whole, and their comparison.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use futures::stream::BoxStream;
use starlift::config::{Config, Environment, Overrides, Project};
use starlift::context::{Context, Unwatched};
use starlift::{Head, StageReport};
use starlift_core::Error;
use starlift_core::manifest::{DataFile, Relation, RelationRun};
use starlift_lake::{State, Store, reader};

/// What both stars came to.
pub(super) enum Step {
    Committed(Ways),
    Stopped,
}

/// How many models the first star evaluated in which way, and how many rows both evaluated of those that were incremental.
#[derive(Debug, Default)]
pub(super) struct Ways {
    pub(super) incremental: u64,
    pub(super) whole: u64,
    pub(super) rows_incremental: u64,
    pub(super) rows_whole: u64,
}

pub(super) struct Pair {
    dir: tempfile::TempDir,
}

impl Pair {
    /// Stars of a project with these models.
    pub(super) fn new(models: &[(String, String)]) -> Pair {
        // In memory, where that is a folder: every object is synced.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let settings = "[pipeline]\nname = \"p\"\n[quarantine]\nmax_quarantine = 1000000\nkeep_values = true\n";
        std::fs::write(dir.path().join("starlift.toml"), settings).unwrap();
        std::fs::create_dir(dir.path().join("models")).unwrap();
        for (name, text) in models {
            std::fs::write(dir.path().join(format!("models/{name}.sql")), text).unwrap();
        }
        Pair { dir }
    }

    pub(super) fn lake(&self) -> Store {
        self.store("lake/ingest")
    }

    fn store(&self, name: &str) -> Store {
        Store::open(&self.dir.path().join(name).to_string_lossy(), &Default::default()).unwrap()
    }

    pub(super) fn star(&self) -> Store {
        self.store("incremental")
    }

    /// One run of the star of this name, with so much time.
    pub(super) async fn run_within(&self, star: &str, deadline: Duration) -> Result<StageReport, Error> {
        starlift::transform(&self.context(star, "true")?.with_deadline(Some(deadline)), None).await
    }

    async fn run(&self, star: &str, incremental: &str) -> Result<StageReport, Error> {
        starlift::transform(&self.context(star, incremental)?, None).await
    }

    fn context(&self, star: &str, incremental: &str) -> Result<Context, Error> {
        let overrides = Overrides {
            lake_transform: Some(self.dir.path().join(star).to_string_lossy().into_owned()),
            ..Overrides::default()
        };
        // Where models are evaluated whole, their files are as they were written, too.
        let environment =
            Environment::of([("STARLIFT_TRANSFORM_INCREMENTAL", incremental), ("STARLIFT_LAKE_COMPACT", incremental)]);
        let config = Config::read(self.dir.path(), environment, overrides)?;
        let project = Project::read(self.dir.path())?;
        Ok(Context::new(config, project, Arc::new(Unwatched), None))
    }

    /// Runs transform both ways. Errors: what differs, in words.
    pub(super) async fn transform(&self) -> Result<Step, String> {
        let (ours, theirs) = (self.run("incremental", "true").await, self.run("whole", "false").await);
        let (ours, theirs) = match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => (ours, theirs),
            (Err(_), Err(_)) => return Ok(Step::Stopped),
            (Err(error), Ok(_)) => return Err(format!("they differ: incremental stops: {}", error.render())),
            (Ok(_), Err(error)) => return Err(format!("they differ: whole stops: {}", error.render())),
        };
        let mut ways = Ways::default();
        for (one, other) in ours.relations.iter().zip(&theirs.relations) {
            if one.mode == "incremental" {
                ways.incremental += 1;
                ways.rows_incremental += one.rows_read;
                ways.rows_whole += other.rows_read;
            } else {
                ways.whole += 1;
            }
        }
        let (ours, theirs) = (self.store("incremental"), self.store("whole"));
        let (one, other) = (Head::read(&ours, "p").await.unwrap(), Head::read(&theirs, "p").await.unwrap());
        let names = |head: &Head| head.manifest().map(|m| m.relations.keys().cloned().collect::<Vec<_>>());
        if names(&one) != names(&other) {
            return Err("the stars differ in their models".into());
        }
        for (name, relation) in one.manifest().into_iter().flat_map(|manifest| &manifest.relations) {
            let left = told(&ours, &one, name, relation).await;
            let right = told(&theirs, &other, name, &other.manifest().unwrap().relations[name]).await;
            if left != right {
                let only = |some: &[String], rest: &[String]| {
                    some.iter().filter(|line| !rest.contains(line)).cloned().collect::<Vec<_>>().join("\n  ")
                };
                let mode = relation.run.as_ref().map_or("untouched", |run| &run.mode);
                return Err(format!(
                    "`{name}` ({mode}) differs; incremental alone:\n  {}\nwhole alone:\n  {}",
                    only(&left, &right),
                    only(&right, &left)
                ));
            }
        }
        Ok(Step::Committed(ways))
    }
}

/// The rows and refused rows of a model, as sorted lines.
pub(super) async fn state(store: &Store, head: &Head, name: &str) -> Vec<String> {
    let relation = &head.manifest().unwrap().relations[name];
    let state = State::new(store, relation.schema.clone(), head.live_of(name)).unwrap();
    let mut lines = Vec::new();
    add(&mut lines, "row", state.scan(None)).await;
    add(&mut lines, "refused", state.refused()).await;
    lines.sort();
    lines
}

/// All that a star says of a model, as sorted lines: its state, what the last run did, what the manifest counts.
async fn told(store: &Store, head: &Head, name: &str, relation: &Relation) -> Vec<String> {
    let state = State::new(store, relation.schema.clone(), head.live_of(name)).unwrap();
    let mut lines = Vec::new();
    add(&mut lines, "state", state.scan(None)).await;
    add(&mut lines, "refused", state.refused()).await;
    if let Some(run) = &relation.run {
        let schema = &relation.schema;
        files(&mut lines, "upsert", store, &run.files, schema.to_arrow()).await;
        files(&mut lines, "retraction", store, &run.deleted, schema.key_to_arrow()).await;
        files(&mut lines, "set aside", store, &run.refused, schema.refused_to_arrow()).await;
    }
    let counted = Relation { run: relation.run.as_ref().map(|_| RelationRun::default()), ..relation.clone() };
    lines.push(format!("{counted:?}"));
    lines.sort();
    lines
}

async fn files(lines: &mut Vec<String>, what: &str, store: &Store, files: &[DataFile], schema: SchemaRef) {
    for file in files {
        add(lines, what, reader::read(store, file, schema.clone(), None)).await;
    }
}

async fn add(lines: &mut Vec<String>, what: &str, mut rows: BoxStream<'static, Result<RecordBatch, Error>>) {
    let form = FormatOptions::new().with_null("~");
    while let Some(batch) = rows.try_next().await.unwrap() {
        let columns: Vec<ArrayFormatter<'_>> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &form).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let values: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            lines.push(format!("{what} {}", values.join("|")));
        }
    }
}
