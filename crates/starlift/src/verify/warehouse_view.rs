//! The warehouse at one snapshot: the ledger's head, and the columns of the views `current_<model>`.

use std::collections::{BTreeMap, HashSet};

use starlift_core::load_plan::LedgerHead;
use starlift_core::manifest::Relation;
use starlift_core::model::ModelKind;
use starlift_core::{Column, ColumnType, Error, Result};
use starlift_postgres::Connection;
use starlift_postgres::ident::{quote_ident, quote_qualified};
use starlift_postgres::load::{self, ModelTable, view_name};
use starlift_postgres::render::sql_text;
use starlift_postgres::sqlstate::classify;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::lake_side::digests_of_keys;
use super::row_digest::RowDigest;
use super::sql_side::{SqlColumn, SqlSide};
use crate::config::Side as Database;
use crate::context::Context;

const READ: &str = "cannot read the catalog of the warehouse";

/// The warehouse in one read-only transaction.
pub(super) struct WarehouseView {
    connection: Connection,
    schema: String,
    /// The newest ledger row of the pipeline and star.
    pub(super) head: Option<LedgerHead>,
}

/// What a column of a view holds when domains are taken off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// `pg_type.typname` of the base type, of an array's elements where it is one.
    pub(super) base: String,
    /// `pg_type.typcategory` of the same.
    pub(super) category: char,
    /// Whether it is an array of it.
    pub(super) is_array: bool,
}

impl Held {
    /// Whether it is a `char(n)`, where blanks at the end mean nothing.
    pub(super) fn is_padded(&self) -> bool {
        self.base == "bpchar" && !self.is_array
    }
}

/// Which columns of a model's key a view holds as `char(n)`.
pub(super) fn padded_key(key: &[String], held: Option<&BTreeMap<String, Held>>) -> Vec<bool> {
    key.iter().map(|name| held.and_then(|held| held.get(name)).is_some_and(Held::is_padded)).collect()
}

impl WarehouseView {
    /// Connects, takes the snapshot and reads the ledger's head for this star.
    pub(super) async fn open(ctx: &Context, star_id: &str) -> Result<WarehouseView> {
        let connection = ctx.connect(Database::Warehouse).await?;
        let client = connection.client();
        // Names of types depend on the search path, their texts on the other settings.
        let begin = "begin isolation level repeatable read read only; \
                     set local search_path = pg_catalog; set local timezone = 'UTC'; set local datestyle = 'ISO, YMD'; \
                     set local intervalstyle = 'postgres'; set local bytea_output = 'hex'; \
                     set local extra_float_digits = 3; set local jit = off; \
                     set local idle_in_transaction_session_timeout = 0";
        client.batch_execute(begin).await.map_err(|e| classify(e, "cannot begin a transaction in the warehouse"))?;
        let head = load::head(client, &ctx.config.pipeline, star_id).await?;
        Ok(WarehouseView { schema: ctx.config.warehouse.schema.clone(), head, connection })
    }

    pub(super) fn client(&self) -> &Client {
        self.connection.client()
    }

    /// The quoted name of a model's table.
    pub(super) fn table(&self, model: &str) -> String {
        quote_qualified(&self.schema, model)
    }

    /// The quoted name of a model's view of current rows.
    pub(super) fn view(&self, model: &str) -> String {
        quote_qualified(&self.schema, &view_name(model))
    }

    /// The keys of a model's rows that load has set aside; `padded` tells which columns of the key the view holds as `char(n)`.
    pub(super) async fn aside(
        &self,
        pipeline: &str,
        (name, kind): (&str, ModelKind),
        relation: &Relation,
        padded: &[bool],
    ) -> Result<HashSet<RowDigest>> {
        let (name, schema) = (name.to_string(), relation.schema.clone());
        let model = ModelTable { name, kind, schema, references: BTreeMap::new() };
        let keys = load::refused_keys(self.client(), pipeline, &model).await?;
        Ok(keys.iter().flat_map(|keys| digests_of_keys(keys, padded)).flatten().collect())
    }

