//! The pipeline with lake and star in an S3-like server, which `make test` installs under the target folder.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use starlift::config::{Environment, Overrides};
use starlift::{Context, Outcome};

use crate::world::World;

const BUCKET: &str = "starlift-test";

/// A private S3-like server; it ends with the test.
struct S3Server {
    child: Child,
    port: u16,
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl S3Server {
    async fn start() -> S3Server {
        let python = python();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(python)
            .args(["-m", "ministack"])
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the S3-like server starts");
        let server = S3Server { child, port };
        server.create_bucket().await;
        server
    }

    /// Creating a bucket is an unsigned PUT of its path here; it also shows that the server is up.
    async fn create_bucket(&self) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let Ok(mut stream) = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await else { continue };
            let request = format!(
                "PUT /{BUCKET} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                self.port
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            if stream.read_to_string(&mut answer).await.is_ok() && answer.starts_with("HTTP/1.1 200") {
                return;
            }
        }
        panic!("the S3-like server did not create the bucket");
    }

    fn environment(&self) -> Environment {
        Environment::of([
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{}", self.port)),
        ])
    }

    fn context(&self, world: &World) -> Context {
        let overrides = Overrides {
            lake_ingest: Some(format!("s3://{BUCKET}/ingest")),
            lake_transform: Some(format!("s3://{BUCKET}/transform")),
            ..world.overrides()
        };
        world.try_context(overrides, self.environment()).unwrap()
    }
}

#[allow(clippy::disallowed_methods, reason = "a test finds its server by a variable that `make test` sets")]
fn python() -> PathBuf {
    let python = std::env::var_os("STARLIFT_TEST_S3_PYTHON").map(PathBuf::from);
    python.expect("run the tests by `make test`, which installs the S3-like server and sets STARLIFT_TEST_S3_PYTHON")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pipeline_runs_on_s3_and_races_there_end_as_on_a_folder() {
    let world = World::new().await;
    world.create_warehouse().await;
    let server = S3Server::start().await;
    let run = async || {
        let report = starlift::run(&server.context(&world)).await;
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        report
    };
    run().await;
    world.assert_star_equals_source().await;
    let unchanged = run().await;
    assert!(unchanged.stages.iter().all(|stage| stage.result.is_empty()));

    world.change("update sales_order set units_sold = units_sold + 7; delete from payment where payment_id = 3").await;
    let race: Vec<_> = (0..4)
        .map(|_| {
            let context = server.context(&world);
            tokio::spawn(async move { starlift::ingest(&context, None).await.unwrap() })
        })
        .collect();
    let mut committed = 0;
    for ingest in race {
        match ingest.await.unwrap().outcome {
            Outcome::Committed => committed += 1,
            other => assert_eq!(other, Outcome::Superseded),
        }
    }
    assert!(committed >= 1);
    run().await;
    world.assert_star_equals_source().await;
    let verified = starlift::verify::verify(
        &server.context(&world),
        &starlift::verify::VerifyRequest { settle: true, ..Default::default() },
    )
    .await;
    assert!(verified.unwrap().equal());
}
