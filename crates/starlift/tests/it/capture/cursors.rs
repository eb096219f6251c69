//! Tables that follow their stamps: what a safe time is worth, what the xid pass heals, and what either costs.

use std::time::Duration;

use starlift::RelationReport;
use starlift::doctor::{Verdict, doctor};
use starlift::plan::plan;
use starlift::status::status;
use starlift_core::capture::MARGIN;
use starlift_core::{ErrorKind, Micros};
use starlift_sandbox::{Cluster, ClusterOptions};
use tokio::time::sleep;

use crate::capture::lab::{Lab, SALE, number};
use crate::world::of;

/// Longer than the margin of a safe time, so that a stamp from before is one that only the horizon keeps from being lost.
const BEYOND_THE_MARGIN: Duration = Duration::from_micros(MARGIN as u64 + 400_000);

/// The table of the lab, indexed by its stamp, with rows of long ago that no margin reaches.
const INDEXED: &str = "create index on sale (last_updated);
    insert into sale (v, last_updated) select i, now() - interval '1 day' from generate_series(1, 1000) i;
    update sale set last_updated = now() - interval '1 day'";

/// A lab whose table follows its stamps, after its first run.
async fn following(xid_pass_every: u32) -> Lab {
    let lab = Lab::new(&format!("{SALE}; {INDEXED}")).await;
    lab.configure(&format!("[source.tables.sale]\ncapture = \"cursor\"\nxid_pass_every = {xid_pass_every}"));
    lab.catch_up().await;
    lab
}

impl Lab {
    /// Lets the reader see when the transactions of others began.
    async fn shows_activity(&self) {
        self.run(&format!("grant pg_read_all_stats to {}", self.reader)).await;
    }

    /// An ingest that follows the stamps of the table, after which the lake equals the source.
    async fn follows(&self) -> RelationReport {
        let report = self.catch_up().await;
        let sale = of(&report, "sale").clone();
        assert_eq!((sale.mode.as_str(), sale.proof), ("cursor", None), "{sale:?}");
        sale
    }

    /// Up to when the stamps of the table are known.
    async fn safe(&self) -> Option<Micros> {
        let newest = self.newest().await;
        newest.relations["sale"].capture.as_ref()?.passes.as_ref()?.safe.map(|safe| safe.time)
    }

    async fn clock(&self) -> Micros {
        Micros(self.number("select (extract(epoch from clock_timestamp()) * 1000000)::bigint").await)
    }

