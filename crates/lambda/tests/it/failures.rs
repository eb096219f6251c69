//! Everything that goes wrong has the name of its kind, one line that raises the alarm, and no secret in it; then it heals.

use std::time::Duration;

use serde_json::{Value, json};

use crate::function::Function;
use crate::lab::{BUCKET, Lab, assert_no_secret};
use crate::runtime::Answer;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_used_is_a_config_error_and_the_next_one_is_served() {
    let lab = Lab::new().await;
    let mut ingest = lab.function("ingest").await;
    let oversized = format!(r#"{{"tables_to_query": ["{}"]}}"#, "a".repeat(300_000));
    for event in [
        "[]",
        "null",
        "\"{}\"",
        r#"{"tables": ["staff"]}"#,
        r#"{"version": "2", "detail": {"tables_to_query": []}}"#,
        r#"{"tables_to_query": ["staff"], "tables_to_query": []}"#,
        r#"{"tables_to_query": ["there_is_no_such_table"]}"#,
        r#"{"tables_to_query": [7]}"#,
        &oversized,
    ] {
        let (message, line) = ingest.fails(event, "Starlift.Config").await;
        assert!(message.contains("hint: "), "{message}");
        assert_eq!(line["next"], "starlift doctor", "{line}");
    }
    assert!(ingest.result("well", "{}").await["staff"].is_string());
    let mut transform = lab.function("transform").await;
    for event in [r#"{"tables_to_query": []}"#, r#"{"a": "../../etc/passwd"}"#, "7"] {
        transform.fails(event, "Starlift.Config").await;
    }
    assert!(transform.result("well", "{}").await["dim_staff"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_id_that_is_none_is_refused() {
    let lab = Lab::new().await;
    let mut ingest = lab.function("ingest").await;
    let context = json!({ "custom": { "run_id": "two words" } });
    let answer = ingest.invoke_with(context, "{}", Duration::from_secs(60)).await;
    ingest.failed(answer, "Starlift.Config").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_missing_or_malformed_is_told_and_mended_in_the_same_process() {
    let lab = Lab::new().await;
    let environment = lab.environment_with("STARLIFT_SOURCE_CREDENTIALS", "aws-secretsmanager:not_there_yet");
    let mut ingest = Function::start("ingest", &environment).await;
    let early = ingest.said().await.join("\n");
    assert!(early.contains("not ready yet") && early.contains("WARNING"), "{early}");
    let (message, line) = ingest.fails("{}", "Starlift.Permission").await;
    assert!(message.contains("not_there_yet") && line["hint"].is_string(), "{message}");
    for (text, kind) in [
        ("canary-of-the-reader", "Starlift.Config"),
        (r#"{"user": "u", "password": "canary-of-the-reader"}"#, "Starlift.Config"),
        (r#"{"user":"u","password":"CHANGE_ME","host":"h","database":"d"}"#, "Starlift.Config"),
    ] {
        lab.server.put_secret("not_there_yet", text).await.unwrap();
        let (message, line) = ingest.fails("{}", kind).await;
        assert_no_secret(&format!("{message}{line}"));
        assert!(message.contains("not_there_yet"), "{message}");
    }
    let port = lab.cluster.port();
    let good = json!({ "user": lab.reader, "password": crate::lab::CANARIES[0], "host": "127.0.0.1", "database": lab.source, "port": port });
    lab.server.put_secret("not_there_yet", &good.to_string()).await.unwrap();
    assert!(ingest.result("healed", "{}").await["staff"].is_string());
    assert_no_secret(&ingest.said().await.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_filter_that_cannot_be_read_is_told_by_each_invocation() {
    let lab = Lab::new().await;
    let mut environment = lab.environment();
    environment.push(("STARLIFT_LOG".into(), "starlift=loud".into()));
    let mut ingest = Function::start("ingest", &environment).await;
    for _ in 0..2 {
        let (message, line) = ingest.fails("{}", "Starlift.Config").await;
        assert!(message.contains("STARLIFT_LOG") && line["hint"].is_string(), "{message} {line}");
    }
    assert!(ingest.is_alive());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_region_or_service_that_is_not_there_is_told_by_its_kind() {
    let lab = Lab::new().await;
    let cases = [
        ("STARLIFT_LAKE_INGEST", "s3://no-such-bucket/ingest".to_string(), "Starlift.Config"),
        ("STARLIFT_LAKE_INGEST", "ssm:/starlift/dev/not_there".to_string(), "Starlift.Config"),
        ("AWS_REGION", "eu west 2".to_string(), "Starlift.Config"),
        ("AWS_ENDPOINT_URL_SECRETSMANAGER", "http://127.0.0.1:1".to_string(), "Starlift.Unavailable"),
        ("AWS_ENDPOINT_URL_SECRETSMANAGER", "http://aws.example".to_string(), "Starlift.Config"),
        ("STARLIFT_PROJECT", "/there/is/no/such/folder".to_string(), "Starlift.Config"),
    ];
    for (name, value, kind) in cases {
        let mut ingest = Function::start("ingest", &lab.environment_with(name, &value)).await;
        let (message, line) = ingest.fails("{}", kind).await;
        assert_no_secret(&format!("{message}{line}"));
        assert!(ingest.is_alive(), "{name}={value}");
    }
    let context = lab.context("", &lab.warehouse).await;
    assert!(context.lake().unwrap().list("", 9).await.unwrap().is_empty(), "nothing is committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_of_the_lake_may_be_a_parameter() {
    let lab = Lab::new().await;
    lab.server
        .put_parameter("/starlift/dev/lake_ingest", &format!("s3://{BUCKET}/elsewhere/ingest"), false)
        .await
        .unwrap();
    let environment = lab.environment_with("STARLIFT_LAKE_INGEST", "ssm:/starlift/dev/lake_ingest");
    let mut ingest = Function::start("ingest", &environment).await;
    let brought = ingest.result("one", "{}").await;
    let lake = lab.context("elsewhere/", &lab.warehouse).await.lake().unwrap();
    let found = lake.get(brought["staff"].as_str().unwrap()).await.unwrap();
    assert!(found.is_some_and(|file| !file.is_empty()), "{brought}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_is_near_ends_the_stage_in_good_order_and_one_that_is_over_bounds_nothing() {
    let lab = Lab::new().await;
    let mut holder = lab.source_client().await;
    let mut ingest = lab.function("ingest").await;
    // Whoever wants the table waits for this lock.
    let held = holder.transaction().await.unwrap();
    held.batch_execute("lock table staff in access exclusive mode").await.unwrap();
    let begun = std::time::Instant::now();
    let answer = ingest.invoke_with(json!({ "custom": { "run_id": "late" } }), "{}", Duration::from_secs(8)).await;
    assert!(begun.elapsed() < Duration::from_secs(8), "it has to answer before it is killed");
    let (message, line) = ingest.failed(answer, "Starlift.Unavailable").await;
    assert!(message.contains("deadline") && line["retry"] == true, "{message} {line}");
    // The caller that tries again wakes nobody.
    let patient = json!({ "custom": { "run_id": "late", "will_retry": "true" } });
    let answer = ingest.invoke_with(patient, "{}", Duration::from_secs(4)).await;
    assert!(matches!(&answer, Answer::Error { kind, .. } if kind == "Starlift.Unavailable"), "{answer:?}");
    let lines: Vec<Value> = ingest.said().await.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["level"] == "ERROR" && line["retry"] == true), "{lines:#?}");
    assert!(lines.iter().all(|line| line["level"] != "CRITICAL"), "{lines:#?}");
    held.rollback().await.unwrap();
    let answer = ingest.invoke_with(json!({ "custom": { "run_id": "late" } }), "{}", Duration::ZERO).await;
    assert!(matches!(&answer, Answer::Result(result) if result["staff"].is_string()), "{answer:?}");
}

/// What it takes to read settings and secrets is part of the function's time, and not added to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_takes_long_leaves_the_stage_the_rest_of_the_time() {
    let lab = Lab::new().await;
    let port = late(lab.server.port(), Duration::from_secs(2)).await;
    let mut environment = lab.environment_with("STARLIFT_LAKE_INGEST", "ssm:/starlift/dev/late");
    environment.push(("AWS_ENDPOINT_URL_SSM".into(), format!("http://127.0.0.1:{port}")));
    // The parameter is not there yet, so nothing is ready before the invocation.
    let mut ingest = Function::start("ingest", &environment).await;
    lab.server.put_parameter("/starlift/dev/late", &format!("s3://{BUCKET}/late"), false).await.unwrap();
    let mut holder = lab.source_client().await;
    let held = holder.transaction().await.unwrap();
    held.batch_execute("lock table staff in access exclusive mode").await.unwrap();
    ingest.said().await;
    let begun = std::time::Instant::now();
    // Half of 8 seconds, and half of that is gone before the stage begins.
    let answer = ingest.invoke_with(json!({ "custom": { "run_id": "late" } }), "{}", Duration::from_secs(8)).await;
    let taken = begun.elapsed();
    let (message, _) = ingest.failed(answer, "Starlift.Unavailable").await;
    assert!(message.contains("ingest did not end within its deadline"), "{message}");
    assert!((Duration::from_millis(3_500)..Duration::from_millis(5_500)).contains(&taken), "{taken:?}");
}

/// A port behind which a server answers each new connection so much later.
async fn late(server: u16, by: Duration) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                tokio::time::sleep(by).await;
                let mut server = tokio::net::TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_an_internal_error_without_its_text_and_the_process_lives_on() {
    let lab = Lab::new().await;
    let environment = lab.environment_with("STARLIFT_FAULT", "ingest.claimed:panic=canary-of-the-reader");
    let mut ingest = Function::start("ingest", &environment).await;
    let (message, line) = ingest.fails("{}", "Starlift.Internal").await;
    assert_no_secret(&format!("{message}{line}"));
    assert_eq!(line["run_id"], "the-run");
    assert!(line["detail"].as_str().unwrap().contains("panicked at"), "{line}");
    assert!(ingest.is_alive());
    assert!(ingest.result("well", "{}").await["staff"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_lambda_did_not_start_says_so() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_ingest")).env_clear().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    let line: Value = serde_json::from_str(&said).unwrap();
    assert!(line["detail"].as_str().unwrap().contains("AWS_LAMBDA_RUNTIME_API"), "{line}");
    assert_eq!(line["kind"], "Config");
}
