//! How soon a function is ready, and what its program holds.

use std::time::Duration;

use crate::function::program;
use crate::lab::Lab;

/// From the start of the process until it asks for an event, with its secret read and its stores open.
///
/// The figures are those of an optimised build: `STARLIFT_TEST_FUNCTIONS` names the folder of unpacked zips. Any other build only
/// has to be ready within what Lambda allows.
#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_ready_soon_after_its_start() {
    let lab = Lab::new().await;
    let is_optimised = std::env::var_os("STARLIFT_TEST_FUNCTIONS").is_some();
    for (name, figure) in [("ingest", 60), ("transform", 150), ("load", 60)] {
        let mut starts = Vec::new();
        for _ in 0..if is_optimised { 15 } else { 3 } {
            starts.push(lab.function(name).await.start);
        }
        starts.sort();
        let (middle, worst) = (starts[starts.len() / 2], starts[starts.len() - 1]);
        println!("{name}: ready after {} ms (worst of {}: {} ms)", middle.as_millis(), starts.len(), worst.as_millis());
        let limit = Duration::from_millis(if is_optimised { figure } else { 7_000 });
        assert!(middle <= limit, "{name}: {middle:?}");
    }
}

#[test]
fn the_engine_is_in_the_program_of_transform_alone() {
    let folder = tempfile::tempdir().unwrap();
    // Without what is for debuggers, which names every file that took part in the build.
    let holds_engine = |name: &str| {
        let stripped = folder.path().join(name);
        let strip = std::process::Command::new("strip").arg("-o").arg(&stripped).arg(program(name)).status();
        assert!(strip.expect("binutils, which the compiler needs too").success());
        let bytes = std::fs::read(&stripped).unwrap();
        bytes.windows(b"datafusion".len()).any(|window| window == b"datafusion")
    };
    assert!(holds_engine("transform"));
    assert!(!holds_engine("ingest"));
    assert!(!holds_engine("load"));
}
