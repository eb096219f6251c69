//! `warehouse create` and `warehouse clear`.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use serde::Serialize;
use starlift_core::{Error, Result};

use crate::args::{Inspect, Warehouse};
use crate::failure::{Ended, Exit};
use crate::shell::Shell;
use crate::stdout;
use crate::table::{Align, Table};
use starlift::count;

#[derive(Serialize)]
struct Created<'a> {
    created: &'a [String],
}

#[derive(Serialize)]
struct Cleared {
    cleared: BTreeMap<String, u64>,
}

/// Creates what is missing, or clears the warehouse.
pub(crate) async fn run(shell: &Shell, args: &Warehouse) -> Ended {
    match args {
        Warehouse::Create(inspect) => create(shell, inspect).await,
        Warehouse::Clear { yes, inspect } => clear(shell, *yes, inspect).await,
    }
}

async fn create(shell: &Shell, args: &Inspect) -> Ended {
    let context = shell.context(args.places.overrides(), None).await?;
    shell.bars.wait_for("creating");
    let created = starlift::warehouse::create(&context).await?;
    shell.bars.clear();
    if args.print.json {
        stdout::json(&Created { created: &created })?;
    } else if created.is_empty() {
        stdout::line("nothing was missing")?;
    } else {
        let lines: String = created.iter().map(|what| format!("{} {what}\n", shell.out.tick())).collect();
        stdout::print(&lines)?;
    }
    Ok(Exit::Done)
}

async fn clear(shell: &Shell, yes: bool, args: &Inspect) -> Ended {
    let context = shell.context(args.places.overrides(), None).await?;
    let rows = starlift::warehouse::count_rows(&context).await?;
    if !yes && !confirmed(shell, &rows).await? {
        stdout::line("nothing was cleared")?;
        return Ok(Exit::Done);
    }
    starlift::warehouse::clear(&context).await?;
    if args.print.json {
        stdout::json(&Cleared { cleared: rows })?;
    } else {
        let total = rows.values().sum();
        stdout::line(&format!(
            "{} cleared {} from {}; the next load fills them again",
            shell.out.tick(),
            count::with(total, "row"),
            count::with(rows.len() as u64, "table")
        ))?;
    }
    Ok(Exit::Done)
}

/// Asks on the terminal. Errors: Config where nobody can be asked.
async fn confirmed(shell: &Shell, rows: &BTreeMap<String, u64>) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::config("clearing the warehouse needs a word from a person")
            .with_detail("standard input is no terminal, so nobody can be asked")
            .with_hint("run `starlift warehouse clear --yes`"));
    }
    let mut table = Table::new([("table", Align::Left), ("rows", Align::Right)]);
    for (name, rows) in rows {
        table.row([name.clone(), count::of(*rows)]);
    }
    let mut question = table.render(shell.err, "  ");
    question.push_str("These tables of the warehouse will be emptied, and what was loaded forgotten. Go on? [y/N] ");
    let _ = std::io::stderr().lock().write_all(question.as_bytes());
    // On a thread of its own, so that Ctrl-C is heard.
    let answer = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).map(|_| answer)
    });
    let answer = answer.await.map_err(|e| Error::internal("the answer was not read").with_source(e))?;
    let answer = answer.map_err(|e| Error::config("the answer could not be read").with_source(e))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
