//! Names and types that an ordinary schema does not have, from the source to the warehouse and through changes that no
//! `xmin` shows.

use starlift::doctor::{Verdict, doctor};
use starlift::verify::{VerifyRequest, verify};

use crate::quarantine::{aside, assert_verified, context, failed, rewrite, settle};
use crate::world::{World, of};

const TABLES: &str = r#"
    create type mood as enum ('sad', 'ok');
    create type place as (street text, no numeric, since timestamptz);
    create domain positive as int check (value > 0);
    create table "Odd ""one""" (
        "Row ID" positive primary key, "select" text, "ünïcode" date, "until" timestamptz, m mood, ms mood[], at place,
        "all" place[], grid int[][], price money, took interval, ip inet, span tstzrange, bits bit(5), o oid
    );
    insert into "Odd ""one"""
    select i, 'x' || i, case when i % 2 = 0 then 'infinity' else '0044-03-15 BC' end::date, '-infinity', 'sad',
           '{sad,null}', row('s ' || i, i / 3.0, '2024-01-01 00:00+00')::place, array[row('x', 1, null)::place],
           array[[i, 2], [3, 4]], i * 1.1::money, i * interval '1 month 1 us', ('10.0.0.' || i)::inet,
           tstzrange('2024-01-01 00:00+00', null), i::bit(5), i
    from generate_series(1, 60) i;
    create table parent (id int primary key, v text);
    create table child (extra int) inherits (parent);
    insert into parent select i, 'p' from generate_series(1, 10) i;
    insert into child select i, 'c', 1 from generate_series(11, 20) i;
    create table nothing ();
    insert into nothing default values;
    create view counted as select id, count(*) as n from parent group by id;
    grant select on all tables in schema public to public"#;

#[tokio::test(flavor = "multi_thread")]
async fn odd_names_and_types_arrive_equal_and_so_do_changes_that_no_xmin_shows() {
    let world = World::new().await.with_own_project();
    world.change(TABLES).await;
    let model = "-- kind: dimension\n-- key: id\n\
                 select \"Row ID\" as id, \"select\" as word, \"ünïcode\" as day, \"until\" as until, m, ms, at, \"all\", \
                 grid, price, took, ip, span, bits, o from \"Odd \"\"one\"\"\"\n";
    std::fs::write(world.project.join("models/dim_odd.sql"), model).unwrap();
    let settings = world.project.join("starlift.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, format!("{text}\n[source.tables.counted]\ncapture = \"full\"\n")).unwrap();
    world.ingest().await;
    let warehouse = world.warehouse_client().await;
    let table = "create table dim_odd (id int primary key, word text, day date, until timestamptz, m text, ms text[], at json,
                 \"all\" json, grid text, price numeric, took interval, ip inet, span tstzrange, bits bit(5), o bigint)";
    let refused = starlift::warehouse::create(&world.context()).await.unwrap_err();
    assert_eq!(refused.message(), "`warehouse.sql` makes no table `dim_odd` in schema `public`");
    assert!(refused.hint().unwrap().contains("\"m\" text,\n    \"ms\" text[],\n    \"at\" json"), "{refused:?}");
    warehouse.batch_execute(table).await.unwrap();
    world.create_warehouse().await;
    let equal = async || {
        let report = world.run().await;
        let verified = verify(&world.context(), &VerifyRequest::default()).await.unwrap();
        assert!(verified.equal(), "{verified:?}");
        world.assert_star_equals_source().await;
        report
    };
    equal().await;
    // The warehouse's own types hold equal values.
    let held = "select count(*) from dim_odd where took = id * interval '1 month 1 us' and price = id * 1.1 and
                ip = ('10.0.0.' || id)::inet and bits = id::bit(5) and lower(span) = '2024-01-01 00:00+00' and
                until = '-infinity' and day = case when id % 2 = 0 then date 'infinity' else '0044-03-15 BC' end";
    assert_eq!(world.count_in_warehouse(held).await, 60);

    world.change("alter type mood rename value 'sad' to 'unhappy'; alter type place add attribute zip text").await;
    world.change("delete from \"Odd \"\"one\"\"\" where \"Row ID\" = 7; delete from child where id = 12").await;
    let report = equal().await;
    assert_eq!(of(&report.stages[0], "Odd \"one\"").rows_written, 59, "every row shows the new label");
    let renamed = "select count(*) from current_dim_odd where m = 'unhappy' and at ->> 'street' = 's ' || id";
    assert_eq!(world.count_in_warehouse(renamed).await, 59);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_model_gets_its_table_before_the_first_transform_that_meets_it() {
    let world = World::new().await.with_own_project();
    std::fs::remove_file(world.project.join("warehouse.sql")).unwrap();
    world.ingest().await;
    world.create_warehouse().await;
    world.run().await;
    let model =
        "-- kind: dimension\n-- key: \"Design, Id\"\nselect design_id as \"Design, Id\", design_name from design\n";
    std::fs::write(world.project.join("models/dim_extra.sql"), model).unwrap();
    let made = starlift::warehouse::create(&world.context()).await.unwrap();
    assert!(made.contains(&"table `dim_extra`".to_string()), "{made:?}");
    world.run().await;
    let designs = world.count_in_warehouse("select count(*) from current_dim_design").await;
    assert_eq!(world.count_in_warehouse("select count(\"Design, Id\") from current_dim_extra").await, designs);
}

