//! How far the stages are: a line per stage that moves, on a terminal only. Elsewhere the log says it.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use starlift::context::Progress;

use starlift::{count, size};

/// How often a line that waits turns its sign.
const TICK: Duration = Duration::from_millis(100);
/// More names would not fit on a line.
const NAMES_SHOWN: usize = 3;

/// The moving lines on standard error.
#[derive(Clone)]
pub(crate) struct Bars {
    lines: MultiProgress,
    shown: bool,
    stages: Arc<Mutex<BTreeMap<&'static str, StageLine>>>,
}

struct StageLine {
    bar: ProgressBar,
    done: u64,
    active: Vec<Active>,
}

struct Active {
    name: String,
    rows: u64,
    bytes: u64,
}

impl Bars {
    /// Lines that are shown, or kept back.
    pub(crate) fn new(shown: bool) -> Bars {
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Bars { lines: MultiProgress::with_draw_target(target), shown, stages: Arc::default() }
    }

    /// Takes all lines away, so that what is printed next starts on a clean terminal.
    pub(crate) fn clear(&self) {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, stage) in std::mem::take(&mut *stages) {
            stage.bar.finish_and_clear();
        }
    }

    /// A line for something that is no stage, until [`clear`](Bars::clear) or another wait.
    pub(crate) fn wait_for(&self, what: &str) {
        self.clear();
        self.change("wait", |line| line.active = vec![Active { name: what.to_string(), rows: 0, bytes: 0 }]);
    }

    /// What the log writes to: its lines go between the moving ones, not through them.
    pub(crate) fn log_writer(&self) -> impl Fn() -> LogWriter + Send + Sync + 'static {
        let lines = self.lines.clone();
        move || LogWriter(lines.clone())
    }

    fn change(&self, stage: &'static str, change: impl FnOnce(&mut StageLine)) {
        if !self.shown {
            return;
        }
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        let line = stages.entry(stage).or_insert_with(|| {
            let bar = self.lines.add(ProgressBar::new_spinner());
            // A template that cannot be read leaves indicatif's own.
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:.bold}{wide_msg}") {
                bar.set_style(style);
            }
            if stage != "wait" {
                bar.set_prefix(format!("{stage:<10}"));
            }
            bar.enable_steady_tick(TICK);
            StageLine { bar, done: 0, active: Vec::new() }
        });
        change(line);
        line.bar.set_message(message(line.done, &line.active));
    }
}

/// `7 done; payment 12,000 rows, 1.2 MiB`
fn message(done: u64, active: &[Active]) -> String {
    let mut parts = Vec::new();
    if done > 0 {
        parts.push(format!("{} done", count::of(done)));
    }
    for item in active.iter().take(NAMES_SHOWN) {
        let mut part = starlift::telemetry::one_line(&item.name);
        if item.rows > 0 {
            part.push_str(&format!(" {}, {}", count::with(item.rows, "row"), size::of(item.bytes)));
        }
        parts.push(part);
    }
    if active.len() > NAMES_SHOWN {
        parts.push(format!("{} more", active.len() - NAMES_SHOWN));
    }
    parts.join("; ")
}

impl Progress for Bars {
    fn started(&self, stage: &'static str, name: &str) {
        self.change(stage, |line| line.active.push(Active { name: name.to_string(), rows: 0, bytes: 0 }));
    }

    fn advanced(&self, stage: &'static str, name: &str, rows: u64, bytes: u64) {
        self.change(stage, |line| {
            if let Some(item) = line.active.iter_mut().find(|item| item.name == name) {
                item.rows += rows;
                item.bytes += bytes;
            }
        });
    }

    fn finished(&self, stage: &'static str, name: &str) {
        self.change(stage, |line| {
            line.active.retain(|item| item.name != name);
            line.done += 1;
        });
    }
}

/// Writes a log line to standard error. A log that nobody takes is no reason to stop.
pub(crate) struct LogWriter(MultiProgress);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.suspend(|| {
            let _ = std::io::stderr().lock().write_all(bytes);
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_done_and_what_is_going_on() {
        let active = |name: &str, rows| Active { name: name.into(), rows, bytes: rows * 10 };
        assert_eq!(message(0, &[active("address", 0)]), "address");
        let many = [active("a", 1_200), active("b", 0), active("c", 0), active("d", 0)];
        assert_eq!(message(7, &many), "7 done; a 1,200 rows, 12 KiB; b; c; 1 more");
    }

    #[test]
    fn hidden_bars_keep_nothing() {
        let bars = Bars::new(false);
        bars.started("ingest", "address");
        bars.wait_for("something");
        assert!(bars.stages.lock().unwrap().is_empty());
    }
}
