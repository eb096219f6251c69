//! The queries behind a catalog (PostgreSQL manual, chapter "System Catalogs").

use std::collections::{BTreeMap, BTreeSet};

use starlift_core::{Error, Result};
use tokio_postgres::types::{FromSql, ToSql};
use tokio_postgres::{Client, Row};

use super::resolve::{Attribute, PgType, Types};
use super::{ForeignKey, TableKind};
use crate::sqlstate::classify;

/// What the queries found, before types are resolved.
pub(super) struct Found {
    pub(super) role: String,
    pub(super) may_use_schema: bool,
    /// By name.
    pub(super) tables: Vec<FoundTable>,
    pub(super) types: Types,
}

pub(super) struct FoundTable {
    pub(super) oid: u32,
    pub(super) name: String,
    pub(super) kind: TableKind,
    pub(super) columns: Vec<Attribute>,
    /// Keys over columns that are not null, the best first: the primary key, else the unique index with the fewest
    /// columns, else the one whose columns come first.
    pub(super) keys: Vec<Vec<String>>,
    pub(super) partitions: Vec<u32>,
    pub(super) has_inheritors: bool,
    pub(super) estimated_rows: Option<u64>,
    pub(super) bytes: u64,
    pub(super) may_select: bool,
    pub(super) row_security: bool,
    pub(super) references: BTreeSet<String>,
    pub(super) indexed: BTreeSet<String>,
    pub(super) foreign_keys: Vec<ForeignKey>,
}

const SCHEMA: &str = "
select n.oid, current_user::text as role, has_schema_privilege(n.oid, 'usage') as may_use
from pg_catalog.pg_namespace n where n.nspname = $1";

/// How often tables are looked up while some of them are dropped meanwhile: another one may have taken the place.
const LOOKS: u32 = 3;

/// Children of every level come with their root: partitions, and what plainly inherits. A temporary child is another session's,
/// and shows its rows to nobody else.
const TABLES: &str = "
with recursive root as (
  select c.oid, c.relname, c.relkind, c.reltuples
  from pg_catalog.pg_class c
  where c.relnamespace = $1
    and ((c.relkind in ('r', 'p') and not c.relispartition) or (c.relkind in ('v', 'm', 'f') and c.relname::text = any($2)))
), tree as (
  select oid as root, oid as child from root
  union
  select t.root, i.inhrelid from tree t join pg_catalog.pg_inherits i on i.inhparent = t.child
  join pg_catalog.pg_class k on k.oid = i.inhrelid and k.relpersistence <> 't'
), sums as (
  select t.root,
         sum(pg_catalog.pg_table_size(t.child))::bigint as bytes,
         sum(greatest(c.reltuples, 0)::float8) filter (where c.relkind <> 'p') as estimated_rows,
         bool_or(c.reltuples >= 0 and c.relpages > 0) as analysed,
         array_agg(t.child order by t.child) filter (where t.child <> t.root) as children
  from tree t join pg_catalog.pg_class c on c.oid = t.child
  group by t.root
)
select r.oid, r.relname::text as name, r.relkind::text as kind, s.bytes, s.estimated_rows, s.analysed,
       coalesce(s.children, '{}') as children,
       has_table_privilege(r.oid, 'select') as may_select,
       row_security_active(r.oid) as row_security,
       array(select distinct f.relname::text
             from pg_catalog.pg_constraint k join pg_catalog.pg_class f on f.oid = k.confrelid
             where k.conrelid = r.oid and k.contype = 'f' and f.relnamespace = $1 and not f.relispartition
               and f.oid <> r.oid order by 1) as referenced
from root r join sums s on s.root = r.oid
order by 2";

const COLUMNS: &str = "
select a.attrelid, a.attname::text as name, a.atttypid, a.atttypmod,
       -- Since PostgreSQL 18 a NOT NULL may be NOT VALID: rows from before it may have nulls. Older ones have no such constraint.
       a.attnotnull and not exists (select from pg_catalog.pg_constraint k where k.conrelid = a.attrelid and k.contype = 'n'
                                    and not k.convalidated and k.conkey = array[a.attnum]),
       format_type(a.atttypid, a.atttypmod) as declared, a.attnum, a.attndims::int4,
       -- Since PostgreSQL 18.
       case when a.attgenerated = 'v' then pg_get_expr(d.adbin, d.adrelid) end as computed
from pg_catalog.pg_attribute a
left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = any($1) and a.attnum > 0 and not a.attisdropped
order by a.attrelid, a.attnum";

