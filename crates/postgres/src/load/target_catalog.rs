//! Reads the warehouse's tables from its catalog: one query each for tables, columns, indexes and foreign keys, however
//! many tables there are.

use std::collections::BTreeMap;

use starlift_core::{Error, Result};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::target::{TargetColumn, TargetIndex, TargetTable};
use super::target_type::{TargetType, TypeEntry};
use super::unique::TargetUnique;
use crate::sqlstate::classify;

/// Reads the warehouse's tables of the given names; those that do not exist are left out.
///
/// Run it in a transaction with the settings of [`super::session::begin`]: names of types depend on the search path.
///
/// # Errors
/// Config for a name that is no ordinary table, and what the server says.
pub(crate) async fn read_tables(
    client: &Client,
    schema: &str,
    names: &[&str],
) -> Result<BTreeMap<String, TargetTable>> {
    let what = || format!("cannot read the tables of schema `{schema}` of the warehouse");
    let rows = client
        .query_typed(TABLES, &[(&schema, Type::TEXT), (&names, Type::TEXT_ARRAY)])
        .await
        .map_err(|e| classify(e, what()))?;
    let mut tables = BTreeMap::new();
    for row in rows {
        let get = |e| classify(e, what());
        let name: String = row.try_get("name").map_err(get)?;
        let kind: String = row.try_get("kind").map_err(get)?;
        if !matches!(kind.as_str(), "r" | "p") {
            return Err(Error::config(format!("`{name}` in the warehouse is no table"))
                .with_detail("starlift loads into ordinary and partitioned tables")
                .with_hint("rename it or the model"));
        }
        let estimated: i64 = row.try_get("estimated_rows").map_err(get)?;
        let table = TargetTable {
            schema: schema.to_string(),
            name: name.clone(),
            oid: row.try_get("oid").map_err(get)?,
            columns: Vec::new(),
            primary_key: row.try_get("primary_key").map_err(get)?,
            indexes: Vec::new(),
            uniques: Vec::new(),
            foreign_keys: BTreeMap::new(),
            estimated_rows: u64::try_from(estimated).unwrap_or(0),
            owned: row.try_get("owned").map_err(get)?,
            lacking: row.try_get("lacking").map_err(get)?,
            locked_sequence: row.try_get("locked_sequence").map_err(get)?,
            locked_identity: row.try_get("locked_identity").map_err(get)?,
            may_skip: false,
            key_types: BTreeMap::new(),
        };
        tables.insert(name, table);
    }
    read_columns(client, &mut tables).await.map_err(|e| classify(e, what()))?;
    read_indexes(client, &mut tables).await.map_err(|e| classify(e, what()))?;
    read_foreign_keys(client, &mut tables).await.map_err(|e| classify(e, what()))?;
    Ok(tables)
}

/// The sequences of these facts that a load needs `USAGE` on, quoted: those that serial columns own, for an insert, and that of an
/// identity in the primary key, whose last number is asked for before versions are appended. An insert alone needs no grant for it.
///
/// # Errors
/// Those of reading the catalog.
pub async fn owned_sequences(client: &Client, schema: &str, tables: &[String]) -> Result<Vec<String>> {
    let sql = "select quote_ident(n.nspname) || '.' || quote_ident(s.relname) from pg_class c \
               join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = c.oid \
               join pg_class s on d.classid = 'pg_class'::regclass and s.oid = d.objid and s.relkind = 'S' \
               join pg_namespace n on n.oid = s.relnamespace \
               where c.relnamespace = (select oid from pg_namespace where nspname = $1) and c.relname = any ($2) \
                 and (d.deptype = 'a' or d.deptype = 'i' and exists (select from pg_index i where i.indrelid = c.oid \
                      and i.indisprimary and d.refobjsubid = any (i.indkey::int2[]))) order by 1";
    let failed = |e| classify(e, "cannot read the sequences of the warehouse's tables");
    let rows = client.query_typed(sql, &[(&schema, Type::TEXT), (&tables, Type::TEXT_ARRAY)]).await.map_err(failed)?;
    rows.iter().map(|row| row.try_get(0).map_err(failed)).collect()
}

