//! The first run of the whole of ToteSys, each stage beside a limit for it.

use crate::Error;
use crate::measure::{Several, Taken};
use crate::table::{Goal, Table};
use crate::totesys::{Reload, Totesys};

/// Once: a first run of 9 million rows takes minutes, and averages over them.
pub(crate) async fn bench(totesys: &Totesys<'_>) -> Result<Table, Error> {
    let read = totesys.psql_copies()?;
    let stages = ["ingest", "transform", "load"].map(|stage| totesys.starlift(&[stage]));
    let [ingest, transform, load] = stages;
    let (ingest, transform, load) = (ingest?, transform?, load?);
    let reload = Reload::of(totesys, "").await?;
    let postgres = totesys.cluster.connect("postgres").await?;
    postgres.batch_execute("create database first_by_psql").await?;
    let by_psql = totesys.cluster.connect("first_by_psql").await?;
    by_psql.batch_execute(starlift_sandbox::totesys::WAREHOUSE_SQL).await?;
    drop(by_psql);
    let write = reload.run(totesys, "first_by_psql")?;
    postgres.batch_execute("drop database first_by_psql with (force)").await?;

    let of = |taken: Taken| Several::from(taken);
    let mut table = Table::new(format!("First run of ToteSys, {} rows in its tables", totesys.rows));
    table.limit("limit of ingest: `psql` COPY BINARY of each table to nowhere", &of(read));
    table.line("`starlift ingest`", &of(ingest), &of(read), None);
    table.line("`starlift transform`, beside the same limit", &of(transform), &of(read), None);
    table.limit("limit of load: `psql` drops the keys, COPYs all facts and dimensions, adds the keys", &of(write));
    table.line("`starlift load`", &of(load), &of(write), None);
    let (whole, limits) = (ingest.and(transform).and(load), read.and(write));
    table.line("the three stages, beside the sum of both limits", &of(whole), &of(limits), Some(Goal::Ratio(1.3)));
    table.note(format!(
        "Peak memory: ingest {:.0} MB, transform {:.0} MB, load {:.0} MB. The limits hold nothing for the evaluation of models.",
        ingest.peak as f64 / 1e6,
        transform.peak as f64 / 1e6,
        load.peak as f64 / 1e6
    ));
    Ok(table)
}