/// All types that the columns lead to: base types of domains, elements of arrays, fields of composite types, bounds of
/// ranges.
const TYPES: &str = "
with recursive edge as (
  select distinct 0::oid as whole, a.atttypid as part from pg_catalog.pg_attribute a
  where a.attrelid = any($1) and a.attnum > 0 and not a.attisdropped
  union
  select e.part, next.oid from edge e join pg_catalog.pg_type t on t.oid = e.part
  cross join lateral (
    select v.oid from (values (t.typbasetype), (t.typelem)) as v (oid)
    union all
    select a.atttypid from pg_catalog.pg_attribute a
    where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
    union all
    select r.rngsubtype from pg_catalog.pg_range r
    -- Multiranges came with PostgreSQL 14, and their column of `pg_range` with them.
    where r.rngtypid = t.oid or to_jsonb(r) ->> 'rngmultitypid' = t.oid::text
  ) as next (oid)
  where next.oid <> 0
)
select t.oid, t.typname::text as name, t.typnamespace = 'pg_catalog'::regnamespace as built_in, t.typtype::text as class,
       t.typbasetype, t.typtypmod,
       case when exists (select from pg_catalog.pg_type e where e.oid = t.typelem and e.typarray = t.oid)
            then t.typelem else 0::oid end as element,
       array(select e.enumlabel::text from pg_catalog.pg_enum e where e.enumtypid = t.oid order by e.enumsortorder) as labels,
       array(select e.part from edge e where e.whole = t.oid order by 1) as parts,
       array(select a.attnum || ' ' || a.attname::text || ' ' || format_type(a.atttypid, a.atttypmod) from pg_catalog.pg_attribute a
             where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
             order by a.attnum) as fields,
       -- A renamed one has another `xmin`, and keeps it when it is renamed back; a field that is dropped leaves its row.
       array(select e.oid || ' ' || e.xmin from pg_catalog.pg_enum e where e.enumtypid = t.oid
             union all
             select a.attrelid || ' ' || a.attnum || ' ' || a.xmin from pg_catalog.pg_attribute a
             where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0) as versions,
       -- What gives a text that is not the one of its output function; `WITH INOUT` gives that.
       array(select format_type(k.casttarget, -1) || ' ' || k.oid || ' ' || k.xmin from pg_catalog.pg_cast k
             where k.castsource = t.oid and k.casttarget in ('text'::regtype, 'text[]'::regtype) and k.castmethod <> 'i') as casts,
       exists (select from pg_catalog.pg_cast k where k.castsource = t.oid and k.casttarget = 'json'::regtype and k.castmethod = 'f')
from pg_catalog.pg_type t where t.oid in (select e.part from edge e)";

/// A unique index identifies rows where it is valid, covers all rows, and its columns are plain and not null.
const KEYS: &str = "
select i.indrelid,
       array(select a.attname::text from unnest(i.indkey::int2[]) with ordinality k (attnum, position)
             join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
             where k.position <= i.indnkeyatts order by k.position) as names
from pg_catalog.pg_index i
where i.indrelid = any($1) and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
  and not exists (select from unnest(i.indkey::int2[]) with ordinality k (attnum, position)
                  left join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
                  where k.position <= i.indnkeyatts
                    -- As with columns: rows may break a NOT NULL that is not valid.
                    and (a.attnotnull is not true
                         or exists (select from pg_catalog.pg_constraint n where n.conrelid = i.indrelid and n.contype = 'n'
                                    and not n.convalidated and n.conkey = array[a.attnum])))
order by i.indrelid, not i.indisprimary, i.indnkeyatts, i.indkey::int2[]";

/// The columns that an index begins with which has an entry for every row and can be searched by an order.
const INDEXED: &str = "
select i.indrelid, a.attname::text
from pg_catalog.pg_index i
join pg_catalog.pg_class c on c.oid = i.indexrelid
join pg_catalog.pg_am m on m.oid = c.relam and m.amname = 'btree'
join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
where i.indrelid = any($1) and i.indisvalid and i.indisready and i.indpred is null";

const FOREIGN_KEYS: &str = "
select k.conrelid, f.relname::text,
       array(select a.attname::text from unnest(k.conkey) with ordinality c (attnum, position)
             join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = c.attnum order by c.position) as columns,
       array(select a.attname::text from unnest(k.confkey) with ordinality c (attnum, position)
             join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = c.attnum order by c.position) as key
from pg_catalog.pg_constraint k
join pg_catalog.pg_class r on r.oid = k.conrelid
join pg_catalog.pg_class f on f.oid = k.confrelid and f.relnamespace = r.relnamespace and not f.relispartition
where k.conrelid = any($1) and k.contype = 'f'
  -- With a PERIOD (PostgreSQL 18) rows refer to what their period lies in, not to one row of the same period.
  and to_jsonb(k) ->> 'conperiod' is distinct from 'true'
order by k.conrelid, k.conname";

pub(super) async fn has_view(client: &Client, schema: &str, name: &str) -> Result<bool> {
    let sql =
        "select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
               where n.nspname = $1 and c.relname = $2 and c.relkind in ('v', 'm', 'f'))";
    let failed = |error| classify(error, format!("cannot read the views of schema `{schema}`"));
    get(&client.query_one(sql, &[&schema, &name]).await.map_err(failed)?, 0)
}

