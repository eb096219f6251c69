//! The loop, and the signals that end it.

#![allow(clippy::disallowed_methods, reason = "a test measures time and passes its environment on")]

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use crate::journey::Shop;
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

/// A lock that somebody holds keeps the run from going on; the loop still ends in time, and what was begun is not left behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_for_a_lock_does_not_keep_the_loop_from_ending() {
    let shop = Shop::new().await;
    let mut owner = shop.cluster.connect(&shop.source).await.unwrap();
    let held = owner.transaction().await.unwrap();
    held.batch_execute("lock table city in access exclusive mode").await.unwrap();
    let watcher = shop.cluster.connect(&shop.source).await.unwrap();
    let waiting = async || -> i64 {
        watcher.query_one("select count(*) from pg_locks where not granted", &[]).await.unwrap().get(0)
    };
    let mut child = shop.command(["run", "--every", "1m"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while waiting().await == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(child.try_wait().unwrap().is_none(), "the loop ended");
    }
    let sent = Instant::now();
    signal(&child, "-TERM");
    let ended = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert_eq!(ended.code(), Some(0));
    assert!(sent.elapsed() < Duration::from_secs(10), "{:?}", sent.elapsed());
    drop(held);
    assert_eq!(waiting().await, 0);
}
