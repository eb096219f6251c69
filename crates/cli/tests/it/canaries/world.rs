//! A shop whose every secret and every value is a canary, and the program run on it with all that it can log.

use std::path::Path;

use starlift_sandbox::{Cluster, ClusterOptions};

use super::canary::*;
use crate::support::{Ran, project, ran, starlift};

pub(crate) const CONFIG: &str = "[pipeline]\nname = \"aviary\"\n";
pub(crate) const PERSON: &str =
    "-- kind: dimension\n-- key: person_id\nselect person_id, name, mail, salary, born from person\n";
const SALE: &str = "-- kind: fact\n-- key: sale_id\n-- tests: relationships(person_id -> dim_person)\n\
                    select sale_id, person_id, amount, label from sale\n";
const LABEL: &str = "-- kind: dimension\n-- key: code\nselect code, label from labels\n";

/// Databases, project and the environment of the program.
pub(crate) struct World {
    cluster: Cluster,
    source: String,
    warehouse: String,
    pub(crate) dir: tempfile::TempDir,
}

/// One way to fail, or to come through.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// The command and its arguments.
    pub(crate) args: Vec<String>,
    /// SQL in the source and in the warehouse before and after.
    pub(crate) source: (String, String),
    pub(crate) warehouse: (String, String),
    /// Files of the project that are other ones meanwhile.
    pub(crate) files: Vec<(String, Vec<u8>)>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) code: i32,
    /// What shows that this has gone wrong, and nothing else.
    pub(crate) says: &'static str,
}

/// What a run said.
pub(crate) struct Said {
    pub(crate) format: &'static str,
    pub(crate) code: Option<i32>,
    /// Whether it came out as the scenario says.
    pub(crate) as_it_must: bool,
    /// Both streams and the report.
    pub(crate) all: String,
}

impl World {
    pub(crate) async fn new() -> World {
        let options = ClusterOptions { password: Some(WAREHOUSE_PASSWORD.into()), ..ClusterOptions::default() };
        let cluster = Cluster::start(options).unwrap();
        let source = cluster.fresh_database("aviary").await.unwrap();
        let warehouse = cluster.fresh_database("star").await.unwrap();
        let dir = project(&[
            ("starlift.toml", CONFIG),
            ("models/dim_person.sql", PERSON),
            ("models/fact_sale.sql", SALE),
            ("models/dim_label.sql", LABEL),
        ]);
        let world = World { cluster, source, warehouse, dir };
        world.write("seeds/labels.csv", format!("code,label\na,{SEED_VALUE}\n").as_bytes());
        world.execute(&world.source, &world.schema()).await;
        world
    }

    fn schema(&self) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        format!(
            "create table person (
                 person_id int primary key, name text, mail text, secret jsonb, photo bytea, salary numeric, born date,
                 tags text[], due text);
             create table sale (sale_id int primary key, person_id int not null references person, amount numeric(12, 2),
                 label text);
             insert into person values (1, {}, {}, jsonb_build_object('k', {}), {}::bytea, {ROW_NUMBER}, {}, array[{}],
                 '{REFUSED_TEXT}'), (2, 'Bob', null, null, null, 1, null, null, '2024-01-02');
             insert into sale values (1, 1, {ROW_AMOUNT}, {}), (2, 2, 1.25, 'plain');
             create role keeper login password {};
             grant usage on schema public to keeper; grant select on all tables in schema public to keeper;",
            quoted(ROW_TEXT),
            quoted(ROW_MAIL),
            quoted(ROW_JSON),
            quoted(ROW_BYTES),
            quoted(ROW_DATE),
            quoted(ROW_ARRAY),
            quoted(ROW_LABEL),
            quoted(SOURCE_PASSWORD),
        )
    }

    async fn execute(&self, database: &str, sql: &str) {
        let client = self.cluster.connect(database).await.unwrap();
        client.batch_execute(sql).await.unwrap_or_else(|e| panic!("{:?} in: {sql}", e.as_db_error()));
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(crate) fn port(&self) -> u16 {
        self.cluster.port()
    }

    pub(crate) fn source_url(&self) -> String {
        self.url("keeper", SOURCE_PASSWORD, &self.source)
    }

    /// A URL on this cluster with a password that is encoded as it has to be.
    pub(crate) fn url(&self, user: &str, password: &str, database: &str) -> String {
        let encode = |byte: u8| match byte.is_ascii_alphanumeric() {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        };
        let password: String = password.bytes().map(encode).collect();
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", self.port())
    }

    /// The files below a folder of the project, sorted.
    pub(crate) fn files(&self, folder: &str) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.dir.path().join(folder), &mut found);
        let names = found.iter().map(|path| path.strip_prefix(self.dir.path()).unwrap().to_str().unwrap().to_string());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// Runs a scenario for people and for machines, and puts everything back.
    pub(crate) async fn act(&self, scenario: &Scenario) -> Vec<Said> {
        self.execute(&self.source, &scenario.source.0).await;
        self.execute(&self.warehouse, &scenario.warehouse.0).await;
        let before: Vec<Option<Vec<u8>>> =
            scenario.files.iter().map(|(path, _)| std::fs::read(self.dir.path().join(path)).ok()).collect();
        for (path, content) in &scenario.files {
            self.write(path, content);
        }
        let mut said = Vec::new();
        for format in ["text", "json"] {
            let (ran, report) = self.run(scenario, format);
            let all = format!("{}\n{}\n{report}", ran.stdout, ran.stderr);
            let as_it_must = ran.code == Some(scenario.code) && all.contains(scenario.says);
            said.push(Said { format, code: ran.code, as_it_must, all });
        }
        for ((path, _), before) in scenario.files.iter().zip(before) {
            match before {
                Some(content) => self.write(path, &content),
                None => std::fs::remove_file(self.dir.path().join(path)).unwrap(),
            }
        }
        self.execute(&self.warehouse, &scenario.warehouse.1).await;
        self.execute(&self.source, &scenario.source.1).await;
        said
    }

    fn run(&self, scenario: &Scenario, format: &str) -> (Ran, String) {
        let report = self.dir.path().join("report.json");
        let _ = std::fs::remove_file(&report);
        let mut command = starlift(["--log-format", format]);
        command
            .args(&scenario.args)
            .current_dir(self.dir.path())
            .env("STARLIFT_LOG", "trace")
            .env("STARLIFT_PROJECT", self.dir.path())
            .env("STARLIFT_SOURCE_URL", self.source_url())
            .env("STARLIFT_WAREHOUSE_URL", self.url("postgres", WAREHOUSE_PASSWORD, &self.warehouse))
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .env("AWS_SESSION_TOKEN", SESSION_TOKEN)
            .env("AWS_REGION", "us-east-1");
        if ["run", "ingest", "transform", "load"].contains(&scenario.args[0].as_str()) {
            command.arg("--report").arg(&report);
        }
        for (name, value) in &scenario.environment {
            match value.as_str() {
                "" => command.env_remove(name),
                value => command.env(name, value),
            };
        }
        let ran = ran(&mut command);
        (ran, std::fs::read_to_string(&report).unwrap_or_default())
    }
}

fn walk(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}
