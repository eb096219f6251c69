//! `run --every`: runs on a fixed beat.
//!
//! A beat that comes while a run is still going is skipped, so that runs never overlap or queue. A run that fails raises the
//! alarm and the loop goes on, whatever the kind of the error: a network comes back by itself, and a setting or a grant may
//! be mended while the loop runs (the project is read anew for each run). SIGTERM lets a run that is going end if it does so
//! within [`PATIENCE`], drops it otherwise, and exits 0: that is how services are stopped. SIGINT drops it at once.

use std::time::Duration;

use starlift::Context;
use starlift::context::now;
use tokio::time::Instant;

use super::run::show;
use super::status::moment;
use crate::args::Run;
use crate::failure::{Ended, Exit, Failure};
use crate::shell::Shell;
use crate::signals::Signals;
use crate::stdout;

/// How long SIGTERM waits for a run. Service managers kill after ten seconds (Docker, ECS) or later.
const PATIENCE: Duration = Duration::from_secs(8);

/// Runs until a signal comes. Errors: Config where the project cannot be read at the start.
pub(crate) async fn run(shell: &Shell, args: &Run, signals: &mut Signals) -> Ended {
    let every = args.every.unwrap_or(Duration::from_secs(300));
    // A loop that cannot start should say so now and not in its log.
    shell.context(args.places.overrides(), None).await?;
    let mut beat = Instant::now();
    loop {
        tokio::select! {
            biased;
            exit = signals.next() => return Ok(stopped(exit)),
            () = tokio::time::sleep_until(beat) => {}
        }
        let going = one(shell, args);
        tokio::pin!(going);
        tokio::select! {
            biased;
            exit = signals.next() => {
                if exit == Exit::Terminated {
                    tracing::info!("SIGTERM: the run that is going may take {} more seconds", PATIENCE.as_secs());
                    tokio::select! {
                        _ = signals.next() => {}
                        done = tokio::time::timeout(PATIENCE, &mut going) => {
                            if done.is_err() {
                                tracing::warn!("the run was dropped; the next one goes on from what is committed");
                            }
                        }
                    }
                }
                return Ok(stopped(exit));
            }
            () = &mut going => {}
        }
        let (next, skipped) = next_beat(beat, Instant::now(), every);
        if skipped > 0 {
            tracing::warn!(skipped, "the run took longer than the beat");
        }
        beat = next;
    }
}

/// A loop that is told to end has done its work.
fn stopped(exit: Exit) -> Exit {
    if exit == Exit::Terminated { Exit::Done } else { exit }
}

/// One run. Whatever it ends with, the loop goes on.
async fn one(shell: &Shell, args: &Run) {
    let context: Context = match shell.context(args.places.overrides(), None).await {
        Ok(context) => context.with_deadline(args.deadline),
        Err(error) => {
            shell.alarm("run", "", &error);
            return;
        }
    };
    let began = now();
    let report = starlift::run(&context).await;
    // People read one card after another: each has its time, and they stand apart.
    let is_read = !args.print.json;
    shell.bars.clear();
    let head = if is_read { stdout::print(&format!("{}\n", moment(began))) } else { Ok(()) };
    let shown = head.and_then(|()| show(shell, args, &context, &report));
    let shown = shown.and_then(|()| if is_read { stdout::print("\n") } else { Ok(()) });
    if let Err(Failure::Command(error) | Failure::Stage { error, .. }) = shown {
        tracing::error!("{error}");
    }
    for failure in &report.failures {
        shell.alarm(failure.stage, &report.run_id, &failure.error);
    }
}

/// The first beat after `now`, and how many between were skipped.
fn next_beat(last: Instant, now: Instant, every: Duration) -> (Instant, u64) {
    let elapsed = now.saturating_duration_since(last).as_nanos();
    // A beat is a second or longer; the divisor is never 0.
    let passed = u64::try_from(elapsed / every.as_nanos().max(1)).unwrap_or(u64::MAX);
    let ahead = u32::try_from(passed.saturating_add(1)).unwrap_or(u32::MAX);
    (last + every.saturating_mul(ahead), passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beat_is_fixed_and_beats_during_a_run_are_skipped() {
        let start = Instant::now();
        let every = Duration::from_secs(10);
        let after = |seconds| next_beat(start, start + Duration::from_secs(seconds), every);
        assert_eq!(after(3), (start + Duration::from_secs(10), 0));
        assert_eq!(after(35), (start + Duration::from_secs(40), 3));
    }
}
