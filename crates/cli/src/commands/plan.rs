//! `plan`: what a run would do now.

use starlift::plan::Plan;
use starlift::telemetry::one_line;

use crate::args::Inspect;
use crate::failure::{Ended, Exit};
use crate::shell::Shell;
use crate::stdout;
use crate::style::Style;
use crate::table::{Align, Table};
use starlift::{count, size};

/// Shows what a run would do; writes nothing anywhere.
pub(crate) async fn run(shell: &Shell, args: &Inspect) -> Ended {
    let context = shell.context(args.places.overrides(), None).await?;
    shell.bars.wait_for("looking");
    let plan = starlift::plan::plan(&context).await?;
    shell.bars.clear();
    if args.print.json {
        stdout::json(&plan)?;
    } else {
        stdout::print(&text(shell.out, &plan))?;
    }
    Ok(Exit::Done)
}

fn text(style: Style, plan: &Plan) -> String {
    let mut text = format!("{} would read\n", style.bold("ingest"));
    let mut tables = Table::new([
        ("table", Align::Left),
        ("capture", Align::Left),
        ("how", Align::Left),
        ("rows, about", Align::Right),
        ("scan", Align::Right),
        ("why", Align::Left),
        ("captured so", Align::Left),
    ]);
    for table in &plan.ingest {
        tables.row([
            table.name.clone(),
            table.capture.clone(),
            table.mode.clone(),
            table.estimated_rows.map_or_else(|| "?".to_string(), count::of),
            size::or_dash(table.scan_bytes),
            table.reason.clone().unwrap_or_default(),
            table.because.clone(),
        ]);
    }
    let nothing = format!("  {}\n", style.dim("nothing"));
    let unknown = format!("  {}\n", style.dim("unknown"));
    text.push_str(match plan.ingest.is_empty() {
        true if plan.ingest_known => &nothing,
        true => &unknown,
        false => "",
    });
    text.push_str(&tables.render(style, "  "));

    text.push_str(&format!("\n{} would evaluate\n", style.bold("transform")));
    let mut models =
        Table::new([("model", Align::Left), ("how", Align::Left), ("when", Align::Left), ("why", Align::Left)]);
    for model in &plan.transform {
        let when = match (model.evaluate, model.follows.as_slice()) {
            (true, _) => "now".to_string(),
            (false, []) => "if its settings changed".to_string(),
            (false, inputs) => format!("if {} changed", inputs.join(" or ")),
        };
        let why = [&model.reason, &model.whole_because].into_iter().flatten().map(String::as_str);
        let why = why.collect::<Vec<_>>().join("; ");
        models.row([model.name.clone(), model.how.clone().unwrap_or_default(), when, why]);
    }
    text.push_str(if plan.transform.is_empty() { &nothing } else { "" });
    text.push_str(&models.render(style, "  "));

    text.push_str(&format!("\n{} would, as things are now\n  {}\n", style.bold("load"), one_line(&plan.load)));
    for note in &plan.notes {
        text.push_str(&format!("\n{} {}\n", style.alert(), one_line(note)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use starlift::plan::{PlannedModel, PlannedTable};

    #[test]
    fn a_plan_says_what_why_and_when() {
        let table = PlannedTable {
            name: "address".into(),
            capture: "xid".into(),
            because: "smaller than 2048 MiB".into(),
            mode: "full".into(),
            reason: Some("first read".into()),
            estimated_rows: Some(1_200),
            scan_bytes: 8192,
            day_bytes: 2_359_296,
        };
        let follows = vec!["address".to_string(), "counterparty".to_string()];
        let model = PlannedModel {
            name: "dim_counterparty".into(),
            evaluate: false,
            reason: None,
            how: Some("whole".into()),
            whole_because: Some("it groups rows".into()),
            follows,
        };
        let plan = Plan {
            ingest: vec![table],
            ingest_known: true,
            transform: vec![model],
            load: "nothing: the star is empty".into(),
            notes: vec!["the warehouse was not asked".into()],
        };
        assert_eq!(
            text(Style::PLAIN, &plan),
            "ingest would read\n\
             \x20 table    capture  how   rows, about     scan  why         captured so\n\
             \x20 address  xid      full        1,200  8.0 KiB  first read  smaller than 2048 MiB\n\
             \n\
             transform would evaluate\n\
             \x20 model             how    when                                why\n\
             \x20 dim_counterparty  whole  if address or counterparty changed  it groups rows\n\
             \n\
             load would, as things are now\n\
             \x20 nothing: the star is empty\n\
             \n\
             ! the warehouse was not asked\n"
        );
    }

    #[test]
    fn a_source_that_was_not_asked_is_not_said_to_have_nothing() {
        let plan = |ingest_known| text(Style::PLAIN, &Plan { ingest_known, ..Plan::default() });
        assert!(plan(false).starts_with("ingest would read\n  unknown\n"));
        assert!(plan(true).starts_with("ingest would read\n  nothing\n"));
    }
}