    /// The columns of a model's view by name; none where there is no such view.
    pub(super) async fn columns(&self, model: &str) -> Result<Option<BTreeMap<String, Held>>> {
        let view = self.view(model);
        let exists = self.client().query_typed_one("select to_regclass($1) is not null", &[(&view, Type::TEXT)]).await;
        if !exists.and_then(|row| row.try_get(0)).map_err(|e| classify(e, READ))? {
            return Ok(None);
        }
        let rows = self.client().query_typed(COLUMNS, &[(&view, Type::TEXT)]).await;
        let mut columns = BTreeMap::new();
        for row in rows.map_err(|e| classify(e, READ))? {
            let text = |position: usize| row.try_get::<_, String>(position).map_err(|e| classify(e, READ));
            let category = text(2)?.chars().next().unwrap_or_default();
            let is_array = row.try_get(3).map_err(|e| classify(e, READ))?;
            columns.insert(text(0)?, Held { base: text(1)?, category, is_array });
        }
        Ok(Some(columns))
    }

    /// The current rows of a model as a side of a comparison.
    pub(super) fn side(&self, model: &str, key: Vec<SqlColumn>, columns: Vec<SqlColumn>) -> SqlSide<'_> {
        SqlSide {
            client: self.client(),
            from: self.view(model),
            key,
            columns,
            flag: None,
            what: format!("view `{}` of the warehouse", view_name(model)),
        }
    }

    /// Ends the transaction.
    pub(super) async fn close(self) -> Result<()> {
        let ended = self.client().batch_execute("rollback").await;
        ended.map_err(|e| classify(e, "cannot end the transaction in the warehouse"))?;
        self.connection.close().await;
        Ok(())
    }
}

/// A model's column as the warehouse holds it; none where the two types have no text in common.
pub(super) fn column(column: &Column, held: &Held) -> Option<SqlColumn> {
    let quoted = quote_ident(&column.name);
    let text = text(&column.column_type, held, column, &quoted)?;
    Some(SqlColumn { text, shown: format!("{quoted}::text"), padded: held.is_padded() })
}

/// The expression whose text equals [`starlift_postgres::render::arrow_text`] of an equal value of the model.
///
/// A column may be wider than the model's, such as bigint for an integer: its text is the same.
fn text(from: &ColumnType, held: &Held, column: &Column, quoted: &str) -> Option<String> {
    let base = held.base.as_str();
    if let ColumnType::Array(element) = from {
        let element_held = Held { is_array: false, ..held.clone() };
        let element = Column { column_type: (**element).clone(), ..column.clone() };
        // Only where the element needs no other expression than its own type's.
        let plain = text(&element.column_type, &element_held, &element, quoted)? == sql_text(&element, quoted);
        return (held.is_array && plain).then(|| sql_text(column, quoted));
    }
    if held.is_array {
        return None;
    }
    let is_text = held.category == 'S' || held.category == 'E';
    let is_integer = ["int2", "int4", "int8"].contains(&base);
    let is_float = ["float4", "float8"].contains(&base);
    let as_text = || Some(format!("({quoted})::text"));
    let trimmed = || Some(format!("trim_scale({quoted})::text"));
    let own = || Some(sql_text(column, quoted));
    match from {
        ColumnType::Bool if base == "bool" => own(),
        ColumnType::Int2 | ColumnType::Int4 | ColumnType::Int8 if is_integer => own(),
        ColumnType::Int2 | ColumnType::Int4 | ColumnType::Int8 if base == "numeric" => trimmed(),
        ColumnType::Numeric { .. } if base == "numeric" => own(),
        ColumnType::Numeric { .. } if is_integer => as_text(),
        // A float's text is the shortest that reads back as it, in powers of ten where it is large.
        ColumnType::Int2 | ColumnType::Int4 | ColumnType::Int8 | ColumnType::Numeric { .. } if is_float => {
            Some(format!("trim_scale(({quoted})::text::numeric)::text"))
        }
        ColumnType::Float4 if base == "float4" => own(),
        ColumnType::Float8 if base == "float8" => own(),
        ColumnType::Bytea if base == "bytea" => own(),
        ColumnType::Date if base == "date" => own(),
        ColumnType::Time if base == "time" => own(),
        ColumnType::Timestamp if base == "timestamp" => own(),
        ColumnType::TimestampTz if base == "timestamptz" => own(),
        ColumnType::Uuid if base == "uuid" => own(),
        ColumnType::Json if base == "json" => own(),
        ColumnType::Jsonb if base == "jsonb" => own(),
        ColumnType::Bool
        | ColumnType::Int2
        | ColumnType::Int4
        | ColumnType::Int8
        | ColumnType::Text
        | ColumnType::Uuid
        | ColumnType::Json
        | ColumnType::Jsonb
            if is_text =>
        {
            as_text()
        }
        _ => None,
    }
}

