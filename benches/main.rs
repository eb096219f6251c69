//! What starlift needs, beside a limit that is measured in the same run: PostgreSQL's own tools on the same rows. Machines are
//! noisy; read the ratio.
//!
//! `make bench`, or `make bench BENCH="--rows 500000 --scale 10 --pairs 3 extract changes"`. Linux only: memory and processor
//! time come from `/proc`.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

mod extract;
mod measure;
mod totesys;

use std::process::ExitCode;

use starlift_sandbox::{Cluster, ClusterOptions};

type Error = Box<dyn std::error::Error>;

/// What is measured, and how much of it.
struct Options {
    /// Rows of `payment` for the extract.
    rows: u64,
    /// Of ToteSys, for the whole pipeline: 1 is about 18,000 rows.
    scale: f64,
    /// Measurements of each thing.
    pairs: usize,
    /// `extract`, `totesys`; none means both.
    parts: Vec<String>,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match options().and_then(|options| runtime.block_on(bench(&options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, Error> {
    let mut options = Options { rows: 3_000_000, scale: 50.0, pairs: 5, parts: Vec::new() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--rows" => options.rows = value()?.parse()?,
            "--scale" => options.scale = value()?.parse()?,
            "--pairs" => options.pairs = value()?.parse()?,
            // Cargo adds it.
            "--bench" => {}
            part if ["extract", "totesys"].contains(&part) => options.parts.push(word),
            other => return Err(format!("`{other}` is unknown: --rows, --scale, --pairs, extract, totesys").into()),
        }
    }
    Ok(options)
}

async fn bench(options: &Options) -> Result<(), Error> {
    let settings = [("shared_buffers", "512MB"), ("max_wal_size", "8GB")];
    let settings = settings.map(|(name, value)| (name.to_string(), value.to_string())).to_vec();
    let cluster = Cluster::start(ClusterOptions { settings, ..ClusterOptions::default() })?;
    let wanted = |part: &str| options.parts.is_empty() || options.parts.iter().any(|name| name == part);
    if wanted("extract") {
        extract::bench(&cluster, options).await?;
    }
    if wanted("totesys") {
        totesys::bench(&cluster, options).await?;
    }
    Ok(())
}
