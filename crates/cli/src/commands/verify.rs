//! `verify`: whether source, lake, star and warehouse hold the same rows; with `--repair` it mends where they do not.

mod repaired;

use serde::Serialize;
use starlift::telemetry::one_line;
use starlift::verify::{
    ASIDE, Comparison, ComparisonKind, NOT_COMPARED, Repair, Verdict, VerifyReport, VerifyRequest, repair, verify,
};

use crate::args::Verify;
use crate::failure::{Ended, Exit};
use crate::shell::Shell;
use crate::stdout;
use crate::style::Style;
use crate::table::{Align, Table};
use starlift::count;

const KINDS: [ComparisonKind; 3] =
    [ComparisonKind::SourceLake, ComparisonKind::StarWarehouse, ComparisonKind::LakeWarehouse];

#[derive(Serialize)]
struct Document<'a> {
    equal: bool,
    #[serde(flatten)]
    report: &'a VerifyReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    repair: Option<&'a Repair>,
}

/// Compares; exits 1 where anything differs or is missing.
pub(crate) async fn run(shell: &Shell, args: &Verify) -> Ended {
    let context = shell.context(args.places.overrides(), None).await?;
    let (done, report) = if args.repair {
        let (done, report) = repair(&context, &args.only).await?;
        (Some(done), report)
    } else {
        (None, verify(&context, &VerifyRequest { settle: args.settle, only: args.only.clone() }).await?)
    };
    shell.bars.clear();
    if args.print.json {
        stdout::json(&Document { equal: report.equal(), report: &report, repair: done.as_ref() })?;
    } else {
        let done = done.map(|done| repaired::text(shell.out, &done)).unwrap_or_default();
        stdout::print(&format!("{done}{}", text(shell.out, &report)))?;
    }
    Ok(if report.equal() { Exit::Done } else { Exit::Found })
}

fn text(style: Style, report: &VerifyReport) -> String {
    let mut text = String::new();
    for kind in KINDS {
        let of_kind: Vec<&Comparison> = report.comparisons.iter().filter(|c| c.kind == kind).collect();
        if !of_kind.is_empty() {
            text.push_str(&section(style, kind, &of_kind));
            text.push('\n');
        }
    }
    for note in &report.notes {
        text.push_str(&format!("{} {}\n", style.alert(), one_line(note)));
    }
    text.push_str(&format!("{}\n", verdict(style, report)));
    text
}

fn section(style: Style, kind: ComparisonKind, comparisons: &[&Comparison]) -> String {
    let (left, right) = kind.sides();
    let title = if kind == ComparisonKind::SourceLake { "table" } else { "model" };
    let mut table = Table::new([
        (title, Align::Left),
        (left, Align::Right),
        (right, Align::Right),
        ("verdict", Align::Left),
        ("pending", Align::Right),
        ("differ", Align::Right),
    ]);
    let optional = |rows: u64| if rows == 0 { String::new() } else { count::of(rows) };
    for comparison in comparisons {
        table.row([
            comparison.name.clone(),
            count::of(comparison.rows_left),
            count::of(comparison.rows_right),
            if is_in_part(comparison) { "equal in part".into() } else { comparison.verdict.name().to_string() },
            optional(comparison.pending),
            optional(comparison.differences),
        ]);
    }
    let marks: Vec<String> = comparisons.iter().map(|c| mark(style, c)).collect();
    let mut text = format!("{}\n{}", style.bold(&format!("{left} and {right}")), table.marked(style, "  ", &marks));
    for comparison in comparisons {
        // What is equal needs no explanation but of what was left out; --json has all.
        let told = |note: &&String| {
            comparison.verdict != Verdict::Equal || note.starts_with(NOT_COMPARED) || note.starts_with(ASIDE)
        };
        for note in comparison.notes.iter().filter(told) {
            text.push_str(&format!("    {}: {}\n", comparison.name, style.dim(&one_line(note))));
        }
        for example in &comparison.examples {
            text.push_str(&format!(
                "    {}: {} {}\n",
                comparison.name,
                one_line(&example.key),
                one_line(&example.what)
            ));
        }
        let unnamed = comparison.differences.saturating_sub(comparison.examples.len() as u64);
        if unnamed > 0 {
            text.push_str(&format!("    {}: and {} more\n", comparison.name, count::of(unnamed)));
        }
    }
    text
}

/// Whether it is equal as far as it was compared, and a column was left out.
fn is_in_part(comparison: &Comparison) -> bool {
    comparison.verdict == Verdict::Equal && !comparison.not_compared.is_empty()
}

fn mark(style: Style, comparison: &Comparison) -> String {
    match comparison.verdict {
        Verdict::Equal if is_in_part(comparison) => style.alert(),
        Verdict::Equal => style.tick(),
        Verdict::Pending => style.alert(),
        Verdict::Differs | Verdict::Missing => style.cross(),
    }
}

