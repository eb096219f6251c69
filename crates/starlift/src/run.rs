//! Run: the three stages in order, each doing all that is pending, also what an earlier, broken run left.

use serde::Serialize;
use starlift_core::{Error, Result};

use crate::context::Context;
use crate::load::LoadRequest;
use crate::report::StageReport;

/// What a run did.
#[derive(Debug, Serialize)]
pub struct RunReport {
    /// The run.
    pub run_id: String,
    /// The stages that came through, in order.
    pub stages: Vec<StageReport>,
    /// The stages that did not, in order.
    #[serde(skip)]
    pub failures: Vec<StageFailure>,
}

/// A stage that failed, and why.
#[derive(Debug)]
pub struct StageFailure {
    /// Which stage.
    pub stage: &'static str,
    /// Why.
    pub error: Error,
}

impl RunReport {
    /// The failure that a person should look at first: the first that trying again will not mend, else the first.
    pub fn worst(&self) -> Option<&StageFailure> {
        self.failures.iter().find(|f| !f.error.kind().policy().retry).or(self.failures.first())
    }

    pub(crate) fn ended(&mut self, stage: &'static str, done: Result<StageReport>) {
        match done {
            Ok(report) => self.stages.push(report),
            Err(error) => self.failures.push(StageFailure { stage, error }),
        }
    }
}

/// Runs ingest, transform and load.
///
/// A stage that fails does not keep the next ones from what is pending for them, because none needs the one before it in the
/// same run: with the source away, what the lake holds still reaches the warehouse.
pub async fn run(ctx: &Context) -> RunReport {
    let mut report = RunReport { run_id: ctx.run_id.clone(), stages: Vec::new(), failures: Vec::new() };
    report.ended("ingest", crate::ingest(ctx, None).await);
    report.ended("transform", crate::transform(ctx, None).await);
    report.ended("load", crate::load(ctx, &LoadRequest::default()).await);
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_must_mend_comes_before_what_mends_itself() {
        let failure = |stage, error| StageFailure { stage, error };
        let mut report = RunReport { run_id: "r1".into(), stages: Vec::new(), failures: Vec::new() };
        assert!(report.worst().is_none());
        report.failures.push(failure("ingest", Error::unavailable("the source is away")));
        assert_eq!(report.worst().map(|f| f.stage), Some("ingest"));
        report.failures.push(failure("transform", Error::data("a row cannot be carried")));
        assert_eq!(report.worst().map(|f| f.stage), Some("transform"));
    }
}
