//! `lake compact`: fewer files, and an index of keys. `lake vacuum`: what dead and superseded runs left.

use starlift::telemetry::one_line;
use starlift::upkeep::{CompactReport, Compacted};
use starlift::vacuum::{VacuumReport, VacuumRequest, Vacuumed};
use starlift::{count, size};

use crate::args::{Compact, Lake, Vacuum};
use crate::failure::{Ended, Exit};
use crate::shell::Shell;
use crate::style::Style;
use crate::table::{Align, Table};
use crate::{duration, stdout};

/// Objects that are listed for people, of each place.
const LISTED: usize = 50;

/// Looks after lake and star.
pub(crate) async fn run(shell: &Shell, args: &Lake) -> Ended {
    match args {
        Lake::Compact(args) => compact(shell, args).await,
        Lake::Vacuum(args) => vacuum(shell, args).await,
    }
}

async fn compact(shell: &Shell, args: &Compact) -> Ended {
    let context = shell.context(args.places.overrides(), None).await?;
    shell.bars.wait_for("merging");
    let report = starlift::upkeep::compact(&context).await?;
    shell.bars.clear();
    if args.print.json {
        stdout::json(&report)?;
    } else {
        stdout::print(&compacted(shell.out, &report))?;
    }
    Ok(Exit::Done)
}

fn compacted(style: Style, report: &CompactReport) -> String {
    report.places.iter().map(|place| of_place(style, place)).collect()
}

fn of_place(style: Style, place: &Compacted) -> String {
    let name = style.bold(place.name);
    let mut text = match place.seq {
        Some(seq) => format!("{} {name}: up to manifest {seq}, which changes nothing\n", style.tick()),
        None if place.left.is_empty() => return format!("{} {name}: nothing to merge or to index\n", style.tick()),
        None => String::new(),
    };
    let columns = [("name", Align::Left), ("files", Align::Right), ("size", Align::Right), ("indexed", Align::Right)];
    let mut table = Table::new(columns);
    for relation in &place.relations {
        table.row([
            one_line(&relation.name).to_string(),
            format!("{} -> {}", count::of(relation.files_before), count::of(relation.files)),
            format!("{} -> {}", size::of(relation.bytes_before), size::of(relation.bytes)),
            count::of(relation.indexed),
        ]);
    }
    if !place.relations.is_empty() {
        text.push_str(&table.render(style, "  "));
    }
    if !place.left.is_empty() {
        let left: Vec<_> = place.left.iter().map(|name| one_line(name).to_string()).collect();
        text.push_str(&format!(
            "{} {name}: other runs committed first each time; run `starlift lake compact` again for {}\n",
            style.alert(),
            left.join(", ")
        ));
    }
    text
}

async fn vacuum(shell: &Shell, args: &Vacuum) -> Ended {
    let context = shell.context(args.places.overrides(), None).await?;
    shell.bars.wait_for(if args.delete { "removing" } else { "looking" });
    let request = VacuumRequest { delete: args.delete, older_than: args.older_than };
    let report = starlift::vacuum::vacuum(&context, request).await?;
    shell.bars.clear();
    if args.print.json {
        stdout::json(&report)?;
    } else {
        stdout::print(&text(shell.out, &report))?;
    }
    Ok(Exit::Done)
}

fn text(style: Style, report: &VacuumReport) -> String {
    let mut text: String = report.places.iter().map(|place| listed(style, place)).collect();
    let garbage = || report.places.iter().flat_map(|place| &place.garbage);
    let (objects, bytes) = (garbage().count() as u64, garbage().map(|g| g.bytes).sum());
    let what = format!("{}, {}", count::with(objects, "object"), size::of(bytes));
    let age = duration::of_seconds(report.older_than_seconds);
    text.push_str(&match (objects, report.deleted) {
        (0, _) => format!("{} nothing older than {age} is left by dead or superseded runs\n", style.tick()),
        (_, true) => format!("{} removed {what}, left by dead or superseded runs\n", style.tick()),
        (_, false) => format!(
            "{} {what}, left by dead or superseded runs; `starlift lake vacuum --delete` removes them\n",
            style.alert()
        ),
    });
    text
}

