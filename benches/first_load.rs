//! The load alone, without a star to read: rows that are made in memory into an empty fact with nine foreign keys, beside drop, COPY
//! and add by `psql`. `cargo bench -p starlift-postgres --bench first_load [ROWS [PAIRS]]`; the whole stage is in `benches/`.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Date32Array, Decimal128Array, Int32Array, RecordBatch, Time64MicrosecondArray};
use futures::StreamExt;
use starlift_core::model::ModelKind;
use starlift_core::{Column, ColumnType, TableSchema};
use starlift_postgres::load::{
    self, Ahead, BatchStream, LoadLimits, LoadOutcome, LoadRun, MaySetAside, ModelLoad, ModelTable,
};
use starlift_sandbox::totesys::WAREHOUSE_SQL;
use starlift_sandbox::{Cluster, ClusterOptions};

type Error = Box<dyn std::error::Error>;

/// Rows of a batch, as the star is read.
const BATCH: i32 = 8_192;
const FACT: &str = "fact_sales_order";
const DIMENSIONS: &str = "\
insert into dim_date select d, 1, 1, 1, 1, 'd', 'm', 1 from generate_series(date '2020-01-01', date '2030-12-31', '1 day') d;
insert into dim_staff select i, 'f', 'l', 'd', 'x', 'e' from generate_series(1, 400) i;
insert into dim_location select i, 'a', null, null, 'c', 'p', 'c', 't' from generate_series(1, 600) i;
insert into dim_design select i, 'd', 'f', 'f' from generate_series(1, 1000) i;
insert into dim_currency select i, 'GBP', 'pound' from generate_series(1, 3) i;
insert into dim_counterparty select i, 'n', 'a', null, null, 'c', 'p', 'c', 't' from generate_series(1, 400) i;";

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<i32>().ok());
    let (rows, pairs) = (numbers.next().unwrap_or(2_000_000), numbers.next().unwrap_or(5));
    let settings = [("shared_buffers", "512MB"), ("max_wal_size", "8GB")];
    let settings = settings.map(|(name, value)| (name.to_string(), value.to_string())).to_vec();
    let cluster = Cluster::start(ClusterOptions { settings, ..ClusterOptions::default() })?;
    let postgres = cluster.connect("postgres").await?;
    postgres.batch_execute("create database filled").await?;
    let filled = cluster.connect("filled").await?;
    filled.batch_execute(WAREHOUSE_SQL).await?;
    filled.batch_execute(DIMENSIONS).await?;
    drop(filled);
    let (mut ratios, mut both) = (Vec::new(), Vec::new());
    // The first round makes the file and does not count.
    for round in 0..=pairs {
        for bulk in [true, false] {
            // The plain path takes minutes: once, of a tenth of the rows.
            let rows = if bulk { rows } else { rows / 10 };
            if !bulk && round != 1 {
                continue;
            }
            fresh(&postgres, "by_starlift").await?;
            let seconds = by_starlift(&cluster, rows, bulk).await?;
            if !bulk {
                println!("plain path, {rows} rows: {seconds:.2} s");
            } else if round == 0 {
                let out = format!("copy {FACT} to '{}/fact.copy' (format binary)", cluster.dir().display());
                cluster.connect("by_starlift").await?.batch_execute(&out).await?;
            } else {
                fresh(&postgres, "by_psql").await?;
                let limit = by_psql(&cluster).await?;
                println!("limit {limit:.2} s, load {seconds:.2} s, ratio {:.2}", seconds / limit);
                ratios.push(seconds / limit);
                both.push((limit, seconds));
            }
        }
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "{rows} rows, {pairs} pairs: the middle ratio is {:.2}",
        ratios.get(ratios.len() / 2).unwrap_or(&f64::NAN)
    );
    Ok(())
}

async fn fresh(postgres: &tokio_postgres::Client, database: &str) -> Result<(), Error> {
    postgres.batch_execute(&format!("drop database if exists {database} with (force)")).await?;
    postgres.batch_execute(&format!("create database {database} template filled")).await?;
    postgres.batch_execute("checkpoint").await?;
    Ok(())
}

async fn by_psql(cluster: &Cluster) -> Result<f64, Error> {
    let client = cluster.connect("by_psql").await?;
    let keys = "select conname::text, pg_get_constraintdef(oid) from pg_constraint
                where contype = 'f' and conrelid = 'fact_sales_order'::regclass";
    let keys: Vec<(String, String)> =
        client.query(keys, &[]).await?.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut statements = vec!["begin".to_string()];
    statements.extend(keys.iter().map(|(name, _)| format!("alter table {FACT} drop constraint {name}")));
    statements.push(format!("copy {FACT} from '{}/fact.copy' (format binary)", cluster.dir().display()));
    statements.extend(keys.iter().map(|(name, text)| format!("alter table {FACT} add constraint {name} {text}")));
    statements.push("commit".into());
    let mut psql = Command::new(cluster.bin_dir().join("psql"));
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1"]).stdout(Stdio::null());
    statements.iter().for_each(|statement| {
        psql.args(["-c", statement]);
    });
    let begun = Instant::now();
    let status = psql.arg(cluster.superuser_url("by_psql")).status()?;
    if status.success() { Ok(begun.elapsed().as_secs_f64()) } else { Err("psql failed".into()) }
}

