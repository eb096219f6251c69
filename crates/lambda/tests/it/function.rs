//! A function's process, as Lambda starts and invokes it.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use starlift_core::alarm;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::runtime::{Answer, Event, Runtime};

pub(crate) struct Function {
    runtime: Runtime,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    invocations: u32,
    /// From the start of the process until it asked for an event.
    pub(crate) start: Duration,
}

/// The program of a function: the one that was built with the tests, or the `bootstrap` of a zip that was unpacked to
/// `STARLIFT_TEST_FUNCTIONS/<name>/`.
pub(crate) fn program(name: &str) -> PathBuf {
    match std::env::var_os("STARLIFT_TEST_FUNCTIONS") {
        Some(folder) => PathBuf::from(folder).join(name).join("bootstrap"),
        None => match name {
            "ingest" => env!("CARGO_BIN_EXE_ingest").into(),
            "transform" => env!("CARGO_BIN_EXE_transform").into(),
            "load" => env!("CARGO_BIN_EXE_load").into(),
            other => panic!("there is no function `{other}`"),
        },
    }
}

impl Function {
    /// Starts a function with these variables and waits until it asks for its first event.
    pub(crate) async fn start(name: &str, environment: &[(String, String)]) -> Function {
        let runtime = Runtime::start().await;
        let mut command = Command::new(program(name));
        command
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", format!("127.0.0.1:{}", runtime.port))
            .env("AWS_LAMBDA_FUNCTION_NAME", format!("totesys-{name}"))
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let begun = Instant::now();
        let mut child = command.spawn().expect("the function starts");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (mut said, kept) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&lines));
        tokio::spawn(async move {
            while let Ok(Some(line)) = said.next_line().await {
                kept.lock().unwrap().push(line);
            }
        });
        let ready = tokio::time::timeout(Duration::from_secs(60), runtime.ready.notified()).await;
        let start = begun.elapsed();
        assert!(ready.is_ok(), "it never asked for an event: {:?}", lines.lock().unwrap());
        Function { runtime, child, lines, invocations: 0, start }
    }

    /// Invokes it as the run of this id, with a minute and a half to work.
    pub(crate) async fn invoke(&mut self, run_id: &str, event: &str) -> Answer {
        self.invoke_with(json!({ "custom": { "run_id": run_id } }), event, Duration::from_secs(90)).await
    }

    pub(crate) async fn invoke_with(&mut self, context: Value, event: &str, time: Duration) -> Answer {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let deadline = if time.is_zero() { 0 } else { (now + time).as_millis() as u64 };
        self.invocations += 1;
        let event = Event {
            body: event.into(),
            request_id: format!("request-{}", self.invocations),
            deadline_millis: deadline,
            client_context: (!context.is_null()).then(|| context.to_string()),
        };
        let answer = self.runtime.hand_out(event).await;
        answer.unwrap_or_else(|| panic!("it did not answer: {:#?}", self.lines.lock().unwrap()))
    }

    /// What it returned, which has to be a result.
    pub(crate) async fn result(&mut self, run_id: &str, event: &str) -> Value {
        match self.invoke(run_id, event).await {
            Answer::Result(value) => value,
            Answer::Error { kind, message } => panic!("{kind}: {message}\n{:#?}", self.lines.lock().unwrap()),
        }
    }

    /// Invokes it, which has to fail with an error of this type and one line that raises the alarm. Returns message and line.
    pub(crate) async fn fails(&mut self, event: &str, kind: &str) -> (String, Value) {
        let answer = self.invoke("the-run", event).await;
        self.failed(answer, kind).await
    }

    pub(crate) async fn failed(&mut self, answer: Answer, kind: &str) -> (String, Value) {
        let Answer::Error { kind: found, message } = answer else { panic!("it did not fail: {answer:?}") };
        assert_eq!(found, kind, "{message}");
        let lines = self.said().await;
        let critical: Vec<&String> = lines.iter().filter(|line| alarms(line)).collect();
        assert_eq!(critical.len(), 1, "{lines:#?}");
        let line: Value = serde_json::from_str(critical[0]).unwrap();
        assert_eq!(line["error_type"], kind, "{line}");
        assert!(line["next"].is_string() && line["kind"].is_string() && line["run_id"].is_string(), "{line}");
        (message, line)
    }

    /// What it has said since this was asked last: each line one JSON object with what every line has.
    pub(crate) async fn said(&mut self) -> Vec<String> {
        // What was written before the answer may still be on its way.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let lines = std::mem::take(&mut *self.lines.lock().unwrap());
        for line in &lines {
            let value: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
            let text = |name: &str| value[name].as_str().unwrap_or_else(|| panic!("no `{name}` in {line}"));
            assert!(starlift_core::Micros::parse(text("timestamp")).is_some(), "{line}");
            assert!(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"].contains(&text("level")), "{line}");
            assert_eq!(text("severity"), text("level"), "{line}");
            text("message");
        }
        lines
    }

    /// What it has said since it was asked last, which stays to be asked for.
    pub(crate) fn peek(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Whether the process is still there.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The most memory that it has had, in MiB.
    pub(crate) fn peak_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }
}

/// Whether the filter that is shipped finds the line.
pub(crate) fn alarms(line: &str) -> bool {
    alarm::matches(alarm::PATTERN, line).expect("a pattern of the form that is known")
}
