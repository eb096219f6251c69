//! What the tests share: columns, sessions, and rows read to their end.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use futures::TryStreamExt;
use starlift_core::{Column, ColumnType};
use starlift_postgres::catalog::{SourceTable, TableSettings};
use starlift_postgres::extract::SourceSession;
use starlift_postgres::{ConnectOptions, connect};
use starlift_sandbox::Cluster;
use tokio_postgres::Client;

pub(crate) fn column(name: &str, column_type: ColumnType, nullable: bool) -> Column {
    Column { name: name.into(), column_type, nullable, declared: None, labels: vec![] }
}

pub(crate) fn array_of(element: ColumnType) -> ColumnType {
    ColumnType::Array(Box::new(element))
}

/// A database of its own on the shared cluster, filled by some SQL, with its superuser's URL.
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) cluster: &'static Cluster,
    pub(crate) owner: Client,
}

pub(crate) async fn database(sql: &str) -> Database {
    let cluster = starlift_sandbox::shared().unwrap();
    let name = cluster.fresh_database("postgres").await.unwrap();
    let owner = cluster.connect(&name).await.unwrap();
    owner.batch_execute(sql).await.unwrap();
    Database { name, cluster, owner }
}

/// The version of the shared server, such as 150018: some of what a test has is not there before one.
pub(crate) async fn version() -> u32 {
    let client = starlift_sandbox::shared().unwrap().connect("postgres").await.unwrap();
    starlift_postgres::server_version(&client).await.unwrap()
}

impl Database {
    pub(crate) fn options(&self) -> ConnectOptions {
        ConnectOptions::from_url(&self.cluster.superuser_url(&self.name)).unwrap()
    }

    pub(crate) fn options_of(&self, role: &str) -> ConnectOptions {
        ConnectOptions::from_url(&self.cluster.url(&self.name, role)).unwrap()
    }

    pub(crate) async fn session(&self) -> SourceSession {
        session(&self.options()).await
    }
}

pub(crate) async fn session(options: &ConnectOptions) -> SourceSession {
    SourceSession::open(connect(options).await.unwrap(), "public", 60).await.unwrap()
}

/// The table of a name as the session's catalog has it, without settings.
pub(crate) async fn table(session: &SourceSession, name: &str) -> SourceTable {
    let catalog = session.catalog(&TableSettings::new(), &[]).await.unwrap();
    catalog.table(name).unwrap().clone()
}

/// All rows that a filter lets through, in one batch.
pub(crate) async fn rows(session: &SourceSession, table: &SourceTable, filter: Option<&str>) -> RecordBatch {
    let mut stream = session.copy_rows(table, filter.map(str::to_string)).await.unwrap();
    let schema = stream.schema().clone();
    let batches: Vec<RecordBatch> = (&mut stream).try_collect().await.unwrap();
    stream.finish(&table.name).unwrap();
    concat_batches(&schema, &batches).unwrap()
}
