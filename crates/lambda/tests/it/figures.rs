//! What a function costs: how soon it is ready, how much memory it takes, and what its program holds.
//!
//! The figures of time and memory are those of an optimised build: `STARLIFT_TEST_FUNCTIONS` names the folder of unpacked zips, as
//! `make measure-functions` sets it. Any other build only has to be ready within what Lambda allows, and reads fewer rows.

use std::time::Duration;

use starlift_sandbox::totesys::SOURCE_TABLES;

use crate::function::program;
use crate::lab::Lab;

/// A history of about 450,000 rows.
const LARGE: f64 = 25.0;

fn is_optimised() -> bool {
    std::env::var_os("STARLIFT_TEST_FUNCTIONS").is_some()
}

/// From the start of the process until it asks for an event, with its secret read and its stores open.
#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_ready_soon_after_its_start() {
    let lab = Lab::new().await;
    for (name, figure) in [("ingest", 60), ("transform", 150), ("load", 60)] {
        let mut starts = Vec::new();
        for _ in 0..if is_optimised() { 15 } else { 3 } {
            starts.push(lab.function(name).await.start);
        }
        starts.sort();
        let (middle, worst) = (starts[starts.len() / 2], starts[starts.len() - 1]);
        println!("{name}: ready after {} ms (worst of {}: {} ms)", middle.as_millis(), starts.len(), worst.as_millis());
        let limit = Duration::from_millis(if is_optimised() { figure } else { 7_000 });
        assert!(middle <= limit, "{name}: {middle:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_stays_within_its_memory() {
    let lab = Lab::of_scale(if is_optimised() { LARGE } else { 0.02 }).await;
    let source = lab.source_client().await;
    let mut rows = 0;
    for (table, _) in SOURCE_TABLES {
        rows += source.query_one(&format!("select count(*) from \"{table}\""), &[]).await.unwrap().get::<_, i64>(0);
    }
    for (name, figure) in [("ingest", 128), ("transform", 512), ("load", 128)] {
        let mut function = lab.function(name).await;
        function.result("one", "{}").await;
        let peak = function.peak_mib();
        println!("{name}: {peak} MiB at most, the first run over {rows} rows");
        assert!(peak <= figure, "{name}: {peak} MiB");
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
