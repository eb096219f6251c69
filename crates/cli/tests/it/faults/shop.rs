//! A shop of its own for each test: databases, project, lake and star, the program to run on them, and what the warehouse
//! must contain, down to every version of every sale.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use starlift_sandbox::{Cluster, shared};
use tokio::process::Command;
use tokio_postgres::Client;

use super::shop_sql::{EXPECTED, PROJECT, SOURCE, day, open};
use crate::support::{Ran, project, starlift};

/// No run of the shop takes this long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Shop {
    pub(crate) cluster: &'static Cluster,
    pub(crate) source: String,
    pub(crate) warehouse: String,
    pub(crate) dir: tempfile::TempDir,
    reader: String,
    days: u32,
    open: Option<Client>,
    /// Sessions for statements that stand alone, by database.
    sessions: Mutex<BTreeMap<String, Arc<Client>>>,
    /// The values of each sale as of the ends of undisturbed runs, equal neighbours once: its versions.
    versions: BTreeMap<i32, Vec<String>>,
}

impl Shop {
    /// A shop in the shared cluster, with a warehouse that has its tables and no rows.
    pub(crate) async fn new() -> Shop {
        Shop::on(shared().expect("a private PostgreSQL")).await
    }

    pub(crate) async fn on(cluster: &'static Cluster) -> Shop {
        let source = cluster.fresh_database("shop").await.unwrap();
        let warehouse = cluster.fresh_database("shop_warehouse").await.unwrap();
        let reader = format!("{source}_reader");
        let client = cluster.connect(&source).await.unwrap();
        client.batch_execute(SOURCE).await.unwrap();
        let grants = format!("create role {reader} login; grant select on all tables in schema public to {reader}");
        client.batch_execute(&grants).await.unwrap();
        let dir = project(PROJECT);
        let shop = Shop {
            cluster,
            source,
            warehouse,
            dir,
            reader,
            days: 0,
            open: None,
            sessions: Mutex::default(),
            versions: BTreeMap::new(),
        };
        shop.undisturbed(&["warehouse", "create"]).await;
        shop
    }

    pub(crate) fn lake(&self) -> PathBuf {
        self.dir.path().join("lake/ingest")
    }

