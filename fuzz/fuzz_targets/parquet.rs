#![no_main]

// libFuzzer's hook ends the process at every panic, also at one of the Parquet reader, which starlift catches in a thread
// of its own. Without the hook a panic that comes out still ends the process: libfuzzer-sys aborts where one leaves the target.
libfuzzer_sys::fuzz_target!(
    init: {
        std::panic::set_hook(Box::new(|panic| {
            if std::thread::current().name() == Some("main") {
                eprintln!("{panic}");
            }
        }));
    },
    |bytes: &[u8]| starlift_fuzzing::parquet_file(bytes)
);
