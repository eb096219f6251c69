//! One life of the server, under a supervising shell that outlives us by a moment.
//!
//! The shell holds the reading end of a pipe whose writing end only this process has. However this process ends, the
//! kernel closes the pipe, and the shell stops the server and removes the directory. So neither a static that is never
//! dropped nor SIGKILL leaves a server behind, on every Unix.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use starlift_core::{Error, Result};

use super::account::Account;

const SCRIPT: &str = include_str!("supervisor.sh");

/// How long a server may take to accept connections; recovery after an immediate stop is part of it.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long it may take to end before it is told again, more firmly.
const STOP_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(15);

/// How a server is ended: an order of `supervisor.sh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With a checkpoint; the data stay.
    Fast,
    /// As a crash; the data stay.
    Immediate,
    /// For good, with a checkpoint; the data stay.
    Keep,
    /// For good; the directory goes.
    Remove,
}

impl End {
    fn order(self) -> &'static str {
        match self {
            End::Fast => "fast",
            End::Immediate => "immediate",
            End::Keep => "keep",
            End::Remove => "remove",
        }
    }
}

/// Why a server did not start.
#[derive(Debug)]
pub(crate) enum StartFailure {
    /// Somebody else listens on the port.
    PortTaken,
    /// Anything that another port does not cure.
    Other(Error),
}

impl From<Error> for StartFailure {
    fn from(error: Error) -> Self {
        StartFailure::Other(error)
    }
}

/// A running server and its supervisor.
#[derive(Debug)]
pub(crate) struct Server {
    account: Account,
    supervisor: Child,
    orders: ChildStdin,
    pid: u32,
    /// Hangs up when the server and all its backends have ended.
    ended: Receiver<u32>,
}

impl Server {
    /// Starts the server and waits until it accepts connections.
    pub(crate) fn start(
        account: &Account,
        bin_dir: &Path,
        dir: &Path,
        port: u16,
        when_gone: End,
    ) -> Result<Server, StartFailure> {
        let log = dir.join("server.log");
        let log_start = std::fs::metadata(&log).map_or(0, |m| m.len());
        let mut supervisor = account
            .command("sh")
            .args(["-c", SCRIPT, "starlift-sandbox"])
            .arg(bin_dir)
            .arg(dir)
            .arg(port.to_string())
            .arg(when_gone.order())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C is sent to the terminal's whole process group; the clean-up must survive it.
            .process_group(0)
            .spawn()
            .map_err(|e| Error::unavailable("cannot start the private PostgreSQL server").with_source(e))?;
        let (Some(orders), Some(answers)) = (supervisor.stdin.take(), supervisor.stdout.take()) else {
            return Err(Error::internal("the supervisor of the private server has no pipes").into());
        };
        // First the process id, then, by the sender's end, that everything has ended.
        let (sender, ended) = channel();
        std::thread::spawn(move || {
            let mut answers = BufReader::new(answers);
            let mut line = String::new();
            let _ = answers.read_line(&mut line);
            if let Ok(pid) = line.trim().parse() {
                let _ = sender.send(pid);
            }
            let _ = std::io::copy(&mut answers, &mut std::io::sink());
        });
        let pid = ended.recv_timeout(START_LIMIT).map_err(|_| {
            Error::unavailable("the supervisor of the private server did not start")
                .with_detail(log_tail(&log, log_start))
        })?;
        let server = Server { account: account.clone(), supervisor, orders, pid, ended };
        match server.await_ready(&dir.join("data")) {
            Ok(()) => Ok(server),
            Err(reason) => {
                let said = log_tail(&log, log_start);
                // The directory is still needed for another attempt, and the caller removes it otherwise.
                server.stop(End::Immediate)?;
                if said.contains("could not create any TCP/IP sockets") {
                    return Err(StartFailure::PortTaken);
                }
                Err(Error::unavailable(reason).with_detail(said).into())
            }
        }
    }

    /// Waits for the line of `postmaster.pid` that says so, as `pg_ctl` does.
    fn await_ready(&self, data: &Path) -> Result<(), &'static str> {
        let pid_file = data.join("postmaster.pid");
        for _ in 0..polls_in(START_LIMIT) {
            if let Ok(text) = std::fs::read_to_string(&pid_file) {
                let lines: Vec<&str> = text.lines().collect();
                // The file of a server that was killed may still be there: only ours counts.
                let ours = lines.first().is_some_and(|pid| pid.trim() == self.pid.to_string());
                if ours && lines.get(7).is_some_and(|status| status.trim() == "ready") {
                    return Ok(());
                }
            }
            if self.has_ended(POLL) {
                return Err("the private PostgreSQL server ended while it started");
            }
        }
        Err("the private PostgreSQL server did not become ready")
    }

    fn has_ended(&self, within: Duration) -> bool {
        !matches!(self.ended.recv_timeout(within), Err(RecvTimeoutError::Timeout))
    }

    /// Ends the server, and returns when it and its supervisor are gone.
    pub(crate) fn stop(mut self, end: End) -> Result<()> {
        // A failed write means that the supervisor was killed; the server is then told directly, below.
        let _ = self.orders.write_all(format!("{}\n", end.order()).as_bytes());
        for _ in 0..polls_in(STOP_LIMIT) {
            match self.supervisor.try_wait() {
                Ok(Some(_)) if self.has_ended(POLL) => return Ok(()),
                Ok(Some(_)) => break,
                Ok(None) => std::thread::sleep(POLL),
                Err(_) => break,
            }
        }
        for signal in ["-QUIT", "-KILL"] {
            let _ = self.account.command("kill").args([signal, &self.pid.to_string()]).stderr(Stdio::null()).status();
            if self.has_ended(Duration::from_secs(10)) {
                let _ = self.supervisor.wait();
                return Ok(());
            }
        }
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
        Err(Error::internal("the private PostgreSQL server could not be stopped"))
    }
}

/// How often a wait of [`POLL`] fits in a limit: limits are counted in waits, so that no clock is read.
fn polls_in(limit: Duration) -> u128 {
    limit.as_millis() / POLL.as_millis().max(1)
}

/// The last lines of what the server wrote to its log since `start`.
fn log_tail(log: &Path, start: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(log)?;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        // Starting writes a few lines; the bound only keeps a strange log from filling the memory.
        file.take(1 << 20).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(12)..].join("\n")
        }
        Err(error) => format!("it left no log: {error}"),
    }
}
