//! Passwords that are wrong, and passwords that are rotated between two runs.

use serde_json::Value;

use crate::lab::{CANARIES, Lab, assert_no_secret};

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
    let port = lab.cluster.port();
    let text = serde_json::json!({ "user": other, "password": CANARIES[2], "host": "127.0.0.1", "database": lab.source, "port": port });
    lab.server.put_secret(crate::lab::SOURCE_SECRET, &text.to_string()).await.unwrap();
    ingest.result("two", "{}").await;
}