async fn read_columns(
    client: &Client,
    tables: &mut BTreeMap<String, TargetTable>,
) -> Result<(), tokio_postgres::Error> {
    let oids: Vec<u32> = tables.values().map(|t| t.oid).collect();
    for row in client.query_typed(COLUMNS, &[(&oids, Type::OID_ARRAY)]).await? {
        let table: String = row.try_get("table_name")?;
        let char_of = |name: &str| row.try_get::<_, String>(name).map(|s| s.chars().next().unwrap_or(' '));
        let cast: String = row.try_get("cast_name")?;
        let entry = TypeEntry {
            oid: row.try_get("base")?,
            kind: char_of("kind")?,
            category: char_of("category")?,
            name: &cast,
        };
        let part_name: Option<String> = row.try_get("part_name")?;
        let part = match &part_name {
            Some(name) => Some(TypeEntry {
                oid: row.try_get("part")?,
                kind: char_of("part_kind")?,
                category: char_of("part_category")?,
                name,
            }),
            None => None,
        };
        let column = TargetColumn {
            name: row.try_get("name")?,
            declared: row.try_get("declared")?,
            holds: TargetType::from_catalog(entry, row.try_get("typmod")?, part),
            not_null: row.try_get("not_null")?,
            fills_itself: row.try_get("fills_itself")?,
            generated: row.try_get("generated")?,
            counts: row.try_get("counts")?,
            downwards: row.try_get("downwards")?,
            of_domain: row.try_get("of_domain")?,
            cast,
        };
        if let Some(table) = tables.get_mut(&table) {
            table.columns.push(column);
        }
    }
    Ok(())
}

async fn read_indexes(
    client: &Client,
    tables: &mut BTreeMap<String, TargetTable>,
) -> Result<(), tokio_postgres::Error> {
    let oids: Vec<u32> = tables.values().map(|t| t.oid).collect();
    for row in client.query_typed(INDEXES, &[(&oids, Type::OID_ARRAY)]).await? {
        let table: String = row.try_get("table_name")?;
        let index = TargetIndex { columns: row.try_get("columns")?, unique: row.try_get("is_unique")? };
        let unique = match index.unique {
            true => Some(TargetUnique {
                name: row.try_get("name")?,
                columns: index.columns.clone(),
                has_expressions: row.try_get("has_expressions")?,
                definition: row.try_get("definition")?,
                immediate: row.try_get("is_immediate")?,
            }),
            false => None,
        };
        let is_plain: bool = row.try_get("is_plain")?;
        if let Some(table) = tables.get_mut(&table) {
            table.uniques.extend(unique);
            table.indexes.extend(Some(index).filter(|_| is_plain));
        }
    }
    Ok(())
}

async fn read_foreign_keys(
    client: &Client,
    tables: &mut BTreeMap<String, TargetTable>,
) -> Result<(), tokio_postgres::Error> {
    let oids: Vec<u32> = tables.values().map(|t| t.oid).collect();
    for row in client.query_typed(FOREIGN_KEYS, &[(&oids, Type::OID_ARRAY)]).await? {
        let table: String = row.try_get("table_name")?;
        let column: String = row.try_get("column_name")?;
        let target = (row.try_get("target_table")?, row.try_get("target_column")?);
        if let Some(table) = tables.get_mut(&table) {
            table.foreign_keys.insert(column, target);
        }
    }
    Ok(())
}

// reltuples is -1 (14 and later) or 0 (13) before the first analyze; the size of the table then tells about 100 bytes
// a row. The sequence of a serial column needs a grant of its own for every insert, that of an identity only where its last number
// is asked for; indexes depend on their table in the same way, and CASE keeps the privilege from being asked of them.
const TABLES: &str = "\
select c.relname::text as name, c.relkind::text as kind, c.oid,
       greatest(c.reltuples::bigint, pg_relation_size(c.oid) / 100) as estimated_rows,
       pg_has_role(c.relowner, 'USAGE') as owned,
       array(select p from unnest(array['select', 'insert', 'update']) p
             where not has_table_privilege(c.oid, p)) as lacking,
       array(select a.attname::text from pg_index i, unnest(i.indkey::int2[]) with ordinality k(attnum, position)
             join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
             where i.indrelid = c.oid and i.indisprimary order by k.position) as primary_key,
       (select quote_ident(n.nspname) || '.' || quote_ident(s.relname)
        from pg_depend d join pg_class s on s.oid = d.objid
        join pg_namespace n on n.oid = s.relnamespace
        where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = c.oid
          and d.deptype = 'a' and case when s.relkind = 'S' then not has_sequence_privilege(s.oid, 'USAGE') end
        limit 1) as locked_sequence,
       (select quote_ident(n.nspname) || '.' || quote_ident(s.relname)
        from pg_index i join pg_depend d on d.refobjid = i.indrelid and d.refobjsubid = any (i.indkey::int2[])
        join pg_class s on s.oid = d.objid
        join pg_namespace n on n.oid = s.relnamespace
        where i.indrelid = c.oid and i.indisprimary
          and d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
          and d.deptype = 'i' and case when s.relkind = 'S' then not has_sequence_privilege(s.oid, 'USAGE') end
        limit 1) as locked_identity
from pg_class c
where c.relnamespace = (select oid from pg_namespace where nspname = $1) and c.relname = any ($2)
  and c.relkind in ('r', 'p', 'v', 'm', 'f')";

