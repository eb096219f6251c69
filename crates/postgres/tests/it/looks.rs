//! Looks at what is open, the indexes and foreign keys that capture asks for, and rows that are found by their stamps.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use starlift_core::Micros;
use starlift_core::capture::Look;
use starlift_postgres::RowStream;
use starlift_postgres::catalog::ForeignKey;
use tokio_postgres::Client;

use crate::support::{Database, database, session, table};

async fn micros(client: &Client, sql: &str) -> Micros {
    let sql = format!("select (extract(epoch from {sql}) * 1000000)::bigint");
    Micros(client.query_one(&sql, &[]).await.unwrap().get(0))
}

async fn look(db: &Database, role: &str) -> Look {
    session(&db.options_of(role)).await.look().await.unwrap().unwrap()
}

#[tokio::test]
async fn every_role_sees_what_is_open_and_one_with_the_right_sees_since_when() {
    let db = database("").await;
    let (plain, stats) = (format!("{}_plain", db.name), format!("{}_stats", db.name));
    let roles = format!("create role {plain} login; create role {stats} login; grant pg_read_all_stats to {stats}");
    db.owner.batch_execute(&roles).await.unwrap();
    assert!(!session(&db.options_of(&plain)).await.sees_activity().await.unwrap());
    assert!(session(&db.options_of(&stats)).await.sees_activity().await.unwrap());
    for role in [&plain, &stats] {
        let nothing = look(&db, role).await;
        assert_eq!((nothing.began.len(), nothing.unnamed.len(), nothing.prepared.len()), (0, 0, 0), "{role}");
    }

    // Idle, without a transaction id; a transaction in another database is nobody's business.
    let elsewhere = database("begin; select 1").await;
    db.owner.batch_execute("begin; select now()").await.unwrap();
    let began = micros(&db.owner, "now()").await;
    let unseen = look(&db, &plain).await;
    assert_eq!((unseen.began.len(), unseen.unnamed.len()), (0, 1));
    assert!(unseen.at > began && unseen.server_started < began);
    assert_eq!(look(&db, &plain).await.unnamed, unseen.unnamed, "it keeps its name");
    let seen = look(&db, &stats).await;
    assert_eq!((seen.began.values().collect::<Vec<_>>(), seen.unnamed.len()), (vec![&began], 0));
    assert!(seen.began.keys().eq(unseen.unnamed.keys()), "both name its process");
    drop(elsewhere);

    // Who keeps no track of itself cannot be seen by anybody.
    db.owner.batch_execute("commit; set track_activities = off; begin; select now()").await.unwrap();
    let hidden = look(&db, &stats).await;
    assert_eq!((hidden.began.len(), hidden.unnamed.len()), (0, 1));
    assert_ne!(hidden.unnamed, unseen.unnamed, "it is another transaction");
    db.owner.batch_execute("rollback; set track_activities = on").await.unwrap();

    // What failed writes nothing any more, however long it is left alone.
    db.owner.batch_execute("begin; select 1 / 0").await.unwrap_err();
    let failed = look(&db, &stats).await;
    assert_eq!((failed.began.len(), failed.unnamed.len()), (0, 0));
    db.owner.batch_execute("rollback").await.unwrap();
}

#[tokio::test]
async fn a_session_is_known_between_two_transactions_of_its_message() {
    let db = database("create table stop ()").await;
    let (plain, stats) = (format!("{}_plain", db.name), format!("{}_stats", db.name));
    let roles = format!("create role {plain} login; create role {stats} login; grant pg_read_all_stats to {stats}");
    db.owner.batch_execute(&roles).await.unwrap();
    let busy = db.cluster.connect(&db.name).await.unwrap();
    let message = "do $$ begin while not exists (select from stop) loop commit; end loop; end $$";
    let running = tokio::spawn(async move { busy.batch_execute(message).await });
    let (plain, stats) = (session(&db.options_of(&plain)).await, session(&db.options_of(&stats)).await);
    let mut began = BTreeSet::new();
    while began.is_empty() {
        began.extend(stats.look().await.unwrap().unwrap().began);
    }
    let (mut processes, mut names) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..200 {
        let seen = stats.look().await.unwrap().unwrap();
        assert_eq!(seen.began.len(), 1, "it is between two, and at work");
        began.extend(seen.began);
        let unseen = plain.look().await.unwrap().unwrap();
        processes.extend(unseen.unnamed.keys().cloned());
        names.extend(unseen.unnamed.into_values());
    }
    db.owner.batch_execute("insert into stop default values").await.unwrap();
    running.await.unwrap().unwrap();
    assert_eq!(began.len(), 1, "since its message came: {began:?}");
    assert!(processes.len() == 1 && names.len() > 1, "one session, and many transactions: {processes:?}");
}

