//! An input of a model before and after: two images, and the keys whose entries were written between them.

use std::collections::HashSet;
use std::sync::Arc;

use futures::TryStreamExt;
use starlift_core::manifest::DataFile;
use starlift_core::state::{self, LiveFiles};
use starlift_core::{Result, TableSchema};
use starlift_lake::{Digests, KeyDigest, State, Store, reader};

use super::tuple::{Tuple, add};

/// A table or model with a key, as of two manifests of which the later one did not replace it.
pub(super) struct Image {
    pub(super) schema: TableSchema,
    pub(super) after: State,
    /// Rows of the image after, as its manifest counts them.
    pub(super) rows: u64,
    before: State,
    store: Store,
    written: Vec<DataFile>,
}

impl Image {
    /// Of the live files as of the later manifest; what came after the seq `before` is what changed. No files may have been
    /// merged across that seq.
    ///
    /// Errors: those of [`State::new`].
    pub(super) fn new(store: &Store, schema: TableSchema, files: LiveFiles, rows: u64, before: u64) -> Result<Image> {
        let old: LiveFiles = files.iter().filter(|file| file.seq <= before).cloned().collect();
        let new: LiveFiles = state::entries(&files).filter(|file| file.seq > before).cloned().collect();
        Ok(Image {
            before: State::new(store, schema.clone(), old)?,
            after: State::new(store, schema.clone(), files)?,
            schema,
            rows,
            store: store.clone(),
            written: new.into_iter().map(|live| live.file).collect(),
        })
    }

    /// Entries that were written, at least as many as keys that changed.
    pub(super) fn written(&self) -> u64 {
        self.written.iter().map(|file| file.rows).sum()
    }

    /// What the rows that changed hold in some columns, in their image before and in their image after.
    ///
    /// Errors: Data for a damaged file; those of [`Store::get`].
    pub(super) async fn changed(&self, tuple: &Tuple) -> Result<HashSet<KeyDigest>> {
        let mut values = HashSet::new();
        let new_rows_only = starlift_core::fault::planted("new_rows_only");
        let key = self.schema.key_positions();
        let in_key = |position: &usize| key.iter().position(|known| known == position);
        let of_key: Option<Vec<usize>> = tuple.positions().iter().map(in_key).collect();
        if let Some(columns) = of_key.filter(|_| !new_rows_only) {
            // Rows of one key hold the same in it before and after.
            for file in &self.written {
                let mut keys = reader::read_keys(&self.store, file, &self.schema);
                while let Some(batch) = keys.try_next().await? {
                    let columns: Vec<_> = columns.iter().map(|column| Arc::clone(batch.column(*column))).collect();
                    values.extend(tuple.of(&columns)?.into_iter().flatten());
                }
            }
            return Ok(values);
        }
        let digests = Digests::new(&self.schema)?;
        let mut changed = HashSet::new();
        for file in &self.written {
            let mut keys = reader::read_keys(&self.store, file, &self.schema);
            while let Some(batch) = keys.try_next().await? {
                changed.extend(digests.keys_of_key_batch(&batch)?);
            }
        }
        let changed = Arc::new(changed);
        if !new_rows_only {
            add(self.before.select(Arc::clone(&changed), Some(tuple.positions().to_vec())), tuple, &mut values).await?;
        }
        add(self.after.select(changed, Some(tuple.positions().to_vec())), tuple, &mut values).await?;
        Ok(values)
    }
}
