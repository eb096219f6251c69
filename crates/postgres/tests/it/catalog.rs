//! What the catalog says about tables, columns, keys and types.

use std::collections::BTreeMap;

use starlift_core::{ColumnType, ErrorKind};
use starlift_postgres::SourceSession;
use starlift_postgres::catalog::{Catalog, ColumnSetting, TableKind, TableSettings, read_tables};

use crate::support::{Database, array_of, database, table, version};

pub(crate) async fn catalog(db: &Database) -> Catalog {
    db.session().await.catalog(&TableSettings::new(), &[]).await.unwrap()
}

fn numeric(precision: u8, scale: u8) -> ColumnType {
    ColumnType::Numeric { precision, scale }
}

#[tokio::test]
async fn columns_come_in_their_order_with_types_through_domains_arrays_and_enums() {
    // Before 15 a scale is never negative.
    let tens = if version().await < 150_000 { "numeric(5,0)" } else { "numeric(3,-2)" };
    let db = database(&format!(
        "create type mood as enum ('sad', 'happy'); alter type mood add value 'ok' before 'happy';
         create domain price as numeric(10,2); create domain net as price not null;
         create table \"Weird \"\"Name\" (
           gone int, id int generated always as identity, \"select\" varchar(3) not null, m mood, ms mood[],
           n numeric, p numeric(12,4), q {tens}, d net, ds price[], twice int generated always as (1 + 1) stored);
         alter table \"Weird \"\"Name\" drop column gone, add primary key (\"select\", id)",
    ))
    .await;
    let catalog = catalog(&db).await;
    let table = catalog.table("Weird \"Name").unwrap();
    let found: Vec<(&str, &ColumnType, bool, &str, usize)> = table
        .schema
        .columns
        .iter()
        .map(|c| (c.name.as_str(), &c.column_type, c.nullable, c.declared.as_deref().unwrap(), c.labels.len()))
        .collect();
    let expected = [
        ("id", ColumnType::Int4, false, "integer", 0),
        ("select", ColumnType::Text, false, "character varying(3)", 0),
        ("m", ColumnType::Text, true, "public.mood", 3),
        ("ms", array_of(ColumnType::Text), true, "public.mood[]", 3),
        ("n", numeric(38, 10), true, "numeric", 0),
        ("p", numeric(12, 4), true, "numeric(12,4)", 0),
        ("q", numeric(5, 0), true, tens, 0),
        ("d", numeric(10, 2), true, "public.net", 0),
        ("ds", array_of(numeric(10, 2)), true, "public.price[]", 0),
        ("twice", ColumnType::Int4, true, "integer", 0),
    ];
    assert_eq!(found, expected.iter().map(|(n, t, b, d, l)| (*n, t, *b, *d, *l)).collect::<Vec<_>>());
    assert_eq!(table.schema.columns[2].labels, ["sad", "ok", "happy"]);
    assert_eq!(table.schema.key, ["select", "id"]);
    assert!(table.may_select && !table.row_security && table.kind == TableKind::Table);
    assert_eq!(table.estimated_rows, None);
}

#[tokio::test]
async fn a_key_is_the_primary_key_or_the_first_index_that_identifies_every_row() {
    let db = database(
        "create table a (x int not null, y int not null, z int, primary key (y, x)); create unique index on a (x);
         create table b (x int not null, y int not null, z int not null); create unique index on b (z, y);
         create unique index on b (y, z); create unique index on b (x) where x > 0; create unique index on b ((x + 1));
         create unique index on b (x, y, z);
         create table c (x int); create unique index on c (x);
         create table d (x int not null); create index on d (x);
         create table e (x int not null, y int); create unique index on e (x) include (y)",
    )
    .await;
    let catalog = catalog(&db).await;
    let keys: BTreeMap<&str, &[String]> =
        catalog.tables.iter().map(|(name, table)| (name.as_str(), table.schema.key.as_slice())).collect();
    assert_eq!(keys["a"], ["y", "x"]);
    assert_eq!(keys["b"], ["y", "z"]);
    assert_eq!(keys["e"], ["x"]);
    assert!(keys["c"].is_empty() && keys["d"].is_empty());
}

