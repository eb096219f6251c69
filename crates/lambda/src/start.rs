//! The start of the process, up to the first event.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use starlift::config::Environment;
use starlift::telemetry::{self, LogFormat, LogSettings};
use starlift::{panic, secrets};
use starlift_core::{Error, Result};
use tracing::Level;

use crate::Function;
use crate::invocation::Current;
use crate::prepared::Prepared;
use crate::serve::serve;

/// What the runtime cannot do without, and what no process but a function's has.
const NEEDED: [&str; 4] = [
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
];
/// Of the runtime's own crate nothing is heard: it repeats each error that a function returns, which has been said.
const OTHERS: &str = "warn,lambda_runtime=off,lambda_runtime_api_client=off";

/// Runs a function until its process is ended. Returns only where that cannot go on.
pub fn main(function: Function) -> ExitCode {
    let environment = Environment::of_process();
    // Before anything can be said.
    secrets::know_environment(&environment);
    let current = Arc::new(Current::default());
    match start(function, environment, &current) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            telemetry::critical(function.stage, &current.run_id(), &error);
            ExitCode::from(error.kind().policy().exit_code)
        }
    }
}

fn start(function: Function, environment: Environment, current: &Arc<Current>) -> Result<()> {
    // One that cannot be read is what each invocation fails with, and that has to be heard.
    let own = environment.get("STARLIFT_LOG").filter(|filter| telemetry::check_filter(filter).is_ok());
    let filter = own.map_or_else(|| format!("{OTHERS},starlift=info"), str::to_string);
    let settings = LogSettings { format: LogFormat::Json, color: false, level: Level::INFO, filter: Some(filter) };
    telemetry::start(&settings, std::io::stderr)?;
    #[cfg(debug_assertions)]
    starlift::faults::install(&environment)?;
    let reporter = Arc::clone(current);
    panic::install(move |error| telemetry::critical(function.stage, &reporter.run_id(), &error));
    let runs_on_lambda = check(&environment);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(starlift::STACK)
        .build()
        .map_err(|e| Error::unavailable("cannot start the threads of this process").with_source(e))?;
    runs_on_lambda?;
    let prepared = Arc::new(Prepared::new(function, environment));
    runtime.block_on(async {
        if let Err(error) = prepared.early().await {
            tracing::warn!(
                stage = function.stage,
                detail = error.detail(),
                "not ready yet, to be tried again: {error}"
            );
        }
        serve(function, prepared, Arc::clone(current)).await
    })
}

/// Errors: Config where this is no function's process.
fn check(environment: &Environment) -> Result<()> {
    let missing: Vec<&str> = NEEDED.into_iter().filter(|name| environment.get(name).is_none()).collect();
    let number = environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE").is_none_or(|mb| mb.parse::<i32>().is_ok());
    if missing.is_empty() && number {
        return Ok(());
    }
    Err(Error::config("this program is a function of AWS Lambda and was not started by it")
        .with_detail(if missing.is_empty() {
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE is no number".to_string()
        } else {
            format!("not set: {}", missing.join(", "))
        })
        .with_hint("run `starlift` on the command line, or deploy this program as `bootstrap` of a function"))
}

/// The project's folder: a setting, else beside the program as the zip has it.
pub(crate) fn project_dir(environment: &Environment) -> PathBuf {
    let beside = || PathBuf::from(environment.get("LAMBDA_TASK_ROOT").unwrap_or(".")).join("project");
    environment.get("STARLIFT_PROJECT").map_or_else(beside, PathBuf::from)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_lambda_sets_is_asked_for_by_name() {
        let set = [
            ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1"),
            ("AWS_LAMBDA_FUNCTION_NAME", "ingest"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ];
        assert!(check(&Environment::of(set)).is_ok());
        let error = check(&Environment::of([set[0], set[1], set[3]])).unwrap_err();
        assert!(error.detail().unwrap().contains("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"), "{error:?}");
        let odd = Environment::of([set[0], set[1], set[3], ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "much")]);
        assert!(check(&odd).is_err());
    }

    #[test]
    fn the_project_is_in_the_zip_unless_a_setting_says_otherwise() {
        let zip = ("LAMBDA_TASK_ROOT", "/var/task");
        assert_eq!(project_dir(&Environment::of([zip])), Path::new("/var/task/project"));
        assert_eq!(project_dir(&Environment::of([zip, ("STARLIFT_PROJECT", "/opt/shop")])), Path::new("/opt/shop"));
        assert_eq!(project_dir(&Environment::default()), Path::new("./project"));
    }
}
