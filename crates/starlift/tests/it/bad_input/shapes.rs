//! Rows 13 to 17 and 20: types, keys, names and columns of tables.

use starlift_core::ErrorKind;

use super::{says, transform_fails};
use crate::capture::lab::{Lab, Meanwhile, SALE, why_full};
use crate::world::{World, of};

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_13_every_type_is_carried_or_refused_by_name_also_a_label_that_comes_meanwhile() {
    let lab = Lab::new(
        "create type mood as enum ('sad', 'ok'); create domain pos as numeric(8,2) check (value > 0);
         create type place as (street text, no int);
         create table first (id int primary key); insert into first values (1);
         create table odd (id int primary key, m mood, p pos, c place, r int4range, i interval, w money,
                           b bit(3), a inet, u uuid, x xml, v tsvector, o oid);
         insert into odd values (1, 'sad', 1.5, row('s', 1), '[1,3)', '1 month 2 days', 3.5,
           b'101', '10.0.0.1', gen_random_uuid(), '<a>1</a>', 'a b', 7);
         insert into odd (id) values (2)",
    )
    .await;
    if lab.version().await >= 140_000 {
        lab.run("alter table odd add mr datemultirange; update odd set mr = '{[2024-01-01,2024-02-01)}' where id = 1")
            .await;
    }
    lab.catch_up().await;
    // The labels of an enum are no rows: no lock that a reader may take keeps one from coming.
    let new_label = Meanwhile::at(&lab, "first", "alter type mood add value 'new'");
    starlift::ingest(&lab.watched(new_label.clone()), None).await.unwrap();
    assert_eq!(new_label.outcome(), "");
    lab.catch_up().await;
    lab.run("update odd set m = 'new'").await;
    lab.catch_up().await;

    lab.run("alter table odd add column k regclass").await;
    let error = lab.ingest_fails(ErrorKind::Unsupported, &["`odd`", "`k`", "regclass"]).await;
    assert!(error.hint().unwrap().contains("as = \"text\""), "{error:?}");
    lab.configure("[source.tables.odd]\ncolumns.k = { as = \"text\" }");
    lab.catch_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_14_a_table_without_columns_is_left_out_until_it_has_one() {
    let lab = Lab::new(SALE).await;
    lab.run("create table nothing (); insert into nothing default values").await;
    let report = lab.catch_up().await;
    assert_eq!(report.relations.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["sale"]);
    lab.run("insert into nothing default values; alter table nothing add column v int default 7").await;
    let report = lab.catch_up().await;
    assert_eq!((of(&report, "nothing").rows, of(&report, "nothing").rows_written), (2, 2));
    lab.run("alter table nothing drop column v").await;
    let report = lab.catch_up().await;
    assert!(report.relations.iter().all(|relation| relation.name != "nothing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_15_a_table_without_a_key_is_a_multiset() {
    let lab =
        Lab::new("create table log (at int, line text); insert into log values (1, 'a'), (1, 'a'), (2, null)").await;
    let report = lab.catch_up().await;
    assert_eq!((of(&report, "log").rows, of(&report, "log").mode.as_str()), (3, "full"));
    lab.run("delete from log where ctid = (select min(ctid) from log); insert into log values (null, null)").await;
    assert_eq!(of(&lab.catch_up().await, "log").rows, 3);
    // Nothing changed, nothing is written, although all is read.
    let report = lab.catch_up().await;
    assert_eq!(of(&report, "log").rows_written, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_16_a_key_that_two_rows_have_or_that_is_null_stops_transform_by_name() {
    let world = World::new().await.with_own_project();
    world.change("update address set address_line_2 = null where address_id = 1").await;
    world.ingest().await;
    let model = world.project.join("models/dim_broken.sql");
    let write = |sql: &str| std::fs::write(&model, sql).unwrap();
    write("-- kind: dimension\n-- key: city\nselect city from address union all select city from address");
    transform_fails(&world, ErrorKind::Data, &["dim_broken", "city="]).await;
    write("-- kind: dimension\n-- key: line\nselect address_line_2 as line from address where address_id = 1");
    transform_fails(&world, ErrorKind::Data, &["dim_broken", "line"]).await;
    std::fs::remove_file(&model).unwrap();
    world.create_warehouse().await;
    world.run().await;
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_17_names_and_columns_of_every_kind_are_taken_as_they_are() {
    let lab = Lab::new("").await;
    let long = "n".repeat(63);
    for name in ["Mixed Case", "select", "UPPER", "weird \"quoted\"", "naïve", &long] {
        let quoted = name.replace('"', "\"\"");
        lab.run(&format!(
            "create table \"{quoted}\" (\"{quoted}\" int primary key, gone int, \"order\" text generated always as ('x') stored,
                n bigint generated always as identity);
             alter table \"{quoted}\" drop column gone; insert into \"{quoted}\" values (1), (2)"
        ))
        .await;
    }
    let columns: Vec<String> = (2..=1600).map(|i| format!("c{i} int default {i}")).collect();
    lab.run(&format!(
        "create table broad (id int primary key, {}); insert into broad values (1), (2)",
        columns.join(", ")
    ))
    .await;
    let report = lab.catch_up().await;
    assert_eq!(report.relations.len(), 7);
    lab.run("update broad set c1600 = -1 where id = 2; update \"Mixed Case\" set \"Mixed Case\" = 3 where \"Mixed Case\" = 2").await;
    let report = lab.catch_up().await;
    assert_eq!((of(&report, "broad").rows_written, of(&report, "Mixed Case").rows_deleted), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_20_a_column_that_comes_with_a_default_is_read_for_every_row() {
    let lab = Lab::new("create table t (id int primary key); insert into t select generate_series(1, 50)").await;
    lab.catch_up().await;
    let before = lab.xmins("t").await;
    lab.run("alter table t add column colour text not null default 'blue'").await;
    assert_eq!(lab.xmins("t").await, before, "no row shows it");
    let report = lab.catch_up().await;
    assert_eq!((why_full(of(&report, "t")), of(&report, "t").rows_written), (Some("schema changed"), 50));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_a_model_reads_is_named_with_the_setting_that_reads_it() {
    let lab = Lab::new(
        "create table t (id int primary key); insert into t values (1), (2);
         create view \"big t\" as select id from t where id > 1; grant select on \"big t\" to public",
    )
    .await;
    lab.model("dim_big", "-- kind: dimension\n-- key: id\nselect id from \"big t\"");
    let words = ["`dim_big` reads `big t`, which is a view", "[source.tables.\"big t\"]", "capture = \"full\""];
    lab.ingest_fails(ErrorKind::Config, &words).await;
    lab.configure("[source.tables.\"big t\"]\ncapture = \"full\"");
    let report = lab.catch_up().await;
    assert_eq!(of(&report, "big t").rows, 1);
    lab.model("dim_big", "-- kind: dimension\n-- key: id\nselect id from big_t");
    lab.ingest_fails(ErrorKind::Config, &["which does not exist", "did you mean `big t`?"]).await;
}

#[test]
fn a_word_that_is_missing_from_a_message_is_noticed() {
    let error = starlift_core::Error::data("column `a` of table `t`").with_hint("mend it");
    says(&error, ErrorKind::Data, &["`a`", "`t`"]);
    let unsaid = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| says(&error, ErrorKind::Data, &["`b`"])));
    assert!(unsaid.is_err());
}
