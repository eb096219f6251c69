use starlift_core::ErrorKind;
use starlift_sandbox::shared;
use starlift_sandbox::totesys::{
    Day, Effect, History, OpenTransaction, SOURCE_TABLES, create_loader, create_reader, create_source,
    create_warehouse, fingerprint, live,
};
use tokio_postgres::{Client, NoTls};

/// A ToteSys with the history of a seed, in a database of its own.
pub(crate) async fn totesys(seed: u64, scale: f64) -> (String, Client) {
    let cluster = shared().unwrap();
    let database = cluster.fresh_database("totesys").await.unwrap();
    let mut client = cluster.connect(&database).await.unwrap();
    create_source(&client).await.unwrap();
    let report = History { seed, scale }.fill(&mut client).await.unwrap();
    assert_eq!(report.rows.len(), SOURCE_TABLES.len());
    (database, client)
}

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(&format!("select count(*) from ({sql}) q"), &[]).await.unwrap().get(0)
}

/// Adds every foreign key again, so that PostgreSQL checks all rows.
async fn assert_foreign_keys_hold(client: &Client) {
    let rows = client
        .query(
            "select format('alter table %s drop constraint %I, add constraint %I %s', conrelid::regclass, conname, \
             conname, pg_get_constraintdef(oid)) from pg_constraint where contype = 'f'",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(rows.len(), 17);
    for row in rows {
        client.batch_execute(row.get(0)).await.unwrap();
    }
}

#[tokio::test]
async fn the_same_seed_gives_the_same_history_for_ever() {
    let (_, first) = totesys(7, 0.2).await;
    let (_, second) = totesys(7, 0.2).await;
    let (_, other) = totesys(8, 0.2).await;
    let print = fingerprint(&first).await.unwrap();
    assert_eq!(print, fingerprint(&second).await.unwrap());
    assert_ne!(print, fingerprint(&other).await.unwrap());
    // Recorded: a change of the generator changes every example in the documentation.
    assert_eq!(print, "16f7cc17aa0b7189d798ac5583107a1d");
}

#[tokio::test]
async fn the_history_is_whole_and_lifelike() {
    let (_, client) = totesys(1, 1.0).await;
    assert_foreign_keys_hold(&client).await;
    assert_eq!(count(&client, "select from sales_order").await, 4000);
    assert_eq!(count(&client, "select from purchase_order").await, 2000);
    assert_eq!(count(&client, "select from \"transaction\"").await, 6000);
    assert!((5500..6500).contains(&count(&client, "select from payment").await));
    for (table, rows) in [("address", 30), ("counterparty", 20), ("design", 60), ("staff", 25), ("payment_type", 4)] {
        assert_eq!(count(&client, &format!("select from {table}")).await, rows, "{table}");
    }
    for none in [
        "select from sales_order where scale(unit_price) > 2 or unit_price <= 0 or last_updated < created_at",
        "select from payment where scale(payment_amount) <> 2 or payment_amount <= 0",
        "select from payment where payment_date::date not between '2022-01-01' and '2027-12-31'",
        "select from sales_order where agreed_delivery_date !~ '^\\d{4}-\\d\\d-\\d\\d$'",
        "select from sales_order where extract(isodow from created_at) > 5",
        "select from sales_order s join design d using (design_id) where s.created_at < d.created_at",
        "select from purchase_order p join counterparty c using (counterparty_id) where p.created_at < c.created_at",
        "select from \"transaction\" where (transaction_type = 'SALE') is distinct from (sales_order_id is not null) \
         or num_nonnulls(sales_order_id, purchase_order_id) <> 1",
    ] {
        assert_eq!(count(&client, none).await, 0, "{none}");
    }
    for some in [
        "select from payment where payment_amount::text like '%0'",
        "select from payment where not paid",
        "select from payment where payment_type_id in (2, 4)",
        "select from sales_order where last_updated > created_at",
        "select from address where district is null",
        "select from address where address_line_2 is null",
        "select from department where location is null",
        "select from counterparty where counterparty_legal_name ~ '🌞'",
        "select from counterparty where commercial_contact is null",
    ] {
        assert!(count(&client, some).await > 0, "{some}");
    }
    // Growth and seasons: a chart by month is not flat.
    let ratio: f64 = client
        .query_one(
            "select (count(*) filter (where created_at between '2024-11-01' and '2024-12-01'))::float8 / \
             count(*) filter (where created_at between '2023-08-01' and '2023-09-01') from sales_order",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert!(ratio > 1.8, "{ratio}");
}

#[tokio::test]
async fn days_are_lived_alike_everywhere_and_keep_the_foreign_keys() {
    let (_, mut first) = totesys(3, 0.1).await;
    let (_, mut second) = totesys(3, 0.1).await;
    let (mut inserted, mut deleted, mut kinds) = (0, 0, std::collections::BTreeSet::new());
    for number in 1..=14 {
        let before = fingerprint(&first).await.unwrap();
        let report = live(&mut first, 3, number).await.unwrap();
        assert_eq!(report, live(&mut second, 3, number).await.unwrap());
        assert_ne!(before, fingerprint(&first).await.unwrap());
        assert_eq!(fingerprint(&first).await.unwrap(), fingerprint(&second).await.unwrap());
        assert!(report.rows(Effect::Update) >= 10 && report.rolled_back > 0, "{}", report.summary());
        inserted += report.rows(Effect::Insert);
        deleted += report.rows(Effect::Delete);
        kinds.extend(report.changes.keys().copied());
        println!("{}", report.summary());
    }
    assert!(inserted > 14 * 50 && deleted > 30, "{inserted} {deleted}");
    // Every kind of change happens within two weeks.
    assert_eq!(kinds.len(), 25, "{kinds:?}");
    assert_foreign_keys_hold(&first).await;
}

#[tokio::test]
async fn a_day_out_of_order_is_refused() {
    let (_, mut client) = totesys(3, 0.01).await;
    assert_eq!(live(&mut client, 3, 2).await.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(live(&mut client, 3, 0).await.unwrap_err().kind(), ErrorKind::Config);
    Day { sales_orders: 200, ..Day::new(3, 1) }.live(&mut client).await.unwrap();
    assert_eq!(live(&mut client, 3, 1).await.unwrap_err().kind(), ErrorKind::Config);
    let scale = History { seed: 1, scale: f64::NAN }.fill(&mut client).await;
    assert_eq!(scale.unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn an_open_transaction_is_older_than_what_is_committed_before_it() {
    let (database, mut client) = totesys(5, 0.05).await;
    let cluster = shared().unwrap();
    let open = OpenTransaction::begin(cluster.connect(&database).await.unwrap(), 5, 1).await.unwrap();
    let new = format!("select from sales_order where sales_order_id = {}", open.inserted_order);
    let old = format!("select last_updated::text from sales_order where sales_order_id = {}", open.updated_order);
    let before: String = client.query_one(&old, &[]).await.unwrap().get(0);
    live(&mut client, 5, 1).await.unwrap();
    assert_eq!(count(&client, &new).await, 0);
    let newest: String = client.query_one("select max(last_updated)::text from sales_order", &[]).await.unwrap().get(0);
    open.commit().await.unwrap();
    assert_eq!(count(&client, &new).await, 1);
    let after: String = client.query_one(&old, &[]).await.unwrap().get(0);
    assert!(before < after && after < newest, "{before} {after} {newest}");

    let open = OpenTransaction::begin(cluster.connect(&database).await.unwrap(), 5, 2).await.unwrap();
    let new = format!("select from sales_order where sales_order_id = {}", open.inserted_order);
    open.rollback().await.unwrap();
    assert_eq!(count(&client, &new).await, 0);
}

#[tokio::test]
async fn the_roles_can_do_their_work_and_no_more() {
    let (database, client) = totesys(2, 0.01).await;
    let cluster = shared().unwrap();
    let connect = async |database: &str, role: &str| {
        let (client, connection) = tokio_postgres::connect(&cluster.url(database, role), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    };
    for password in ["first", "it's $$ another"] {
        create_reader(&client, "reader of \"it\"", password).await.unwrap();
    }
    let reader = connect(&database, "reader of \"it\"").await;
    for (table, key) in SOURCE_TABLES {
        reader.query(&format!("select {key}, xmin::text from \"{table}\" limit 1"), &[]).await.unwrap();
    }
    reader.batch_execute("set default_transaction_read_only = off").await.unwrap();
    assert!(reader.batch_execute("delete from payment").await.is_err());

    let warehouse = cluster.fresh_database("warehouse").await.unwrap();
    let owner = cluster.connect(&warehouse).await.unwrap();
    create_warehouse(&owner).await.unwrap();
    create_loader(&owner, "loader_it", "secret").await.unwrap();
    let loader = connect(&warehouse, "loader_it").await;
    loader
        .batch_execute(
            "insert into dim_design values (1, 'a', 'b', 'c'); create schema starlift; create temp table t ()",
        )
        .await
        .unwrap();
    loader.batch_execute("create index on fact_payment (payment_id); create view v as select 1").await.unwrap();
}