#[tokio::test]
async fn a_prepared_transaction_is_seen_until_it_ends() {
    let db = database("create table t (id int primary key)").await;
    let name = format!("looked at in {}", db.name);
    db.owner.batch_execute(&format!("begin; insert into t values (1); prepare transaction '{name}'")).await.unwrap();
    let mut source = db.session().await;
    let first = source.look().await.unwrap().unwrap();
    assert_eq!((first.prepared.len(), first.began.len() + first.unnamed.len()), (1, 0));
    assert_eq!(source.look().await.unwrap().unwrap().prepared, first.prepared);
    db.owner.batch_execute(&format!("commit prepared '{name}'")).await.unwrap();
    assert_eq!(source.look().await.unwrap().unwrap().prepared, [] as [String; 0]);
    source.begin(&[]).await.unwrap();
    assert!(source.look().await.is_err(), "a look after the snapshot says nothing about it");
}

#[tokio::test]
async fn an_index_counts_that_holds_all_rows_in_an_order_and_begins_with_the_column() {
    let db = database(
        "create table t (id int primary key, a timestamp, b timestamp, c timestamp, d timestamp, e timestamp, f timestamp);
         create index on t (a desc, id); create index on t (id, b); create index on t (c) where c is not null;
         create index on t (date_trunc('day', d)); create index on t using brin (e); create index on t using hash (f);
         create table p (id int, a timestamp, primary key (id)) partition by range (id);
         create table p1 partition of p for values from (0) to (9); create index on p (a)",
    )
    .await;
    let source = db.session().await;
    let indexed = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<BTreeSet<_>>();
    assert_eq!(table(&source, "t").await.indexed, indexed(&["a", "id"]));
    assert_eq!(table(&source, "p").await.indexed, indexed(&["a", "id"]));
}

#[tokio::test]
async fn foreign_keys_come_with_their_columns_in_the_order_of_the_other_key() {
    let db = database(
        "create table a (x int, y int, primary key (x, y)); create schema elsewhere; create table elsewhere.z (id int primary key);
         create table b (id int primary key, ay int, ax int, boss int references b, z int references elsewhere.z,
                         foreign key (ay, ax) references a (y, x))",
    )
    .await;
    let found = table(&db.session().await, "b").await.foreign_keys;
    let key = |table: &str, columns: &[&str], key: &[&str]| ForeignKey {
        table: table.into(),
        columns: columns.iter().map(|c| c.to_string()).collect(),
        key: key.iter().map(|c| c.to_string()).collect(),
    };
    assert_eq!(found, [key("a", &["ay", "ax"], &["y", "x"]), key("b", &["boss"], &["id"])]);
}

#[tokio::test]
async fn rows_are_found_by_stamps_of_each_type_and_the_planner_is_left_as_it_was() {
    let db = database(
        "set timezone = 'Asia/Tokyo';
         create table t (id int primary key, \"Utc\" timestamp, zoned timestamptz, day date);
         insert into t select i, timestamp '2024-03-01' + i * interval '6 hours',
                              timestamptz '2024-03-01 00:00+00' + i * interval '6 hours',
                              (timestamp '2024-03-01' + i * interval '6 hours')::date from generate_series(0, 11) i;
         insert into t values (100, 'infinity', 'infinity', 'infinity'), (101, null, null, null);
         create index on t (\"Utc\"); create index on t (zoned); create index on t (day); analyze t",
    )
    .await;
    let mut source = db.session().await;
    let t = table(&source, "t").await;
    source.begin(&["t".into()]).await.unwrap();
    let from = Micros::parse("2024-03-02T12:00:00Z").unwrap();
    // A date says no more than its day.
    for (column, rows) in [("Utc", 7), ("zoned", 7), ("day", 9)] {
        let mut stream: RowStream = source.copy_stamped(&t, column, from).await.unwrap();
        let batches: Vec<_> = (&mut stream).try_collect().await.unwrap();
        assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), rows, "{column}");
        source.stamped_is_read().await.unwrap();
        assert!((1..=14).contains(&source.estimate_stamped(&t, column, from).await.unwrap()), "{column}");
    }
    let setting = source.client().query_one("show enable_seqscan", &[]).await.unwrap();
    assert_eq!(setting.get::<_, String>(0), "on");
    assert!(source.copy_stamped(&t, "id", from).await.is_err());
}
