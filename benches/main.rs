//! What starlift needs, beside a limit that is measured in the same run: PostgreSQL's own tools on the same rows, or another
//! tool. Machines are noisy; read the ratio.
//!
//! `make bench`, or `make bench BENCH="--short extract load"`; benches/README.md has the parts and options. Linux only: memory
//! and processor time come from `/proc`.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

mod changes;
mod extract;
mod first;
mod history;
mod load;
mod measure;
mod options;
mod page;
mod peers;
mod rows;
mod startup;
mod table;
mod totesys;

use std::process::ExitCode;

use starlift_sandbox::{Cluster, ClusterOptions};

use self::options::Options;
use self::table::Table;

type Error = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let done = Options::read(std::env::args().skip(1)).and_then(|options| runtime.block_on(bench(&options)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}: {error:?}");
            ExitCode::FAILURE
        }
    }
}

async fn bench(options: &Options) -> Result<(), Error> {
    let settings = [("shared_buffers", "512MB"), ("max_wal_size", "8GB")];
    let settings = settings.map(|(name, value)| (name.to_string(), value.to_string())).to_vec();
    let cluster = Cluster::start(ClusterOptions { settings, ..ClusterOptions::default() })?;
    let machine = page::machine(&cluster)?;
    println!("{machine}");
    let show = |part: &str, table: Table| -> Result<(), Error> {
        println!("{}", table.text());
        match &options.write {
            Some(path) => page::keep(path, part, &machine, &table),
            None => Ok(()),
        }
    };
    if options.wants("startup") {
        show("startup", startup::bench(options)?)?;
    }
    if options.wants("extract") || options.wants("peers") {
        extract::prepare(&cluster, options).await?;
    }
    if options.wants("extract") {
        show("extract", extract::bench(&cluster, options)?)?;
    }
    if options.wants("peers") {
        show("peers", peers::bench(&cluster, options)?)?;
    }
    if options.wants("load") {
        show("load", load::bench(&cluster, options).await?)?;
    }
    if options.wants("first") || options.wants("changes") {
        for (number, rows) in options.sizes.iter().enumerate() {
            let totesys = totesys::Totesys::new(&cluster, &format!("size_{number}"), *rows).await?;
            let mut first = None;
            if options.wants("first") {
                first = Some(first::bench(&totesys).await?);
            } else {
                totesys.first_run()?;
            }
            if let Some(first) = first {
                show(&format!("first {rows}"), first)?;
            }
            if options.wants("changes") {
                for mode in &options.modes {
                    let table = changes::bench(&totesys, options, *mode).await?;
                    show(&format!("changes {rows} {}", mode.name()), table)?;
                }
            }
            totesys.drop().await?;
        }
    }
    if options.wants("history") {
        show("history", history::bench(&cluster, options).await?)?;
    }
    Ok(())
}
