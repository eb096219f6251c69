//! What this process does at its fault points, from the environment: for tests, and only where `debug_assertions` are on
//! (see `starlift_core::fault`).
//!
//! * `STARLIFT_FAULT`: `<point>[:<n>][:<action>]`, several separated by commas. At the n-th passage of the point (the first
//!   where none is given) the process aborts; with `linger` it gives other threads a moment before; with `wait=<file>` it
//!   makes `<file>.met` and goes on when `<file>` exists; with `panic=<text>` it panics. `trace=<file>` adds a line for every passage to a file.
//! * `STARLIFT_PLANTED`: names of bugs, separated by commas.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use starlift_core::fault::{self, Hooks, PLANTS, POINTS};
use starlift_core::{Error, Result};

use crate::config::Environment;

const LINGER: Duration = Duration::from_millis(50);
const POLL: Duration = Duration::from_millis(5);

enum Action {
    Abort,
    Linger,
    Wait(PathBuf),
    Panic(String),
}

struct Fault {
    point: String,
    passage: u64,
    action: Action,
    passed: AtomicU64,
}

/// Installs what the environment asks for; nothing where it asks for nothing.
///
/// Errors: Config for a point, action or bug that does not exist, so that no test passes because of a typing error.
pub fn install(environment: &Environment) -> Result<()> {
    let words = |name: &str| environment.get(name).unwrap_or_default().split(',').map(str::to_string);
    let words = |name: &str| words(name).filter(|word| !word.is_empty()).collect::<Vec<_>>();
    let (faults, planted) = (words("STARLIFT_FAULT"), words("STARLIFT_PLANTED"));
    if faults.is_empty() && planted.is_empty() {
        return Ok(());
    }
    if let Some(unknown) = planted.iter().find(|name| !PLANTS.contains(&name.as_str())) {
        return Err(Error::config(format!("there is no bug `{unknown}` to plant")));
    }
    let (traces, faults): (Vec<_>, Vec<_>) = faults.into_iter().partition(|fault| fault.starts_with("trace="));
    let traces: Vec<PathBuf> = traces.iter().map(|trace| PathBuf::from(&trace["trace=".len()..])).collect();
    let faults = faults.iter().map(|text| parse(text)).collect::<Result<Vec<_>>>()?;
    let at_point = Box::new(move |name: &'static str| {
        for trace in &traces {
            record(trace, name);
        }
        for fault in faults.iter().filter(|fault| fault.point == name) {
            if fault.passed.fetch_add(1, Ordering::SeqCst) + 1 == fault.passage {
                act(&fault.action);
            }
        }
    });
    fault::install(Hooks { at_point, planted: planted.into_iter().collect::<BTreeSet<_>>() });
    Ok(())
}

fn parse(text: &str) -> Result<Fault> {
    let wrong = |what: &str| Error::config(format!("STARLIFT_FAULT cannot be read: `{text}` {what}"));
    let mut parts = text.split(':');
    let point = parts.next().unwrap_or_default();
    if !POINTS.contains(&point) {
        return Err(wrong("names no point"));
    }
    let mut fault = Fault { point: point.into(), passage: 1, action: Action::Abort, passed: AtomicU64::new(0) };
    for part in parts {
        match (part.parse(), part.strip_prefix("wait=")) {
            (Ok(passage), _) if passage > 0 => fault.passage = passage,
            (_, Some(path)) => fault.action = Action::Wait(path.into()),
            _ if part.starts_with("panic=") => fault.action = Action::Panic(part["panic=".len()..].into()),
            _ if part == "linger" => fault.action = Action::Linger,
            _ if part == "abort" => fault.action = Action::Abort,
            _ => return Err(wrong("has an unknown action")),
        }
    }
    Ok(fault)
}

fn record(trace: &Path, name: &str) {
    let written = std::fs::File::options()
        .append(true)
        .create(true)
        .open(trace)
        .and_then(|mut file| file.write_all(format!("{name}\n").as_bytes()));
    // A test that cannot see a passage must not go on as if there was none.
    if written.is_err() {
        std::process::abort();
    }
}

fn act(action: &Action) {
    match action {
        Action::Abort => std::process::abort(),
        Action::Linger => {
            std::thread::sleep(LINGER);
            std::process::abort();
        }
        Action::Panic(text) => panic!("{text}"),
        Action::Wait(path) => {
            let mut met = path.clone().into_os_string();
            met.push(".met");
            if std::fs::write(met, "").is_err() {
                std::process::abort();
            }
            while !path.exists() {
                std::thread::sleep(POLL);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_a_point_a_passage_and_an_action() {
        let fault = parse("ingest.claimed:3:linger").unwrap();
        assert_eq!((fault.point.as_str(), fault.passage), ("ingest.claimed", 3));
        assert!(matches!(fault.action, Action::Linger));
        assert!(matches!(parse("load.locked").unwrap(), Fault { passage: 1, action: Action::Abort, .. }));
        assert!(
            matches!(parse("load.locked:wait=/tmp/go").unwrap().action, Action::Wait(path) if path == Path::new("/tmp/go"))
        );
        for wrong in ["", "load.lokced", "load.locked:0", "load.locked:explode"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_bug_that_does_not_exist_is_an_error() {
        assert!(install(&Environment::of([("STARLIFT_PLANTED", "no_such_bug")])).is_err());
        assert!(install(&Environment::default()).is_ok());
    }
}
