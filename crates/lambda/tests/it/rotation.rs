//! Secrets that are wrong, and secrets that are changed between two runs, while the process of a function lives on.

use serde_json::{Value, json};
use starlift_core::Micros;
use starlift_lambda::Side;
use starlift_sandbox::proxy::Proxy;

use crate::lab::{CANARIES, Lab, assert_no_secret, project};

impl Lab {
    async fn set_password(&self, role: &str, password: &str) {
        let client = self.cluster.connect("postgres").await.unwrap();
        client.batch_execute(&format!("alter role \"{role}\" password '{password}'")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_raises_the_alarm_without_being_said_and_the_right_one_heals() {
    let lab = Lab::new().await;
    lab.put_source_secret(CANARIES[2]).await;
    let mut ingest = lab.function("ingest").await;
    let (message, line) = ingest.fails("{}", "Starlift.Permission").await;
    assert!(message.contains("28P01"), "{message}");
    assert_eq!((&line["stage"], &line["next"]), (&"ingest".into(), &"starlift doctor".into()), "{line}");
    assert_no_secret(&format!("{message}{line}"));
    lab.put_source_secret(CANARIES[0]).await;
    assert!(ingest.result("healed", "{}").await["staff"].is_string());
    assert_no_secret(&ingest.said().await.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_rotated_between_two_runs_is_read_again_once() {
    let lab = Lab::new().await;
    let mut functions = [lab.function("ingest").await, lab.function("load").await];
    let mut transform = lab.function("transform").await;
    let [ingest, load] = &mut functions;
    ingest.result("one", "{}").await;
    transform.result("one", "{}").await;
    load.result("one", "{}").await;
    ingest.said().await;
    load.said().await;

    lab.change("update staff set first_name = 'Ada' where staff_id = 1").await;
    lab.set_password(&lab.reader, CANARIES[2]).await;
    lab.set_password(&lab.loader, CANARIES[2]).await;
    lab.put_source_secret(CANARIES[2]).await;
    lab.put_warehouse_secret(CANARIES[2]).await;
    assert!(ingest.result("two", "{}").await["staff"].is_string());
    transform.result("two", "{}").await;
    assert_eq!(load.result("two", "{}").await, Value::Null);
    lab.assert_star_equals_source(&lab.warehouse).await;
    for function in [ingest, load] {
        let said = function.said().await;
        let again = said.iter().filter(|line| line.contains("read again")).count();
        assert_eq!(again, 1, "{said:#?}");
        assert_no_secret(&said.join("\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_was_renamed_with_its_secret_is_found_again() {
    let lab = Lab::new().await;
    let mut ingest = lab.function("ingest").await;
    ingest.result("one", "{}").await;
    let other = format!("{}_b", lab.reader);
    let client = lab.source_client().await;
    client.batch_execute(&format!("alter role \"{}\" rename to \"{other}\"", lab.reader)).await.unwrap();
    client.batch_execute(&format!("alter role \"{other}\" password '{}'", CANARIES[2])).await.unwrap();
    lab.put_source(CANARIES[2], json!({ "user": other })).await;
    ingest.result("two", "{}").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_mended_in_the_secret_is_found_by_the_next_run() {
    let lab = Lab::new().await;
    lab.put_source(CANARIES[0], json!({ "port": 1 })).await;
    let mut ingest = lab.function("ingest").await;
    for _ in 0..2 {
        let (message, _) = ingest.fails("{}", "Starlift.Unavailable").await;
        assert!(message.contains("127.0.0.1:1"), "{message}");
    }
    lab.put_source_secret(CANARIES[0]).await;
    assert!(ingest.result("mended", "{}").await["staff"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_moved_is_found_by_the_same_run() {
    let lab = Lab::new().await;
    let before = Proxy::start(lab.cluster.port()).await.unwrap();
    lab.put_source(CANARIES[0], json!({ "port": before.port() })).await;
    let mut ingest = lab.function("ingest").await;
    ingest.result("one", "{}").await;
    ingest.said().await;
    drop(before);
    lab.put_source_secret(CANARIES[0]).await;
    ingest.result("two", "{}").await;
    let said = ingest.said().await;
    assert_eq!(said.iter().filter(|line| line.contains("read again")).count(), 1, "{said:#?}");
}

/// A warehouse that was moved may go on answering at its old place.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_still_works_is_read_again_after_ten_minutes() {
    let lab = Lab::new().await;
    let config = Lab::config(&project(), &lab.environment());
    let user_at = async |minute: i64| {
        let now = Micros(1_700_000_000_000_000 + minute * 60_000_000);
        config.connection(Side::Source, now).await.unwrap().user
    };
    assert_eq!(user_at(0).await, lab.reader);
    lab.put_source(CANARIES[0], json!({ "user": "moved" })).await;
    assert_eq!(user_at(9).await, lab.reader);
    assert_eq!(user_at(10).await, "moved");
    lab.put_source_secret(CANARIES[0]).await;
    assert_eq!(user_at(19).await, "moved");
    assert_eq!(user_at(5).await, lab.reader, "a clock that was set back proves nothing");
}
