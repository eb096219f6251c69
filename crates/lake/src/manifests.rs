//! Reading manifests: the newest, one by its seq, and chains whose every link is checked.
//!
//! Each manifest holds a checksum of itself and the SHA-256 of the one before, so an altered, missing or swapped
//! manifest is a Data error that names it, and never a state with fewer rows.

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use starlift_core::digest::sha256_hex;
use starlift_core::manifest::Manifest;
use starlift_core::{Error, Result};
use starlift_core::{fault, key};

use crate::store::Store;

const READS_AT_ONCE: usize = 16;
const KEYS_AT_ONCE: usize = 32;

/// A manifest with the SHA-256 of its stored bytes, which the next manifest names.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The manifest.
    pub manifest: Manifest,
    /// SHA-256 of its stored bytes, in lower-case hexadecimal.
    pub sha256: String,
}

impl Stored {
    /// Its seq.
    pub fn seq(&self) -> u64 {
        self.manifest.seq
    }
}

/// The newest manifest; none in an empty store, or in one that only other tools wrote to.
///
/// One listing and one read. Objects in `_manifests/` that no manifest's key can be are passed over. Errors: Data where
/// it is damaged or stored under another seq; those of [`Store::list`] and [`Store::get`].
pub async fn newest(store: &Store) -> Result<Option<Stored>> {
    let mut keys = store.list(key::MANIFESTS, KEYS_AT_ONCE).await?;
    while let Some(last) = keys.last().cloned() {
        if let Some(seq) = keys.iter().find_map(|key| seq_of(key)) {
            return read(store, seq).await.map(Some);
        }
        keys = store.list_after(key::MANIFESTS, &last, KEYS_AT_ONCE).await?;
    }
    Ok(None)
}

/// The manifest of a seq.
///
/// Errors: Data where it is missing, damaged or stored under another seq; Config for a format of another version; those
/// of [`Store::get`].
pub async fn read(store: &Store, seq: u64) -> Result<Stored> {
    let key = key::manifest(seq);
    let Some(bytes) = store.get(&key).await? else {
        return Err(Error::data(format!("manifest {seq} is missing"))
            .with_detail(format!("there is no object `{}`", store.place(&key)))
            .with_hint("restore this object from a backup or an older version of the bucket"));
    };
    let manifest = Manifest::from_bytes(&key, &bytes)?;
    if manifest.seq != seq {
        return Err(broken(store, seq, format!("it is manifest {}, under the key of manifest {seq}", manifest.seq)));
    }
    Ok(Stored { manifest, sha256: sha256_hex(&bytes) })
}

/// The manifests from the newest checkpoint (or from seq 1) to this one, oldest first: what its state is found from.
///
/// Errors: Data where a manifest is missing, damaged, of another lake, or not the one that the next names.
pub async fn chain(store: &Store, newest: &Stored) -> Result<Vec<Stored>> {
    let first = newest.manifest.checkpoint.max(1);
    let mut chain = read_range(store, first, newest, usize::MAX).await?;
    chain.reverse();
    Ok(chain)
}

/// The chain that ends at a seq: the state as of that manifest.
///
/// Errors: those of [`read`] and [`chain`].
pub async fn chain_at(store: &Store, seq: u64) -> Result<Vec<Stored>> {
    chain(store, &read(store, seq).await?).await
}

/// The `limit` newest manifests, newest first, with their links checked.
///
/// Errors: those of [`newest`] and [`chain`].
pub async fn history(store: &Store, limit: usize) -> Result<Vec<Stored>> {
    match newest(store).await? {
        Some(newest) => history_from(store, &newest, limit).await,
        None => Ok(Vec::new()),
    }
}

/// The `limit` manifests that end at this one, newest first, with their links checked.
pub async fn history_from(store: &Store, newest: &Stored, limit: usize) -> Result<Vec<Stored>> {
    read_range(store, 1, newest, limit).await
}

/// At most `limit` manifests from `newest` down to `first`, newest first.
async fn read_range(store: &Store, first: u64, newest: &Stored, limit: usize) -> Result<Vec<Stored>> {
    back_from(store, newest, first, limit).try_collect().await
}

/// At most `limit` manifests from `newest` down to `first`, newest first, with their links checked, one after another, for who
/// does not keep them: a chain may be longer than memory. Some are read ahead.
pub fn back_from(store: &Store, newest: &Stored, first: u64, limit: usize) -> BoxStream<'static, Result<Stored>> {
    let (store, newest) = (store.clone(), newest.clone());
    async_stream::try_stream! {
        let older = (first..newest.seq()).rev().take(limit.saturating_sub(1));
        let mut older = stream::iter(older).map(|seq| read(&store, seq)).buffered(READS_AT_ONCE);
        let mut next = newest;
        if limit > 0 {
            yield next.clone();
        }
        while let Some(stored) = older.try_next().await? {
            check_link(&store, &stored, &next)?;
            next = stored;
            yield next.clone();
        }
    }
    .boxed()
}

fn check_link(store: &Store, stored: &Stored, next: &Stored) -> Result<()> {
    let is_next = next.manifest.previous_sha256.as_deref() == Some(stored.sha256.as_str());
    if !is_next && !fault::planted("links_unchecked") {
        return Err(broken(store, stored.seq(), format!("manifest {} names another one before it", next.seq())));
    }
    if next.manifest.id != stored.manifest.id {
        return Err(broken(store, stored.seq(), "it belongs to another lake".into()));
    }
    Ok(())
}

fn broken(store: &Store, seq: u64, detail: String) -> Error {
    Error::data(format!("manifest {seq} at `{}` does not belong there", store.place(&key::manifest(seq))))
        .with_detail(detail)
        .with_hint("restore this object from a backup or an older version of the bucket")
}

fn seq_of(key: &str) -> Option<u64> {
    // A key in a folder below could look like a manifest's.
    key::manifest_seq(key).filter(|seq| key::manifest(*seq) == key)
}
