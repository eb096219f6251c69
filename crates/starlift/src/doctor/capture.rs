//! How tables are captured, why, and what that costs the source.

use starlift_core::capture::{CaptureMode, Choice, DEFAULT_CURSOR, Horizon, PassReason, Turn, decide_turn};
use starlift_core::manifest::Manifest;
use starlift_core::{Micros, succession};
use starlift_lake::Head;
use starlift_postgres::catalog::SourceTable;
use starlift_postgres::ident::{quote_ident, quote_qualified};

use super::{Check, Verdict, ok};
use crate::context::Context;
use crate::ingest::Seen;
use crate::scans::{RUNS_A_DAY, Scans};
use crate::{count, size};

/// The checks of capture; none where the settings cannot be followed, which another check says.
pub(super) fn checks(ctx: &Context, seen: &Seen, lake: Option<&Head>) -> Vec<Check> {
    let Ok(choices) = &seen.choices else { return Vec::new() };
    let tables: Vec<(&SourceTable, &Choice)> =
        seen.tables().filter_map(|table| Some((table, choices.get(&table.name)?))).collect();
    let mut checks: Vec<Check> = tables
        .iter()
        .filter(|(_, choice)| choice.xid_pass_every.is_some())
        .map(|t| large(ctx, seen, lake, *t))
        .collect();
    if tables.iter().any(|(_, choice)| choice.cursor.is_some()) {
        // Before the first run that follows stamps, nothing is held back.
        let follows = lake.and_then(Head::manifest).and_then(Manifest::source).is_some_and(|s| s.horizon.is_some());
        let held = seen.source.horizon.as_ref().filter(|_| follows).and_then(held);
        let hidden = (!seen.sees_activity).then(|| HIDDEN.to_string());
        let details: Vec<String> = held.into_iter().chain(hidden).collect();
        if !details.is_empty() {
            checks.push(Check {
                name: "source: transactions".into(),
                verdict: Verdict::Warn,
                detail: details.join("; "),
                mend: (!seen.sees_activity)
                    .then(|| format!("grant pg_read_all_stats to {};", quote_ident(seen.selection.role()))),
            });
        }
    }
    checks.push(scan(seen, &tables));
    checks
}

/// What cursors cannot know without the right to see it.
const HIDDEN: &str = "since when sessions of other roles are at work is found from looks that follow one another: one that is busy at every \
                      look holds the safe time back, and one that each list of a look meets between two transactions of one \
                      message counts as idle, so that rows of that message may wait for the next xid pass";

/// How far the safe time may be behind without a word, in minutes.
const HELD_MINUTES: i64 = 60;

/// How far the safe time is behind, where that costs something: every run reads what was stamped since.
fn held(horizon: &Horizon) -> Option<String> {
    const WHY: &str = "a transaction is open for that long, or a session was busy at every look";
    let Some(safe) = horizon.safe else {
        return Some(format!("no safe time is known, so that every run makes xid passes: {WHY}"));
    };
    let minutes = horizon.at.0.saturating_sub(safe.0) / 60_000_000;
    (minutes >= HELD_MINUTES).then(|| {
        let minutes = count::with(minutes.unsigned_abs(), "minute");
        format!("the safe time is {minutes} behind, and every run reads what was stamped since: {WHY}")
    })
}

