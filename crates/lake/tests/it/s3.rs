//! What goes over the wire to S3, and what its answers become: a server on loopback with prepared answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use starlift_core::{Error, ErrorKind};
use starlift_lake::{CreateOutcome, Store, manifests};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The requests that came, head only, in lower case but for the first line.
type Heads = Arc<Mutex<Vec<String>>>;

struct Server {
    store: Store,
    heads: Heads,
}

impl Server {
    /// Answers every request by `answer(first line of the request)`: a status line and a body.
    async fn new(answer: impl Fn(&str) -> (&'static str, String) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let heads = Heads::default();
        let (seen, answer) = (heads.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, seen.clone(), answer.clone()));
            }
        });
        let settings: BTreeMap<String, String> = [
            ("AWS_ACCESS_KEY_ID", "AKIATEST"),
            ("AWS_SECRET_ACCESS_KEY", "not-to-be-shown"),
            ("AWS_SESSION_TOKEN", "nor-this"),
            ("AWS_REGION", "eu-west-2"),
            ("AWS_ENDPOINT_URL", &endpoint),
            ("AWS_EXECUTION_ENV", "ignored"),
            ("AWS_PROFILE", ""),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
        Server { store: Store::open("s3://my-lake/team/ingest", &settings).unwrap(), heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn serve(
    mut connection: TcpStream,
    heads: Heads,
    answer: Arc<impl Fn(&str) -> (&'static str, String) + Send + Sync>,
) {
    let mut read = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            if connection.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8_lossy(&read[..end]).to_string();
        let (line, fields) = head.split_once("\r\n").unwrap();
        let fields = fields.to_ascii_lowercase();
        let length: usize = fields
            .split_once("content-length: ")
            .and_then(|(_, rest)| rest.split("\r\n").next()?.parse().ok())
            .unwrap_or(0);
        while read.len() < end + length {
            if connection.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        }
        read.drain(..end + length);
        heads.lock().unwrap().push(format!("{line}\n{fields}"));
        let (status, body) = answer(line);
        let response = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"e\"\r\nLast-Modified: Wed, 20 Nov 2024 11:35:00 GMT\r\n\r\n{body}",
            body.len()
        );
        if connection.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn refused(code: &str) -> String {
    format!("<Error><Code>{code}</Code><Message>because</Message><Token-0>nor-this</Token-0></Error>")
}

#[tokio::test]
async fn a_create_asks_the_store_to_refuse_an_existing_key_under_the_prefix() {
    let server = Server::new(|_| ("200 OK", String::new())).await;
    assert_eq!(server.store.create("_claims/%5F1", Bytes::from("me")).await.unwrap(), CreateOutcome::Created);
    let heads = server.heads();
    assert_eq!(heads.len(), 1);
    assert!(heads[0].starts_with("PUT /my-lake/team/ingest/_claims/%255F1 HTTP/1.1\n"), "{}", heads[0]);
    assert!(heads[0].contains("if-none-match: *"), "{}", heads[0]);
}

#[tokio::test]
async fn a_taken_key_is_read_before_it_is_believed() {
    let server = Server::new(|line| match line.starts_with("PUT") {
        true => ("412 Precondition Failed", refused("PreconditionFailed")),
        false => ("200 OK", "me".into()),
    })
    .await;
    assert_eq!(server.store.create("x", Bytes::from("me")).await.unwrap(), CreateOutcome::Created);
    assert_eq!(server.store.create("x", Bytes::from("other")).await.unwrap(), CreateOutcome::Exists);
    assert_eq!(server.heads().iter().filter(|h| h.starts_with("GET /my-lake/team/ingest/x ")).count(), 2);
}

#[tokio::test]
async fn the_newest_manifest_takes_one_listing_and_one_read() {
    let key = starlift_core::key::manifest(9);
    let mut nine = crate::fixture::first("w");
    (nine.seq, nine.previous_sha256) = (9, Some("0".repeat(64)));
    let body = String::from_utf8(nine.to_bytes().unwrap()).unwrap();
    let server = Server::new(move |line| {
        if line.contains("list-type=2") {
            let entry = |key: &str| {
                format!(
                    "<Contents><Key>team/ingest/{key}</Key><LastModified>2024-11-20T11:35:00.000Z</LastModified>\
                     <ETag>e</ETag><Size>1</Size></Contents>"
                )
            };
            let older = starlift_core::key::manifest(8);
            let page = format!("{}{}", entry(&key), entry(&older));
            return ("200 OK", format!("<ListBucketResult><IsTruncated>false</IsTruncated>{page}</ListBucketResult>"));
        }
        ("200 OK", body.clone())
    })
    .await;
    assert_eq!(manifests::newest(&server.store).await.unwrap().unwrap().seq(), 9);
    let heads = server.heads();
    assert_eq!(heads.len(), 2, "{heads:#?}");
    assert!(heads[0].contains("prefix=team%2Fingest%2F_manifests%2F"), "{}", heads[0]);
    assert!(heads[1].starts_with("GET /my-lake/team/ingest/_manifests/"), "{}", heads[1]);
}

#[tokio::test]
async fn an_error_under_status_200_is_no_empty_bucket_and_no_put() {
    let server = Server::new(|_| ("200 OK", refused("AccessDenied"))).await;
    let error = server.store.list("_manifests", 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert!(error.render().contains("the store answered AccessDenied: because"), "{}", error.render());
    let error = server.store.create("x", Bytes::from("me")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission, "{}", error.render());
    // An object may look like anything.
    assert!(server.store.get("x").await.unwrap().unwrap().starts_with(b"<Error>"));
}

async fn error_of(status: &'static str, code: &'static str) -> Error {
    let server = Server::new(move |_| (status, refused(code))).await;
    server.store.get("x").await.unwrap_err()
}

#[tokio::test]
async fn answers_become_kinds_that_say_what_to_do() {
    for (status, code, kind, hint) in [
        ("403 Forbidden", "AccessDenied", ErrorKind::Permission, "s3:ListBucket"),
        ("403 Forbidden", "InvalidAccessKeyId", ErrorKind::Permission, "credentials"),
        ("400 Bad Request", "ExpiredToken", ErrorKind::Permission, "credentials"),
        ("404 Not Found", "NoSuchBucket", ErrorKind::Config, "create the bucket"),
        ("301 Moved Permanently", "PermanentRedirect", ErrorKind::Config, "AWS_REGION"),
        ("400 Bad Request", "AuthorizationHeaderMalformed", ErrorKind::Config, "AWS_REGION"),
        ("403 Forbidden", "RequestTimeTooSkewed", ErrorKind::Config, "clock"),
    ] {
        let error = error_of(status, code).await;
        assert_eq!(error.kind(), kind, "{code}: {error:?}");
        assert!(error.hint().unwrap().contains(hint), "{code}: {error:?}");
        assert!(error.message().contains("s3://my-lake/team/ingest/x"), "{code}: {error:?}");
        let shown = format!("{error:?}");
        assert!(!shown.contains("not-to-be-shown") && !shown.contains("nor-this"), "{code}: {shown}");
    }
}

#[tokio::test]
async fn a_missing_object_is_no_error() {
    let server = Server::new(|_| ("404 Not Found", refused("NoSuchKey"))).await;
    assert_eq!(server.store.get("x").await.unwrap(), None);
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_without_repeating_secrets() {
    let open = |settings: &[(&str, &str)]| {
        let settings = settings.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        Store::open("s3://my-lake/x", &settings).map(|_| ()).unwrap_err()
    };
    for settings in [
        &[("AWS_ENDPOINT_URL", "https://me:hunter2@host")][..],
        &[("AWS_ENDPOINT_URL", "hunter2")],
        &[("AWS_SECRET_ACCESS_KEY", "hunter2")],
        &[("AWS_ACCESS_KEY_ID", "hunter2")],
    ] {
        let error = open(settings);
        assert_eq!(error.kind(), ErrorKind::Config, "{settings:?}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn a_setting_that_no_header_can_hold_is_refused_by_its_name_alone() {
    let names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"];
    for name in names {
        for bad in ["hunter2\r", "hunter2\n", "hun\nter2", "hunter2\u{7f}", "hunter2\t", "hünter2", "\0"] {
            let mut settings: BTreeMap<String, String> =
                names.iter().map(|name| (name.to_string(), "plain".to_string())).collect();
            settings.insert(name.into(), bad.into());
            let error = Store::open("s3://my-lake/x", &settings).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{name}");
            let shown = format!("{error:?}");
            assert!(shown.contains(name) && !shown.contains("ter2") && !shown.contains("plain"), "{shown}");
        }
    }
    // A path is in no header.
    let settings = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/home/jörg/token"), ("AWS_ROLE_ARN", "arn:aws:iam::1:role/x")];
    let settings = settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    assert!(Store::open("s3://my-lake/x", &settings).is_ok());
}

#[test]
fn the_url_and_the_debug_form_of_a_store_hold_no_secret() {
    let settings = BTreeMap::from([
        ("AWS_ACCESS_KEY_ID".to_string(), "hunter1".to_string()),
        ("AWS_SECRET_ACCESS_KEY".to_string(), "hunter2".to_string()),
    ]);
    let store = Store::open("s3://my-lake/x", &settings).unwrap();
    assert_eq!(store.url(), "s3://my-lake/x");
    assert!(!format!("{store:?}").contains("hunter"));
}

/// Opens a store with the credential of a container, which a service hands out anew at each request: `token-1`, `token-2`, … up to
/// `most`. The same server is the store, and takes no token below `valid`.
async fn of_a_container(most: usize, valid: usize) -> (Store, Heads, tempfile::TempDir) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let heads = Heads::default();
    let seen = heads.clone();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let (heads, seen) = (seen.clone(), seen.clone());
            let answer = move |line: &str| {
                let heads = seen.lock().unwrap();
                if line.contains("/credentials") {
                    let fetched = heads.iter().filter(|head| head.contains("/credentials")).count().min(most);
                    let credential = format!(
                        r#"{{"AccessKeyId": "key-{fetched}", "SecretAccessKey": "s", "Token": "token-{fetched}", "Expiration": "2999-01-01T00:00:00Z"}}"#
                    );
                    return ("200 OK", credential);
                }
                let head = heads.last().unwrap();
                let token = head.split_once("x-amz-security-token: token-").unwrap().1.split("\r\n").next().unwrap();
                let token: usize = token.parse().unwrap();
                assert!(head.contains(&format!("credential=key-{token}/")), "{head}");
                match (token < valid, line.starts_with("HEAD ")) {
                    (true, true) => ("400 Bad Request", String::new()),
                    (true, false) => ("400 Bad Request", refused("ExpiredToken")),
                    (false, _) => {
                        ("200 OK", "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>".into())
                    }
                }
            };
            tokio::spawn(serve(connection, heads, Arc::new(answer)));
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let identity = folder.path().join("identity");
    std::fs::write(&identity, "container").unwrap();
    let credentials = format!("{endpoint}/credentials");
    let settings = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", credentials.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", identity.to_str().unwrap()),
        ("AWS_REGION", "eu-west-2"),
        ("AWS_ENDPOINT_URL", &endpoint),
    ]
    .map(|(name, value)| (name.to_string(), value.to_string()));
    (Store::open("s3://my-lake/team/ingest", &BTreeMap::from(settings)).unwrap(), heads, folder)
}

fn fetched(heads: &Heads) -> usize {
    heads.lock().unwrap().iter().filter(|head| head.contains("/credentials")).count()
}

#[tokio::test]
async fn a_token_that_the_store_calls_expired_is_fetched_again_once() {
    let (store, heads, _folder) = of_a_container(9, 2).await;
    // The first request meets the end of the first token, whatever it asks for; the others begin with the second.
    assert!(store.list("_manifests", 1).await.unwrap().is_empty());
    assert_eq!(store.create("x", Bytes::from("me")).await.unwrap(), CreateOutcome::Created);
    assert_eq!((fetched(&heads), heads.lock().unwrap().len()), (2, 5));
    let put = heads.lock().unwrap().last().unwrap().clone();
    assert!(put.contains("/eu-west-2/s3/aws4_request") && put.contains("if-none-match: *"), "{put}");

    let (store, heads, _folder) = of_a_container(9, 2).await;
    assert_eq!(store.create("x", Bytes::from("me")).await.unwrap(), CreateOutcome::Created);
    let seen = heads.lock().unwrap().clone();
    let puts: Vec<&String> = seen.iter().filter(|head| head.starts_with("PUT ")).collect();
    assert_eq!(puts.len(), 2, "{seen:#?}");
    let line = |head: &str, name: &str| head.split(name).nth(1).unwrap().split("\r\n").next().unwrap().to_string();
    assert_eq!(line(puts[0], "x-amz-content-sha256: "), line(puts[1], "x-amz-content-sha256: "), "the same bytes");
    assert_ne!(line(puts[0], "signature="), line(puts[1], "signature="));

    // Many at once meet it, and one fetches.
    let (store, heads, _folder) = of_a_container(9, 2).await;
    let reads = (0..8).map(|n| {
        let store = store.clone();
        async move { store.get(&format!("{n}")).await.unwrap() }
    });
    futures::future::join_all(reads).await;
    assert_eq!(fetched(&heads), 2);
}

#[tokio::test]
async fn a_token_that_stays_expired_is_not_asked_for_for_ever() {
    // The service has no other one.
    let (store, heads, _folder) = of_a_container(1, 2).await;
    let error = store.get("x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert!(error.render().contains("the store answered ExpiredToken"), "{}", error.render());
    assert_eq!((fetched(&heads), heads.lock().unwrap().len()), (2, 3));
    // It has others, and none is taken.
    let (store, heads, _folder) = of_a_container(99, 100).await;
    assert_eq!(store.get("x").await.unwrap_err().kind(), ErrorKind::Permission);
    assert_eq!((fetched(&heads), heads.lock().unwrap().len()), (2, 4));
    // One that was given is the only one.
    let server = Server::new(|_| ("400 Bad Request", refused("ExpiredToken"))).await;
    assert_eq!(server.store.get("x").await.unwrap_err().kind(), ErrorKind::Permission);
    assert_eq!(server.heads().len(), 1);
}
