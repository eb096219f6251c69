//! The pipeline with lake and star in S3, as each of the servers that `make test` installs under the target folder has it.

use std::time::Duration;

use starlift::config::{Environment, Overrides};
use starlift::vacuum::{VacuumReport, VacuumRequest};
use starlift::{Context, Outcome};
use starlift_sandbox::s3::{Implementation, S3Server};

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

#[tokio::test(flavor = "multi_thread")]
async fn the_pipeline_runs_on_s3_and_races_there_end_as_on_a_folder() {
    runs_and_races(Implementation::Ministack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pipeline_runs_on_another_s3_and_races_there_end_as_on_a_folder() {
    runs_and_races(Implementation::Moto).await;
}

async fn runs_and_races(implementation: Implementation) {
    let world = World::new().await;
    world.create_warehouse().await;
    let server = S3Server::start_as(implementation, BUCKET).await.unwrap();
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

    vacuumed(&context(&server, &world)).await;
    assert!(run().await.stages.iter().all(|stage| stage.result.is_empty()));
}

/// What the superseded ingests left is found, and removed where that is asked for; the rest stays.
async fn vacuumed(ctx: &Context) {
    let vacuum = async |delete| {
        let request = VacuumRequest { delete, older_than: Duration::ZERO };
        starlift::vacuum::vacuum(ctx, request).await.unwrap()
    };
    let garbage = |report: &VacuumReport| report.places.iter().map(|place| place.garbage.len()).sum::<usize>();
    let (found, again) = (vacuum(false).await, vacuum(false).await);
    assert!(garbage(&found) >= 1, "the claims of superseded runs");
    assert_eq!(found.places, again.places, "looking removes nothing");
    assert_eq!(garbage(&vacuum(true).await), garbage(&found));
    let after = vacuum(false).await;
    assert_eq!(garbage(&after), 0);
    for (before, after) in found.places.iter().zip(&after.places) {
        assert_eq!(before.kept.named, after.kept.named);
    }
}
