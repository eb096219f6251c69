//! `starlift.toml` of any bytes: read, or refused without a panic and without the password that is in it.
//!
//! What a fuzzer does with the file alone (`fuzz/fuzz_targets/config.rs`), this does with its merge with environment and defaults,
//! which is where the engine's crates are: it changes the files of `fuzz/corpus/config` at random places, the same way each time.

use std::path::Path;

use starlift::config::{Config, ConnectionSetting, Environment, Overrides};
use starlift_core::ErrorKind;
use starlift_fuzzing::{Numbers, changed};

const CHANGES: u64 = 4_000;

/// Whether it was read.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    std::fs::write(folder.join("starlift.toml"), bytes).unwrap();
    match Config::read(folder, Environment::default(), Overrides::default()) {
        Ok(config) => {
            assert!(!config.pipeline.is_empty() && config.transform_memory_mb >= 16);
            for database in [&config.source.database, &config.warehouse] {
                if let ConnectionSetting::Url(url, _) = &database.connection {
                    // A URL that changes made a part of something else is none any more.
                    assert!(url.len() < 30 || !format!("{config:?}").contains(url), "{config:?}");
                }
            }
            true
        }
        Err(error) => {
            let shown = format!("{error:?}");
            assert_eq!(error.kind(), ErrorKind::Config, "{shown}");
            assert!(error.hint().is_some(), "{shown}");
            // Where a change makes a name out of the password it is none any more; a value is never shown.
            assert!(!shown.contains("hunter2@"), "{}\n{shown}", String::from_utf8_lossy(bytes));
            false
        }
    }
}

#[test]
fn a_config_of_any_bytes_is_read_or_refused_without_a_panic_or_its_password() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/config");
    let mut seeds: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    seeds.sort();
    assert!(seeds.len() > 4);
    let folder = tempfile::tempdir().unwrap();
    let (mut read, mut numbers) = (0, Numbers::of_seed(1));
    for seed in seeds {
        let bytes = std::fs::read(&seed).unwrap();
        holds(folder.path(), &bytes);
        for _ in 0..CHANGES {
            read += u64::from(holds(folder.path(), &changed(&bytes, &mut numbers)));
        }
    }
    assert!(read > CHANGES / 10, "only {read} changed files were still read");
}
