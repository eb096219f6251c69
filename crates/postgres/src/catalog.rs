//! What a source schema holds: tables, columns, keys, partitions, privileges.
//!
//! Guarantees: names come from `pg_catalog` and are matched exactly; nothing is guessed from a type that is not known
//! (it is reported as [`UnsupportedColumn`]); the same catalog gives the same [`TableSchema`] in every session that has
//! pinned `search_path`, as `SourceSession` does, because `format_type` depends on it.

mod access;
mod query;
mod resolve;
mod settings;

use std::collections::{BTreeMap, BTreeSet};

use starlift_core::model::nearest;
use starlift_core::{Column, ColumnType, Error, ErrorKind, Result, TableSchema};
use tokio_postgres::Client;

pub use self::settings::{ColumnSetting, TableSettings};

/// What a table is (`pg_class.relkind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// An ordinary table, whose children by plain inheritance are read with it.
    Table,
    /// A partitioned table; its partitions are read through it.
    Partitioned,
    /// A view: without `xmin`, read in full.
    View,
    /// A materialised view or a foreign table: the same, and PostgreSQL cannot lock it.
    Unlockable,
}

impl TableKind {
    /// Whether its rows show the transaction that wrote them.
    pub fn has_xmin(self) -> bool {
        matches!(self, TableKind::Table | TableKind::Partitioned)
    }

    /// Whether `LOCK TABLE` takes it. It locks what is below a view, too (PostgreSQL 11 and newer).
    pub fn is_lockable(self) -> bool {
        self != TableKind::Unlockable
    }
}

/// One table of the source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceTable {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: TableKind,
    /// Columns, key, oid and the oids of its partitions or children.
    pub schema: TableSchema,
    /// Which version the labels of enums and fields of composite types have that its values show; none where they show none.
    pub names: Option<String>,
    /// The planner's estimate of its rows; none where it was never analysed.
    pub estimated_rows: Option<u64>,
    /// Bytes on disk, partitions included, indexes not.
    pub bytes: u64,
    /// Whether our role may `select` from all of it.
    pub may_select: bool,
    /// Whether row-level security hides rows from our role.
    pub row_security: bool,
    /// Other tables of the schema that its foreign keys lead to.
    pub references: BTreeSet<String>,
    /// Columns that a btree index over all rows begins with.
    pub indexed: BTreeSet<String>,
    /// Its foreign keys to tables of the schema, itself included.
    pub foreign_keys: Vec<ForeignKey>,
    /// Where it has no key because documents of composite values, which different values may share, identify no row: the
    /// columns whose texts would.
    pub vague_key: Vec<String>,
}

/// Columns of a table whose values, where none is null, are a key of another table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForeignKey {
    /// The table that they refer to.
    pub table: String,
    /// The columns.
    pub columns: Vec<String>,
    /// The columns of the other table, in the same order.
    pub key: Vec<String>,
}

/// A column of a type that starlift does not carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsupportedColumn {
    /// Its table.
    pub table: String,
    /// Its name.
    pub column: String,
    /// Its type as PostgreSQL writes it.
    pub declared: String,
}

/// The tables of one schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalog {
    /// The schema.
    pub schema: String,
    /// The role that we are.
    pub role: String,
    /// Whether our role has `usage` on the schema.
    pub may_use_schema: bool,
    /// Its tables by name.
    pub tables: BTreeMap<String, SourceTable>,
    /// Columns that are missing from the tables above because of their type, by table and position.
    pub unsupported: Vec<UnsupportedColumn>,
}

/// Whether the text of a column shows labels or fields, of a type that is not PostgreSQL's own (its name comes with a schema
/// then, because of `search_path`). A cast from such a type to text is its owner's to make, and may give one text for two labels: the output
/// function of the type gives each its own.
pub(crate) fn shows_names(column: &Column) -> bool {
    let is_text = match &column.column_type {
        ColumnType::Array(element) => **element == ColumnType::Text,
        column_type => *column_type == ColumnType::Text,
    };
    is_text && !column.labels.is_empty() && column.declared.as_ref().is_some_and(|declared| declared.contains('.'))
}

/// Whether a schema has a view, materialised view or foreign table of this name, which [`read_tables`] reads only when asked.
pub(crate) async fn has_view(client: &Client, schema: &str, name: &str) -> Result<bool> {
    query::has_view(client, schema, name).await
}

