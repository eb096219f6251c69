//! A model reads what its project registers and writes nothing: no file, no bucket, no setting, no catalogue.
//!
//! The same statements are given to an ordinary session of the engine, to show that they would reach out there.

use std::path::Path;

use datafusion::prelude::{SessionConfig, SessionContext};
use starlift_core::ErrorKind;
use starlift_core::model::Model;

use crate::support::{evaluate, failure, model, session};

const SECRET: &str = "CANARY";

/// A folder with a secret in files of several kinds.
fn outside() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("secret.csv"), format!("a,b\n1,{SECRET}\n")).unwrap();
    std::fs::write(dir.path().join("secret.json"), format!("{{\"a\": 1, \"b\": \"{SECRET}\"}}\n")).unwrap();
    std::fs::write(dir.path().join("secret.parquet"), format!("PAR1{SECRET}PAR1")).unwrap();
    dir
}

fn files(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Statements that read what no project registers; `DIR` is the folder.
const READS: &[&str] = &[
    // Files and URLs in the place of a table.
    "select * from 'DIR/secret.csv'",
    "select * from \"DIR/secret.csv\"",
    "select * from 'file://DIR/secret.csv'",
    "select * from \"file://DIR/secret.csv\"",
    "select * from 'DIR/'",
    "select * from 'DIR/*.csv'",
    "select * from 'DIR/secret.json'",
    "select * from 'DIR/secret.parquet'",
    "select * from '/etc/passwd'",
    "select * from \"/etc/passwd\"",
    "select * from 'secret.csv'",
    "select * from s3.bucket.key",
    "select * from 's3://bucket/secret.parquet'",
    "select * from \"s3://bucket/secret.csv\"",
    "select * from 'http://127.0.0.1:1/secret.csv'",
    "select * from 'https://127.0.0.1:1/secret.parquet'",
    // The same below other parts of a query.
    "select id from v union all select a from 'DIR/secret.csv'",
    "with w as (select * from 'DIR/secret.csv') select v.id from v cross join w",
    "select id, (select max(b) from 'DIR/secret.csv') as b from v",
    "select id from v where id in (select a from 'DIR/secret.csv')",
    "select v.id, w.b from v join 'DIR/secret.csv' w on w.a = v.id",
    "select v.id, w.b from v cross join lateral (select b from 'DIR/secret.csv') w",
    // Functions in the place of a table.
    "select * from read_csv('DIR/secret.csv')",
    "select * from read_parquet('DIR/secret.parquet')",
    "select * from read_json('DIR/secret.json')",
    "select * from read_text('DIR/secret.csv')",
    "select * from csv_scan('DIR/secret.csv')",
    "select * from glob('DIR/*')",
    "select * from parquet_metadata('DIR/secret.parquet')",
    "select * from metadata_cache()",
    "select * from list_files_cache()",
    "select * from generate_series(1, 3)",
    "select * from range(1, 3)",
    // Catalogues.
    "select * from information_schema.tables",
    "select * from information_schema.columns",
    "select * from information_schema.df_settings",
    "select * from information_schema.routines",
    "select * from starlift.information_schema.tables",
    "select * from datafusion.public.v",
    "select * from pg_catalog.pg_tables",
];

/// Statements that write, set, or are no query.
const WRITES: &[&str] = &[
    "copy (select * from v) to 'DIR/out.csv'",
    "copy v to 'DIR/out.csv' stored as csv",
    "copy v to 'file://DIR/out.json' stored as json",
    "copy v to 's3://bucket/out.parquet' stored as parquet",
    "create external table w (a int) stored as csv location 'DIR/secret.csv'",
    "create external table w stored as csv location 's3://bucket/secret.csv'",
    "create unbounded external table w (a int) stored as csv location 'DIR/secret.csv'",
    "create table w as select 1",
    "create or replace table v as select 1 as id",
    "create view w as select * from v",
    "create schema w",
    "create database w",
    "create function f(int) returns int return $1 + 1",
    "drop table v",
    "drop view v",
    "drop schema inputs",
    "alter table v add column a int",
    "truncate table v",
    "insert into v values (2)",
    "insert into v select 2",
    "update v set id = 2",
    "delete from v",
    "select 1 into w from v",
    "merge into v using v as w on v.id = w.id when matched then delete",
    "set datafusion.execution.batch_size = 1",
    "set datafusion.catalog.information_schema = true",
    "reset datafusion.execution.batch_size",
    "set time zone = 'UTC'",
    "begin",
    "commit",
    "use w",
    "show tables",
    "show all",
    "show functions",
    "describe v",
    "explain select id from v",
    "explain analyze select id from v",
    "explain verbose select * from 'DIR/secret.csv'",
    "prepare p as select 1",
    "execute p",
    "deallocate p",
    "analyze table v",
    "load 'DIR/secret.so'",
    "select id from v; drop table v",
    "select id from v; copy v to 'DIR/out.csv'",
    "drop table v; select id from v",
];

/// A model as if its file had been read without our check of what it reads, to show that the session has its own.
fn unchecked(sql: &str) -> Model {
    Model { sql: sql.into(), inputs: vec!["v".into()], ..model("id", "select id from v") }
}

#[tokio::test]
async fn whatever_reads_from_outside_is_refused() {
    let dir = outside();
    let place = dir.path().to_str().unwrap();
    let session = session(&[("v", "id int4", &["1"])]);
    for sql in READS {
        let sql = sql.replace("DIR", place);
        let error = failure(&session, &unchecked(&sql)).await;
        assert_eq!(error.message(), "model `m` cannot be planned", "{sql}: {error:?}");
        assert!(matches!(error.kind(), ErrorKind::Config | ErrorKind::Unsupported), "{sql}: {error:?}");
        assert!(error.hint().is_some(), "{sql}: {error:?}");
        assert!(!format!("{error:?}").contains(SECRET), "{sql}: {error:?}");
        // The way that a project's own files take: refused when it is read, or because no input has this name.
        let text = format!("-- kind: dimension\n-- key: id\n{sql}");
        if let Ok(model) = Model::parse("m", &text) {
            let error = failure(&session, &model).await;
            assert_eq!(error.kind(), ErrorKind::Config, "{sql}: {error:?}");
        }
    }
}

#[tokio::test]
async fn whatever_writes_or_sets_something_is_refused_and_changes_nothing() {
    let dir = outside();
    let before = files(dir.path());
    let place = dir.path().to_str().unwrap();
    let session = session(&[("v", "id int4", &["1"])]);
    for sql in WRITES {
        let sql = sql.replace("DIR", place);
        let error = failure(&session, &unchecked(&sql)).await;
        assert!(matches!(error.kind(), ErrorKind::Config | ErrorKind::Unsupported), "{sql}: {error:?}");
        assert_eq!(error.message(), "model `m` cannot be planned", "{sql}");
        assert!(error.hint().is_some());
        let text = format!("-- kind: dimension\n-- key: id\n{sql}");
        if let Ok(model) = Model::parse("m", &text) {
            let error = failure(&session, &model).await;
            assert_eq!(error.kind(), ErrorKind::Config, "{sql}: {error:?}");
        }
        assert_eq!(evaluate(&session, &model("id", "select id from v")).await.unwrap().rows, ["1"], "{sql}");
    }
    assert_eq!(files(dir.path()), before);
}

#[tokio::test]
async fn the_same_statements_reach_out_in_an_ordinary_session() {
    let dir = outside();
    let place = dir.path().to_str().unwrap();
    let config = SessionConfig::new().with_information_schema(true);
    let ordinary = SessionContext::new_with_config(config).enable_url_table();
    ordinary.sql("create table v as select 1 as id").await.unwrap().collect().await.unwrap();
    let mut reached = Vec::new();
    for sql in READS.iter().chain(WRITES) {
        let Ok(frame) = ordinary.sql(&sql.replace("DIR", place)).await else { continue };
        if frame.collect().await.is_ok() {
            reached.push(*sql);
        }
    }
    for sql in [
        "select * from 'DIR/secret.csv'",
        "select id, (select max(b) from 'DIR/secret.csv') as b from v",
        "select * from generate_series(1, 3)",
        "select * from information_schema.tables",
        "copy (select * from v) to 'DIR/out.csv'",
        "create external table w (a int) stored as csv location 'DIR/secret.csv'",
        "set datafusion.execution.batch_size = 1",
        "explain verbose select * from 'DIR/secret.csv'",
        "prepare p as select 1",
    ] {
        assert!(reached.contains(&sql), "{sql} is not in {reached:?}");
    }
    assert_ne!(files(dir.path()), files(outside().path()), "nothing was written");
}