// Domains are taken off one by one, of what an array or a range is made of as well; the modifier is that of the innermost that
// has one. Before 14 a range has no multirange, nor pg_range its column.
const COLUMNS: &str = "\
with recursive layer as (
    select a.attrelid, a.attnum, a.atttypid as type, a.atttypmod as typmod, a.attnotnull as not_null
    from pg_attribute a where a.attrelid = any ($1) and a.attnum > 0 and not a.attisdropped
    union all
    select l.attrelid, l.attnum, t.typbasetype, case when t.typtypmod = -1 then l.typmod else t.typtypmod end,
           l.not_null or t.typnotnull
    from layer l join pg_type t on t.oid = l.type where t.typtype = 'd'
), part as (
    select l.attrelid, l.attnum, coalesce(g.rngsubtype, t.typelem) as type, l.typmod
    from layer l join pg_type t on t.oid = l.type
    left join pg_range g on t.typtype in ('r', 'm') and t.oid::text in (g.rngtypid::text, to_jsonb(g) ->> 'rngmultitypid')
    where t.typcategory = 'A' or g.rngtypid is not null
    union all
    select p.attrelid, p.attnum, t.typbasetype, case when t.typtypmod = -1 then p.typmod else t.typtypmod end
    from part p join pg_type t on t.oid = p.type where t.typtype = 'd'
)
select c.relname::text as table_name, a.attname::text as name, format_type(a.atttypid, a.atttypmod) as declared,
       l.type as base, coalesce(e.typmod, l.typmod) as typmod, coalesce(e.of_domain, false) as of_domain,
       case when e.of_domain then format_type(e.oid, -1) || '[]' else format_type(l.type, -1) end as cast_name,
       t.typtype::text as kind, t.typcategory::text as category,
       e.oid as part, e.typtype::text as part_kind, e.typcategory::text as part_category, format_type(e.oid, -1) as part_name,
       l.not_null, a.atthasdef or a.attidentity <> '' or outermost.typdefault is not null as fills_itself,
       a.attgenerated <> '' or a.attidentity = 'a' as generated,
       l.type in (20, 21, 23) and (a.attidentity <> '' or coalesce(pg_get_expr(d.adbin, d.adrelid), '') like 'nextval(%')
           and down.sequence is null as counts,
       down.sequence as downwards
from layer l
join pg_type t on t.oid = l.type and t.typtype <> 'd'
join pg_attribute a on a.attrelid = l.attrelid and a.attnum = l.attnum
join pg_type outermost on outermost.oid = a.atttypid
join pg_class c on c.oid = a.attrelid
left join lateral (
    select e.oid, e.typtype, e.typcategory, p.typmod, t.typcategory = 'A' and e.oid <> t.typelem as of_domain
    from part p join pg_type e on e.oid = p.type and e.typtype <> 'd'
    where p.attrelid = l.attrelid and p.attnum = l.attnum
) e on true
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
left join lateral (
    select quote_ident(n.nspname) || '.' || quote_ident(s.relname) as sequence
    from (select x.objid as oid from pg_depend x
           where x.refclassid = 'pg_class'::regclass and x.refobjid = a.attrelid and x.refobjsubid = a.attnum
             and x.classid = 'pg_class'::regclass and x.deptype = 'i'
          union all
          select x.refobjid from pg_depend x
           where x.classid = 'pg_attrdef'::regclass and x.objid = d.oid and x.refclassid = 'pg_class'::regclass) u
    join pg_sequence q on q.seqrelid = u.oid and q.seqincrement < 0
    join pg_class s on s.oid = u.oid
    join pg_namespace n on n.oid = s.relnamespace
    limit 1
) down on l.type in (20, 21, 23)
order by a.attrelid, a.attnum";

const INDEXES: &str = "\
select c.relname::text as table_name, i.indisunique as is_unique, x.relname::text as name,
       i.indpred is null and i.indexprs is null as is_plain, i.indexprs is not null as has_expressions,
       i.indimmediate as is_immediate,
       (select pg_get_constraintdef(k.oid) from pg_constraint k
        where k.conrelid = i.indrelid and k.conindid = i.indexrelid and k.contype in ('p', 'u') limit 1) as definition,
       array(select a.attname::text from unnest(i.indkey::int2[]) with ordinality k(attnum, position)
             join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
             where k.position <= i.indnkeyatts order by k.position) as columns
from pg_index i
join pg_class c on c.oid = i.indrelid
join pg_class x on x.oid = i.indexrelid
join pg_am m on m.oid = x.relam and m.amname = 'btree'
where i.indrelid = any ($1) and i.indisvalid";

const FOREIGN_KEYS: &str = "\
select c.relname::text as table_name, a.attname::text as column_name, r.relname::text as target_table,
       b.attname::text as target_column
from pg_constraint f
join pg_class c on c.oid = f.conrelid
join pg_class r on r.oid = f.confrelid and r.relnamespace = c.relnamespace
join pg_attribute a on a.attrelid = f.conrelid and a.attnum = f.conkey[1]
join pg_attribute b on b.attrelid = f.confrelid and b.attnum = f.confkey[1]
where f.contype = 'f' and cardinality(f.conkey) = 1 and f.conrelid = any ($1)";
