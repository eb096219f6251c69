//! A warehouse whose first COMMIT goes wrong on the way: a TCP proxy in front of PostgreSQL that breaks the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The driver sends a commit as a simple query.
const COMMIT: &[u8] = b"COMMIT\0";

/// Where the first COMMIT gets lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Before the server has it: nothing is committed.
    Request,
    /// After the server has done it: everything is committed, and nobody was told.
    Answer,
}

/// A proxy on a port of its own that passes everything on but one COMMIT; it ends with the test's runtime.
pub(crate) async fn cut_off_commit(server_port: u16, lost: Lost) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let armed = Arc::new(AtomicBool::new(true));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", server_port)).await.unwrap();
            tokio::spawn(pass_on(client, server, lost, armed.clone()));
        }
    });
    port
}

async fn pass_on(mut client: TcpStream, mut server: TcpStream, lost: Lost, armed: Arc<AtomicBool>) {
    let (mut from_client, mut from_server) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(bytes @ 1..) = read else { return };
                let sent = &from_client[..bytes];
                let is_commit = sent.windows(COMMIT.len()).any(|window| window == COMMIT);
                if is_commit && armed.swap(false, Ordering::SeqCst) {
                    if lost == Lost::Answer {
                        server.write_all(sent).await.unwrap();
                        // The answer shows that it is done; it goes no further.
                        let _ = server.read(&mut from_server).await;
                    }
                    return;
                }
                if server.write_all(sent).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut from_server) => {
                let Ok(bytes @ 1..) = read else { return };
                if client.write_all(&from_server[..bytes]).await.is_err() {
                    return;
                }
            }
        }
    }
}
