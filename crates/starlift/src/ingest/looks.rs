//! The looks at what is open in the source, from which the safe time of a run's snapshot follows.

use starlift_core::Result;
use starlift_core::capture::{Horizon, Look};
use starlift_core::manifest::{Manifest, Source};
use starlift_core::succession;
use starlift_postgres::extract::SourceSession;

/// The looks of one run, all of them before its snapshot.
pub(super) struct Looks(Vec<Look>);

impl Looks {
    /// A look as early as can be, where the run before followed stamps: what has ended when the next look comes holds nothing
    /// back, and most transactions are short.
    pub(super) async fn begin(session: &SourceSession, newest: Option<&Manifest>) -> Result<Looks> {
        let follows = newest.and_then(Manifest::source).is_some_and(|source| source.horizon.is_some());
        let mut looks = Looks(Vec::new());
        looks.end(session, follows).await?;
        Ok(looks)
    }

    /// The look right before the snapshot.
    pub(super) async fn end(&mut self, session: &SourceSession, follows: bool) -> Result<()> {
        if follows {
            self.0.extend(session.look().await?);
        }
        Ok(())
    }

    /// What is known of the stamps of rows that the snapshot of `now` does not see; none where nobody asked, and on a standby.
    pub(super) fn horizon(self, newest: Option<&Manifest>, now: &Source) -> Option<Horizon> {
        let before = newest.and_then(Manifest::source).filter(|source| source.identity == now.identity);
        let mut horizon = before.and_then(|source| source.horizon.clone());
        let seq = succession::next_seq(newest);
        for look in &self.0 {
            horizon = Some(Horizon::next(horizon.as_ref(), look, seq));
        }
        horizon.filter(|_| !self.0.is_empty() && !now.in_recovery)
    }
}
