//! The demo: what a newcomer sees first.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{ran, starlift};

/// A place for temporary files that the server's user may enter too.
fn open_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    folder
}

fn is_empty(folder: &TempDir) -> bool {
    std::fs::read_dir(folder.path()).unwrap().next().is_none()
}

#[test]
fn the_same_seed_tells_the_same_story_and_leaves_nothing_behind() {
    let folder = open_folder();
    let tell = || {
        let told =
            ran(starlift(["demo", "--scale", "0.05", "--days", "2", "--seed", "7"]).env("TMPDIR", folder.path()));
        assert_eq!(told.code, Some(0), "{}\n{}", told.stdout, told.stderr);
        assert!(is_empty(&folder));
        told
    };
    let (first, second) = (tell(), tell());
    assert_eq!(first.stdout, second.stdout);
    let (out, days) = (&first.stdout, ["2025-11-03", "2025-11-04"]);
    assert!(out.contains("11 of 11 star tables are equal to what ToteSys says\n"), "{out}");
    assert!(out.contains("open while a run read: 2; in the warehouse: 2.\n"), "{out}");
    assert!(days.iter().all(|day| out.contains(day)) && out.contains("Sales in GBP"), "{out}");
    assert!(first.stderr.starts_with("the demo took ") && first.stderr.lines().count() == 1, "{}", first.stderr);
}

#[test]
fn another_seed_tells_another_story_also_to_machines() {
    let story = |seed: &str| {
        let told = ran(&mut starlift(["demo", "--scale", "0.02", "--days", "1", "--json", "--seed", seed]));
        assert_eq!(told.code, Some(0), "{}\n{}", told.stdout, told.stderr);
        serde_json::from_str::<Value>(&told.stdout).unwrap()
    };
    let (one, two) = (story("1"), story("2"));
    assert_eq!((&one["equal"], &one["open_orders_present"]), (&true.into(), &1.into()));
    assert_eq!(one["models"].as_array().map(Vec::len), Some(11));
    assert_ne!(one["sales"], two["sales"]);
}

#[test]
fn ctrl_c_stops_the_server_and_removes_it() {
    let folder = open_folder();
    let mut child = starlift(["demo", "--scale", "0.2"])
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("ToteSys has") {
        line.clear();
        assert!(stdout.read_line(&mut line).unwrap() > 0, "the demo ended");
    }
    assert!(!is_empty(&folder));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    stdout.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(is_empty(&folder));
}

#[test]
fn a_demo_that_is_kept_says_how_to_go_on() {
    let folder = open_folder();
    let told = ran(starlift(["demo", "--scale", "0.02", "--days", "0", "--keep"]).env("TMPDIR", folder.path()));
    assert_eq!(told.code, Some(0), "{}\n{}", told.stdout, told.stderr);
    let kept = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    assert!(told.stderr.contains(&format!("kept in {}\n", kept.display())), "{}", told.stderr);
    assert!(!told.stdout.contains(kept.to_str().unwrap()), "{}", told.stdout);

    let line = |start: &str| {
        let found = told.stderr.lines().find_map(|line| line.trim_start().strip_prefix(start));
        found.unwrap_or_else(|| panic!("{}", told.stderr)).trim().to_string()
    };
    let shell =
        |command: &str| Command::new("sh").args(["-c", command]).stdout(Stdio::null()).status().unwrap().success();
    assert!(shell(&line("start the server again")));
    let project = kept.join("project");
    let again = ran(&mut starlift(["verify", "--settle", "--project", project.to_str().unwrap()]));
    let stopped = shell(&line("stop the server"));
    assert_eq!(again.code, Some(0), "{}\n{}", again.stdout, again.stderr);
    assert!(stopped);
}
