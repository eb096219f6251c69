//! How a command ends: its exit code, and what stopped it.

use std::process::ExitCode;

use starlift_core::{Error, ErrorKind};

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked for is done, or there was nothing to do.
    Done,
    /// `verify` found a difference, or `doctor` something that a run fails over.
    Found,
    /// The command line cannot be understood.
    Usage,
    /// An error of this kind.
    Failed(ErrorKind),
    /// SIGINT.
    Interrupted,
    /// SIGTERM.
    Terminated,
}

impl Exit {
    /// The exit code. Those of signals are 128 and the signal's number, as shells have them.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Found => 1,
            Exit::Usage => 2,
            Exit::Failed(kind) => kind.policy().exit_code,
            Exit::Interrupted => 130,
            Exit::Terminated => 143,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// What stopped a command.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A command failed.
    Command(Error),
    /// A stage failed: that raises the alarm.
    Stage {
        /// Which stage.
        stage: &'static str,
        /// In which run.
        run_id: String,
        /// Why.
        error: Error,
    },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Command(error)
    }
}

/// What a command returns.
pub(crate) type Ended = Result<Exit, Failure>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_documentation() {
        let codes = [Exit::Done, Exit::Found, Exit::Usage, Exit::Interrupted, Exit::Terminated].map(Exit::code);
        assert_eq!(codes, [0, 1, 2, 130, 143]);
        assert_eq!(Exit::Failed(ErrorKind::Unavailable).code(), 75);
        assert_eq!(Exit::Failed(ErrorKind::Internal).code(), 70);
    }
}
