//! The whole of ToteSys: a first run, then runs of 1,000 changed orders, each stage beside a limit for it.

use std::path::{Path, PathBuf};
use std::process::Command;

use starlift_sandbox::Cluster;
use starlift_sandbox::totesys::{History, SOURCE_TABLES, create_source};

use crate::measure::{Taken, head, line, median, run};
use crate::{Error, Options};

/// Orders that change between two runs.
const CHANGED_ORDERS: u64 = 1_000;

/// The fact whose load is compared with one by `psql`.
const FACT: &str = "fact_sales_order";

struct Pipeline<'a> {
    cluster: &'a Cluster,
    dir: PathBuf,
}

pub(crate) async fn bench(cluster: &Cluster, options: &Options) -> Result<(), Error> {
    for database in ["source", "warehouse"] {
        cluster.create_database(database).await?;
    }
    let mut source = cluster.connect("source").await?;
    create_source(&source).await?;
    let history = History { seed: 1, scale: options.scale }.fill(&mut source).await?;
    source.batch_execute("vacuum analyze").await?;
    let dir = tempfile::tempdir()?;
    let pipeline = Pipeline { cluster, dir: dir.path().to_path_buf() };
    let rows = history.total();

    let read = pipeline.psql_copies()?;
    pipeline.starlift(&["warehouse", "create"])?;
    let first = ["ingest", "transform", "load"].map(|stage| pipeline.starlift(&[stage]));
    let [ingest, transform, load] = first;
    let (ingest, transform, load) = (ingest?, transform?, load?);
    let write = pipeline.psql_load().await?;
    head(&format!("First run of ToteSys, {rows} rows in {} tables", SOURCE_TABLES.len()));
    line("limit of ingest: psql COPY BINARY of each table to nowhere", read, read.seconds, None);
    line("ingest", ingest, read.seconds, None);
    line("transform, beside the same limit", transform, read.seconds, None);
    line("limit of load: psql loads all facts and dimensions, foreign keys off and on", write, write.seconds, None);
    line("load", load, write.seconds, Some(1.15));
    let whole = |parts: [Taken; 3]| parts.iter().map(|part| part.seconds).sum::<f64>();
    let sum = Taken { seconds: whole([ingest, transform, load]), ..Taken::default() };
    line("the three, beside both limits", sum, read.seconds + write.seconds, Some(1.3));

    let mut runs: [Vec<Taken>; 4] = Default::default();
    for round in 0..options.pairs {
        let from = round as u64 * CHANGED_ORDERS;
        let changed = format!(
            "update sales_order set units_sold = units_sold + 1 where sales_order_id > {from} and sales_order_id <= {}",
            from + CHANGED_ORDERS
        );
        source.batch_execute(&changed).await?;
        let scans = pipeline.psql_scans()?;
        let stages = ["ingest", "transform", "load"].map(|stage| pipeline.starlift(&[stage]));
        for (all, one) in runs.iter_mut().zip([Ok(scans)].into_iter().chain(stages)) {
            all.push(one?);
        }
    }
    let [scans, ingest, transform, load] = runs.map(median);
    head(&format!("A run of {CHANGED_ORDERS} changed orders, median of {}", options.pairs));
    line("limit: psql counts each table and the rows of a window in it", scans, scans.seconds, None);
    // Connecting, claiming and committing take their time whatever the size.
    line("ingest (goal: 1.2 x limit + 0.2 s)", ingest, scans.seconds, Some(1.2 + 0.2 / scans.seconds));
    line("transform", transform, scans.seconds, None);
    line("load", load, scans.seconds, None);
    Ok(())
}

impl Pipeline<'_> {
    fn starlift(&self, arguments: &[&str]) -> Result<Taken, Error> {
        let mut starlift = Command::new(env!("CARGO_BIN_EXE_starlift"));
        starlift
            .arg("--project")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines/totesys"))
            .args(arguments)
            .env("STARLIFT_SOURCE_URL", self.cluster.superuser_url("source"))
            .env("STARLIFT_WAREHOUSE_URL", self.cluster.superuser_url("warehouse"))
            .env("STARLIFT_LAKE_INGEST", self.dir.join("ingest"))
            .env("STARLIFT_LAKE_TRANSFORM", self.dir.join("transform"))
            .env("STARLIFT_LOG", "error");
        run(starlift)
    }

    fn psql(&self, database: &str, statements: &[String]) -> Result<Taken, Error> {
        let mut psql = Command::new(self.cluster.bin_dir().join("psql"));
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1"]);
        for statement in statements {
            psql.args(["-c", statement]);
        }
        psql.arg(self.cluster.superuser_url(database));
        run(psql)
    }

    fn psql_copies(&self) -> Result<Taken, Error> {
        let copies = SOURCE_TABLES.iter().map(|(table, _)| format!("copy \"{table}\" to stdout (format binary)"));
        self.psql("source", &copies.collect::<Vec<_>>())
    }

    fn psql_scans(&self) -> Result<Taken, Error> {
        let window = "age(xmin) <= 1";
        let scan = |table: &str| format!("select count(*), count(*) filter (where {window}) from \"{table}\"");
        self.psql("source", &SOURCE_TABLES.iter().map(|(table, _)| scan(table)).collect::<Vec<_>>())
    }

    /// The fastest way that plain SQL has: the rows of the loaded warehouse into a copy of it, whose facts have no foreign keys
    /// meanwhile, in one transaction.
    async fn psql_load(&self) -> Result<Taken, Error> {
        let warehouse = self.cluster.connect("warehouse").await?;
        let tables = "select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'
                      order by relname like 'fact%', relname";
        let tables: Vec<String> = warehouse.query(tables, &[]).await?.iter().map(|row| row.get(0)).collect();
        let keys = "select conrelid::regclass::text, conname::text, pg_get_constraintdef(oid) from pg_constraint
                    where contype = 'f' and connamespace = 'public'::regnamespace";
        let keys: Vec<(String, String, String)> =
            warehouse.query(keys, &[]).await?.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
        drop(warehouse);
        let file = |table: &str| format!("'{}/{table}.copy'", self.cluster.dir().display());
        let out = tables.iter().map(|table| format!("copy {table} to {} (format binary)", file(table)));
        self.psql("warehouse", &out.collect::<Vec<_>>())?;
        let postgres = self.cluster.connect("postgres").await?;
        postgres.batch_execute("create database by_psql template warehouse").await?;
        let empty = format!("truncate {} cascade", tables.join(", "));
        self.psql("by_psql", &[empty, "vacuum".into(), "checkpoint".into()])?;

        let mut statements = vec!["begin".to_string()];
        statements
            .extend(keys.iter().map(|(table, name, _)| format!("alter table {table} drop constraint \"{name}\"")));
        statements.extend(tables.iter().map(|table| format!("copy {table} from {} (format binary)", file(table))));
        statements.extend(
            keys.iter().map(|(table, name, text)| format!("alter table {table} add constraint \"{name}\" {text}")),
        );
        statements.push("commit".into());
        let taken = self.psql("by_psql", &statements)?;
        let by_psql = self.cluster.connect("by_psql").await?;
        let count = format!("select count(*) from {FACT}");
        let rows: i64 = by_psql.query_one(&count, &[]).await?.get(0);
        if rows == 0 { Err(format!("psql loaded no rows of {FACT}").into()) } else { Ok(taken) }
    }
}