    /// How often tables were scanned, and how often an index was used, once the counts of ended sessions are in. (A session
    /// that goes on keeps its own for a while.)
    async fn scans(&self) -> (i64, i64) {
        sleep(Duration::from_secs(1)).await;
        let sum = |column: &str| format!("select coalesce(sum({column}), 0)::bigint from pg_stat_user_tables");
        (self.number(&sum("seq_scan")).await, self.number(&sum("idx_scan")).await)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_reads_what_is_stamped_since_by_its_index_and_scans_nothing() {
    let lab = following(50).await;
    let ends = lab.session().await;
    let change = "update sale set v = v + 1, last_updated = now() where id <= 7; insert into sale (v) select i from generate_series(1, 5) i";
    ends.batch_execute(change).await.unwrap();
    drop(ends);
    // The planner has no statistics of the table: it would scan it.
    let (scanned, looked_up) = lab.scans().await;
    let report = lab.ingest().await;
    let sale = of(&report, "sale");
    assert_eq!((sale.mode.as_str(), sale.rows_read, sale.rows_written, sale.rows), ("cursor", 12, 12, 1008));
    let mut now = lab.scans().await;
    for _ in 0..30 {
        if now.1 > looked_up {
            break;
        }
        now = lab.scans().await;
    }
    assert!(now.1 > looked_up, "the index was not used: {now:?}");
    assert_eq!(now.0, scanned, "a table was scanned");
    lab.assert_equal().await;
    // What is read again and equals the state is neither written nor counted.
    let sale = lab.follows().await;
    assert_eq!((sale.rows_written, sale.files, sale.rows), (0, 0, 1008));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_commits_long_after_its_stamp_is_read_with_or_without_the_right_to_see_it() {
    for shows in [false, true] {
        let lab = following(50).await;
        if shows {
            lab.shows_activity().await;
        }
        lab.follows().await;
        let late = lab.session().await;
        late.batch_execute(
            "begin; insert into sale (v) values (100); update sale set v = 101, last_updated = now() where id = 1",
        )
        .await
        .unwrap();
        sleep(BEYOND_THE_MARGIN).await;
        for _ in 0..2 {
            lab.run("insert into sale (v) values (200)").await;
            assert_eq!(lab.follows().await.rows_written, 1, "only what is committed");
        }
        let (cursor, looked) = (lab.cursor().await, lab.clock().await);
        late.batch_execute("commit").await.unwrap();
        assert_eq!(lab.newer_than(&cursor).await, 0, "a cursor without a horizon would lose both rows");
        assert!(lab.safe().await.unwrap() < Micros(looked.0 - MARGIN), "the horizon waits");
        assert_eq!(lab.follows().await.rows_written, 2, "shows: {shows}");
        lab.follows().await;
        assert!(lab.safe().await.unwrap() >= Micros(looked.0 - MARGIN), "and goes on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_transaction_of_one_message_has_the_stamp_of_the_first_and_is_read() {
    for shows in [false, true] {
        let lab = following(50).await;
        if shows {
            lab.shows_activity().await;
        }
        lab.follows().await;
        // Each waits for us before it commits.
        let (gate, busy) = (lab.session().await, lab.session().await);
        gate.batch_execute("select pg_advisory_lock(1), pg_advisory_lock(2)").await.unwrap();
        let message = "begin; insert into sale (v) values (100); select pg_advisory_lock(1); commit; \
             begin; insert into sale (v) values (100); update sale set v = 101, last_updated = now() where id = 1; \
             select pg_advisory_lock(2); commit";
        let running = tokio::spawn(async move { busy.batch_execute(message).await });
        let waits_at = async |number: i64| {
            let waits = format!(
                "select count(*) from pg_locks l join pg_database d on d.oid = l.database and d.datname = current_database()
                 where l.locktype = 'advisory' and l.objid = {number} and not l.granted"
            );
            while lab.number(&waits).await == 0 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        waits_at(1).await;
        sleep(BEYOND_THE_MARGIN).await;
        lab.run("insert into sale (v) values (200)").await;
        assert_eq!(lab.follows().await.rows_written, 1, "only what is committed");
        gate.batch_execute("select pg_advisory_unlock(1)").await.unwrap();
        waits_at(2).await;
        lab.run("insert into sale (v) values (200)").await;
        assert_eq!(lab.follows().await.rows_written, 2, "and the first of the two");
        let cursor = lab.cursor().await;
        gate.batch_execute("select pg_advisory_unlock(2)").await.unwrap();
        running.await.unwrap().unwrap();
        assert_eq!(lab.newer_than(&cursor).await, 0, "its stamps are those of the message");
        assert_eq!(lab.follows().await.rows_written, 2, "shows: {shows}");
        // A session that is found idle holds nothing back any more.
        let looked = lab.clock().await;
        lab.follows().await;
        assert!(lab.safe().await.unwrap() >= Micros(looked.0 - MARGIN), "shows: {shows}");
        let asks = doctor(&lab.context()).await.into_iter().find(|check| check.name == "source: transactions");
        let grant = format!("grant pg_read_all_stats to \"{}\";", lab.reader);
        assert_eq!(asks.map(|check| (check.verdict, check.mend)), (!shows).then_some((Verdict::Warn, Some(grant))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_was_idle_before_its_first_write_is_read() {
    for shows in [false, true] {
        let lab = following(50).await;
        if shows {
            lab.shows_activity().await;
        }
        lab.follows().await;
        let idle = lab.session().await;
        idle.batch_execute("begin; select now()").await.unwrap();
        sleep(BEYOND_THE_MARGIN).await;
        lab.run("insert into sale (v) values (200)").await;
        let without_id = "select (pg_current_xact_id_if_assigned() is null)::int::bigint";
        assert_eq!(number(&idle, without_id).await, 1, "no list of running ids can show it");
        lab.follows().await;
        let cursor = lab.cursor().await;
        idle.batch_execute("insert into sale (v) values (100); commit").await.unwrap();
        assert_eq!(lab.newer_than(&cursor).await, 0);
        assert_eq!(lab.follows().await.rows_written, 1, "shows: {shows}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_holds_the_horizon_and_is_read_when_it_commits() {
    for shows in [false, true] {
        let lab = following(50).await;
        if shows {
            lab.shows_activity().await;
        }
        lab.follows().await;
        let name = format!("prepared in {}", lab.database);
        let session = lab.session().await;
        session.batch_execute("begin; insert into sale (v) values (100)").await.unwrap();
        sleep(BEYOND_THE_MARGIN).await;
        session.batch_execute(&format!("prepare transaction '{name}'")).await.unwrap();
        drop(session);
        for _ in 0..2 {
            lab.run("insert into sale (v) values (200)").await;
            assert_eq!(lab.follows().await.rows_written, 1);
        }
        let cursor = lab.cursor().await;
        lab.run(&format!("commit prepared '{name}'")).await;
        assert_eq!(lab.newer_than(&cursor).await, 0);
        assert_eq!(lab.follows().await.rows_written, 1, "shows: {shows}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_prepared_before_the_first_look_keeps_the_table_with_xid_passes() {
    let lab = Lab::new(&format!("{SALE}; {INDEXED}")).await;
    lab.configure("[source.tables.sale]\ncapture = \"cursor\"\nxid_pass_every = 50");
    let name = format!("before the first look in {}", lab.database);
    let session = lab.session().await;
    session
        .batch_execute(&format!("begin; insert into sale (v) values (100); prepare transaction '{name}'"))
        .await
        .unwrap();
    lab.catch_up().await;
    let report = lab.catch_up().await;
    let sale = of(&report, "sale");
    assert_eq!(
        (sale.mode.as_str(), sale.reason.as_deref()),
        ("window", Some("xid pass, because no safe time is known"))
    );
    lab.run(&format!("commit prepared '{name}'")).await;
    let report = lab.catch_up().await;
    assert_eq!((of(&report, "sale").mode.as_str(), of(&report, "sale").rows_written), ("window", 1));
    lab.follows().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stamps_do_not_show_is_pending_until_the_xid_pass_heals_it() {
    // Of its own: whoever is busy elsewhere on a server keeps the watermarks of all its databases back.
    let cluster = Cluster::start(ClusterOptions::default()).unwrap();
    for lie in [
        "update sale set v = 70, last_updated = last_updated - interval '30 days' where id <= 2",
        "update sale set v = 70 where id <= 2",
        "update sale set v = 70, last_updated = null where id <= 2",
        "insert into sale (v, last_updated) values (1, now() - interval '5 minutes'), (2, null)",
        "delete from sale where id <= 2",
    ] {
        let lab =
            Lab::on(&cluster, &format!("{SALE}; {INDEXED}; alter table sale alter last_updated drop not null")).await;
        lab.configure("[source.tables.sale]\ncapture = \"cursor\"\nxid_pass_every = 3");
        lab.catch_up().await;
        let watermark = lab.watermark("sale").await;
        lab.run(&format!("{lie}; insert into sale (v) values (300)")).await;
        for written in [1, 0] {
            let report = lab.ingest().await;
            let sale = of(&report, "sale");
            assert_eq!((sale.mode.as_str(), sale.rows_written, sale.rows_deleted), ("cursor", written, 0), "{lie}");
            let found = lab.differences().await;
            assert!(found.len() == 1 && found[0].contains("pending"), "{lie}: {found:?}");
            assert_eq!(lab.watermark("sale").await, watermark, "a cursor proves nothing about what is below it");
        }
        let report = lab.catch_up().await;
        let sale = of(&report, "sale");
        assert_eq!((sale.mode.as_str(), sale.reason.as_deref()), ("window", Some("xid pass is due")), "{lie}");
        assert_eq!(sale.rows_written + sale.rows_deleted, 2, "{lie}");
        assert!(sale.proof.is_some_and(|proof| proof.agrees()));
        assert!(lab.watermark("sale").await > watermark);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stamps_may_be_dates_or_times_without_zone_and_nothing_else() {
    for stamp in ["date", "timestamp", "timestamp(0)"] {
        let lab = Lab::new(&format!("{SALE}; {INDEXED}")).await;
        lab.run(&format!("set timezone = 'UTC'; alter table sale alter last_updated type {stamp}")).await;
        lab.configure("[source.tables.sale]\ncapture = \"cursor\"");
        lab.catch_up().await;
        lab.run("update sale set v = v + 1, last_updated = now() where id = 5").await;
        assert_eq!(lab.follows().await.rows_written, 1, "{stamp}");
    }
    let lab = Lab::new(SALE).await;
    lab.configure("[source.tables.sale]\ncursor = \"v\"");
    lab.ingest_fails(ErrorKind::Config, &["`sale`", "`v`", "integer"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_turns_to_the_cursor_at_the_threshold_and_back() {
    // Of its own, for the same reason.
    let cluster = Cluster::start(ClusterOptions::default()).unwrap();
    let lab = Lab::on(&cluster, &format!("{SALE}; {INDEXED}")).await;
    lab.configure("[source]\nlarge_from_mb = 1\nxid_pass_every = 9");
    lab.catch_up().await;
    let report = lab.catch_up().await;
    assert_eq!((of(&report, "sale").mode.as_str(), &of(&report, "sale").reason), ("window", &None), "it is small");
    lab.run("insert into sale (v, last_updated) select i, now() - interval '1 day' from generate_series(1, 30000) i")
        .await;
    let report = lab.catch_up().await;
    assert_eq!(of(&report, "sale").reason.as_deref(), Some("first xid pass"));
    lab.follows().await;
    let newest = lab.newest().await;
    let passes = newest.relations["sale"].capture.as_ref().unwrap().passes.clone().unwrap();
    assert_eq!((passes.seq, passes.due()), (3, 12));
    assert_eq!(passes.why, "1 MiB or larger; indexed by `last_updated`");
    let shown = status(&lab.context()).await.unwrap().tables.remove(0);
    let passes = shown.passes.unwrap();
    assert_eq!((shown.mode.as_str(), passes.last_seq, passes.due_in), ("cursor", 3, 7));
    assert!(shown.proof.is_some() && passes.safe.is_some(), "the proof is that of the pass");

    lab.run("analyze sale").await;
    let planned = plan(&lab.context()).await.unwrap();
    let sale = &planned.ingest[0];
    assert_eq!((sale.capture.as_str(), sale.mode.as_str()), ("cursor", "cursor"));
    assert!(sale.reason.as_deref().unwrap().ends_with("next xid pass in 7 runs"), "{sale:?}");
    assert!(sale.day_bytes < 288 * (1 << 20), "{sale:?}");

    lab.run("delete from sale where id > 1000").await;
    lab.run("vacuum full sale").await;
    let report = lab.catch_up().await;
    assert_eq!((of(&report, "sale").mode.as_str(), &of(&report, "sale").reason), ("window", &None), "small again");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_index_one_of_so_many_runs_makes_a_pass_and_the_others_leave_the_table_alone() {
    let lab = Lab::new(&format!("{SALE}; insert into sale (v) select i from generate_series(1, 1000) i")).await;
    lab.configure("[source]\nlarge_from_mb = 0\nxid_pass_every = 3");
    lab.catch_up().await;
    lab.run("insert into sale (v) values (1); delete from sale where id = 2").await;
    let watermark = lab.watermark("sale").await;
    for _ in 0..2 {
        let report = lab.ingest().await;
        assert!(report.relations.is_empty(), "{report:?}");
        assert_eq!(lab.watermark("sale").await, watermark);
        assert!(!lab.differences().await.is_empty());
    }
    let planned = plan(&lab.context()).await.unwrap();
    assert_eq!(planned.ingest[0].reason.as_deref(), Some("xid pass is due"));
    let checks = doctor(&lab.context()).await;
    let check = |name: &str| checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("{checks:?}"));
    let sale = check("source: sale");
    assert_eq!(
        (sale.verdict, sale.mend.as_deref()),
        (Verdict::Warn, Some("create index concurrently on \"public\".\"sale\" (\"last_updated\");"))
    );
    assert!(
        sale.detail.contains("an xid pass by every 3rd run scans")
            && sale.detail.contains("the next comes with the next run (xid pass is due)"),
        "{sale:?}"
    );
    assert!(check("source: scan").detail.starts_with("a run scans 0 B, and "), "{checks:?}");
    let report = lab.catch_up().await;
    let sale = of(&report, "sale");
    assert_eq!((sale.mode.as_str(), sale.rows_written, sale.rows_deleted), ("window", 1, 1));
    lab.ingest().await;
    // An index changes the mode at once: no run has made a pass with a look at what is open.
    lab.run("create index on sale (last_updated)").await;
    let report = lab.catch_up().await;
    assert_eq!(of(&report, "sale").reason.as_deref(), Some("xid pass, because no safe time is known"));
    lab.follows().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_refers_to_what_no_stamp_has_shown_brings_the_pass_of_that_table_in_the_same_run() {
    let lab = Lab::new(
        "create table region (id int primary key, last_updated timestamptz);
         create table shop (id int primary key, region int references region, last_updated timestamptz);
         create table visit (id int primary key, shop int references shop, boss int references visit, last_updated timestamptz);
         create index on shop (last_updated); create index on visit (last_updated);
         insert into region values (1, now()); insert into shop values (1, 1, now()); insert into visit values (1, 1, null, now())",
    )
    .await;
    lab.configure("[source]\nlarge_from_mb = 0\nxid_pass_every = 50");
    lab.catch_up().await;
    let modes = |report: &starlift::StageReport| -> Vec<String> {
        report.relations.iter().map(|r| format!("{} {}", r.name, r.mode)).collect()
    };
    lab.run("insert into visit values (2, 1, 1, now()), (3, null, 2, now())").await;
    assert_eq!(modes(&lab.catch_up().await), ["shop cursor", "visit cursor"], "what it refers to is there");

    // A shop of long ago, in a region that no run has read.
    lab.run(
        "begin; insert into region values (2, now()); insert into shop values (2, 2, now() - interval '1 day'); \
         insert into visit values (4, 2, 1, now()); commit",
    )
    .await;
    let report = lab.catch_up().await;
    assert_eq!(modes(&report), ["region window", "shop window", "visit cursor"]);
    let why = "xid pass, because rows refer to keys that the lake did not have";
    assert_eq!(of(&report, "shop").reason.as_deref(), Some(why));
    assert_eq!((of(&report, "region").rows_written, of(&report, "shop").rows_written), (1, 1));

    // A visit of long ago that is another one's boss; the table was read once in this run already, and wrote a file.
    lab.run("begin; insert into visit values (5, 1, null, now() - interval '1 day'), (6, 1, 5, now()); commit").await;
    let report = lab.catch_up().await;
    assert_eq!(modes(&report), ["shop cursor", "visit window"]);
    assert_eq!((of(&report, "visit").rows_written, of(&report, "visit").rows), (2, 6));
    assert_eq!(modes(&lab.catch_up().await), ["shop cursor", "visit cursor"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_ends_what_was_open_and_a_standby_makes_xid_passes() {
    let settings = vec![("max_prepared_transactions".to_string(), "8".to_string())];
    let primary = Cluster::start(ClusterOptions { settings, ..ClusterOptions::default() }).unwrap();
    let mut lab = Lab::on(&primary, &format!("{SALE}; {INDEXED}")).await;
    lab.configure("[source.tables.sale]\ncapture = \"cursor\"\nxid_pass_every = 6");
    let idle = lab.session().await;
    idle.batch_execute("begin; select now()").await.unwrap();
    lab.catch_up().await;
    let report = lab.catch_up().await;
    assert_eq!(of(&report, "sale").mode, "window", "nobody knows since when it is open");
    drop(idle);
    primary.restart(false).unwrap();
    lab.move_to(&primary).await;
    lab.run("update sale set v = v + 1, last_updated = now() where id = 5").await;
    // The look of this run is the first to know that it has ended.
    let report = lab.catch_up().await;
    assert_eq!((of(&report, "sale").mode.as_str(), of(&report, "sale").rows_written), ("window", 1));
    lab.run("update sale set v = v + 1, last_updated = now() where id = 6").await;
    assert_eq!(lab.follows().await.rows_written, 1);

    let standby = primary.standby().unwrap();
    standby.await_replay(&primary).await.unwrap();
    lab.read_from(&standby);
    lab.run("update sale set v = v + 1, last_updated = now() where id = 7").await;
    standby.await_replay(&primary).await.unwrap();
    let planned = plan(&lab.context()).await.unwrap();
    assert_eq!((planned.ingest[0].capture.as_str(), planned.ingest[0].mode.as_str()), ("xid", "wait"));
    assert!(planned.ingest[0].because.contains("a standby does not show"), "{planned:?}");
    let mut modes = Vec::new();
    for _ in 0..5 {
        let report = lab.ingest().await;
        modes.extend(report.relations.iter().map(|r| format!("{} {}", r.mode, r.rows_written)));
    }
    // The last pass was made by the third run; four runs later it was not due, six runs later it was.
    assert_eq!(modes, ["window 1"]);
}
