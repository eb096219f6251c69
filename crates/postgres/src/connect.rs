//! Connections to PostgreSQL.
//!
//! Guarantees: bytes that leave this machine are encrypted and the server is verified; there is no falling back; no
//! error or log holds a password, a URL or the text of a server's notice. A [`Connection`] that is dropped ends its
//! session at once, and the server rolls back what was open.
//!
//! No session lasts for ever by accident: connecting has a limit, the kernel's keepalive finds a peer that is gone within a
//! minute, and [`ConnectOptions::silence_timeout`] ends a session whose peer is there and says nothing.

mod credentials;
mod failure;
mod options;
mod tls;
mod url;

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use starlift_core::Result;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, CancelToken, Client, Config, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

pub use self::options::{ConnectOptions, IDLE_TIMEOUT, SslMode, Transport};
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
    let silence = options.silence_timeout;
    let attempt = async {
        match &tls {
            Some(tls) => config
                .connect(tls.clone())
                .await
                .map(|(client, session)| (client, tokio::spawn(drive(session, silence)))),
            None => {
                config.connect(NoTls).await.map(|(client, session)| (client, tokio::spawn(drive(session, silence))))
            }
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

/// Settings by which the server, too, finds out within a minute that we are gone, and lets go of what our session holds: its
/// own defaults take hours. So limits of the role's that would end a session which is alive are lifted: between two chunks it waits
/// for the lake, and reading a snapshot takes as long as it takes (`transaction_timeout`, from PostgreSQL 17 on), while each
/// statement has its limit. `scope` is `session` or `local`; a server that does not know one of them is left as it is.
///
/// `idle_session_timeout` acts outside of transactions only, so `local` does nothing about it: it is for the source. A load, which works
/// behind a pooler in transaction mode too, leaves nothing in a session that others get next; where the role's limit ends its
/// session before the transaction, nothing is written.
pub(crate) fn server_waits(scope: &str) -> String {
    let local = scope == "local";
    format!(
        "select pg_catalog.set_config(s.name, s.value, {local}) from (values ('tcp_keepalives_idle', '30'), \
         ('tcp_keepalives_interval', '10'), ('tcp_keepalives_count', '3'), ('tcp_user_timeout', '60000'), \
         ('client_connection_check_interval', '10000'), ('idle_session_timeout', '0'), ('transaction_timeout', '0')) \
         as s(name, value) \
         where exists (select from pg_catalog.pg_settings p where p.name = s.name) \
         and (s.name not like 'client%' or pg_catalog.version() like '%linux%')"
    )
}

/// Drives a session to its end, or until nothing has moved in it for as long as `silence` allows.
async fn drive<S>(mut session: tokio_postgres::Connection<Socket, S>, silence: Option<Duration>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut alarm = pin!(tokio::time::sleep(silence.unwrap_or_default()));
    loop {
        // Whatever wakes this task up but the alarm is the server, or a statement on its way to it.
        let next = poll_fn(|context: &mut Context<'_>| {
            if silence.is_some() && alarm.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(()));
            }
            let polled = session.poll_message(context).map(Ok);
            if let Some(silence) = silence {
                alarm.as_mut().reset(tokio::time::Instant::now() + silence);
                // A new time needs a new waker.
                let _ = alarm.as_mut().poll(context);
            }
            polled
        });
        match next.await {
            // A notice may quote row values, so its text stays out of the log.
            Ok(Some(Ok(AsyncMessage::Notice(notice)))) => {
                tracing::debug!(severity = notice.severity(), sqlstate = notice.code().code(), "notice of the server");
            }
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => {
                let sqlstate = error.code().map(|code| code.code().to_string());
                tracing::debug!(sqlstate, "a session ended");
                return;
            }
            Ok(None) => return,
            Err(()) => {
                let seconds = silence.unwrap_or_default().as_secs();
                tracing::warn!(seconds, "the database was silent for too long: its session is given up");
                return;
            }
        }
    }
}
