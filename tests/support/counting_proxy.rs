//! A proxy before a server, which counts what passes, or stops passing it on.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What a client sends before the server answers: as a round trip begins.
type Flight = Vec<u8>;

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    server: SocketAddr,
    flights: Mutex<Vec<Flight>>,
    /// The last byte was one of the client.
    in_flight: AtomicBool,
    /// Connections that are open then pass nothing on any more, and are not closed either.
    freeze: Notify,
}

impl Proxy {
    pub(crate) async fn new(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server,
            flights: Mutex::default(),
            in_flight: AtomicBool::new(false),
            freeze: Notify::new(),
        });
        let task = tokio::spawn({
            let shared = shared.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(shared.clone().pass_on(client));
                }
            }
        });
        Self {
            address,
            shared,
            task,
        }
    }

    /// The flights since the last call. Of one connection alone: those of several would mix.
    pub(crate) fn take_flights(&self) -> Vec<Flight> {
        std::mem::take(&mut self.shared.flights.lock().unwrap())
    }

    /// Lets every open connection hang, as when the server's machine is gone without a word. New ones work.
    pub(crate) fn freeze_connections(&self) {
        self.shared.freeze.notify_waiters();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    async fn pass_on(self: Arc<Self>, mut client: TcpStream) {
        let freeze = self.freeze.notified();
        let Ok(mut server) = TcpStream::connect(self.server).await else {
            return;
        };
        let frozen = {
            let (mut client_out, mut client_in) = client.split();
            let (mut server_out, mut server_in) = server.split();
            let requests = async {
                let mut buffer = vec![0; 1 << 16];
                loop {
                    match client_out.read(&mut buffer).await {
                        Ok(length) if length > 0 => {
                            self.note(&buffer[..length]);
                            if server_in.write_all(&buffer[..length]).await.is_err() {
                                return;
                            }
                        }
                        _ => return,
                    }
                }
            };
            let answers = async {
                let mut buffer = vec![0; 1 << 16];
                loop {
                    match server_out.read(&mut buffer).await {
                        Ok(length) if length > 0 => {
                            self.in_flight.store(false, Ordering::SeqCst);
                            if client_in.write_all(&buffer[..length]).await.is_err() {
                                return;
                            }
                        }
                        _ => return,
                    }
                }
            };
            tokio::select! {
                () = requests => false,
                () = answers => false,
                () = freeze => true,
            }
        };
        if frozen {
            // The sockets stay open, and nobody reads them.
            std::future::pending::<()>().await;
        }
    }

    fn note(&self, bytes: &[u8]) {
        let mut flights = self.flights.lock().unwrap();
        if !self.in_flight.swap(true, Ordering::SeqCst) {
            flights.push(Vec::new());
        }
        flights.last_mut().unwrap().extend(bytes);
    }
}
