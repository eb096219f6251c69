//! A dimension row that stands aside takes its facts along, and brings them back.

use std::collections::BTreeSet;

use starlift::quarantine::accept;

use super::{aside, assert_verified, context, failures, rewrite, world_with};

#[tokio::test(flavor = "multi_thread")]
async fn facts_wait_for_their_dimension_row_and_come_back_with_it() {
    let world = world_with("[quarantine]\nmax_quarantine = 1").await;
    rewrite(&world, "dim_design", "not_null(design_name)", "accepted_values(file_location: /usr, /tmp)");
    rewrite(
        &world,
        "dim_design",
        "    file_location,",
        "    case when file_location = '/bad' then '/bad' else '/usr' end as file_location,",
    );
    world.create_warehouse().await;
    world.run().await;
    let facts = "select count(*) from current_fact_sales_order where design_id = 1";
    let all = world.count_in_warehouse(facts).await;
    assert!(all > 0);

    world.change("update design set file_location = '/bad' where design_id = 1").await;
    world.run().await;
    let waiting = aside(&world).await;
    assert_eq!(waiting[0], "transform dim_design design_id=1 file_location");
    assert_eq!(waiting.len() as i64, 1 + all, "the facts wait, and are not counted against the limit");
    assert!(
        waiting[1..].iter().all(|row| row.starts_with("transform fact_sales_order") && row.ends_with(" design_id"))
    );
    assert_eq!(world.count_in_warehouse(facts).await, 0);
    assert_eq!(world.count_in_warehouse("select count(*) from current_dim_design where design_id = 1").await, 0);
    assert_verified(&world).await;

    // One of them changes meanwhile, and a new one comes.
    world
        .change(
            "update sales_order set units_sold = 4321 where sales_order_id = \
         (select min(sales_order_id) from sales_order where design_id = 1)",
        )
        .await;
    world.run().await;
    assert_eq!(aside(&world).await.len() as i64, 1 + all);

    world.change("update design set file_location = '/good' where design_id = 1").await;
    world.run().await;
    assert!(aside(&world).await.is_empty());
    assert_eq!(world.count_in_warehouse(facts).await, all);
    assert_eq!(world.count_in_warehouse(&format!("{facts} and units_sold = 4321")).await, 1);
    assert_verified(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_that_waited_count_once_they_are_refused_themselves() {
    let world = world_with("[quarantine]\nmax_quarantine = 1").await;
    rewrite(&world, "dim_design", "not_null(design_name)", "accepted_values(design_name: good)");
    rewrite(
        &world,
        "dim_design",
        "    design_name,",
        "    case when design_name = 'bad' then 'bad' else 'good' end as design_name,",
    );
    world.change("update sales_order set design_id = 1 where sales_order_id in (3, 4)").await;
    world.create_warehouse().await;
    world.run().await;
    world.change("update design set design_name = 'bad' where design_id = 1").await;
    world.run().await;
    let waiting = aside(&world).await.len();
    assert!(waiting > 2, "the design and its facts");

    world.change("update sales_order set agreed_delivery_date = '31/12/2024' where sales_order_id in (3, 4)").await;
    world.change("update design set design_name = 'mended' where design_id = 1").await;
    let report = starlift::run(&context(&world)).await;
    let stopped = failures(&report);
    assert_eq!(stopped[0].0, "transform");
    assert!(stopped[0].1.contains("in 2 rows (sales_order_id=3; sales_order_id=4)"), "{stopped:?}");
    assert_eq!(aside(&world).await.len(), waiting, "nothing was committed");

    let accepted = accept(&context(&world), &BTreeSet::from(["fact_sales_order".to_string()])).await.unwrap();
    assert!(failures(&accepted).is_empty(), "{accepted:?}");
    let left = ["3", "4"].map(|id| format!("transform fact_sales_order sales_order_id={id} agreed_delivery_date"));
    assert_eq!(aside(&world).await, left);
    assert_verified(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fact_whose_dimension_row_does_not_exist_fails_its_test_until_it_does() {
    let world = world_with("").await;
    world.change("alter table sales_order drop constraint if exists sales_order_design_id_fkey").await;
    world.create_warehouse().await;
    world.run().await;
    world.change("update sales_order set design_id = 987654 where sales_order_id = 3").await;
    let report = starlift::run(&context(&world)).await;
    let stopped = failures(&report);
    assert_eq!(stopped[0].0, "transform");
    assert!(
        stopped[0].1.contains("it fails relationships(design_id -> dim_design) in 1 row (sales_order_id=3)"),
        "{stopped:?}"
    );

    let accepted = accept(&context(&world), &BTreeSet::from(["fact_sales_order".to_string()])).await.unwrap();
    assert!(failures(&accepted).is_empty(), "{accepted:?}");
    assert_eq!(aside(&world).await, ["transform fact_sales_order sales_order_id=3 design_id"]);
    assert_verified(&world).await;

    let late = "insert into design select (jsonb_populate_record(d, '{\"design_id\": 987654}')).* from design d
                where design_id = 1";
    world.change(late).await;
    world.run().await;
    assert!(aside(&world).await.is_empty(), "its dimension changed, so it is tried again");
    assert_verified(&world).await;
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dimension_may_have_inferred_members_instead() {
    let world = world_with("").await;
    let tests = "accepted_values(file_location: /usr, /tmp)\n-- refused: inferred\n-- description: designs of";
    rewrite(
        &world,
        "dim_design",
        "not_null(design_name), not_null(file_location), not_null(file_name)\n-- description: one row for each design of",
        tests,
    );
    world.create_warehouse().await;
    world
        .change(
            "update design set file_location = '/usr'; update design set file_location = '/odd' where design_id = 1",
        )
        .await;
    let report = world.run().await;
    let warning = "model `dim_design`: 1 row is an inferred member: column `file_location`: it fails \
                   accepted_values(file_location: /usr, /tmp) in 1 row (design_id=1)";
    assert!(report.stages[1].warnings.iter().any(|line| line == warning), "{:?}", report.stages[1].warnings);
    let member = "select count(*) from current_dim_design where design_id = 1 and file_location = 'unknown' and file_name <> 'unknown'";
    assert_eq!(world.count_in_warehouse(member).await, 1);
    let facts = world.count_in_warehouse("select count(*) from current_fact_sales_order").await;
    assert_eq!(
        facts,
        world.source_client().await.query_one("select count(*) from sales_order", &[]).await.unwrap().get::<_, i64>(0)
    );
    assert!(aside(&world).await.is_empty());

    world.change("update design set design_name = 'other' where design_id = 2").await;
    let report = world.run().await;
    assert_eq!(crate::world::of(&report.stages[1], "dim_design").rows_written, 1, "the member is not written again");
    world.change("update design set file_location = '/tmp' where design_id = 1").await;
    world.run().await;
    assert_eq!(world.count_in_warehouse(member).await, 0);
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_to_the_model_itself_is_tested_against_all_that_it_yields() {
    let world = world_with("").await;
    let table = "create table member (id int primary key, boss int, born text); insert into member
                 select i, nullif(i / 2, 0), '2000-01-01' from generate_series(1, 20) i;
                 grant select on member to public";
    world.change(table).await;
    let model = "-- kind: dimension\n-- key: id\n-- tests: relationships(boss -> dim_member)\n\
                 select id, boss, parse_date(born) as born from member\n";
    std::fs::write(world.project.join("models/dim_member.sql"), model).unwrap();
    std::fs::remove_file(world.project.join("warehouse.sql")).unwrap();
    world.ingest().await;
    world.create_warehouse().await;
    world.run().await;
    let current = async || world.count_in_warehouse("select count(*) from current_dim_member").await;
    assert_eq!(current().await, 20);

    world.change("update member set boss = 99 where id = 3; insert into member values (21, 22, '2000-01-01')").await;
    let stopped = failures(&starlift::run(&context(&world)).await);
    assert_eq!(stopped[0].0, "transform");
    let reason = "it fails relationships(boss -> dim_member) in 2 rows";
    assert!(stopped[0].1.contains(reason), "{stopped:?}");
    accept(&context(&world), &BTreeSet::from(["dim_member".to_string()])).await.unwrap();
    let mut orphans = aside(&world).await;
    orphans.sort();
    assert_eq!(orphans, ["transform dim_member id=21 boss", "transform dim_member id=3 boss"]);
    assert_verified(&world).await;

    // The boss comes, later than the row that refers to it; and one that stands aside for another reason is there all the same.
    world.change("insert into member values (22, 1, 'x'), (99, 3, '2000-01-01')").await;
    let accepted = accept(&context(&world), &BTreeSet::from(["dim_member".to_string()])).await.unwrap();
    assert!(failures(&accepted).is_empty(), "{accepted:?}");
    assert_eq!(aside(&world).await, ["transform dim_member id=22 born"]);
    assert_eq!(current().await, 22);
    assert_verified(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_to_a_key_of_several_columns_stops_transform_and_not_ingest() {
    let world = world_with("").await;
    let wide = "-- kind: dimension\n-- key: design_id, design_name\nselect design_id, design_name from design\n";
    std::fs::write(world.project.join("models/dim_wide.sql"), wide).unwrap();
    rewrite(&world, "dim_design", "not_null(design_name)", "relationships(design_id -> dim_wide)");
    let report = starlift::run(&context(&world)).await;
    let stopped = failures(&report);
    assert_eq!(stopped.iter().map(|(stage, _)| *stage).collect::<Vec<_>>(), ["transform"]);
    assert!(stopped[0].1.contains("its key has 2 columns, and a test has one"), "{stopped:?}");
    assert_eq!(report.stages.first().map(|stage| stage.stage), Some("ingest"));
    let checks = starlift::doctor::doctor(&context(&world)).await;
    assert!(checks.iter().any(|check| check.detail.contains("refers to `dim_wide`")), "{checks:?}");
}
