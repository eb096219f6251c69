//! One process, measured from outside, and tables of ratios.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Error;

/// What one process took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Taken {
    /// Wall time.
    pub(crate) seconds: f64,
    /// Processor time, its own alone: not that of the server.
    pub(crate) cpu: f64,
    /// The most memory that it had (`VmHWM`), in bytes.
    pub(crate) peak: u64,
}

/// Ticks of a second in `/proc/<pid>/stat`, on every Linux of today.
const TICKS: f64 = 100.0;

/// Runs a command to its end.
pub(crate) fn run(mut command: Command) -> Result<Taken, Error> {
    let begun = Instant::now();
    let mut child = command.stdout(Stdio::null()).spawn()?;
    let folder = format!("/proc/{}", child.id());
    let mut taken = Taken::default();
    loop {
        let status = std::fs::read_to_string(format!("{folder}/status")).unwrap_or_default();
        let kilobytes =
            status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().split(' ').next()?.parse::<u64>().ok());
        taken.peak = taken.peak.max(kilobytes.unwrap_or(0) * 1024);
        let stat = std::fs::read_to_string(format!("{folder}/stat")).unwrap_or_default();
        taken.cpu = taken.cpu.max(cpu(&stat).unwrap_or(0.0));
        if let Some(status) = child.try_wait()? {
            taken.seconds = begun.elapsed().as_secs_f64();
            return if status.success() { Ok(taken) } else { Err(format!("{command:?} ended with {status}").into()) };
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Seconds in user and system mode. The name of the program, in brackets, may hold spaces.
fn cpu(stat: &str) -> Option<f64> {
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

/// The middle of some measurements, by wall time.
pub(crate) fn median(mut all: Vec<Taken>) -> Taken {
    all.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// The head of a table of [`line`]s.
pub(crate) fn head(title: &str) {
    println!(
        "\n{title}\n\n| | seconds | x limit | goal | verdict | cpu s | peak MB |\n| --- | ---: | ---: | ---: | --- | ---: | ---: |"
    );
}

/// One line: what was taken, its ratio to the limit, and whether that is the goal or better.
pub(crate) fn line(name: &str, taken: Taken, limit: f64, goal: Option<f64>) {
    let ratio = taken.seconds / limit;
    let (goal, verdict) = match goal {
        Some(goal) => (format!("{goal:.2}"), if ratio <= goal { "reached" } else { "missed" }),
        None => (String::new(), ""),
    };
    println!(
        "| {name} | {:.2} | {ratio:.2} | {goal} | {verdict} | {:.2} | {:.0} |",
        taken.seconds,
        taken.cpu,
        taken.peak as f64 / 1e6
    );
}
