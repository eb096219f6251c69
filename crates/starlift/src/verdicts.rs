//! What the tests of the models' headers last found, from the star's manifest.

use serde::Serialize;
use starlift_core::Result;
use starlift_core::manifest::TestVerdict;

use crate::context::Context;

/// One test of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelTestVerdict {
    /// The model.
    pub model: String,
    /// The test as its header has it.
    pub test: String,
    /// Whether rows that fail it are only counted.
    pub warns: bool,
    /// What it last found; none where no run has tested a row yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<TestVerdict>,
}

/// Every test of the project, model by model in dependency order.
///
/// Errors: those of the star's store; Data for a damaged manifest; Config for a test that could never fail.
pub async fn verdicts(ctx: &Context) -> Result<Vec<ModelTestVerdict>> {
    ctx.project.graph.check_referred_keys()?;
    let star = ctx.star_head().await?;
    let known = |model: &str, test: &str| {
        let state = star.manifest()?.relations.get(model)?.model.as_ref()?;
        state.tests.iter().find(|verdict| verdict.test == test).cloned()
    };
    let of_model = |model: &starlift_core::model::Model| {
        let tests = model.header.tests.iter().map(|test| ModelTestVerdict {
            model: model.name.clone(),
            test: test.text(),
            warns: test.warns,
            last: known(&model.name, &test.text()),
        });
        tests.collect::<Vec<_>>()
    };
    Ok(ctx.project.graph.models().iter().flat_map(of_model).collect())
}
