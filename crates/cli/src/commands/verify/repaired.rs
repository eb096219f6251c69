//! What `verify --repair` found and did, for people.

use starlift::RelationReport;
use starlift::count;
use starlift::telemetry::one_line;
use starlift::verify::{Comparison, Repair, Verdict};

use crate::style::Style;
use crate::table::{Align, Table};

/// What was wrong and what was done about it, above the comparison that followed.
pub(super) fn text(style: Style, repair: &Repair) -> String {
    if repair.found.is_empty() && repair.notes.is_empty() {
        return format!("{} nothing to repair\n\n", style.tick());
    }
    let mut text = format!("{}\n", style.bold("found"));
    for comparison in &repair.found {
        text.push_str(&format!("  {} {}\n", style.cross(), one_line(&finding(comparison))));
    }
    for note in &repair.notes {
        text.push_str(&format!("  {} {}\n", style.alert(), one_line(note)));
    }
    let mut table = Table::new([
        ("what", Align::Left),
        ("how", Align::Left),
        ("read", Align::Right),
        ("written", Align::Right),
        ("deleted", Align::Right),
    ]);
    let kinds = [
        ("read in full", &repair.tables),
        ("mended in the warehouse", &repair.warehouse),
        ("evaluated again", &repair.models),
    ];
    for (how, reports) in kinds {
        for report in reports {
            table.row(cells(how, report));
        }
    }
    let done = table.render(style, "  ");
    if !done.is_empty() {
        text.push_str(&format!("\n{}\n{done}", style.bold("repaired")));
    }
    text.push('\n');
    text
}

fn finding(comparison: &Comparison) -> String {
    let (left, right) = comparison.kind.sides();
    let what = match comparison.verdict {
        Verdict::Missing => comparison.notes.first().cloned().unwrap_or_else(|| "missing on one side".into()),
        _ => {
            let examples: Vec<String> = comparison.examples.iter().map(|e| format!("{} {}", e.key, e.what)).collect();
            let more = comparison.differences.saturating_sub(comparison.examples.len() as u64);
            let more = if more > 0 { format!(" and {} more", count::of(more)) } else { String::new() };
            format!("{}{more}", examples.join("; "))
        }
    };
    format!("{} in {left} and {right}: {what}", comparison.name)
}

fn cells(how: &str, report: &RelationReport) -> [String; 5] {
    [
        report.name.clone(),
        how.to_string(),
        count::or_dash(report.rows_read),
        count::or_dash(report.rows_written),
        count::or_dash(report.rows_deleted),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use starlift::verify::{ComparisonKind, Example};

    fn repair() -> Repair {
        let found = Comparison {
            kind: ComparisonKind::StarWarehouse,
            name: "dim_shop".into(),
            columns: 3,
            verdict: Verdict::Differs,
            rows_left: 9,
            rows_right: 9,
            pending: 0,
            differences: 3,
            examples: vec![Example { key: "shop_id=5".into(), what: "differs in column city".into() }],
            not_compared: vec![],
            notes: vec![],
            millis: 1,
        };
        let mended = RelationReport {
            name: "dim_shop".into(),
            mode: "mend".into(),
            rows_read: 9,
            rows_written: 3,
            ..RelationReport::default()
        };
        Repair { found: vec![found], tables: vec![], models: vec![], warehouse: vec![mended], notes: vec![] }
    }

    #[test]
    fn what_was_wrong_and_what_was_done_is_told() {
        assert_eq!(
            text(Style::PLAIN, &repair()),
            "found\n\
             \x20 x dim_shop in star and warehouse: shop_id=5 differs in column city and 2 more\n\
             \n\
             repaired\n\
             \x20 what      how                      read  written  deleted\n\
             \x20 dim_shop  mended in the warehouse     9        3        -\n\
             \n"
        );
    }

    #[test]
    fn where_nothing_differs_there_is_nothing_to_repair() {
        let nothing = Repair { found: vec![], warehouse: vec![], ..repair() };
        assert_eq!(text(Style::PLAIN, &nothing), "+ nothing to repair\n\n");
    }
}
