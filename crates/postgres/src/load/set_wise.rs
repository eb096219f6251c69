//! What a large load takes off a table and puts back after its rows, in the same transaction: foreign keys, and indexes that
//! guard nothing.
//!
//! PostgreSQL checks a foreign key row by row, but one that is added to a filled table by set: 2 million rows into a fact with
//! nine of them took 189 s one way and 4.3 s the other, 10.4 and 0.24 µs for each row and key. An index is built by a sort in
//! less time than it takes to be kept row by row.
//!
//! Guarantees: the table has the same constraints and indexes afterwards, by name, definition, validity, comment and
//! tablespace. What could not be put back as it was stays where it is: constraints that are not valid or whose triggers were
//! switched, indexes that are unique, clustered on, or that something depends on, and what our role may not make although it owns
//! the table. Of an empty table all of it is put back once before the first row is written; where that only fails later, what was
//! written is taken back and the plain path goes on. The server checks every row of the table when a foreign key is put back.
//!
//! Dropping a foreign key takes an exclusive lock on the table and on every table that it refers to, until the commit; so
//! it is done only where it pays ([`worth`]), and not where the lock is not free. A crash leaves everything as it was,
//! because nothing was committed.

use std::time::Duration;

use starlift_core::{Result, fault};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::pair::Pair;
use super::session::{keep, mark, millis, query, run, run_over_rows, take_back};
use crate::ident::{quote_ident, quote_literal, quote_qualified};
use crate::sqlstate::{classify, sqlstate_of};

/// Fewer rows are written as fast with everything in place.
const ROWS: u64 = 10_000;
/// Foreign keys are taken off a table of up to so many times the rows that come. Checked one by one a row costs as much as 43
/// rows checked by set; the rest is for the lock.
const FOREIGN_KEYS_UP_TO: u64 = 10;
/// How long the exclusive locks are waited for before the plain path is taken: who asks for a lock makes others wait as well.
const WAIT_FOR_EMPTY: &str = "2s";
/// Others may be reading a table that has rows.
const WAIT_FOR_FILLED: &str = "50ms";
/// What the sorts of indexes and the checks of foreign keys may take, where the server's setting is less.
const MEMORY: &str = "256MB";
const SAVEPOINT: &str = "starlift_set_wise";

/// What is to be taken off before a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Worth {
    /// Foreign keys.
    pub(crate) foreign_keys: bool,
    /// Indexes.
    pub(crate) indexes: bool,
}

/// Whether so many rows are worth it, for a table with so many.
pub(crate) fn worth(empty: bool, staged: u64, stored: u64) -> Worth {
    let many = is_many(staged);
    Worth {
        foreign_keys: many && (empty || staged.saturating_mul(FOREIGN_KEYS_UP_TO) >= stored),
        // Built again for all rows, they cost what they save where as many were there as come.
        indexes: many && (empty || staged >= stored),
    }
}

/// Whether so many rows are written by set at all.
pub(crate) fn is_many(rows: u64) -> bool {
    rows > ROWS || (rows > 0 && fault::planted("small_first_load"))
}

/// One thing that can be taken off, and how it is put back.
#[derive(Debug, Clone)]
struct Part {
    name: String,
    add: Vec<String>,
}

/// What can be taken off a table, or was.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parts {
    foreign_keys: Vec<Part>,
    indexes: Vec<Part>,
    /// What is in the way: foreign keys that could not be put back as they are, triggers that wait for the commit.
    pub(crate) fixed: usize,
}

impl Parts {
    /// Whether there is nothing to take off.
    pub(crate) fn is_empty(&self) -> bool {
        self.foreign_keys.is_empty() && self.indexes.is_empty()
    }

    /// What is worth it of these; nothing where something else is in the way, whose checks would be left half done.
    pub(crate) fn of(mut self, worth: Worth) -> Parts {
        if self.fixed > 0 || !worth.foreign_keys {
            self.foreign_keys.clear();
            self.indexes.clear();
        }
        if !worth.indexes {
            self.indexes.clear();
        }
        self
    }