fn verdict(style: Style, report: &VerifyReport) -> String {
    if report.comparisons.is_empty() {
        return "nothing to compare yet; `starlift run` starts it".to_string();
    }
    let missing = report.comparisons.iter().filter(|c| c.verdict == Verdict::Missing).count() as u64;
    let all = count::with(report.comparisons.len() as u64, "comparison");
    let (mark, left_out) = match report.not_compared() {
        0 => (style.tick(), String::new()),
        columns => (style.alert(), format!("; {} not compared", count::with(columns, "column"))),
    };
    match (report.equal(), report.differences(), report.pending()) {
        (true, _, 0) if left_out.is_empty() => format!("{mark} {} in {all}", style.good("equal")),
        (true, _, 0) => format!("{mark} equal in {all} as far as columns were compared{left_out}"),
        (true, _, pending) => format!(
            "{mark} equal as far as the runs are; {} will be looked at by the next one{left_out}",
            count::with(pending, "row")
        ),
        (false, 0, _) => format!("{} {} missing on one side", style.cross(), count::with(missing, "table")),
        (false, differences, _) => {
            format!("{} {}", style.cross(), style.bad(&format!("{} found", count::with(differences, "difference"))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use starlift::verify::Example;

    fn comparison(kind: ComparisonKind, name: &str, verdict: Verdict, differences: u64) -> Comparison {
        let examples = (0..differences.min(1))
            .map(|_| Example { key: "payment_id=5".into(), what: "differs in column payment_amount".into() });
        Comparison {
            kind,
            name: name.into(),
            columns: 3,
            verdict,
            rows_left: 1_200,
            rows_right: 1_200,
            pending: 0,
            differences,
            examples: examples.collect(),
            not_compared: vec![],
            notes: vec![],
            millis: 5,
        }
    }

    fn report(comparisons: Vec<Comparison>) -> VerifyReport {
        VerifyReport {
            run_id: "r1".into(),
            settled: false,
            ingest_seq: Some(1),
            loaded_seq: Some(1),
            comparisons,
            notes: vec![],
        }
    }

    #[test]
    fn a_difference_is_named_by_key_and_column() {
        let report = report(vec![
            comparison(ComparisonKind::SourceLake, "address", Verdict::Equal, 0),
            comparison(ComparisonKind::SourceLake, "payment", Verdict::Differs, 3),
        ]);
        assert_eq!(
            text(Style::PLAIN, &report),
            "source and lake\n\
             \x20   table    source   lake  verdict  differ\n\
             \x20 + address   1,200  1,200  equal\n\
             \x20 x payment   1,200  1,200  differs       3\n\
             \x20   payment: payment_id=5 differs in column payment_amount\n\
             \x20   payment: and 2 more\n\
             \n\
             x 3 differences found\n"
        );
    }

    #[test]
    fn a_model_with_a_column_that_was_left_out_is_not_called_equal() {
        let mut comparison = comparison(ComparisonKind::StarWarehouse, "dim_trip", Verdict::Equal, 0);
        comparison.not_compared = vec!["span".into()];
        comparison.notes = vec![format!("{NOT_COMPARED}, because the warehouse holds another type: `span`")];
        assert_eq!(
            text(Style::PLAIN, &report(vec![comparison])),
            "star and warehouse\n\
             \x20   model      star  warehouse  verdict\n\
             \x20 ! dim_trip  1,200      1,200  equal in part\n\
             \x20   dim_trip: not compared, because the warehouse holds another type: `span`\n\
             \n\
             ! equal in 1 comparison as far as columns were compared; 1 column not compared\n"
        );
    }

    #[test]
    fn the_last_line_is_the_verdict() {
        let last = |comparisons| verdict(Style::PLAIN, &report(comparisons));
        let kind = ComparisonKind::StarWarehouse;
        assert_eq!(last(vec![comparison(kind, "dim_staff", Verdict::Equal, 0)]), "+ equal in 1 comparison");
        let pending = Comparison { pending: 2, ..comparison(kind, "dim_staff", Verdict::Pending, 0) };
        assert_eq!(last(vec![pending]), "+ equal as far as the runs are; 2 rows will be looked at by the next one");
        let in_part = |verdict, pending| Comparison {
            pending,
            not_compared: vec!["span".into(), "place".into()],
            ..comparison(kind, "dim_staff", verdict, 0)
        };
        assert_eq!(
            last(vec![in_part(Verdict::Equal, 0)]),
            "! equal in 1 comparison as far as columns were compared; 2 columns not compared"
        );
        assert_eq!(
            last(vec![in_part(Verdict::Pending, 2)]),
            "! equal as far as the runs are; 2 rows will be looked at by the next one; 2 columns not compared"
        );
        assert_eq!(last(vec![comparison(kind, "dim_staff", Verdict::Missing, 0)]), "x 1 table missing on one side");
        assert_eq!(last(vec![]), "nothing to compare yet; `starlift run` starts it");
    }
}
