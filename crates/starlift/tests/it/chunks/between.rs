//! What others do to a table between its chunks.

use starlift_core::ErrorKind;

use super::{Moments, WIDE, chunks, cut_after, history, lab, unfinished};
use crate::capture::lab::Lab;
use crate::world::of;

/// Reads `wide` in full while all this is done at the second and the fourth of its chunks, and compares.
async fn meanwhile(lab: &Lab, second: &str, fourth: &str) {
    let moments = Moments::of(lab, "wide", &[(2, second), (4, fourth)]);
    let report = starlift::ingest(&lab.watched(moments.clone()), None).await.unwrap();
    assert!(moments.passed() > 4, "{report:?}");
    let wide = of(&report, "wide");
    assert!(wide.reason.as_ref().unwrap().contains("chunks"), "{wide:?}");
    lab.assert_equal().await;
    assert_eq!(lab.newest().await.unfinished, Default::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_come_change_move_and_go_between_chunks_are_as_they_are_at_the_end() {
    let lab = lab(WIDE).await;
    // Ids rise with the pages: those below 10,000 are read by the second chunk, those beyond 30,000 are not.
    let second = "
        insert into wide values (15, -1, 'into read keys'), (39995, -2, 'into unread keys');
        update wide set v = v + 0.5 where id in (20, 30, 39000, 39010);
        update wide set id = 39996 where id = 100;
        update wide set id = 105 where id = 39100;
        delete from wide where id in (200, 39200);
        begin; savepoint a; update wide set v = 7 where id = 40; release a;
        savepoint b; update wide set v = 8 where id = 39040; rollback to b; commit;
        do $$ begin begin update wide set v = 9 where id = 50; exception when others then null; end; end $$;";
    let fourth = "
        update wide set v = v + 0.25 where id in (20, 39000, 20000);
        delete from wide where id in (15, 39996);
        insert into wide values (200, -3, 'returned'), (15, -4, 'returned');
        update wide set filler = repeat('x', 900) where id between 300 and 900;
        update wide set v = v;";
    meanwhile(&lab, second, fourth).await;
    // And the same for a table that has a state already.
    lab.run("alter table wide add column more int not null default 5").await;
    let third = "delete from wide where id % 70 = 0";
    meanwhile(&lab, third, "insert into wide select i * 10 + 1, i, 'new', 6 from generate_series(1, 500) i").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_are_open_over_chunks_are_not_lost() {
    let lab = lab(WIDE).await;
    let before = lab.session().await;
    before.batch_execute("begin; update wide set v = -1 where id in (10, 39990)").await.unwrap();
    cut_after(&lab, "wide", 2).await;
    before
        .batch_execute("update wide set v = -2 where id in (20, 39980); delete from wide where id = 30")
        .await
        .unwrap();
    let during = lab.session().await;
    during.batch_execute("begin; savepoint s; update wide set v = -3 where id in (40, 39970)").await.unwrap();
    before.batch_execute("commit").await.unwrap();
    let moments = Moments::of(&lab, "wide", &[(2, "update wide set v = -4 where id = 50")]);
    starlift::ingest(&lab.watched(moments.clone()), None).await.unwrap();
    moments.passed();
    // What is open still comes with the next window.
    during.batch_execute("commit").await.unwrap();
    lab.catch_up().await;
    assert_eq!(lab.number("select count(*) from wide where v < 0").await, 7);
}

/// What makes the chunks so far worthless starts the base over, and in the end the lake is right.
async fn starts_over(lab: &Lab, table: &'static str, ddl: &str) {
    cut_after(lab, table, 2).await;
    let first = unfinished(lab, table).await.unwrap().first;
    lab.run(ddl).await;
    cut_after(lab, table, 1).await;
    let again = unfinished(lab, table).await.unwrap();
    assert!(again.first > first && again.chunks == 1, "{ddl}: {}", again.text());
    lab.catch_up().await;
    assert_eq!(lab.newest().await.unfinished, Default::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_rewritten_retyped_or_replaced_between_chunks_is_begun_anew() {
    let lab = lab(WIDE).await;
    starts_over(&lab, "wide", "vacuum full wide").await;
    for ddl in [
        "alter table wide alter v type numeric(12,2); alter table wide add column a int default 7",
        "alter table wide drop column a; alter table wide add column a text default 'x'",
    ] {
        lab.run("alter table wide add column other int").await;
        starts_over(&lab, "wide", ddl).await;
        lab.run("alter table wide drop column other").await;
    }
    lab.run("create type mood as enum ('sad'); alter table wide add column m mood").await;
    let back = "alter type mood rename value 'sad' to 'blue'; alter type mood rename value 'blue' to 'sad'";
    starts_over(&lab, "wide", back).await;
    lab.run("create table copy as select * from wide; alter table wide add column b int").await;
    let refill = "begin; create temp table kept as select * from wide; truncate wide; \
                  insert into wide select * from kept order by id desc; commit";
    starts_over(&lab, "wide", refill).await;
    lab.run("alter table wide add column c int").await;
    let swap = "begin; alter table wide rename to away; alter table copy add primary key (id); \
                alter table copy rename to wide; commit";
    starts_over(&lab, "wide", swap).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_comes_while_an_older_writer_is_open_means_one_full_read_in_chunks() {
    let felt = "create type mood as enum ('sad', 'happy'); alter table wide add column m mood not null default 'sad';";
    let lab = lab(&format!("{WIDE}{felt}")).await;
    lab.catch_up().await;
    let writer = lab.session().await;
    writer.batch_execute("begin; select pg_current_xact_id()").await.unwrap();
    for (change, why) in [
        ("alter type mood add value 'calm'", "schema changed, in "),
        (
            "alter type mood rename value 'sad' to 'blue'; alter type mood rename value 'blue' to 'sad'",
            "labels or fields changed, in ",
        ),
    ] {
        let before = chunks(&lab, "wide").await.len();
        lab.run(change).await;
        let report = lab.catch_up().await;
        assert!(of(&report, "wide").reason.as_ref().unwrap().starts_with(why), "{report:?}");
        let read = chunks(&lab, "wide").await.split_off(before);
        assert!(read.len() > 3 && read.iter().sum::<u64>() == 4_000, "nothing is left to the closing window: {read:?}");
        // The writer's id is lower than that of the change, which is in the window of every run until it ends.
        for _ in 0..2 {
            let report = lab.catch_up().await;
            let wide = of(&report, "wide");
            assert_eq!((wide.mode.as_str(), wide.rows_read), ("window", 0));
        }
    }
    writer.batch_execute("commit").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_dropped_renamed_emptied_or_as_it_was_between_chunks_leaves_nothing_unfinished() {
    let lab = lab(WIDE).await;
    lab.catch_up().await;
    // Back to the columns of the state: the window goes on from there.
    lab.run("create view old as select 1; alter table wide add column a int").await;
    cut_after(&lab, "wide", 2).await;
    assert!(unfinished(&lab, "wide").await.is_some());
    lab.run("update wide set v = 0 where id = 10; alter table wide rename to other").await;
    lab.catch_up().await;
    assert!(lab.newest().await.unfinished.is_empty());
    assert!(!lab.newest().await.relations.contains_key("wide"));

    lab.run("alter table other add column b int").await;
    cut_after(&lab, "other", 2).await;
    lab.run("truncate other").await;
    let report = lab.catch_up().await;
    assert_eq!((of(&report, "other").rows, of(&report, "other").mode.as_str()), (0, "full"));

    lab.run("insert into other select i, i, repeat('x', 900) from generate_series(1, 4000) i").await;
    lab.run("alter table other add column c int").await;
    cut_after(&lab, "other", 1).await;
    lab.run("drop table other").await;
    lab.catch_up().await;
    assert!(lab.newest().await.unfinished.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_does_not_come_leaves_the_chunks_to_the_next_run() {
    let lab = lab(WIDE).await;
    let owner = lab.session().await;
    // It queues behind the second chunk's lock, and keeps what it gets.
    owner.batch_execute("begin").await.unwrap();
    let moments = Moments::of(&lab, "wide", &[(2, "select 1")]);
    let context = lab.watched(moments.clone());
    *moments.sleep.lock().unwrap() = Some((2, std::time::Duration::from_millis(1_500)));
    let run = tokio::spawn(async move { starlift::ingest(&context, None).await });
    while unfinished_chunks(&lab).await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    owner.batch_execute("lock table wide in access exclusive mode").await.unwrap();
    let error = run.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    let read = chunks(&lab, "wide").await;
    assert!(!read.is_empty() && read.len() < 5, "{read:?}");
    owner.batch_execute("rollback").await.unwrap();
    lab.catch_up().await;
    assert_eq!(chunks(&lab, "wide").await.iter().sum::<u64>(), 4_000, "no chunk is read twice");
}

async fn unfinished_chunks(lab: &Lab) -> u32 {
    if lab.manifests() == 0 {
        return 0;
    }
    unfinished(lab, "wide").await.map_or(0, |base| base.chunks)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_any_type_and_tables_with_partitions_are_read_in_chunks() {
    let filler = "repeat(md5(i::text), 28)";
    let lab = lab(&format!(
        "create table by_uuid (id uuid primary key, n int, filler text);
         insert into by_uuid select md5(i::text)::uuid, i, {filler} from generate_series(1, 3000) i;
         create table by_text (a text collate \"C\", b numeric, c int, filler text, primary key (a, b));
         insert into by_text select 'key ' || i % 10, i / 4.0, i, {filler} from generate_series(1, 3000) i;
         create table parted (id int primary key, v int, filler text) partition by range (id);
         create table parted_1 partition of parted for values from (0) to (1000);
         create table parted_2 partition of parted for values from (1000) to (4000);
         insert into parted select i, i, {filler} from generate_series(1, 3000) i"
    ))
    .await;
    let mut all = Vec::new();
    for (table, sql) in [
        ("by_text", "update by_text set a = 'moved' where c % 11 = 0; delete from by_text where c < 20"),
        ("by_uuid", "delete from by_uuid where n % 9 = 0; update by_uuid set n = -n where n % 7 = 0"),
        (
            "parted",
            "update parted set id = id + 3000 where id % 50 = 0 and id < 1000; delete from parted where id = 2001",
        ),
    ] {
        let moments = Moments::of(&lab, table, &[(2, sql)]);
        all.push((table, moments.clone()));
        let kill = format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{}'", lab.reader);
        let cut = Moments::of(&lab, table, &[(2, sql), (3, &kill)]);
        starlift::ingest(&lab.watched(cut.clone()), None).await.unwrap_err();
        assert_eq!(cut.passed(), 3);
    }
    let report = lab.catch_up().await;
    for (table, _) in all {
        let relation = of(&report, table);
        assert!(relation.reason.as_ref().unwrap().contains("chunks"), "{relation:?}");
        assert!(chunks(&lab, table).await.len() >= 3, "{table}");
    }
    // All of them are closed at one snapshot.
    let manifests = history(&lab).await;
    assert!(manifests.iter().rev().skip(1).all(|m| !m.unfinished.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_inherits_for_a_moment_stops_the_chunk_that_shows_its_rows() {
    let kid = |name: &str, shift: u32| {
        format!(
            "create table elsewhere.{name} (like wide including all);
             insert into elsewhere.{name} select id + {shift}, -1, filler from wide where id <= 30;"
        )
    };
    // With keys of its own, and with keys that the table has.
    let lab = lab(&format!("{WIDE} create schema elsewhere; {} {}", kid("other", 1), kid("same", 0))).await;
    for name in ["other", "same"] {
        let inherit = format!("alter table elsewhere.{name} inherit wide");
        let moments = Moments::of(&lab, "wide", &[(1, &inherit)]);
        let error = starlift::ingest(&lab.watched(moments.clone()), None).await.unwrap_err();
        moments.passed();
        assert_eq!((error.kind(), error.hint()), (ErrorKind::Unavailable, Some("run again")), "{error:?}");
        assert_eq!(lab.manifests(), 0, "nothing is committed");
        lab.run(&format!("alter table elsewhere.{name} no inherit wide")).await;
    }
    let report = lab.catch_up().await;
    assert_eq!((of(&report, "wide").rows, of(&report, "wide").rows_read), (4_000, 4_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_come_go_and_return_between_chunks_do_not_start_the_base_over() {
    let rows = "i, i, repeat(md5(i::text), 28) from generate_series";
    let lab = lab(&format!(
        "create table parted (id int primary key, v int, filler text) partition by range (id);
         create table parted_1 partition of parted for values from (0) to (3000);
         create table parted_2 partition of parted for values from (3000) to (6000);
         create table parted_3 partition of parted for values from (6000) to (9000);
         insert into parted select {rows}(1, 2000) i; insert into parted select {rows}(3001, 5000) i;
         insert into parted select {rows}(6001, 8000) i;
         create table spare_4 (like parted including all); insert into spare_4 select {rows}(9001, 10500) i"
    ))
    .await;
    cut_after(&lab, "parted", 1).await;
    let first = unfinished(&lab, "parted").await.unwrap();
    for (chunks, ddl) in [
        (2, "alter table parted attach partition spare_4 for values from (9000) to (12000)"),
        (3, "alter table parted detach partition parted_2; delete from parted where id in (7, 6007, 9007)"),
        (
            4,
            "alter table parted detach partition parted_1;
             alter table parted_1 drop column v; alter table parted_1 add column v int default 77;
             alter table parted attach partition parted_1 for values from (0) to (3000)",
        ),
        // The keys of one that is gone, in another.
        (5, "alter table parted detach partition spare_4; update spare_4 set id = id - 6000 where id < 9500"),
    ] {
        lab.run(ddl).await;
        cut_after(&lab, "parted", 1).await;
        let base = unfinished(&lab, "parted").await.unwrap();
        assert_eq!((base.first, base.chunks), (first.first, chunks), "{ddl}");
    }
    lab.run("delete from spare_4 where id > 6000").await;
    lab.run("alter table parted attach partition spare_4 for values from (3000) to (6000)").await;
    let report = lab.catch_up().await;
    let parted = of(&report, "parted");
    assert!(parted.reason.as_ref().unwrap().starts_with("first read, in "), "{parted:?}");
    assert_eq!(parted.rows, 2_000 - 1 + 2_000 - 1 + 499 - 1);

    lab.run("alter table parted add column more int").await;
    starts_over(&lab, "parted", "vacuum full parted_3").await;
    lab.run("alter table parted add column other int").await;
    starts_over(&lab, "parted", "truncate parted_1").await;
}
