//! The roles of `doctor --grants` can do their work, and each of their rights is needed: without it a run says which one
//! is missing.

use starlift::config::{Environment, Overrides};
use starlift::grants::{Grants, LOADER, READER, grants};
use starlift::{Context, LoadRequest};
use starlift_core::{Error, ErrorKind};
use tokio_postgres::Client;

use crate::world::World;

/// Roles belong to the cluster, which other tests share: these have names of their own.
struct Roles {
    world: World,
    reader: String,
    loader: String,
    grants: Grants,
}

impl Roles {
    /// Databases in which nobody but their owner may do anything, and the two roles.
    async fn new() -> Roles {
        Roles::of("select 1").await
    }

    /// The same, once `sql` has run in the warehouse.
    async fn of(sql: &str) -> Roles {
        let world = World::new().await;
        // What load needs beside the tables is made where the columns are known.
        world.ingest().await;
        world.create_warehouse().await;
        world.warehouse_client().await.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        let (reader, loader) = (format!("{}_{READER}", world.source), format!("{}_{LOADER}", world.warehouse));
        let named = |statements: Vec<String>| -> Vec<String> {
            statements.iter().map(|sql| sql.replace(READER, &reader).replace(LOADER, &loader)).collect()
        };
        let Grants { source, warehouse } = grants(&world.context()).await;
        let grants = Grants { source: named(source), warehouse: named(warehouse) };
        for (client, statements) in
            [(world.source_client().await, &grants.source), (world.warehouse_client().await, &grants.warehouse)]
        {
            let closed =
                "do $$ begin execute format('revoke all on database %I from public', current_database()); end $$;
                          revoke all on schema public from public";
            client.batch_execute(closed).await.unwrap();
            for statement in statements {
                client.batch_execute(statement).await.unwrap_or_else(|e| panic!("{statement}: {e:?}"));
            }
        }
        Roles { world, reader, loader, grants }
    }

    fn context(&self) -> Context {
        let cluster = self.world.cluster;
        let overrides = Overrides {
            source_url: Some(cluster.url(&self.world.source, &self.reader)),
            warehouse_url: Some(cluster.url(&self.world.warehouse, &self.loader)),
            ..self.world.overrides()
        };
        self.world.try_context(overrides, Environment::default()).unwrap()
    }

    /// Something for every kind of table, as far as the star.
    async fn change(&self, number: usize) {
        let sql = format!(
            "update design set file_name = 'changed {number}' where design_id = 1;
             update sales_order set units_sold = units_sold + 1 where sales_order_id = 1"
        );
        self.world.change(&sql).await;
        starlift::ingest(&self.context(), None).await.unwrap();
        starlift::transform(&self.context(), None).await.unwrap();
    }
}

/// What takes a grant back; none for statements that are no grants.
fn revoked(statement: &str) -> Option<String> {
    let at = statement.find("grant ")?;
    let (before, grant) = statement.split_at(at);
    Some(format!("{before}{}", grant.replacen("grant ", "revoke ", 1).replacen(" to ", " from ", 1)))
}

/// Without the right the work fails with a word of what is missing, and with it it goes on.
async fn each_is_needed(owner: &Client, statements: &[String], work: impl AsyncFn(usize) -> Result<(), Error>) {
    let mut tried = 0;
    for (number, statement) in statements.iter().enumerate() {
        let Some(revoke) = revoked(statement) else { continue };
        owner.batch_execute(&revoke).await.unwrap_or_else(|e| panic!("{revoke}: {e:?}"));
        let error = work(number).await.err().unwrap_or_else(|| panic!("it is not needed: {statement}"));
        assert_eq!(error.kind(), ErrorKind::Permission, "{statement}: {}", error.render());
        assert!(error.hint().is_some_and(|hint| hint.contains("grant")), "{statement}: {}", error.render());
        owner.batch_execute(statement).await.unwrap();
        tried += 1;
    }
    assert!(tried >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reader_can_read_and_needs_each_of_its_rights() {
    let roles = Roles::new().await;
    starlift::ingest(&roles.context(), None).await.unwrap();
    let owner = roles.world.source_client().await;
    each_is_needed(&owner, &roles.grants.source, async |_| starlift::ingest(&roles.context(), None).await.map(|_| ()))
        .await;
    starlift::ingest(&roles.context(), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loader_can_load_and_needs_each_of_its_rights() {
    let roles = Roles::new().await;
    roles.change(0).await;
    let load = async || starlift::load(&roles.context(), &LoadRequest::default()).await;
    load().await.unwrap();
    let owner = roles.world.warehouse_client().await;
    each_is_needed(&owner, &roles.grants.warehouse, async |number| {
        roles.change(number + 1).await;
        load().await.map(|_| ())
    })
    .await;
    load().await.unwrap();
    roles.world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loader_of_facts_whose_record_id_is_an_identity_loads_again_and_again() {
    let roles = Roles::of(
        "alter table fact_sales_order alter sales_record_id drop default;
         drop sequence fact_sales_order_sales_record_id_seq;
         alter table fact_sales_order alter sales_record_id add generated always as identity;
         alter table fact_payment alter payment_record_id drop default;
         drop sequence fact_payment_payment_record_id_seq;
         alter table fact_payment alter payment_record_id add generated by default as identity",
    )
    .await;
    let load = async || starlift::load(&roles.context(), &LoadRequest::default()).await;
    for number in 0..2 {
        roles.change(number).await;
        load().await.unwrap_or_else(|e| panic!("load {number}: {}", e.render()));
    }
    roles.world.assert_star_equals_source().await;

    // Without the right it is asked for before anything is written.
    let owner = roles.world.warehouse_client().await;
    let sequence = "fact_sales_order_sales_record_id_seq";
    owner.batch_execute(&format!("revoke usage on sequence {sequence} from \"{}\"", roles.loader)).await.unwrap();
    roles.change(2).await;
    let error = load().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission, "{}", error.render());
    let hint = error.hint().unwrap_or_default().to_string();
    let grant = hint.lines().find(|line| line.contains("grant usage on sequence") && line.contains(sequence));
    owner.batch_execute(grant.unwrap_or_else(|| panic!("{}", error.render()))).await.unwrap();
    load().await.unwrap();
    roles.world.assert_star_equals_source().await;
}
