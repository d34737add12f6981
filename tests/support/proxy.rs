//! A TCP proxy in front of a server, which counts round trips, can stop forwarding, and can cut connections.
#![allow(dead_code)]

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

pub(crate) struct Proxy {
    port: u16,
    target: Arc<AtomicU16>,
    turns: Arc<AtomicUsize>,
    forwarding: watch::Sender<bool>,
    /// Both directions of each connection.
    connections: Arc<Mutex<Vec<[AbortHandle; 2]>>>,
    server: JoinHandle<()>,
}

impl Proxy {
    /// Forwards connections to this port of loopback.
    pub(crate) async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Arc::new(AtomicU16::new(target));
        let turns = Arc::new(AtomicUsize::new(0));
        let (forwarding, receiver) = watch::channel(true);
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (counted, listed) = (turns.clone(), connections.clone());
        let aim = target.clone();
        let server = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let address = ("127.0.0.1", aim.load(Ordering::SeqCst));
                let Ok(server) = TcpStream::connect(address).await else {
                    continue;
                };
                let connection = forward(client, server, counted.clone(), receiver.clone());
                listed.lock().unwrap().push(connection);
            }
        });
        Self {
            port,
            target,
            turns,
            forwarding,
            connections,
            server,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Forwards connections to another port from now on, and cuts those that there are.
    pub(crate) fn lead_to(&self, target: u16) {
        self.target.store(target, Ordering::SeqCst);
        self.cut();
    }

    /// How often a client spoke after the server had: the round trips, where one waits for each answer.
    pub(crate) fn round_trips(&self) -> usize {
        self.turns.load(Ordering::SeqCst)
    }

    /// Leaves the connections open and forwards nothing any more, new connections' bytes included.
    pub(crate) fn stall(&self) {
        self.forwarding.send_replace(false);
    }

    pub(crate) fn resume(&self) {
        self.forwarding.send_replace(true);
    }

    /// Cuts every connection where it is, in the middle of an answer, too. How many these were.
    pub(crate) fn cut(&self) -> usize {
        let connections = std::mem::take(&mut *self.connections.lock().unwrap());
        let mut open = 0;
        for directions in connections {
            open += usize::from(directions.iter().all(|direction| !direction.is_finished()));
            directions.iter().for_each(AbortHandle::abort);
        }
        open
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn forward(
    client: TcpStream,
    server: TcpStream,
    turns: Arc<AtomicUsize>,
    forwarding: watch::Receiver<bool>,
) -> [AbortHandle; 2] {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let server_spoke = Arc::new(AtomicBool::new(true));
    let (spoke, mut open) = (server_spoke.clone(), forwarding.clone());
    let to_the_server = tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            if open.wait_for(|open| *open).await.is_err() {
                break;
            }
            if spoke.swap(false, Ordering::SeqCst) {
                turns.fetch_add(1, Ordering::SeqCst);
            }
            if to_server.write_all(&buffer[..length]).await.is_err() {
                break;
            }
        }
    });
    let mut open = forwarding;
    let to_the_client = tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
            if open.wait_for(|open| *open).await.is_err() {
                break;
            }
            server_spoke.store(true, Ordering::SeqCst);
            if to_client.write_all(&buffer[..length]).await.is_err() {
                break;
            }
        }
    });
    [to_the_server, to_the_client].map(|direction| direction.abort_handle())
}
