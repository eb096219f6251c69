//! What every command is given: settings from outside the project, and the streams to talk on.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use starlift::config::{Config, Environment, Overrides, Place, Project};
use starlift::telemetry::{self, LogFormat, LogSettings};
use starlift::{Context, RunReport};
use starlift_core::{Error, Result};
use tracing::Level;

use crate::args::{self, Command, Global};
use crate::failure::{Exit, Failure};
use crate::progress::Bars;
use crate::stderr;
use crate::style::Style;

/// The outside of a command.
pub(crate) struct Shell {
    /// The environment, captured once.
    pub(crate) environment: Environment,
    /// The project's folder.
    pub(crate) project_dir: PathBuf,
    /// What standard output can show.
    pub(crate) out: Style,
    /// What standard error can show.
    pub(crate) err: Style,
    /// The moving lines.
    pub(crate) bars: Bars,
    log: LogSettings,
    quiet: bool,
}

impl Shell {
    /// The outside, from flags and environment.
    pub(crate) fn new(environment: Environment, global: &Global, command: &Command) -> Shell {
        let out = Style::of(&std::io::stdout(), global.color, &environment);
        let err = Style::of(&std::io::stderr(), global.color, &environment);
        let format = match global.log_format {
            args::LogFormat::Text => LogFormat::Text,
            args::LogFormat::Json => LogFormat::Json,
        };
        let moving = std::io::stderr().is_terminal()
            && environment.get("TERM") != Some("dumb")
            && format == LogFormat::Text
            && !global.quiet;
        let level = match (global.quiet, global.verbose) {
            (true, _) => Level::ERROR,
            (_, 2..) => Level::TRACE,
            (_, 1) => Level::DEBUG,
            // The demo tells its own story.
            _ if matches!(command, Command::Demo(_)) => Level::ERROR,
            // At a terminal, the card at the end has the warnings.
            _ if moving && matches!(command, Command::Run(_)) && !is_loop(command) => Level::ERROR,
            // Where lines move, they say what INFO would.
            _ if moving && !is_loop(command) => Level::WARN,
            _ if is_run(command) => Level::INFO,
            // What these find, they print.
            _ => Level::WARN,
        };
        let filter = environment.get("STARLIFT_LOG").map(str::to_string);
        let project_dir = global.project.clone().or_else(|| environment.get("STARLIFT_PROJECT").map(PathBuf::from));
        Shell {
            project_dir: project_dir.unwrap_or_else(|| PathBuf::from(".")),
            out,
            err,
            bars: Bars::new(moving),
            log: LogSettings { format, color: err.has_color(), level, filter },
            quiet: global.quiet,
            environment,
        }
    }

    /// Starts the log.
    pub(crate) fn start_log(&self) -> Result<()> {
        telemetry::start(&self.log, self.bars.log_writer())
    }

    /// The settings of the project.
    pub(crate) fn config(&self, overrides: Overrides) -> Result<Config> {
        Config::read(&self.project_dir, self.environment.clone(), overrides)
    }

    /// What a stage works with.
    pub(crate) async fn context(&self, overrides: Overrides, run_id: Option<String>) -> Result<Context> {
        let config = self.config(overrides)?.resolved(&Place::ALL).await?;
        let project = Project::read(&self.project_dir)?;
        Ok(Context::new(config, project, Arc::new(self.bars.clone()), run_id))
    }

    /// Says what stopped a command, and how the process ends for it.
    pub(crate) fn report(&self, failure: Failure) -> Exit {
        self.bars.clear();
        let (error, failed) = match failure {
            Failure::Command(error) => (error, None),
            Failure::Stage { stage, run_id, error } => (error, Some((stage, run_id))),
        };
        match (self.log.format, failed) {
            (LogFormat::Text, _) => stderr::error(self.err, &error),
            (LogFormat::Json, Some((stage, run_id))) => telemetry::critical(stage, &run_id, &error),
            (LogFormat::Json, None) => telemetry::failed(&error),
        }
        Exit::Failed(error.kind())
    }

    /// Says which stages of a run failed: for people once each way of failing, for machines one line per stage.
    pub(crate) fn failed(&self, report: &RunReport) {
        self.bars.clear();
        for (i, failure) in report.failures.iter().enumerate() {
            match self.log.format {
                LogFormat::Json => telemetry::critical(failure.stage, &report.run_id, &failure.error),
                LogFormat::Text => {
                    let said = report.failures[..i].iter().any(|f| f.error.message() == failure.error.message());
                    if !said {
                        stderr::error(self.err, &failure.error);
                    }
                }
            }
        }
    }

    /// Says something that is neither data nor a problem.
    pub(crate) fn say(&self, text: &str) {
        self.bars.clear();
        match self.log.format {
            LogFormat::Text if self.quiet => {}
            LogFormat::Text => stderr::say(text),
            LogFormat::Json => tracing::info!("{text}"),
        }
    }

    /// Says that a stage failed where the process goes on: the line that raises the alarm, for people and machines.
    pub(crate) fn alarm(&self, stage: &'static str, run_id: &str, error: &Error) {
        self.bars.clear();
        telemetry::critical(stage, run_id, error);
    }
}

fn is_run(command: &Command) -> bool {
    matches!(command, Command::Run(_) | Command::Ingest(_) | Command::Transform(_) | Command::Load(_))
}

fn is_loop(command: &Command) -> bool {
    matches!(command, Command::Run(run) if run.every.is_some())
}