pub(super) async fn read(client: &Client, schema: &str, views: &[String]) -> Result<Found> {
    let what = || format!("cannot read the catalog of schema `{schema}`");
    let failed = |error| classify(error, what());
    let Some(row) = client.query_opt(SCHEMA, &[&schema]).await.map_err(failed)? else {
        return Err(Error::config(format!("there is no schema `{schema}`"))
            .with_hint("set `schema` under `[source]` in starlift.toml; `\\dn` in psql lists them"));
    };
    let (schema_oid, role, may_use_schema): (u32, String, bool) = (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);

    let mut tables = Vec::new();
    for _ in 0..LOOKS {
        let rows = client.query(TABLES, &[&schema_oid, &views]).await.map_err(failed)?;
        let number = rows.len();
        tables = rows.iter().filter_map(|row| table(row).transpose()).collect::<Result<_>>()?;
        if tables.len() == number {
            break;
        }
    }
    let oids: Vec<u32> = tables.iter().map(|t| t.oid).collect();
    // Sent together, they cost one round trip.
    let parameters: [&(dyn ToSql + Sync); 1] = [&oids];
    let (columns, types, keys, indexed, foreign_keys) = futures::try_join!(
        client.query(COLUMNS, &parameters),
        client.query(TYPES, &parameters),
        client.query(KEYS, &parameters),
        client.query(INDEXED, &parameters),
        client.query(FOREIGN_KEYS, &parameters),
    )
    .map_err(failed)?;

    let mut by_oid: BTreeMap<u32, &mut FoundTable> = tables.iter_mut().map(|t| (t.oid, t)).collect();
    for row in columns {
        if let Some(table) = by_oid.get_mut(&get(&row, 0)?) {
            table.columns.push(Attribute {
                name: get(&row, 1)?,
                type_oid: get(&row, 2)?,
                typmod: get(&row, 3)?,
                not_null: get(&row, 4)?,
                declared: get(&row, 5)?,
                number: get(&row, 6)?,
                dimensions: get(&row, 7)?,
                computed: get(&row, 8)?,
            });
        }
    }
    for row in keys {
        if let Some(table) = by_oid.get_mut(&get(&row, 0)?) {
            table.keys.push(get(&row, 1)?);
        }
    }
    for row in indexed {
        if let Some(table) = by_oid.get_mut(&get(&row, 0)?) {
            table.indexed.insert(get(&row, 1)?);
        }
    }
    for row in foreign_keys {
        if let Some(table) = by_oid.get_mut(&get(&row, 0)?) {
            table.foreign_keys.push(ForeignKey { table: get(&row, 1)?, columns: get(&row, 2)?, key: get(&row, 3)? });
        }
    }
    let mut known = Types::new();
    for row in types {
        let class: String = get(&row, 3)?;
        known.insert(
            get(&row, 0)?,
            PgType {
                name: get(&row, 1)?,
                built_in: get(&row, 2)?,
                class: class.chars().next().unwrap_or(' '),
                base: get(&row, 4)?,
                base_typmod: get(&row, 5)?,
                element: get(&row, 6)?,
                labels: get(&row, 7)?,
                parts: get(&row, 8)?,
                fields: get(&row, 9)?,
                versions: get(&row, 10)?,
                casts: get(&row, 11)?,
                is_cast_to_json: get(&row, 12)?,
            },
        );
    }
    Ok(Found { role, may_use_schema, tables, types: known })
}

/// The table of a row; none where it was dropped since the snapshot of the query, which then still shows it. What it may be read
/// by, the server looks up as of now.
fn table(row: &Row) -> Result<Option<FoundTable>> {
    let may_select: Option<bool> = get(row, 7)?;
    let Some(may_select) = may_select else { return Ok(None) };
    let kind: String = get(row, 2)?;
    let kind = match kind.as_str() {
        "r" => TableKind::Table,
        "p" => TableKind::Partitioned,
        "v" => TableKind::View,
        _ => TableKind::Unlockable,
    };
    let bytes: Option<i64> = get(row, 3)?;
    let estimated_rows: Option<f64> = get(row, 4)?;
    let analysed: bool = get(row, 5)?;
    let partitions: Vec<u32> = get(row, 6)?;
    let references: Vec<String> = get(row, 9)?;
    Ok(Some(FoundTable {
        oid: get(row, 0)?,
        name: get(row, 1)?,
        kind,
        columns: Vec::new(),
        keys: Vec::new(),
        has_inheritors: kind == TableKind::Table && !partitions.is_empty(),
        partitions,
        estimated_rows: estimated_rows.filter(|_| analysed).map(|rows| rows as u64),
        bytes: bytes.and_then(|b| u64::try_from(b).ok()).unwrap_or(0),
        may_select,
        row_security: get(row, 8)?,
        references: references.into_iter().collect(),
        indexed: BTreeSet::new(),
        foreign_keys: Vec::new(),
    }))
}

fn get<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T> {
    row.try_get(column).map_err(|error| classify(error, "the catalog has an unexpected form"))
}
