//! Servers of a test's own, the ways to them, and what can happen to both.

use std::sync::Arc;
use std::time::Duration;

use cloakroom::SessionStore;
use cloakroom::store::{MySqlStore, PostgresStore, RedisStore};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClient;
use sqlx::{Connection, MySqlConnection, PgConnection};

use crate::proxy::Proxy;
use crate::redis_server::{self, is_master};
use crate::sql_server::{self, Server};
use crate::until;

/// For how long the client of a cluster waits for an answer, less than the layer does.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(300);

pub(crate) trait Engine {
    /// Whether it keeps all that it acknowledged. Otherwise it keeps endings.
    const KEEPS_ALL: bool = true;

    /// The store of an app, to be made in the app's runtime.
    fn store(&self) -> impl Future<Output = Arc<dyn SessionStore>> + Send + 'static;

    /// How many clients the server has, by its own statistics, besides the one that asks.
    async fn connections(&self) -> usize;

    /// How many the store may have, as it was made.
    fn most_connections(&self) -> usize;

    /// Cuts the connections in the middle of what they are doing, as a network does. How many.
    async fn cut(&self) -> usize;

    /// Has the server end the connections, as an operator does. How many.
    async fn end_connections(&self) -> usize;

    /// Lets nothing through any more, of new connections either, and closes none.
    async fn hang(&mut self);

    async fn go_on(&mut self);

    /// As a crash does (SIGKILL).
    async fn kill(&mut self);

    /// Returns when the server answers.
    async fn restart(&mut self);
}

/// PostgreSQL or MariaDB, behind a proxy.
pub(crate) struct Sql {
    engine: sql_server::Engine,
    server: Server,
    proxy: Proxy,
}

impl Sql {
    pub(crate) async fn start(engine: sql_server::Engine) -> Option<Self> {
        let server = Server::start(engine)?;
        let proxy = Proxy::to(server.port).await;
        let sql = Self {
            engine,
            server,
            proxy,
        };
        until(async || sql.count(sql.others()).await.is_ok()).await;
        Some(sql)
    }

    /// How many other clients there are.
    fn others(&self) -> &'static str {
        match self.engine {
            sql_server::Engine::Postgres => {
                "SELECT count(*) FROM pg_stat_activity
                WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            }
            sql_server::Engine::MariaDb => {
                "SELECT count(*) FROM information_schema.processlist
                WHERE command <> 'Daemon' AND id <> connection_id()"
            }
        }
    }

    async fn count(&self, sql: &'static str) -> sqlx::Result<i64> {
        let url = self.server.url();
        match self.engine {
            sql_server::Engine::Postgres => {
                let mut connection = PgConnection::connect(&url).await?;
                sqlx::query_scalar(sql).fetch_one(&mut connection).await
            }
            sql_server::Engine::MariaDb => {
                let mut connection = MySqlConnection::connect(&url).await?;
                sqlx::query_scalar(sql).fetch_one(&mut connection).await
            }
        }
    }
}

impl Engine for Sql {
    fn store(&self) -> impl Future<Output = Arc<dyn SessionStore>> + Send + 'static {
        let engine = self.engine;
        let [server, proxy] = [self.server.port, self.proxy.port()].map(|port| port.to_string());
        let url = self.server.url().replace(&server, &proxy);
        async move {
            let store: Arc<dyn SessionStore> = match engine {
                sql_server::Engine::Postgres => {
                    let store = PostgresStore::connect(&url).await.unwrap();
                    store.migrate().await.unwrap();
                    Arc::new(store)
                }
                sql_server::Engine::MariaDb => {
                    let store = MySqlStore::connect(&url).await.unwrap();
                    store.migrate().await.unwrap();
                    Arc::new(store)
                }
            };
            store
        }
    }

    async fn connections(&self) -> usize {
        self.count(self.others()).await.unwrap() as usize
    }

    fn most_connections(&self) -> usize {
        10
    }

    async fn cut(&self) -> usize {
        self.proxy.cut()
    }

    async fn end_connections(&self) -> usize {
        match self.engine {
            sql_server::Engine::Postgres => {
                let ended = self.count(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
                );
                ended.await.unwrap() as usize
            }
            sql_server::Engine::MariaDb => {
                let mut connection = MySqlConnection::connect(&self.server.url()).await.unwrap();
                let ids: Vec<i64> = sqlx::query_scalar(
                    "SELECT id FROM information_schema.processlist
                    WHERE command <> 'Daemon' AND id <> connection_id()",
                )
                .fetch_all(&mut connection)
                .await
                .unwrap();
                let mut ended = 0;
                for id in ids {
                    let kill = sqlx::AssertSqlSafe(format!("KILL {id}"));
                    // One that the app has closed meanwhile is not there any more.
                    let killed = sqlx::raw_sql(kill).execute(&mut connection).await;
                    ended += usize::from(killed.is_ok());
                }
                ended
            }
        }
    }

    async fn hang(&mut self) {
        self.proxy.stall();
    }

    async fn go_on(&mut self) {
        self.proxy.resume();
    }

    async fn kill(&mut self) {
        self.server.kill();
    }

    async fn restart(&mut self) {
        self.server.restart();
        until(async || self.count(self.others()).await.is_ok()).await;
    }
}

