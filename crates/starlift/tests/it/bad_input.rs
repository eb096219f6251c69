//! Bad input: a clear error with a hint, nothing committed by that stage, and nothing lost once it is mended.
//!
//! docs/bad-input.md has a table of 47 of them; each has a test here that begins with `bad_input_` and its number, but for
//! those that take the program (27, 46, 47, with the command's tests) or TLS (33, with PostgreSQL's).

mod document;
mod numbers;
mod outside;
mod shapes;
mod sources;
mod star;
mod stores;
mod texts;

use starlift::LoadRequest;
use starlift::config::{Config, Environment, Overrides, Project};
use starlift_core::{Error, ErrorKind};

use crate::world::{World, files_below};

fn manifests(files: Vec<String>) -> usize {
    files.iter().filter(|f| f.starts_with("_manifests/")).count()
}

fn says(error: &Error, kind: ErrorKind, words: &[&str]) {
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.hint().is_some(), "no hint: {error:?}");
    let text = error.render();
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

async fn ingest_fails(world: &World, kind: ErrorKind, words: &[&str]) {
    let before = manifests(files_below(&world.lake()));
    let error = starlift::ingest(&world.context(), None).await.unwrap_err();
    says(&error, kind, words);
    assert_eq!(manifests(files_below(&world.lake())), before, "nothing is committed");
}

async fn transform_fails(world: &World, kind: ErrorKind, words: &[&str]) {
    let before = manifests(files_below(&world.star()));
    let error = starlift::transform(&world.context(), None).await.unwrap_err();
    says(&error, kind, words);
    assert_eq!(manifests(files_below(&world.star())), before, "nothing is committed");
}

async fn load_fails(world: &World, kind: ErrorKind, words: &[&str]) -> Error {
    let error = starlift::load(&world.context(), &LoadRequest::default()).await.unwrap_err();
    says(&error, kind, words);
    error
}

