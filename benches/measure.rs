//! One process, measured from outside; the middle and the spread of several.

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

/// Several measurements of one thing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Several(Vec<Taken>);

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

/// Runs a command that is over in milliseconds: nothing looks at it meanwhile.
pub(crate) fn run_short(mut command: Command) -> Result<Taken, Error> {
    let begun = Instant::now();
    let status = command.stdout(Stdio::null()).status()?;
    let seconds = begun.elapsed().as_secs_f64();
    if status.success() {
        Ok(Taken { seconds, ..Taken::default() })
    } else {
        Err(format!("{command:?} ended with {status}").into())
    }
}

/// Seconds in user and system mode. The name of the program, in brackets, may hold spaces.
fn cpu(stat: &str) -> Option<f64> {
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

impl Taken {
    /// Two things, one after the other.
    pub(crate) fn and(self, other: Taken) -> Taken {
        Taken { seconds: self.seconds + other.seconds, cpu: self.cpu + other.cpu, peak: self.peak.max(other.peak) }
    }
}

impl Several {
    pub(crate) fn push(&mut self, taken: Taken) {
        self.0.push(taken);
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The middle one, by wall time.
    pub(crate) fn median(&self) -> Taken {
        let mut all = self.0.clone();
        all.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        all.get(all.len() / 2).copied().unwrap_or_default()
    }

    /// The shortest and the longest wall time.
    pub(crate) fn spread(&self) -> (f64, f64) {
        let seconds = || self.0.iter().map(|taken| taken.seconds);
        (seconds().fold(f64::INFINITY, f64::min), seconds().fold(0.0, f64::max))
    }

    /// The middle of the ratios of the pairs that were measured one after the other: what the machine does to both is in
    /// neither.
    pub(crate) fn ratio(&self, limit: &Several) -> f64 {
        let mut ratios: Vec<f64> =
            self.0.iter().zip(&limit.0).map(|(one, other)| one.seconds / other.seconds).collect();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl From<Taken> for Several {
    fn from(taken: Taken) -> Several {
        Several(vec![taken])
    }
}
