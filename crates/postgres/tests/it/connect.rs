//! Connecting: roles, absent servers and TLS. No failure may show a password.

use std::path::PathBuf;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use starlift_core::{Error, ErrorKind};
use starlift_postgres::connect::SslMode;
use starlift_postgres::sqlstate::{Retry, class_of, classify, retry_of, sqlstate_of};
use starlift_postgres::{ConnectOptions, Secret, connect};
use starlift_sandbox::{Cluster, ClusterOptions};
use tempfile::TempDir;

use crate::support::database;

const PASSWORD: &str = "hunter2 'quoted' %40";

async fn refused(options: &ConnectOptions) -> Error {
    let error = connect(options).await.map(|_| ()).unwrap_err();
    let shown = format!("{error:?} {error}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(error.hint().is_some(), "{shown}");
    error
}

fn options(cluster: &Cluster, database: &str) -> ConnectOptions {
    ConnectOptions::from_url(&cluster.superuser_url(database)).unwrap()
}

#[tokio::test]
async fn passwords_roles_and_databases_that_are_wrong_are_told_apart() {
    let cluster =
        Cluster::start(ClusterOptions { password: Some(PASSWORD.into()), ..ClusterOptions::default() }).unwrap();
    let right = options(&cluster, "postgres");
    let connection = connect(&right).await.unwrap();
    let row = connection.client().query_one("select current_setting('application_name')", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "starlift");
    connection.close().await;

    let wrong = ConnectOptions { password: Some(Secret::new("hunter2")), ..right.clone() };
    let error = refused(&wrong).await;
    assert_eq!((error.kind(), sqlstate_of(&error)), (ErrorKind::Permission, Some("28P01")));
    let error = refused(&ConnectOptions { password: None, ..right.clone() }).await;
    assert_eq!(
        (error.kind(), error.detail().as_deref()),
        (ErrorKind::Permission, Some("the server asks for a password and none was given"))
    );
    let error = refused(&ConnectOptions { database: "nowhere".into(), ..right.clone() }).await;
    assert_eq!((error.kind(), sqlstate_of(&error)), (ErrorKind::Config, Some("3D000")));
    let error = refused(&ConnectOptions { ssl_mode: Some(SslMode::Verify), ..right.clone() }).await;
    assert_eq!((error.kind(), error.detail().as_deref()), (ErrorKind::Config, Some("the server does not offer TLS")));

    cluster.stop_server(false).unwrap();
    let error = refused(&right).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.hint(), Some("check that PostgreSQL runs there and that the port is right"));
}

