//! Keeping the session alive that holds the snapshot and the locks, while others read at its snapshot or the lake is awaited.
//!
//! The server ends a transaction that idles for [`IDLE_TIMEOUT`](crate::connect::IDLE_TIMEOUT), and we give up a session that is
//! silent for too long. Both limits are there for a run that is stopped, or hangs, and holds locks: so they are not
//! raised, but the session says now and then that its run still works. A run that is stopped says nothing and loses its
//! locks as before; one whose machine is gone is found out by the kernel's keepalive.

use std::pin::pin;

use starlift_core::{Error, Result, fault};

use super::{SourceSession, statement};
use crate::sqlstate::classify;

/// How often within the time that the session may idle it says something.
const TIMES: u32 = 5;

impl SourceSession {
    /// What some work comes to, however long the session idles meanwhile.
    ///
    /// # Errors
    /// Those of the work; Unavailable as soon as the session has ended, because what others still read is of no use then.
    pub async fn awake<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let work = pin!(work);
        let lost = pin!(self.lost());
        tokio::select! {
            // An error of the work says more about why the session ended.
            biased;
            done = work => done,
            error = lost => Err(error),
        }
    }

    /// Says something again and again, until the session has ended. A statement that comes behind a COPY waits for its end.
    async fn lost(&self) -> Error {
        loop {
            tokio::time::sleep(statement::idle_timeout() / TIMES).await;
            if fault::planted("session_idles") {
                continue;
            }
            match self.client().batch_execute("select 1").await {
                // In a transaction that has failed the work has an error of its own.
                Err(error) if self.client().is_closed() => {
                    return classify(error, "the session that holds the snapshot of the source has ended");
                }
                Ok(()) | Err(_) => {}
            }
        }
    }
}
