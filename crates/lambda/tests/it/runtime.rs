//! The interface of the Lambda runtime on loopback: hands out events and takes what becomes of them.
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Notify, mpsc};

/// One event, and what comes with it.
pub(crate) struct Event {
    pub(crate) body: String,
    pub(crate) request_id: String,
    pub(crate) deadline_millis: u64,
    pub(crate) client_context: Option<String>,
}

/// What became of an event.
#[derive(Debug)]
pub(crate) enum Answer {
    Result(Value),
    Error { kind: String, message: String },
}

pub(crate) struct Runtime {
    pub(crate) port: u16,
    events: mpsc::UnboundedSender<Event>,
    answers: Mutex<mpsc::UnboundedReceiver<Answer>>,
    /// An event was asked for: the function is ready.
    pub(crate) ready: Arc<Notify>,
}

struct Shared {
    events: Mutex<mpsc::UnboundedReceiver<Event>>,
    answers: mpsc::UnboundedSender<Answer>,
    ready: Arc<Notify>,
}

impl Runtime {
    pub(crate) async fn start() -> Runtime {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (events, to_come) = mpsc::unbounded_channel();
        let (answers, came) = mpsc::unbounded_channel();
        let ready = Arc::new(Notify::new());
        let shared = Arc::new(Shared { events: Mutex::new(to_come), answers, ready: Arc::clone(&ready) });
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, Arc::clone(&shared)));
            }
        });
        Runtime { port, events, answers: Mutex::new(came), ready }
    }

    /// Hands out an event and waits for what becomes of it; none where nothing does in time.
    pub(crate) async fn hand_out(&self, event: Event) -> Option<Answer> {
        self.events.send(event).ok()?;
        let mut answers = self.answers.lock().await;
        tokio::time::timeout(Duration::from_secs(120), answers.recv()).await.ok()?
    }
}

async fn serve(mut connection: TcpStream, shared: Arc<Shared>) {
    let mut read = Vec::new();
    while let Some((line, body)) = request(&mut connection, &mut read).await {
        let answer = if line.starts_with("GET /2018-06-01/runtime/invocation/next ") {
            shared.ready.notify_one();
            let Some(event) = shared.events.lock().await.recv().await else { return };
            next(&event)
        } else if line.contains("/response ") {
            let _ = shared.answers.send(Answer::Result(serde_json::from_slice(&body).expect("a result is JSON")));
            accepted()
        } else if line.contains("/error ") {
            let error: Value = serde_json::from_slice(&body).expect("an error is JSON");
            let text = |name: &str| error[name].as_str().unwrap_or_default().to_string();
            let _ = shared.answers.send(Answer::Error { kind: text("errorType"), message: text("errorMessage") });
            accepted()
        } else {
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into()
        };
        if connection.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn next(event: &Event) -> String {
    let context = event.client_context.as_ref().map(|c| format!("Lambda-Runtime-Client-Context: {c}\r\n"));
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: {}\r\n\
         Lambda-Runtime-Deadline-Ms: {}\r\nLambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:1:function:f\r\n\
         {}Content-Length: {}\r\n\r\n{}",
        event.request_id,
        event.deadline_millis,
        context.unwrap_or_default(),
        event.body.len(),
        event.body
    )
}

fn accepted() -> String {
    "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".into()
}

/// The first line and the body of the next request of a connection.
async fn request(connection: &mut TcpStream, read: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    loop {
        if let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4) {
            let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
            let length = head.split_once("content-length: ").and_then(|(_, rest)| rest.split("\r\n").next());
            let length: usize = length.and_then(|digits| digits.parse().ok()).unwrap_or(0);
            if read.len() >= end + length {
                let line = String::from_utf8_lossy(&read[..end]).lines().next()?.to_string();
                let body = read[end..end + length].to_vec();
                read.drain(..end + length);
                return Some((line, body));
            }
        }
        if connection.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
}