async fn by_starlift(cluster: &Cluster, rows: i32, bulk: bool) -> Result<f64, Error> {
    let mut client = cluster.connect("by_starlift").await?;
    let model = fact();
    let load = ModelLoad {
        upserts: batches(rows),
        ahead: Some(Ahead { rows: rows as u64, keys: Box::new(move || batches(rows)) }),
        retractions: load::nothing_later(FACT),
        again: None,
        model,
    };
    let run = LoadRun {
        pipeline: "bench".into(),
        star_id: "star".into(),
        seq: 1,
        manifest_sha256: "hash".into(),
        run_id: "run".into(),
        schema: "public".into(),
        adopt: true,
        whole: BTreeSet::new(),
        head: None,
        aside: MaySetAside::default(),
        bulk,
        limits: LoadLimits { statement_timeout: std::time::Duration::ZERO, ..LoadLimits::default() },
    };
    let begun = Instant::now();
    match load::load(&mut client, &run, vec![load], &load::nothing_later).await? {
        LoadOutcome::Loaded(report) if report.rows_written() == rows as u64 => Ok(begun.elapsed().as_secs_f64()),
        other => Err(format!("{other:?}").into()),
    }
}

const DATES: [&str; 4] = ["created_date", "last_updated_date", "agreed_payment_date", "agreed_delivery_date"];
const TIMES: [&str; 2] = ["created_time", "last_updated_time"];
/// Numbers, each with the number of rows that it refers to.
const NUMBERS: [(&str, i32); 6] = [
    ("sales_staff_id", 400),
    ("counterparty_id", 400),
    ("units_sold", 90_000),
    ("currency_id", 3),
    ("design_id", 1_000),
    ("agreed_delivery_location_id", 600),
];

fn fact() -> ModelTable {
    let column = |name: &str, column_type| Column {
        name: name.into(),
        column_type,
        nullable: true,
        declared: None,
        labels: vec![],
    };
    let mut columns = vec![column("sales_order_id", ColumnType::Int4)];
    columns.extend(DATES.map(|name| column(name, ColumnType::Date)));
    columns.extend(TIMES.map(|name| column(name, ColumnType::Time)));
    columns.extend(NUMBERS.map(|(name, _)| column(name, ColumnType::Int4)));
    columns.push(column("unit_price", ColumnType::Numeric { precision: 38, scale: 10 }));
    let key = vec!["sales_order_id".to_string()];
    let schema = TableSchema { columns, key, oid: None, partitions: vec![], attributes: vec![] };
    ModelTable { name: FACT.into(), kind: ModelKind::Fact, schema, references: BTreeMap::new() }
}

/// Batches as two connections would have written them: by turns of two halves.
fn batches(rows: i32) -> BatchStream<'static> {
    let count = (rows + BATCH - 1) / BATCH;
    let half = (count + 1) / 2;
    let order = (0..half).flat_map(move |n| [n, n + half]).filter(move |n| *n < count);
    futures::stream::iter(order.map(move |n| Ok(batch(n * BATCH + 1, rows.min((n + 1) * BATCH))))).boxed()
}

fn batch(first: i32, last: i32) -> RecordBatch {
    let ids = || first..=last;
    let mut arrays: Vec<ArrayRef> = vec![Arc::new(ids().collect::<Int32Array>())];
    let days =
        |ahead: i32| Arc::new(Date32Array::from_iter_values(ids().map(|i| 19_299 + i / 2_000 + ahead))) as ArrayRef;
    arrays.extend([0, 0, 9, 3].map(days));
    for _ in TIMES {
        let micros = ids().map(|i| i64::from(i.wrapping_mul(7_919) % 43_200 + 43_200) * 1_000_000);
        arrays.push(Arc::new(Time64MicrosecondArray::from_iter_values(micros)));
    }
    for (_, most) in NUMBERS {
        arrays.push(Arc::new(ids().map(|i| 1 + i.wrapping_mul(7_919).rem_euclid(most)).collect::<Int32Array>()));
    }
    let cents = ids().map(|i| i128::from(200 + i % 300) * 100_000_000);
    let prices = cents.collect::<Decimal128Array>().with_precision_and_scale(38, 10);
    arrays.push(Arc::new(prices.expect("a decimal of 38 digits")));
    RecordBatch::try_new(fact().schema.to_arrow(), arrays).expect("a batch of sales")
}
