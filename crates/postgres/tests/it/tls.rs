//! TLS: what is verified, and that a server which does not pass hears nothing but the beginning of a handshake.
//!
//! The servers are real ones, and everything that the client sends goes through a proxy that keeps it.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use starlift_core::ErrorKind;
use starlift_postgres::connect::SslMode;
use starlift_postgres::{ConnectOptions, Secret, connect};
use starlift_sandbox::proxy::Proxy;
use starlift_sandbox::{Cluster, ClusterOptions};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::connect::{PASSWORD, options, refused};

const USER: &str = "canary_user";
const DATABASE: &str = "canary_database";
const QUERY: &str = "select 'canary_query'";
/// What a client sends to ask for TLS (PostgreSQL manual, 55.7, SSLRequest).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// An authority and the certificates that it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority { issuer: Issuer::new(params, key), pem }
}

/// A directory with `ca.pem`, and `server.pem` and `server.key` for a host name.
fn certificates(host: &str, expired: bool) -> TempDir {
    certificates_of(&authority("authority of a test"), host, expired)
}

fn certificates_of(authority: &Authority, host: &str, expired: bool) -> TempDir {
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

/// A server with a role and a database of the names above, with or without TLS.
async fn server(certificates: Option<&TempDir>, settings: &[(&str, &str)]) -> Cluster {
    let tls = certificates.map(|dir| (dir.path().join("server.pem"), dir.path().join("server.key")));
    let settings = settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let options = ClusterOptions { tls, settings, password: Some(PASSWORD.into()), ..ClusterOptions::default() };
    let cluster = Cluster::start(options).unwrap();
    let owner = cluster.connect("postgres").await.unwrap();
    let password = PASSWORD.replace('\'', "''");
    owner.batch_execute(&format!("create role {USER} login password '{password}'")).await.unwrap();
    cluster.create_database(DATABASE).await.unwrap();
    cluster
}

/// The role above, over TLS to a port of this machine, with the authority of these certificates.
fn over_tls(port: u16, host: &str, root: PathBuf) -> ConnectOptions {
    ConnectOptions {
        port,
        password: Some(Secret::new(PASSWORD)),
        ssl_mode: Some(SslMode::Verify),
        root_cert: Some(root),
        ..ConnectOptions::new(host, DATABASE, USER)
    }
}

/// What of the role, its password, its database or its statement is readable in some bytes.
fn readable(bytes: &[u8]) -> Vec<&'static str> {
    let found = |text: &&str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    [USER, PASSWORD, DATABASE, QUERY, "user", "select"].into_iter().filter(found).collect()
}

/// The content types of the TLS records that some bytes consist of; none where they are anything else.
fn tls_records(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut types = Vec::new();
    while let [kind @ 20..=23, 3, 0..=4, high, low, rest @ ..] = bytes {
        bytes = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..)?;
        types.push(*kind);
    }
    bytes.is_empty().then_some(types)
}

/// The client asked for TLS once, and all that followed was TLS: a hello, and at most alerts.
async fn nothing_was_said(proxy: &Proxy, what: &str) {
    let sent = proxy.sent().await;
    let [sent] = sent.as_slice() else { panic!("{what}: {} connections", sent.len()) };
    assert!(sent.starts_with(&SSL_REQUEST), "{what}: {sent:?}");
    let records = tls_records(&sent[SSL_REQUEST.len()..]);
    let records = records.unwrap_or_else(|| panic!("{what}: not all of it is TLS: {sent:?}"));
    let application_data = records.iter().filter(|kind| **kind == 23).count();
    // An alert of TLS 1.3 travels as application data; a start of a session would follow it, or come instead.
    assert!(records.len() <= 4 && application_data <= 1, "{what}: {records:?}");
    assert!(sent.len() < 1024, "{what}: {} bytes", sent.len());
    assert_eq!(readable(sent), <[&str; 0]>::default(), "{what}");
}

