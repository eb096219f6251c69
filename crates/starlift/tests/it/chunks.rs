//! Full reads in chunks, on a real PostgreSQL: whatever happens between two chunks, the lake equals the source once the base is
//! closed; nobody sees a base before; and what was read is not read again.

mod between;
mod going_on;
mod readers;
mod refused;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use starlift::context::Progress;
use starlift_core::ErrorKind;
use starlift_core::manifest::Manifest;
use starlift_core::unfinished::Unfinished;
use starlift_lake::{Store, manifests};

use crate::capture::lab::{Lab, connect};

/// 4.4 MB in pages of 8 rows: five chunks of 1 MB.
pub(crate) const WIDE: &str = "
    create table wide (id int primary key, v numeric not null, filler text not null);
    insert into wide select i * 10, i, repeat(md5(i::text), 28) from generate_series(1, 4000) i;
    create table small (id int primary key, v int); insert into small values (1, 1), (2, 2);";

/// A lab that reads tables of more than 1 MB in chunks.
pub(crate) async fn lab(sql: &str) -> Lab {
    let lab = Lab::new(sql).await;
    lab.configure("[source]\nchunk_mb = 1");
    settle(&lab).await;
    lab
}

/// Waits until no transaction of the cluster is older than what has been written here: others' hold back the `xmin` of
/// snapshots, and what is not older than that is left to the closing window, so that chunks would be empty.
pub(crate) async fn settle(lab: &Lab) {
    let newest = lab.number("select pg_current_xact_id()::text::bigint").await;
    for _ in 0..1_800 {
        if lab.number("select pg_snapshot_xmin(pg_current_snapshot())::text::bigint").await > newest {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("an older transaction did not end");
}

/// Does something to the source when ingest, with its locks and snapshot, begins with a table for the n-th time.
pub(crate) struct Moments {
    table: &'static str,
    url: String,
    sql: BTreeMap<usize, String>,
    begun: AtomicUsize,
    failed: Mutex<Vec<String>>,
    /// Blocks the run for a while, too.
    pub(crate) sleep: Mutex<Option<(usize, std::time::Duration)>>,
}

impl Moments {
    pub(crate) fn of(lab: &Lab, table: &'static str, sql: &[(usize, &str)]) -> Arc<Moments> {
        let sql = sql.iter().map(|(moment, sql)| (*moment, sql.to_string())).collect();
        let url = lab.owner_url.clone();
        let (begun, failed, sleep) = (AtomicUsize::new(0), Mutex::default(), Mutex::default());
        Arc::new(Moments { table, url, sql, begun, failed, sleep })
    }

    /// How often the table was begun with; all that was to be done is done.
    pub(crate) fn passed(&self) -> usize {
        assert_eq!(*self.failed.lock().unwrap(), Vec::<String>::new());
        let begun = self.begun.load(Ordering::SeqCst);
        assert!(self.sql.keys().all(|moment| *moment <= begun), "only {begun} moments came");
        begun
    }
}

impl Progress for Moments {
    fn started(&self, _: &'static str, name: &str) {
        if name != self.table {
            return;
        }
        let moment = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(sql) = self.sql.get(&moment).cloned() {
            let url = self.url.clone();
            let change = move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async { connect(&url).await.batch_execute(&sql).await })
            };
            if let Err(error) = std::thread::spawn(change).join().unwrap() {
                self.failed.lock().unwrap().push(format!("{error:?}"));
            }
        }
        if let Some((at, time)) = *self.sleep.lock().unwrap()
            && at == moment
        {
            std::thread::sleep(time);
        }
    }

    fn advanced(&self, _: &'static str, _: &str, _: u64, _: u64) {}
    fn finished(&self, _: &'static str, _: &str) {}
}

/// Runs until so many chunks are committed; then the source ends the run's session.
pub(crate) async fn cut_after(lab: &Lab, table: &'static str, chunks: usize) {
    let kill = format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{}'", lab.reader);
    let cut = Moments::of(lab, table, &[(chunks + 1, &kill)]);
    let error = starlift::ingest(&lab.watched(cut.clone()), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert_eq!(cut.passed(), chunks + 1);
}

/// Every manifest, oldest first.
pub(crate) async fn history(lab: &Lab) -> Vec<Manifest> {
    let store = Store::open(&lab.lake().to_string_lossy(), &Default::default()).unwrap();
    let mut all = manifests::history(&store, usize::MAX).await.unwrap();
    all.reverse();
    all.into_iter().map(|stored| stored.manifest).collect()
}

/// The unfinished base of a table.
pub(crate) async fn unfinished(lab: &Lab, table: &str) -> Option<Unfinished> {
    lab.newest().await.unfinished.remove(table)
}

/// Rows of each chunk of a table that any manifest names.
pub(crate) async fn chunks(lab: &Lab, table: &str) -> Vec<u64> {
    let runs = history(lab).await.into_iter().filter_map(|mut m| m.unfinished.remove(table)?.run);
    runs.map(|run| run.rows_read).collect()
}
