//! `completions`: what a shell needs to complete our command line.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::failure::{Ended, Exit};
use crate::stdout;

/// Prints the completions of a shell.
pub(crate) fn run(shell: Shell) -> Ended {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "starlift", &mut script);
    stdout::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
