//! The commit: one create-only put of the next manifest decides a run.
//!
//! **Crash story.** A run claims a time, writes data files, and then puts manifest n+1, where n is the manifest that it
//! started from. Until that put nothing of the run is visible: a crash leaves a claim and orphan files. After it the
//! run is complete, and nothing else is left to do. There is no state between the two, and no lock that could stay.
//!
//! * *Two runs at once*: both put n+1, the store lets one win. The other is superseded: it commits nothing, its files
//!   are orphans, and since the winner's manifest tells how far the winner read, the next run covers the rest.
//! * *A run that slept for hours*: its n+1 is taken, so it is superseded, whatever it still writes.
//! * *An answer that got lost*: a timeout, a 5xx, a 409 or a 412 after a repeated request may all hide our own success.
//!   [`Store::create`] reads the object back, and the `write_id` in it says whose it is.
//! * *A repeated run id*: [`Head::find_run`](crate::Head::find_run) returns what the first one committed.
//!
//! What leaks is orphan files, claims and staging files; [`mod@crate::vacuum`] removes them.

use bytes::Bytes;
use starlift_core::digest::sha256_hex;
use starlift_core::manifest::Manifest;
use starlift_core::{Error, Result, fault, key};

use crate::manifests::{self, Stored};
use crate::store::{CreateOutcome, Store};

/// How many of the newest manifests a repeated run id is looked for in.
pub const REPLAY_DEPTH: usize = 16;

/// What a commit came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Commit {
    /// The manifest is stored, and it is ours.
    Committed(Stored),
    /// Another run stored this one under our seq first; nothing of ours is visible.
    Superseded(Stored),
}

/// Puts a manifest under its seq.
///
/// Errors: Internal for a manifest that does not name the one before it; Unavailable where the outcome is unknown: the
/// manifest may be committed, which the next run finds by itself; those of [`Store::create`] and
/// [`manifests::read`].
pub async fn commit(store: &Store, manifest: Manifest) -> Result<Commit> {
    if manifest.seq == 0 || manifest.previous_sha256.is_some() != (manifest.seq > 1) {
        return Err(Error::internal(format!("manifest {} does not name the one before it", manifest.seq)));
    }
    if manifest.live.is_some() {
        fault::point("lake.checkpoint");
    }
    let bytes = manifest.to_bytes()?;
    let key = key::manifest(manifest.seq);
    let ours = Stored { manifest: Manifest::from_bytes(&key, &bytes)?, sha256: sha256_hex(&bytes) };
    match store.create(&key, Bytes::from(bytes)).await? {
        CreateOutcome::Created => Ok(Commit::Committed(ours)),
        CreateOutcome::Exists => {
            let theirs = manifests::read(store, manifest.seq).await?;
            let same = theirs.manifest.write_id == manifest.write_id;
            Ok(if same { Commit::Committed(theirs) } else { Commit::Superseded(theirs) })
        }
    }
}
