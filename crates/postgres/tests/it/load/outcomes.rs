//! Loads that fail in odd moments: during COPY, during COMMIT.

use std::time::Duration;

use futures::StreamExt;
use starlift_core::ErrorKind;
use starlift_postgres::load::{self, LoadLimits, LoadOutcome, LoadRun, ModelLoad};

use super::fixture::*;

const SQL: &str = "create table fact_sale (record_id serial primary key, sale_id int not null, amount numeric)";
/// Runs at COMMIT, after everything else.
const AT_COMMIT: &str = "create constraint trigger at_commit after insert on fact_sale deferrable initially deferred \
    for each row execute function at_commit()";

fn sale() -> load::ModelTable {
    fact("fact_sale", "sale_id int4, amount numeric(38,10)")
}

fn changes() -> Vec<Change> {
    vec![change(&sale(), &[&["1", "1"]])]
}

#[tokio::test]
async fn a_session_that_is_ended_during_commit_has_an_unknown_outcome_and_the_ledger_answers() {
    let mut w = Warehouse::with(SQL).await;
    w.execute("create function at_commit() returns trigger language plpgsql as $$ begin perform pg_sleep(30); return new; end $$")
        .await;
    w.execute(AT_COMMIT).await;
    let other = w.again().await;
    let pid = w.one("select pg_backend_pid()").await;
    let ending = tokio::spawn(async move {
        let waits = format!("select count(*) from pg_stat_activity where pid = {pid} and wait_event = 'PgSleep'");
        while other.one(&waits).await == "0" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        other.execute(&format!("select pg_terminate_backend({pid})")).await;
        other
    });
    let outcome = w.run(1, true, None, changes()).await.unwrap();
    let LoadOutcome::Unknown { error, report: done } = outcome else { panic!("{outcome:?}") };
    assert_eq!((error.kind(), report(&done, "fact_sale").inserted), (ErrorKind::Unavailable, 1));
    let other = ending.await.unwrap();
    let mut again = other.again().await;
    assert_eq!(again.head().await, None, "it was not committed");
    again.execute("drop trigger at_commit on fact_sale").await;
    again.next(changes()).await.unwrap();
    assert_eq!(again.one("select count(*) from fact_sale").await, "1");
}

#[tokio::test]
async fn a_commit_that_the_server_refuses_is_an_error_without_row_values() {
    let mut w = Warehouse::with(SQL).await;
    w.execute(
        "create function at_commit() returns trigger language plpgsql as $$ begin raise 'row %', new.amount; end $$",
    )
    .await;
    w.execute(AT_COMMIT).await;
    let error = w.run(1, true, None, vec![change(&sale(), &[&["1", "4711"]])]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(!format!("{error:?}").contains("4711"), "{error:?}");
    assert_eq!(w.one("select count(*) from fact_sale").await, "0");
}

#[tokio::test]
async fn a_statement_that_takes_too_long_while_rows_are_read_is_to_be_tried_again() {
    let mut w = Warehouse::with(SQL).await;
    let columns = sale().schema.columns;
    let batches = futures::stream::iter(0..8).then(move |i| {
        let columns = columns.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(150)).await;
            let rows: Vec<Vec<String>> = (0..40_000).map(|j| vec![(i * 40_000 + j).to_string(), "1".into()]).collect();
            Ok(batch(&columns, &rows))
        }
    });
    let model = ModelLoad {
        model: sale(),
        upserts: Box::pin(batches),
        retractions: load::nothing_later("fact_sale"),
        again: None,
        ahead: None,
    };
    let limits = LoadLimits { statement_timeout: Duration::from_millis(300), ..LoadLimits::default() };
    let run = LoadRun { limits, ..w.a_run(1, true, None) };
    let error = load::load(&mut w.client, &run, vec![model], &load::nothing_later).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(text(&error).contains("statement timeout"), "the server's own reason is told: {error:?}");
    assert!(!w.client.is_closed());
    w.next(changes()).await.unwrap();
}

#[tokio::test]
async fn a_check_of_the_warehouse_that_fails_names_the_constraint_and_no_value() {
    let mut w = Warehouse::with(
        "create domain price as numeric constraint positive check (value > 0);
         create table fact_sale (record_id serial primary key, sale_id int not null, amount price)",
    )
    .await;
    let error = w.run(1, true, None, vec![change(&sale(), &[&["1", "-4711"]])]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    let said = format!("{error:?}");
    assert!(said.contains("positive") && !said.contains("4711"), "{said}");
}
