//! One large table to zstd Parquet on local disk, beside one `psql` COPY BINARY of it to nowhere, and DuckDB.

use std::path::Path;
use std::process::Command;

use starlift_sandbox::Cluster;

use crate::measure::{Several, Taken, run};
use crate::options::Options;
use crate::table::{Goal, Table};
use crate::{Error, peers};

/// The database of the table.
pub(crate) const DATABASE: &str = "extract";

/// The table `payment` of ToteSys, without its foreign keys.
const PAYMENT: &str = "create table payment (
        payment_id int primary key, transaction_id int not null, counterparty_id int not null, payment_amount numeric not null,
        currency_id int not null, payment_type_id int not null, paid boolean not null, payment_date varchar not null,
        company_ac_number int not null, counterparty_ac_number int not null,
        created_at timestamp not null, last_updated timestamp not null)";

const PROJECT: &str = "[pipeline]\nname = \"extract\"\n[source]\nschema = \"public\"\n";

pub(crate) async fn prepare(cluster: &Cluster, options: &Options) -> Result<(), Error> {
    cluster.create_database(DATABASE).await?;
    let client = cluster.connect(DATABASE).await?;
    client.batch_execute(PAYMENT).await?;
    client.batch_execute(&crate::rows::payments(options.rows)).await?;
    client.batch_execute("vacuum analyze payment").await?;
    client.batch_execute("checkpoint").await?;
    Ok(())
}

pub(crate) fn bench(cluster: &Cluster, options: &Options) -> Result<Table, Error> {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("starlift.toml"), PROJECT)?;
    let all = std::thread::available_parallelism()?.get().to_string();
    let (mut limit, mut one, mut several, mut duckdb) =
        (Several::default(), Several::default(), Several::default(), Several::default());
    let peer = peers::command(cluster, "duckdb", dir.path());
    // The first round warms the caches and does not count.
    for round in 0..=options.pairs {
        let (a, b, c) = (psql(cluster)?, ingest(cluster, dir.path(), "1")?, ingest(cluster, dir.path(), &all)?);
        let d = match &peer {
            Ok(command) => Some(run(command())?),
            Err(_) => None,
        };
        if round > 0 {
            limit.push(a);
            one.push(b);
            several.push(c);
            d.into_iter().for_each(|taken| duckdb.push(taken));
        }
    }
    let mut table = Table::new(format!("Extract of `payment`, {} rows", options.rows));
    table.limit("limit: `psql` COPY BINARY to nowhere", &limit);
    table.line("`starlift ingest`, one connection", &one, &limit, Some(Goal::Ratio(1.10)));
    table.line("`starlift ingest`, a connection for each core", &several, &limit, Some(Goal::Ratio(0.70)));
    match &peer {
        Ok(_) => {
            table.line("DuckDB 1.5.5, zstd Parquet; money as double", &duckdb, &limit, None);
            table.line(
                "`starlift ingest`, a connection for each core, beside DuckDB",
                &several,
                &duckdb,
                Some(Goal::Ratio(1.0)),
            );
        }
        Err(missing) => table.note(format!("DuckDB was not measured: {missing}")),
    }
    Ok(table)
}

fn psql(cluster: &Cluster) -> Result<Taken, Error> {
    let mut psql = Command::new(cluster.bin_dir().join("psql"));
    psql.args(["-X", "-q", "-c", "copy payment to stdout (format binary)", &cluster.superuser_url(DATABASE)]);
    run(psql)
}

/// A first ingest into an empty lake.
fn ingest(cluster: &Cluster, dir: &Path, connections: &str) -> Result<Taken, Error> {
    let lake = dir.join("lake");
    if lake.exists() {
        std::fs::remove_dir_all(&lake)?;
    }
    let mut starlift = Command::new(env!("CARGO_BIN_EXE_starlift"));
    starlift
        .arg("--project")
        .arg(dir)
        .arg("ingest")
        .env("STARLIFT_SOURCE_URL", cluster.superuser_url(DATABASE))
        .env("STARLIFT_SOURCE_CONNECTIONS", connections)
        .env("STARLIFT_LAKE_INGEST", &lake)
        .env("STARLIFT_LOG", "error");
    run(starlift)
}
