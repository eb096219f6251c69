//! Changes of a table's shape, most of which leave no trace in any row.

use std::time::Duration;

use starlift::doctor::{Verdict, doctor};

use crate::capture::lab::{Lab, Meanwhile, SALE, number, why_full};
#[cfg(debug_assertions)]
use crate::chunks::settle;
use crate::world::of;

/// Changes a table, with the same `xmin` in every row before and after, and runs. The next run reads it in full.
async fn without_a_trace(lab: &Lab, table: &str, ddl: &str) {
    let before = lab.xmins(table).await;
    lab.run(ddl).await;
    assert_eq!(lab.xmins(table).await, before, "the trap is not sprung: {ddl}");
    let report = lab.catch_up().await;
    assert_eq!(why_full(of(&report, table)), Some("schema changed"), "{ddl}");
    let report = lab.catch_up().await;
    assert_eq!((why_full(of(&report, table)), of(&report, table).rows_written), (None, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_comes_with_a_default_has_its_value_in_every_row() {
    let lab = Lab::new(SALE).await;
    lab.catch_up().await;
    without_a_trace(&lab, "sale", "alter table sale add column colour text not null default 'blue'").await;
    // The same column, as far as name, type and place tell.
    let again = "alter table sale drop column colour; alter table sale add column colour text not null default 'red'";
    without_a_trace(&lab, "sale", again).await;
    without_a_trace(&lab, "sale", "alter table sale drop column colour").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_label_reaches_every_row_wherever_the_enum_hides() {
    let lab = Lab::new(
        "create type mood as enum ('sad', 'happy'); create domain feeling as mood;
         create type pair as (n int, m mood); create type span as range (subtype = mood);
         create table plain (id int primary key, m mood); insert into plain values (1, 'sad'), (2, 'happy');
         create table as_array (id int primary key, m mood[]); insert into as_array values (1, '{sad,happy}');
         create table as_domain (id int primary key, m feeling); insert into as_domain values (1, 'sad');
         create table as_text (id int primary key, m mood); insert into as_text values (1, 'sad');
         create table as_pair (id int primary key, m pair[]); insert into as_pair values (1, array[row(1, 'sad')::pair]);
         create table as_span (id int primary key, m span); insert into as_span values (1, '[sad,happy]')",
    )
    .await;
    for table in ["as_text", "as_pair", "as_span"] {
        lab.configure(&format!("[source.tables.{table}]\ncolumns.m = {{ as = \"text\" }}"));
    }
    let tables = ["plain", "as_array", "as_domain", "as_text", "as_pair", "as_span"];
    lab.catch_up().await;
    let mut before = Vec::new();
    for table in tables {
        before.push((lab.xmins(table).await, lab.text(&format!("select string_agg(m::text, ' ') from {table}")).await));
    }
    lab.run("alter type mood rename value 'sad' to 'blue'").await;
    for (table, (xmins, values)) in tables.iter().zip(before) {
        assert_eq!(lab.xmins(table).await, xmins);
        assert_ne!(lab.text(&format!("select string_agg(m::text, ' ') from {table}")).await, values);
    }
    let report = lab.catch_up().await;
    for table in tables {
        assert_eq!(why_full(of(&report, table)), Some("schema changed"), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_change_while_a_run_reads_and_change_back_after_it_leave_nothing_stale() {
    let lab = Lab::new(
        "create type mood as enum ('sad', 'happy'); create type pair as (n int, m int);
         create table felt (id int primary key, m mood[], v int); insert into felt values (1, '{sad}', 1), (2, '{happy}', 1);
         create table pairs (id int primary key, p pair, v int); insert into pairs values (1, '(1,2)', 1), (2, '(3,4)', 1)",
    )
    .await;
    lab.catch_up().await;
    let writer = lab.session().await;
    writer.batch_execute("begin; select pg_current_xact_id()").await.unwrap();
    for (table, there, back) in [
        ("felt", "alter type mood rename value 'sad' to 'blue'", "alter type mood rename value 'blue' to 'sad'"),
        ("pairs", "alter type pair rename attribute n to k", "alter type pair rename attribute k to n"),
    ] {
        let strays = async || {
            lab.run(&format!("update {table} set v = v + 1")).await;
            let meanwhile = Meanwhile::at(&lab, table, there);
            starlift::ingest(&lab.watched(meanwhile.clone()), None).await.unwrap();
            assert_eq!(meanwhile.outcome(), "", "no lock kept it away");
            let xmins = lab.xmins(table).await;
            lab.run(back).await;
            assert_eq!(lab.xmins(table).await, xmins);
        };
        strays().await;
        // Until the next run, nobody takes what it shows for wrong.
        assert!(lab.differences().await[0].contains("labels or fields changed"), "the trap is not sprung");
        let report = lab.catch_up().await;
        assert_eq!(why_full(of(&report, table)), Some("labels or fields changed"));
        // Once, although the writer whose id is lower is open still.
        assert_eq!(why_full(of(&lab.catch_up().await, table)), None);
    }
    writer.batch_execute("commit").await.unwrap();
}

/// The bug is planted on the thread of the test alone, which is the one that decides what is read.
#[cfg(debug_assertions)]
#[test]
fn a_label_that_was_renamed_there_and_back_is_stale_where_nobody_looks_at_its_version() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let lab = runtime.block_on(async {
        let lab = Lab::new(
            "create type mood as enum ('sad', 'happy'); create table felt (id int primary key, m mood, v int);
             insert into felt values (1, 'sad', 1)",
        )
        .await;
        lab.catch_up().await;
        lab.run("update felt set v = 2").await;
        settle(&lab).await;
        let meanwhile = Meanwhile::at(&lab, "felt", "alter type mood rename value 'sad' to 'blue'");
        starlift::ingest(&lab.watched(meanwhile.clone()), None).await.unwrap();
        assert_eq!(meanwhile.outcome(), "");
        lab.run("alter type mood rename value 'blue' to 'sad'").await;
        lab
    });
    let report = starlift_core::fault::with_planted("names_ignored", || runtime.block_on(lab.ingest()));
    assert_eq!((why_full(of(&report, "felt")), of(&report, "felt").rows_written), (None, 0), "no row shows it");
    assert!(!runtime.block_on(lab.differences()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_of_a_composite_that_is_dropped_and_added_again_is_empty_in_every_row() {
    let lab = Lab::new(
        "create type pair as (n int, m int); create table t (id int primary key, p pair, ps pair[]);
         insert into t select i, row(i, i)::pair, array[row(i, i)::pair] from generate_series(1, 3) i",
    )
    .await;
    lab.configure("[source.tables.t]\ncolumns.ps = { as = \"text\" }");
    lab.catch_up().await;
    let values = async || lab.text("select string_agg(t::text, ' ') from t").await;
    let before = values().await;
    // The same field, as far as name, type and place tell.
    without_a_trace(&lab, "t", "alter type pair drop attribute m; alter type pair add attribute m int").await;
    assert_ne!(values().await, before);
    without_a_trace(&lab, "t", "alter type pair rename attribute m to o").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cast_that_gives_labels_one_text_hides_none_of_them() {
    let lab = Lab::new(
        "create type mood as enum ('sad', 'ok'); create table felt (k mood primary key, m mood[], v int);
         insert into felt values ('sad', '{ok}', 1), ('ok', '{sad}', 2);
         create table t (id int primary key, s text); insert into t values (1, 'a')",
    )
    .await;
    lab.catch_up().await;
    lab.run(
        "create function said(mood) returns text language sql as $$ select 'bad' $$; \
         create cast (mood as text) with function said(mood)",
    )
    .await;
    assert_eq!(lab.text("select string_agg(distinct k::text, ' ') from felt").await, "bad", "the trap is not sprung");
    // What a version that followed the cast left in a lake is read again, once, and nothing else.
    let report = lab.catch_up().await;
    assert_eq!(why_full(of(&report, "felt")), Some("labels or fields changed"));
    assert_eq!(why_full(of(&report, "t")), None);
    let report = lab.catch_up().await;
    assert_eq!((why_full(of(&report, "felt")), of(&report, "felt").rows_written), (None, 0));
    lab.run("update felt set m = case k when 'sad' then '{sad}'::mood[] else '{ok}' end").await;
    let report = lab.catch_up().await;
    assert_eq!((why_full(of(&report, "felt")), of(&report, "felt").rows_written), (None, 2));
    lab.run("delete from felt where k = 'sad'; update felt set k = 'sad'").await;
    let report = lab.catch_up().await;
    assert_eq!((of(&report, "felt").rows, of(&report, "felt").rows_deleted), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_two_keys_share_identify_no_row_and_their_texts_do() {
    let lab = Lab::new(
        "create type loose as (a int, b jsonb); create table held (k loose primary key, v text);
         insert into held values (row(1, 'null'), 'x'), (row(1, null), 'y')",
    )
    .await;
    let one = "select count(distinct to_json(k)::text) from held";
    assert_eq!(lab.number(one).await, 1, "the trap is not sprung");
    lab.catch_up().await;
    for change in
        ["update held set v = 'changed' where k = row(1, 'null')::loose", "delete from held where v = 'changed'"]
    {
        lab.run(change).await;
        let report = lab.catch_up().await;
        assert_eq!(why_full(of(&report, "held")), Some("captured in full"), "{change}");
    }
    let checks = doctor(&lab.context()).await;
    let keys = checks.iter().find(|check| check.name == "source: keys").unwrap();
    let mend = "set `columns.k = { as = \"text\" }` for table `held` in starlift.toml";
    assert_eq!((keys.verdict, keys.mend.as_deref()), (Verdict::Warn, Some(mend)));

    lab.configure("[source.tables.held]\ncolumns.k = { as = \"text\" }");
    let report = lab.catch_up().await;
    assert_eq!(why_full(of(&report, "held")), Some("schema changed"));
    lab.run("insert into held values (row(1, 'null'), 'x'); update held set v = 'z' where k = row(1, null)::loose")
        .await;
    let report = lab.catch_up().await;
    assert_eq!((why_full(of(&report, "held")), of(&report, "held").rows_written), (None, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_column_that_is_computed_otherwise_is_read_again() {
    let lab = Lab::new(SALE).await;
    let (version, otherwise) = (lab.version().await, "alter table sale alter twice set expression as (v * 3)");
    let kind = if version < 180_000 { "stored" } else { "virtual" };
    lab.run(&format!("alter table sale add column twice int generated always as (v * 2) {kind}")).await;
    lab.catch_up().await;
    match version {
        ..170_000 => lab.knows_no(otherwise).await,
        // What is stored is written again.
        170_000..180_000 => lab.run(otherwise).await,
        _ => without_a_trace(&lab, "sale", otherwise).await,
    }
    lab.catch_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_change_their_type_or_swap_their_names_are_read_again() {
    let lab = Lab::new(
        "create table t (id int primary key, a varchar(5), b varchar(5), n numeric(10,2));
         insert into t values (1, 'a', 'b', 1.50), (2, 'c', 'd', 2.25)",
    )
    .await;
    lab.catch_up().await;
    without_a_trace(&lab, "t", "alter table t alter a type text, alter n type numeric(12,2)").await;
    without_a_trace(&lab, "t", "alter table t alter a type varchar").await;
    let swap = "begin; alter table t rename a to x; alter table t rename b to a; alter table t rename x to b; commit";
    without_a_trace(&lab, "t", swap).await;
    without_a_trace(&lab, "t", "alter table t drop constraint t_pkey; alter table t add primary key (n)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_in_the_place_of_another_is_read_in_full() {
    let lab = Lab::new(SALE).await;
    lab.run(
        "create table other (like sale including all); insert into other select id, v + 10, last_updated from sale",
    )
    .await;
    lab.catch_up().await;
    let swap =
        "begin; alter table sale rename to x; alter table other rename to sale; alter table x rename to other; commit";
    for _ in 0..2 {
        let before = lab.xmins("other").await;
        lab.run(swap).await;
        assert_eq!(lab.xmins("sale").await, before, "old rows under a known name");
        let report = lab.catch_up().await;
        assert_eq!(why_full(of(&report, "sale")), Some("schema changed"));
    }
    lab.run("create table x as select * from sale; drop table sale; create table sale (like other including all)")
        .await;
    lab.run("insert into sale select id, v * 2, last_updated from x; drop table x").await;
    lab.catch_up().await;
    lab.run("drop table sale").await;
    let report = lab.catch_up().await;
    assert!(report.relations.iter().all(|r| r.name != "sale"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_moved_about_on_disk_are_neither_lost_nor_written_again() {
    let lab = Lab::new(SALE).await;
    lab.catch_up().await;
    for sql in [
        "vacuum full sale",
        "cluster sale using sale_pkey",
        "reindex table sale",
        "vacuum (freeze) sale",
        "select * from sale for update",
        "alter table sale set unlogged",
        "alter table sale set logged",
        "update sale set v = v",
        "analyze sale",
    ] {
        // With a change that is not read yet.
        lab.run("update sale set v = v + 1 where id = 2").await;
        lab.run(sql).await;
        let report = lab.catch_up().await;
        let sale = of(&report, "sale");
        assert_eq!((why_full(sale), sale.rows_written, sale.rows_deleted), (None, 1, 0), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_cannot_be_rewritten_between_the_snapshot_and_its_first_read() {
    let lab = Lab::new(SALE).await;
    lab.run("create table first (id int primary key); insert into first values (1)").await;
    // What happens to a reader that takes its snapshot before its locks.
    let naive = lab.session().await;
    for rewrite in [
        "begin; truncate sale; insert into sale (v) values (1), (2); commit",
        "alter table sale alter v type bigint using v + 1",
    ] {
        naive
            .batch_execute("begin isolation level repeatable read read only; select count(*) from first")
            .await
            .unwrap();
        lab.run(rewrite).await;
        assert_eq!(number(&naive, "select count(*) from sale").await, 0, "the table looks empty after {rewrite}");
        assert!(lab.number("select count(*) from sale").await > 0);
        naive.batch_execute("commit").await.unwrap();
    }
    lab.catch_up().await;
    for rewrite in [
        "truncate sale",
        "alter table sale alter v type int",
        "alter table sale add column w int default 7",
        "drop table sale",
    ] {
        let meanwhile = Meanwhile::at(&lab, "first", &format!("set lock_timeout = '100ms'; {rewrite}"));
        let report = starlift::ingest(&lab.watched(meanwhile.clone()), None).await.unwrap();
        assert_eq!(meanwhile.outcome(), "55P03", "{rewrite} has to wait");
        assert_eq!((of(&report, "sale").rows_written, of(&report, "sale").rows_deleted), (0, 0));
    }
    lab.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_rewritten_all_the_time_never_looks_empty() {
    let lab =
        Lab::new("create table t (id int primary key, v int); insert into t select i, 0 from generate_series(1, 20) i")
            .await;
    lab.catch_up().await;
    let writer = lab.session().await;
    let rewriting = tokio::spawn(async move {
        for _ in 0..100_000 {
            let refill = "begin; truncate t; insert into t select i, 0 from generate_series(1, 20) i; commit";
            writer.batch_execute(refill).await.unwrap();
            writer.batch_execute("alter table t alter v type int using v + 0").await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    for _ in 0..20 {
        let report = lab.ingest().await;
        let t = of(&report, "t");
        assert_eq!((t.rows, t.rows_deleted, t.rows_written), (20, 0, 0), "{t:?}");
    }
    rewriting.abort();
    let _ = rewriting.await;
    lab.catch_up().await;
}
