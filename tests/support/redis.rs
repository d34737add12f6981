//! Redis servers of a test's own, which it can set, stall, kill and start again.
#![allow(dead_code)]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cloakroom::clock::{Clock, SystemClock, from_unix_millis, to_unix_millis};
use cloakroom::store::{Handle, Record, RedisStore, Version};
use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::{FromRedisValue, RedisResult};
use tempfile::TempDir;
use time::OffsetDateTime;

/// How long anything may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A server with a folder of its own, on a free port of loopback. It ends with this value.
pub(crate) struct Server {
    child: Option<Child>,
    port: u16,
    folder: TempDir,
    options: Vec<String>,
}

impl Server {
    /// Starts a server with these options of the command line besides the usual ones.
    ///
    /// `None` where Redis is not installed: then the test is left out, and says so.
    pub(crate) async fn start(options: &[&str]) -> Option<Self> {
        if !super::servers::installed("redis-server") {
            return None;
        }
        for _ in 0..20 {
            let mut server = Self {
                child: None,
                port: free_port(),
                folder: tempfile::tempdir().unwrap(),
                options: options.iter().map(|&option| option.to_owned()).collect(),
            };
            if server.come_up().await {
                return Some(server);
            }
        }
        panic!("no Redis server came up");
    }

    /// Starts the server again, on the same port and folder.
    pub(crate) async fn restart(&mut self) {
        assert!(
            self.come_up().await,
            "the Redis server did not come up again"
        );
    }

    /// Whether it answers. It does not if another process has taken the port.
    async fn come_up(&mut self) -> bool {
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--save", "", "--repl-diskless-sync-delay", "0"])
            .args(["--repl-ping-replica-period", "1"])
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let process = format!("process_id:{}\r\n", child.id());
        self.child = Some(child);
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            match self.try_ask::<String>(&["INFO", "server"]).await {
                Ok(info) => return info.contains(&process),
                Err(_) if self.has_ended() => return false,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        panic!("the Redis server runs, but does not answer")
    }

    fn has_ended(&mut self) -> bool {
        let child = self.child.as_mut().unwrap();
        child.try_wait().unwrap().is_some()
    }

    /// Ends the process at once, as a crash would (SIGKILL).
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends the process a signal of this name.
    pub(crate) fn signal(&self, name: &str) {
        let process = self.child.as_ref().unwrap().id();
        let sent = Command::new("kill")
            .args(["-s", name, &process.to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) async fn connect(&self) -> ConnectionManager {
        connect(self.url()).await
    }

    pub(crate) async fn store(&self) -> RedisStore {
        RedisStore::new(self.connect().await)
    }

    /// The answer to a command, by a connection of its own.
    pub(crate) async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words).await.unwrap()
    }

    pub(crate) async fn try_ask<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let client = redis::Client::open(self.url())?;
        let mut connection: MultiplexedConnection =
            client.get_multiplexed_async_connection().await?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await
    }

    /// Waits until a replica follows, which it does only some time after it counts as online.
    pub(crate) async fn until_followed(&self) {
        until(|| async {
            let info: RedisResult<String> = self.try_ask(&["INFO", "replication"]).await;
            // The offset is the one that the replica last confirmed.
            info.is_ok_and(|info| info.contains("state=online") && !info.contains(",offset=0,"))
        })
        .await;
    }

    /// Waits until `INFO` of this section says so.
    pub(crate) async fn until_info_says(&self, section: &str, line: &str) {
        until(|| async {
            let info: RedisResult<String> = self.try_ask(&["INFO", section]).await;
            info.is_ok_and(|info| info.contains(line))
        })
        .await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three masters with a replica each.
pub(crate) async fn cluster() -> Option<Vec<Server>> {
    const OPTIONS: [&str; 6] = [
        "--cluster-enabled",
        "yes",
        "--cluster-config-file",
        "nodes.conf",
        "--cluster-node-timeout",
        "1000",
    ];
    let mut nodes = Vec::new();
    for _ in 0..6 {
        nodes.push(Server::start(&OPTIONS).await?);
    }
    let output = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(
            nodes
                .iter()
                .map(|node| format!("127.0.0.1:{}", node.port())),
        )
        .args(["--cluster-replicas", "1", "--cluster-yes"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    for node in &nodes {
        until(async || {
            let info: String = node.ask(&["CLUSTER", "INFO"]).await;
            info.contains("cluster_state:ok")
        })
        .await;
        if is_master(node).await {
            node.until_followed().await;
        }
    }
    Some(nodes)
}

pub(crate) async fn is_master(node: &Server) -> bool {
    let info: String = node.ask(&["INFO", "replication"]).await;
    info.contains("role:master")
}

/// A connection that waits for answers as long as a test may, since disks and processors are slow at times.
pub(crate) async fn connect(url: String) -> ConnectionManager {
    let client = redis::Client::open(url).unwrap();
    let config = ConnectionManagerConfig::new().set_response_timeout(Some(PATIENCE));
    let connection = ConnectionManager::new_with_config(client, config).await;
    connection.unwrap()
}

/// Waits until something is so, which no event tells of.
pub(crate) async fn until<F: Future<Output = bool>>(mut is_so: impl FnMut() -> F) {
    let start = Instant::now();
    while !is_so().await {
        assert!(
            start.elapsed() < PATIENCE,
            "what is waited for does not come"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn free_port() -> u16 {
    // Below 32768, where the system takes no ports for connections, and with room for a cluster's second
    // port.
    loop {
        let port = 20_000 + rand::random::<u16>() % 12_000;
        let both = [port, port + 10_000].map(|port| TcpListener::bind(("127.0.0.1", port)));
        if both.iter().all(Result::is_ok) {
            return port;
        }
    }
}

pub(crate) fn now() -> OffsetDateTime {
    from_unix_millis(to_unix_millis(SystemClock.now()))
}

pub(crate) fn handle(number: u64) -> Handle {
    let mut bytes = [0xC0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    Handle::from_bytes(bytes)
}

/// A record of this version that lives for another hour.
pub(crate) fn record(version: u64) -> Record {
    let now = now();
    Record {
        version: Version::from_u64(version),
        created_at: now,
        expires_at: now + Duration::from_secs(3_600),
        user_id: Some("alice".into()),
        payload: format!("payload of version {version}").into_bytes().into(),
    }
}

pub(crate) fn key(handle: &Handle) -> String {
    format!("cloakroom:{handle}")
}
