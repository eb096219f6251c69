//! The card at the end of a run: each stage, and each table or model that it did something with.

use starlift::telemetry::one_line;
use starlift::{Outcome, RelationReport, RunReport, StageReport};

use crate::duration;
use crate::style::Style;
use crate::table::{Align, Table};
use starlift::{count, size};

/// More quiet tables than this are counted and not named.
const NAMES_SHOWN: usize = 4;

/// The card of a run, ready to print.
pub(super) fn card(style: Style, pipeline: &str, report: &RunReport) -> String {
    let mut text =
        format!("{} {}\n", style.bold(&one_line(pipeline)), style.dim(&format!("run {}", one_line(&report.run_id))));
    for stage in &report.stages {
        text.push_str(&format!("\n{}", section(style, stage)));
    }
    text.push_str(&format!("\n{}\n", last_line(style, report)));
    text
}

fn section(style: Style, stage: &StageReport) -> String {
    let mut text = format!(
        "{} {}{}\n",
        style.bold(&format!("{:<9}", stage.stage)),
        outcome(style, stage),
        style.dim(&format!(", {}", duration::of_millis(stage.millis)))
    );
    let (changed, quiet): (Vec<_>, Vec<_>) = stage.relations.iter().partition(|r| r.has_news());
    let mut table = Table::new([
        (if stage.stage == "ingest" { "table" } else { "model" }, Align::Left),
        ("how", Align::Left),
        ("read", Align::Right),
        ("written", Align::Right),
        (if stage.stage == "ingest" { "deleted" } else { "retracted" }, Align::Right),
        ("set aside", Align::Right),
        ("files", Align::Right),
        ("size", Align::Right),
        ("time", Align::Right),
        ("why", Align::Left),
    ]);
    for relation in changed {
        table.row(cells(stage, relation));
    }
    text.push_str(&table.render(style, "  "));
    if !quiet.is_empty() {
        text.push_str(&format!("  {}\n", style.dim(&nothing_new(stage, &quiet))));
    }
    for warning in &stage.warnings {
        text.push_str(&format!("  {} {}\n", style.alert(), one_line(warning)));
    }
    text
}

/// Few names are said, many are counted.
fn nothing_new(stage: &StageReport, quiet: &[&RelationReport]) -> String {
    let noun = if stage.stage == "ingest" { "table" } else { "model" };
    match quiet.len() {
        0..=NAMES_SHOWN => {
            let names: Vec<String> = quiet.iter().map(|r| one_line(&r.name)).collect();
            format!("nothing new: {}", names.join(", "))
        }
        all if all == stage.relations.len() => format!("nothing new in all {all} {noun}s"),
        others => format!("nothing new in {others} other {noun}s"),
    }
}

fn cells(stage: &StageReport, relation: &RelationReport) -> [String; 10] {
    // Load writes rows and no files, so these columns stay empty and are left out.
    let of_files = |shown: String| if stage.stage == "load" { String::new() } else { shown };
    [
        relation.name.clone(),
        relation.mode.clone(),
        count::or_dash(relation.rows_read),
        count::or_dash(relation.rows_written),
        count::or_dash(relation.rows_deleted),
        if relation.rows_refused == 0 { String::new() } else { count::of(relation.rows_refused) },
        of_files(count::or_dash(relation.files)),
        of_files(size::or_dash(relation.bytes_written)),
        if relation.millis == 0 { String::new() } else { duration::of_millis(relation.millis) },
        relation.reason.clone().unwrap_or_default(),
    ]
}

fn outcome(style: Style, stage: &StageReport) -> String {
    let manifest = stage.seq.map(|seq| format!(" manifest {seq}")).unwrap_or_default();
    match stage.outcome {
        Outcome::Committed if stage.stage == "load" => style.good(&format!("loaded star{manifest}")),
        Outcome::Committed => style.good(&format!("committed{manifest}")),
        Outcome::Nothing => "nothing new".to_string(),
        Outcome::Superseded => style.warning("superseded: another run committed first"),
        Outcome::Replayed => format!("done before, as{manifest}"),
    }
}

