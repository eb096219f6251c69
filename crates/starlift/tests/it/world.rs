//! A ToteSys, a warehouse, a lake and a project of its own for each test.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use starlift::config::{Config, Environment, Overrides, Project};
use starlift::context::{Context, Unwatched};
use starlift::{LoadRequest, RunReport, StageReport};
use starlift_core::Error;
use starlift_sandbox::totesys::{self, Calendar, History};
use starlift_sandbox::{Cluster, shared};
use tokio_postgres::Client;

pub(crate) const CALENDAR: Calendar = Calendar { start_year: 2020, end_year: 2031 };
pub(crate) const SEED: u64 = 7;

pub(crate) struct World {
    pub(crate) cluster: &'static Cluster,
    pub(crate) source: String,
    pub(crate) warehouse: String,
    pub(crate) dir: tempfile::TempDir,
    /// The project's folder: the shipped one, or a copy that the test may change.
    pub(crate) project: PathBuf,
    reader: String,
}

impl World {
    /// A small history in the source and an empty warehouse database.
    pub(crate) async fn new() -> World {
        World::of_scale(0.02).await
    }

    pub(crate) async fn of_scale(scale: f64) -> World {
        World::on(shared().expect("a private PostgreSQL"), scale).await
    }

    /// The same in another cluster than the one that all tests share.
    pub(crate) async fn on(cluster: &'static Cluster, scale: f64) -> World {
        let source = cluster.fresh_database("source").await.unwrap();
        let warehouse = cluster.fresh_database("warehouse").await.unwrap();
        let mut client = cluster.connect(&source).await.unwrap();
        totesys::create_source(&client).await.unwrap();
        History { seed: SEED, scale }.fill(&mut client).await.unwrap();
        let reader = format!("{source}_reader");
        totesys::create_reader(&client, &reader, "secret").await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines/totesys");
        World { cluster, source, warehouse, dir, project, reader }
    }

    /// The same world with a copy of the project that the test may change.
    pub(crate) fn with_own_project(mut self) -> World {
        let copy = self.dir.path().join("project");
        copy_folder(&self.project, &copy);
        self.project = copy;
        self
    }

    pub(crate) fn lake(&self) -> PathBuf {
        self.dir.path().join("ingest")
    }

    pub(crate) fn star(&self) -> PathBuf {
        self.dir.path().join("transform")
    }

    pub(crate) fn source_url(&self) -> String {
        self.source_url_on(self.cluster)
    }

    /// The source as another server has it, such as a standby.
    pub(crate) fn source_url_on(&self, cluster: &Cluster) -> String {
        cluster.url(&self.source, &self.reader)
    }

    pub(crate) fn warehouse_url(&self) -> String {
        self.cluster.superuser_url(&self.warehouse)
    }

    pub(crate) fn overrides(&self) -> Overrides {
        Overrides {
            source_url: Some(self.source_url()),
            warehouse_url: Some(self.warehouse_url()),
            lake_ingest: Some(self.lake().to_string_lossy().into_owned()),
            lake_transform: Some(self.star().to_string_lossy().into_owned()),
        }
    }

    pub(crate) fn try_context(&self, overrides: Overrides, environment: Environment) -> Result<Context, Error> {
        let config = Config::read(&self.project, environment, overrides)?;
        let project = Project::read(&self.project)?;
        Ok(Context::new(config, project, Arc::new(Unwatched), None))
    }

    pub(crate) fn context(&self) -> Context {
        self.try_context(self.overrides(), Environment::default()).unwrap()
    }

    pub(crate) fn context_of_run(&self, run_id: &str) -> Context {
        let mut context = self.context();
        context.run_id = run_id.into();
        context
    }

    pub(crate) async fn create_warehouse(&self) {
        starlift::warehouse::create(&self.context()).await.unwrap();
    }

    pub(crate) async fn source_client(&self) -> Client {
        self.cluster.connect(&self.source).await.unwrap()
    }

    pub(crate) async fn warehouse_client(&self) -> Client {
        self.cluster.connect(&self.warehouse).await.unwrap()
    }

    /// Changes the source in one transaction.
    pub(crate) async fn change(&self, sql: &str) {
        self.source_client().await.batch_execute(sql).await.unwrap();
    }

    pub(crate) async fn ingest(&self) -> StageReport {
        starlift::ingest(&self.context(), None).await.unwrap()
    }

    pub(crate) async fn transform(&self) -> StageReport {
        starlift::transform(&self.context(), None).await.unwrap()
    }

    pub(crate) async fn load(&self) -> StageReport {
        starlift::load(&self.context(), &LoadRequest::default()).await.unwrap()
    }

    pub(crate) async fn run(&self) -> RunReport {
        let report = starlift::run(&self.context()).await;
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        report
    }

    /// The warehouse's current views hold what a direct query on the source says that they must.
    pub(crate) async fn assert_star_equals_source(&self) {
        let (source, warehouse) = (self.source_client().await, self.warehouse_client().await);
        let differences = totesys::compare_all(&source, &warehouse, CALENDAR).await.unwrap();
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }

    /// Rows of a query on the warehouse that yields one number.
    pub(crate) async fn count_in_warehouse(&self, sql: &str) -> i64 {
        self.warehouse_client().await.query_one(sql, &[]).await.unwrap().get(0)
    }
}

/// The report of one table or model.
pub(crate) fn of<'a>(report: &'a StageReport, name: &str) -> &'a starlift::RelationReport {
    report.relations.iter().find(|r| r.name == name).unwrap_or_else(|| panic!("`{name}` is not in the report"))
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every file below a folder, by its path relative to it.
pub(crate) fn files_below(folder: &Path) -> Vec<String> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}
