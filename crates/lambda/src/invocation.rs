//! One invocation: which run it is, how long it may take, and what the log says of it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lambda_runtime::Context as Request;
use starlift::context::now;
use starlift::telemetry;
use starlift_core::{Error, Result, budget};

/// The longest run id: an ARN of an execution fits.
const MAX_RUN_ID: usize = 256;

/// The run that is going on, for what is said of a panic.
#[derive(Default)]
pub(crate) struct Current(Mutex<String>);

impl Current {
    pub(crate) fn run_id(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on this is the run, and every line says so.
    pub(crate) fn is(&self, stage: &'static str, run_id: &str, request: &Request, cold_start: bool) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = run_id.to_string();
        telemetry::describe(vec![
            ("stage", stage.into()),
            ("run_id", run_id.into()),
            ("function", request.env_config.function_name.as_str().into()),
            ("request_id", request.request_id.as_str().into()),
            ("cold_start", cold_start.into()),
        ]);
    }
}

/// The run's id: `run_id` of the client context (`{"custom": {"run_id": "…"}}`), else the request's.
///
/// Errors: Config where it is no id.
pub(crate) fn run_id(request: &Request) -> Result<String> {
    let given = custom(request, "run_id").unwrap_or(&request.request_id);
    let fits = (1..=MAX_RUN_ID).contains(&given.len()) && given.bytes().all(|b| b.is_ascii_graphic());
    if fits {
        return Ok(given.to_string());
    }
    Err(Error::config("`run_id` of the client context cannot be used")
        .with_detail(format!("it has to be 1 to {MAX_RUN_ID} visible characters of ASCII"))
        .with_hint("let the state machine pass the name of its execution"))
}

/// Whether the caller has said that it tries again what [`starlift_core::error::Policy::retry`] names.
pub(crate) fn will_retry(request: &Request) -> bool {
    custom(request, "will_retry") == Some("true")
}

/// The time to work; none where nothing bounds it.
pub(crate) fn time_to_work(request: &Request) -> Option<Duration> {
    budget::until(request.deadline, now().0.unsigned_abs() / 1_000)
}

fn custom<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.client_context.as_ref()?.custom.get(name).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use starlift_core::ErrorKind;

    use super::*;

    fn request(custom: &[(&str, &str)]) -> Request {
        let mut request = Request::default();
        request.request_id = "the-request".into();
        let custom: BTreeMap<&str, &str> = custom.iter().copied().collect();
        request.client_context = serde_json::from_value(serde_json::json!({ "custom": custom })).unwrap();
        request
    }

    #[test]
    fn the_run_is_the_executions_or_else_the_requests() {
        let execution = "arn:aws:states:eu-west-2:1:execution:totesys:2f6c";
        assert_eq!(run_id(&request(&[("run_id", execution)])).unwrap(), execution);
        assert_eq!(run_id(&request(&[("other", "x")])).unwrap(), "the-request");
        let mut bare = request(&[]);
        bare.client_context = None;
        assert_eq!(run_id(&bare).unwrap(), "the-request");
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "a b", "a\nb", "ä", "\0", &"a".repeat(MAX_RUN_ID + 1)] {
            assert_eq!(run_id(&request(&[("run_id", text)])).unwrap_err().kind(), ErrorKind::Config, "{text:?}");
        }
    }

    #[test]
    fn only_a_caller_that_says_so_tries_again() {
        assert!(will_retry(&request(&[("will_retry", "true")])));
        assert!(!will_retry(&request(&[("will_retry", "yes")])) && !will_retry(&request(&[])));
    }

    #[test]
    fn a_deadline_of_a_local_stand_in_bounds_nothing() {
        let mut request = request(&[]);
        request.deadline = 1_000;
        assert_eq!(time_to_work(&request), None);
        request.deadline = now().0.unsigned_abs() / 1_000 + 60_000;
        assert!(time_to_work(&request).is_some_and(|time| time > Duration::from_secs(50)));
    }
}
