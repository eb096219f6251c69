//! A network that fails: a TCP proxy on loopback that cuts, resets or stalls a connection at a chosen byte.
//!
//! It counts the bytes of each direction over all connections since it was last armed. The connection that carries the
//! chosen byte fails, once; others, and later ones, are carried unharmed. It can also listen in: see [`Proxy::recording`].

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Where bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

/// How a connection fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Both ends see that the other has closed.
    Cut,
    /// Both ends see a reset.
    Reset,
    /// Nothing more arrives at either end, and neither is told. When the client gives up, the server sees it close.
    Stall,
}

/// A failure at a byte: those before it are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkFault {
    /// The direction whose bytes are counted.
    pub direction: Direction,
    /// How many bytes are delivered.
    pub after: u64,
    /// What happens then.
    pub failure: Failure,
}

/// A running proxy; it ends, with its connections, when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    state: Mutex<State>,
    recorded: Option<Mutex<Recorded>>,
}

/// What clients sent, one connection after the other, and how many connections are still open.
#[derive(Debug, Default)]
struct Recorded {
    sent: Vec<Vec<u8>>,
    open: usize,
}

#[derive(Debug, Default)]
struct State {
    carried: [u64; 2],
    fault: Option<NetworkFault>,
    has_struck: bool,
}

impl Proxy {
    /// A proxy for a server on loopback.
    ///
    /// # Errors
    /// Where no port can be listened on.
    pub async fn start(server_port: u16) -> io::Result<Proxy> {
        Proxy::with(server_port, None).await
    }

    /// The same, which also keeps every byte that a client sends: see [`Proxy::sent`].
    ///
    /// # Errors
    /// Where no port can be listened on.
    pub async fn recording(server_port: u16) -> io::Result<Proxy> {
        Proxy::with(server_port, Some(Mutex::default())).await
    }

