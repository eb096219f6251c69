//! `demo`: all of starlift on a private PostgreSQL, from an empty lake to a warehouse that is proved equal.
//!
//! The story on standard output depends on seed, scale and days alone: times, ports and paths are talk and go to standard
//! error. Whatever ends the demo, the server is stopped and its directory removed, unless it is to be kept.

mod chart;
mod day;
mod kept;
mod place;
mod proof;
mod work;

use std::path::Path;

use serde::Serialize;
use starlift::RunReport;
use starlift_core::{Error, Result};
use starlift_sandbox::totesys::{self, History, Month, OpenTransaction};

use self::day::Day;
use self::place::Place;
use self::proof::Proof;
use self::work::StageWork;
use crate::args::Demo;
use crate::failure::{Ended, Exit, Failure};
use crate::shell::Shell;
use crate::style::Style;
use crate::{duration, stdout};
use starlift::count;

/// What the demo found, for machines.
#[derive(Serialize)]
struct Document<'a> {
    seed: u64,
    scale: f64,
    source_rows: u64,
    first_run: &'a [StageWork],
    days: &'a [Day],
    open_orders: u64,
    open_orders_present: u64,
    #[serde(flatten)]
    proof: &'a Proof,
    sales: Vec<MonthDocument<'a>>,
    /// Where everything is, if it was to be kept.
    kept: Option<&'a Path>,
}

#[derive(Serialize)]
struct MonthDocument<'a> {
    month: &'a str,
    units: u64,
    pounds: u64,
}

/// Tells the story; exits 0 only if all tables of the star schema are equal to what ToteSys says.
pub(crate) async fn run(shell: &Shell, args: &Demo) -> Ended {
    let started = starlift::context::now();
    let teller = Teller { silent: args.print.json };
    teller.line(&shell.out.bold(&format!("starlift demo, seed {}, scale {}", args.seed, args.scale)))?;

    shell.bars.wait_for("starting a private PostgreSQL");
    let place = Place::prepare(shell, args.keep).await?;
    shell.bars.wait_for("three years of business");
    let mut source = place.cluster.connect(place::SOURCE).await?;
    let history = History { seed: args.seed, scale: args.scale }.fill(&mut source).await?;
    shell.bars.clear();
    let (rows, tables) = (history.total(), history.rows.len() as u64);
    teller.paragraph(&format!(
        "A private PostgreSQL holds two databases: ToteSys, the business, and an empty warehouse.\n\
         ToteSys has {} in {}; its orders are from {} to {}.",
        count::with(rows, "row"),
        count::with(tables, "table"),
        history.days.0,
        history.days.1
    ))?;

    let first = lift(shell, &place).await?;
    teller.paragraph(&format!("The first run carries everything:\n\n{}", work::table(shell.out, &first)))?;

    let mut days = Vec::new();
    let mut open_orders = Vec::new();
    if args.days > 0 {
        teller.paragraph(&day::heading(shell.out, args.days))?;
    }
    for number in 1..=args.days {
        // It opens before anything else of the day, and the run goes over it.
        let open = OpenTransaction::begin(place.cluster.connect(place::SOURCE).await?, args.seed, number).await?;
        open_orders.push(open.inserted_order);
        let lived = totesys::live(&mut source, args.seed, number).await?;
        let day = Day::of(&lived, lift(shell, &place).await?);
        teller.line(&day.line())?;
        days.push(day);
        open.commit().await?;
    }

    shell.bars.wait_for("comparing");
    let proof = Proof::find(shell, &place).await?;
    shell.bars.clear();
    let warehouse = place.cluster.connect(place::WAREHOUSE).await?;
    let present = totesys::orders_present(&warehouse, &open_orders).await?;
    let sales = totesys::sales_by_month(&warehouse).await?;
    teller.paragraph(&proof.text(shell.out))?;
    if !open_orders.is_empty() {
        teller.paragraph(&format!(
            "Orders placed in transactions that were open while a run read: {}; in the warehouse: {}.",
            count::of(open_orders.len() as u64),
            count::of(present)
        ))?;
    }
    teller.paragraph(&chart::sales(shell.out, whole_months(&sales, args.days)))?;
    teller.paragraph(&ending(shell.out, args.keep))?;
    if args.print.json {
        stdout::json(&Document {
            seed: args.seed,
            scale: args.scale,
            source_rows: rows,
            first_run: &first,
            days: &days,
            open_orders: open_orders.len() as u64,
            open_orders_present: present,
            proof: &proof,
            sales: sales.iter().map(|m| MonthDocument { month: &m.month, units: m.units, pounds: m.pounds }).collect(),
            kept: args.keep.then(|| place.cluster.dir()),
        })?;
    }
    let equal = proof.equal && present == open_orders.len() as u64;
    if args.keep {
        shell.say(&kept::instructions(&place)?);
    }
    drop((source, warehouse));
    place.end().await?;
    shell.say(&format!("the demo took {}", duration::of_millis(starlift::context::now().millis_since(started))));
    Ok(if equal { Exit::Done } else { Exit::Found })
}

/// One run of the pipeline, and what each stage of it did.
async fn lift(shell: &Shell, place: &Place) -> Result<Vec<StageWork>, Failure> {
    let context = place.context(shell)?;
    let report: RunReport = starlift::run(&context).await;
    shell.bars.clear();
    let work = report.stages.iter().map(StageWork::of).collect();
    match report.failures.into_iter().next() {
        None => Ok(work),
        Some(failure) => Err(Failure::Command(in_the_demo(failure.error))),
    }
}

fn in_the_demo(error: Error) -> Error {
    error.with_context("command", "demo")
}

/// The last month is only as long as the days that were lived of it, and would look like a slump.
fn whole_months(sales: &[Month], days: u32) -> &[Month] {
    match sales.split_last() {
        Some((_, whole)) if days > 0 => whole,
        _ => sales,
    }
}

fn ending(style: Style, keep: bool) -> String {
    let fate = if keep {
        "The databases, the lake and the project are kept."
    } else {
        "The databases, the lake and the project are gone now. `starlift demo --keep` keeps them\n\
         and ends with the command to connect, of the form `psql -h FOLDER -p PORT -U postgres warehouse`."
    };
    let tries = [
        ("starlift demo --scale 10 --days 20", "ten times the orders, four weeks of life"),
        ("starlift demo --json", "the same for machines"),
        ("starlift models --project DIR", "what the models of a project read and refer to"),
        ("starlift doctor --project DIR", "whether a project of your own is ready to run"),
        ("starlift run --project DIR --every 5m", "keep a warehouse up to date"),
    ];
    let lines: String = tries.iter().map(|(command, what)| format!("  {command:<38} {}\n", style.dim(what))).collect();
    format!("{fate}\n\n{}\n{}", style.bold("What to try next"), lines.trim_end())
}

/// Tells the story to people.
struct Teller {
    silent: bool,
}

impl Teller {
    /// Prints a paragraph, apart from what comes before.
    fn paragraph(&self, text: &str) -> Result<(), Failure> {
        if self.silent || text.is_empty() { Ok(()) } else { stdout::print(&format!("\n{text}\n")) }
    }

    /// Prints a line.
    fn line(&self, text: &str) -> Result<(), Failure> {
        if self.silent { Ok(()) } else { stdout::line(text) }
    }
}
