//! Tables that would lose what was written, or hide it from our role, without an error.
//!
//! An unlogged table is emptied by a crash of the server while the ledger says that its rows are in. Row-level security leaves rows
//! out of every comparison: they would be loaded again, or stay as they were. Both are refused, of the models' tables and of those
//! of the schema `starlift`, unless a policy shows our role all rows.
//!
//! A trigger before each row, or a rule, may keep a row out as well; that is no reason to refuse the table, but to look after the write
//! ([`super::skipped`]).

use std::collections::BTreeMap;

use starlift_core::model::ModelKind;
use starlift_core::{Error, Result};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::model::ModelTable;
use super::session::query;
use super::support;
use super::target::TargetTable;
use crate::sqlstate::classify;

/// What the catalog says of one table.
#[derive(Debug)]
struct Kept {
    /// With its schema, quoted.
    name: String,
    /// Itself, or those of its partitions and children, that are unlogged; quoted.
    unlogged: Vec<String>,
    /// The statements that do not find every row: `select`, `update`, `delete`.
    hidden: Vec<String>,
    /// Our role, quoted.
    role: String,
    may_skip: bool,
}

/// Looks at the tables of the models and of the schema `starlift`, and notes which may skip a row.
///
/// # Errors
/// Config, with the statements that mend it, for a table that loses or hides rows.
pub(crate) async fn check(
    client: &Client,
    schema: &str,
    models: &[&ModelTable],
    tables: &mut BTreeMap<String, TargetTable>,
) -> Result<()> {
    let what = || format!("cannot read the tables of schema `{schema}` of the warehouse");
    let read = |e| classify(e, what());
    let names: Vec<&str> = models.iter().map(|m| m.name.as_str()).collect();
    let ours = support::TABLES.map(|(name, _)| name);
    let parameters: &[(&(dyn ToSql + Sync), Type)] =
        &[(&schema, Type::TEXT), (&names, Type::TEXT_ARRAY), (&ours.as_slice(), Type::TEXT_ARRAY)];
    let (mut of_models, mut of_starlift) = (BTreeMap::new(), Vec::new());
    for row in query(client, KEPT, parameters, &what()).await? {
        let kept = Kept {
            name: row.try_get("name").map_err(read)?,
            unlogged: row.try_get("unlogged").map_err(read)?,
            hidden: row.try_get("hidden").map_err(read)?,
            role: row.try_get("role").map_err(read)?,
            may_skip: row.try_get("may_skip").map_err(read)?,
        };
        match row.try_get::<_, Option<String>>("model").map_err(read)? {
            Some(model) => {
                of_models.insert(model, kept);
            }
            None => of_starlift.push(kept),
        }
    }
    for kept in &of_starlift {
        kept.check(&["select", "update", "delete"])?;
    }
    // In load order: a table is made logged after those that it refers to.
    for model in models {
        let Some(kept) = of_models.get(&model.name) else { continue };
        // A fact is only appended to.
        let used: &[&str] = if model.kind == ModelKind::Fact { &["select"] } else { &["select", "update"] };
        kept.check(used).map_err(|e| e.with_context("model", model.name.clone()))?;
        if let Some(table) = tables.get_mut(&model.name) {
            table.may_skip = kept.may_skip;
        }
    }
    Ok(())
}

impl Kept {
    fn check(&self, used: &[&str]) -> Result<()> {
        let name = &self.name;
        let again = "then run `starlift verify --repair`, which writes again what is missing by now";
        if !self.unlogged.is_empty() {
            let statements: Vec<String> =
                self.unlogged.iter().map(|table| format!("alter table {table} set logged;")).collect();
            return Err(Error::config(format!("table {name} of the warehouse is unlogged"))
                .with_detail("a crash of the server empties it, while the ledger says that its rows are in")
                .with_hint(format!("let the owner run `{}`, {again}", statements.join(" "))));
        }
        if self.hidden.iter().any(|statement| used.contains(&statement.as_str())) {
            let role = &self.role;
            return Err(Error::config(format!("row-level security hides rows of table {name} from our role"))
                .with_detail("rows that are hidden would be loaded again, or stay as they were")
                .with_hint(format!(
                    "let the owner run `create policy starlift on {name} to {role} using (true);`, or, where a restrictive \
                     policy stands against it, `alter table {name} disable row level security;`, {again}"
                )));
        }
        Ok(())
    }
}

// Of a partitioned table the partitions hold the rows, and their triggers fire; their policies and rules do not. A row that is moved
// to another partition is deleted from its own. Only a policy that shows all rows by saying `true` is taken for one.
const KEPT: &str = "\
select case when n.nspname = $1 and c.relname = any ($2) then c.relname::text end as model,
       quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name, quote_ident(current_user) as role,
       array(with recursive part (oid) as (
                 select c.oid union select h.inhrelid from part p join pg_inherits h on h.inhparent = p.oid)
             select quote_ident(m.nspname) || '.' || quote_ident(r.relname)
             from part p join pg_class r on r.oid = p.oid join pg_namespace m on m.oid = r.relnamespace
             where r.relkind = 'r' and r.relpersistence = 'u' order by 1) as unlogged,
       array(select p.statement from (values ('select', 'r'), ('update', 'w'), ('delete', 'd')) p (statement, command)
             where row_security_active(c.oid) and not coalesce((
                 select bool_or(y.polpermissive and pg_get_expr(y.polqual, y.polrelid) = 'true')
                        and bool_and(y.polpermissive or pg_get_expr(y.polqual, y.polrelid) = 'true')
                 from pg_policy y
                 where y.polrelid = c.oid and y.polcmd::text in ('*', p.command)
                   and exists (select from unnest(y.polroles) o (role)
                               where case o.role when 0 then true else pg_has_role(o.role, 'USAGE') end)), false)) as hidden,
       exists (select from pg_rewrite w
               where w.ev_class = c.oid and w.ev_type in ('2', '3') and w.ev_enabled::text in ('A', fires.also))
         or exists (with recursive part (oid) as (
                        select c.oid union select h.inhrelid from part p join pg_inherits h on h.inhparent = p.oid)
                    select from part p join pg_trigger t on t.tgrelid = p.oid
                    where not t.tgisinternal and t.tgtype & 3 = 3
                      and t.tgtype & case c.relkind when 'p' then 28 else 20 end <> 0
                      and t.tgenabled::text in ('A', fires.also)
                      and t.tgfoid <> 'pg_catalog.suppress_redundant_updates_trigger'::regproc) as may_skip
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
cross join (select case current_setting('session_replication_role') when 'replica' then 'R' else 'O' end as also) fires
where c.relkind in ('r', 'p')
  and (n.nspname = $1 and c.relname = any ($2) or n.nspname = 'starlift' and c.relname = any ($3))
order by 2";