    pub(crate) fn star(&self) -> PathBuf {
        self.dir.path().join("lake/transform")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn source_url(&self, port: u16) -> String {
        format!("postgres://{}@127.0.0.1:{port}/{}", self.reader, self.source)
    }

    pub(crate) fn warehouse_url(&self, port: u16) -> String {
        format!("postgres://postgres@127.0.0.1:{port}/{}", self.warehouse)
    }

    /// A session of the caller's own with the source.
    pub(crate) async fn source_client(&self) -> Client {
        self.cluster.connect(&self.source).await.unwrap()
    }

    async fn session(&self, database: &str) -> Arc<Client> {
        let open = self.sessions.lock().unwrap().get(database).cloned();
        if let Some(client) = open.filter(|client| !client.is_closed()) {
            return client;
        }
        let client = Arc::new(self.cluster.connect(database).await.unwrap());
        self.sessions.lock().unwrap().insert(database.to_string(), Arc::clone(&client));
        client
    }

    /// Changes the source, each statement in a transaction of its own unless the text says otherwise.
    pub(crate) async fn change(&self, sql: &str) {
        self.session(&self.source).await.batch_execute(sql).await.unwrap();
    }

    /// Lives a day; yesterday's open transaction commits, and today's stays open until [`Shop::close`] or tomorrow.
    pub(crate) async fn live(&mut self) {
        self.days += 1;
        self.close().await;
        self.change(&day(self.days)).await;
        let client = self.source_client().await;
        client.batch_execute(&open(self.days)).await.unwrap();
        self.open = Some(client);
    }

    /// Gives the table of sales another column, so that it is read in full.
    pub(crate) async fn redefine_sale(&mut self) {
        // What is open has a lock on it.
        self.close().await;
        self.change("alter table sale drop column if exists extra; alter table sale add column extra int").await;
    }

    /// Commits the transaction that is open.
    pub(crate) async fn close(&mut self) {
        if let Some(client) = self.open.take() {
            client.batch_execute("commit").await.unwrap();
        }
    }

    /// Forgets the open transaction, whose connection is gone.
    pub(crate) fn lose_open_transaction(&mut self) {
        self.open = None;
    }

    /// The program on this shop; the environment may be added to.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let port = self.cluster.port();
        let mut command = Command::from(starlift(["--project"]));
        command
            .arg(self.dir.path())
            .args(args)
            .env("STARLIFT_SOURCE_URL", self.source_url(port))
            .env("STARLIFT_WAREHOUSE_URL", self.warehouse_url(port))
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs the program with these variables.
    pub(crate) async fn run_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Ran {
        let mut command = self.command(args);
        command.envs(variables.iter().copied());
        finish(&mut command, PATIENCE).await
    }

    /// Runs the program, which must come through.
    pub(crate) async fn undisturbed(&self, args: &[&str]) -> Ran {
        let ran = self.run_with(args, &[]).await;
        assert_eq!(ran.code, Some(0), "`starlift {}`: {}\n{}", args.join(" "), ran.stdout, ran.stderr);
        ran
    }

    /// Runs the stages undisturbed, and compares.
    pub(crate) async fn mend(&mut self, after: &str) {
        let ran = self.run_with(&["run"], &[]).await;
        assert_eq!(ran.code, Some(0), "the run after {after}: {}\n{}", ran.stdout, ran.stderr);
        self.note_versions().await;
        let wrong = self.differences().await;
        assert!(wrong.is_empty(), "after {after}: {}", wrong.join("\n"));
    }

    /// The program's own comparison, which must find nothing.
    pub(crate) async fn verify(&self, after: &str) {
        let ran = self.run_with(&["verify"], &[]).await;
        assert_eq!(ran.code, Some(0), "verify after {after}: {}\n{}", ran.stdout, ran.stderr);
    }

    /// Takes the present values of all sales down, as those that a run has just brought to the warehouse.
    pub(crate) async fn note_versions(&mut self) {
        for (id, values) in sales(&*self.session(&self.source).await, "sale", "sale_id").await {
            let versions = self.versions.entry(id).or_default();
            if versions.last() != Some(&values) {
                versions.push(values);
            }
        }
    }

    /// Empties the warehouse: the next load is a first one.
    pub(crate) async fn clear_warehouse(&mut self) {
        self.undisturbed(&["warehouse", "clear", "--yes"]).await;
        self.versions.clear();
    }

    /// What differs between the source and the warehouse, found without the program: rows of the current views, and
    /// versions of sales that are lost, doubled or out of order.
    pub(crate) async fn differences(&self) -> Vec<String> {
        let (source, warehouse) = (self.session(&self.source).await, self.session(&self.warehouse).await);
        let mut found = Vec::new();
        for (model, query, columns) in EXPECTED {
            let wanted = rows(&source, &format!("select row({columns})::text from ({query}) q")).await;
            let stored = rows(&warehouse, &format!("select row({columns})::text from current_{model}")).await;
            found.extend(difference(model, &wanted, &stored));
        }
        let mut stored: BTreeMap<i32, Vec<String>> = BTreeMap::new();
        for (id, values) in sales(&warehouse, "fact_sale", "sale_record_id").await {
            stored.entry(id).or_default().push(values);
        }
        for (id, versions) in &stored {
            if self.versions.get(id) != Some(versions) {
                found.push(format!("sale {id} has the versions {versions:?}, not {:?}", self.versions.get(id)));
            }
        }
        found.extend(self.versions.keys().filter(|id| !stored.contains_key(id)).map(|id| format!("sale {id} is lost")));
        found
    }

    /// One number from the warehouse.
    pub(crate) async fn count_in_warehouse(&self, sql: &str) -> i64 {
        self.session(&self.warehouse).await.query_one(sql, &[]).await.unwrap().get(0)
    }
}

/// Runs a command to its end; one that takes longer than it may is killed and fails the test.
pub(crate) async fn finish(command: &mut Command, patience: Duration) -> Ran {
    match tokio::time::timeout(patience, command.output()).await {
        Ok(output) => output.expect("the program starts").into(),
        Err(_) => panic!("the program did not end within {} s", patience.as_secs()),
    }
}

/// Waits for a file that a process makes.
pub(crate) async fn wait_for(path: &Path) {
    for _ in 0..6_000 {
        if path.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{} was not made", path.display());
}

async fn sales(client: &Client, table: &str, order: &str) -> Vec<(i32, String)> {
    let sql = format!("select sale_id, row(customer_id, amount, sold_on)::text from {table} order by {order}");
    client.query(&sql, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn rows(client: &Client, sql: &str) -> Vec<String> {
    let mut rows: Vec<String> = client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    rows.sort();
    rows
}

/// What a multiset lacks and what it has too much, both sorted.
fn difference(model: &str, wanted: &[String], stored: &[String]) -> Vec<String> {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    wanted.iter().for_each(|row| *counts.entry(row).or_default() += 1);
    stored.iter().for_each(|row| *counts.entry(row).or_default() -= 1);
    let wrong = counts.into_iter().filter(|(_, count)| *count != 0);
    wrong.map(|(row, count)| format!("{model}: {} {row}", if count > 0 { "missing" } else { "too many" })).collect()
}

#[test]
fn a_difference_is_found_both_ways_and_doubled_rows_count() {
    let rows = |text: &str| text.split_whitespace().map(str::to_string).collect::<Vec<_>>();
    assert!(difference("m", &rows("a b b"), &rows("a b b")).is_empty());
    assert_eq!(difference("m", &rows("a b"), &rows("a b b")), ["m: too many b"]);
    assert_eq!(difference("m", &rows("a b"), &rows("a c")), ["m: missing b", "m: too many c"]);
}