#[tokio::test]
async fn documents_that_different_values_share_are_no_key_and_their_texts_are() {
    let db = database(
        "create type pair as (a int, b text); create type loose as (a int, b jsonb); create type bounds as (a int[]);
         create table exact (k pair primary key);
         create table shared (k loose, n int, primary key (n, k)); create table listed (k bounds primary key);
         create table pairs (k pair[] primary key);
         create table other (k loose primary key, id int not null unique)",
    )
    .await;
    let session = db.session().await;
    let found = async |settings: &TableSettings| -> Vec<(String, Vec<String>, Vec<String>)> {
        let tables = session.catalog(settings, &[]).await.unwrap().tables;
        tables.into_values().map(|table| (table.name, table.schema.key, table.vague_key)).collect()
    };
    let list = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    let expect = |name: &str, key: &[&str], vague: &[&str]| (name.to_string(), list(key), list(vague));
    let same = [expect("exact", &["k"], &[]), expect("other", &["id"], &[])];
    let [exact, other] = same;
    assert_eq!(
        found(&TableSettings::new()).await,
        [
            exact.clone(),
            expect("listed", &[], &["k"]),
            other.clone(),
            expect("pairs", &[], &["k"]),
            expect("shared", &[], &["k"]),
        ]
    );
    let as_text = |table: &str| (table.to_string(), BTreeMap::from([("k".to_string(), ColumnSetting::AsText)]));
    let settings = TableSettings::from(["listed", "pairs", "shared"].map(as_text));
    assert_eq!(
        found(&settings).await,
        [exact, expect("listed", &["k"], &[]), other, expect("pairs", &["k"], &[]), expect("shared", &["n", "k"], &[])]
    );
}

#[tokio::test]
async fn partitions_of_every_level_belong_to_their_root() {
    let db = database(
        "create table p (id int, day date, primary key (id, day)) partition by range (day);
         create table p1 partition of p for values from ('2024-01-01') to ('2025-01-01') partition by list (id);
         create table p1a partition of p1 for values in (1);
         create table standalone (id int primary key);
         create table parent (id int primary key); create table child (extra int) inherits (parent);
         insert into p values (1, '2024-05-05'); analyze p",
    )
    .await;
    let before = catalog(&db).await;
    assert_eq!(before.tables.keys().collect::<Vec<_>>(), ["child", "p", "parent", "standalone"]);
    let root = before.table("p").unwrap();
    assert_eq!((root.kind, root.schema.partitions.len(), root.schema.key.len()), (TableKind::Partitioned, 2, 2));
    assert!(root.bytes > 0, "bytes of the partitions count");
    // Rows of a child can have the key of a row of the parent.
    let parent = before.table("parent").unwrap();
    assert_eq!((parent.schema.partitions.len(), parent.schema.key.len()), (1, 0));

    db.owner
        .batch_execute("create table p2 (id int not null, day date not null); alter table p attach partition p2 for values from ('2025-01-01') to ('2026-01-01')")
        .await
        .unwrap();
    let after = catalog(&db).await;
    assert_ne!(after.table("p").unwrap().schema.fingerprint(), root.schema.fingerprint());
    assert_eq!(after.table("standalone").unwrap(), before.table("standalone").unwrap());
}

#[tokio::test]
async fn a_temporary_child_of_another_session_is_nothing_to_us() {
    let db = database("create table t (id int primary key, v int); insert into t values (1, 1)").await;
    let before = catalog(&db).await;
    let mut session = db.session().await;
    let heap = async |session: &mut SourceSession| {
        session.begin(&["t".into()]).await.unwrap();
        let table = table(session, "t").await;
        let heap = session.heap(&table).await.unwrap();
        session.check_children(&table).await.unwrap();
        session.end().await.unwrap();
        heap
    };
    let heap_before = heap(&mut session).await;
    let other = db.cluster.connect(&db.name).await.unwrap();
    other
        .batch_execute("create temp table scratch (w int) inherits (t); insert into scratch values (1, 2, 3)")
        .await
        .unwrap();
    assert_eq!(catalog(&db).await.table("t").unwrap(), before.table("t").unwrap());
    assert_eq!(heap(&mut session).await, heap_before);
    // What is there for all is counted.
    other.batch_execute("create table child () inherits (t)").await.unwrap();
    assert_eq!(catalog(&db).await.table("t").unwrap().schema.partitions.len(), 1);
}

