//! docs/bad-input.md and the tests agree.

use std::collections::BTreeMap;
use std::path::Path;

const DOCUMENT: &str = include_str!("../../../../../docs/bad-input.md");

/// By number, the tests that the document names.
fn documented() -> BTreeMap<u32, Vec<String>> {
    let mut found = BTreeMap::new();
    for row in DOCUMENT.lines().filter_map(|line| line.strip_prefix("| ")) {
        let Some(number) = row.split(" | ").next().and_then(|cell| cell.trim().parse().ok()) else { continue };
        let cells: Vec<&str> = row.trim_end_matches(" |").split(" | ").collect();
        assert!(cells.len() == 4 && cells.iter().all(|cell| !cell.trim().is_empty()), "four cells: {row}");
        let tests = cells[3].split('`').skip(1).step_by(2).map(str::to_string).collect();
        assert!(found.insert(number, tests).is_none(), "{number} is there twice");
    }
    found
}

/// Every test function of the workspace's integration tests, as the source has it.
fn tests_below(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut lines = text.lines().map(str::trim).peekable();
            while let Some(line) = lines.next() {
                let is_test = line == "#[test]" || line.starts_with("#[tokio::test");
                let next = lines.peek().filter(|_| is_test);
                let name = next.and_then(|next| next.split_once("fn ")?.1.split_once('('));
                found.extend(name.map(|(name, _)| name.to_string()));
            }
        }
    }
}

#[test]
fn every_bad_input_is_documented_with_a_test_that_exists() {
    let mut tests = Vec::new();
    for member in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap() {
        let folder = member.unwrap().path().join("tests");
        if folder.is_dir() {
            tests_below(&folder, &mut tests);
        }
    }
    let documented = documented();
    assert_eq!(documented.keys().copied().collect::<Vec<_>>(), (1..=49).collect::<Vec<_>>());
    for (number, named) in &documented {
        let own = format!("bad_input_{number:02}_");
        assert!(named.iter().any(|name| name.starts_with(&own)), "{number} has no test of its own: {named:?}");
        for name in named {
            assert!(tests.contains(name), "{number}: there is no test `{name}`");
        }
    }
    let undocumented: Vec<_> = tests
        .iter()
        .filter(|test| test.starts_with("bad_input_") && !documented.values().flatten().any(|name| name == *test))
        .collect();
    assert!(undocumented.is_empty(), "{undocumented:?}");
}
