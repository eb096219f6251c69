//! A large first load takes foreign keys off and puts them back as they were.

use super::fixture::*;

const SQL: &str = "create table dim_shop (shop_id int primary key, name text);
    create table fact_sale (record_id serial primary key, sale_id int not null, shop_id int \
        constraint \"Odd name\" references dim_shop on delete cascade deferrable, other int references dim_shop);
    comment on constraint \"Odd name\" on fact_sale is 'kept'";
const CONSTRAINTS: &str = "select conname, pg_get_constraintdef(oid), convalidated, \
    obj_description(oid, 'pg_constraint') from pg_constraint where contype = 'f' order by 1";

fn shop() -> starlift_postgres::load::ModelTable {
    dimension("dim_shop", "shop_id int4, name text")
}

fn sale() -> starlift_postgres::load::ModelTable {
    fact("fact_sale", "sale_id int4, shop_id int4, other int4")
}

fn many() -> Vec<Change> {
    let rows = (0..200_001).map(|i| vec![i.to_string(), "1".into(), NULL.into()]).collect();
    vec![change(&shop(), &[&["1", "a"]]), Change { model: sale(), rows, gone: vec![] }]
}

#[tokio::test]
async fn they_are_the_same_afterwards() {
    let mut w = Warehouse::with(SQL).await;
    let (before, oids) = (
        w.rows(CONSTRAINTS).await,
        "select string_agg(oid::text, ',' order by conname) from \
        pg_constraint where contype = 'f'",
    );
    let first_oids = w.one(oids).await;
    let done = w.next(many()).await.unwrap();
    assert_eq!(report(&done, "fact_sale").inserted, 200_001);
    assert_eq!(w.rows(CONSTRAINTS).await, before);
    assert_ne!(w.one(oids).await, first_oids, "they were taken off");
    assert_eq!(w.one("select min(record_id) || ' ' || max(record_id) from fact_sale").await, "1 200001");
    assert!(w.client.batch_execute("insert into fact_sale (sale_id, shop_id) values (1, 99)").await.is_err());
}

#[tokio::test]
async fn a_reader_of_the_dimension_makes_the_load_take_the_plain_path() {
    let mut w = Warehouse::with(SQL).await;
    let oids = "select string_agg(oid::text, ',' order by conname) from pg_constraint where contype = 'f'";
    let before = w.one(oids).await;
    let reader = w.again().await;
    reader.execute("begin; select * from dim_shop").await;
    let done = w.next(many()).await.unwrap();
    assert_eq!(report(&done, "fact_sale").inserted, 200_001);
    assert_eq!(w.one(oids).await, before, "they were left alone");
    reader.execute("rollback").await;
}