    /// What of a table can be taken off and put back as it was, by our role.
    pub(crate) async fn read(client: &Client, pair: Pair<'_>) -> Result<Parts> {
        let mut parts = Parts::default();
        if !pair.target.owned {
            parts.fixed = pair.target.foreign_keys.len();
            return Ok(parts);
        }
        let what = format!("cannot read the foreign keys and indexes of `{}`", pair.model.name);
        let read = |e| classify(e, what.clone());
        let table = pair.table();
        for row in query(client, FOREIGN_KEYS, &[(&pair.target.oid, Type::OID)], &what).await? {
            let name: String = row.try_get(0).map_err(read)?;
            let definition: String = row.try_get(1).map_err(read)?;
            let comment: Option<String> = row.try_get(2).map_err(read)?;
            if !row.try_get::<_, bool>(3).map_err(read)? {
                parts.fixed += 1;
                continue;
            }
            let quoted = quote_ident(&name);
            let mut add = vec![format!("alter table {table} add constraint {quoted} {definition}")];
            if let Some(comment) = comment {
                add.push(format!("comment on constraint {quoted} on {table} is {}", quote_literal(&comment)));
            }
            parts.foreign_keys.push(Part { name, add });
        }
        let switched = query(client, DEFERRED, &[(&pair.target.oid, Type::OID)], &what).await?;
        parts.fixed += switched.len();
        for row in query(client, INDEXES, &[(&pair.target.oid, Type::OID)], &what).await? {
            let name: String = row.try_get(0).map_err(read)?;
            let definition: String = row.try_get(1).map_err(read)?;
            let comment: Option<String> = row.try_get(2).map_err(read)?;
            let tablespace: String = row.try_get(3).map_err(read)?;
            // Of a name that is empty the database's own is meant.
            let mut add = vec![format!("set local default_tablespace = {}; {definition}", quote_literal(&tablespace))];
            if let Some(comment) = comment {
                let index = quote_qualified(&pair.target.schema, &name);
                add.push(format!("comment on index {index} is {}", quote_literal(&comment)));
            }
            parts.indexes.push(Part { name, add });
        }
        Ok(parts)
    }

    /// Takes them off; `false`, and nothing done, where the server refuses (a lock is not free, an event trigger objects) or would
    /// refuse to take them back.
    pub(crate) async fn take_off(
        &self,
        client: &Client,
        pair: Pair<'_>,
        empty: bool,
        lock_timeout: Duration,
    ) -> Result<bool> {
        let wait = if empty { WAIT_FOR_EMPTY } else { WAIT_FOR_FILLED };
        let table = pair.table();
        // Where nothing is taken off, readers are not in the way.
        let mode = if self.is_empty() { "share row exclusive" } else { "access exclusive" };
        let lock = format!("set local lock_timeout = '{wait}'; lock table {table} in {mode} mode");
        let what = "cannot take off foreign keys and indexes";
        let take_off = async {
            run(client, &lock, what).await?;
            if empty && !self.is_empty() {
                // On an empty table it costs nothing to see that they can be put back, before any row is in.
                run(client, &self.drops(pair), what).await?;
                self.add_again(client, pair).await?;
            }
            let unlimited = format!("set local lock_timeout = {}", millis(lock_timeout));
            run(client, &format!("{}; {unlimited}", self.drops(pair)), what).await
        };
        mark(client, SAVEPOINT).await?;
        match take_off.await {
            Ok(()) => {
                keep(client, SAVEPOINT).await?;
                fault::point("load.foreign_keys_dropped");
                Ok(true)
            }
            Err(error) if is_lost(&error) => Err(error),
            Err(error) => {
                take_back(client, SAVEPOINT).await?;
                tracing::info!(model = %pair.model.name, reason = %error, "load: the plain path: foreign keys are checked row by row");
                Ok(false)
            }
        }
    }

    fn drops(&self, pair: Pair<'_>) -> String {
        let mut statements = Vec::new();
        if !self.foreign_keys.is_empty() {
            let drops = self.foreign_keys.iter().map(|key| format!("drop constraint {}", quote_ident(&key.name)));
            statements.push(format!("alter table {} {}", pair.table(), drops.collect::<Vec<_>>().join(", ")));
        }
        let index = |index: &Part| format!("drop index {}", quote_qualified(&pair.target.schema, &index.name));
        statements.extend(self.indexes.iter().map(index));
        statements.join("; ")
    }

    /// Puts them back, under their names; the server checks all rows.
    pub(crate) async fn put_back(&self, client: &Client, pair: Pair<'_>) -> Result<()> {
        self.add_again(client, pair).await?;
        fault::point("load.foreign_keys_added");
        Ok(())
    }

