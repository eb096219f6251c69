//! What verify takes for equal, value by value, and what it leaves out of a comparison.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_type_are_equal_and_each_change_is_found() {
    let world = World::new().await;
    world
        .change(
            "create type mood as enum ('sad', 'so|so', 'hap~py'); create domain price as numeric(12,3);
             create collation blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             create table zoo (
                 region text collate blind, nr numeric, at timestamptz, b bool, i2 int2, i8 int8, f4 float4, f8 float8,
                 p price, plain numeric, c char(5), v varchar collate blind, m mood, raw bytea, d date, t time,
                 ts timestamp, u uuid, j json, jb jsonb, texts varchar[], numbers int[], prices price[], moods mood[],
                 primary key (region, nr, at));
             insert into zoo values
                 ('Nord|~N', 1.50, '2024-02-03 04:05:06.789+02', true, -1, 9223372036854775807, 0.1, '-0',
                  1.500, 0.1234567890, 'ab', 'x~|', 'so|so', '\\x00ff', '0044-03-15', '24:00', '1970-01-01 00:00:00.000001',
                  'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '{ \"a\":1 }', '{\"b\": 1.0, \"a\": null}',
                  '{a,NULL,\"b,\\\"c\"}', '{}', '{1.0,2.250}', '{sad,NULL}'),
                 ('süd', -0.25, '1999-12-31', false, 0, 0, 'NaN', 'Infinity',
                  -1, 10, '', '', 'sad', '', '2199-12-31', '00:00', '2024-12-31 23:59:59.999999',
                  'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12', 'null', '[]', '{}', '{1,-2,NULL}', '{}', '{}');
             insert into zoo (region, nr, at) values ('süd', -0.5, '1999-12-31 01:00');
             grant select on zoo to public;
             create schema aside; create table aside.zoo as select * from zoo",
        )
        .await;
    world.make_tables().await;
    world.run().await;
    let report = world.look().await;
    assert_eq!(findings(&report), Vec::<String>::new());
    assert_eq!((of(&report, SOURCE_LAKE, "zoo").rows_left, of(&report, SOURCE_LAKE, "zoo").columns), (3, 24));

    // Each change is seen against the state in the lake, which has none of them.
    let changes = [
        "b = not b",
        "i2 = i2 + 1",
        "i8 = i8 - 1",
        "f4 = 0.2",
        "f8 = 0.0",
        "p = p + 0.001",
        "plain = 0.1234567891",
        "c = 'ac'",
        "v = 'X~|'",
        "m = 'hap~py'",
        "raw = raw || '\\x00'",
        "d = d + 1",
        "t = '23:59:59.999999'",
        "ts = ts + interval '1 microsecond'",
        "u = 'b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
        "j = '{ \"a\": 1 }'",
        "jb = '{}'",
        "texts = '{a,b}'",
        "numbers = null",
        "prices = '{1}'",
        "moods = '{sad,sad}'",
    ];
    for change in changes {
        world.change(&format!("update zoo set {change} where nr = 1.5")).await;
        let only = VerifyRequest { settle: false, only: vec!["zoo".into()] };
        assert_eq!(world.verify(only).await.pending(), 1, "{change}");
        world.change("delete from zoo; insert into zoo select * from aside.zoo").await;
    }
    assert_eq!(findings(&world.look().await), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_the_warehouse_holds_otherwise_are_compared_by_value() {
    let world = World::new().await;
    world.make_tables().await;
    world
        .in_warehouse(
            "create domain email as varchar check (value like '%@%'); create domain stricter as email;
             alter table dim_staff alter email_address type stricter;
             alter table dim_design alter file_name type char(80);
             alter table fact_sales_order alter units_sold type bigint, alter unit_price type numeric(14,4);
             alter table fact_purchase_order alter item_quantity type numeric(12,2)",
        )
        .await;
    world.run().await;
    assert_eq!(findings(&world.look().await), Vec::<String>::new());
    assert_eq!(of(&world.look().await, STAR_WAREHOUSE, "fact_purchase_order").notes, Vec::<String>::new());
    world
        .in_warehouse(
            "update dim_staff set email_address = 'x' || email_address where staff_id = 1;
             update fact_sales_order set units_sold = 5000000000 where sales_order_id = 5;
             update fact_purchase_order set item_quantity = item_quantity + 0.01 where purchase_order_id = 2",
        )
        .await;
    let report = world.look().await;
    for (name, expected) in [
        ("dim_staff", "differs in column email_address"),
        ("fact_sales_order", "differs in column units_sold"),
        ("fact_purchase_order", "differs in column item_quantity"),
    ] {
        for kind in [STAR_WAREHOUSE, LAKE_WAREHOUSE] {
            let comparison = of(&report, kind, name);
            assert_eq!((comparison.differences, comparison.examples[0].what.as_str()), (1, expected), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arrays_of_a_domain_are_compared_and_a_column_that_cannot_be_is_said_to_be_left_out() {
    let world = World::new().await.with_own_project();
    world
        .change(
            "create table trip (trip_id int primary key, codes text[], prices numeric(10,2)[], span text);
             insert into trip values (1, '{abc,NULL}', '{1.50,2}', '1 day'), (2, '{}', null, '24:00:00');
             grant select on trip to public",
        )
        .await;
    let model = "-- kind: dimension\n-- key: trip_id\nselect trip_id, codes, prices, span from trip";
    std::fs::write(world.project.join("models/dim_trip.sql"), model).unwrap();
    world.make_tables().await;
    world
        .in_warehouse(
            "create domain code3 as varchar(3); create domain money2 as numeric(10,2);
             create table dim_trip (trip_id int primary key, codes code3[], prices money2[], span interval)",
        )
        .await;
    world.run().await;
    let report = world.look().await;
    assert_eq!((findings(&report), report.equal(), report.not_compared()), (Vec::new(), true, 1));
    let trip = of(&report, STAR_WAREHOUSE, "dim_trip");
    assert_eq!((trip.columns, trip.not_compared.as_slice()), (3, &["span".to_string()][..]));
    assert_eq!(serde_json::to_value(trip).unwrap()["not_compared"], serde_json::json!(["span"]));
    let staff = serde_json::to_value(of(&report, STAR_WAREHOUSE, "dim_staff")).unwrap();
    assert_eq!(staff.get("not_compared"), None);

    for (column, value) in [("codes", "{abd,NULL}"), ("prices", "{1.51,2}")] {
        world.in_warehouse(&format!("update dim_trip set {column} = '{value}' where trip_id = 1")).await;
        let found = findings(&world.look().await);
        let differs = format!("star-warehouse dim_trip: differs trip_id=1 (differs in column {column})");
        assert!(found.contains(&differs), "{found:?}");
        starlift::verify::repair(&world.context(), &[]).await.unwrap();
        assert_eq!(findings(&world.look().await), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blanks_at_the_end_of_a_text_are_no_difference_where_the_warehouse_pads_it() {
    let world = World::new().await.with_own_project();
    let model = "-- kind: dimension\n-- key: code\nselect concat(cast(design_id as text), '  ') as code, file_location from design";
    std::fs::write(world.project.join("models/dim_code.sql"), model).unwrap();
    world.make_tables().await;
    world
        .in_warehouse(
            "alter table dim_design alter file_name type char(80);
             create table dim_code (code char(12) primary key, file_location text)",
        )
        .await;
    world.change("update design set file_name = file_name || '  ' where design_id in (1, 2)").await;
    world.run().await;
    assert_eq!(findings(&world.look().await), Vec::<String>::new());

    // What is not loaded yet is known by its key all the same.
    world.change("update design set file_location = '/moved' where design_id = 1").await;
    world.ingest().await;
    world.transform().await;
    let report = world.look().await;
    let code = of(&report, STAR_WAREHOUSE, "dim_code");
    assert_eq!((code.verdict, code.pending, code.differences), (Verdict::Pending, 1, 0), "{code:?}");
    world.run().await;
    assert_eq!(findings(&world.look().await), Vec::<String>::new());

    world
        .in_warehouse(
            "update dim_design set file_name = 'x' || file_name where design_id = 1;
             update dim_code set file_location = 'x' where code = '2'",
        )
        .await;
    assert_eq!(
        findings(&world.look().await),
        [
            "star-warehouse dim_code: differs code=2   (differs in column file_location)",
            "star-warehouse dim_design: differs design_id=1 (differs in column file_name)",
            "lake-warehouse dim_design: differs design_id=1 (differs in column file_name)",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_names_another_manifest_stops_verify() {
    let world = World::loaded().await;
    world.in_warehouse("update starlift.ledger set manifest_sha256 = 'another'").await;
    let error = verify(&world.context(), &VerifyRequest::default()).await.unwrap_err();
    assert_eq!(error.kind(), starlift_core::ErrorKind::Config);
    assert!(error.hint().unwrap_or_default().contains("starlift load --adopt"));
    world.in_warehouse("update starlift.ledger set seq = 9").await;
    assert!(verify(&world.context(), &VerifyRequest::default()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn models_that_cannot_be_compared_with_the_lake_are_noted() {
    let world = World::new().await.with_own_project();
    let models = world.project.join("models");
    let grouped = "-- kind: dimension\n-- key: currency_id\nselect currency_id, count(*) as orders from sales_order group by currency_id";
    std::fs::write(models.join("dim_trade.sql"), grouped).unwrap();
    world.make_tables().await;
    world.in_warehouse("create table dim_trade (currency_id int primary key, orders bigint not null)").await;
    world.run().await;
    std::fs::write(
        models.join("dim_design.sql"),
        "-- kind: dimension\n-- key: design_id\nselect design_id from design",
    )
    .unwrap();
    let report = world.look().await;
    assert_eq!(findings(&report), Vec::<String>::new());
    let expected = [
        "model `dim_design` is not compared with the lake: it changed since it was loaded",
        "model `dim_trade` is not compared with the lake: it has not one row for each row of a table",
    ];
    assert_eq!(report.notes, expected);
    world.in_warehouse("update dim_trade set orders = orders + 1 where currency_id = 1").await;
    assert_eq!(
        findings(&world.look().await),
        ["star-warehouse dim_trade: differs currency_id=1 (differs in column orders)"]
    );
}
