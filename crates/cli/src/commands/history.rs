//! `history`: the runs that committed.

use serde::Serialize;
use starlift::history::HistoryEntry;
use starlift::telemetry::one_line;

use crate::args::History;
use crate::failure::{Ended, Exit};
use crate::shell::Shell;
use crate::style::Style;
use crate::table::{Align, Table};
use crate::{duration, stdout};
use starlift::{count, size};

#[derive(Serialize)]
struct Document<'a> {
    runs: &'a [HistoryEntry],
    notes: &'a [String],
}

/// Lists the newest runs of each stage.
pub(crate) async fn run(shell: &Shell, args: &History) -> Ended {
    let context = shell.context(args.places.overrides(), None).await?;
    shell.bars.wait_for("looking");
    let (runs, notes) = starlift::history::history(&context, args.limit as usize).await?;
    shell.bars.clear();
    if args.print.json {
        stdout::json(&Document { runs: &runs, notes: &notes })?;
    } else {
        stdout::print(&text(shell.out, &runs, &notes))?;
    }
    Ok(Exit::Done)
}

/// The beginning of an id that was made up is enough for people; one that was given is shown whole.
fn short(run_id: &str) -> &str {
    let is_made_up = run_id.len() == 36 && run_id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    if is_made_up { run_id.get(..8).unwrap_or(run_id) } else { run_id }
}

fn text(style: Style, runs: &[HistoryEntry], notes: &[String]) -> String {
    let mut table = Table::new([
        ("started (UTC)", Align::Left),
        ("stage", Align::Left),
        ("manifest", Align::Right),
        ("changed", Align::Right),
        ("read", Align::Right),
        ("written", Align::Right),
        ("deleted", Align::Right),
        ("set aside", Align::Right),
        ("files", Align::Right),
        ("size", Align::Right),
        ("time", Align::Right),
        ("run", Align::Left),
    ]);
    for run in runs {
        let changed = run.relations.iter().filter(|r| r.has_news()).count();
        let aside: u64 = run.relations.iter().map(|r| r.rows_refused).sum();
        table.row([
            run.started.to_datetime().format("%Y-%m-%d %H:%M:%S").to_string(),
            if run.stage == "compact" { format!("compact {}", run.place) } else { run.stage.to_string() },
            count::of(run.seq),
            count::or_dash(changed as u64),
            count::or_dash(run.rows_read),
            count::or_dash(run.rows_written),
            count::or_dash(run.rows_deleted),
            if aside == 0 { String::new() } else { count::of(aside) },
            count::or_dash(run.files),
            size::or_dash(run.bytes_written),
            duration::of_millis(run.millis),
            short(&run.run_id).to_string(),
        ]);
    }
    let mut text = table.render(style, "");
    if runs.is_empty() {
        text.push_str("nothing has run yet; `starlift run` starts it\n");
    }
    for note in notes {
        text.push_str(&format!("{} {}\n", style.alert(), one_line(note)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use starlift::RelationReport;
    use starlift_core::Micros;

    fn entry() -> HistoryEntry {
        HistoryEntry {
            stage: "ingest",
            place: "lake",
            seq: 12,
            run_id: "r1".into(),
            started: Micros(1_732_102_500_000_001),
            millis: 850,
            rows_read: 1_200,
            bytes_read: 1,
            rows_written: 1_000,
            rows_deleted: 0,
            files: 1,
            bytes_written: 2_048,
            relations: vec![],
        }
    }

    #[test]
    fn a_run_is_one_line() {
        assert_eq!(
            text(Style::PLAIN, &[entry()], &[]),
            "started (UTC)        stage   manifest  changed   read  written  deleted  files     size    time  run\n\
             2024-11-20 11:35:00  ingest        12        -  1,200    1,000        -      1  2.0 KiB  850 ms  r1\n"
        );
    }

    #[test]
    fn a_run_that_only_set_rows_aside_changed_something_and_says_how_many() {
        let relations = vec![RelationReport { rows_refused: 2, files: 1, ..RelationReport::default() }];
        let shown = text(Style::PLAIN, &[HistoryEntry { relations, ..entry() }], &[]);
        assert!(shown.contains("deleted  set aside  files"), "{shown}");
        assert!(shown.contains("ingest        12        1  1,200    1,000        -          2      1"), "{shown}");
    }

    #[test]
    fn a_compaction_says_whose_manifest_it_made() {
        let compaction = HistoryEntry { stage: "compact", place: "star", ..entry() };
        assert!(text(Style::PLAIN, &[compaction], &[]).contains("  compact star        12 "));
    }

    #[test]
    fn only_an_id_that_was_made_up_is_cut() {
        assert_eq!(short("88a7d6d6-b9eb-49e1-89fe-5caa40a9f880"), "88a7d6d6");
        assert_eq!(short("arn:aws:states:x"), "arn:aws:states:x");
    }

    #[test]
    fn an_empty_history_says_how_to_begin() {
        assert!(text(Style::PLAIN, &[], &[]).contains("`starlift run`"));
    }
}
