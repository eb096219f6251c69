//! The pipeline on a generated ToteSys: rows per second and peak memory of each stage, beside a limit measured in the same
//! run: the same tables by one `psql` COPY BINARY to nowhere. The machine is noisy; read the ratio.
//!
//! `make bench`, or `make bench BENCH="--scale 100"`. Linux only: peak memory comes from `/proc`.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use starlift_sandbox::totesys::{History, SOURCE_TABLES, create_reader, create_source};
use starlift_sandbox::{Cluster, ClusterOptions};

/// Orders that change between the first run and the incremental one.
const CHANGED_ORDERS: u64 = 1_000;

struct Measured {
    name: &'static str,
    rows: u64,
    seconds: f64,
    peak_bytes: u64,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match runtime.block_on(bench(scale())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// `--scale N`; cargo adds `--bench`, which says nothing here.
fn scale() -> f64 {
    let arguments: Vec<String> = std::env::args().collect();
    let value = arguments.iter().position(|a| a == "--scale").and_then(|i| arguments.get(i + 1));
    value.and_then(|v| v.parse().ok()).unwrap_or(50.0)
}

async fn bench(scale: f64) -> Result<(), Box<dyn std::error::Error>> {
    let cluster = Cluster::start(ClusterOptions::default())?;
    for database in ["source", "warehouse"] {
        cluster.create_database(database).await?;
    }
    let mut client = cluster.connect("source").await?;
    create_source(&client).await?;
    let history = History { seed: 1, scale }.fill(&mut client).await?;
    client.batch_execute("vacuum analyze").await?;
    create_reader(&client, "reader", "reader").await?;
    println!("ToteSys at scale {scale}: {} rows in {} tables", history.total(), history.rows.len());

    let dir = tempfile::tempdir()?;
    let limit = limit(&cluster)?;
    let stage = |arguments: &[&str]| run(&cluster, dir.path(), arguments);
    stage(&["warehouse", "create"])?;
    let mut measured = Vec::new();
    for name in ["ingest", "transform", "load"] {
        measured.push(Measured { name, ..stage(&[name])? });
    }
    let changed =
        format!("update sales_order set units_sold = units_sold + 1 where sales_order_id <= {CHANGED_ORDERS}");
    client.batch_execute(&changed).await?;
    for (name, stage_name) in [("ingest, 1,000 changed", "ingest"), ("transform", "transform"), ("load", "load")] {
        measured.push(Measured { name, ..stage(&[stage_name])? });
    }

    println!("{:<24}{:>12}{:>10}{:>14}{:>12}{:>10}", "", "rows", "seconds", "rows/s", "x limit", "peak MB");
    println!(
        "{:<24}{:>12}{:>10.2}{:>14.0}{:>12.1}",
        "limit: psql COPY",
        history.total(),
        limit,
        history.total() as f64 / limit,
        1.0
    );
    for m in measured {
        println!(
            "{:<24}{:>12}{:>10.2}{:>14.0}{:>12.1}{:>10.0}",
            m.name,
            m.rows,
            m.seconds,
            m.rows as f64 / m.seconds,
            m.seconds / limit,
            m.peak_bytes as f64 / 1e6
        );
    }
    Ok(())
}

/// Every table by one `psql` COPY BINARY to nowhere.
fn limit(cluster: &Cluster) -> Result<f64, Box<dyn std::error::Error>> {
    let begun = Instant::now();
    let url = cluster.superuser_url("source");
    for (table, _) in SOURCE_TABLES {
        let copy = format!("copy \"{table}\" to stdout (format binary)");
        let status = Command::new(cluster.bin_dir().join("psql"))
            .args(["-X", "-q", "-c", &copy, &url])
            .stdout(Stdio::null())
            .status()?;
        if !status.success() {
            return Err(format!("psql ended with {status}").into());
        }
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// One command of the optimised binary in a process of its own.
fn run(cluster: &Cluster, dir: &Path, arguments: &[&str]) -> Result<Measured, Box<dyn std::error::Error>> {
    let report = dir.join("report.json");
    let is_stage = arguments.len() == 1;
    let begun = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_starlift"));
    command.arg("--project").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../pipelines/totesys")).args(arguments);
    if is_stage {
        command.arg("--report").arg(&report);
    }
    let mut child = command
        .env("STARLIFT_SOURCE_URL", cluster.url("source", "reader"))
        .env("STARLIFT_WAREHOUSE_URL", cluster.superuser_url("warehouse"))
        .env("STARLIFT_LAKE_INGEST", dir.join("ingest"))
        .env("STARLIFT_LAKE_TRANSFORM", dir.join("transform"))
        .env("STARLIFT_LOG", "error")
        .stdout(Stdio::null())
        .spawn()?;
    let (status, peak_bytes) = watch(&mut child)?;
    let seconds = begun.elapsed().as_secs_f64();
    if !status.success() {
        return Err(format!("starlift {} ended with {status}", arguments.join(" ")).into());
    }
    let rows = if is_stage { rows_read(&report)? } else { 0 };
    Ok(Measured { name: "", rows, seconds, peak_bytes })
}

/// Waits for a process and returns the most memory that it had (`VmHWM`).
fn watch(child: &mut Child) -> std::io::Result<(std::process::ExitStatus, u64)> {
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let text = std::fs::read_to_string(&status_file).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|l| l.trim().split(' ').next()?.parse::<u64>().ok());
        peak = peak.max(kilobytes.unwrap_or(0) * 1024);
        if let Some(status) = child.try_wait()? {
            return Ok((status, peak));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn rows_read(report: &Path) -> Result<u64, Box<dyn std::error::Error>> {
    let report: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&std::fs::read(report)?)?;
    let relations = report.get("relations").and_then(|r| r.as_array()).cloned().unwrap_or_default();
    Ok(relations.iter().filter_map(|r| r.get("rows_read")?.as_u64()).sum())
}