fn last_line(style: Style, report: &RunReport) -> String {
    let millis = report.stages.iter().map(|s| s.millis).sum();
    let sum = |stage: &str| {
        let relations = report.stages.iter().filter(|s| s.stage == stage).flat_map(|s| &s.relations);
        relations.fold((0, 0), |(written, deleted), r| (written + r.rows_written, deleted + r.rows_deleted))
    };
    if !report.failures.is_empty() {
        let stages: Vec<_> = report.failures.iter().map(|f| f.stage).collect();
        let stages = match stages.as_slice() {
            [first, second, third] => format!("{first}, {second} and {third}"),
            stages => stages.join(" and "),
        };
        return style.bad(&format!("{stages} failed"));
    }
    let aside: u64 = report.stages.iter().flat_map(|s| &s.relations).map(|r| r.rows_refused).sum();
    let aside = if aside == 0 { String::new() } else { format!(", {} set aside", count::with(aside, "row")) };
    let (written, deleted) = sum("ingest");
    let (loaded, retracted) = sum("load");
    if written + deleted + loaded + retracted == 0 {
        let is_superseded = report.stages.iter().any(|stage| stage.outcome == Outcome::Superseded);
        let what = if is_superseded { "superseded: another run committed first" } else { "nothing new" };
        return format!("{} {what}{aside}, in {}", style.tick(), duration::of_millis(millis));
    }
    format!(
        "{} {} and {} from the source, {} and {} into the warehouse{aside}, in {}",
        style.tick(),
        count::with(written, "row"),
        count::with(deleted, "delete"),
        count::with(loaded, "row"),
        count::with(retracted, "retraction"),
        duration::of_millis(millis)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use starlift::StageFailure;
    use starlift_core::{Error, Micros};

    fn relation(name: &str, rows: u64) -> RelationReport {
        RelationReport {
            name: name.into(),
            mode: "window".into(),
            rows_read: rows + 2,
            rows_written: rows,
            files: u64::from(rows > 0),
            bytes_written: rows * 100,
            rows: 40,
            millis: 12,
            ..RelationReport::default()
        }
    }

    fn report() -> RunReport {
        let ingest = StageReport {
            outcome: Outcome::Committed,
            seq: Some(12),
            relations: vec![relation("address", 0), relation("payment", 1_200)],
            ..StageReport::nothing("ingest", "r1", Micros(0), Micros(85_000))
        };
        let load = StageReport::nothing("load", "r1", Micros(0), Micros(3_000));
        RunReport { run_id: "r1".into(), stages: vec![ingest, load], failures: Vec::new() }
    }

    #[test]
    fn the_card_shows_what_changed_and_names_what_did_not() {
        assert_eq!(
            card(Style::PLAIN, "totesys", &report()),
            "totesys run r1\n\
             \n\
             ingest    committed manifest 12, 85 ms\n\
             \x20 table    how      read  written  deleted  files     size   time\n\
             \x20 payment  window  1,202    1,200        -      1  117 KiB  12 ms\n\
             \x20 nothing new: address\n\
             \n\
             load      nothing new, 3 ms\n\
             \n\
             + 1,200 rows and 0 deletes from the source, 0 rows and 0 retractions into the warehouse, in 88 ms\n"
        );
    }

    #[test]
    fn a_run_without_news_is_short() {
        let names = ["a", "b", "c", "d", "e"];
        let ingest = StageReport {
            outcome: Outcome::Committed,
            seq: Some(13),
            relations: names.map(|name| relation(name, 0)).to_vec(),
            ..StageReport::nothing("ingest", "r1", Micros(0), Micros(85_000))
        };
        let report = RunReport { run_id: "r1".into(), stages: vec![ingest], failures: Vec::new() };
        assert_eq!(
            card(Style::PLAIN, "totesys", &report),
            "totesys run r1\n\
             \n\
             ingest    committed manifest 13, 85 ms\n\
             \x20 nothing new in all 5 tables\n\
             \n\
             + nothing new, in 85 ms\n"
        );
    }

    #[test]
    fn a_run_that_another_one_overtook_does_not_say_that_there_was_nothing() {
        let mut report = report();
        report.stages[0].outcome = Outcome::Superseded;
        report.stages[0].relations.clear();
        let shown = card(Style::PLAIN, "totesys", &report);
        assert!(shown.ends_with("+ superseded: another run committed first, in 88 ms\n"), "{shown}");
    }

    #[test]
    fn the_last_line_counts_rows_that_were_set_aside() {
        let mut report = report();
        report.stages[0].relations[1].rows_refused = 1;
        let shown = card(Style::PLAIN, "totesys", &report);
        assert!(shown.ends_with("into the warehouse, 1 row set aside, in 88 ms\n"), "{shown}");
    }

    #[test]
    fn three_stages_that_failed_are_listed_as_in_a_sentence() {
        let failed = |stage| StageFailure { stage, error: Error::unavailable("away") };
        let report = RunReport { failures: ["ingest", "transform", "load"].map(failed).into(), ..report() };
        assert!(card(Style::PLAIN, "totesys", &report).ends_with("\ningest, transform and load failed\n"));
    }

    #[test]
    fn a_run_with_a_failed_stage_does_not_end_in_a_tick() {
        let failures = vec![StageFailure { stage: "ingest", error: Error::unavailable("the source is away") }];
        let report = RunReport { failures, ..report() };
        assert!(card(Style::PLAIN, "totesys", &report).ends_with("\ningest failed\n"));
    }
}