/// Connects through a proxy in front of a server, is refused, and shows that nothing was said.
async fn refuses(what: &str, server_port: u16, host: &str, root: PathBuf, detail: &str, hint: &str) {
    let proxy = Proxy::recording(server_port).await.unwrap();
    let error = refused(&over_tls(proxy.port(), host, root)).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{what}: {error:?}");
    assert!(error.detail().unwrap().contains(detail), "{what}: {error:?}");
    assert!(error.hint().unwrap().contains(hint), "{what}: {error:?}");
    let shown = format!("{error:?}");
    assert!(!shown.contains(USER) && !shown.contains(PASSWORD), "{what}: {shown}");
    nothing_was_said(&proxy, what).await;
}

async fn uses_tls(options: &ConnectOptions) -> bool {
    let connection = connect(options).await.unwrap();
    let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    let ssl = connection.client().query_one(sql, &[]).await.unwrap().get(0);
    connection.client().batch_execute(QUERY).await.unwrap();
    // A cancel request goes the same way.
    connection.cancel().await.unwrap();
    connection.close().await;
    ssl
}

#[tokio::test]
async fn a_certificate_of_another_authority_or_for_another_host_is_refused_before_anything_is_said() {
    let dir = certificates("localhost", false);
    let cluster = server(Some(&dir), &[]).await;
    let (port, ca) = (cluster.port(), dir.path().join("ca.pem"));
    let other = certificates_of(&authority("another authority"), "localhost", false);
    let namesake = certificates("localhost", false);
    for (what, other, reason) in
        [("wrong authority", other, "UnknownIssuer"), ("authority of the same name", namesake, "BadSignature")]
    {
        refuses(what, port, "localhost", other.path().join("ca.pem"), reason, "sslrootcert").await;
    }
    refuses("wrong host name", port, "127.0.0.1", ca.clone(), "not valid for name", "host name").await;

    for (what, options) in [
        ("the system's authorities", ConnectOptions { root_cert: None, ..over_tls(port, "localhost", ca.clone()) }),
        ("a file that is missing", over_tls(port, "localhost", dir.path().join("none.pem"))),
        ("a file without a certificate", over_tls(port, "localhost", dir.path().join("server.key"))),
    ] {
        assert_eq!(refused(&options).await.kind(), ErrorKind::Config, "{what}");
    }
}

#[tokio::test]
async fn an_expired_certificate_is_refused_before_anything_is_said() {
    let dir = certificates("localhost", true);
    let cluster = server(Some(&dir), &[]).await;
    refuses("expired", cluster.port(), "localhost", dir.path().join("ca.pem"), "expired", "renew").await;
}

#[tokio::test]
async fn a_server_without_tls_hears_the_question_and_no_more() {
    let dir = certificates("localhost", false);
    let cluster = server(None, &[]).await;
    let ca = dir.path().join("ca.pem");
    refuses("no TLS", cluster.port(), "localhost", ca.clone(), "does not offer TLS", "ssl = on").await;
    let proxy = Proxy::recording(cluster.port()).await.unwrap();
    refused(&over_tls(proxy.port(), "localhost", ca)).await;
    assert_eq!(proxy.sent().await, [SSL_REQUEST]);
}

/// Row 33 of docs/bad-input.md: each kind of server that cannot be trusted, one after the other.
#[tokio::test]
async fn bad_input_33_a_server_that_cannot_be_trusted_gets_no_password() {
    let (good, expired) = (certificates("localhost", false), certificates("localhost", true));
    let other = certificates_of(&authority("another authority"), "localhost", false);
    let (trusted, late, plain) =
        (server(Some(&good), &[]).await, server(Some(&expired), &[]).await, server(None, &[]).await);
    let ca = |dir: &TempDir| dir.path().join("ca.pem");
    refuses("another authority", trusted.port(), "localhost", ca(&other), "UnknownIssuer", "sslrootcert").await;
    refuses("another host", trusted.port(), "127.0.0.1", ca(&good), "not valid for name", "host name").await;
    refuses("expired", late.port(), "localhost", ca(&expired), "expired", "renew").await;
    refuses("no TLS", plain.port(), "localhost", ca(&good), "does not offer TLS", "ssl = on").await;
    assert!(uses_tls(&over_tls(trusted.port(), "localhost", ca(&good))).await);
}

