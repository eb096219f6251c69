//! Rows 39 to 42, 44, 45, 48 and 49: what does not fit the star or the warehouse, and a warehouse that knows another past.

use starlift::LoadRequest;
use starlift_core::ErrorKind;

use super::{load_fails, manifests, transform_fails};
use crate::capture::lab::Lab;
use crate::world::{World, copy_folder, files_below, of};

/// A world that was loaded once.
async fn loaded() -> World {
    let world = World::new().await;
    world.create_warehouse().await;
    world.run().await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_39_a_currency_that_the_seed_does_not_know_keeps_its_code_and_is_counted() {
    let world = loaded().await;
    for (id, code) in [(101, "ZZZ"), (102, "gbp"), (103, "   "), (104, "")] {
        world
            .change(&format!("insert into currency values ({id}, '{code}', now()::timestamp, now()::timestamp)"))
            .await;
    }
    world.ingest().await;
    let report = world.transform().await;
    let said = report.warnings.join("\n");
    assert!(said.contains("dim_currency") && said.contains("4 ") && said.contains("currency_id=101"), "{said}");
    world.load().await;
    let kept = "select count(*) from current_dim_currency where currency_id > 100 and currency_name = currency_code";
    assert_eq!(world.count_in_warehouse(kept).await, 4);
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_40_a_fact_without_its_dimension_is_not_loaded_until_the_dimension_is_there() {
    let world = loaded().await;
    let constraints =
        "select coalesce(string_agg(format('alter table sales_order drop constraint %I;', conname), ' '), '')
                       from pg_constraint where conrelid = 'sales_order'::regclass and contype = 'f'";
    let drops: String = world.source_client().await.query_one(constraints, &[]).await.unwrap().get(0);
    world.change(&drops).await;
    world.change("update sales_order set design_id = 99999 where sales_order_id = 4").await;
    world.ingest().await;
    let facts = "select count(*) from fact_sales_order";
    let (before, ledger) = (world.count_in_warehouse(facts).await, "select count(*) from starlift.ledger");
    let words = ["fact_sales_order", "design_id", "relationships(design_id -> dim_design)", "sales_order_id=4"];
    transform_fails(&world, ErrorKind::Data, &words).await;
    world.load().await;
    assert_eq!((world.count_in_warehouse(facts).await, world.count_in_warehouse(ledger).await), (before, 1));
    assert_eq!(world.count_in_warehouse(&format!("{facts} where design_id is null")).await, 0);
    // Mended in the fact.
    world.change("update sales_order set design_id = 1 where sales_order_id = 4").await;
    world.run().await;
    world.assert_star_equals_source().await;

    // Mended in the dimension, whose row comes in a later manifest.
    world.change("update sales_order set design_id = 99999 where sales_order_id = 4").await;
    world.ingest().await;
    transform_fails(&world, ErrorKind::Data, &words).await;
    let design = "select string_agg(case attname when 'design_id' then '99999' else quote_ident(attname) end, ', ' order by attnum)
                  from pg_attribute where attrelid = 'design'::regclass and attnum > 0 and not attisdropped";
    let design: String = world.source_client().await.query_one(design, &[]).await.unwrap().get(0);
    world.change(&format!("insert into design select {design} from design where design_id = 1")).await;
    world.run().await;
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_41_a_table_without_rows_and_a_window_without_changes_commit_a_manifest_and_no_file() {
    let lab = Lab::new("create table nobody (id int primary key, v text)").await;
    for seq in 1..=3 {
        let report = lab.catch_up().await;
        assert_eq!((report.seq, of(&report, "nobody").rows_written), (Some(seq), 0));
        assert!(report.result.is_empty());
        let files = files_below(&lab.lake());
        assert_eq!(manifests(files.clone()), seq as usize);
        assert!(!files.iter().any(|file| file.ends_with(".parquet")), "{files:?}");
    }
    let manifest = lab.newest().await;
    assert_eq!(manifest.relations["nobody"].schema.columns.len(), 2, "its columns are known all the same");

    // A whole pipeline without a row.
    let world = World::new().await;
    world.change("truncate address, staff, department, currency, design, counterparty, sales_order, purchase_order, payment_type, payment, transaction cascade").await;
    world.create_warehouse().await;
    world.run().await;
    world.run().await;
    world.assert_star_equals_source().await;
    assert_eq!(world.count_in_warehouse("select count(*) from fact_sales_order").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_42_a_date_beyond_the_calendar_extends_it_or_is_refused_by_key() {
    let world = loaded().await;
    let last = "select max(extract(year from date_id))::int8 from dim_date";
    assert_eq!(world.count_in_warehouse(last).await, 2030);
    world.change("update sales_order set agreed_delivery_date = '2035-06-01' where sales_order_id = 4").await;
    world.run().await;
    assert_eq!(world.count_in_warehouse(last).await, 2035, "by whole years");
    for day in ["1899-12-31", "2200-01-01", "9999-12-31"] {
        world.change(&format!("update sales_order set agreed_delivery_date = '{day}' where sales_order_id = 4")).await;
        world.ingest().await;
        world.transform().await;
        load_fails(&world, ErrorKind::Data, &["fact_sales_order", "agreed_delivery_date", "sales_order_id=4"]).await;
        assert_eq!(world.count_in_warehouse(last).await, 2035);
    }
    world.change("update sales_order set agreed_delivery_date = '2199-12-31' where sales_order_id = 4").await;
    world.run().await;
    assert_eq!(world.count_in_warehouse(last).await, 2199);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_44_a_warehouse_of_another_shape_is_named_before_anything_is_written() {
    let world = loaded().await;
    world.change("update design set design_name = 'new' where design_id = 1; update sales_order set units_sold = 77 where sales_order_id = 4").await;
    world.ingest().await;
    world.transform().await;
    let warehouse = world.warehouse_client().await;
    let rows =
        "select (select count(*) from fact_sales_order) + (select count(*) from dim_design where design_name = 'new')";
    let before = world.count_in_warehouse(rows).await;
    for (break_it, words, mend) in [
        (
            "alter table dim_design rename column file_name to file",
            ["dim_design", "file_name"],
            "alter table dim_design rename column file to file_name",
        ),
        (
            "alter table dim_design add column owner text not null default 'x'; alter table dim_design alter owner drop default",
            ["dim_design", "owner"],
            "alter table dim_design drop column owner",
        ),
        (
            "alter table fact_sales_order rename to fact_of_sales",
            ["fact_sales_order", "warehouse create"],
            "alter table fact_of_sales rename to fact_sales_order",
        ),
    ] {
        warehouse.batch_execute(break_it).await.unwrap();
        load_fails(&world, ErrorKind::Config, &words).await;
        assert_eq!(
            world
                .count_in_warehouse(&rows.replace(
                    "fact_sales_order",
                    if break_it.contains("fact_of_sales") { "fact_of_sales" } else { "fact_sales_order" }
                ))
                .await,
            before
        );
        warehouse.batch_execute(mend).await.unwrap();
    }
    // A type that is too narrow for some values is told by these values.
    warehouse
        .batch_execute("drop view current_dim_design; alter table dim_design alter design_name type varchar(200)")
        .await
        .unwrap();
    world.change(&format!("update design set design_name = '{}' where design_id = 2", "n".repeat(201))).await;
    world.ingest().await;
    world.transform().await;
    load_fails(&world, ErrorKind::Data, &["dim_design", "design_name", "design_id=2"]).await;
    let wider = "drop view current_dim_design; alter table dim_design alter design_name type text";
    warehouse.batch_execute(wider).await.unwrap();
    world.run().await;
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_45_a_ledger_that_is_ahead_or_of_another_past_stops_until_it_is_told_to_adopt() {
    let world = loaded().await;
    let backup = world.dir.path().join("backup");
    copy_folder(&world.star(), &backup);
    world.change("update sales_order set units_sold = 9001 where sales_order_id = 4").await;
    world.run().await;
    std::fs::remove_dir_all(world.star()).unwrap();
    copy_folder(&backup, &world.star());
    load_fails(&world, ErrorKind::Config, &["ahead", "load --adopt"]).await;
    // The same seq again, with other rows.
    world.change("update sales_order set units_sold = 9002 where sales_order_id = 4").await;
    world.ingest().await;
    world.transform().await;
    load_fails(&world, ErrorKind::Config, &["disagree", "load --adopt"]).await;
    starlift::load(&world.context(), &LoadRequest { adopt: true, ..LoadRequest::default() }).await.unwrap();
    world.assert_star_equals_source().await;

    // A lake that was put back and went another way is no past of this star.
    let lake = world.dir.path().join("lake_backup");
    copy_folder(&world.lake(), &lake);
    world.change("update design set design_name = 'one way' where design_id = 1").await;
    world.run().await;
    std::fs::remove_dir_all(world.lake()).unwrap();
    copy_folder(&lake, &world.lake());
    world.change("update design set design_name = 'another way' where design_id = 1").await;
    world.ingest().await;
    transform_fails(&world, ErrorKind::Config, &["lake.transform"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_48_a_value_that_the_warehouses_server_refuses_under_any_code_is_named_by_key_and_never_shown() {
    let world = loaded().await;
    // The input function of `regconfig` says the value, under the code of a name that does not exist.
    let odd = "create function odd() returns trigger language plpgsql as $$ begin
            if new.design_id < 3 then perform to_tsvector(new.file_name::regconfig, new.design_name); end if; return new; end $$;
        create trigger odd before insert or update on dim_design for each row execute function odd()";
    world.warehouse_client().await.batch_execute(odd).await.unwrap();
    world.change("update design set file_name = 'SECRETVALUE42' where design_id = 1; update design set file_name = 'english' where design_id = 2").await;
    world.ingest().await;
    world.transform().await;
    let words = ["1 row of model `dim_design`", "design_id=1", "SQLSTATE 42704", "starlift quarantine accept"];
    let error = load_fails(&world, ErrorKind::Data, &words).await;
    assert!(!format!("{error:?}").to_lowercase().contains("secretvalue42"), "{error:?}");
    // Mended in the source, the newer row decides about the older one.
    world.change("update design set file_name = 'english' where design_id = 1").await;
    world.run().await;
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_49_a_text_that_the_warehouses_encoding_does_not_have_is_refused_by_column_and_key() {
    let mut world = World::new().await;
    world.warehouse = format!("{}_latin", world.warehouse);
    let create = format!("create database {} encoding 'LATIN1' template template0 locale 'C'", world.warehouse);
    world.cluster.connect("postgres").await.unwrap().batch_execute(&create).await.unwrap();
    world.create_warehouse().await;
    world.change("update staff set first_name = 'Łukasz' where staff_id = 1; update staff set first_name = 'José' where staff_id = 2").await;
    world.ingest().await;
    world.transform().await;
    let words = ["dim_staff", "`first_name`", "LATIN1", "staff_id=1", "starlift quarantine accept"];
    let error = load_fails(&world, ErrorKind::Data, &words).await;
    assert!(!error.render().contains("Łukasz"), "{error:?}");
    let report = starlift::quarantine::accept(&world.context(), &Default::default()).await.unwrap();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    let held = "select count(*) from current_dim_staff where";
    assert_eq!(world.count_in_warehouse(&format!("{held} staff_id = 1")).await, 0);
    assert_eq!(
        world.count_in_warehouse(&format!("{held} first_name = 'José' and octet_length(first_name) = 4")).await,
        1
    );
    let report = starlift::verify::verify(&world.context(), &Default::default()).await.unwrap();
    assert!(report.comparisons.iter().all(|c| c.differences == 0), "{report:#?}");
}
