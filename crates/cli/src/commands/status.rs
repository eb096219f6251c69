//! `status`: where each table and model is.

use starlift::status::{RelationStatus, Status};
use starlift::telemetry::one_line;
use starlift_core::Micros;
use starlift_core::manifest::Proof;

use crate::args::Inspect;
use crate::failure::{Ended, Exit};
use crate::shell::Shell;
use crate::style::Style;
use crate::table::{Align, Table};
use crate::{duration, stdout};
use starlift::{count, size};

/// Shows where everything is.
pub(crate) async fn run(shell: &Shell, args: &Inspect) -> Ended {
    let context = shell.context(args.places.overrides(), None).await?;
    shell.bars.wait_for("looking");
    let status = starlift::status::status(&context).await?;
    shell.bars.clear();
    if args.print.json {
        stdout::json(&status)?;
    } else {
        stdout::print(&text(shell.out, &status))?;
    }
    Ok(Exit::Done)
}

fn text(style: Style, status: &Status) -> String {
    let mut text = format!("{}\n", style.bold(&one_line(&status.pipeline)));
    if status.ingest_seq.is_none() {
        text.push_str("  nothing was ingested yet; `starlift run` starts it\n");
        return text;
    }
    let at = |seq: Option<u64>| seq.map_or("none yet".to_string(), |seq| format!("manifest {seq}"));
    text.push_str(&format!("  lake       {}\n", at(status.ingest_seq)));
    let covered = status.covered_seq.map(|seq| format!(", covers the lake up to {seq}")).unwrap_or_default();
    text.push_str(&format!("  star       {}{covered}\n", at(status.star_seq)));
    let loaded = status.loaded_seq.map(|seq| format!("holds the star up to {seq}"));
    let unknown = if status.loaded_known { "nothing loaded yet" } else { "unknown" };
    text.push_str(&format!("  warehouse  {}\n", loaded.unwrap_or_else(|| unknown.to_string())));
    for (title, relations) in [("table", &status.tables), ("model", &status.models)] {
        if !relations.is_empty() {
            text.push_str(&format!("\n{}", listed(style, title, relations)));
        }
    }
    text.push('\n');
    for note in &status.notes {
        text.push_str(&format!("{} {}\n", style.alert(), one_line(note)));
    }
    for pending in &status.pending {
        text.push_str(&format!("{} pending: {}\n", style.alert(), one_line(pending)));
    }
    if status.pending.is_empty() && status.notes.is_empty() {
        text.push_str(&format!("{} everything is through\n", style.tick()));
    }
    text
}

fn listed(style: Style, title: &'static str, relations: &[RelationStatus]) -> String {
    let mut table = Table::new([
        (title, Align::Left),
        (if title == "table" { "capture" } else { "kind" }, Align::Left),
        ("rows", Align::Right),
        ("aside", Align::Right),
        ("files", Align::Right),
        ("size", Align::Right),
        ("changed in", Align::Right),
        ("proved by", Align::Left),
        ("as of", Align::Left),
        ("age", Align::Right),
        ("last pass", Align::Left),
        ("next pass", Align::Left),
        ("why", Align::Left),
        ("next", Align::Left),
    ]);
    for relation in relations {
        let next = if title == "table" { "waits for transform" } else { "waits for load" };
        table.row([
            relation.name.clone(),
            relation.mode.clone(),
            count::of(relation.rows),
            if relation.refused == 0 { String::new() } else { count::of(relation.refused) },
            count::or_dash(relation.files),
            size::or_dash(relation.bytes),
            count::or_dash(relation.last_change),
            relation.proof.map(proved_by).unwrap_or_default().to_string(),
            // Whole seconds are enough for people; --json has all.
            relation.as_of.map(moment).unwrap_or_default(),
            relation.age_seconds.map(duration::of_seconds).unwrap_or_default(),
            relation.passes.as_ref().map(|passes| moment(passes.last)).unwrap_or_default(),
            relation.passes.as_ref().map(|passes| due(passes.due_in)).unwrap_or_default(),
            relation.passes.as_ref().map(|passes| passes.because.clone()).unwrap_or_default(),
            if relation.pending { next.to_string() } else { String::new() },
        ]);
    }
    table.render(style, "  ")
}

/// A time for people: whole seconds, in UTC.
pub(super) fn moment(at: Micros) -> String {
    at.to_datetime().format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn due(runs: u64) -> String {
    if runs == 0 { "next run".into() } else { format!("after {}", count::with(runs, "run")) }
}

/// How the last run showed that the lake holds what the source counted.
fn proved_by(proof: Proof) -> &'static str {
    match proof {
        Proof { reconciled: true, .. } if proof.agrees() => "keys",
        _ if proof.agrees() => "count",
        _ => "nothing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use starlift::status::PassStatus;

    fn status() -> Status {
        let table = RelationStatus {
            name: "payment".into(),
            mode: "xid".into(),
            rows: 1_200,
            as_of: Some(Micros(1_732_102_500_000_001)),
            age_seconds: Some(200),
            refused: 0,
            last_change: 12,
            files: 3,
            bytes: 20_480,
            pending: true,
            passes: None,
            proof: Some(Proof { counted: 1_200, known: 1_200, reconciled: false }),
        };
        Status {
            pipeline: "totesys".into(),
            ingest_seq: Some(12),
            star_seq: Some(9),
            covered_seq: Some(11),
            loaded_seq: Some(9),
            loaded_known: true,
            pending: vec!["transform: ingest manifest 12".into()],
            tables: vec![table],
            models: vec![],
            notes: vec![],
        }
    }

    #[test]
    fn status_shows_what_waits_for_what() {
        assert_eq!(
            text(Style::PLAIN, &status()),
            "totesys\n\
             \x20 lake       manifest 12\n\
             \x20 star       manifest 9, covers the lake up to 11\n\
             \x20 warehouse  holds the star up to 9\n\
             \n\
             \x20 table    capture   rows  files    size  changed in  proved by  as of                           age  next\n\
             \x20 payment  xid      1,200      3  20 KiB          12  count      2024-11-20 11:35:00 UTC  3 min 20 s  waits for transform\n\
             \n\
             ! pending: transform: ingest manifest 12\n"
        );
    }

    #[test]
    fn a_table_that_follows_its_stamps_shows_its_passes() {
        let mut status = status();
        status.tables[0].passes = Some(PassStatus {
            because: "2048 MiB or larger; indexed by `last_updated`".into(),
            last: Micros(1_732_102_500_000_001),
            last_seq: 10,
            due_in: 9,
            safe: None,
        });
        let text = text(Style::PLAIN, &status);
        assert!(text.contains("last pass                next pass     why"), "{text}");
        let passes =
            "2024-11-20 11:35:00 UTC  after 9 runs  2048 MiB or larger; indexed by `last_updated`  waits for transform";
        assert!(text.contains(passes), "{text}");
    }

    #[test]
    fn a_warehouse_that_is_away_is_not_said_to_be_empty() {
        let notes = vec!["the warehouse was not asked".to_string()];
        let away = Status { loaded_seq: None, loaded_known: false, notes, ..status() };
        assert!(text(Style::PLAIN, &away).contains("  warehouse  unknown\n"));
        // What else is not known says nothing about it.
        let notes = vec!["what transform would do is not known".to_string()];
        let asked = Status { loaded_seq: None, notes, ..status() };
        assert!(text(Style::PLAIN, &asked).contains("  warehouse  nothing loaded yet\n"));
    }
}