#[tokio::test]
async fn views_are_read_only_when_asked_for_and_foreign_keys_lead_to_tables() {
    let db = database(
        "create table address (id int primary key);
         create table counterparty (id int primary key, address_id int references address, parent int references counterparty);
         create view v as select id from address; create materialized view m as select id from address;
         create schema other; create table other.hidden (id int primary key);
         create table outward (id int references other.hidden)",
    )
    .await;
    let session = db.session().await;
    let none = TableSettings::new();
    let catalog = session.catalog(&none, &[]).await.unwrap();
    assert_eq!(catalog.tables.keys().collect::<Vec<_>>(), ["address", "counterparty", "outward"]);
    assert_eq!(catalog.table("counterparty").unwrap().references.iter().collect::<Vec<_>>(), ["address"]);
    assert!(catalog.table("outward").unwrap().references.is_empty());

    let catalog = session.catalog(&none, &["v".into(), "m".into(), "address".into()]).await.unwrap();
    for (view, kind) in [("v", TableKind::View), ("m", TableKind::Unlockable)] {
        let view = catalog.table(view).unwrap();
        assert_eq!((view.kind, view.schema.key.len()), (kind, 0));
    }
    let error = session.catalog(&none, &["vv".into()]).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Config, "there is no view `vv` in schema `public`"));
    let error = read_tables(session.client(), "nowhere", &none, &[]).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Config, "there is no schema `nowhere`"));
}

