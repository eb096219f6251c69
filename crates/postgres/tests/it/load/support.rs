//! What load makes beside the tables, and what it leaves to an owner.

use starlift_core::ErrorKind;
use starlift_postgres::load::{create_support, missing_support, rehearse_support};
use tokio_postgres::NoTls;

use super::fixture::*;

const SQL: &str = "create table dim_shop (shop_id int primary key, name text);
    create table fact_sale (record_id serial primary key, sale_id int not null, shop_id int references dim_shop, \
    amount numeric)";

fn shop() -> starlift_postgres::load::ModelTable {
    dimension("dim_shop", "shop_id int4, name text")
}

fn sale() -> starlift_postgres::load::ModelTable {
    fact("fact_sale", "sale_id int4, shop_id int4, amount numeric(38,10)")
}

fn changes() -> Vec<Change> {
    vec![change(&shop(), &[&["1", "a"]]), change(&sale(), &[&["1", "1", "1"]])]
}

#[tokio::test]
async fn load_makes_what_is_missing_once() {
    let mut w = Warehouse::with(SQL).await;
    let models = [shop(), sale()];
    let missing = missing_support(&mut w.client, PIPELINE, "public", &models).await.unwrap();
    let objects: Vec<&str> = missing.iter().map(|s| s.object.as_str()).collect();
    assert_eq!(
        objects,
        [
            "schema `starlift`",
            "table `starlift.ledger`",
            "table `starlift.retracted`",
            "table `starlift.refused`",
            "index `fact_sale_version_idx`",
            "view `current_dim_shop`",
            "view `current_fact_sale`"
        ]
    );
    w.next(changes()).await.unwrap();
    assert!(missing_support(&mut w.client, PIPELINE, "public", &models).await.unwrap().is_empty());
    let before = w
        .rows("select oid, xmin from pg_class where relname ~ '^(current_|ledger|re(tract|fus)ed|fact_)' order by 1")
        .await;
    w.next(changes()).await.unwrap();
    let after = w
        .rows("select oid, xmin from pg_class where relname ~ '^(current_|ledger|re(tract|fus)ed|fact_)' order by 1")
        .await;
    assert_eq!(before, after, "a second load changes no catalog");
}

#[tokio::test]
async fn an_index_of_another_name_counts() {
    let mut w = Warehouse::with(SQL).await;
    w.execute("create index theirs on fact_sale (sale_id, record_id desc) include (amount)").await;
    w.next(changes()).await.unwrap();
    assert_eq!(w.one("select count(*) from pg_indexes where tablename = 'fact_sale'").await, "2");
    // One with a condition does not.
    let mut w = Warehouse::with(SQL).await;
    w.execute("create index theirs on fact_sale (sale_id, record_id) where amount > 0").await;
    w.next(changes()).await.unwrap();
    assert_eq!(w.one("select count(*) from pg_indexes where tablename = 'fact_sale'").await, "3");
}

#[tokio::test]
async fn a_view_follows_its_table_and_one_of_somebody_else_is_left_alone() {
    let mut w = Warehouse::with(SQL).await;
    w.next(changes()).await.unwrap();
    w.execute("alter table dim_shop add column town text default 'here'; grant select on current_dim_shop to public")
        .await;
    w.next(changes()).await.unwrap();
    assert_eq!(w.one("select * from current_dim_shop").await, "1|a|here");
    let granted = "select has_table_privilege('pg_monitor', 'current_dim_shop', 'select')";
    assert_eq!(w.one(granted).await, "t", "grants survive");

    let mut w = Warehouse::with(SQL).await;
    w.execute("create view current_dim_shop as select 1 as one").await;
    let error = w.next(changes()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(text(&error).contains("`current_dim_shop` in the warehouse is not a view of starlift"), "{}", text(&error));
    assert_eq!(w.one("select * from current_dim_shop").await, "1");
}

#[tokio::test]
async fn a_role_that_may_not_create_is_given_the_statements_for_an_owner_and_they_suffice() {
    let mut owner = Warehouse::with(SQL).await;
    let role = format!("loader_{}", owner.database);
    owner
        .execute(&format!(
            "create role \"{role}\" login; revoke temporary on database \"{}\" from public",
            owner.database
        ))
        .await;
    let url = starlift_sandbox::shared().unwrap().url(&owner.database, &role);
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let mut loader = Warehouse { client, ..owner.again().await };

    // First the grants on the tables, then what the role cannot create.
    let mut rounds = 0;
    loop {
        rounds += 1;
        assert!(rounds < 4, "the statements do not suffice");
        match loader.next(changes()).await {
            Ok(_) => break,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Permission, "{}", text(&error));
                let hint = error.hint().unwrap().to_string();
                let (_, statements) = hint.split_once('\n').expect("statements after the first line");
                if rounds == 1 {
                    for part in ["create schema starlift", "create index", "create or replace view", "grant", &role] {
                        assert!(statements.contains(part), "{part}: {statements}");
                    }
                }
                owner.execute(statements).await;
            }
        }
    }
    assert_eq!(owner.rows("select sale_id, amount from current_fact_sale").await, ["1|1"]);
    // Facts need no update.
    assert_eq!(owner.one(&format!("select has_table_privilege('{role}', 'fact_sale', 'update')")).await, "f");
    owner.seq = 1;
    let made = create_support(&mut owner.client, PIPELINE, "public", &[shop(), sale()]).await.unwrap();
    assert!(made.is_empty(), "{made:?}");
}