#[tokio::test]
async fn a_unix_socket_is_a_host_too() {
    let db = database("select 1").await;
    let dir = db.cluster.dir().display();
    let url = format!("postgres://postgres@/{}?host={dir}&port={}", db.name, db.cluster.port());
    let connection = connect(&ConnectOptions::from_url(&url).unwrap()).await.unwrap();
    let row = connection.client().query_one("select inet_client_addr() is null", &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));
    let nowhere = ConnectOptions::new("/nowhere", "d", "u");
    assert_eq!(refused(&nowhere).await.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_given_up() {
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut options = ConnectOptions::new("127.0.0.1", "d", "u");
    options.port = silent.local_addr().unwrap().port();
    options.connect_timeout = Duration::from_millis(300);
    let error = tokio::time::timeout(Duration::from_secs(5), refused(&options)).await.unwrap();
    assert_eq!((error.kind(), error.detail().as_deref()), (ErrorKind::Unavailable, Some("no answer within 0.3 s")));
}

#[tokio::test]
async fn a_dropped_connection_ends_its_session_and_a_cancelled_statement_can_be_tried_smaller() {
    let db = database("select 1").await;
    let mut connection = connect(&db.options()).await.unwrap();
    let pid: i32 = connection.client().query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let (slept, cancelled) = tokio::join!(connection.client().batch_execute("select pg_sleep(30)"), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        connection.cancel().await
    });
    cancelled.unwrap();
    let error = classify(slept.unwrap_err(), "cannot sleep");
    assert_eq!((error.kind(), sqlstate_of(&error)), (ErrorKind::Unavailable, Some("57014")));
    assert_eq!(class_of("57014").retry, Retry::OnceChanged);

    connection.client_mut().batch_execute("begin; create table left_behind ()").await.unwrap();
    drop(connection);
    let gone = "select count(*) from pg_stat_activity where pid = $1";
    for _ in 0..100 {
        if db.owner.query_one(gone, &[&pid]).await.unwrap().get::<_, i64>(0) == 0 {
            assert!(db.owner.batch_execute("select from left_behind").await.is_err());
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the session of a dropped connection is still there");
}

#[tokio::test]
async fn no_row_value_of_the_server_reaches_an_error() {
    let db = database(
        "create table t (id int primary key, email text unique check (email <> 'x'), n numeric(3,1));
         insert into t values (1, 'hunter2@example.com');
         create function angry() returns int language plpgsql as $$ begin raise exception 'hunter2' using errcode = '42501'; end $$",
    )
    .await;
    for (sql, kind, code, constraint) in [
        ("insert into t values (2, 'hunter2@example.com')", ErrorKind::Data, "23505", Some("t_email_key")),
        ("insert into t values (2, 'x')", ErrorKind::Data, "23514", Some("t_email_check")),
        ("select 'hunter2'::int", ErrorKind::Data, "22P02", None),
        ("select 'hunter2'::date", ErrorKind::Data, "22007", None),
        ("insert into t values (2, null, 12345.6)", ErrorKind::Data, "22003", None),
        ("select angry()", ErrorKind::Permission, "42501", None),
        ("select * from missing", ErrorKind::Config, "42P01", None),
    ] {
        let error = classify(db.owner.batch_execute(sql).await.unwrap_err(), "cannot do it");
        let shown = format!("{error:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("12345"), "{shown}");
        assert_eq!((error.kind(), sqlstate_of(&error)), (kind, Some(code)), "{shown}");
        assert_eq!(error.context().iter().find(|(name, _)| *name == "constraint").map(|(_, c)| c.as_str()), constraint);
    }
}

/// An authority and the certificates that it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "authority of a test");
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority { issuer: Issuer::new(params, key), pem }
}

/// A directory with `ca.pem`, and `server.pem` and `server.key` for a host name.
fn certificates(host: &str, expired: bool) -> TempDir {
    let authority = authority();
    let mut params = CertificateParams::new(vec![host.to_string()]).unwrap();
    if expired {
        params.not_after = date_time_ymd(2001, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.pem"), &authority.pem).unwrap();
    std::fs::write(dir.path().join("server.pem"), certificate.pem()).unwrap();
    std::fs::write(dir.path().join("server.key"), key.serialize_pem()).unwrap();
    dir
}

fn start_with_tls(dir: &TempDir) -> Cluster {
    let tls = Some((dir.path().join("server.pem"), dir.path().join("server.key")));
    Cluster::start(ClusterOptions { tls, password: Some(PASSWORD.into()), ..ClusterOptions::default() }).unwrap()
}

fn over_tls(cluster: &Cluster, host: &str, root: PathBuf) -> ConnectOptions {
    let plain = options(cluster, "postgres");
    ConnectOptions { host: host.into(), ssl_mode: Some(SslMode::Verify), root_cert: Some(root), ..plain }
}

async fn uses_tls(options: &ConnectOptions) -> bool {
    let connection = connect(options).await.unwrap();
    let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    let ssl = connection.client().query_one(sql, &[]).await.unwrap().get(0);
    // A cancel request goes the same way.
    connection.cancel().await.unwrap();
    ssl
}

#[tokio::test]
async fn tls_is_used_when_asked_for_and_always_verified() {
    let dir = certificates("localhost", false);
    let cluster = start_with_tls(&dir);
    let ca = dir.path().join("ca.pem");
    assert!(!uses_tls(&options(&cluster, "postgres")).await, "within this machine plain is the default");
    assert!(uses_tls(&over_tls(&cluster, "localhost", ca.clone())).await);

    for (what, options) in [
        ("another authority", over_tls(&cluster, "localhost", certificates("localhost", false).path().join("ca.pem"))),
        ("another host name", over_tls(&cluster, "127.0.0.1", ca.clone())),
        ("the system's authorities", ConnectOptions { root_cert: None, ..over_tls(&cluster, "localhost", ca.clone()) }),
        ("a file that is missing", over_tls(&cluster, "localhost", dir.path().join("none.pem"))),
        ("a file without a certificate", over_tls(&cluster, "localhost", dir.path().join("server.key"))),
    ] {
        assert_eq!(refused(&options).await.kind(), ErrorKind::Config, "{what}");
    }
}

/// Row 33 of docs/bad-input.md.
#[tokio::test]
async fn bad_input_33_a_server_that_cannot_be_trusted_gets_no_password() {
    let plain =
        Cluster::start(ClusterOptions { password: Some(PASSWORD.into()), ..ClusterOptions::default() }).unwrap();
    let ca = certificates("localhost", false);
    let error = refused(&over_tls(&plain, "localhost", ca.path().join("ca.pem"))).await;
    assert_eq!(error.kind(), ErrorKind::Config, "a server without TLS: {error:?}");
    assert!(error.hint().is_some(), "{error:?}");

    let dir = certificates("localhost", false);
    let cluster = start_with_tls(&dir);
    let expired = certificates("localhost", true);
    let late = start_with_tls(&expired);
    for (what, options) in [
        ("another authority", over_tls(&cluster, "localhost", ca.path().join("ca.pem"))),
        ("another host name", over_tls(&cluster, "127.0.0.1", dir.path().join("ca.pem"))),
        ("a certificate that is over", over_tls(&late, "localhost", expired.path().join("ca.pem"))),
    ] {
        let error = refused(&options).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{what}: {error:?}");
        assert!(error.hint().is_some() && !format!("{error:?}").contains(PASSWORD), "{what}: {error:?}");
    }
    assert!(uses_tls(&over_tls(&cluster, "localhost", dir.path().join("ca.pem"))).await);
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let dir = certificates("localhost", true);
    let cluster = start_with_tls(&dir);
    let error = refused(&over_tls(&cluster, "localhost", dir.path().join("ca.pem"))).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.detail().unwrap().contains("not valid"), "{error:?}");
}

#[tokio::test]
async fn a_session_is_given_up_after_a_silence_and_not_before() {
    let db = database("select 1").await;
    let options = ConnectOptions { silence_timeout: Some(Duration::from_secs(1)), ..db.options() };
    let connection = connect(&options).await.unwrap();
    for _ in 0..3 {
        connection.client().batch_execute("select pg_sleep(0.5)").await.unwrap();
    }
    let begun = tokio::time::Instant::now();
    let error = connection.client().batch_execute("select pg_sleep(30)").await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let error = classify(error, "cannot sleep");
    assert_eq!((error.kind(), retry_of(&error)), (ErrorKind::Unavailable, Retry::Reconnect));
}

#[test]
fn silence_is_longer_than_any_statement_and_any_pause() {
    let silence = |seconds| {
        ConnectOptions::new("h", "d", "u").with_longest_statement(Duration::from_secs(seconds)).silence_timeout
    };
    assert_eq!(silence(0), None);
    assert_eq!(silence(10), Some(Duration::from_secs(305)));
    assert_eq!(silence(3600), Some(Duration::from_secs(3605)));
}
