//! The pipeline with lake and star in an S3-like server, which `make test` installs under the target folder.

use std::path::PathBuf;

use starlift::config::{Environment, Overrides};
use starlift::{Context, Outcome};
use starlift_sandbox::s3::S3Server;

use crate::world::World;

const BUCKET: &str = "starlift-test";

fn context(server: &S3Server, world: &World) -> Context {
    let overrides = Overrides {
        lake_ingest: Some(format!("s3://{BUCKET}/ingest")),
        lake_transform: Some(format!("s3://{BUCKET}/transform")),
        ..world.overrides()
    };
    let settings = S3Server::settings(server.port());
    let environment = Environment::of(settings.each_ref().map(|(name, value)| (*name, value.as_str())));
    world.try_context(overrides, environment).unwrap()
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
    let server = S3Server::start(&python(), BUCKET).await.unwrap();
    let run = async || {
        let report = starlift::run(&context(&server, &world)).await;
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
            let context = context(&server, &world);
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
        &context(&server, &world),
        &starlift::verify::VerifyRequest { settle: true, ..Default::default() },
    )
    .await;
    assert!(verified.unwrap().equal());
}
