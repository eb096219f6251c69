//! `quarantine`: the rows that stand aside, and what to do about them.

use std::collections::BTreeSet;

use serde::Serialize;
use starlift::quarantine::{self, QuarantinedRow};
use starlift::telemetry::one_line;
use starlift::{RunReport, count};

use super::run;
use crate::args::{Again, Inspect, Quarantine};
use crate::failure::{Ended, Exit};
use crate::shell::Shell;
use crate::stdout;
use crate::style::Style;
use crate::table::{Align, Table};

/// Rows that are listed for people.
const LISTED: usize = 100;

#[derive(Serialize)]
struct Document<'a> {
    rows: &'a [QuarantinedRow],
}

/// Lists, accepts or replays.
pub(crate) async fn run(shell: &Shell, args: &Quarantine) -> Ended {
    match args {
        Quarantine::List { only, inspect } => list(shell, only, inspect).await,
        Quarantine::Accept(args) => {
            let context = shell.context(args.places.overrides(), None).await?;
            let report = quarantine::accept(&context, &names(args)).await?;
            again(shell, args, &context, &report)
        }
        Quarantine::Replay(args) => {
            let context = shell.context(args.places.overrides(), None).await?;
            let report = quarantine::replay(&context, &names(args)).await?;
            again(shell, args, &context, &report)
        }
    }
}

fn names(args: &Again) -> BTreeSet<String> {
    args.only.iter().cloned().collect()
}

fn again(shell: &Shell, args: &Again, context: &starlift::Context, report: &RunReport) -> Ended {
    let shown = run::print(shell, args.print.json, context, report);
    run::ended(shell, report, shown)
}

async fn list(shell: &Shell, only: &[String], args: &Inspect) -> Ended {
    let context = shell.context(args.places.overrides(), None).await?;
    shell.bars.wait_for("looking");
    let mut rows = quarantine::list(&context).await?;
    rows.retain(|row| only.is_empty() || only.contains(&row.name));
    let without: BTreeSet<String> =
        only.iter().filter(|name| !rows.iter().any(|row| row.name == **name)).cloned().collect();
    quarantine::check_names(&context, &without).await?;
    shell.bars.clear();
    if args.print.json {
        stdout::json(&Document { rows: &rows })?;
    } else {
        stdout::print(&text(shell.out, &rows))?;
    }
    Ok(Exit::Done)
}

fn text(style: Style, rows: &[QuarantinedRow]) -> String {
    if rows.is_empty() {
        return format!("{} no row stands aside\n", style.tick());
    }
    let mut table = Table::new([
        ("refused by", Align::Left),
        ("table or model", Align::Left),
        ("key", Align::Left),
        ("column", Align::Left),
        ("reason", Align::Left),
        ("value", Align::Left),
    ]);
    for row in rows.iter().take(LISTED) {
        let value = row.value.as_deref().map(one_line).unwrap_or_default();
        table.row([
            row.stage.to_string(),
            one_line(&row.name),
            one_line(&row.key),
            one_line(&row.column),
            one_line(&row.reason),
            value,
        ]);
    }
    let mut text = table.render(style, "");
    if let Some(more) = rows.len().checked_sub(LISTED).filter(|more| *more > 0) {
        text.push_str(&format!("and {} more; --json lists all\n", count::of(more as u64)));
    }
    let (stand, them) = if rows.len() == 1 { ("stands", "it") } else { ("stand", "them") };
    text.push_str(&format!(
        "\n{} {} {stand} aside; mend {them} in the source, or what refuses {them}, and run again\n",
        style.alert(),
        count::with(rows.len() as u64, "row")
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: usize, value: Option<&str>) -> QuarantinedRow {
        QuarantinedRow {
            stage: "transform",
            name: "fact_sale".into(),
            key: format!("sale_id={id}"),
            column: "due".into(),
            reason: "it is no date".into(),
            value: value.map(str::to_string),
        }
    }

    #[test]
    fn rows_are_listed_with_their_reason_and_no_empty_column() {
        assert_eq!(
            text(Style::PLAIN, &[row(1, None)]),
            "refused by  table or model  key        column  reason\n\
             transform   fact_sale       sale_id=1  due     it is no date\n\
             \n! 1 row stands aside; mend it in the source, or what refuses it, and run again\n"
        );
        assert!(text(Style::PLAIN, &[row(1, Some("n/a"))]).contains("it is no date  n/a\n"));
        assert_eq!(text(Style::PLAIN, &[]), "+ no row stands aside\n");
    }

    #[test]
    fn a_long_list_is_cut() {
        let rows: Vec<_> = (0..120).map(|id| row(id, None)).collect();
        let shown = text(Style::PLAIN, &rows);
        assert!(shown.contains("and 20 more; --json lists all\n"), "{shown}");
        assert!(
            shown.ends_with("! 120 rows stand aside; mend them in the source, or what refuses them, and run again\n"),
            "{shown}"
        );
    }
}
