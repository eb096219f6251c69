//! Machine forms of what the stages return where the stages' own types do not say everything.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use starlift::secrets::scrub;
use starlift::{RunReport, StageReport};
use starlift_core::Error;

/// A run, with what stopped it.
#[derive(Serialize)]
pub(super) struct RunDocument<'a> {
    run_id: &'a str,
    stages: &'a [StageReport],
    errors: Vec<StageError<'a>>,
}

/// Why a stage of a run failed.
#[derive(Serialize)]
struct StageError<'a> {
    stage: &'static str,
    #[serde(flatten)]
    error: ErrorDocument<'a>,
}

impl<'a> RunDocument<'a> {
    /// The document of a run.
    pub(super) fn of(report: &'a RunReport) -> RunDocument<'a> {
        RunDocument {
            run_id: &report.run_id,
            stages: &report.stages,
            errors: report
                .failures
                .iter()
                .map(|f| StageError { stage: f.stage, error: ErrorDocument::of(&f.error) })
                .collect(),
        }
    }
}

/// A stage that failed.
#[derive(Serialize)]
pub(super) struct FailedStage<'a> {
    stage: &'static str,
    run_id: &'a str,
    error: ErrorDocument<'a>,
}

impl<'a> FailedStage<'a> {
    /// The document of a stage that failed.
    pub(super) fn of(stage: &'static str, run_id: &'a str, error: &'a Error) -> FailedStage<'a> {
        FailedStage { stage, run_id, error: ErrorDocument::of(error) }
    }
}

/// An error, without the secrets that are known.
#[derive(Serialize)]
struct ErrorDocument<'a> {
    kind: &'static str,
    exit_code: u8,
    retry: bool,
    message: Cow<'a, str>,
    detail: Option<String>,
    hint: Option<Cow<'a, str>>,
    context: BTreeMap<&'static str, Cow<'a, str>>,
}

impl<'a> ErrorDocument<'a> {
    fn of(error: &'a Error) -> ErrorDocument<'a> {
        let policy = error.kind().policy();
        ErrorDocument {
            kind: error.kind().name(),
            exit_code: policy.exit_code,
            retry: policy.retry,
            message: scrub(error.message()),
            detail: error.detail().map(|detail| scrub(&detail).into_owned()),
            hint: error.hint().map(scrub),
            context: error.context().iter().map(|(name, value)| (*name, scrub(value))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_kind_place_and_hint() {
        let error = Error::unavailable("the source is away").with_hint("try again").with_context("table", "payment");
        let value = serde_json::to_value(FailedStage::of("ingest", "r1", &error)).unwrap();
        assert_eq!(value["error"]["kind"], "Unavailable");
        assert_eq!(value["error"]["exit_code"], 75);
        assert_eq!(value["error"]["context"]["table"], "payment");
        assert_eq!(value["stage"], "ingest");
    }

    #[test]
    fn a_secret_is_scrubbed_from_every_part_of_an_error() {
        starlift::secrets::know("canary of a document");
        let text = || "is canary of a document".to_string();
        let error = Error::unavailable(text()).with_detail(text()).with_hint(text()).with_context("table", text());
        let value = serde_json::to_string(&FailedStage::of("ingest", "r1", &error)).unwrap();
        assert_eq!((value.contains("canary"), value.matches("is ***").count()), (false, 4), "{value}");
    }
}
