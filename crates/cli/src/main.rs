//! The command `starlift`: arguments in, report and exit code out.
//!
//! Standard output carries data (a contract's JSON, a table, one document with `--json`) and nothing else; talk goes to
//! standard error. The environment is read here, once.

mod args;
mod commands;
mod demo;
mod duration;
mod failure;
mod progress;
#[cfg(target_os = "linux")]
mod schedule;
mod shell;
mod signals;
mod stderr;
mod stdout;
mod style;
mod table;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use starlift::config::Environment;
use starlift::{panic, secrets};
use starlift_core::{Error, ErrorKind};

use crate::args::{Cli, Command};
use crate::failure::{Ended, Exit, Failure};
use crate::shell::Shell;
use crate::signals::Signals;

/// How long tasks that were dropped may take to notice.
const WIND_DOWN: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let environment = Environment::of_process();
    // Before anything can be said.
    secrets::know_environment(&environment);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error).into(),
    };
    let shell = Arc::new(Shell::new(environment, &cli.global, &cli.command));
    if let Err(error) = shell.start_log() {
        stderr::error(shell.err, &error);
        return Exit::Failed(error.kind()).into();
    }
    #[cfg(debug_assertions)]
    if let Err(error) = starlift::faults::install(&shell.environment) {
        stderr::error(shell.err, &error);
        return Exit::Failed(error.kind()).into();
    }
    let reporter = Arc::clone(&shell);
    panic::install(move |error| {
        reporter.report(Failure::Command(error));
    });
    // The hook has said what there is to say.
    let exit = catch_unwind(AssertUnwindSafe(|| drive(&shell, &cli.command)));
    exit.unwrap_or(Exit::Failed(ErrorKind::Internal)).into()
}

fn drive(shell: &Shell, command: &Command) -> Exit {
    // The demo's server would give way as well: it is a child of ours.
    #[cfg(target_os = "linux")]
    if !matches!(command, Command::Demo(_)) {
        schedule::give_way();
    }
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    let runtime = match threads.enable_all().thread_stack_size(starlift::STACK).build() {
        Ok(runtime) => runtime,
        Err(e) => {
            let error = Error::unavailable("cannot start the threads of this process").with_source(e);
            return shell.report(error.into());
        }
    };
    let ended = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        dispatch(shell, command, &mut signals).await
    });
    shell.bars.clear();
    let exit = match ended {
        Ok(exit) => exit,
        Err(failure) => shell.report(failure),
    };
    if matches!(exit, Exit::Interrupted | Exit::Terminated) {
        shell.say("stopped by a signal; nothing half-done is visible, and running again is safe");
    }
    runtime.shutdown_timeout(WIND_DOWN);
    exit
}

async fn dispatch(shell: &Shell, command: &Command, signals: &mut Signals) -> Ended {
    match command {
        // The loop ends at a point of its own choice.
        Command::Run(args) if args.every.is_some() => commands::every::run(shell, args, signals).await,
        Command::Run(args) => signals.guard(commands::run::run(shell, args)).await,
        Command::Ingest(args) => signals.guard(commands::stage::ingest(shell, args)).await,
        Command::Transform(args) => signals.guard(commands::stage::transform(shell, args)).await,
        Command::Load(args) => signals.guard(commands::stage::load(shell, args)).await,
        Command::Init(args) => commands::init::run(shell, args),
        Command::Doctor(args) => signals.guard(commands::doctor::run(shell, args)).await,
        Command::Plan(args) => signals.guard(commands::plan::run(shell, args)).await,
        Command::Verify(args) => signals.guard(commands::verify::run(shell, args)).await,
        Command::Status(args) => signals.guard(commands::status::run(shell, args)).await,
        Command::History(args) => signals.guard(commands::history::run(shell, args)).await,
        Command::Models(args) if args.tests => signals.guard(commands::verdicts::run(shell, args)).await,
        Command::Models(args) => commands::models::run(shell, args),
        Command::Warehouse(args) => signals.guard(commands::warehouse::run(shell, args)).await,
        Command::Lake(args) => signals.guard(commands::lake::run(shell, args)).await,
        Command::Quarantine(args) => signals.guard(commands::quarantine::run(shell, args)).await,
        Command::Demo(args) => signals.guard(demo::run(shell, args)).await,
        Command::Completions { shell } => commands::completions::run(*shell),
    }
}

/// Prints help or version on standard output, or what is wrong with the command line on standard error.
fn usage(error: &clap::Error) -> Exit {
    let text = error.render().to_string();
    // An argument in the wrong place is quoted, and it may be a URL or a connection string with a password.
    let may_hold_credentials = ["://", "host=", "password", "PASSWORD"].iter().any(|mark| text.contains(mark))
        || secrets::scrub(&text) != text;
    if error.use_stderr() && may_hold_credentials {
        stderr::say(
            "error: an argument that may hold credentials is in the wrong place\n\nFor more information, try '--help'.",
        );
    } else {
        let _ = error.print();
    }
    if error.use_stderr() { Exit::Usage } else { Exit::Done }
}