/// Whether two columns of a lake have the same text for equal values.
pub(super) fn same_text(a: &ColumnType, b: &ColumnType) -> bool {
    let is_integer = |t: &ColumnType| matches!(t, ColumnType::Int2 | ColumnType::Int4 | ColumnType::Int8);
    let is_numeric = |t: &ColumnType| matches!(t, ColumnType::Numeric { .. });
    a == b || (is_integer(a) && is_integer(b)) || (is_numeric(a) && is_numeric(b))
}

/// An error for a ledger that names a manifest which is not the star's.
pub(super) fn disagrees(seq: u64) -> Error {
    Error::config("the ledger of the warehouse and the star disagree")
        .with_detail(format!("star manifest {seq} is another one than the ledger recorded, or is missing"))
        .with_hint("run `starlift load --adopt` to bring the newest star state in and go on from there")
}

// Domains are taken off one by one, of an array and of its elements.
const COLUMNS: &str = "\
with recursive layer as (
    select a.attnum, a.attname::text as name, a.atttypid as type, false as is_array
    from pg_attribute a where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped
    union all
    select l.attnum, l.name, case t.typtype when 'd' then t.typbasetype else t.typelem end, l.is_array or t.typtype <> 'd'
    from layer l join pg_type t on t.oid = l.type
    where t.typtype = 'd' or t.typcategory = 'A' and t.typelem <> 0 and not l.is_array
)
select l.name, t.typname::text, t.typcategory::text, l.is_array
from layer l
join pg_type t on t.oid = l.type
where t.typtype <> 'd' and (l.is_array or t.typcategory <> 'A' or t.typelem = 0)
order by l.attnum";

#[cfg(test)]
mod tests {
    use super::*;

    fn held(base: &str, category: char) -> Held {
        Held { base: base.into(), category, is_array: false }
    }

    fn expression(column_type: ColumnType, held: &Held) -> Option<String> {
        let model = Column { name: "c".into(), column_type, nullable: true, declared: None, labels: vec![] };
        column(&model, held).map(|c| c.text)
    }

    #[test]
    fn columns_of_other_types_are_compared_where_equal_values_have_one_text() {
        let decimal = ColumnType::Numeric { precision: 38, scale: 10 };
        assert_eq!(expression(decimal.clone(), &held("numeric", 'N')).unwrap(), "trim_scale((\"c\"))::text");
        assert_eq!(expression(ColumnType::Int4, &held("int8", 'N')).unwrap(), "(\"c\")::text");
        assert_eq!(expression(ColumnType::Int4, &held("numeric", 'N')).unwrap(), "trim_scale(\"c\")::text");
        assert_eq!(
            expression(decimal.clone(), &held("float8", 'N')).unwrap(),
            "trim_scale((\"c\")::text::numeric)::text"
        );
        assert_eq!(expression(decimal, &held("int4", 'N')).unwrap(), "(\"c\")::text");
        assert_eq!(expression(ColumnType::Text, &held("varchar", 'S')).unwrap(), "(\"c\")::text");
        assert_eq!(expression(ColumnType::Text, &held("mood", 'E')).unwrap(), "(\"c\")::text");
        assert_eq!(expression(ColumnType::Uuid, &held("text", 'S')).unwrap(), "(\"c\")::text");
    }

    #[test]
    fn types_without_a_common_text_are_not_compared() {
        for (column_type, base, category) in [
            (ColumnType::Date, "timestamp", 'D'),
            (ColumnType::Float4, "float8", 'N'),
            (ColumnType::Text, "jsonb", 'U'),
            (ColumnType::Json, "jsonb", 'U'),
            (ColumnType::Numeric { precision: 10, scale: 2 }, "text", 'S'),
            (ColumnType::Array(Box::new(ColumnType::Int4)), "int4", 'N'),
        ] {
            assert_eq!(expression(column_type.clone(), &held(base, category)), None, "{column_type} in {base}");
        }
        let array = Held { is_array: true, ..held("varchar", 'S') };
        assert!(expression(ColumnType::Array(Box::new(ColumnType::Text)), &array).is_some());
        assert_eq!(expression(ColumnType::Text, &array), None);
    }
}
