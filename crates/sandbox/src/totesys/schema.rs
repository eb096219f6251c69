//! The two schemas as the pipeline ships them, and a fingerprint of all that the source holds.

use starlift_core::Result;
use tokio_postgres::Client;

use crate::cluster::quote_identifier;
use crate::failure;

/// The DDL of the source: eleven tables for the first schema of the search path.
pub const SOURCE_SQL: &str = include_str!("../../../../pipelines/totesys/source.sql");

/// The DDL of the warehouse: eight dimensions and three facts. Running it again changes nothing.
pub const WAREHOUSE_SQL: &str = include_str!("../../../../pipelines/totesys/warehouse.sql");

/// The tables of the source with their primary keys, each after the tables that it refers to.
pub const SOURCE_TABLES: [(&str, &str); 11] = [
    ("address", "address_id"),
    ("counterparty", "counterparty_id"),
    ("currency", "currency_id"),
    ("department", "department_id"),
    ("design", "design_id"),
    ("staff", "staff_id"),
    ("payment_type", "payment_type_id"),
    ("sales_order", "sales_order_id"),
    ("purchase_order", "purchase_order_id"),
    ("transaction", "transaction_id"),
    ("payment", "payment_id"),
];

/// Creates the tables of the source, empty; they must not exist.
pub async fn create_source(client: &Client) -> Result<()> {
    client.batch_execute(SOURCE_SQL).await.map_err(|e| failure::postgres("cannot create the tables of ToteSys", e))
}

/// Creates the tables of the warehouse that do not exist.
pub async fn create_warehouse(client: &Client) -> Result<()> {
    client.batch_execute(WAREHOUSE_SQL).await.map_err(|e| failure::postgres("cannot create the warehouse's tables", e))
}

/// An md5 over every row of every table of the source, in the order of the keys: equal if and only if the content is.
/// The server does it in one query per table and needs memory for one table's text; meant for small scales.
pub async fn fingerprint(client: &Client) -> Result<String> {
    let mut parts = Vec::with_capacity(SOURCE_TABLES.len());
    for (table, key) in SOURCE_TABLES {
        let table = quote_identifier(table);
        let sql = format!("select coalesce(md5(string_agg(md5(t::text), '' order by t.{key})), '') from {table} t");
        let row = client
            .query_one(&sql, &[])
            .await
            .map_err(|e| failure::postgres(format!("cannot read the table {table} of ToteSys"), e))?;
        let sum: String =
            row.try_get(0).map_err(|e| failure::postgres("a fingerprint came back in another type", e))?;
        parts.push(sum);
    }
    let row = client
        .query_one("select md5($1)", &[&parts.concat()])
        .await
        .map_err(|e| failure::postgres("cannot fingerprint ToteSys", e))?;
    row.try_get(0).map_err(|e| failure::postgres("a fingerprint came back in another type", e))
}
