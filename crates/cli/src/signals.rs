//! SIGINT and SIGTERM. Both end a command by dropping what it does: nothing that was not committed is visible, commits are
//! single puts or one transaction, and the next run goes on from there.

use starlift_core::{Error, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Ended, Exit};

/// The signals that end a command.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Listens from now on; needs the runtime.
    pub(crate) fn listen() -> Result<Signals> {
        let listen = |kind| signal(kind).map_err(|e| Error::internal("cannot listen to signals").with_source(e));
        Ok(Signals { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for the next signal, and says how a process that ends for it exits.
    pub(crate) async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
        }
    }

    /// Runs a command until it ends or a signal comes.
    pub(crate) async fn guard(&mut self, command: impl Future<Output = Ended>) -> Ended {
        tokio::select! {
            biased;
            exit = self.next() => Ok(exit),
            ended = command => ended,
        }
    }
}
