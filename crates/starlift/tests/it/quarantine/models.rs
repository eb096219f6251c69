//! Rows that models refuse: by a strict function, or by a test of the header.

use starlift::quarantine;
use starlift::verdicts::verdicts;

use super::{aside, assert_verified, context, failed, rewrite, rewrite_file, world_with};
use crate::world::of;

#[tokio::test(flavor = "multi_thread")]
async fn a_date_that_is_none_stands_aside_until_the_source_or_the_model_is_mended() {
    let world = world_with("[quarantine]\nmax_quarantine = 2").await;
    world.create_warehouse().await;
    world.run().await;
    let new =
        "insert into sales_order select (jsonb_populate_record(s, '{\"sales_order_id\": 990001}')).* from sales_order s
               where sales_order_id = 5";
    let bad = "update sales_order set agreed_delivery_date = '31/12/2024' where sales_order_id in (4, 6, 990001)";
    world.change(&format!("{new}; {bad}")).await;
    let stopped = failed(&world).await;
    assert_eq!(stopped[0].0, "transform");
    assert!(stopped[0].1.contains("column `agreed_delivery_date`"), "{stopped:?}");
    assert!(stopped[0].1.contains("sales_order_id=4; sales_order_id=6; sales_order_id=990001"), "{stopped:?}");

    // Transform looks at the lake as it is now: a newer version, and a delete, replace what was refused.
    world.change("update sales_order set agreed_delivery_date = '2024-12-31' where sales_order_id = 4").await;
    world.change("delete from sales_order where sales_order_id = 990001").await;
    let report = world.run().await;
    assert_eq!(of(&report.stages[1], "fact_sales_order").rows_refused, 1);
    assert_eq!(aside(&world).await, ["transform fact_sales_order sales_order_id=6 agreed_delivery_date"]);
    assert_verified(&world).await;
    let current = "select count(*) from current_fact_sales_order where sales_order_id = 6";
    assert_eq!(world.count_in_warehouse(current).await, 0);
    let kept = "select count(*) from fact_sales_order where sales_order_id = 6";
    assert_eq!(world.count_in_warehouse(kept).await, 1, "no version is ever deleted");
    // Models are evaluated again with every change, and the row stands aside as it did.
    world.change("update sales_order set units_sold = units_sold + 1 where sales_order_id = 7").await;
    let report = world.run().await;
    assert_eq!(
        (of(&report.stages[1], "fact_sales_order").rows_refused, of(&report.stages[1], "fact_sales_order").refused),
        (0, 1)
    );

    let strict = "parse_date(agreed_delivery_date) as agreed_delivery_date";
    let mended = "parse_date(case when agreed_delivery_date like '__/__/____' then concat(substr(agreed_delivery_date, 7, 4), \
                  '-', substr(agreed_delivery_date, 4, 2), '-', substr(agreed_delivery_date, 1, 2)) \
                  else agreed_delivery_date end) as agreed_delivery_date";
    rewrite(&world, "fact_sales_order", strict, mended);
    world.run().await;
    assert!(aside(&world).await.is_empty());
    assert_verified(&world).await;
    let back = "select count(*) from current_fact_sales_order where sales_order_id = 6 and agreed_delivery_date = '2024-12-31'";
    assert_eq!(world.count_in_warehouse(back).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tests_of_a_header_refuse_rows_that_changed_or_only_count_them() {
    let world = world_with("[quarantine]\nmax_quarantine = 3\nkeep_values = true").await;
    rewrite(&world, "dim_design", "    file_name\n", "    nullif(file_name, 'none') as file_name\n");
    rewrite(&world, "dim_design", ", not_null(file_name)", "");
    rewrite_file(&world, "warehouse.sql", "file_name varchar not null", "file_name varchar");
    world.create_warehouse().await;
    world.run().await;
    let before = verdicts(&context(&world)).await.unwrap();
    assert!(before.iter().all(|test| test.last.as_ref().is_none_or(|last| last.failed == 0)), "{before:#?}");

    let tests =
        "unique(design_id), unique(design_name), accepted_values(file_location: /a, /b), not_null(file_name) warn";
    rewrite(&world, "dim_design", "unique(design_id)", tests);
    // Rows that were there before and did not change are not tested.
    world.run().await;
    world
        .change(
            "update design set file_location = '/a', file_name = 'none' where design_id = 1;
         update design set file_location = '/c' where design_id = 2;
         update design set file_location = '/b', design_name = 'same' where design_id in (3, 4)",
        )
        .await;
    let stopped = failed(&world).await;
    assert!(stopped.is_empty(), "{stopped:?}");
    let rows = quarantine::list(&context(&world)).await.unwrap();
    let of_designs: Vec<String> = rows
        .iter()
        .filter(|row| row.name == "dim_design")
        .map(|row| format!("{} {} {:?}", row.key, row.reason, row.value))
        .collect();
    assert_eq!(
        of_designs,
        [
            "design_id=3 it fails unique(design_name) Some(\"same\")",
            "design_id=4 it fails unique(design_name) Some(\"same\")",
            "design_id=2 it fails accepted_values(file_location: /a, /b) Some(\"/c\")",
        ]
    );
    let found: Vec<String> = verdicts(&context(&world))
        .await
        .unwrap()
        .into_iter()
        .filter(|test| test.model == "dim_design")
        .filter_map(|test| test.last.map(|last| format!("{} {} of {}", test.test, last.failed, last.rows)))
        .filter(|line| !line.contains(" 0 of "))
        .collect();
    assert_eq!(
        found,
        ["unique(design_name) 2 of 4", "accepted_values(file_location: /a, /b) 1 of 4", "not_null(file_name) 1 of 4"]
    );
    assert_verified(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_only_a_test_names_is_asked_and_once_it_is_mended_its_rows_come_back() {
    let world = world_with("[quarantine]\nmax_quarantine = 1").await;
    world.create_warehouse().await;
    world.run().await;
    std::fs::write(world.project.join("seeds/places.csv"), "file_location\n/a\n").unwrap();
    rewrite(&world, "dim_design", "unique(design_id)", "unique(design_id), relationships(file_location -> places)");
    // Rows that were there before and did not change are not tested.
    world.run().await;
    world
        .change(
            "update design set file_location = '/a' where design_id = 1;
             update design set file_location = '/b' where design_id = 2",
        )
        .await;
    let report = world.run().await;
    assert_eq!(of(&report.stages[1], "dim_design").rows_refused, 1);
    let of_designs =
        async || -> Vec<String> { aside(&world).await.into_iter().filter(|row| row.contains("dim_design")).collect() };
    assert_eq!(of_designs().await, ["transform dim_design design_id=2 file_location"]);
    assert_verified(&world).await;

    rewrite_file(&world, "seeds/places.csv", "/a\n", "/a\n/b\n");
    world.run().await;
    assert!(aside(&world).await.is_empty());
    let current = "select count(*) from current_dim_design where design_id = 2 and file_location = '/b'";
    assert_eq!(world.count_in_warehouse(current).await, 1);
    assert_verified(&world).await;
    world.assert_star_equals_source().await;
}
