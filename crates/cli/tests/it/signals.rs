//! The loop, and the signals that end it.

#![allow(clippy::disallowed_methods, reason = "a test measures time and passes its environment on")]

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{NOBODY, small_project, starlift};

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

fn looping(dir: &std::path::Path) -> (Child, BufReader<ChildStderr>) {
    let mut child = starlift(["run", "--every", "1s", "--log-format", "json", "--project"])
        .arg(dir)
        .env("STARLIFT_SOURCE_URL", NOBODY)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    (child, stderr)
}

/// Reads the log until a run has failed that often.
fn failures(stderr: &mut impl BufRead, wanted: usize) {
    let mut seen = 0;
    while seen < wanted {
        let mut line = String::new();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "the loop ended");
        seen += usize::from(line.contains("\"level\":\"CRITICAL\""));
    }
}

#[test]
fn a_run_that_fails_raises_the_alarm_and_the_loop_goes_on_until_sigterm() {
    let folder = small_project();
    let (mut child, mut stderr) = looping(folder.path());
    failures(&mut stderr, 2);
    let sent = Instant::now();
    signal(&child, "-TERM");
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(sent.elapsed() < Duration::from_secs(10));
}

#[test]
fn ctrl_c_ends_the_loop_with_130() {
    let folder = small_project();
    let (mut child, mut stderr) = looping(folder.path());
    failures(&mut stderr, 1);
    signal(&child, "-INT");
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
