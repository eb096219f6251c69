//! Where the rows of a table are on the source's disk, for a full read that goes in chunks of pages over several
//! transactions.
//!
//! A row version keeps its page while the table's file is the same (`pg_class.relfilenode`). Whatever writes the table anew
//! gives it another file, and needs a lock that waits for ours: so what is read here inside of a transaction that has
//! locked the table holds until its end.

use starlift_core::chunk::Heap;
use starlift_core::digest::sha256_hex;
use starlift_core::{Error, Result};

use super::{OLDEST_WITH_RANGES, PageRange, RowStream, SourceSession};
use crate::catalog::{SourceTable, TableKind};

/// The table and everything below it, but for other sessions' temporary children. A condition on `ctid` of a partitioned table is one on each of its partitions.
const FILES: &str = "
with recursive tree as (
  select $1::oid as oid
  union
  select i.inhrelid from tree t join pg_catalog.pg_inherits i on i.inhparent = t.oid
  join pg_catalog.pg_class k on k.oid = i.inhrelid and k.relpersistence <> 't'
)
select c.oid, c.relfilenode,
       c.relkind in ('r', 'p') and (c.relkind = 'p' or a.amname = 'heap') as keeps_pages,
       case when c.relkind = 'p' then 0
            else pg_catalog.pg_relation_size(c.oid) / current_setting('block_size')::bigint end as pages
from tree t join pg_catalog.pg_class c on c.oid = t.oid left join pg_catalog.pg_am a on a.oid = c.relam
order by c.oid";

impl SourceSession {
    /// Where the rows of a table are; none where they do not keep their pages (a view, a foreign partition, another access
    /// method than PostgreSQL's own), or where the server cannot read some pages without looking at the others.
    pub async fn heap(&self, table: &SourceTable) -> Result<Option<Heap>> {
        let kind_fits = matches!(table.kind, TableKind::Table | TableKind::Partitioned);
        let Some(oid) = table.schema.oid.filter(|_| kind_fits && self.server_version >= OLDEST_WITH_RANGES) else {
            return Ok(None);
        };
        let failed = |e| self.failed("look at the pages of", table, e);
        let (mut files, mut most) = (Vec::new(), 0_i64);
        for row in self.client().query(FILES, &[&oid]).await.map_err(failed)? {
            let keeps_pages: Option<bool> = row.try_get(2).map_err(failed)?;
            if keeps_pages != Some(true) {
                return Ok(None);
            }
            files.push((row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?));
            most = most.max(row.try_get::<_, Option<i64>>(3).map_err(failed)?.unwrap_or(0));
        }
        if files.is_empty() {
            return Err(Error::unavailable(format!("table `{}` went away while it was looked at", table.name))
                .with_hint("run again"));
        }
        // PostgreSQL numbers pages with 32 bits.
        let pages = u32::try_from(most).unwrap_or(u32::MAX);
        Ok(Some(Heap { pages, bytes: table.bytes, storage: storage(&files), files: in_parts(table, files) }))
    }

    /// Reads the rows in some pages for which `condition`, an SQL condition over the columns, holds.
    pub async fn copy_pages(&self, table: &SourceTable, pages: PageRange, condition: &str) -> Result<RowStream> {
        self.copy_rows(table, Some(format!("{} and {condition}", pages.filter()))).await
    }
}

/// One name for all files.
fn storage(files: &[(u32, u32)]) -> String {
    let names: Vec<String> = files.iter().map(|(oid, file)| format!("{oid}/{file}")).collect();
    sha256_hex(names.join(" ").as_bytes())
}

/// The files one by one where some may come and go.
fn in_parts(table: &SourceTable, files: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    if table.kind == TableKind::Partitioned { files } else { Vec::new() }
}
