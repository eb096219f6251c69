//! Runs of 1,000 changed orders, beside the scans that find them.

use crate::Error;
use crate::measure::Several;
use crate::options::{Mode, Options};
use crate::table::{Goal, Table};
use crate::totesys::Totesys;

/// Orders that change between two runs.
const CHANGED: usize = 1_000;
/// What a run may take beside its scans: connecting to two databases, reading manifests, committing three times.
const BESIDE_SCANS: f64 = 0.2;
/// What a run may take that scans nothing.
const WITHOUT_SCANS: f64 = 0.3;

pub(crate) async fn bench(totesys: &Totesys<'_>, options: &Options, mode: Mode) -> Result<Table, Error> {
    totesys.set_mode(mode).await?;
    let source = totesys.source().await?;
    let change = async |round: usize| -> Result<(), Error> {
        let from = round * CHANGED;
        let changed = format!(
            "update sales_order set units_sold = units_sold + 1, last_updated = clock_timestamp() at time zone 'UTC'
             where sales_order_id > {from} and sales_order_id <= {}",
            from + CHANGED
        );
        Ok(source.batch_execute(&changed).await?)
    };
    let (mut scans, mut whole) = (Several::default(), Several::default());
    for round in 0..=options.pairs {
        change(2 * round).await?;
        let by_psql = totesys.psql_scans()?;
        let run = totesys.starlift(&["run"])?;
        if round > 0 {
            scans.push(by_psql);
            whole.push(run);
        }
    }
    let mut stages = [Several::default(), Several::default(), Several::default()];
    for round in 0..options.pairs {
        change(2 * round + 1).await?;
        for (several, stage) in stages.iter_mut().zip(["ingest", "transform", "load"]) {
            several.push(totesys.starlift(&[stage])?);
        }
    }
    let mut table =
        Table::new(format!("A run of {CHANGED} changed orders in {} rows, mode `{}`", totesys.rows, mode.name()));
    table.limit("limit: `psql` counts each table and the rows of a window in it", &scans);
    let limit = scans.median().seconds;
    let goal = match mode {
        Mode::Xid => 1.2 * limit + BESIDE_SCANS,
        Mode::Cursor => WITHOUT_SCANS,
    };
    table.line("`starlift run`", &whole, &scans, Some(Goal::Seconds(goal)));
    for (several, stage) in stages.iter().zip(["ingest", "transform", "load"]) {
        table.line(&format!("`starlift {stage}` by itself"), several, &scans, None);
    }
    Ok(table)
}
