//! Connections to PostgreSQL.
//!
//! Guarantees: bytes that leave this machine are encrypted and the server is verified; there is no falling back; no
//! error or log holds a password, a URL or the text of a server's notice. A [`Connection`] that is dropped ends its
//! session at once, and the server rolls back what was open.

mod credentials;
mod failure;
mod options;
mod tls;
mod url;

use std::future::poll_fn;
use std::time::Duration;

use starlift_core::Result;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, CancelToken, Client, Config, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

pub use self::options::{ConnectOptions, SslMode, Transport};
use crate::sqlstate;

const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long [`Connection::close`] waits for a polite end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A session and the task that drives it.
pub struct Connection {
    client: Client,
    cancel: CancelToken,
    tls: Option<MakeRustlsConnect>,
    task: Task,
}

/// Ends with its owner.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("closed", &self.client.is_closed()).finish_non_exhaustive()
    }
}

impl Connection {
    /// The client, to run statements with.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The client, for what needs it alone: `Client::transaction`.
    pub fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Asks the server to cancel the statement that runs in this session, over a connection of its own.
    ///
    /// # Errors
    /// Unavailable where the server cannot be reached; success does not mean that anything was cancelled.
    pub async fn cancel(&self) -> Result<()> {
        let outcome = match &self.tls {
            Some(tls) => self.cancel.cancel_query(tls.clone()).await,
            None => self.cancel.cancel_query(NoTls).await,
        };
        outcome.map_err(|e| sqlstate::classify(e, "cannot cancel a statement"))
    }

    /// Ends the session politely; a server that does not listen is left after two seconds.
    pub async fn close(self) {
        let Connection { client, mut task, .. } = self;
        drop(client);
        // Whether it ended by itself makes no difference: the task ends with its guard.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, &mut task.0).await;
    }
}

/// Connects, authenticates, and starts the task that drives the session in the current tokio runtime.
///
/// # Errors
/// Config where the options or the server's certificate cannot be used, Permission where the server refuses the role,
/// Unavailable where it cannot be reached in time.
pub async fn connect(options: &ConnectOptions) -> Result<Connection> {
    let tls = match options.transport()? {
        Transport::Plain => None,
        Transport::VerifiedTls => Some(tls::connector(options.root_cert.as_deref())?),
    };
    let config = driver_config(options, tls.is_some());
    let attempt = async {
        match &tls {
            Some(tls) => {
                config.connect(tls.clone()).await.map(|(client, session)| (client, tokio::spawn(drive(session))))
            }
            None => config.connect(NoTls).await.map(|(client, session)| (client, tokio::spawn(drive(session)))),
        }
    };
    // The driver's own limit ends with the TCP connection; this one covers TLS and authentication too.
    let (client, task) = tokio::time::timeout(options.connect_timeout, attempt)
        .await
        .map_err(|_| failure::timed_out(options))?
        .map_err(|error| failure::refused(error, options))?;
    Ok(Connection { cancel: client.cancel_token(), client, tls, task: Task(task) })
}

fn driver_config(options: &ConnectOptions, tls: bool) -> Config {
    use tokio_postgres::config::SslMode as DriverMode;
    let mut config = Config::new();
    config
        .host(&options.host)
        .port(options.port)
        .user(&options.user)
        .dbname(&options.database)
        .application_name(&options.application_name)
        .connect_timeout(options.connect_timeout)
        .keepalives(true)
        .keepalives_idle(KEEPALIVE)
        .keepalives_interval(KEEPALIVE / 3)
        .keepalives_retries(3)
        .tcp_user_timeout(KEEPALIVE * 2)
        // Never the driver's default, which falls back to plain text.
        .ssl_mode(if tls { DriverMode::Require } else { DriverMode::Disable });
    if let Some(password) = &options.password {
        config.password(password.expose());
    }
    config
}

async fn drive<S>(mut session: tokio_postgres::Connection<Socket, S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match poll_fn(|context| session.poll_message(context)).await {
            // A notice may quote row values, so its text stays out of the log.
            Some(Ok(AsyncMessage::Notice(notice))) => {
                tracing::debug!(severity = notice.severity(), sqlstate = notice.code().code(), "notice of the server");
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                let sqlstate = error.code().map(|code| code.code().to_string());
                tracing::debug!(sqlstate, "a session ended");
                return;
            }
            None => return,
        }
    }
}
