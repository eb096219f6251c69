//! JSON from outside: events and manifests.

use starlift_core::event::{parse_ingest, parse_keys};
use starlift_core::key;
use starlift_core::manifest::{FORMAT, Manifest};

use crate::is_the_callers;

/// An event is read, or refused with a hint; what is read is what the JSON says.
pub fn event(bytes: &[u8]) {
    if let Err(error) = parse_ingest(bytes) {
        is_the_callers(&error);
        assert!(error.hint().is_some());
    }
    for stage in ["transform", "load"] {
        match parse_keys(stage, bytes) {
            // A key leads to an object: none may leave the folder of its table.
            Ok(keys) => assert!(keys.iter().all(|(name, path)| key::is_data_key(name, path) && !path.contains(".."))),
            Err(error) => {
                is_the_callers(&error);
                assert!(error.hint().is_some());
            }
        }
    }
}

/// A manifest is refused, or comes back from its stored form as it was.
pub fn manifest(bytes: &[u8]) {
    const KEY: &str = "_manifests/fuzzed.json";
    match Manifest::from_bytes(KEY, bytes) {
        Err(error) => {
            is_the_callers(&error);
            assert!(error.hint().is_some());
        }
        Ok(manifest) => assert_eq!(manifest.checksum.len(), 64),
    }
    // The checksum stops nearly every change: without it they reach the fields behind.
    if let Ok(mut read) = serde_json::from_slice::<Manifest>(bytes) {
        read.format = FORMAT;
        let stored = read.to_bytes().expect("what was read can be written");
        let again = Manifest::from_bytes(KEY, &stored).expect("what was written can be read");
        read.checksum.clone_from(&again.checksum);
        assert_eq!(again, read);
        for name in again.relations.keys() {
            assert!(again.files_of(name).iter().all(|file| file.seq == again.seq));
        }
    }
}
