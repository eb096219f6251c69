//! A gate in front of the server that stands in for AWS: it passes requests on, or refuses some with the answer that AWS gives.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Which requests are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Every one to the store.
    Store,
    /// Those that would commit.
    Manifest,
    /// Those for a secret.
    Secret,
    /// Those for a parameter.
    Parameter,
}

/// What AWS answers: status, code and message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal(pub(crate) &'static str, pub(crate) &'static str, pub(crate) &'static str);

pub(crate) struct Gate {
    pub(crate) port: u16,
    rule: Rule,
}

/// What is refused, how often from now on, and how often it was.
type Rule = Arc<Mutex<(Option<(Asked, Refusal, u32)>, u32)>>;

impl Gate {
    pub(crate) async fn start(server: u16) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let rule = Rule::default();
        let shared = Arc::clone(&rule);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server, Arc::clone(&shared)));
            }
        });
        Gate { port, rule }
    }

    /// Refuses from now on.
    pub(crate) fn refuse(&self, asked: Asked, refusal: Refusal) {
        self.refuse_times(asked, refusal, u32::MAX);
    }

    /// Refuses so many requests, and passes those after them on.
    pub(crate) fn refuse_times(&self, asked: Asked, refusal: Refusal, times: u32) {
        *self.rule.lock().unwrap() = (Some((asked, refusal, times)), 0);
    }

    /// Passes everything on again; says how many requests were refused.
    pub(crate) fn open(&self) -> u32 {
        std::mem::take(&mut *self.rule.lock().unwrap()).1
    }
}

impl Asked {
    fn is(self, head: &str) -> bool {
        let target = |name: &str| head.contains(&format!("x-amz-target: {name}."));
        let is_store = !head.contains("x-amz-target: ");
        match self {
            Asked::Store => is_store,
            Asked::Manifest => is_store && head.starts_with("put ") && head.contains("/_manifests/"),
            Asked::Secret => target("secretsmanager"),
            Asked::Parameter => target("amazonssm"),
        }
    }
}

/// Serves one connection; each request that is passed on goes over a connection of its own.
async fn pass(mut client: TcpStream, server: u16, rule: Rule) -> Option<()> {
    let mut read = Vec::new();
    let (end, length) = loop {
        if let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4) {
            let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
            let length = head.split_once("content-length: ").and_then(|(_, rest)| rest.split("\r\n").next());
            let length: usize = length.and_then(|digits| digits.parse().ok()).unwrap_or(0);
            if read.len() >= end + length {
                break (end, length);
            }
        }
        if client.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&read[..end]).to_string();
    let refused = {
        let mut rule = rule.lock().unwrap();
        let refused = match &mut rule.0 {
            Some((asked, refusal, left)) if *left > 0 && asked.is(&head.to_lowercase()) => {
                *left -= 1;
                Some(*refusal)
            }
            _ => None,
        };
        rule.1 += u32::from(refused.is_some());
        refused
    };
    let answer = match refused {
        Some(refusal) => refusal.answer(&head).into_bytes(),
        None => {
            let mut upstream = TcpStream::connect(("127.0.0.1", server)).await.ok()?;
            let (first, rest) = head.split_once("\r\n")?;
            upstream.write_all(format!("{first}\r\nConnection: close\r\n{rest}").as_bytes()).await.ok()?;
            upstream.write_all(&read[end..end + length]).await.ok()?;
            let mut answer = Vec::new();
            upstream.read_to_end(&mut answer).await.ok()?;
            answer
        }
    };
    client.write_all(&answer).await.ok()
}

impl Refusal {
    /// As AWS writes it: S3 in XML, the others in JSON. A refusal repeats what was asked, with the token of the session.
    fn answer(self, head: &str) -> String {
        let Refusal(status, code, message) = self;
        let header = |name: &str| {
            let line = head.lines().find(|line| line.to_lowercase().starts_with(name));
            line.and_then(|line| line.split_once(": ")).map_or("", |(_, value)| value)
        };
        let (token, signed) = (header("x-amz-security-token"), header("authorization"));
        let body = if head.to_lowercase().contains("x-amz-target: ") {
            let repeated = format!("x-amz-security-token:{token} {signed}");
            serde_json::json!({ "__type": code, "message": message, "CanonicalRequest": repeated }).to_string()
        } else {
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
                 <Token-0>{token}</Token-0><CanonicalRequest>x-amz-security-token:{token}\n{signed}</CanonicalRequest></Error>"
            )
        };
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }
}
