//! A deliberately wrong reader, the usual one: it asks for rows stamped after the newest stamp that it has seen.

use std::collections::HashMap;

use starlift_sandbox::Cluster;
use starlift_sandbox::totesys::SOURCE_TABLES;
use tokio_postgres::Client;

use super::Findings;

pub(super) struct Cursor {
    client: Client,
    tables: HashMap<&'static str, Copy>,
}

#[derive(Default)]
struct Copy {
    newest: Option<String>,
    rows: HashMap<i32, String>,
}

impl Cursor {
    pub(super) async fn open(cluster: &Cluster, database: &str) -> Cursor {
        let client = cluster.connect(database).await.unwrap();
        Cursor { client, tables: SOURCE_TABLES.map(|(table, _)| (table, Copy::default())).into() }
    }

    /// Reads what seems to be new.
    pub(super) async fn poll(&mut self) {
        for (table, key) in SOURCE_TABLES {
            let copy = self.tables.get_mut(table).unwrap();
            let sql = format!(
                "select {key}, t::text, last_updated::text from \"{table}\" t \
                 where last_updated > coalesce($1::text::timestamp, '-infinity') order by last_updated"
            );
            for row in self.client.query(&sql, &[&copy.newest]).await.unwrap() {
                copy.rows.insert(row.get(0), row.get(1));
                copy.newest = row.get(2);
            }
        }
    }

    /// What its copies are worth.
    pub(super) async fn findings(mut self) -> Findings {
        let mut found = Findings::default();
        for (table, key) in SOURCE_TABLES {
            let mut copy = self.tables.remove(table).unwrap().rows;
            for row in self.client.query(&format!("select {key}, t::text from \"{table}\" t"), &[]).await.unwrap() {
                match copy.remove(&row.get(0)) {
                    None => found.lost += 1,
                    Some(ours) if ours != row.get::<_, String>(1) => found.stale += 1,
                    Some(_) => {}
                }
            }
            found.ghosts += copy.len() as u64;
        }
        found
    }
}