/// A source's codes, and a warehouse in which `k1` and `K1` are one.
async fn codes() -> World {
    let world = World::new().await.with_own_project();
    world.change("create table code (id text primary key, n int); insert into code values ('k1', 1), ('x', 2)").await;
    world.change("grant select on code to public").await;
    for (name, kind) in [("dim_code", "dimension"), ("fact_code", "fact")] {
        let model = format!("-- kind: {kind}\n-- key: id\nselect id, n from code\n");
        std::fs::write(world.project.join(format!("models/{name}.sql")), model).unwrap();
    }
    let tables = "create extension citext; create table dim_code (id citext primary key, n int);
                  create table fact_code (record_id serial primary key, id citext, n int)";
    world.warehouse_client().await.batch_execute(tables).await.unwrap();
    world.ingest().await;
    world.create_warehouse().await;
    world.run().await;
    world
}

async fn shown(world: &World, column: &str) -> Vec<String> {
    let mut shown = Vec::new();
    for model in ["dim_code", "fact_code"] {
        let sql = format!(
            "select string_agg(id || '=' || {column}, ' ' order by id::text collate \"C\") from current_{model}"
        );
        shown.push(world.warehouse_client().await.query_one(&sql, &[]).await.unwrap().get(0));
    }
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_one_to_the_warehouse_alone_lose_no_row_without_a_word() {
    let world = codes().await;
    world.change("insert into code values ('K1', 3)").await;
    let stopped = failed(&world).await;
    assert_eq!((stopped.len(), stopped[0].0), (1, "load"), "{stopped:?}");
    for part in ["dim_code", "id=K1", "is to its column the key of another row", "starlift quarantine accept"] {
        assert!(stopped[0].1.contains(part), "{part}: {stopped:?}");
    }
    settle(&world, "[quarantine]\nmax_quarantine = 2");
    assert!(failed(&world).await.is_empty());
    assert_eq!(shown(&world, "n").await, ["k1=1 x=2", "k1=1 x=2"]);
    assert_eq!(aside(&world).await, ["load dim_code id=K1 id", "load fact_code id=K1 id"]);
    assert_verified(&world).await;
    let adopted = starlift::load(&context(&world), &starlift::LoadRequest { adopt: true, ..Default::default() }).await;
    assert_eq!(adopted.unwrap().warnings.len(), 0);
    assert_eq!(shown(&world, "n").await, ["k1=1 x=2", "k1=1 x=2"]);
    assert_verified(&world).await;

    world.change("delete from code where id = 'k1'").await;
    assert!(failed(&world).await.is_empty());
    assert_eq!(shown(&world, "n").await, ["K1=3 x=2", "K1=3 x=2"]);
    assert!(aside(&world).await.is_empty());
    assert_verified(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_is_renamed_in_model_and_table_goes_on_under_its_new_name() {
    let world = codes().await;
    ["dim_code", "fact_code"].iter().for_each(|model| rewrite(&world, model, "select id, n", "select id, n as total"));
    let rename = "alter table dim_code rename n to total; alter table fact_code rename n to total";
    world.warehouse_client().await.batch_execute(rename).await.unwrap();
    world.transform().await;
    let checks = doctor(&context(&world)).await;
    assert!(checks.iter().all(|check| check.verdict != Verdict::Fail), "{checks:?}");
    world.change("update code set n = 5 where id = 'x'").await;
    world.run().await;
    assert_eq!(shown(&world, "total").await, ["k1=1 x=5", "k1=1 x=5"]);
    assert_verified(&world).await;
}
