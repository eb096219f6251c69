//! Names and types that an ordinary schema does not have, from the source to the warehouse and through changes that no
//! `xmin` shows.

use starlift::verify::{VerifyRequest, verify};

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
