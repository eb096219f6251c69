//! One object that is written as a stream: counted and hashed on its way, visible only when it is published.
//!
//! Memory: what is being written plus, for a bucket, three parts of 5 MiB. A crash leaves a staging file or an
//! unfinished multipart upload; neither is visible (a lifecycle rule removes the latter).

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use starlift_core::digest::hex;
use starlift_core::{Error, Result};

use crate::blocks::Hashing;
use crate::bucket::{PART_BYTES, Parts};
use crate::folder::StagedFile;
use crate::store::{Backend, CreateOutcome, Store};

pub(crate) struct Upload {
    store: Store,
    key: String,
    hasher: Sha256,
    blocks: Hashing,
    bytes: u64,
    sink: Sink,
}

enum Sink {
    Folder(StagedFile),
    /// Small enough so far to be put at once.
    Memory(BytesMut),
    Parts(Parts),
}

/// What was published.
pub(crate) struct Published {
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

impl Upload {
    pub(crate) async fn open(store: Store, key: &str) -> Result<Upload> {
        let sink = match store.backend() {
            Backend::Folder(folder) => Sink::Folder(folder.open_staged(key).await?),
            Backend::Bucket(_) => Sink::Memory(BytesMut::new()),
        };
        let (hasher, blocks) = (Sha256::new(), Hashing::default());
        Ok(Upload { store, key: key.to_string(), hasher, blocks, bytes: 0, sink })
    }

    /// The hashes of its blocks, as they come to be.
    pub(crate) fn blocks(&self) -> Hashing {
        self.blocks.clone()
    }

    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.hasher.update(&bytes);
        self.blocks.update(&bytes);
        self.bytes += bytes.len() as u64;
        match &mut self.sink {
            Sink::Folder(file) => file.write(&bytes).await,
            Sink::Parts(parts) => parts.write(bytes).await,
            Sink::Memory(held) => {
                held.extend_from_slice(&bytes);
                if held.len() < PART_BYTES {
                    return Ok(());
                }
                let held = std::mem::take(held).freeze();
                let Backend::Bucket(bucket) = self.store.backend() else {
                    return Err(Error::internal("an upload changed its store"));
                };
                let mut parts = bucket.open_parts(&self.key).await?;
                let written = parts.write(held).await;
                self.sink = Sink::Parts(parts);
                written
            }
        }
    }

    /// Makes the object visible.
    ///
    /// Errors: Unavailable where the key is taken, which happens only in a bucket that other tools write to as well;
    /// the next run has another time in its keys.
    pub(crate) async fn publish(self) -> Result<Published> {
        let outcome = match self.sink {
            Sink::Folder(file) => file.publish().await?,
            Sink::Memory(held) => self.store.create(&self.key, held.freeze()).await?,
            Sink::Parts(parts) => {
                let Backend::Bucket(bucket) = self.store.backend() else {
                    return Err(Error::internal("an upload changed its store"));
                };
                // Completing an upload would replace an object without a word.
                if bucket.is_free(&self.key).await? {
                    parts.complete().await?;
                    CreateOutcome::Created
                } else {
                    parts.abort().await;
                    CreateOutcome::Exists
                }
            }
        };
        match outcome {
            CreateOutcome::Created => Ok(Published { bytes: self.bytes, sha256: hex(&self.hasher.finalize()) }),
            CreateOutcome::Exists => {
                Err(Error::unavailable(format!("the key `{}` is taken", self.store.place(&self.key)))
                    .with_detail("another program wrote an object there")
                    .with_hint("run again; the next run uses other keys"))
            }
        }
    }

    /// Gives the object up; nothing of it is visible.
    pub(crate) async fn abort(self) {
        if let Sink::Parts(parts) = self.sink {
            parts.abort().await;
        }
    }
}