    async fn with(server_port: u16, recorded: Option<Mutex<Recorded>>) -> io::Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, server_port));
        let shared = Arc::new(Shared { server, state: Mutex::default(), recorded });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Proxy { port, shared, task })
    }

    /// The port that clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Counts from 0 again, and lets the connection fail that reaches the fault; none fails none.
    pub fn arm(&self, fault: Option<NetworkFault>) {
        *self.shared.state() = State { fault, ..State::default() };
    }

    /// Bytes that were carried in a direction since the proxy was armed.
    pub fn carried(&self, direction: Direction) -> u64 {
        self.shared.state().carried[direction as usize]
    }

    /// What each connection's client sent, in the order in which they came. It waits until none of them is open any more,
    /// so that nothing that was sent is missing; a proxy that does not record has none.
    pub async fn sent(&self) -> Vec<Vec<u8>> {
        let Some(recorded) = &self.shared.recorded else { return Vec::new() };
        loop {
            {
                let recorded = recorded.lock().unwrap_or_else(PoisonError::into_inner);
                if recorded.open == 0 {
                    return recorded.sent.clone();
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The same until now, by connections that are still open too: of a client that waits for each answer nothing is missing.
    pub fn sent_so_far(&self) -> Vec<Vec<u8>> {
        let recorded = self.shared.recorded.as_ref();
        recorded
            .map(|recorded| recorded.lock().unwrap_or_else(PoisonError::into_inner).sent.clone())
            .unwrap_or_default()
    }

    /// Whether the fault has come about.
    pub fn has_struck(&self) -> bool {
        self.shared.state().has_struck
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, record: impl FnOnce(&mut Recorded)) {
        if let Some(recorded) = &self.recorded {
            record(&mut recorded.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Counts bytes that are about to be carried; where the fault is among them, how many are still delivered.
    fn count(&self, direction: Direction, bytes: usize) -> Option<(usize, Failure)> {
        let mut state = self.state();
        let before = state.carried[direction as usize];
        state.carried[direction as usize] += bytes as u64;
        let fault = state.fault.filter(|fault| fault.direction == direction && !state.has_struck)?;
        let delivered = fault.after.checked_sub(before).filter(|left| *left < bytes as u64)?;
        state.has_struck = true;
        Some((usize::try_from(delivered).unwrap_or(bytes), fault.failure))
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Connections end with the proxy: they are tasks of this set.
    let mut connections = tokio::task::JoinSet::new();
    let mut number = 0;
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                shared.record(|recorded| {
                    recorded.sent.push(Vec::new());
                    recorded.open += 1;
                });
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    carry(client, &shared, number).await;
                    shared.record(|recorded| recorded.open -= 1);
                });
                number += 1;
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// How a connection stands; both directions look at it.
type Verdict = watch::Sender<Option<Failure>>;

async fn carry(client: TcpStream, shared: &Shared, number: usize) {
    let Ok(server) = TcpStream::connect(shared.server).await else { return };
    // What is small must not wait: the byte that fails should be the last one delivered.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let verdict = Verdict::new(None);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::join!(
        pump(Direction::ToServer, from_client, to_server, shared, number, &verdict),
        pump(Direction::ToClient, from_server, to_client, shared, number, &verdict)
    );
}

async fn pump(
    direction: Direction,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    number: usize,
    verdict: &Verdict,
) {
    let mut buffer = vec![0; 16 << 10];
    let mut failed = verdict.subscribe();
    let failure = loop {
        let read = tokio::select! {
            biased;
            Ok(_) = failed.wait_for(Option::is_some) => break *verdict.borrow(),
            read = from.read(&mut buffer) => read,
        };
        let Some(bytes) = read.ok().filter(|bytes| *bytes > 0) else {
            let _ = to.shutdown().await;
            break None;
        };
        if direction == Direction::ToServer {
            shared.record(|recorded| recorded.sent[number].extend_from_slice(&buffer[..bytes]));
        }
        let strike = shared.count(direction, bytes);
        let delivered = strike.map_or(bytes, |(delivered, _)| delivered);
        let written = to.write_all(&buffer[..delivered]).await;
        if let Some((_, failure)) = strike {
            verdict.send_replace(Some(failure));
        } else if written.is_err() {
            break None;
        }
    };
    match failure {
        // A socket that is closed with a linger of zero answers with a reset, unless it was shut down before.
        Some(Failure::Reset) => {
            let _ = (to.as_ref().set_zero_linger(), from.as_ref().set_zero_linger());
            to.forget();
        }
        // Swallow what still comes, until the client has had enough.
        Some(Failure::Stall) if direction == Direction::ToServer => {
            while from.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {}
            verdict.send_replace(Some(Failure::Cut));
        }
        Some(Failure::Stall) => {
            let _ = failed.wait_for(|failure| *failure == Some(Failure::Cut)).await;
        }
        Some(Failure::Cut) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets.
    async fn echo() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = connection.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        port
    }

    async fn client(proxy: &Proxy) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.unwrap()
    }

    /// What comes back of ten bytes.
    async fn ten(connection: &mut TcpStream) -> io::Result<Vec<u8>> {
        connection.write_all(b"0123456789").await?;
        let mut back = Vec::new();
        while back.len() < 10 && connection.read_buf(&mut back).await? > 0 {}
        Ok(back)
    }

    #[tokio::test]
    async fn bytes_are_carried_and_counted_until_the_fault_and_after_it() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        let mut connection = client(&proxy).await;
        assert_eq!(ten(&mut connection).await.unwrap(), b"0123456789");
        assert_eq!((proxy.carried(Direction::ToServer), proxy.carried(Direction::ToClient)), (10, 10));

        proxy.arm(Some(NetworkFault { direction: Direction::ToClient, after: 14, failure: Failure::Cut }));
        assert_eq!(ten(&mut connection).await.unwrap(), b"0123456789");
        assert!(!proxy.has_struck());
        assert_eq!(ten(&mut connection).await.unwrap(), b"0123");
        assert!(proxy.has_struck());
        assert_eq!(ten(&mut client(&proxy).await).await.unwrap(), b"0123456789");
    }

    #[tokio::test]
    async fn a_reset_is_an_error_and_a_stall_is_silence() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        proxy.arm(Some(NetworkFault { direction: Direction::ToServer, after: 3, failure: Failure::Reset }));
        let error = ten(&mut client(&proxy).await).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

        proxy.arm(Some(NetworkFault { direction: Direction::ToServer, after: 3, failure: Failure::Stall }));
        let mut connection = client(&proxy).await;
        let silent = tokio::time::timeout(Duration::from_millis(300), ten(&mut connection)).await;
        assert!(silent.is_err());
        assert!(proxy.has_struck());
        assert_eq!(ten(&mut client(&proxy).await).await.unwrap(), b"0123456789");
    }

    #[tokio::test]
    async fn what_clients_send_is_kept_by_connection_where_that_is_asked_for() {
        let proxy = Proxy::recording(echo().await).await.unwrap();
        for _ in 0..2 {
            ten(&mut client(&proxy).await).await.unwrap();
        }
        assert_eq!(proxy.sent().await, [b"0123456789", b"0123456789"]);
        let silent = Proxy::start(echo().await).await.unwrap();
        ten(&mut client(&silent).await).await.unwrap();
        assert!(silent.sent().await.is_empty());
    }
}
