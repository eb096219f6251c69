//! A private server that stands in for AWS: S3, Secrets Manager and Systems Manager's parameters. `make test` installs two of
//! them, `ministack` and `moto`, each into a Python environment of its own: neither is strict everywhere, so what has to hold
//! of S3 is tested against both.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TRIES: u32 = 300;
const PAUSE: Duration = Duration::from_millis(100);

/// Which server stands in for AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Implementation {
    /// `ministack`.
    Ministack,
    /// `moto`.
    Moto,
}

impl Implementation {
    /// The Python that has it.
    ///
    /// # Panics
    /// Where `make test` has not said which: a test that needs the server does not skip.
    #[allow(clippy::disallowed_methods, reason = "a test finds its server by a variable that `make test` sets")]
    pub fn python(self) -> PathBuf {
        let variable = match self {
            Implementation::Ministack => "STARLIFT_TEST_S3_PYTHON",
            Implementation::Moto => "STARLIFT_TEST_MOTO_PYTHON",
        };
        let Some(python) = std::env::var_os(variable) else {
            panic!("run the tests by `make test`, which installs the servers that stand in for AWS and sets {variable}")
        };
        python.into()
    }

    fn command(self, python: &Path, port: u16) -> Command {
        let mut command = Command::new(python);
        let port = port.to_string();
        match self {
            Implementation::Ministack => {
                command.args(["-m", "ministack"]).env("BIND_HOST", "127.0.0.1").env("GATEWAY_PORT", port);
            }
            Implementation::Moto => {
                command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port]);
            }
        }
        command.env("AWS_DEFAULT_REGION", REGION);
        command
    }
}

const REGION: &str = "us-east-1";

/// A running server with one bucket; it ends when it is dropped.
#[derive(Debug)]
pub struct S3Server {
    child: Child,
    port: u16,
}

impl S3Server {
    /// Starts `ministack` by a Python that has it, and creates the bucket.
    ///
    /// # Errors
    /// Where it cannot be started, or does not answer in time.
    pub async fn start(python: &Path, bucket: &str) -> io::Result<S3Server> {
        S3Server::run(Implementation::Ministack, python, bucket).await
    }

    /// Starts one of the servers that `make test` has installed, and creates the bucket.
    ///
    /// # Errors
    /// Where it cannot be started, or does not answer in time.
    pub async fn start_as(implementation: Implementation, bucket: &str) -> io::Result<S3Server> {
        S3Server::run(implementation, &implementation.python(), bucket).await
    }

    async fn run(implementation: Implementation, python: &Path, bucket: &str) -> io::Result<S3Server> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = implementation
            .command(python, port)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let server = S3Server { child, port };
        for _ in 0..TRIES {
            tokio::time::sleep(PAUSE).await;
            if server.create_bucket(bucket).await.unwrap_or(false) {
                return Ok(server);
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the server that stands in for AWS did not create the bucket"))
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The settings of a client that reaches it at a port, its own or a proxy's.
    pub fn settings(port: u16) -> [(&'static str, String); 4] {
        [
            ("AWS_ACCESS_KEY_ID", "test".into()),
            ("AWS_SECRET_ACCESS_KEY", "test".into()),
            ("AWS_REGION", REGION.into()),
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}")),
        ]
    }

    /// Creating a bucket is an unsigned PUT of its path here; it also shows that the server is up.
    async fn create_bucket(&self, bucket: &str) -> io::Result<bool> {
        Ok(self.send(&format!("PUT /{bucket}"), "", "").await?.starts_with("HTTP/1.1 200"))
    }

    /// Gives a secret this text, and makes the secret where there is none yet.
    ///
    /// # Errors
    /// Where the server does not take it.
    pub async fn put_secret(&self, name: &str, text: &str) -> io::Result<()> {
        let (name, text) = (quoted(name), quoted(text));
        let newer = format!("{{\"SecretId\":{name},\"SecretString\":{text}}}");
        if self.call("secretsmanager", "secretsmanager.PutSecretValue", &newer).await.is_ok() {
            return Ok(());
        }
        let first = format!("{{\"Name\":{name},\"SecretString\":{text}}}");
        self.call("secretsmanager", "secretsmanager.CreateSecret", &first).await
    }

    /// Gives a parameter this value; encrypted where it is a secret.
    ///
    /// # Errors
    /// Where the server does not take it.
    pub async fn put_parameter(&self, name: &str, value: &str, is_secret: bool) -> io::Result<()> {
        let kind = if is_secret { "SecureString" } else { "String" };
        let (name, value) = (quoted(name), quoted(value));
        let body = format!("{{\"Name\":{name},\"Value\":{value},\"Type\":\"{kind}\",\"Overwrite\":true}}");
        self.call("ssm", "AmazonSSM.PutParameter", &body).await
    }

    async fn call(&self, service: &str, target: &str, body: &str) -> io::Result<()> {
        let headers = format!(
            "Content-Type: application/x-amz-json-1.1\r\nX-Amz-Target: {target}\r\nAuthorization: AWS4-HMAC-SHA256 \
             Credential=test/20240101/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=0\r\n"
        );
        let answer = self.send("POST /", &headers, body).await?;
        if answer.starts_with("HTTP/1.1 200") {
            return Ok(());
        }
        Err(io::Error::other(format!("{target} was answered: {answer}")))
    }

    /// One request over a connection of its own; the answer as it came.
    async fn send(&self, what: &str, headers: &str, body: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let request = format!(
            "{what} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.port,
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A text as JSON has it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
