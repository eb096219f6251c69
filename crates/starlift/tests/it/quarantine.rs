//! Rows that cannot be carried: the stage that meets them stops, or sets them aside; the rest is exact, and they come back once.

use starlift::config::Environment;
use starlift::quarantine::{self, QuarantinedRow};
use starlift::verify::{VerifyRequest, verify};
use starlift::{Context, RunReport};

use crate::world::World;

mod ingest;
mod load;
mod models;
mod references;

/// A world with settings added to its project.
pub(crate) async fn world_with(settings: &str) -> World {
    let world = World::new().await.with_own_project();
    settle(&world, settings);
    world
}

/// Adds settings to the project of a world.
pub(crate) fn settle(world: &World, settings: &str) {
    let path = world.project.join("starlift.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}\n{settings}\n")).unwrap();
}

/// Rewrites a model of the project.
pub(crate) fn rewrite(world: &World, model: &str, from: &str, to: &str) {
    rewrite_file(world, &format!("models/{model}.sql"), from, to);
}

/// Rewrites a file of the project.
pub(crate) fn rewrite_file(world: &World, file: &str, from: &str, to: &str) {
    let path = world.project.join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(&path, text.replace(from, to)).unwrap();
}

pub(crate) fn context(world: &World) -> Context {
    world.try_context(world.overrides(), Environment::default()).unwrap()
}

/// The stages that failed in a run.
pub(crate) async fn failed(world: &World) -> Vec<(&'static str, String)> {
    let report = starlift::run(&context(world)).await;
    failures(&report)
}

pub(crate) fn failures(report: &RunReport) -> Vec<(&'static str, String)> {
    report.failures.iter().map(|failure| (failure.stage, failure.error.render())).collect()
}

/// What stands aside, as `stage name key column`.
pub(crate) async fn aside(world: &World) -> Vec<String> {
    let short = |row: QuarantinedRow| format!("{} {} {} {}", row.stage, row.name, row.key, row.column);
    quarantine::list(&context(world)).await.unwrap().into_iter().map(short).collect()
}

/// Everything that does not stand aside is equal in source, lake, star and warehouse.
pub(crate) async fn assert_verified(world: &World) {
    let report = verify(&context(world), &VerifyRequest::default()).await.unwrap();
    assert!(report.equal() && report.pending() == 0, "{report:#?}");
}