#[tokio::test]
async fn a_column_that_is_renamed_on_both_sides_is_renamed_in_its_view_which_keeps_grants_and_dependants() {
    let mut w = Warehouse::with(SQL).await;
    w.next(changes()).await.unwrap();
    w.execute(
        "create view by_analyst as select amount as spent from current_fact_sale; grant select on current_fact_sale to public;
         alter table fact_sale rename amount to total; alter table fact_sale add amount text",
    )
    .await;
    let total = fact("fact_sale", "sale_id int4, shop_id int4, total numeric(38,10)");
    rehearse_support(&mut w.client, PIPELINE, "public", &[shop(), total.clone()]).await.unwrap();
    w.next(vec![change(&shop(), &[]), change(&total, &[&["2", "1", "5"]])]).await.unwrap();
    assert_eq!(w.rows("select sale_id, total, amount from current_fact_sale order by 1").await, ["1|1|~", "2|5|~"]);
    assert_eq!(w.rows("select spent from by_analyst order by 1").await, ["1", "5"]);
    let granted = "select count(*) from information_schema.role_table_grants where table_name = 'current_fact_sale' and grantee = 'PUBLIC'";
    assert_eq!(w.one(granted).await, "1");

    // Two that change places.
    w.execute("alter table dim_shop rename shop_id to x; alter table dim_shop rename name to shop_id; alter table dim_shop rename x to name")
        .await;
    let shop = dimension("dim_shop", "name int4, shop_id text");
    let sale = refers(total, "shop_id", "dim_shop");
    let head = w.head().await;
    let changes = vec![change(&shop, &[&["1", "b"]]), change(&sale, &[&["1", "1", "1"], &["2", "1", "5"]])];
    w.run(3, true, head, changes).await.unwrap();
    assert_eq!(w.rows("select name, shop_id from current_dim_shop").await, ["1|b"]);
}

#[tokio::test]
async fn a_view_that_cannot_be_replaced_is_to_be_dropped() {
    let mut w = Warehouse::with(SQL).await;
    w.next(changes()).await.unwrap();
    // The view of another table of the name.
    w.execute(
        "create schema away; alter table fact_sale set schema away;
         create table fact_sale (record_id serial primary key, sale_id text, shop_id int, amount numeric)",
    )
    .await;
    let sale = fact("fact_sale", "sale_id text, shop_id int4, amount numeric(38,10)");
    let load = || vec![change(&shop(), &[]), change(&sale, &[&["1", "1", "1"]])];
    for error in [
        w.next(load()).await.map(|_| ()).unwrap_err(),
        rehearse_support(&mut w.client, PIPELINE, "public", &[shop(), sale.clone()]).await.map(|_| ()).unwrap_err(),
    ] {
        assert!(text(&error).contains("drop view \"public\".\"current_fact_sale\""), "{}", text(&error));
    }
    w.execute("drop view current_fact_sale").await;
    w.next(load()).await.unwrap();
    assert_eq!(w.rows("select sale_id, amount from current_fact_sale").await, ["1|1"]);
}
