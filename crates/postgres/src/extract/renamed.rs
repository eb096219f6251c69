//! Labels of enums and fields of composite types that were renamed: values that show them change without a trace in any row.
//!
//! That they have other names than at the run before is seen in the table's shape. But renaming does not wait for our lock, and
//! comes up in the middle of a transaction, whatever its snapshot: a run that is under way then writes names which its catalog does not
//! show, and once they are renamed back before the next run, the shape is what it was. A label is a row of `pg_enum`, a field one of
//! `pg_attribute`, which shows by its own `xmin` when it got its name: whatever was renamed since the snapshot before is in the window
//! of that snapshot, as partitions that were attached are. Then all rows are read, and those that differ are written.

use starlift_core::Result;

use super::SourceSession;
use crate::catalog::{PARTS, SourceTable};

impl SourceSession {
    /// Whether a name that values of this table show came by a row of the catalog for which a condition on its `xmin` holds.
    pub(super) async fn renamed(&self, table: &SourceTable, filter: &str) -> Result<bool> {
        self.must_be_open()?;
        let shows_names = table.schema.columns.iter().any(|column| !column.labels.is_empty());
        let Some(oid) = table.schema.oid.filter(|_| shows_names) else { return Ok(false) };
        let sql = format!(
            "{PARTS}
             select exists (select from pg_catalog.pg_enum where enumtypid in (select e.part from edge e) and {filter})
                 or exists (select from pg_catalog.pg_attribute
                            where attrelid in (select t.typrelid from pg_catalog.pg_type t join edge e on e.part = t.oid
                                               where t.typtype = 'c')
                              and attnum > 0 and {filter})"
        );
        let failed = |e| self.failed("look at the types of", table, e);
        let oids: &[u32] = &[oid];
        let row = self.client().query_one(&sql, &[&oids]).await.map_err(failed)?;
        row.try_get(0).map_err(failed)
    }
}
