//! Whether a warehouse's view holds what the source says that it must: exact, as multisets, in bounded memory.

use futures::TryStreamExt;
use starlift_core::{Error, Result};
use tokio_postgres::{Client, Row, RowStream};

use super::oracle::{Calendar, STAR_TABLES, columns, expected};
use crate::cluster::quote_identifier;
use crate::failure;

/// How many differing rows a description quotes of each kind.
const SHOWN: usize = 5;

/// Compares what a star table must contain with a view of the warehouse, as multisets: `None` where they are equal,
/// else a description that quotes the first differing rows (generated data; nobody's secret).
///
/// `view_name` may be qualified with a schema. The clients are two connections, also to one database. Both sides are streamed in sorted order; memory does not depend on size.
pub async fn compare(
    source: &Client,
    warehouse: &Client,
    star_table: &str,
    view_name: &str,
    calendar: Calendar,
) -> Result<Option<String>> {
    if std::ptr::eq(source, warehouse) {
        // Two streams of one connection would wait for each other.
        return Err(Error::internal("a comparison needs two connections"));
    }
    let query = expected(star_table, calendar)
        .ok_or_else(|| Error::config(format!("`{star_table}` is no table of the star schema")))?;
    let view = view_name.split('.').map(quote_identifier).collect::<Vec<_>>().join(".");
    let mut left = Lines::of(source, star_table, &format!("({query})"), "the source").await?;
    let mut right = Lines::of(warehouse, star_table, &view, view_name).await?;
    let (mut missing, mut surplus) = (Differing::default(), Differing::default());
    let (mut wanted, mut found) = (left.next().await?, right.next().await?);
    loop {
        match (&wanted, &found) {
            (None, None) => break,
            (Some(line), other) if other.as_ref().is_none_or(|o| line.as_bytes() < o.as_bytes()) => {
                missing.add(line);
                wanted = left.next().await?;
            }
            (Some(line), Some(other)) if line == other => {
                wanted = left.next().await?;
                found = right.next().await?;
            }
            (_, Some(line)) => {
                surplus.add(line);
                found = right.next().await?;
            }
            // The first arm takes every pair without a right line.
            (Some(_), None) => break,
        }
    }
    if missing.count == 0 && surplus.count == 0 {
        return Ok(None);
    }
    Ok(Some(format!(
        "{view_name} differs from what {star_table} must contain: {} rows missing, {} too many{}{}",
        missing.count,
        surplus.count,
        missing.list("missing"),
        surplus.list("too many")
    )))
}

/// Compares all eleven star tables with the views `current_<table>`; returns the descriptions of those that differ.
pub async fn compare_all(source: &Client, warehouse: &Client, calendar: Calendar) -> Result<Vec<String>> {
    let mut differences = Vec::new();
    for table in STAR_TABLES {
        differences.extend(compare(source, warehouse, table, &format!("current_{table}"), calendar).await?);
    }
    Ok(differences)
}

/// The rows of one side as text, sorted by bytes.
struct Lines {
    rows: std::pin::Pin<Box<RowStream>>,
    side: String,
}

impl Lines {
    async fn of(client: &Client, star_table: &str, from: &str, side: &str) -> Result<Lines> {
        let columns: Vec<String> = columns(star_table)
            .split_whitespace()
            .map(|column| match column.strip_prefix('#') {
                Some(numeric) => format!("trim_scale({})", quote_identifier(numeric)),
                None => quote_identifier(column),
            })
            .collect();
        // The text of a row tells null from the empty string.
        let sql = format!(
            "select line from (select row({})::text collate \"C\" as line from {from} as rows_of_side) as lines order by line",
            columns.join(", ")
        );
        let no_parameters: [&str; 0] = [];
        let rows = client.query_raw(&sql, no_parameters).await.map_err(|e| unreadable(side, e))?;
        Ok(Lines { rows: Box::pin(rows), side: side.to_owned() })
    }

    async fn next(&mut self) -> Result<Option<String>> {
        let row: Option<Row> = self.rows.try_next().await.map_err(|e| unreadable(&self.side, e))?;
        row.map(|row| row.try_get(0).map_err(|e| unreadable(&self.side, e))).transpose()
    }
}

fn unreadable(side: &str, error: tokio_postgres::Error) -> Error {
    failure::postgres(format!("cannot read {side} to compare it"), error)
}

#[derive(Default)]
struct Differing {
    count: u64,
    first: Vec<String>,
}

impl Differing {
    fn add(&mut self, line: &str) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(line.to_owned());
        }
    }

    fn list(&self, word: &str) -> String {
        self.first.iter().map(|line| format!("\n  {word}: {line}")).collect()
    }
}
