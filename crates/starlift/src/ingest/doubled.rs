//! A key that is there twice: in the source, whose unique index then does not hold what it says (as after an upgrade of the
//! system's collations, or on a damaged disk), or in what was read of it.
//!
//! All that follows from counts and sets of keys holds where each key is there once. So it is looked for
//! * in the rows of a full read and of the chunks that a run reads ([`Once`]), as far as their keys fit in memory;
//! * by whatever makes a set of all keys of a state ([`sound`], [`whole`]), and by the reconcile in those of the source;
//! * in the rows of a window, by the difference.
//!
//! With a state that holds a key twice nothing is compared. The keys of the source are looked at one by one ([`check`]): where it has one
//! twice too, a person has to mend it, and the run says so; else the table is read anew, or its base in chunks begun anew. So once the
//! source is mended, the next run mends the lake.
//!
//! Nothing is committed where a key is found twice.

use std::error::Error as StdError;
use std::fmt;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use starlift_core::{Error, Result, TableSchema};
use starlift_lake::{Digests, KeyDigest, Keys, RowDigest, Spill, short_key_text};
use starlift_postgres::catalog::SourceTable;
use starlift_postgres::extract::SourceSession;

use super::incoming::Came;
use super::table::Task;

/// Each key of the rows of a full read comes once, as far as is remembered.
///
/// Memory: that of [`Keys`] with nothing put aside. What would not fit ends the looking: a full read is not to wait for a disk, and the
/// first comparison with the state finds what was missed.
pub(super) struct Once {
    schema: TableSchema,
    digests: Digests,
    /// None once they would not fit, and where there is no key.
    keys: Option<Keys>,
}

impl Once {
    pub(super) fn new(table: &SourceTable, spill: &Spill) -> Result<Once> {
        let schema = table.schema.clone();
        let keys = (!schema.key.is_empty()).then(|| Keys::empty(spill));
        Ok(Once { digests: Digests::new(&schema)?, schema, keys })
    }

    /// Takes rows that came.
    ///
    /// Errors: Data where a key comes again.
    pub(super) fn take(&mut self, table: &SourceTable, came: &Came) -> Result<()> {
        if self.keys.is_none() {
            return Ok(());
        }
        let keys = self.digests.keys(&came.good)?;
        self.meet(table, &came.good, &self.schema.key_positions(), keys)?;
        if let Some(refused) = &came.refused {
            let keys = self.digests.keys_of_refused(refused)?;
            self.meet(table, refused, &(0..self.schema.key.len()).collect::<Vec<_>>(), keys)?;
        }
        Ok(())
    }

    fn meet(
        &mut self,
        table: &SourceTable,
        batch: &RecordBatch,
        columns: &[usize],
        keys: Vec<KeyDigest>,
    ) -> Result<()> {
        for (row, key) in keys.into_iter().enumerate() {
            let Some(known) = self.keys.as_mut().filter(|known| !known.is_full()) else {
                self.keys = None;
                break;
            };
            if !known.insert(key)? {
                return Err(in_source(table, batch, columns, row));
            }
        }
        Ok(())
    }
}

/// Says that the state of a table holds a key twice.
#[derive(Debug)]
struct Unsound(String);

impl fmt::Display for Unsound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the state of `{}` holds a key twice", self.0)
    }
}

impl StdError for Unsound {}

/// All keys of the state of a table, each of which is there once.
///
/// Errors: one of which [`unsound`] knows the table.
pub(super) fn sound(table: &SourceTable, keys: Keys) -> Result<Keys> {
    if keys.doubled().is_some() { Err(twice(table)) } else { Ok(keys) }
}

/// A state whose manifest says that it has so many rows: it has as many keys, with those that were found to be lost. A merged file and
/// the key index name one of two rows of a key.
///
/// Errors: as [`sound`].
pub(super) fn whole(table: &SourceTable, keys: u64, rows: u64) -> Result<()> {
    if keys < rows { Err(twice(table)) } else { Ok(()) }
}

fn twice(table: &SourceTable) -> Error {
    Error::data(format!("the lake holds a key of table `{}` twice", table.name))
        .with_hint("run `starlift verify` to see which one")
        .with_source(Unsound(table.name.clone()))
}

/// The table whose state holds a key twice, where that is the error.
pub(super) fn unsound(error: &Error) -> Option<&str> {
    let of = StdError::source(error)?.downcast_ref::<Unsound>()?;
    Some(&of.0)
}

/// Looks at every key of the source.
///
/// Errors: Data where one is there twice.
pub(super) async fn check(task: &Task<'_>, session: &SourceSession, table: &SourceTable) -> Result<()> {
    // A broken index may be the reason: what it says is not asked.
    let set = async |to: &str| {
        let sql = format!("set local enable_indexonlyscan {to}");
        let failed = |e| Error::unavailable("cannot set up the session").with_source(e);
        session.client().batch_execute(&sql).await.map_err(failed)
    };
    set("= off").await?;
    let digests = Digests::new(&table.schema)?;
    let mut known = Keys::empty(task.lake.spill());
    let mut keys = session.copy_keys(table).await?;
    while let Some(batch) = keys.try_next().await? {
        for key in digests.keys_of_key_batch(&batch)? {
            known.add_before(key, RowDigest([0; 16]))?;
        }
    }
    keys.finish(&table.name)?;
    drop(keys);
    known.complete()?;
    if let Some(doubled) = known.doubled() {
        let mut keys = session.copy_keys(table).await?;
        while let Some(batch) = keys.try_next().await? {
            if let Some(row) = digests.keys_of_key_batch(&batch)?.iter().position(|key| *key == doubled) {
                return Err(in_source(table, &batch, &(0..batch.num_columns()).collect::<Vec<_>>(), row));
            }
        }
    }
    set("to default").await
}

/// A key of the source that comes again: that of a row of a batch, whose columns are at the positions of `key`.
pub(super) fn in_source(table: &SourceTable, batch: &RecordBatch, key: &[usize], row: usize) -> Error {
    let name = &table.name;
    Error::data(format!("a key of table `{name}` is there twice in the source"))
        .with_detail(format!(
            "{} comes again: the unique index of its key does not hold what it says, and nothing is committed",
            short_key_text(&table.schema, batch, key, row)
        ))
        .with_hint(format!(
            "delete or change one of the rows (with `set enable_indexscan = off; set enable_bitmapscan = off`, which find both), then \
             `reindex table {name}`; until then `capture = \"none\"` for `{name}` in starlift.toml lets the other tables go on"
        ))
}
