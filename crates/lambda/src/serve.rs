//! Events from the Lambda runtime, one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lambda_runtime::tower::util::MapRequestLayer;
use lambda_runtime::{Context as Request, Diagnostic, LambdaEvent, LambdaInvocation, Runtime, service_fn};
use serde_json::Value;
use starlift::{secrets, telemetry};
use starlift_core::{Error, ErrorKind, Result};
use tokio::time::Instant;

use crate::Function;
use crate::invocation::{Current, run_id, time_to_work, will_retry};
use crate::prepared::Prepared;

/// Serves events until the runtime's interface is gone.
///
/// Errors: Internal where it is, or gives something that is no invocation.
pub(crate) async fn serve(function: Function, prepared: Arc<Prepared>, current: Arc<Current>) -> Result<()> {
    let is_cold = Arc::new(AtomicBool::new(true));
    let handler = service_fn(move |event: LambdaEvent<String>| {
        let (prepared, current) = (Arc::clone(&prepared), Arc::clone(&current));
        let cold_start = is_cold.swap(false, Ordering::Relaxed);
        async move { one(function, &prepared, &current, event, cold_start).await }
    });
    Runtime::new(handler)
        .layer(MapRequestLayer::new(untouched))
        .run()
        .await
        .map_err(|e| Error::internal("the interface of the Lambda runtime cannot be used").with_detail(e.to_string()))
}

/// An event as the text that it is, so that what the contract refuses (a name twice, too many bytes) is still to be seen.
fn untouched(mut invocation: LambdaInvocation) -> LambdaInvocation {
    // What is no UTF-8 is no JSON either, and nor is an empty text.
    let text = std::str::from_utf8(&invocation.body).unwrap_or_default();
    invocation.body = Value::from(text).to_string().into();
    invocation
}

async fn one(
    function: Function,
    prepared: &Arc<Prepared>,
    current: &Current,
    event: LambdaEvent<String>,
    cold_start: bool,
) -> Result<Value, Diagnostic> {
    let (event, request) = event.into_parts();
    let named = run_id(&request);
    let run = named.as_deref().unwrap_or(&request.request_id).to_string();
    current.is(function.stage, &run, &request, cold_start);
    let outcome = match named {
        Ok(run) => worked(function, prepared, run, event, &request).await,
        Err(error) => Err(Failure::Told(error)),
    };
    outcome.map_err(|failure| match failure {
        Failure::Told(error) => {
            if will_retry(&request) && error.kind().policy().retry {
                telemetry::to_be_tried_again(function.stage, &run, &error);
            } else {
                telemetry::critical(function.stage, &run, &error);
            }
            diagnostic(&error)
        }
        // The hook has said what there is to say.
        Failure::Panicked => diagnostic(
            &Error::internal("starlift has a bug and stopped")
                .with_hint("nothing half-done is visible, and running again is safe; the log names the place"),
        ),
    })
}

enum Failure {
    Told(Error),
    Panicked,
}

/// The stage's work, on a task of its own: a panic ends the task and not the process.
async fn worked(
    function: Function,
    prepared: &Arc<Prepared>,
    run: String,
    event: String,
    request: &Request,
) -> Result<Value, Failure> {
    // What it takes to get ready is part of the time.
    let begun = Instant::now();
    let (prepared, time) = (Arc::clone(prepared), time_to_work(request));
    let work = tokio::spawn(async move {
        let ready = async { Ok(prepared.context().await?.for_run(run).with_deadline_from(begun, time)) };
        let context = match time {
            Some(time) => tokio::time::timeout(time, ready).await.unwrap_or_else(|_| {
                Err(Error::unavailable(format!("{} was not ready within its deadline", function.stage)))
            }),
            None => ready.await,
        }?;
        (function.run)(context, event.into_bytes()).await
    });
    match work.await {
        Ok(outcome) => outcome.map_err(Failure::Told),
        Err(ended) if ended.is_panic() => Err(Failure::Panicked),
        Err(_) => Err(Failure::Told(Error::new(ErrorKind::Unavailable, "the process is about to end"))),
    }
}

/// What the caller of the function is told.
fn diagnostic(error: &Error) -> Diagnostic {
    Diagnostic {
        error_type: error.kind().policy().aws_type.into(),
        error_message: secrets::scrub(&error.render()).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_its_name_for_the_state_machine() {
        for kind in ErrorKind::ALL {
            let told = diagnostic(&Error::new(kind, "it failed").with_hint("do this"));
            assert_eq!(told.error_type, format!("Starlift.{}", kind.name()));
            assert!(told.error_message.contains("it failed") && told.error_message.contains("do this"));
        }
    }
}