#[tokio::test]
async fn a_server_of_tls_1_1_is_refused_before_anything_is_said() {
    let dir = certificates("localhost", false);
    let old = [
        ("ssl_min_protocol_version", "TLSv1"),
        ("ssl_max_protocol_version", "TLSv1.1"),
        ("ssl_ciphers", "ALL:@SECLEVEL=0"),
    ];
    let cluster = server(Some(&dir), &old).await;
    // It does speak that version: the refusal has no other reason.
    assert_eq!(hello_of_tls_1_1(cluster.port()).await, [3, 2]);
    refuses("TLS 1.1", cluster.port(), "localhost", dir.path().join("ca.pem"), "ProtocolVersion", "TLS 1.2").await;
}

/// PostgreSQL refuses by itself what a client does not offer; somebody in between may try to talk it down.
#[tokio::test]
async fn a_server_that_answers_in_tls_1_1_all_the_same_is_refused_before_anything_is_said() {
    let dir = certificates("localhost", false);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut heard = vec![0; 4096];
        client.read_exact(&mut heard[..SSL_REQUEST.len()]).await.unwrap();
        client.write_all(b"S").await.unwrap();
        assert!(client.read(&mut heard).await.unwrap() > 0);
        let body = [&[3, 2][..], &[7; 32], &[0, 0xc0, 0x09, 0]].concat();
        client.write_all(&handshake(2, &body)).await.unwrap();
        while client.read(&mut heard).await.is_ok_and(|bytes| bytes > 0) {}
    });
    refuses("talked down", port, "localhost", dir.path().join("ca.pem"), "TLS failed", "TLS 1.2").await;
}

/// The same servers, listened to in the same way, where nothing is wrong; and what the recording shows without TLS.
#[tokio::test]
async fn what_is_verified_is_used_and_what_goes_in_the_clear_would_be_seen() {
    let dir = certificates("localhost", false);
    let cluster = server(Some(&dir), &[]).await;
    let proxy = Proxy::recording(cluster.port()).await.unwrap();
    assert!(uses_tls(&over_tls(proxy.port(), "localhost", dir.path().join("ca.pem"))).await);
    let sent = proxy.sent().await;
    assert_eq!(sent.len(), 2, "the session and the cancel request");
    for sent in sent {
        assert!(tls_records(&sent[SSL_REQUEST.len()..]).is_some_and(|records| records.contains(&23)));
        assert_eq!(readable(&sent), <[&str; 0]>::default());
    }

    let proxy = Proxy::recording(cluster.port()).await.unwrap();
    let plain = ConnectOptions { user: USER.into(), port: proxy.port(), ..options(&cluster, DATABASE) };
    assert!(!uses_tls(&plain).await, "within this machine plain is the default");
    let sent = proxy.sent().await;
    assert_eq!(readable(&sent[0]), [USER, DATABASE, QUERY, "user", "select"]);
    assert_eq!(tls_records(&sent[0]), None);
}

/// A handshake message in a record of TLS 1.1.
fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
    let message = [&[kind, 0][..], &length(body.len()), body].concat();
    [&[22, 3, 2][..], &length(message.len()), &message].concat()
}

/// The version in which a server answers a hello that offers TLS 1.1 at most (RFC 4346, 7.4.1.2).
async fn hello_of_tls_1_1(port: u16) -> [u8; 2] {
    let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    server.write_all(&SSL_REQUEST).await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'S');
    // ECDHE-ECDSA with AES-128 and SHA-1, no compression, the curve P-256 with uncompressed points.
    let extensions = [0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0];
    let body = [&[3, 2][..], &[7; 32], &[0, 0, 2, 0xc0, 0x09, 1, 0, 0, 14], &extensions].concat();
    server.write_all(&handshake(1, &body)).await.unwrap();
    let mut answer = [0; 11];
    server.read_exact(&mut answer).await.unwrap();
    assert_eq!((answer[0], answer[5]), (22, 2), "a record with a ServerHello: {answer:?}");
    [answer[9], answer[10]]
}
