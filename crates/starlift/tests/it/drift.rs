//! The source changes its shape: what is said, what is stopped, and that nothing needs a reset.

use starlift::Outcome;
use starlift::doctor::{Verdict, doctor};
use starlift_core::{Error, ErrorKind};

use crate::world::{World, files_below, of};

impl World {
    /// A project of its own that stops where its source changes.
    async fn that_stops() -> World {
        let world = World::new().await.with_own_project();
        let path = world.project.join("starlift.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("[source]\n", "[source]\ndrift = \"fail\"\n")).unwrap();
        world
    }

    fn follow(&self) {
        let path = self.project.join("starlift.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("drift = \"fail\"", "drift = \"evolve\"")).unwrap();
    }

    /// Ingest stops, and the lake is as it was.
    async fn stopped(&self) -> Error {
        let before = files_below(&self.lake());
        let error = starlift::ingest(&self.context(), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{}", error.render());
        assert_eq!(files_below(&self.lake()), before);
        error
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_that_stops_names_what_changed_and_what_it_hits_before_anything_is_written() {
    let world = World::that_stops().await;
    world.ingest().await;
    for (change, said) in [
        (
            "alter table payment rename payment_amount to amount",
            "column `payment_amount` became `amount` -> fact_payment.payment_amount",
        ),
        (
            "alter table currency alter currency_code type varchar(9)",
            "column `currency_code` was `character varying(3)` and is `character varying(9)` -> dim_currency.currency_code",
        ),
        (
            "begin; alter table staff rename first_name to x; alter table staff rename last_name to first_name; \
             alter table staff rename x to last_name; commit",
            "column `first_name` became `last_name` -> dim_staff.first_name",
        ),
        ("alter table staff drop column email_address", "column `email_address` is gone -> dim_staff.email_address"),
        ("alter table design add column colour text default 'red'", "column `colour` is new -> no model"),
        (
            "alter table address drop constraint address_pkey cascade",
            "the key was (address_id) and is none -> dim_counterparty, dim_location",
        ),
        (
            "create table shelf (shelf_id int primary key); grant select on shelf to public",
            "the table is new -> no model",
        ),
    ] {
        let before = world.stopped_or_not().await;
        world.change(change).await;
        let error = world.stopped().await;
        let detail = error.detail().unwrap_or_default().to_string();
        assert!(detail.contains(said), "{change}: {detail}");
        assert!(error.hint().unwrap().contains("drift = \"evolve\""));
        assert!(!before.contains(said));
    }
}

impl World {
    /// What stops ingest now; nothing where it would go.
    async fn stopped_or_not(&self) -> String {
        match starlift::ingest(&self.context(), None).await {
            Ok(_) => String::new(),
            Err(error) => error.detail().unwrap_or_default().to_string(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_that_follows_reads_the_changed_table_again_and_nothing_else() {
    let world = World::that_stops().await;
    world.create_warehouse().await;
    world.run().await;
    world
        .change(
            "alter table design add column colour text default 'red'; alter table design rename file_location to place",
        )
        .await;
    world.stopped().await;
    world.follow();
    let plan = starlift::plan::plan(&world.context()).await.unwrap();
    assert!(
        plan.notes
            .iter()
            .any(|note| note.contains("design: column `file_location` became `place` -> dim_design.file_location")),
        "{:?}",
        plan.notes
    );
    let report = world.ingest().await;
    assert_eq!(report.outcome, Outcome::Committed);
    assert_eq!(report.result.keys().collect::<Vec<_>>(), ["design"], "no other table is read again");
    assert!(of(&report, "design").rows_written > 0);
    // The model still names the old column: it says so, and nothing is lost when it is mended.
    let error = starlift::transform(&world.context(), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.render().contains("file_location"), "{}", error.render());
    let model = world.project.join("models/dim_design.sql");
    let sql = std::fs::read_to_string(&model).unwrap();
    std::fs::write(&model, sql.replace("    file_location,", "    place as file_location,")).unwrap();
    world.run().await;
    let verified = starlift::verify::verify(&world.context(), &Default::default()).await.unwrap();
    assert!(verified.equal());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_cannot_be_planned_is_let_pass_only_where_a_table_that_it_reads_has_changed() {
    let world = World::new().await.with_own_project();
    world.create_warehouse().await;
    world.run().await;
    let path = world.project.join("models/dim_design.sql");
    let sql = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, sql.replace("    file_location,", "    place as file_location,")).unwrap();
    let models = async || {
        let checks = doctor(&world.context()).await;
        let check = checks.iter().find(|check| check.name == "models").unwrap();
        let plan = starlift::plan::plan(&world.context()).await.unwrap();
        (check.verdict, plan.notes.iter().any(|note| note.starts_with("transform would stop: ")))
    };
    assert_eq!(models().await, (Verdict::Fail, true));
    world.change("alter table payment add column remark text").await;
    assert_eq!(models().await, (Verdict::Fail, true), "no input of the model");
    world.change("alter table design rename file_location to place").await;
    assert_eq!(models().await, (Verdict::Warn, false));
    let settings = world.project.join("starlift.toml");
    let toml = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, format!("{toml}\n[source.tables.design]\ndrift = \"fail\"\n")).unwrap();
    assert_eq!(models().await, (Verdict::Fail, true), "no ingest brings the change");
}