#[tokio::test]
async fn types_that_are_not_carried_are_named_with_the_setting_that_helps() {
    let db = database(
        "create table good (id int primary key);
         create table t (id int primary key, a regclass, b numeric(39), c aclitem, d pg_node_tree, e regclass[]);",
    )
    .await;
    let catalog = catalog(&db).await;
    assert_eq!(catalog.unsupported.len(), 5);
    assert_eq!(catalog.table("t").unwrap().schema.columns.len(), 1);
    catalog.check_types(&["good".into()]).unwrap();
    let error = catalog.check_types(&["good".into(), "t".into()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let detail = error.detail().unwrap();
    assert!(detail.starts_with("`t.a` is `regclass`, `t.b` is `numeric(39,0)`"), "{detail}");
    assert!(error.hint().unwrap().contains("set `columns.a = { as = \"text\" }` for table `t`"), "{error:?}");

    let columns = catalog.unsupported.iter().map(|u| (u.column.clone(), ColumnSetting::AsText)).collect();
    let settings = TableSettings::from([("t".to_string(), columns)]);
    let catalog = db.session().await.catalog(&settings, &[]).await.unwrap();
    assert!(catalog.unsupported.is_empty());
}

#[tokio::test]
async fn a_setting_for_a_column_or_table_that_is_not_there_names_the_nearest() {
    let db = database("create table payment (payment_id int primary key, payment_amount numeric)").await;
    let session = db.session().await;
    let setting = |table: &str, column: &str| {
        TableSettings::from([(table.to_string(), BTreeMap::from([(column.to_string(), ColumnSetting::NumericText)]))])
    };
    let error = session.catalog(&setting("payment", "payment_amont"), &[]).await.unwrap_err();
    assert_eq!((error.kind(), error.hint()), (ErrorKind::Config, Some("did you mean `payment_amount`?")));
    let error = session.catalog(&setting("paymnt", "payment_amount"), &[]).await.unwrap_err();
    assert_eq!((error.kind(), error.hint()), (ErrorKind::Config, Some("did you mean `payment`?")));
    let error = session.catalog(&setting("payment", "payment_id"), &[]).await.unwrap_err();
    assert_eq!(error.detail().as_deref(), Some("`numeric` is for numeric columns, and this one is `integer`"));
    assert!(session.catalog(&TableSettings::from([("elsewhere".into(), BTreeMap::new())]), &[]).await.is_ok());
}

#[tokio::test]
async fn the_fingerprint_changes_with_types_labels_and_settings_and_not_with_rows() {
    let db = database(
        "create type mood as enum ('sad'); create table t (id int primary key, m mood, n numeric); insert into t values (1)",
    )
    .await;
    let session = db.session().await;
    let fingerprint = async |settings: &TableSettings| {
        session.catalog(settings, &[]).await.unwrap().table("t").unwrap().schema.fingerprint()
    };
    let none = TableSettings::new();
    let before = fingerprint(&none).await;
    db.owner.batch_execute("insert into t values (2); analyze t; vacuum full t; reindex table t").await.unwrap_err();
    for sql in ["insert into t values (2)", "analyze t", "vacuum full t", "reindex table t"] {
        db.owner.batch_execute(sql).await.unwrap();
    }
    assert_eq!(fingerprint(&none).await, before);
    let text = TableSettings::from([("t".into(), BTreeMap::from([("n".into(), ColumnSetting::NumericText)]))]);
    assert_ne!(fingerprint(&text).await, before);
    db.owner.batch_execute("alter type mood rename value 'sad' to 'blue'").await.unwrap();
    let renamed = fingerprint(&none).await;
    assert_ne!(renamed, before);
    db.owner.batch_execute("alter table t alter n type numeric(10,2)").await.unwrap();
    assert_ne!(fingerprint(&none).await, renamed);
}

#[tokio::test]
async fn a_cast_that_gave_columns_their_text_is_another_version_of_their_names_alone() {
    let db = database(
        "create type mood as enum ('sad', 'happy'); create domain feeling as mood; create type pair as (n int, m mood);
         create table felt (id int primary key, m mood); create table felts (id int primary key, m feeling[]);
         create table pairs (id int primary key, p pair); create table t (id int primary key, s text);
         create function said(mood) returns text language sql as $$ select 'so so' $$",
    )
    .await;
    let session = db.session().await;
    let names = async || {
        let catalog = session.catalog(&TableSettings::new(), &[]).await.unwrap();
        ["felt", "felts", "pairs", "t"]
            .map(|name| (catalog.tables[name].names.clone(), catalog.tables[name].schema.fingerprint()))
    };
    let before = names().await;
    // The text that it had all the time.
    db.owner.batch_execute("create cast (mood as text) with inout").await.unwrap();
    assert_eq!(names().await, before);
    db.owner
        .batch_execute("drop cast (mood as text); create cast (mood as text) with function said(mood)")
        .await
        .unwrap();
    let after = names().await;
    let differs: Vec<bool> = before.iter().zip(&after).map(|(before, after)| before.0 != after.0).collect();
    assert_eq!(differs, [true, true, false, false], "a document has shown the label all the time");
    assert!(before.iter().zip(&after).all(|(before, after)| before.1 == after.1), "the table is the same");
}

#[tokio::test]
async fn names_that_were_changed_there_and_back_are_others_and_what_rows_do_changes_none() {
    let db = database(
        "create type mood as enum ('sad', 'happy'); create type pair as (n int, m mood);
         create table felt (id int primary key, m mood[]); create table pairs (id int primary key, p pair);
         create table t (id int primary key, s text)",
    )
    .await;
    let session = db.session().await;
    let names = async || {
        let catalog = session.catalog(&TableSettings::new(), &[]).await.unwrap();
        ["felt", "pairs", "t"].map(|name| catalog.tables[name].names.clone())
    };
    let mut before = names().await;
    assert_eq!(before.each_ref().map(Option::is_some), [true, true, false]);
    for (change, is_other) in [
        ("insert into felt values (1, '{sad}'); update felt set m = '{happy}'", [false, false, false]),
        ("vacuum freeze pg_catalog.pg_enum", [false, false, false]),
        ("vacuum full pg_catalog.pg_enum", [false, false, false]),
        ("analyze felt; alter table felt add column v int; create index on felt (v)", [false, false, false]),
        (
            "alter type mood rename value 'sad' to 'blue'; alter type mood rename value 'blue' to 'sad'",
            [true, true, false],
        ),
        ("alter type pair rename attribute n to k; alter type pair rename attribute k to n", [false, true, false]),
        ("alter type pair add attribute o int; alter type pair drop attribute o", [false, true, false]),
    ] {
        db.owner.batch_execute(change).await.unwrap();
        let after = names().await;
        let differs: Vec<bool> = before.iter().zip(&after).map(|(before, after)| before != after).collect();
        assert_eq!(differs, is_other, "{change}");
        before = after;
    }
}