/// A Redis that syncs each write, behind a proxy.
pub(crate) struct Redis {
    server: redis_server::Server,
    proxy: Proxy,
}

impl Redis {
    pub(crate) async fn start() -> Option<Self> {
        let options = ["--appendonly", "yes", "--appendfsync", "always"];
        let server = redis_server::Server::start(&options).await?;
        let proxy = Proxy::to(server.port()).await;
        Some(Self { server, proxy })
    }
}

impl Engine for Redis {
    fn store(&self) -> impl Future<Output = Arc<dyn SessionStore>> + Send + 'static {
        let url = self.proxy.url();
        async move {
            let client = redis::Client::open(url).unwrap();
            let config = ConnectionManagerConfig::new().set_max_delay(Duration::from_millis(200));
            let manager = ConnectionManager::new_with_config(client, config).await;
            Arc::new(RedisStore::new(manager.unwrap())) as Arc<dyn SessionStore>
        }
    }

    async fn connections(&self) -> usize {
        clients(&self.server).await
    }

    fn most_connections(&self) -> usize {
        1
    }

    async fn cut(&self) -> usize {
        self.proxy.cut()
    }

    async fn end_connections(&self) -> usize {
        kill_clients(&self.server).await
    }

    async fn hang(&mut self) {
        self.proxy.stall();
    }

    async fn go_on(&mut self) {
        self.proxy.resume();
    }

    async fn kill(&mut self) {
        self.server.kill();
    }

    async fn restart(&mut self) {
        self.server.restart().await;
    }
}

/// Besides the one that asks.
async fn clients(server: &redis_server::Server) -> usize {
    let list: String = server.ask(&["CLIENT", "LIST", "TYPE", "normal"]).await;
    list.lines().count() - 1
}

async fn kill_clients(server: &redis_server::Server) -> usize {
    server.ask(&["CLIENT", "KILL", "TYPE", "normal"]).await
}

/// Three masters with a replica each, which endings are waited for to reach.
pub(crate) struct Cluster {
    nodes: Vec<redis_server::Server>,
    /// The one that is not as it should be.
    at_fault: usize,
}

impl Cluster {
    pub(crate) async fn start() -> Option<Self> {
        let nodes = redis_server::cluster().await?;
        Some(Self { nodes, at_fault: 0 })
    }

    async fn choose_a_master(&mut self) {
        for (number, node) in self.nodes.iter().enumerate() {
            if number != self.at_fault && is_master(node).await {
                self.at_fault = number;
                return;
            }
        }
        panic!("the cluster has no other master");
    }

    /// Waits until another master can be at fault.
    async fn is_whole(&self) {
        until(async || {
            let mut masters = 0;
            for node in &self.nodes {
                let asked = node.try_ask::<String>(&["CLUSTER", "INFO"]).await;
                if !asked.is_ok_and(|info| info.contains("cluster_state:ok")) {
                    return false;
                }
                if is_master(node).await {
                    masters += 1;
                    node.until_followed().await;
                }
            }
            masters == 3
        })
        .await;
    }
}

impl Engine for Cluster {
    const KEEPS_ALL: bool = false;

    fn store(&self) -> impl Future<Output = Arc<dyn SessionStore>> + Send + 'static {
        let client = ClusterClient::builder(self.nodes.iter().map(redis_server::Server::url))
            .response_timeout(RESPONSE_TIMEOUT)
            .build()
            .unwrap();
        async move {
            let store = RedisStore::new(client.get_async_connection().await.unwrap());
            let waiting = client.get_async_connection().await.unwrap();
            Arc::new(store.wait_for_replicas(1, RESPONSE_TIMEOUT, waiting)) as Arc<dyn SessionStore>
        }
    }

    async fn connections(&self) -> usize {
        let mut connections = 0;
        for node in &self.nodes {
            connections += clients(node).await;
        }
        connections
    }

    fn most_connections(&self) -> usize {
        2 * self.nodes.len()
    }

    async fn cut(&self) -> usize {
        kill_clients(&self.nodes[0]).await
    }

    async fn end_connections(&self) -> usize {
        let mut ended = 0;
        for node in &self.nodes {
            ended += kill_clients(node).await;
        }
        ended
    }

    async fn hang(&mut self) {
        self.choose_a_master().await;
        self.nodes[self.at_fault].signal("STOP");
    }

    async fn go_on(&mut self) {
        self.nodes[self.at_fault].signal("CONT");
        self.is_whole().await;
    }

    async fn kill(&mut self) {
        self.choose_a_master().await;
        self.nodes[self.at_fault].kill();
    }

    async fn restart(&mut self) {
        self.nodes[self.at_fault].restart().await;
        self.is_whole().await;
    }
}