#[test]
fn a_project_without_config_or_with_an_unknown_key_is_refused_with_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let read = || Config::read(dir.path(), Environment::default(), Overrides::default());
    says(&read().unwrap_err(), ErrorKind::Config, &["starlift.toml", "--project"]);
    std::fs::write(
        dir.path().join("starlift.toml"),
        "[pipeline]\nname = \"p\"\n[sorce]\nurl = \"postgres://u:hunter2@h/d\"\n",
    )
    .unwrap();
    let error = read().unwrap_err();
    says(&error, ErrorKind::Config, &["sorce", "line"]);
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_and_missing_servers_are_told_apart() {
    let world = World::new().await;
    let context = |url: &str| {
        world
            .try_context(Overrides { source_url: Some(url.into()), ..world.overrides() }, Environment::default())
            .unwrap()
    };
    let error = starlift::ingest(&context("postgres://u:hunter2@127.0.0.1:1/d"), None).await.unwrap_err();
    says(&error, ErrorKind::Unavailable, &["127.0.0.1:1"]);
    assert!(!format!("{error:?}").contains("hunter2"));
    let nobody = world.cluster.url(&world.source, "no_such_role");
    let error = starlift::ingest(&context(&nobody), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission, "{error:?}");
    let error = starlift::ingest(&context(&world.cluster.superuser_url("no_such_database")), None).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Config | ErrorKind::Permission), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_grant_names_the_table_and_the_statement() {
    let world = World::new().await;
    world.change(&format!("revoke select on payment, staff from {}_reader", world.source)).await;
    ingest_fails(&world, ErrorKind::Permission, &["payment", "staff", "grant select"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_tables_and_malformed_events_are_refused() {
    let world = World::new().await;
    let ingest = async |event: &[u8]| starlift::ingest(&world.context(), Some(event)).await.unwrap_err();
    says(
        &ingest(br#"{"tables_to_query": ["adress"]}"#).await,
        ErrorKind::Config,
        &["adress", "did you mean `address`"],
    );
    says(&ingest(br#"{"tables": []}"#).await, ErrorKind::Config, &["event"]);
    says(&ingest(b"{").await, ErrorKind::Config, &["event"]);
    says(&ingest(&vec![b' '; 300_000]).await, ErrorKind::Config, &["262144"]);
    world.ingest().await;
    let transform = async |event: &[u8]| starlift::transform(&world.context(), Some(event)).await.unwrap_err();
    says(&transform(br#"{"address": "address/../../etc/passwd"}"#).await, ErrorKind::Config, &["address"]);
    says(
        &transform(br#"{"address": "address/2020/01/01/000000000000.parquet"}"#).await,
        ErrorKind::Config,
        &["no manifest names"],
    );
    assert_eq!(manifests(files_below(&world.star())), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_cannot_be_used_is_named() {
    let world = World::new().await.with_own_project();
    world.ingest().await;
    let write = |name: &str, text: &str| {
        std::fs::write(world.project.join("models").join(format!("{name}.sql")), text).unwrap()
    };
    let read_fails = |words: &[&str]| match Project::read(&world.project) {
        Ok(_) => panic!("the project was read"),
        Err(error) => says(&error, ErrorKind::Config, words),
    };
    write("broken", "-- kind: fact\n-- key: a\nselect a frm address x y");
    read_fails(&["broken"]);
    write("broken", "-- kind: fakt\n-- key: a\nselect 1 as a");
    read_fails(&["broken", "fakt"]);
    write("broken", "-- kind: fact\n-- key: a\n-- colour: blue\nselect 1 as a");
    read_fails(&["broken", "colour"]);
    write("broken", "-- kind: fact\n-- key: a\nselect a from circle");
    write("circle", "-- kind: fact\n-- key: a\nselect a from broken");
    read_fails(&["broken", "circle"]);
    std::fs::remove_file(world.project.join("models/circle.sql")).unwrap();
    write("broken", "-- kind: fact\n-- key: a\nselect address_id as a from adress");
    transform_fails(&world, ErrorKind::Config, &["broken", "adress", "did you mean `address`"]).await;
    write("broken", "-- kind: fact\n-- key: a\nselect no_such_column as a from address");
    transform_fails(&world, ErrorKind::Config, &["broken", "no_such_column"]).await;
    write(
        "broken",
        "-- kind: fact\n-- key: country\nselect country from address union all select country from address",
    );
    transform_fails(&world, ErrorKind::Data, &["broken", "country="]).await;
    write("broken", "-- kind: fact\n-- key: a\nselect address_id as a, now() as t from address");
    transform_fails(&world, ErrorKind::Config, &["broken", "now"]).await;
    std::fs::remove_file(world.project.join("models/broken.sql")).unwrap();
    world.transform().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_no_date_stops_transform_with_its_key_until_the_source_is_mended() {
    let world = World::new().await;
    world.create_warehouse().await;
    world.run().await;
    world.change("update sales_order set agreed_delivery_date = '31/12/2024' where sales_order_id = 4").await;
    world.ingest().await;
    transform_fails(&world, ErrorKind::Data, &["fact_sales_order", "agreed_delivery_date", "sales_order_id=4"]).await;
    let error = starlift::transform(&world.context(), None).await.unwrap_err();
    assert!(!format!("{error:?}").contains("31/12/2024"), "no row value in an error");
    world.change("update sales_order set agreed_delivery_date = '2024-12-31' where sales_order_id = 4").await;
    world.run().await;
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_that_the_warehouse_would_round_stops_load_with_its_key_until_the_source_is_mended() {
    let world = World::new().await;
    world.create_warehouse().await;
    world.run().await;
    world.change("update sales_order set unit_price = 3.456 where sales_order_id = 4").await;
    world.ingest().await;
    world.transform().await;
    let before = world.count_in_warehouse("select count(*) from fact_sales_order").await;
    let error = load_fails(&world, ErrorKind::Data, &["fact_sales_order", "unit_price", "sales_order_id=4"]).await;
    assert!(!format!("{error:?}").contains("3.456"), "no row value in an error");
    assert_eq!(world.count_in_warehouse("select count(*) from fact_sales_order").await, before);
    world.change("update sales_order set unit_price = 3.45 where sales_order_id = 4").await;
    // The manifest with the bad price stays; load looks ahead and passes its row over.
    world.run().await;
    world.assert_star_equals_source().await;
    assert_eq!(world.count_in_warehouse("select count(*) from starlift.ledger").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_is_none_is_refused_by_ingest() {
    let world = World::new().await;
    world.ingest().await;
    world.change("update payment set payment_amount = 'NaN' where payment_id = 2").await;
    ingest_fails(&world, ErrorKind::Data, &["payment", "payment_amount", "payment_id=2"]).await;
    world.change("update payment set payment_amount = 1.00000000001 where payment_id = 2").await;
    ingest_fails(&world, ErrorKind::Data, &["payment_amount", "payment_id=2"]).await;
    world.change("update payment set payment_amount = 1 where payment_id = 2").await;
    world.create_warehouse().await;
    world.run().await;
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_is_not_carried_is_refused_by_name_and_can_be_read_as_text() {
    let world = World::new().await.with_own_project();
    world.change("alter table design add column weight regclass").await;
    ingest_fails(&world, ErrorKind::Unsupported, &["design", "weight", "regclass", "as = \"text\""]).await;
    let config = world.project.join("starlift.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\n[source.tables.design]\ncolumns.weight = {{ as = \"text\" }}\n")).unwrap();
    world.create_warehouse().await;
    world.run().await;
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_or_column_of_the_warehouse_is_named_with_what_mends_it() {
    let world = World::new().await;
    world.ingest().await;
    world.transform().await;
    load_fails(&world, ErrorKind::Config, &["starlift warehouse create"]).await;
    world.create_warehouse().await;
    world.warehouse_client().await.batch_execute("alter table dim_design drop column file_name cascade").await.unwrap();
    load_fails(&world, ErrorKind::Config, &["dim_design", "file_name", "alter table"]).await;
    world.warehouse_client().await.batch_execute("alter table dim_design add column file_name varchar").await.unwrap();
    world.load().await;
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_and_manifests_are_refused_and_work_again_when_put_back() {
    let world = World::new().await;
    world.create_warehouse().await;
    world.ingest().await;
    let files = files_below(&world.lake());
    let victim = |start: &str| world.lake().join(files.iter().find(|f| f.starts_with(start)).unwrap());
    for path in [victim("sales_order/"), victim("_manifests/")] {
        let good = std::fs::read(&path).unwrap();
        let mut flipped = good.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        for bad in [&good[..good.len() - 3], &flipped, b""] {
            std::fs::write(&path, bad).unwrap();
            transform_fails(&world, ErrorKind::Data, &[]).await;
        }
        std::fs::write(&path, &good).unwrap();
    }
    let path = victim("sales_order/");
    let good = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    transform_fails(&world, ErrorKind::Data, &["sales_order"]).await;
    std::fs::write(&path, good).unwrap();
    world.run().await;
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_that_cannot_be_written_is_named() {
    let world = World::new().await;
    std::fs::write(world.lake(), "a file where the folder should be").unwrap();
    let error = starlift::ingest(&world.context(), None).await.unwrap_err();
    assert!(error.render().contains("ingest"), "{error:?}");
    assert!(error.hint().is_some(), "{error:?}");
    assert!(matches!(error.kind(), ErrorKind::Config | ErrorKind::Permission | ErrorKind::Unavailable), "{error:?}");
}
