//! Partitions that are attached and detached: their rows keep the `xmin` that they had elsewhere.
//!
//! What is attached to what is a row of `pg_inherits`, which shows by its own `xmin` when that came about: the window of a
//! table's rows is one of its partitions too. A partition that the snapshot before could not see, or that was detached and attached
//! again since, perhaps with other values in every row, is attached by a row of that window; so its rows are read, all of them. All
//! others were there the whole time, and what changed in them is in the window by its rows. Rows of a partition that is gone are
//! found by the count.

use std::collections::BTreeSet;

use starlift_core::xid::XidWindow;
use starlift_core::{Error, Result, fault};

use super::SourceSession;
use crate::catalog::{SourceTable, TableKind};
use crate::ident::quote_qualified;

impl SourceSession {
    /// The SQL condition that a row is in a window, or in a partition that was attached in it.
    pub async fn window_filter(&self, table: &SourceTable, window: XidWindow) -> Result<String> {
        let filter = window.to_sql();
        let attached = self.attached(table, &filter).await?;
        if attached.is_empty() || fault::planted("attached_ignored") {
            return Ok(filter);
        }
        tracing::debug!(table = %table.name, partitions = attached.len(), "partitions were attached: all of their rows are read");
        let oids: Vec<String> = attached.iter().map(u32::to_string).collect();
        Ok(format!("({filter} or tableoid = any('{{{}}}'::oid[]))", oids.join(",")))
    }

    /// The partitions of every level that came by a row of `pg_inherits` for which a condition on its `xmin` holds.
    async fn attached(&self, table: &SourceTable, filter: &str) -> Result<Vec<u32>> {
        self.must_be_open()?;
        let Some(oid) = table.schema.oid.filter(|_| table.kind == TableKind::Partitioned) else {
            return Ok(Vec::new());
        };
        let sql = format!(
            "with recursive link as (select inhrelid, inhparent, {filter} as is_new from pg_catalog.pg_inherits),
             tree as (
               select $1::oid as oid, false as is_new
               union
               select l.inhrelid, t.is_new or l.is_new from tree t join link l on l.inhparent = t.oid
             )
             select oid from tree where is_new order by oid"
        );
        let failed = |e| self.failed("look at the partitions of", table, e);
        let rows = self.client().query(&sql, &[&oid]).await.map_err(failed)?;
        rows.iter().map(|row| row.try_get(0).map_err(failed)).collect()
    }

    /// Whether the table still has the partitions that the catalog showed, or fewer. `ATTACH PARTITION` does not wait for
    /// our lock, and its rows come up in the middle of a transaction whatever its snapshot.
    ///
    /// # Errors
    /// Unavailable where a partition came: the next run finds it in the catalog.
    pub async fn check_partitions(&self, table: &SourceTable) -> Result<()> {
        self.must_be_open()?;
        let Some(oid) = table.schema.oid.filter(|_| table.kind == TableKind::Partitioned) else { return Ok(()) };
        // A function and not a query on the catalog, because that would show the catalog as of the snapshot.
        let sql = "select relid::oid from pg_partition_tree($1::oid::regclass) where relid <> $1::oid";
        let rows = self.client().query(sql, &[&oid]).await.map_err(|e| self.failed("check", table, e))?;
        for row in rows {
            let partition: u32 = row.try_get(0).map_err(|e| self.failed("check", table, e))?;
            if !table.schema.partitions.contains(&partition) {
                let message = format!("a partition was attached to table `{}.{}`", self.schema, table.name);
                return Err(Error::unavailable(message)
                    .with_detail("it came while the table was read, and nothing is committed")
                    .with_hint("run again"));
            }
        }
        Ok(())
    }

    /// Whether an ordinary table still has as many children by plain inheritance as the catalog showed: `INHERIT` does not wait
    /// for our lock either. To be asked by the session that has read, before its transaction ends: it holds a lock on a child whose rows
    /// it has read, which `NO INHERIT` waits for.
    ///
    /// # Errors
    /// Unavailable where a child came: the next run finds it in the catalog.
    pub async fn check_children(&self, table: &SourceTable) -> Result<()> {
        self.must_be_open()?;
        if table.kind != TableKind::Table {
            return Ok(());
        }
        // A plan has those of now, and a query on the catalog would show those of the snapshot.
        let sql = format!("explain (verbose, format json) select from {}", quote_qualified(&self.schema, &table.name));
        let row = self.client().query_one(&sql, &[]).await.map_err(|e| self.failed("check", table, e))?;
        let plan: serde_json::Value = row.try_get(0).map_err(|e| self.failed("check", table, e))?;
        let mut found = BTreeSet::new();
        scanned(&plan, &mut found);
        if found.len() > 1 + table.schema.partitions.len() {
            return Err(Error::unavailable(format!(
                "table `{}.{}` got a child by inheritance",
                self.schema, table.name
            ))
            .with_detail("it came while the table was read, and nothing is committed")
            .with_hint("run again"));
        }
        Ok(())
    }
}

/// The tables that a plan reads, with their schemas. What an extension's scan reads below it is its own matter.
fn scanned(plan: &serde_json::Value, found: &mut BTreeSet<(String, String)>) {
    match plan {
        serde_json::Value::Array(parts) => parts.iter().for_each(|part| scanned(part, found)),
        serde_json::Value::Object(node) => {
            let text = |name| node.get(name).and_then(serde_json::Value::as_str).map(String::from);
            match text("Relation Name") {
                Some(name) => {
                    found.insert((text("Schema").unwrap_or_default(), name));
                }
                None => node.values().for_each(|part| scanned(part, found)),
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_tells_how_many_tables_it_reads() {
        let scan = |name: &str| serde_json::json!({ "Node Type": "Seq Scan", "Relation Name": name, "Alias": name });
        let plan = |node| serde_json::json!([{ "Plan": node }]);
        let number = |plan| {
            let mut found = BTreeSet::new();
            scanned(&plan, &mut found);
            found.len()
        };
        assert_eq!(number(plan(scan("t"))), 1);
        let append = serde_json::json!({ "Node Type": "Append", "Plans": [scan("t"), scan("kid")] });
        assert_eq!(number(plan(append)), 2);
        // Such as a chunk that an extension has compressed, part of which is scanned as it is.
        let mut custom = scan("kid");
        custom["Plans"] = serde_json::json!([scan("compressed")]);
        let append = serde_json::json!({ "Node Type": "Append", "Plans": [scan("t"), custom, scan("kid")] });
        assert_eq!(number(plan(append)), 2);
    }
}