    async fn add_again(&self, client: &Client, pair: Pair<'_>) -> Result<()> {
        let settings = format!(
            "select set_config('maintenance_work_mem', '{MEMORY}', true) \
             where pg_size_bytes(current_setting('maintenance_work_mem')) < pg_size_bytes('{MEMORY}')"
        );
        run(client, &settings, "cannot set the memory of sorts").await?;
        for index in &self.indexes {
            let what = format!("cannot build index `{}` again", index.name);
            for sql in &index.add {
                run_over_rows(client, sql, &what).await?;
            }
        }
        for key in &self.foreign_keys {
            let what = format!("rows of `{}` break its foreign key `{}`", pair.model.name, key.name);
            for sql in &key.add {
                run_over_rows(client, sql, &what).await?;
            }
        }
        Ok(())
    }

    /// For people.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.foreign_keys.len(), self.indexes.len())
    }
}

/// Whether the server did not answer at all: there is no transaction to go on with.
fn is_lost(error: &starlift_core::Error) -> bool {
    sqlstate_of(error).is_none_or(|code| code.starts_with("08") || code.starts_with("57P"))
}

// A constraint whose triggers were switched off or on for replicas would come back with them switched on.
const FOREIGN_KEYS: &str = "\
select f.conname::text, pg_get_constraintdef(f.oid), obj_description(f.oid, 'pg_constraint'),
       f.convalidated and f.conislocal and f.coninhcount = 0 and f.conparentid = 0 and c.relkind = 'r' and r.relkind = 'r'
       and has_table_privilege(f.confrelid, 'REFERENCES') and has_schema_privilege(r.relnamespace, 'USAGE')
       and not exists (select from pg_trigger t where t.tgconstraint = f.oid and t.tgenabled <> 'O')
from pg_constraint f join pg_class c on c.oid = f.conrelid join pg_class r on r.oid = f.confrelid
where f.contype = 'f' and f.conrelid = $1 order by f.conname";

// With an event of such a trigger waiting for the commit no table can be altered.
const DEFERRED: &str = "select tgname::text from pg_trigger where tgrelid = $1 and not tgisinternal and tgdeferrable";

// Those that guard nothing and that nothing depends on, without settings that their definition does not show, where our role may
// make them. A tablespace of 0 is the database's own.
const INDEXES: &str = "\
select x.relname::text, pg_get_indexdef(x.oid), obj_description(x.oid, 'pg_class'), coalesce(s.spcname::text, '')
from pg_index i join pg_class x on x.oid = i.indexrelid left join pg_tablespace s on s.oid = x.reltablespace
where i.indrelid = $1 and x.relkind = 'i' and i.indisvalid and i.indisready and i.indislive
  and not (i.indisunique or i.indisprimary or i.indisexclusion or i.indisclustered or i.indisreplident)
  and has_schema_privilege(x.relnamespace, 'CREATE')
  and (x.reltablespace = 0 or has_tablespace_privilege(x.reltablespace, 'CREATE'))
  and not exists (select from pg_constraint k where k.conindid = x.oid)
  and not exists (select from pg_inherits h where h.inhrelid = x.oid)
  and not exists (select from pg_attribute a where a.attrelid = x.oid and coalesce(a.attstattarget, -1) >= 0)
  and not exists (select from pg_depend d where d.refclassid = 'pg_class'::regclass and d.refobjid = x.oid)
  and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = x.oid and d.deptype in ('e', 'x'))
  and not exists (select from pg_seclabel l where l.classoid = 'pg_class'::regclass and l.objoid = x.oid)
order by x.relname";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_load_takes_off_what_it_pays_for() {
        let (all, keys) = (Worth { foreign_keys: true, indexes: true }, Worth { foreign_keys: true, indexes: false });
        let nothing = Worth { foreign_keys: false, indexes: false };
        assert_eq!(worth(true, 2_000_000, 0), all);
        assert_eq!(worth(true, 10_000, 0), nothing);
        assert_eq!(worth(true, 0, 0), nothing);
        assert_eq!(worth(false, 2_000_000, 2_000_000), all);
        assert_eq!(worth(false, 2_000_000, 20_000_000), keys);
        assert_eq!(worth(false, 2_000_000, 20_000_001), nothing);
        assert_eq!(worth(false, u64::MAX, u64::MAX), all);
    }
}
