//! A side of a comparison that lives in PostgreSQL: digests are made by the server, so values stay where they are.

use std::collections::HashMap;
use std::pin::pin;

use futures::TryStreamExt;
use starlift_core::Result;
use starlift_postgres::sqlstate::classify;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::row_digest::{self, RowDigest};
use super::side::{Detail, Visit};

/// A column as a query sees it.
#[derive(Debug, Clone)]
pub(super) struct SqlColumn {
    /// The expression of its text, equal for equal values on either side.
    pub(super) text: String,
    /// The expression of what people read of it, for keys.
    pub(super) shown: String,
    /// Whether it is a `char(n)`: blanks at the end of a text are not in its text, and must not be in that of the other side.
    pub(super) padded: bool,
}

/// Rows of a table or view, read in the transaction that `client` is in.
pub(super) struct SqlSide<'a> {
    pub(super) client: &'a Client,
    /// The table or view, quoted.
    pub(super) from: String,
    /// The key's columns; none for rows without a key.
    pub(super) key: Vec<SqlColumn>,
    /// Every column that is compared.
    pub(super) columns: Vec<SqlColumn>,
    /// The condition that a row may have changed since the other side was written.
    pub(super) flag: Option<String>,
    /// What is read, for errors: "table `payment` of the source".
    pub(super) what: String,
}

impl SqlSide<'_> {
    /// The SQL of a row's key digest; of all its columns, where there is no key.
    pub(super) fn key_digest(&self) -> String {
        let columns = if self.key.is_empty() { &self.columns } else { &self.key };
        row_digest::sql(&columns.iter().map(|c| c.text.clone()).collect::<Vec<_>>())
    }

    /// The SQL of the digest of all columns.
    pub(super) fn content_digest(&self) -> String {
        row_digest::sql(&self.columns.iter().map(|c| c.text.clone()).collect::<Vec<_>>())
    }

    /// Calls `visit` for every row.
    pub(super) async fn each(&self, visit: &mut Visit<'_>) -> Result<()> {
        let sql = format!(
            "select {}, {}, coalesce({}, false) from {}",
            self.key_digest(),
            self.content_digest(),
            self.flag.as_deref().unwrap_or("false"),
            self.from
        );
        self.rows(&sql, None, |row| {
            visit(digest(&row, 0)?, digest(&row, 1)?, row.try_get(2)?);
            Ok(())
        })
        .await
    }

    /// The keys, as people read them, and the digest of each column, of the rows with these keys.
    pub(super) async fn details(&self, keys: &[RowDigest]) -> Result<HashMap<RowDigest, Detail>> {
        let shown: Vec<&str> = self.key.iter().map(|c| c.shown.as_str()).collect();
        let columns: Vec<String> =
            self.columns.iter().map(|c| row_digest::sql(std::slice::from_ref(&c.text))).collect();
        let digest_of_key = self.key_digest();
        let sql = format!(
            "select {digest_of_key}, array[{}]::text[], array[{}]::bytea[] from {} where {digest_of_key} = any ($1)",
            shown.join(", "),
            columns.join(", "),
            self.from
        );
        let keys: Vec<&[u8]> = keys.iter().map(|k| k.as_slice()).collect();
        let mut details = HashMap::new();
        self.rows(&sql, Some(&keys), |row| {
            let columns: Vec<&[u8]> = row.try_get(2)?;
            let detail = Detail { key: row.try_get(1)?, columns: columns.into_iter().map(half).collect() };
            details.entry(digest(&row, 0)?).or_insert(detail);
            Ok(())
        })
        .await?;
        Ok(details)
    }

    async fn rows(
        &self,
        sql: &str,
        keys: Option<&Vec<&[u8]>>,
        mut take: impl FnMut(Row) -> std::result::Result<(), tokio_postgres::Error>,
    ) -> Result<()> {
        let failed = |e| classify(e, format!("cannot read {}", self.what));
        let parameters = keys.map(|keys| (keys as &(dyn ToSql + Sync), Type::BYTEA_ARRAY));
        let mut rows = pin!(self.client.query_typed_raw(sql, parameters).await.map_err(failed)?);
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            take(row).map_err(failed)?;
        }
        Ok(())
    }
}

fn digest(row: &Row, position: usize) -> std::result::Result<RowDigest, tokio_postgres::Error> {
    row.try_get(position).map(half)
}

/// The server returns 16 bytes; anything else would be compared as a digest that no row has.
fn half(bytes: &[u8]) -> RowDigest {
    bytes.try_into().unwrap_or_default()
}
