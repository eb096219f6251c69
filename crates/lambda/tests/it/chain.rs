//! The three functions one after the other: what they bring is what the command line brings.

use std::time::Duration;

use serde_json::{Value, json};
use starlift::Context;
use tokio_postgres::Client;

use crate::function::alarms;
use crate::lab::{Lab, assert_no_secret};
use crate::runtime::Answer;

const STAR: [&str; 11] = [
    "dim_counterparty",
    "dim_currency",
    "dim_date",
    "dim_design",
    "dim_location",
    "dim_payment_type",
    "dim_staff",
    "dim_transaction",
    "fact_payment",
    "fact_purchase_order",
    "fact_sales_order",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_functions_bring_what_the_command_line_brings_and_a_second_round_writes_no_file() {
    let lab = Lab::of_scale(0.02).await;
    let (mut ingest, mut transform, mut load) =
        (lab.function("ingest").await, lab.function("transform").await, lab.function("load").await);

    let brought = ingest.result("one", r#"{"tables_to_query": []}"#).await;
    assert!(brought["sales_order"].as_str().unwrap().starts_with("sales_order/2"), "{brought}");
    let star = transform.result("one", &brought.to_string()).await;
    assert!(star["fact_sales_order"].is_string() && star["dim_date"].is_string(), "{star}");
    assert_eq!(load.result("one", &star.to_string()).await, Value::Null);
    lab.assert_star_equals_source(&lab.warehouse).await;

    // One line for each table or model, and none that would wake anybody.
    for (function, name) in [(&mut ingest, "sales_order"), (&mut transform, "dim_staff"), (&mut load, "dim_staff")] {
        let lines = function.said().await;
        assert_no_secret(&lines.join("\n"));
        assert!(!lines.iter().any(|line| alarms(line)), "{lines:#?}");
        let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of_table: Vec<&Value> =
            lines.iter().filter(|line| line["table"] == name && line["level"] == "INFO").collect();
        assert_eq!(of_table.len(), 1, "{lines:#?}");
        let line = of_table[0];
        assert_eq!((&line["run_id"], &line["request_id"]), (&json!("one"), &json!("request-1")), "{line}");
        assert_eq!(line["cold_start"], true, "{line}");
        assert!(line["function"].as_str().unwrap().starts_with("totesys-"), "{line}");
    }

    // The same stages as the command line runs them, into places of their own.
    let other = lab.cluster.fresh_database("other").await.unwrap();
    let by_hand = lab.context("other/", &other).await;
    starlift::warehouse::create(&by_hand).await.unwrap();
    let report = starlift::run(&by_hand.for_run("one".into())).await;
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    let (ours, theirs) =
        (lab.cluster.connect(&lab.warehouse).await.unwrap(), lab.cluster.connect(&other).await.unwrap());
    for table in STAR {
        assert_eq!(rows(&ours, table).await, rows(&theirs, table).await, "{table}");
    }
    let by_function = lab.context("", &lab.warehouse).await;
    let mut differences = Vec::new();
    compare("", &manifests(&by_function).await.into(), &manifests(&by_hand).await.into(), &mut differences);
    assert!(differences.is_empty(), "{}", differences.join("\n"));

    // Nothing is new: nothing is written, one warning says so, and `{}` is an event like any other.
    let before = files(&by_function).await;
    assert_eq!(ingest.result("two", "{}").await, json!({}));
    assert_eq!(transform.result("two", "{}").await, json!({}));
    assert_eq!(load.result("two", "{}").await, Value::Null);
    assert_eq!(files(&by_function).await, before);
    let warnings: Vec<Value> = ingest.said().await.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let warnings: Vec<&Value> = warnings.iter().filter(|line| line["level"] == "WARNING").collect();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0]["message"].as_str().unwrap().contains("sales_order"), "{warnings:#?}");
    assert_eq!(warnings[0]["cold_start"], false);

    // A change arrives; load takes the `null` of another load, too.
    lab.change("update sales_order set units_sold = units_sold + 7 where sales_order_id = 1").await;
    let brought = ingest.result("three", "{}").await;
    assert_eq!(brought.as_object().unwrap().keys().collect::<Vec<_>>(), ["sales_order"], "{brought}");
    transform.result("three", &brought.to_string()).await;
    assert_eq!(load.result("three", "null").await, Value::Null);
    lab.assert_star_equals_source(&lab.warehouse).await;
    println!("peak MiB: ingest {}, transform {}, load {}", ingest.peak_mib(), transform.peak_mib(), load.peak_mib());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invocation_that_is_tried_again_is_the_same_run() {
    let lab = Lab::new().await;
    let mut ingest = lab.function("ingest").await;
    let first = ingest.result("the-execution", "{}").await;
    lab.change("update staff set first_name = first_name || 'x'").await;
    // Also by another process, as after a crash.
    assert_eq!(ingest.result("the-execution", "{}").await, first);
    let mut other = lab.function("ingest").await;
    assert_eq!(other.result("the-execution", "{}").await, first);
    let context = lab.context("", &lab.warehouse).await;
    assert_eq!(context.lake().unwrap().list("_manifests", 9).await.unwrap().len(), 1);
    // Without an id each request is a run of its own.
    let answer = ingest.invoke_with(Value::Null, "{}", Duration::from_secs(60)).await;
    assert!(matches!(&answer, Answer::Result(result) if result.get("staff").is_some()), "{answer:?}");
    assert_eq!(context.lake().unwrap().list("_manifests", 9).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_executions_at_once_lose_and_double_nothing() {
    let lab = Lab::new().await;
    let mut functions = [lab.function("ingest").await, lab.function("ingest").await];
    let [one, two] = &mut functions;
    tokio::join!(one.result("one", "{}"), two.result("two", "{}"));
    let mut functions = [lab.function("transform").await, lab.function("transform").await];
    let [one, two] = &mut functions;
    tokio::join!(one.result("one", "{}"), two.result("two", "{}"));
    let mut functions = [lab.function("load").await, lab.function("load").await];
    let [one, two] = &mut functions;
    tokio::join!(one.result("one", "{}"), two.result("two", "{}"));
    lab.assert_star_equals_source(&lab.warehouse).await;
    let warehouse = lab.cluster.connect(&lab.warehouse).await.unwrap();
    let doubled =
        "select count(*) from (select payment_id from fact_payment group by payment_id having count(*) > 1) as d";
    assert_eq!(warehouse.query_one(doubled, &[]).await.unwrap().get::<_, i64>(0), 0);
}

/// The rows of a table as texts, sorted; record ids included.
async fn rows(client: &Client, table: &str) -> Vec<String> {
    let rows = client.query(&format!("select t::text from {table} as t order by 1"), &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn files(context: &Context) -> Vec<String> {
    let mut files = Vec::new();
    for store in [context.lake().unwrap(), context.star().unwrap()] {
        files.extend(store.list("", 10_000).await.unwrap().into_iter().filter(|key| !key.starts_with('_')));
    }
    files
}

/// Every manifest of lake and star, without what is another one each time: ids, times and positions of the source.
async fn manifests(context: &Context) -> Vec<Value> {
    let mut manifests = Vec::new();
    for store in [context.lake().unwrap(), context.star().unwrap()] {
        for key in store.list("_manifests", 100).await.unwrap() {
            let mut manifest: Value = serde_json::from_slice(&store.get(&key).await.unwrap().unwrap()).unwrap();
            mask(&mut manifest);
            manifests.push(manifest);
        }
    }
    manifests
}

/// Every place where two documents differ.
fn compare(place: &str, one: &Value, other: &Value, differences: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) if one.keys().eq(other.keys()) => {
            for (name, value) in one {
                compare(&format!("{place}.{name}"), value, &other[name], differences);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (i, (one, other)) in one.iter().zip(other).enumerate() {
                compare(&format!("{place}[{i}]"), one, other, differences);
            }
        }
        _ if one == other => {}
        _ => differences.push(format!("{place}: {one} and {other}")),
    }
}

fn mask(value: &mut Value) {
    const MASKED: [&str; 16] = [
        "id",
        "lake_id",
        "write_id",
        "previous_sha256",
        "upto_sha256",
        "at",
        "started",
        "finished",
        "checksum",
        "key",
        "millis",
        "source",
        "capture",
        "sha256",
        "bytes",
        "bytes_read",
    ];
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let is_key = value.as_str().is_some_and(|text| text.ends_with(".parquet"));
                if MASKED.contains(&name.as_str()) || is_key {
                    *value = "…".into();
                } else {
                    mask(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        _ => {}
    }
}
