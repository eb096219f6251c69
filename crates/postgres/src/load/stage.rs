//! The stage: temporary tables with the model's types, filled by COPY BINARY as the batches are read.
//!
//! Memory holds one batch and its encoded form. The tables go with the transaction, however it ends.

use std::collections::BTreeMap;
use std::pin::pin;

use arrow::array::RecordBatch;
use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use starlift_core::{Column, Error, Result, fault};
use tokio_postgres::Client;

use super::model::BatchStream;
use super::session::run;
use crate::codec::BatchEncoder;
use crate::ident::{quote_ident, quote_idents};
use crate::sqlstate::classify_of_rows;

/// Bytes that are collected before they are sent.
pub(crate) const CHUNK: usize = 256 * 1024;
/// From this many rows on the planner is given statistics: a temporary table has none by itself.
const ANALYZE_FROM: u64 = 5_000;

/// A filled temporary table.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    /// Its name in SQL.
    pub(crate) table: String,
    /// Rows that were copied into it.
    pub(crate) rows: u64,
    /// The first and last of the dates in each column that refers to the calendar, where somebody looked at all of them.
    pub(crate) days: Option<Days>,
}

/// First and last days since 1970, by the name of their column; a column without dates has none.
pub(crate) type Days = BTreeMap<String, (i32, i32)>;

/// Copies batches into a new temporary table of the given columns; none where there are no rows.
///
/// `what` names the rows in errors: "rows of model `dim_staff`".
pub(crate) async fn fill(
    client: &Client,
    name: &str,
    columns: &[Column],
    key: &[String],
    mut batches: BatchStream<'_>,
    what: &str,
) -> Result<Option<Stage>> {
    let Some(first) = next_rows(&mut batches).await? else { return Ok(None) };
    let table = make(client, name, columns, what).await?;
    let names = quote_idents(columns.iter().map(|c| c.name.as_str()));
    let failed = |e| classify_of_rows(e, format!("cannot stage {what}"));
    let copy = format!("copy {table} ({names}) from stdin (format binary)");
    let sink = client.copy_in::<_, Bytes>(&copy).await.map_err(failed)?;
    let mut sink = pin!(sink);
    let mut encoder = BatchEncoder::new(columns)?;
    let mut buffer = BytesMut::with_capacity(CHUNK + CHUNK / 4);
    encoder.header(&mut buffer);
    let mut next = Some(first);
    while let Some(batch) = next {
        encoder.encode(&project(&batch, columns, what)?, &mut buffer)?;
        if buffer.len() >= CHUNK {
            sink.send(buffer.split().freeze()).await.map_err(failed)?;
        }
        fault::point("load.mid_stage");
        next = next_rows(&mut batches).await?;
    }
    encoder.trailer(&mut buffer);
    sink.send(buffer.freeze()).await.map_err(failed)?;
    let rows = sink.finish().await.map_err(failed)?;

    let stage = Stage { table, rows, days: None };
    stage.analyze(client, key, what).await?;
    Ok(Some(stage))
}

/// Makes an empty stage, and returns its name in SQL.
pub(crate) async fn make(client: &Client, name: &str, columns: &[Column], what: &str) -> Result<String> {
    let definitions: Vec<String> =
        columns.iter().map(|c| format!("{} {}", quote_ident(&c.name), c.column_type.postgres_type())).collect();
    let create = format!("create temp table {} ({}) on commit drop", quote_ident(name), definitions.join(", "));
    run(client, &create, &format!("cannot stage {what}")).await?;
    Ok(format!("pg_temp.{}", quote_ident(name)))
}

impl Stage {
    /// The same stage without its rows.
    pub(crate) fn without_rows(&self) -> Stage {
        Stage { table: format!("(select * from {} where false)", self.table), rows: 0, days: None }
    }

    /// Gives the planner statistics of the key.
    pub(crate) async fn analyze(&self, client: &Client, key: &[String], what: &str) -> Result<()> {
        if self.rows < ANALYZE_FROM {
            return Ok(());
        }
        let key = quote_idents(key.iter().map(String::as_str));
        run(client, &format!("analyze {} ({key})", self.table), &format!("cannot analyze {what}")).await
    }
}

/// The next batch that has rows.
pub(crate) async fn next_rows(batches: &mut BatchStream<'_>) -> Result<Option<RecordBatch>> {
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        if batch.num_rows() > 0 {
            return Ok(Some(batch));
        }
    }
    Ok(None)
}

/// The wanted columns of a batch by name, in the order of the stage.
pub(crate) fn project(batch: &RecordBatch, columns: &[Column], what: &str) -> Result<RecordBatch> {
    let schema = batch.schema();
    let mut positions = Vec::with_capacity(columns.len());
    for column in columns {
        let position = schema.index_of(&column.name).map_err(|_| {
            Error::data(format!("{what} have no column `{}`", column.name))
                .with_detail("the data file does not have the columns that its manifest says")
        })?;
        positions.push(position);
    }
    batch.project(&positions).map_err(|e| Error::internal(format!("cannot read {what}")).with_source(e))
}
