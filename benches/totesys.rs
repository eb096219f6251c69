//! A ToteSys of a size, its pipeline, and what PostgreSQL's own tools need for the same.

use std::path::{Path, PathBuf};
use std::process::Command;

use starlift_sandbox::Cluster;
use starlift_sandbox::totesys::{SOURCE_TABLES, create_source};

use crate::Error;
use crate::measure::{Taken, run};
use crate::options::Mode;
use crate::rows::Shares;

/// Tables that are read by their time of change in the mode `cursor`: the others are small.
const LARGE: [&str; 4] = ["sales_order", "purchase_order", "transaction", "payment"];

pub(crate) struct Totesys<'a> {
    pub(crate) cluster: &'a Cluster,
    /// The source's database; the warehouse's is `<name>_dw`.
    name: String,
    dir: tempfile::TempDir,
    /// Rows of all its tables.
    pub(crate) rows: u64,
}

impl<'a> Totesys<'a> {
    /// A source of about so many rows, with its lake and warehouse empty.
    pub(crate) async fn new(cluster: &'a Cluster, name: &str, rows: u64) -> Result<Totesys<'a>, Error> {
        Totesys::of(cluster, name, Shares::of(rows)).await
    }

    /// The same of these tables.
    pub(crate) async fn of(cluster: &'a Cluster, name: &str, shares: Shares) -> Result<Totesys<'a>, Error> {
        for database in [name.to_string(), format!("{name}_dw")] {
            cluster.create_database(&database).await?;
        }
        let source = cluster.connect(name).await?;
        create_source(&source).await?;
        for statement in shares.sql().split(';') {
            source.batch_execute(statement).await?;
        }
        let mut rows = 0;
        for (table, _) in SOURCE_TABLES {
            let count: i64 = source.query_one(&format!("select count(*) from \"{table}\""), &[]).await?.get(0);
            rows += count.unsigned_abs();
        }
        let totesys = Totesys { cluster, name: name.to_string(), dir: tempfile::tempdir()?, rows };
        totesys.copy_project("")?;
        totesys.starlift(&["warehouse", "create"])?;
        Ok(totesys)
    }

    /// The project, with more settings than it ships with.
    fn copy_project(&self, settings: &str) -> Result<(), Error> {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines/totesys");
        let to = self.project();
        for folder in ["models", "seeds"] {
            std::fs::create_dir_all(to.join(folder))?;
            for entry in std::fs::read_dir(from.join(folder))? {
                let entry = entry?;
                std::fs::copy(entry.path(), to.join(folder).join(entry.file_name()))?;
            }
        }
        std::fs::copy(from.join("warehouse.sql"), to.join("warehouse.sql"))?;
        let text = std::fs::read_to_string(from.join("starlift.toml"))?;
        std::fs::write(to.join("starlift.toml"), format!("{text}\n{settings}"))?;
        Ok(())
    }

    fn project(&self) -> PathBuf {
        self.dir.path().join("project")
    }

    /// Lets the large tables be read in this mode; for `cursor` they get an index.
    pub(crate) async fn set_mode(&self, mode: Mode) -> Result<(), Error> {
        let mut settings = String::new();
        if mode == Mode::Cursor {
            let source = self.source().await?;
            for table in LARGE {
                source
                    .batch_execute(&format!("create index if not exists {table}_changed on \"{table}\" (last_updated)"))
                    .await?;
                settings += &format!("[source.tables.{table}]\ncapture = \"cursor\"\n");
            }
            source.batch_execute("vacuum analyze").await?;
        }
        self.copy_project(&settings)
    }

    pub(crate) async fn source(&self) -> Result<tokio_postgres::Client, Error> {
        Ok(self.cluster.connect(&self.name).await?)
    }

    pub(crate) fn warehouse(&self) -> String {
        format!("{}_dw", self.name)
    }

    /// A command of starlift with its warehouse in a database.
    pub(crate) fn starlift_with(&self, arguments: &[&str], warehouse: &str) -> Result<Taken, Error> {
        let mut starlift = Command::new(env!("CARGO_BIN_EXE_starlift"));
        starlift
            .arg("--project")
            .arg(self.project())
            .args(arguments)
            .env("STARLIFT_SOURCE_URL", self.cluster.superuser_url(&self.name))
            .env("STARLIFT_WAREHOUSE_URL", self.cluster.superuser_url(warehouse))
            .env("STARLIFT_LAKE_INGEST", self.dir.path().join("ingest"))
            .env("STARLIFT_LAKE_TRANSFORM", self.dir.path().join("transform"))
            .env("STARLIFT_LOG", "error");
        run(starlift)
    }

    pub(crate) fn starlift(&self, arguments: &[&str]) -> Result<Taken, Error> {
        self.starlift_with(arguments, &self.warehouse())
    }

    /// A first run, which nobody measures.
    pub(crate) fn first_run(&self) -> Result<(), Error> {
        self.starlift(&["run"]).map(|_| ())
    }

    pub(crate) fn psql(&self, database: &str, statements: &[String]) -> Result<Taken, Error> {
        let mut psql = Command::new(self.cluster.bin_dir().join("psql"));
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1"]);
        for statement in statements {
            psql.args(["-c", statement]);
        }
        psql.arg(self.cluster.superuser_url(database));
        run(psql)
    }

    /// Every table of the source, to nowhere.
    pub(crate) fn psql_copies(&self) -> Result<Taken, Error> {
        let copies = SOURCE_TABLES.iter().map(|(table, _)| format!("copy \"{table}\" to stdout (format binary)"));
        self.psql(&self.name, &copies.collect::<Vec<_>>())
    }

    /// A count of every table of the source and of what a window would find in it.
    pub(crate) fn psql_scans(&self) -> Result<Taken, Error> {
        let scan = |table: &str| format!("select count(*), count(*) filter (where age(xmin) <= 1) from \"{table}\"");
        self.psql(&self.name, &SOURCE_TABLES.iter().map(|(table, _)| scan(table)).collect::<Vec<_>>())
    }

    /// Removes both databases.
    pub(crate) async fn drop(self) -> Result<(), Error> {
        let postgres = self.cluster.connect("postgres").await?;
        for database in [self.name.clone(), self.warehouse()] {
            postgres.batch_execute(&format!("drop database {database} with (force)")).await?;
        }
        Ok(())
    }
}

/// What plain SQL has for a first load: the rows of a loaded warehouse into another one, whose facts have no foreign keys
/// meanwhile, in one transaction.
pub(crate) struct Reload {
    tables: Vec<String>,
    keys: Vec<(String, String, String)>,
    folder: PathBuf,
}

impl Reload {
    /// Of these tables of a loaded warehouse, each to a file of the server's. `only` is the start of their names.
    pub(crate) async fn of(totesys: &Totesys<'_>, only: &str) -> Result<Reload, Error> {
        let warehouse = totesys.cluster.connect(&totesys.warehouse()).await?;
        let tables = format!(
            "select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' \
             and relname like '{only}%' order by relname like 'fact%', relname"
        );
        let tables: Vec<String> = warehouse.query(&tables, &[]).await?.iter().map(|row| row.get(0)).collect();
        let keys = "select conrelid::regclass::text, conname::text, pg_get_constraintdef(oid) from pg_constraint
                    where contype = 'f' and connamespace = 'public'::regnamespace";
        let keys = warehouse.query(keys, &[]).await?;
        let keys = keys.iter().map(|row| (row.get(0), row.get(1), row.get(2)));
        let keys = keys.filter(|(table, _, _): &(String, String, String)| tables.contains(table)).collect();
        let reload = Reload { tables, keys, folder: totesys.cluster.dir().to_path_buf() };
        let out = reload.tables.iter().map(|table| format!("copy {table} to {} (format binary)", reload.file(table)));
        totesys.psql(&totesys.warehouse(), &out.collect::<Vec<_>>())?;
        Ok(reload)
    }

    fn file(&self, table: &str) -> String {
        format!("'{}/{table}.copy'", self.folder.display())
    }

    /// Drops, copies and adds.
    pub(crate) fn run(&self, totesys: &Totesys<'_>, database: &str) -> Result<Taken, Error> {
        let mut statements = vec!["begin".to_string()];
        statements
            .extend(self.keys.iter().map(|(table, name, _)| format!("alter table {table} drop constraint \"{name}\"")));
        statements
            .extend(self.tables.iter().map(|table| format!("copy {table} from {} (format binary)", self.file(table))));
        statements.extend(
            self.keys.iter().map(|(table, name, text)| format!("alter table {table} add constraint \"{name}\" {text}")),
        );
        statements.push("commit".into());
        totesys.psql(database, &statements)
    }
}