/// Reads the ordinary and partitioned tables of a schema, partitions left out, and the views (also materialised views
/// and foreign tables) that `views` names; names of tables may be among them. `settings` are by table, then by column.
///
/// # Errors
/// Config where the schema, a view or a setting's table or column does not exist, or a setting does not fit its column.
pub async fn read_tables(client: &Client, schema: &str, settings: &TableSettings, views: &[String]) -> Result<Catalog> {
    let found = query::read(client, schema, views).await?;
    if let Some(missing) = views.iter().find(|view| !found.tables.iter().any(|t| t.name == **view)) {
        return Err(unknown("view", schema, missing, found.tables.iter().map(|t| t.name.as_str())));
    }
    let mut catalog = Catalog {
        schema: schema.to_string(),
        role: found.role,
        may_use_schema: found.may_use_schema,
        tables: BTreeMap::new(),
        unsupported: Vec::new(),
    };
    for table in found.tables {
        let none = BTreeMap::new();
        let wishes = settings.get(&table.name).unwrap_or(&none);
        let resolved = resolve::columns(&table.name, &table.columns, &found.types, wishes)?;
        let columns = resolved.columns;
        let (attributes, names) = (resolved.attributes, resolved.names);
        let carried = |key: &&Vec<String>| key.iter().all(|name| columns.iter().any(|c| c.name == *name));
        let is_vague = |name: &String| resolved.vague.contains(name);
        // A key holds in each child by itself, but not over all of them together.
        let of_all = if table.has_inheritors { Vec::new() } else { table.keys };
        let mut keys = of_all.iter().filter(carried);
        let key = keys.clone().find(|key| !key.iter().any(is_vague)).cloned().unwrap_or_default();
        let vague_key = match keys.next() {
            Some(vague) if key.is_empty() => vague.iter().filter(|name| is_vague(name)).cloned().collect(),
            _ => Vec::new(),
        };
        catalog.unsupported.extend(resolved.unsupported);
        let schema = TableSchema { columns, key, oid: Some(table.oid), partitions: table.partitions, attributes };
        catalog.tables.insert(
            table.name.clone(),
            SourceTable {
                name: table.name,
                kind: table.kind,
                schema,
                names,
                estimated_rows: table.estimated_rows,
                bytes: table.bytes,
                may_select: table.may_select,
                row_security: table.row_security,
                references: table.references,
                indexed: table.indexed,
                foreign_keys: table.foreign_keys,
                vague_key,
            },
        );
    }
    let unknown_table =
        |(name, columns): &(&String, &BTreeMap<_, _>)| !columns.is_empty() && !catalog.tables.contains_key(*name);
    if let Some((missing, _)) = settings.iter().find(unknown_table) {
        return Err(unknown("table", schema, missing, catalog.tables.keys().map(String::as_str)));
    }
    Ok(catalog)
}

impl Catalog {
    /// The table of a name.
    ///
    /// # Errors
    /// Config with the nearest name.
    pub fn table(&self, name: &str) -> Result<&SourceTable> {
        self.tables
            .get(name)
            .ok_or_else(|| unknown("table", &self.schema, name, self.tables.keys().map(String::as_str)))
    }

    /// An Unsupported error that names the columns of these tables which cannot be carried; nothing where all can.
    pub fn check_types(&self, tables: &[String]) -> Result<()> {
        let columns: Vec<&UnsupportedColumn> = self.unsupported.iter().filter(|u| tables.contains(&u.table)).collect();
        let Some(first) = columns.first() else { return Ok(()) };
        let list: Vec<String> =
            columns.iter().map(|u| format!("`{}.{}` is `{}`", u.table, u.column, u.declared)).collect();
        let message = match columns.as_slice() {
            [one] => format!(
                "column `{}` of table `{}.{}` has a type that is not carried",
                one.column, self.schema, one.table
            ),
            _ => format!("{} columns have a type that is not carried", columns.len()),
        };
        Err(Error::new(ErrorKind::Unsupported, message)
            .with_detail(list.join(", "))
            .with_hint(format!(
                "set `columns.{} = {{ as = \"text\" }}` for table `{}` in starlift.toml to read it as text{}",
                first.column,
                first.table,
                if columns.len() > 1 { ", and so for the others" } else { "" }
            ))
            .with_context("table", first.table.clone())
            .with_context("column", first.column.clone()))
    }
}

fn unknown<'a>(what: &str, schema: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Error {
    let error = Error::config(format!("there is no {what} `{name}` in schema `{schema}`"));
    match nearest(name, known) {
        Some(near) => error.with_hint(format!("did you mean `{near}`?")),
        None => error.with_hint("`starlift doctor` lists what is there"),
    }
}
