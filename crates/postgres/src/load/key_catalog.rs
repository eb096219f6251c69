//! Reads what the columns of the models' keys are made of: two queries, however many there are.

use std::collections::BTreeMap;

use starlift_core::Result;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::key_type::{KeyType, TypeRow};
use super::model::ModelTable;
use super::target::TargetTable;
use crate::sqlstate::classify;

const READ: &str = "cannot read the types of the warehouse's keys";

/// Completes tables by the types of their models' keys.
///
/// Run it in a transaction with the settings of [`super::session::begin`]: names of types depend on the search path.
///
/// # Errors
/// What the server says.
pub(crate) async fn read_keys(
    client: &Client,
    tables: &mut BTreeMap<String, TargetTable>,
    models: &[&ModelTable],
) -> Result<()> {
    let failed = |e| classify(e, READ);
    let (mut relations, mut names) = (Vec::new(), Vec::new());
    for model in models {
        let Some(table) = tables.get(&model.name) else { continue };
        for column in &model.schema.key {
            relations.push(table.oid);
            names.push(column.as_str());
        }
    }
    let parameters: &[(&(dyn ToSql + Sync), Type)] = &[(&relations, Type::OID_ARRAY), (&names, Type::TEXT_ARRAY)];
    let columns = client.query_typed(COLUMNS, parameters).await.map_err(failed)?;
    let columns: Vec<(String, String, u32, Option<String>)> = columns.iter().map(column_of).collect::<Result<_>>()?;
    let oids: Vec<u32> = columns.iter().map(|(_, _, oid, _)| *oid).collect();
    let rows = client.query_typed(TYPES, &[(&oids, Type::OID_ARRAY)]).await.map_err(failed)?;
    let types: BTreeMap<u32, TypeRow> = rows.iter().map(type_of).collect::<Result<_>>()?;
    for (table, column, oid, collation) in columns {
        if let Some(table) = tables.get_mut(&table) {
            table.key_types.insert(column, KeyType::of(&types, oid, collation));
        }
    }
    Ok(())
}

fn column_of(row: &Row) -> Result<(String, String, u32, Option<String>)> {
    let read = |e| classify(e, READ);
    Ok((
        row.try_get("table_name").map_err(read)?,
        row.try_get("column_name").map_err(read)?,
        row.try_get("type").map_err(read)?,
        row.try_get("collation").map_err(read)?,
    ))
}

fn type_of(row: &Row) -> Result<(u32, TypeRow)> {
    let read = |e| classify(e, READ);
    let char_of = |name: &str| {
        let text: String = row.try_get(name).map_err(read)?;
        Ok(text.chars().next().unwrap_or(' '))
    };
    let found = TypeRow {
        name: row.try_get("name").map_err(read)?,
        kind: char_of("kind")?,
        category: char_of("category")?,
        base: row.try_get("base").map_err(read)?,
        element: row.try_get("element").map_err(read)?,
        part: row.try_get("part").map_err(read)?,
        sql: row.try_get("sql").map_err(read)?,
        extension: row.try_get("extension").map_err(read)?,
        equals: row.try_get("equals").map_err(read)?,
    };
    Ok((row.try_get("oid").map_err(read)?, found))
}

const COLUMNS: &str = "\
select c.relname::text as table_name, a.attname::text as column_name, a.atttypid as type,
       case when not k.collisdeterministic then quote_ident(n.nspname) || '.' || quote_ident(k.collname) end as collation
from unnest($1::oid[], $2::text[]) as w (relation, name)
join pg_attribute a on a.attrelid = w.relation and a.attname = w.name and a.attnum > 0 and not a.attisdropped
join pg_class c on c.oid = a.attrelid
left join pg_collation k on k.oid = a.attcollation
left join pg_namespace n on n.oid = k.collnamespace";

// The types, and what they are made of: domains, arrays, ranges, multiranges, which 13 has none of, nor pg_range their column.
const TYPES: &str = "\
with recursive ranges as (
    select r.rngtypid, r.rngsubtype, coalesce((to_jsonb(r) ->> 'rngmultitypid')::oid, 0::oid) as multi from pg_range r
), made as (
    select t.oid, case when t.typtype = 'd' then t.typbasetype else 0::oid end as base,
           case when t.typtype <> 'd' and t.typcategory = 'A' then t.typelem else 0::oid end as element,
           coalesce(r.rngsubtype, m.rngtypid, 0::oid) as part
    from pg_type t
    left join ranges r on r.rngtypid = t.oid
    left join ranges m on m.multi = t.oid
), wanted (oid) as (
    select unnest($1::oid[])
    union
    select next.oid from wanted w join made m on m.oid = w.oid
    cross join lateral (values (m.base), (m.element), (m.part)) next (oid) where next.oid <> 0
)
select t.oid, t.typname::text as name, t.typtype::text as kind, t.typcategory::text as category,
       m.base, m.element, m.part, format_type(t.oid, -1) as sql,
       (select e.extname::text from pg_depend d join pg_extension e on e.oid = d.refobjid
        where d.classid = 'pg_type'::regclass and d.objid = t.oid and d.deptype = 'e'
          and d.refclassid = 'pg_extension'::regclass limit 1) as extension,
       (select case when n.nspname = 'pg_catalog' then '=' else 'operator(' || quote_ident(n.nspname) || '.' || o.oprname || ')' end
        from pg_opclass c
        join pg_am i on i.oid = c.opcmethod and i.amname = 'btree'
        join pg_amop s on s.amopfamily = c.opcfamily and s.amoplefttype = c.opcintype and s.amoprighttype = c.opcintype
                      and s.amopstrategy = 3 and s.amoppurpose = 's'
        join pg_operator o on o.oid = s.amopopr
        join pg_namespace n on n.oid = o.oprnamespace
        where c.opcdefault and c.opcintype = t.oid limit 1) as equals
from wanted w
join pg_type t on t.oid = w.oid
join made m on m.oid = w.oid";
