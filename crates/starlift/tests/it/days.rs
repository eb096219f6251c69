//! The days of ToteSys: after each run the warehouse is compared with a direct query on the source.

use starlift::config::{Environment, Overrides};
use starlift_sandbox::totesys::{OpenTransaction, live};

use crate::world::{SEED, World, files_below, of};

#[tokio::test(flavor = "multi_thread")]
async fn after_every_day_the_star_equals_the_source() {
    let world = World::of_scale(0.1).await;
    world.create_warehouse().await;
    world.run().await;
    world.assert_star_equals_source().await;
    let mut open: Option<OpenTransaction> = None;
    for day in 1..=6 {
        // The transaction of this day stays open across its run; yesterday's commits before it.
        if let Some(yesterday) = open.take() {
            yesterday.commit().await.unwrap();
        }
        open = Some(OpenTransaction::begin(world.source_client().await, SEED, day).await.unwrap());
        live(&mut world.source_client().await, SEED, day).await.unwrap();
        world.run().await;
        world.assert_star_equals_source().await;
    }
    open.unwrap().commit().await.unwrap();
    world.run().await;
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_source_gives_a_manifest_and_no_data_file() {
    let world = World::new().await;
    world.create_warehouse().await;
    world.run().await;
    let data = |files: Vec<String>| files.into_iter().filter(|f| f.ends_with(".parquet")).collect::<Vec<_>>();
    let before = data(files_below(&world.lake()));
    let report = world.run().await;
    assert_eq!(data(files_below(&world.lake())), before);
    let ingest = &report.stages[0];
    assert_eq!(ingest.seq, Some(2));
    assert!(ingest.result.is_empty());
    assert_eq!(ingest.relations.iter().map(|r| r.rows_written + r.rows_deleted).sum::<u64>(), 0);
    assert!(report.stages[1].result.is_empty());
    assert_eq!(files_below(&world.star()).iter().filter(|f| f.contains("_manifests")).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_rows_that_changed_are_written_although_an_open_transaction_makes_the_window_wide() {
    let world = World::new().await;
    world.ingest().await;
    let holder = world.source_client().await;
    holder.batch_execute("begin; update design set file_name = file_name where design_id = 1").await.unwrap();
    world.change("update sales_order set units_sold = units_sold + 1 where sales_order_id <= 10").await;
    let first = world.ingest().await;
    assert_eq!(of(&first, "sales_order").rows_written, 10);
    // The open transaction keeps the watermark back: the same rows are read again, and not written again. Transactions of
    // other databases of the cluster do so too, so more rows than these may be read.
    let second = world.ingest().await;
    let orders = of(&second, "sales_order");
    assert!(orders.rows_read >= 10 && orders.rows_written == 0, "{orders:?}");
    holder.batch_execute("commit").await.unwrap();
    let third = world.ingest().await;
    let designs = of(&third, "design");
    assert!(designs.rows_read >= 1 && designs.rows_written == 0, "{designs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_row_becomes_a_tombstone_and_a_retraction_and_may_return() {
    let world = World::new().await;
    world.create_warehouse().await;
    world.run().await;
    let source = world.source_client().await;
    source
        .batch_execute(
            "create table kept as select * from payment where payment_id = 3; revoke all on kept from public",
        )
        .await
        .unwrap();
    source.batch_execute("delete from payment where payment_id = 3").await.unwrap();
    let ingest = world.ingest_expecting_denied_table().await;
    assert!(ingest.render().contains("kept"), "{ingest:?}");
    source.batch_execute(&format!("grant select on kept to {}_reader", world.source)).await.unwrap();

    let report = world.run().await;
    assert_eq!(of(&report.stages[0], "payment").rows_deleted, 1);
    assert_eq!(of(&report.stages[1], "fact_payment").rows_deleted, 1);
    assert!(
        !report.stages[0].result.contains_key("payment"),
        "a table whose only changes are deletes is not in a result"
    );
    let live = files_below(&world.lake());
    assert!(live.iter().any(|f| f.starts_with("_deleted/payment/")), "{live:?}");
    world.assert_star_equals_source().await;
    assert_eq!(world.count_in_warehouse("select count(*) from starlift.retracted").await, 1);

    let versions = "select count(*) from fact_payment where payment_id = 3";
    assert_eq!(world.count_in_warehouse(versions).await, 1);
    source.batch_execute("insert into payment select * from kept; drop table kept").await.unwrap();
    world.run().await;
    world.assert_star_equals_source().await;
    assert_eq!(world.count_in_warehouse("select count(*) from starlift.retracted").await, 0);
    assert_eq!(world.count_in_warehouse(versions).await, 1, "the same values make no new version");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_address_reaches_its_counterparties_and_a_renamed_department_its_staff() {
    let world = World::new().await;
    world.create_warehouse().await;
    world.run().await;
    world
        .change(
            "update address set city = 'Newtown' where address_id = (select min(legal_address_id) from counterparty)",
        )
        .await;
    world.change("update department set department_name = 'Renamed', location = null where department_id = (select min(department_id) from staff)").await;
    let report = world.run().await;
    assert_eq!(of(&report.stages[0], "address").rows_written, 1);
    assert_eq!(of(&report.stages[0], "counterparty").rows_written, 0);
    assert!(of(&report.stages[1], "dim_counterparty").rows_written >= 1);
    assert!(of(&report.stages[1], "dim_staff").rows_written >= 1);
    world.assert_star_equals_source().await;
    assert!(
        world
            .count_in_warehouse("select count(*) from dim_staff where department_name = 'Renamed' and location = ''")
            .await
            >= 1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_a_b_a_of_a_row_are_three_versions_of_the_fact() {
    let world = World::new().await;
    world.create_warehouse().await;
    world.run().await;
    for units in [9001, 9002, 9001] {
        world.change(&format!("update sales_order set units_sold = {units} where sales_order_id = 5")).await;
        world.run().await;
    }
    let units: Vec<i32> = world
        .warehouse_client()
        .await
        .query("select units_sold from fact_sales_order where sales_order_id = 5 order by sales_record_id", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(units[1..], [9001, 9002, 9001]);
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_that_pile_up_are_loaded_one_by_one_in_order() {
    let world = World::new().await;
    world.create_warehouse().await;
    world.run().await;
    for units in [1, 2, 3] {
        world.change(&format!("update sales_order set units_sold = 70000 + {units} where sales_order_id = 5")).await;
        world.ingest().await;
        world.transform().await;
    }
    let report = world.load().await;
    assert_eq!(report.seq, Some(4));
    assert_eq!(world.count_in_warehouse("select count(*) from starlift.ledger").await, 4);
    assert_eq!(world.count_in_warehouse("select count(*) from fact_sales_order where sales_order_id = 5").await, 4);
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_calendar_grows_by_whole_years_to_every_date_of_a_fact() {
    let world = World::new().await;
    world.create_warehouse().await;
    world.run().await;
    world.change("update sales_order set agreed_delivery_date = '2034-05-06' where sales_order_id = 5").await;
    world.change("update sales_order set agreed_payment_date = '2017-05-06' where sales_order_id = 6").await;
    world.run().await;
    world.assert_star_equals_source().await;
    let days = "select count(*) from dim_date where date_id between '2017-01-01' and '2034-12-31'";
    assert_eq!(world.count_in_warehouse(days).await, 6574);
    assert_eq!(world.count_in_warehouse("select count(*) from dim_date").await, 6574);
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_years_of_the_calendar_give_the_star_that_a_new_one_would_be_and_take_no_day_from_the_warehouse() {
    let world = World::new().await.with_own_project();
    let model = "-- kind: fact\n-- key: sales_order_id\nselect o.sales_order_id, o.units_sold, d.year from sales_order o \
                 join dim_date d on d.date_id = o.created_at::date";
    std::fs::write(world.project.join("models/fact_day.sql"), model).unwrap();
    let tables = world.project.join("warehouse.sql");
    let table = "create table if not exists fact_day (fact_day_record_id serial primary key, sales_order_id int not null, \
                 units_sold int not null, year int not null);";
    std::fs::write(&tables, format!("{}\n{table}\n", std::fs::read_to_string(&tables).unwrap())).unwrap();
    let begin_in = |year: i32| {
        let path = world.project.join("starlift.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = text.split_once("start_year = ").unwrap();
        std::fs::write(&path, format!("{before}start_year = {year}{}", &rest[4..])).unwrap();
    };
    let source = world.source_client().await;
    let orders_since = async |year: i32| -> i64 {
        let sql = "select count(*) from sales_order where extract(year from created_at) >= $1::int4";
        source.query_one(sql, &[&year]).await.unwrap().get(0)
    };
    let facts = "select count(*) from current_fact_day";
    world.ingest().await;
    world.create_warehouse().await;
    world.run().await;
    let (all, late) = (orders_since(2020).await, orders_since(2024).await);
    assert!(0 < late && late < all, "{late} of {all}");
    assert_eq!(world.count_in_warehouse(facts).await, all);

    begin_in(2024);
    let report = world.run().await;
    let calendar = of(&report.stages[1], "dim_date");
    assert_eq!((calendar.rows, calendar.rows_deleted), (2557, 1461), "{calendar:?}");
    assert_eq!(world.count_in_warehouse(facts).await, late);
    // The other facts refer to days of these years.
    assert_eq!(world.count_in_warehouse("select count(*) from dim_date").await, 4018);
    assert_eq!(world.count_in_warehouse("select count(*) from current_dim_date").await, 4018);
    world.assert_star_equals_source().await;
    world.change("update sales_order set units_sold = units_sold + 1 where sales_order_id <= 3").await;
    world.run().await;
    assert_eq!(world.count_in_warehouse(facts).await, late);
    let verified = starlift::verify::verify(&world.context(), &Default::default()).await.unwrap();
    assert!(verified.equal(), "{verified:?}");
    let elsewhere = world.dir.path().join("another").to_string_lossy().into_owned();
    let overrides = Overrides { lake_transform: Some(elsewhere), ..world.overrides() };
    let anew = world.try_context(overrides, Environment::default()).unwrap();
    let anew = starlift::transform(&anew, None).await.unwrap();
    assert_eq!((of(&anew, "dim_date").rows, of(&anew, "fact_day").rows), (2557, late as u64));

    begin_in(2020);
    let report = world.run().await;
    assert_eq!(of(&report.stages[1], "dim_date").rows, 4018);
    assert_eq!(world.count_in_warehouse(facts).await, all);
    world.assert_star_equals_source().await;
}

impl World {
    /// An ingest that stops at a table that the role may not read.
    async fn ingest_expecting_denied_table(&self) -> starlift_core::Error {
        let error = starlift::ingest(&self.context(), None).await.unwrap_err();
        assert_eq!(error.kind(), starlift_core::ErrorKind::Permission);
        let hint = error.hint().unwrap_or_default().to_string();
        assert!(hint.to_lowercase().contains("grant select"), "{hint}");
        error
    }
}
