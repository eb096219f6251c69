//! Whether a run costs more after a thousand others, and whether ten times the rows take more memory.

use starlift_sandbox::Cluster;

use crate::Error;
use crate::measure::{Several, Taken};
use crate::options::Options;
use crate::rows::Shares;
use crate::table::{Goal, Table};
use crate::totesys::Totesys;

/// Rows of the source that the runs are made of: few, so that what grows with the history shows.
const ROWS: u64 = 90_000;
/// Orders that change before each run.
const CHANGED: usize = 10;
/// Runs around the tenth and the last that are compared.
const AROUND: usize = 9;

pub(crate) async fn bench(cluster: &Cluster, options: &Options) -> Result<Table, Error> {
    let totesys = Totesys::of(cluster, "history", Shares::of(ROWS)).await?;
    totesys.first_run()?;
    let source = totesys.source().await?;
    let (mut early, mut late) = (Several::default(), Several::default());
    for run in 0..options.runs.max(2 * AROUND) {
        let first = run * CHANGED % (ROWS as usize / 9);
        let changed = format!(
            "update sales_order set units_sold = units_sold + 1, last_updated = clock_timestamp() at time zone 'UTC'
             where sales_order_id > {first} and sales_order_id <= {}",
            first + CHANGED
        );
        source.batch_execute(&changed).await?;
        let taken = totesys.starlift(&["run"])?;
        if (5..5 + AROUND).contains(&run) {
            early.push(taken);
        }
        if run + AROUND >= options.runs.max(2 * AROUND) {
            late.push(taken);
        }
    }
    totesys.drop().await?;
    let mut table =
        Table::new(format!("Run {} against run 10, {CHANGED} changed orders each, and memory", options.runs));
    table.limit("run 10 (the middle of runs 6 to 14)", &early);
    table.line(
        &format!("run {} (the middle of the last {AROUND})", options.runs),
        &late,
        &early,
        Some(Goal::Ratio(1.1)),
    );
    memory(cluster, options, &mut table).await?;
    Ok(table)
}

/// Peaks of first runs of a tenth of the rows of the load, and of all.
async fn memory(cluster: &Cluster, options: &Options, table: &mut Table) -> Result<(), Error> {
    let mut peaks: [Vec<Taken>; 2] = Default::default();
    for (all, rows) in peaks.iter_mut().zip([options.load_rows / 4, options.load_rows * 5 / 2]) {
        let totesys = Totesys::new(cluster, "memory", rows).await?;
        for stage in ["ingest", "transform", "load"] {
            all.push(totesys.starlift(&[stage])?);
        }
        totesys.drop().await?;
    }
    let [small, large] = peaks;
    for ((stage, small), large) in ["ingest", "transform", "load"].into_iter().zip(small).zip(large) {
        let (before, after) = (small.peak as f64, large.peak as f64);
        let name = format!(
            "peak memory of `starlift {stage}` at 10 x the rows: {:.0} MB to {:.0} MB",
            before / 1e6,
            after / 1e6
        );
        table.figure(&name, after / before, 1.05);
    }
    Ok(())
}
