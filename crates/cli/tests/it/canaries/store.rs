//! Failures of the object store, from one that says back all that it was sent.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};

use super::canary::*;
use super::scenario;
use super::world::{Scenario, World};

pub(crate) fn scenarios(_: &World) -> Vec<Scenario> {
    // The store's message is said, and it holds all three: what was sent has come back, and the scrubber was there.
    let says = "key ***, secret ***, x-amz-security-token: ***";
    let answers = |name, status, code, exit| {
        scenario(name, "ingest", exit, says)
            .with("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", tell_tale(status, code)))
            .with("STARLIFT_LAKE_INGEST", "s3://aviary/ingest")
    };
    let place = |name, place: String| scenario(name, "ingest", 1, "credentials").with("STARLIFT_LAKE_INGEST", place);
    vec![
        answers("the store denies", "403 Forbidden", "AccessDenied", 1),
        answers("the store knows no such key", "403 Forbidden", "InvalidAccessKeyId", 1),
        answers("the token is old", "400 Bad Request", "ExpiredToken", 1),
        answers("the signature is wrong", "403 Forbidden", "SignatureDoesNotMatch", 1),
        answers("there is no such bucket", "404 Not Found", "NoSuchBucket", 1),
        answers("the store refuses", "400 Bad Request", "InvalidRequest", 1),
        scenario("an endpoint that is none", "ingest", 1, "AWS_ENDPOINT_URL")
            .with("AWS_ENDPOINT_URL", format!("https://u:{FLAG_PASSWORD}@"))
            .with("STARLIFT_LAKE_INGEST", "s3://aviary/ingest"),
        place("a place with credentials", format!("s3://{ACCESS_KEY}:{SECRET_KEY}@aviary/ingest")),
        place("a place with settings", format!("s3://aviary/ingest?secret={SECRET_KEY}")),
        scenario("a place of another kind", "ingest", 1, "cannot keep a lake")
            .with("STARLIFT_LAKE_INGEST", format!("https://u:{FLAG_PASSWORD}@h/x")),
    ]
}

/// A server on loopback that answers everything with one status, and repeats headers and credentials in its message. It ends
/// with the test's process.
fn tell_tale(status: &'static str, code: &'static str) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else { continue };
            let mut heard = Vec::new();
            let mut buffer = [0; 4096];
            while !heard.windows(4).any(|end| end == b"\r\n\r\n") {
                match connection.read(&mut buffer) {
                    Ok(bytes) if bytes > 0 => heard.extend_from_slice(&buffer[..bytes]),
                    _ => break,
                }
            }
            let heard = String::from_utf8_lossy(&heard).into_owned();
            let header =
                |name: &str| heard.lines().find(|line| line.to_lowercase().starts_with(name)).map(str::to_string);
            let token = header("x-amz-security-token");
            // The token has to have been sent, or nothing would be tried here.
            let token = token.unwrap_or_else(|| format!("no token in {heard}"));
            let message = format!("key {ACCESS_KEY}, secret {SECRET_KEY}, {token}");
            let body = format!(
                "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message>\
                 <AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId><Token-0>{SESSION_TOKEN}</Token-0></Error>"
            );
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = connection.write_all(answer.as_bytes());
            let _ = connection.shutdown(Shutdown::Write);
        }
    });
    port
}
