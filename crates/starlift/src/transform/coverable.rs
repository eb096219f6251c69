//! How far transform may cover the lake: up to the manifest before the first chunk of a table that is being read in chunks.
//! The manifest that closes the last such base is the next one that it covers, and with it all between.

use starlift_core::Result;
use starlift_core::manifest::Manifest;
use starlift_lake::{Head, Store};

/// The lake as of the newest manifest that may be covered.
pub(crate) struct Coverable {
    /// None where nothing may be covered (that the star does not cover already).
    pub(crate) head: Option<Head>,
    /// What is waited for, in words; none where the newest manifest may be covered.
    pub(crate) waits: Option<String>,
}

impl Coverable {
    /// Of a lake as of its head, and the star's newest manifest.
    ///
    /// Errors: those of [`Head::at`].
    pub(crate) async fn of(lake: &Store, pipeline: &str, head: Head, star: Option<&Manifest>) -> Result<Coverable> {
        let Some(newest) = head.manifest() else { return Ok(Coverable { head: None, waits: None }) };
        let (upto, waits) = (newest.complete_upto(), newest.waits_for_chunks());
        if upto >= newest.seq {
            return Ok(Coverable { head: Some(head), waits: None });
        }
        // A version that knows nothing of chunks may have covered more.
        let covered = star.and_then(Manifest::covers_upto).filter(|covered| *covered <= newest.seq).unwrap_or(0);
        if upto == 0 || covered > upto {
            return Ok(Coverable { head: None, waits });
        }
        Ok(Coverable { head: Some(Head::at(lake, pipeline, upto).await?), waits })
    }
}