/// A table that not every run reads completely.
fn large(ctx: &Context, seen: &Seen, lake: Option<&Head>, (table, choice): (&SourceTable, &Choice)) -> Check {
    let every = choice.xid_pass_every.unwrap_or(1);
    let newest = lake.and_then(Head::manifest);
    let before = newest.and_then(|m| m.relations.get(&table.name));
    let scans = Scans::of(table, choice, seen.stamped.get(&table.name).copied());
    let between = match &choice.cursor {
        Some(column) => format!("by its cursor `{column}` scans about {}", size::of(scans.between)),
        None => "scans nothing, and sees nothing of it".into(),
    };
    let last = before.and_then(|b| b.capture.as_ref()?.passes.as_ref()).map(|passes| {
        let seq = succession::next_seq(newest);
        let turn = decide_turn(choice, &table.schema, table.names.as_deref(), before, &seen.source, seq, None);
        let next = match turn {
            Turn::Complete(_, why) => {
                format!("with the next run ({})", why.map_or("it reads all rows", PassReason::text))
            }
            Turn::Cursor(_) | Turn::Wait => format!("after {}", count::with(passes.due().saturating_sub(seq), "run")),
        };
        format!("; the last was at {}, the next comes {next}", passes_at(passes.at))
    });
    let detail = format!(
        "{} ({}); an xid pass by every {} scans {}, a run between {between}{}",
        choice.mode.name(),
        choice.why,
        ordinal(every),
        size::of(scans.pass),
        last.unwrap_or_default()
    );
    let wants_index = choice.mode == CaptureMode::Xid && !seen.source.in_recovery;
    let column = ctx.config.capture(&table.name).cursor.unwrap_or_else(|| DEFAULT_CURSOR.into());
    let has_column = table.schema.column(&column).is_some();
    let mend = (wants_index && has_column && !table.indexed.contains(&column)).then(|| {
        let name = quote_qualified(&ctx.config.source.database.schema, &table.name);
        format!("create index concurrently on {name} ({});", quote_ident(&column))
    });
    let verdict = if mend.is_some() { Verdict::Warn } else { Verdict::Ok };
    Check { name: format!("source: {}", table.name), verdict, detail, mend }
}

/// What runs scan of all tables together.
fn scan(seen: &Seen, tables: &[(&SourceTable, &Choice)]) -> Check {
    let of = |(table, choice): &(&SourceTable, &Choice)| {
        let scans = Scans::of(table, choice, seen.stamped.get(&table.name).copied());
        let ordinary = if choice.xid_pass_every.is_some() { scans.between } else { scans.pass };
        (ordinary, scans.pass, scans.a_day())
    };
    let (run, all, day) = tables.iter().map(of).fold((0u64, 0u64, 0u64), |sum, one| {
        (sum.0.saturating_add(one.0), sum.1.saturating_add(one.1), sum.2.saturating_add(one.2))
    });
    let passes = match run == all {
        true => String::new(),
        false => format!(", and {} with an xid pass of every table", size::of(all)),
    };
    ok("source: scan", format!("a run scans {}{passes}; {RUNS_A_DAY} runs a day scan {}", size::of(run), size::of(day)))
}

fn passes_at(at: Micros) -> String {
    at.to_datetime().format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// `run`, `2nd run`, `12th run`.
fn ordinal(every: u32) -> String {
    let ending = match (every % 10, every % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    if every == 1 { "run".into() } else { format!("{every}{ending} run") }
}

#[cfg(test)]
mod tests {
    use starlift_core::capture::Look;

    use super::*;

    #[test]
    fn a_safe_time_that_is_far_behind_is_told() {
        let look = |minutes: i64, began: i64| Look {
            at: Micros(minutes * 60_000_000),
            server_started: Micros(0),
            began: [("3".to_string(), Micros(began * 60_000_000))].into(),
            unnamed: Default::default(),
            prepared: vec![],
        };
        let told = |minutes, began| held(&Horizon::next(None, &look(minutes, began), 1)).unwrap_or_default();
        assert_eq!(told(100, 99), "");
        assert_eq!(told(100, 41), "");
        assert!(told(100, 40).starts_with("the safe time is 60 minutes behind"), "{}", told(100, 40));
        let hidden = Look { unnamed: [("4".to_string(), "4/1".to_string())].into(), ..look(100, 99) };
        let told = held(&Horizon::next(None, &hidden, 1)).unwrap_or_default();
        assert!(told.starts_with("no safe time is known"), "{told}");
    }

    #[test]
    fn runs_are_counted_as_people_count_them() {
        let shown = [1, 2, 3, 12, 21, 112].map(ordinal);
        assert_eq!(shown, ["run", "2nd run", "3rd run", "12th run", "21st run", "112th run"]);
    }
}