fn listed(style: Style, place: &Vacuumed) -> String {
    let kept = &place.kept;
    let mut text = format!(
        "{}  {}, {} named by them",
        style.bold(place.name),
        count::with(place.manifests, "manifest"),
        count::with(kept.named.saturating_sub(place.manifests), "object")
    );
    for (objects, why) in [
        (kept.running, "newer than the newest manifest"),
        (kept.young, "garbage but not old enough"),
        (kept.foreign, "not starlift's"),
    ] {
        if objects > 0 {
            text.push_str(&format!(", {} {why}", count::of(objects)));
        }
    }
    text.push('\n');
    let mut table = Table::new([("garbage", Align::Left), ("size", Align::Right), ("object", Align::Left)]);
    for object in place.garbage.iter().take(LISTED) {
        table.row([object.kind.to_string(), size::of(object.bytes), one_line(&object.key).to_string()]);
    }
    text.push_str(&table.render(style, "  "));
    if let Some(more) = place.garbage.len().checked_sub(LISTED).filter(|more| *more > 0) {
        text.push_str(&format!("  and {} more; --json lists all\n", count::of(more as u64)));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use starlift::upkeep::CompactedRelation;
    use starlift::vacuum::{GarbageObject, Kept};

    fn report(deleted: bool, garbage: usize) -> VacuumReport {
        let object = |n: usize| GarbageObject { key: format!("_claims/{n}"), kind: "claim", bytes: 36 };
        let place = |name, garbage: usize| Vacuumed {
            name,
            url: format!("/srv/{name}"),
            manifests: 3,
            garbage: (0..garbage).map(object).collect(),
            kept: Kept { named: 12, running: 2, young: 0, foreign: 1 },
        };
        VacuumReport { deleted, older_than_seconds: 86_400, places: vec![place("lake", garbage), place("star", 0)] }
    }

    #[test]
    fn what_was_merged_is_said_for_each_place() {
        let relation = CompactedRelation {
            name: "payment".into(),
            files_before: 12,
            files: 2,
            bytes_before: 4_096,
            bytes: 2_048,
            indexed: 9_000,
        };
        let place = |name, seq, left: &[&str], relations| Compacted {
            name,
            url: String::new(),
            seq,
            superseded: !left.is_empty(),
            left: left.iter().map(|name| name.to_string()).collect(),
            relations,
        };
        let report = CompactReport {
            places: vec![place("lake", Some(7), &[], vec![relation.clone()]), place("star", None, &[], vec![])],
        };
        assert_eq!(
            compacted(Style::PLAIN, &report),
            "+ lake: up to manifest 7, which changes nothing\n\
             \x20 name       files                size  indexed\n\
             \x20 payment  12 -> 2  4.0 KiB -> 2.0 KiB    9,000\n\
             + star: nothing to merge or to index\n"
        );
        let late = of_place(Style::PLAIN, &place("star", None, &["fact_payment"], vec![]));
        let left = "! star: other runs committed first each time; run `starlift lake compact` again for fact_payment\n";
        assert_eq!(late, left);
        let some = of_place(Style::PLAIN, &place("star", Some(3), &["fact_payment"], vec![relation]));
        assert!(some.starts_with("+ star: up to manifest 3") && some.ends_with(left), "{some}");
    }

    #[test]
    fn what_would_be_removed_is_listed_with_the_command_that_removes_it() {
        assert_eq!(
            text(Style::PLAIN, &report(false, 2)),
            "lake  3 manifests, 9 objects named by them, 2 newer than the newest manifest, 1 not starlift's\n\
             \x20 garbage  size  object\n\
             \x20 claim    36 B  _claims/0\n\
             \x20 claim    36 B  _claims/1\n\
             \n\
             star  3 manifests, 9 objects named by them, 2 newer than the newest manifest, 1 not starlift's\n\
             \n\
             ! 2 objects, 72 B, left by dead or superseded runs; `starlift lake vacuum --delete` removes them\n"
        );
    }

    #[test]
    fn a_long_list_is_cut_and_what_is_done_is_said() {
        let removed = text(Style::PLAIN, &report(true, 60));
        assert!(removed.contains("  and 10 more; --json lists all\n"), "{removed}");
        assert!(removed.ends_with("+ removed 60 objects, 2.1 KiB, left by dead or superseded runs\n"), "{removed}");
        let clean = text(Style::PLAIN, &report(true, 0));
        assert!(clean.ends_with("+ nothing older than 1 d is left by dead or superseded runs\n"), "{clean}");
    }
}
