//! What is sent, and what answers become: a server on loopback with prepared answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use starlift_aws::Aws;
use starlift_core::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The requests that came: head in lower case, and body.
type Requests = Arc<Mutex<Vec<(String, String)>>>;

/// Gives these answers in order, and the last one from then on.
async fn answers(given: Vec<(u16, String)>) -> (String, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(serve(connection, Arc::clone(&seen), given.clone()));
        }
    });
    (endpoint, requests)
}

async fn serve(mut connection: TcpStream, requests: Requests, given: Vec<(u16, String)>) {
    let mut read = Vec::new();
    loop {
        let (end, length) = loop {
            let text = String::from_utf8_lossy(&read).to_lowercase();
            if let Some(end) = text.find("\r\n\r\n").map(|at| at + 4) {
                let length = text.split_once("content-length: ").and_then(|(_, rest)| rest.split("\r\n").next());
                let length = length.and_then(|digits| digits.parse().ok()).unwrap_or(0);
                if read.len() >= end + length {
                    break (end, length);
                }
            }
            if connection.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
        let body = String::from_utf8_lossy(&read[end..end + length]).to_string();
        read.drain(..end + length);
        let number = {
            let mut requests = requests.lock().unwrap();
            requests.push((head, body));
            requests.len() - 1
        };
        let (status, text) = given.get(number).or(given.last()).unwrap();
        let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        if connection.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn aws(endpoint: &str) -> Aws {
    let settings = BTreeMap::from(
        [
            ("AWS_ACCESS_KEY_ID", "AKIATEST"),
            ("AWS_SECRET_ACCESS_KEY", "not-to-be-shown"),
            ("AWS_SESSION_TOKEN", "nor-this"),
            ("AWS_REGION", "eu-west-2"),
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_PROFILE", ""),
        ]
        .map(|(name, value)| (name.to_string(), value.to_string())),
    );
    Aws::new(&settings)
}

fn secret(text: &str) -> (u16, String) {
    (200, format!("{{\"Name\":\"x\",\"SecretString\":\"{text}\"}}"))
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, format!("{{\"__type\":\"{code}\",\"message\":\"nor-this\"}}"))
}

#[tokio::test]
async fn a_request_names_the_operation_and_is_signed_for_its_service_and_region() {
    let (endpoint, requests) = answers(vec![secret("s3cret"), (200, r#"{"Parameter":{"Value":"v"}}"#.into())]).await;
    assert_eq!(aws(&endpoint).secret("totesys").await.unwrap(), "s3cret");
    assert_eq!(aws(&endpoint).parameter("/starlift/dev/x").await.unwrap(), "v");
    let requests = requests.lock().unwrap().clone();
    let (head, body) = &requests[0];
    assert!(head.starts_with("post / http/1.1\r\n"), "{head}");
    assert!(head.contains("x-amz-target: secretsmanager.getsecretvalue\r\n"), "{head}");
    assert!(head.contains("content-type: application/x-amz-json-1.1\r\n"), "{head}");
    assert!(head.contains("/eu-west-2/secretsmanager/aws4_request"), "{head}");
    assert!(head.contains("x-amz-security-token: nor-this"), "{head}");
    let signed = head.split("signedheaders=").nth(1).unwrap().split(',').next().unwrap();
    for name in ["host", "x-amz-date", "x-amz-target", "x-amz-security-token"] {
        assert!(signed.split(';').any(|header| header == name), "{name} in {signed}");
    }
    assert_eq!(body, r#"{"SecretId":"totesys"}"#);
    let (head, body) = &requests[1];
    assert!(head.contains("x-amz-target: amazonssm.getparameter\r\n"), "{head}");
    assert!(head.contains("/eu-west-2/ssm/aws4_request"), "{head}");
    assert_eq!(body, r#"{"Name":"/starlift/dev/x","WithDecryption":true}"#);
}

#[tokio::test]
async fn what_passes_is_tried_again_and_what_stays_is_not() {
    for (status, code) in [(400, "ThrottlingException"), (500, "InternalServiceError"), (503, ""), (429, "")] {
        let (endpoint, requests) = answers(vec![refused(status, code), refused(status, code), secret("s")]).await;
        assert_eq!(aws(&endpoint).secret("x").await.unwrap(), "s", "{status} {code}");
        assert_eq!(requests.lock().unwrap().len(), 3, "{status} {code}");
    }
    for (status, code, kind) in [
        (400, "ResourceNotFoundException", ErrorKind::Permission),
        (400, "AccessDeniedException", ErrorKind::Permission),
        (403, "ExpiredTokenException", ErrorKind::Permission),
        (400, "ValidationException", ErrorKind::Config),
        (400, "RequestExpired", ErrorKind::Config),
    ] {
        let (endpoint, requests) = answers(vec![refused(status, code)]).await;
        let error = aws(&endpoint).secret("x").await.unwrap_err();
        assert_eq!(error.kind(), kind, "{code}: {error:?}");
        assert_eq!(requests.lock().unwrap().len(), 1, "{code}");
        let shown = format!("{error:?}");
        assert!(!shown.contains("not-to-be-shown") && !shown.contains("nor-this"), "{code}: {shown}");
        assert!(error.hint().is_some() && error.message().contains("`x`"), "{code}: {shown}");
    }
}

#[tokio::test]
async fn throttling_without_an_end_is_given_up_as_unavailable() {
    let (endpoint, requests) = answers(vec![refused(400, "ThrottlingException")]).await;
    let error = aws(&endpoint).secret("x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert_eq!(requests.lock().unwrap().len(), 5);
}

#[tokio::test]
async fn nobody_at_the_endpoint_is_unavailable() {
    let error = aws("http://127.0.0.1:1").parameter("/x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.hint().unwrap().contains("network"), "{error:?}");
}

#[tokio::test]
async fn an_answer_without_a_text_is_told_and_not_repeated() {
    let (endpoint, _) = answers(vec![(200, r#"{"SecretBinary":"aHVudGVyMg=="}"#.into())]).await;
    let error = aws(&endpoint).secret("x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
    assert!(!format!("{error:?}").contains("aHVudGVyMg"), "{error:?}");
    for body in ["", "<html>hunter2</html>", "[\"hunter2\"]", "{\"Parameter\":\"hunter2\"}"] {
        let (endpoint, _) = answers(vec![(200, body.into())]).await;
        let error = aws(&endpoint).parameter("/x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{body}: {error:?}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn keys_that_no_header_can_hold_are_an_error_and_no_panic() {
    let (endpoint, requests) = answers(vec![secret("s")]).await;
    let settings = BTreeMap::from(
        [
            ("AWS_ACCESS_KEY_ID", "AKIA\n"),
            ("AWS_SECRET_ACCESS_KEY", "not-to-be-shown"),
            ("AWS_ENDPOINT_URL", &endpoint),
        ]
        .map(|(name, value)| (name.to_string(), value.to_string())),
    );
    let error = Aws::new(&settings).secret("x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission, "{error:?}");
    assert!(requests.lock().unwrap().is_empty(), "nothing was sent");
}
