use starlift_sandbox::shared;
use starlift_sandbox::totesys::{Calendar, STAR_TABLES, compare, compare_all, create_warehouse, expected, live};

use crate::totesys::totesys;

#[tokio::test]
async fn the_warehouse_is_created_twice_and_takes_what_is_expected() {
    let (database, mut source) = totesys(4, 0.05).await;
    for day in 1..=3 {
        live(&mut source, 4, day).await.unwrap();
    }
    // The star tables beside the source, so that one statement can fill each.
    let client = shared().unwrap().connect(&database).await.unwrap();
    for _ in 0..2 {
        create_warehouse(&client).await.unwrap();
    }
    for table in STAR_TABLES {
        let sql = expected(table, Calendar::default()).unwrap();
        let columns: Vec<String> =
            client.prepare(&sql).await.unwrap().columns().iter().map(|c| c.name().into()).collect();
        let (columns, all) = (columns.join(", "), columns.len());
        client.batch_execute(&format!("insert into {table} ({columns}) {sql}")).await.unwrap();
        client.batch_execute(&format!("create view current_{table} as select * from {table}")).await.unwrap();
        // The expected columns are the table's, in its order, but for a fact's record id.
        let row = client
            .query_one(
                "select string_agg(attname, ', ' order by attnum), count(*) from pg_attribute \
                 where attrelid = $1::text::regclass and attnum > 0 and attname not like '%_record_id'",
                &[&table],
            )
            .await
            .unwrap();
        assert_eq!((row.get::<_, String>(0), row.get::<_, i64>(1)), (columns, all as i64), "{table}");
    }
    assert_eq!(compare_all(&source, &client, Calendar::default()).await.unwrap(), Vec::<String>::new());
    assert_eq!(expected("dim_nothing", Calendar::default()), None);
    assert!(compare(&source, &source, "dim_date", "dim_date", Calendar::default()).await.is_err());
}

#[tokio::test]
async fn a_changed_a_missing_and_a_doubled_row_are_found_in_every_table() {
    let (database, source) = totesys(4, 0.01).await;
    let client = shared().unwrap().connect(&database).await.unwrap();
    for table in STAR_TABLES {
        let sql = expected(table, Calendar::default()).unwrap();
        client.batch_execute(&format!("create table copy_of_{table} as {sql}")).await.unwrap();
        let key = client.prepare(&sql).await.unwrap().columns()[0].name().to_owned();
        let last = client.prepare(&sql).await.unwrap().columns().last().unwrap().name().to_owned();
        let one = format!("ctid = (select min(ctid) from copy_of_{table})");
        let changed = match (table, last.as_str()) {
            (_, "payment_date") => "payment_date + 1".to_owned(),
            (_, "purchase_order_id" | "quarter" | "agreed_delivery_location_id") => format!("coalesce({last}, 0) + 1"),
            _ => format!("{last} || ' '"),
        };
        for (damage, missing, surplus) in [
            (format!("update copy_of_{table} set {last} = {changed} where {one}"), 1, 1),
            (format!("delete from copy_of_{table} where {one}"), 1, 0),
            (format!("insert into copy_of_{table} select * from copy_of_{table} where {one}"), 0, 1),
        ] {
            client.batch_execute("begin").await.unwrap();
            client.batch_execute(&damage).await.unwrap();
            let found = compare(&source, &client, table, &format!("public.copy_of_{table}"), Calendar::default())
                .await
                .unwrap()
                .unwrap_or_else(|| panic!("{damage} was not found ({key})"));
            assert!(found.contains(&format!("{missing} rows missing, {surplus} too many")), "{found}");
            client.batch_execute("rollback").await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_calendar_grows_by_whole_years_to_the_dates_of_the_facts() {
    let (_, source) = totesys(4, 0.01).await;
    let calendar = Calendar { start_year: 2024, end_year: 2025 };
    source
        .batch_execute(
            "update payment set payment_date = '2033-02-03' where payment_id = (select min(payment_id) from payment)",
        )
        .await
        .unwrap();
    let sql = format!(
        "select min(date_id)::text, max(date_id)::text, count(*) = max(date_id) - min(date_id) + 1 from ({}) q",
        expected("dim_date", calendar).unwrap()
    );
    let row = source.query_one(&sql, &[]).await.unwrap();
    assert_eq!(
        (row.get::<_, String>(0), row.get::<_, String>(1), row.get::<_, bool>(2)),
        ("2022-01-01".into(), "2033-12-31".into(), true)
    );
}
