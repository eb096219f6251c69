//! The bulk path: a large load takes foreign keys and indexes off, copies rows straight into an empty table, and has the same
//! end as the plain path.

use std::time::Duration;

use futures::StreamExt;
use starlift_core::{Error, ErrorKind};
use starlift_postgres::load::{self, Ahead, LoadLimits, LoadRun, ModelLoad, ModelTable, create_support};
use tokio_postgres::NoTls;

use super::fixture::*;

const SQL: &str = "create table dim_shop (shop_id int primary key, name text);
    create table fact_sale (record_id serial primary key, sale_id int not null, shop_id int \
        constraint \"Odd name\" references dim_shop on delete cascade deferrable initially deferred, \
        other int references dim_shop, price numeric(10,2), code varchar(4));
    comment on constraint \"Odd name\" on fact_sale is 'kept';
    create index \"Odd index\" on fact_sale using btree (price desc nulls last) include (code) with (fillfactor = 71);
    comment on index \"Odd index\" is 'kept too'";
/// All that must be the same whatever the path.
const SHAPE: &str = "select conname, pg_get_constraintdef(oid), convalidated, condeferrable, condeferred, \
        obj_description(oid, 'pg_constraint') from pg_constraint where connamespace = 'public'::regnamespace \
    union all select relname, pg_get_indexdef(oid), relpersistence = 'p', reltablespace = 0, null, \
        obj_description(oid, 'pg_class') from pg_class where relkind = 'i' and relnamespace = 'public'::regnamespace \
    order by 1, 2";
const KEYS: &str = "select string_agg(oid::text, ',' order by conname) from pg_constraint \
    where contype = 'f' and conrelid = 'fact_sale'::regclass";
const INDEX: &str = "select '\"Odd index\"'::regclass::oid";
/// More than the fewest that are written by set.
const MANY: usize = 10_400;

fn shop() -> ModelTable {
    dimension("dim_shop", "shop_id int4, name text")
}

fn sale() -> ModelTable {
    fact("fact_sale", "sale_id int4, shop_id int4, other int4, price numeric(38,10), code text")
}

/// Sales in no order of their key.
fn sales(ids: std::ops::Range<usize>) -> Vec<Vec<String>> {
    let row = |id: usize| vec![id.to_string(), "1".into(), NULL.into(), format!("{}.25", id % 90), "é4".into()];
    let mut rows: Vec<_> = ids.map(row).collect();
    let half = rows.len() / 2;
    rows.rotate_left(half);
    rows.chunks_mut(7).for_each(<[_]>::reverse);
    rows
}

fn changes(rows: Vec<Vec<String>>) -> Vec<Change> {
    vec![change(&shop(), &[&["1", "a"]]), Change { model: sale(), rows, gone: vec![] }]
}

/// What a warehouse holds, in full.
async fn content(w: &Warehouse) -> Vec<String> {
    let mut all = w.rows(SHAPE).await;
    for sql in [
        // Of ids that an attempt took and gave up only the order is promised.
        "select row_number() over (order by record_id), sale_id, shop_id, other, price, code from fact_sale order by 1",
        "select sale_id, price, code from current_fact_sale order by sale_id",
        "select * from dim_shop order by 1",
        "select model, key, column_name, reason, waits_for from starlift.refused order by 1, 2::text",
        "select model, key from starlift.retracted order by 1, 2::text",
        "select seq, rows from starlift.ledger order by 1",
    ] {
        all.extend(w.rows(sql).await);
    }
    all
}

/// Loads the same on both paths; returns what the bulk path left, once it is what the plain path left.
async fn on_both_paths(sql: &str, aside: u64, rows: Vec<Vec<String>>) -> Warehouse {
    changes_on_both_paths(sql, aside, || changes(rows.clone())).await
}

async fn changes_on_both_paths(sql: &str, aside: u64, changes: impl Fn() -> Vec<Change>) -> Warehouse {
    let mut bulk = Warehouse::with(sql).await;
    let mut plain = Warehouse::with(sql).await;
    plain.bulk = false;
    for w in [&mut bulk, &mut plain] {
        w.aside.rows = aside;
        w.next(changes()).await.unwrap();
    }
    let (bulk_has, plain_has) = (content(&bulk).await, content(&plain).await);
    let differs = bulk_has.iter().zip(&plain_has).find(|(one, other)| one != other);
    assert!(differs.is_none() && bulk_has.len() == plain_has.len(), "{differs:?}");
    bulk
}

#[tokio::test]
async fn a_first_load_leaves_the_same_constraints_indexes_rows_and_record_ids_as_the_plain_path() {
    let mut untouched = Warehouse::with(SQL).await;
    let shape = untouched.rows(SHAPE).await;
    let (keys, index) = (untouched.one(KEYS).await, untouched.one(INDEX).await);
    untouched.next(changes(sales(0..100))).await.unwrap();
    assert_eq!((untouched.one(KEYS).await, untouched.one(INDEX).await), (keys, index), "a small one touches nothing");

    let w = on_both_paths(SQL, 0, sales(0..MANY)).await;
    let after: Vec<String> = w.rows(SHAPE).await.into_iter().filter(|line| !line.contains("version_idx")).collect();
    assert_eq!(after, shape);
    let ordered = "select count(*) from fact_sale a join fact_sale b on b.record_id = a.record_id + 1 and b.sale_id = a.sale_id + 1";
    assert_eq!(w.one(ordered).await, (MANY - 1).to_string(), "record ids follow the key, without a gap");
    assert_eq!(w.one("select nextval('fact_sale_record_id_seq')").await, (MANY + 1).to_string());
    assert!(w.client.batch_execute("insert into fact_sale (sale_id, shop_id) values (1, 99)").await.is_err());
}

#[tokio::test]
async fn the_planner_knows_a_fact_that_was_just_loaded_on_either_path() {
    const KNOWN: &str = "select c.reltuples::int8, string_agg(s.attname || s.n_distinct, ' ' order by s.attname::text) \
        from pg_class c left join pg_stats s on s.tablename = c.relname where c.oid = 'fact_sale'::regclass group by 1";
    for bulk in [true, false] {
        let mut w = Warehouse::with(SQL).await;
        w.bulk = bulk;
        // Nothing but the load looks at the table.
        w.execute("alter table fact_sale set (autovacuum_enabled = false)").await;
        w.next(changes(sales(0..MANY))).await.unwrap();
        assert_eq!(w.rows(KNOWN).await, [format!("{MANY}|record_id-1 sale_id-1")]);
        w.next(changes(sales(MANY..MANY + 100))).await.unwrap();
        assert_eq!(w.rows(KNOWN).await, [format!("{MANY}|record_id-1 sale_id-1")], "so few are not worth it");
        w.next(changes(sales(MANY..2 * MANY))).await.unwrap();
        assert!(w.one(KNOWN).await.starts_with(&format!("{}|", 2 * MANY)));
    }
}

#[tokio::test]
async fn foreign_keys_and_indexes_are_off_meanwhile_unless_the_setting_says_no() {
    for bulk in [true, false] {
        let mut w = Warehouse::with(SQL).await;
        w.bulk = bulk;
        let before = (w.one(KEYS).await, w.one(INDEX).await);
        let done = w.next(changes(sales(0..MANY))).await.unwrap();
        assert_eq!(report(&done, "fact_sale").inserted, MANY as u64);
        let after = (w.one(KEYS).await, w.one(INDEX).await);
        assert_eq!((before.0 != after.0, before.1 != after.1), (bulk, bulk));
    }
}

#[tokio::test]
async fn a_row_that_does_not_fit_is_set_aside_as_on_the_plain_path() {
    for (position, column, value) in
        [(0, 3, "0.125"), (MANY / 2, 4, "five5"), (MANY - 1, 3, "123456789.5"), (6_000, 1, "99")]
    {
        let mut rows = sales(0..MANY);
        rows[position][column] = value.into();
        let w = on_both_paths(SQL, 1, rows).await;
        assert_eq!(w.one("select count(*) from fact_sale").await, (MANY - 1).to_string());
        assert_eq!(w.one("select count(*) from starlift.refused").await, "1", "{value}");
    }
}

#[tokio::test]
async fn a_row_that_only_its_foreign_key_refuses_is_set_aside_as_on_the_plain_path() {
    let sql = format!(
        "create table other_pipeline (a int, b int, primary key (a, b)); {SQL}; \
         alter table fact_sale add foreign key (shop_id, other) references other_pipeline"
    );
    let mut rows = sales(0..MANY);
    rows[5][2] = "1".into();
    let w = on_both_paths(&sql, 1, rows).await;
    assert_eq!(w.one("select count(*) from fact_sale").await, (MANY - 1).to_string());
    assert_eq!(w.one("select reason like '%foreign key%' from starlift.refused").await, "t");
}

#[tokio::test]
async fn a_foreign_key_to_another_table_than_the_headers_does_not_stand_for_its_reference() {
    let sql = format!(
        "{SQL}; create table old_shop (shop_id int primary key); insert into old_shop values (1), (99);
         alter table fact_sale drop constraint \"Odd name\", add foreign key (shop_id) references old_shop"
    );
    let mut rows = sales(0..MANY);
    rows[5][1] = "99".into();
    let sale = || refers(sale(), "shop_id", "dim_shop");
    let changes = || vec![change(&shop(), &[&["1", "a"]]), Change { model: sale(), rows: rows.clone(), gone: vec![] }];
    let w = changes_on_both_paths(&sql, 1, changes).await;
    assert_eq!(w.one("select count(*) from fact_sale").await, (MANY - 1).to_string());
    assert_eq!(w.one("select reason from starlift.refused").await, "it has no row in `dim_shop`");
}

#[tokio::test]
async fn a_key_that_comes_twice_stops_the_load_by_name_and_leaves_nothing() {
    let mut w = Warehouse::with(SQL).await;
    let before = (w.rows(SHAPE).await, w.one(KEYS).await);
    let mut rows = sales(0..MANY);
    rows[11][0] = rows[9_999][0].clone();
    let error = w.next(changes(rows)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.message().contains("more than once"), "{error:?}");
    assert_eq!(w.one("select count(*) from fact_sale").await, "0");
    assert_eq!((w.rows(SHAPE).await, w.one(KEYS).await), before);
}

#[tokio::test]
async fn a_stream_that_breaks_off_half_way_leaves_the_table_as_it_was() {
    let mut w = Warehouse::with(SQL).await;
    let before = (w.rows(SHAPE).await, w.one(KEYS).await, w.one(INDEX).await);
    let rows = batch(&sale().schema.columns, &sales(0..MANY));
    let keys = rows.clone();
    let model = ModelLoad {
        model: sale(),
        upserts: Box::pin(futures::stream::iter([Ok(rows), Err(Error::unavailable("the store is away"))])),
        ahead: Some(Ahead {
            rows: 2 * MANY as u64,
            keys: Box::new(move || Box::pin(futures::stream::iter([Ok(keys)]))),
        }),
        retractions: load::nothing_later("fact_sale"),
        again: None,
    };
    let mut run = w.a_run(1, true, None);
    run.bulk = true;
    let error = load::load(&mut w.client, &run, vec![model], &load::nothing_later).await.unwrap_err();
    assert_eq!(error.message(), "the store is away");
    assert_eq!(w.one("select count(*) from fact_sale").await, "0");
    assert_eq!((w.rows(SHAPE).await, w.one(KEYS).await, w.one(INDEX).await), before);
    w.next(changes(sales(0..MANY))).await.unwrap();
}

#[tokio::test]
async fn keys_that_change_between_the_two_readings_are_staged_and_found() {
    let mut w = Warehouse::with(SQL).await;
    let rows = batch(&sale().schema.columns, &sales(0..MANY));
    let keys = batch(&sale().schema.columns, &sales(1..MANY));
    w.next(vec![change(&shop(), &[&["1", "a"]])]).await.unwrap();
    let model = ModelLoad {
        model: sale(),
        upserts: Box::pin(futures::stream::iter([Ok(rows)])),
        ahead: Some(Ahead { rows: MANY as u64, keys: Box::new(move || Box::pin(futures::stream::iter([Ok(keys)]))) }),
        retractions: load::nothing_later("fact_sale"),
        again: None,
    };
    let dimension = ModelLoad {
        model: shop(),
        upserts: load::nothing_later("dim_shop"),
        ahead: None,
        retractions: load::nothing_later("dim_shop"),
        again: None,
    };
    let run = w.a_run(2, false, w.head().await);
    load::load(&mut w.client, &run, vec![dimension, model], &load::nothing_later).await.unwrap();
    assert_eq!(w.one("select count(distinct sale_id) from fact_sale").await, MANY.to_string());
}

#[tokio::test]
async fn a_server_that_ends_idle_transactions_is_kept_awake_while_the_keys_are_read() {
    let mut w = Warehouse::with(SQL).await;
    w.next(vec![change(&shop(), &[&["1", "a"]])]).await.unwrap();
    let limits = LoadLimits { idle_timeout: Duration::from_secs(2), ..LoadLimits::default() };
    let rows = batch(&sale().schema.columns, &sales(0..MANY));
    let slowly = futures::stream::iter([rows.slice(0, MANY / 2), rows.slice(MANY / 2, MANY - MANY / 2)]).then(
        |keys| async move {
            tokio::time::sleep(Duration::from_millis(2_600)).await;
            Ok(keys)
        },
    );
    let model = ModelLoad {
        model: sale(),
        upserts: Box::pin(futures::stream::iter([Ok(rows)])),
        ahead: Some(Ahead { rows: MANY as u64, keys: Box::new(move || Box::pin(slowly)) }),
        retractions: load::nothing_later("fact_sale"),
        again: None,
    };
    let dimension = ModelLoad {
        model: shop(),
        upserts: load::nothing_later("dim_shop"),
        ahead: None,
        retractions: load::nothing_later("dim_shop"),
        again: None,
    };
    let run = LoadRun { limits, ..w.a_run(2, false, w.head().await) };
    load::load(&mut w.client, &run, vec![dimension, model], &load::nothing_later).await.unwrap();
    assert_eq!(w.one("select count(*) from fact_sale").await, MANY.to_string());
}

#[tokio::test]
async fn a_reader_of_the_dimension_makes_the_load_take_the_plain_path() {
    let mut w = Warehouse::with(SQL).await;
    let before = w.one(KEYS).await;
    let reader = w.again().await;
    reader.execute("begin; select * from dim_shop").await;
    let done = w.next(changes(sales(0..MANY))).await.unwrap();
    assert_eq!(report(&done, "fact_sale").inserted, MANY as u64);
    assert_eq!(w.one(KEYS).await, before, "they were left alone");
    reader.execute("rollback").await;
}

#[tokio::test]
async fn a_fact_with_rows_is_loaded_by_set_where_many_come_and_its_locks_are_free() {
    let mut w = Warehouse::with(SQL).await;
    w.next(changes(sales(0..MANY))).await.unwrap();
    w.execute("analyze").await;
    let (keys, index) = (w.one(KEYS).await, w.one(INDEX).await);
    w.next(changes(sales(MANY..MANY + 500))).await.unwrap();
    assert_eq!(w.one(KEYS).await, keys, "few");

    let reader = w.again().await;
    reader.execute("begin; select * from fact_sale limit 1").await;
    w.next(changes(sales(2 * MANY..3 * MANY))).await.unwrap();
    assert_eq!(w.one(KEYS).await, keys, "somebody reads it");
    reader.execute("rollback").await;

    let done = w.next(changes(sales(3 * MANY..4 * MANY))).await.unwrap();
    assert_eq!(report(&done, "fact_sale").inserted, MANY as u64);
    assert_ne!(w.one(KEYS).await, keys);
    assert_eq!(w.one(INDEX).await, index, "fewer come than are there");
    assert_eq!(w.one("select count(*) from current_fact_sale").await, (3 * MANY + 500).to_string());
}

#[tokio::test]
async fn indexes_are_built_again_where_more_rows_come_than_are_there() {
    let mut w = Warehouse::with(SQL).await;
    w.next(changes(sales(0..100))).await.unwrap();
    w.execute("analyze").await;
    let (keys, index) = (w.one(KEYS).await, w.one(INDEX).await);
    w.next(changes(sales(50..MANY))).await.unwrap();
    assert_ne!((w.one(KEYS).await, w.one(INDEX).await), (keys, index));
    let shape: Vec<String> = w.rows(SHAPE).await;
    let fresh = Warehouse::with(SQL).await.rows(SHAPE).await;
    assert!(fresh.iter().all(|line| shape.contains(line)), "{shape:?}");
    assert_eq!(w.one("select count(*) from fact_sale").await, MANY.to_string());
}

#[tokio::test]
async fn a_foreign_key_that_could_not_come_back_as_it_was_stays_on() {
    for mark in [
        "alter table fact_sale drop constraint \"Odd name\", add constraint \"Odd name\" foreign key (shop_id) references dim_shop not valid",
        "alter table fact_sale disable trigger all",
        "create function f() returns trigger language plpgsql as 'begin return new; end'; \
         create constraint trigger late after insert on fact_sale deferrable initially deferred for each row execute function f()",
    ] {
        let mut w = Warehouse::with(&format!("{SQL}; {mark}")).await;
        let before = w.one(KEYS).await;
        w.next(changes(sales(0..MANY))).await.unwrap();
        assert_eq!(w.one(KEYS).await, before, "{mark}");
    }
}

/// A session of a role that owns the tables and may do nothing beside; `role` in `sql`, which an administrator runs, is its name.
async fn owner_of_tables(w: &mut Warehouse, sql: &[&str]) -> Warehouse {
    create_support(&mut w.client, PIPELINE, "public", &[shop(), sale()]).await.unwrap();
    let role = format!("owner_{}", w.database);
    let grants = "revoke create on schema public from public; create role ROLE login;
        grant usage on schema public, starlift to ROLE; grant all on all tables in schema starlift to ROLE;
        alter table dim_shop owner to ROLE; alter table fact_sale owner to ROLE";
    for sql in [&[grants][..], sql].concat() {
        w.execute(&sql.replace("ROLE", &format!("\"{role}\""))).await;
    }
    let url = starlift_sandbox::shared().unwrap().url(&w.database, &role);
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    Warehouse { client, ..w.again().await }
}

#[tokio::test]
async fn an_index_or_foreign_key_that_our_role_could_not_put_back_stays_on() {
    // (what an administrator did, whether foreign keys are taken off all the same)
    let cases: [(&[&str], bool); 4] = [
        // It may make nothing in the schema.
        (&["select 1"], true),
        // It may not look into the schema that a foreign key leads to.
        (
            &["create schema private; create table private.codes (code varchar(4) primary key);
               insert into private.codes values ('é4'); grant references on private.codes to ROLE;
               alter table fact_sale add foreign key (code) references private.codes;
               grant create on schema public to ROLE"],
            false,
        ),
        // Or into the schema of an index's collation, which only making it shows.
        (
            &["create schema private; create collation private.c from \"C\";
               create index hidden on fact_sale (code collate private.c); grant create on schema public to ROLE"],
            false,
        ),
        // It may not use a tablespace.
        (
            &[
                "grant create on schema public to ROLE; set allow_in_place_tablespaces = on",
                "create tablespace ROLE location ''",
                "create index spaced on fact_sale (code) tablespace ROLE",
            ],
            true,
        ),
    ];
    for (sql, keys_are_off) in cases {
        let mut w = Warehouse::with(SQL).await;
        let mut owner = owner_of_tables(&mut w, sql).await;
        let (shape, keys) = (w.rows(SHAPE).await, w.one(KEYS).await);
        // Into an empty table, and into one where at least as many rows come as there are.
        for rows in [0..MANY, 0..2 * MANY] {
            let count = rows.len();
            owner.next(changes(sales(rows))).await.unwrap_or_else(|e| panic!("{sql:?}: {}", text(&e)));
            assert_eq!(w.one("select count(*) from current_fact_sale").await, count.to_string(), "{sql:?}");
            assert_eq!(w.rows(SHAPE).await, shape, "{sql:?}");
        }
        assert_eq!(w.one(KEYS).await != keys, keys_are_off, "{sql:?}");
        // A tablespace outlives its database.
        w.execute("drop index if exists spaced").await;
        w.execute(&format!("drop tablespace if exists \"owner_{}\"", w.database)).await;
    }
}

#[tokio::test]
async fn a_table_that_refuses_rows_by_rules_of_its_own_is_staged_and_its_rows_are_set_aside() {
    for rule in [
        "alter table fact_sale add check (sale_id <> 5)",
        "create unique index on fact_sale (price) where sale_id in (5, 95)",
        "create domain few as int check (value <> 5); alter table fact_sale alter sale_id type few",
        "create function f() returns trigger language plpgsql as 'begin if new.sale_id = 5 then raise exception ''no''; end if; return new; end'; \
         create trigger t before insert on fact_sale for each row execute function f()",
        "create function f() returns trigger language plpgsql as 'begin return case new.sale_id when 5 then null else new end; end'; \
         create trigger t before insert on fact_sale for each row execute function f()",
    ] {
        let w = on_both_paths(&format!("{SQL}; {rule}"), 1, sales(0..MANY)).await;
        assert_eq!(w.one("select count(*) from fact_sale").await, (MANY - 1).to_string(), "{rule}");
    }
}

#[tokio::test]
async fn a_large_dimension_is_copied_too_and_one_with_a_key_of_texts_is_staged() {
    for (key, column) in [("int", "int4"), ("serial", "int4"), ("text", "text")] {
        let sql = format!("create table dim_item (item_id {key} primary key, name varchar(9) not null)");
        let item = dimension("dim_item", &format!("item_id {column}, name text"));
        let mut w = Warehouse::with(&sql).await;
        let rows = || (0..MANY).rev().map(|i| vec![i.to_string(), format!("n{i}")]).collect::<Vec<_>>();
        let done = w.next(vec![Change { model: item.clone(), rows: rows(), gone: vec![] }]).await.unwrap();
        assert_eq!(report(&done, "dim_item").inserted, MANY as u64);
        assert_eq!(w.one("select count(*) from current_dim_item where name = 'n' || item_id").await, MANY.to_string());
        let again = w.next(vec![Change { model: item, rows: rows(), gone: vec![] }]).await.unwrap();
        assert_eq!(report(&again, "dim_item").unchanged, MANY as u64);
    }
}

#[tokio::test]
async fn a_large_dimension_with_a_row_that_does_not_fit_is_loaded_whatever_foreign_key_refers_to_it() {
    let shop = dimension("dim_shop", "shop_id int4, name text, town_id int4");
    for deferred in ["", "deferrable", "deferrable initially deferred"] {
        let sql = format!(
            "create table dim_town (town_id int primary key); insert into dim_town values (1);
             create table dim_shop (shop_id int primary key, name varchar(4), town_id int references dim_town);
             create table fact_sale (record_id serial primary key, shop_id int references dim_shop {deferred})"
        );
        let mut w = Warehouse::with(&sql).await;
        w.aside.rows = 1;
        let mut rows: Vec<_> = (0..MANY).map(|i| vec![i.to_string(), "a".into(), "1".into()]).collect();
        rows[6_000][1] = "too long".into();
        let done = w.next(vec![Change { model: shop.clone(), rows, gone: vec![] }]).await;
        let done = done.unwrap_or_else(|e| panic!("{deferred}: {}", text(&e)));
        assert_eq!(report(&done, "dim_shop").inserted, MANY as u64 - 1, "{deferred}");
        assert_eq!(w.one("select count(*) from dim_shop").await, (MANY - 1).to_string());
        assert_eq!(w.rows("select key->>'shop_id', column_name from starlift.refused").await, ["6000|name"]);
        assert!(w.client.batch_execute("update dim_shop set town_id = 9 where shop_id = 1").await.is_err());
    }
}
