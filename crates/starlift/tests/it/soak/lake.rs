//! The lake beside the source, row by row, with PostgreSQL as the judge: the lake's rows are put into tables of the same
//! types as texts that Arrow made, so that neither verify nor starlift's own codec has a part in it.

use arrow::array::Array;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use starlift::{Context, Head};
use starlift_lake::State;
use starlift_sandbox::totesys::SOURCE_TABLES;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::Findings;
use crate::world::World;

/// Compares every table, by key and by content.
pub(super) async fn findings(world: &World, context: &Context) -> Findings {
    let client = world.source_client().await;
    client.batch_execute("drop schema if exists in_lake cascade; create schema in_lake").await.unwrap();
    let store = context.lake().unwrap();
    let head = Head::read(&store, &context.config.pipeline).await.unwrap();
    let mut found = Findings::default();
    for (table, key) in SOURCE_TABLES {
        client.batch_execute(&format!("create table in_lake.\"{table}\" (like public.\"{table}\")")).await.unwrap();
        let schema = head.manifest().unwrap().relations[table].schema.clone();
        let columns: Vec<String> = schema.columns.iter().map(|c| c.name.clone()).collect();
        let state = State::new(&store, schema, head.live_of(table)).unwrap();
        let mut batches = state.scan(None);
        while let Some(batch) = batches.try_next().await.unwrap() {
            let texts: Vec<Vec<Option<String>>> = batch.columns().iter().map(|column| texts(column.as_ref())).collect();
            insert(&client, table, &columns, &texts).await;
        }
        let count = |sql: String| {
            let client = &client;
            async move { client.query_one(&sql, &[]).await.unwrap().get::<_, i64>(0) as u64 }
        };
        let (source, lake) = (format!("public.\"{table}\""), format!("in_lake.\"{table}\""));
        let missing = |from: &str, to: &str| {
            format!("select count(*) from {from} a where not exists (select from {to} b where b.{key} = a.{key})")
        };
        let stale = format!("select count(*) from {source} a join {lake} b using ({key}) where a is distinct from b");
        let doubled = format!("select count(*) - count(distinct {key}) from {lake}");
        found.lost += count(missing(&source, &lake)).await;
        found.stale += count(stale).await;
        found.ghosts += count(missing(&lake, &source)).await + count(doubled).await;
    }
    found
}

fn texts(column: &dyn Array) -> Vec<Option<String>> {
    let options = FormatOptions::new();
    let formatter = ArrayFormatter::try_new(column, &options).unwrap();
    (0..column.len()).map(|row| (!column.is_null(row)).then(|| formatter.value(row).to_string())).collect()
}

/// Inserts texts; PostgreSQL reads them in the types of the table.
async fn insert(client: &Client, table: &str, columns: &[String], texts: &[Vec<Option<String>>]) {
    let types = "select format_type(atttypid, atttypmod) from pg_attribute \
                 where attrelid = ('public.' || quote_ident($1))::regclass and attname = $2";
    let (mut values, mut parameters) = (Vec::new(), Vec::new());
    for (position, column) in columns.iter().enumerate() {
        let of_column: String = client.query_one(types, &[&table, column]).await.unwrap().get(0);
        values.push(format!("u.c{position}::{of_column}"));
        parameters.push(format!("${}::text[]", position + 1));
    }
    let names: Vec<String> = (0..columns.len()).map(|position| format!("c{position}")).collect();
    let quoted: Vec<String> = columns.iter().map(|column| format!("\"{column}\"")).collect();
    let sql = format!(
        "insert into in_lake.\"{table}\" ({}) select {} from unnest({}) as u({})",
        quoted.join(", "),
        values.join(", "),
        parameters.join(", "),
        names.join(", ")
    );
    let texts: Vec<&(dyn ToSql + Sync)> = texts.iter().map(|column| column as &(dyn ToSql + Sync)).collect();
    client.execute(&sql, &texts).await.unwrap();
}
