//! The corpora of `fuzz/`, played on a stable compiler: what fuzzing once found stays found.

use std::path::{Path, PathBuf};

use starlift_fuzzing::{Numbers, changed};

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_kept_input_does_what_must_hold_of_any_bytes() {
    for (target, check) in starlift_fuzzing::TARGETS {
        let files = corpus(target);
        assert!(files.len() > 2, "`{target}` has hardly a corpus");
        for file in files {
            let bytes = std::fs::read(&file).unwrap();
            // The name of the file is shown with the panic of its check.
            println!("{}", file.display());
            check(&bytes);
        }
    }
}

/// Not what a fuzzer does, which sees where its inputs lead; but it takes seconds, and every run of the tests does it.
#[test]
#[allow(clippy::disallowed_methods, reason = "a developer may ask for more by STARLIFT_FUZZING_CHANGES")]
fn the_same_holds_of_what_changes_make_of_them() {
    let changes = std::env::var("STARLIFT_FUZZING_CHANGES").ok().map_or(60, |number| number.parse().unwrap());
    for (target, check) in starlift_fuzzing::TARGETS {
        let mut numbers = Numbers::of_seed(1);
        for file in corpus(target) {
            let bytes = std::fs::read(&file).unwrap();
            for number in 0..changes {
                println!("{} change {number}", file.display());
                check(&changed(&bytes, &mut numbers));
            }
        }
    }
}

#[test]
fn every_target_has_a_fuzzer() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets");
    let mut fuzzers: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    fuzzers.sort();
    let mut targets = starlift_fuzzing::TARGETS.map(|(name, _)| name);
    targets.sort_unstable();
    assert_eq!(fuzzers, targets);
}
