//! Where the demo happens: a private server with two databases, and a project beside them.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use starlift::Context;
use starlift::config::{Config, Environment, Overrides, Project};
use starlift::context::new_id;
use starlift_core::{Error, Result};
use starlift_sandbox::{Cluster, ClusterOptions, totesys};

use crate::shell::Shell;

/// The database of the business.
pub(super) const SOURCE: &str = "totesys";
/// The database of the analysts.
pub(super) const WAREHOUSE: &str = "warehouse";
/// Reads the source and may do nothing else.
const READER: &str = "starlift_reader";
/// Owns the warehouse.
pub(super) const LOADER: &str = "starlift_loader";

/// The server and the project. The project is in the server's directory, so that it goes with it.
pub(super) struct Place {
    /// The server.
    pub(super) cluster: Cluster,
    /// The project's folder.
    pub(super) project: PathBuf,
}

impl Place {
    /// Starts the server, creates both databases with their roles, and writes the project. The source is empty.
    pub(super) async fn prepare(shell: &Shell, keep: bool) -> Result<Place> {
        let options = ClusterOptions {
            keep,
            // Other users of this machine can reach the port.
            password: Some(new_id()),
            // Its own transactions would make one run of the demo read other rows than the next.
            settings: vec![("autovacuum".into(), "off".into())],
            ..ClusterOptions::default()
        };
        let cluster = tokio::task::spawn_blocking(move || Cluster::start(options))
            .await
            .map_err(|e| Error::internal("the private PostgreSQL was not started").with_source(e))??;
        let project = cluster.dir().join("project");
        let place = Place { cluster, project };

        let (reader, loader) = (new_id(), new_id());
        for database in [SOURCE, WAREHOUSE] {
            place.cluster.create_database(database).await?;
        }
        let source = place.cluster.connect(SOURCE).await?;
        totesys::create_source(&source).await?;
        totesys::create_reader(&source, READER, &reader).await?;
        let warehouse = place.cluster.connect(WAREHOUSE).await?;
        totesys::create_loader(&warehouse, LOADER, &loader).await?;

        for (path, text) in totesys::project_files() {
            place.write(path, text, 0o644)?;
        }
        place.write("db_credentials.json", &place.credentials(READER, &reader, SOURCE), 0o600)?;
        place.write("warehouse_credentials.json", &place.credentials(LOADER, &loader, WAREHOUSE), 0o600)?;
        starlift::warehouse::create(&place.context(shell)?).await?;
        Ok(place)
    }

    /// What the stages work with, for a new run. The project's files alone decide: nothing of the user's environment.
    pub(super) fn context(&self, shell: &Shell) -> Result<Context> {
        let config = Config::read(&self.project, Environment::of([]), Overrides::default())?;
        let project = Project::read(&self.project)?;
        Ok(Context::new(config, project, Arc::new(shell.bars.clone()), None))
    }

    /// Stops the server and removes everything that is not to be kept.
    pub(super) async fn end(self) -> Result<()> {
        tokio::task::spawn_blocking(move || self.cluster.stop())
            .await
            .map_err(|e| Error::internal("the private PostgreSQL was not stopped").with_source(e))?
    }

    fn credentials(&self, user: &str, password: &str, database: &str) -> String {
        let credentials = serde_json::json!({
            "user": user, "password": password, "host": "127.0.0.1", "database": database, "port": self.cluster.port(),
        });
        format!("{credentials:#}\n")
    }

    fn write(&self, path: &str, text: &str, mode: u32) -> Result<()> {
        let path = self.project.join(path);
        create(&path, text, mode).map_err(|e| {
            Error::unavailable("cannot write the project of the demo")
                .with_detail(format!("`{}`: {e}", path.display()))
                .with_source(e)
        })
    }
}

fn create(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())
}
