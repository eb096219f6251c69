#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| starlift_fuzzing::config(bytes));
