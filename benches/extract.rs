//! One large table to zstd Parquet on local disk, beside one `psql` COPY BINARY of it to nowhere.

use std::path::Path;
use std::process::Command;

use starlift_sandbox::Cluster;

use crate::measure::{Taken, head, line, median, run};
use crate::{Error, Options};

/// The table `payment` of ToteSys, without its foreign keys.
const PAYMENT: &str = "create table payment (
        payment_id int primary key, transaction_id int not null, counterparty_id int not null, payment_amount numeric not null,
        currency_id int not null, payment_type_id int not null, paid boolean not null, payment_date varchar not null,
        company_ac_number int not null, counterparty_ac_number int not null,
        created_at timestamp not null, last_updated timestamp not null)";

/// Amounts, accounts and times without a pattern that a codec could use.
const ROWS: &str = "insert into payment
    select i, i, 1 + (hashint4(i) & 127) % 20, (abs(hashint4(i)) % 60000000) / 100.0, 1 + i % 3, 1 + i % 4, i % 7 <> 0,
           to_char(date '2022-11-03' + i / 4000, 'YYYY-MM-DD'), 10000000 + abs(hashint4(i + 1)) % 90000000,
           10000000 + abs(hashint4(i + 2)) % 90000000, t, t
    from generate_series(1, $rows) i,
    lateral (select timestamp '2022-11-03 14:20:49.962' + i * interval '11 seconds'
             + (abs(hashint4(i * 7)) % 1000) * interval '1 ms') as x(t)";

const PROJECT: &str = "[pipeline]\nname = \"extract\"\n[source]\nschema = \"public\"\n";

pub(crate) async fn bench(cluster: &Cluster, options: &Options) -> Result<(), Error> {
    cluster.create_database("extract").await?;
    let client = cluster.connect("extract").await?;
    client.batch_execute(PAYMENT).await?;
    client.batch_execute(&ROWS.replace("$rows", &options.rows.to_string())).await?;
    client.batch_execute("vacuum analyze payment; checkpoint").await?;
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("starlift.toml"), PROJECT)?;

    let all = std::thread::available_parallelism()?.get().to_string();
    let kinds: [(&str, &str, f64); 2] = [("one connection", "1", 1.10), ("a connection for each core", &all, 0.70)];
    let mut limits = Vec::new();
    let mut taken = kinds.map(|_| Vec::new());
    // The first round warms the caches and does not count.
    for round in 0..=options.pairs {
        let limit = limit(cluster)?;
        for (kind, all) in kinds.iter().zip(&mut taken) {
            let one = ingest(cluster, dir.path(), kind.1)?;
            if round > 0 {
                all.push(one);
            }
        }
        if round > 0 {
            limits.push(limit);
        }
    }
    let limit = median(limits);
    head(&format!("Extract of `payment`, {} rows, median of {}", options.rows, options.pairs));
    line("limit: psql COPY BINARY to nowhere", limit, limit.seconds, None);
    for ((name, _, goal), all) in kinds.into_iter().zip(taken) {
        line(&format!("starlift ingest, {name}"), median(all), limit.seconds, Some(goal));
    }
    Ok(())
}

fn limit(cluster: &Cluster) -> Result<Taken, Error> {
    let mut psql = Command::new(cluster.bin_dir().join("psql"));
    psql.args(["-X", "-q", "-c", "copy payment to stdout (format binary)", &cluster.superuser_url("extract")]);
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
        .env("STARLIFT_SOURCE_URL", cluster.superuser_url("extract"))
        .env("STARLIFT_SOURCE_CONNECTIONS", connections)
        .env("STARLIFT_LAKE_INGEST", &lake)
        .env("STARLIFT_LOG", "error");
    run(starlift)
}
