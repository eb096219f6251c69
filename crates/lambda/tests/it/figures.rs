//! What a function costs: how soon it is ready, how much memory it takes, what it asks the store for, and what its program holds.
//!
//! The figures of time and memory are those of an optimised build: `STARLIFT_TEST_FUNCTIONS` names the folder of unpacked zips, as
//! `make measure-functions` sets it. Any other build only has to be ready within what Lambda allows, and reads fewer rows.

use std::time::Duration;

use starlift_sandbox::proxy::Proxy;
use starlift_sandbox::totesys::SOURCE_TABLES;

use crate::function::{Function, program};
use crate::lab::Lab;

const STAGES: [&str; 3] = ["ingest", "transform", "load"];
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

/// What a stage asked S3 for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Requests {
    list: usize,
    get: usize,
    put: usize,
    other: usize,
}

impl Requests {
    /// Of everything that a client has sent. Requests to other services are POSTs.
    fn of(sent: &[Vec<u8>]) -> Requests {
        let mut found = Requests::default();
        for connection in sent {
            let text = String::from_utf8_lossy(connection);
            let mut heads: Vec<&str> = text.split(" HTTP/1.1\r\n").collect();
            // What follows the last one.
            heads.pop();
            for head in heads {
                // A body may stand before the method, without a line's end between.
                let (before, path) = head.rsplit_once(' ').expect("a method and a path");
                let count = if before.ends_with("POST") && path == "/" {
                    continue;
                } else if before.ends_with("GET") && path.contains("list-type=2") {
                    &mut found.list
                } else if before.ends_with("GET") {
                    &mut found.get
                } else if before.ends_with("PUT") {
                    &mut found.put
                } else {
                    &mut found.other
                };
                *count += 1;
            }
        }
        found
    }
}

/// One run of all stages, each by a process of its own, and what each asked for.
async fn asked(lab: &Lab, run_id: &str) -> Vec<Requests> {
    let mut found = Vec::new();
    for name in STAGES {
        let proxy = Proxy::recording(lab.server.port()).await.unwrap();
        let endpoint = format!("http://127.0.0.1:{}", proxy.port());
        let mut function = Function::start(name, &lab.environment_with("AWS_ENDPOINT_URL", &endpoint)).await;
        function.result(run_id, "{}").await;
        found.push(Requests::of(&proxy.sent_so_far()));
    }
    found
}

/// The requests that docs/aws.md computes the costs from. What a change makes a run read differs with what of small files is merged
/// in it, and does not grow.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_asks_as_little_after_many_runs_as_after_few() {
    let lab = Lab::new().await;
    asked(&lab, "first").await;
    let requests = |list, get, put| Requests { list, get, put, other: 0 };
    let nothing = [requests(1, 2, 2), requests(2, 2, 0), requests(1, 1, 0)];
    for round in 0..6 {
        lab.change("update address set city = city || 'x', last_updated = now() where address_id = 1").await;
        let change = asked(&lab, &format!("change-{round}")).await;
        let sum = |count: fn(&Requests) -> usize| change.iter().map(count).sum::<usize>();
        assert_eq!((sum(|r| r.list), sum(|r| r.other)), (4, 0), "round {round}: {change:?}");
        assert!(sum(|r| r.get) <= 50 && sum(|r| r.put) <= 12, "round {round}: {change:?}");
        assert_eq!(asked(&lab, &format!("nothing-{round}")).await, nothing, "round {round}");
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
