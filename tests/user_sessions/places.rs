//! Stores of a test's own, as many as it asks for.

use std::sync::{Arc, Mutex};

use cloakroom::SessionStore;
use cloakroom::store::{FileStore, MemoryStore, RedisConnection, RedisStore, SqliteStore};

use crate::servers;
use crate::sql::{MySqlPlace, PostgresPlace};

/// Of each store on an SQL server, fewer than the logins at once.
const CONNECTIONS: u32 = 4;

/// Where stores are made. What they have left there is gone when this is dropped, or expires.
pub(crate) struct Place {
    kind: Kind,
    /// What is to be dropped with it.
    kept: Mutex<Vec<Box<dyn Send>>>,
}

enum Kind {
    Memory,
    File,
    Sqlite,
    Postgres,
    MySql,
    Redis(String),
    RedisCluster(String),
}

/// `None` where there is no such server.
fn place(kind: Option<Kind>) -> Option<Place> {
    Some(Place {
        kind: kind?,
        kept: Mutex::default(),
    })
}

pub(crate) fn memory() -> Option<Place> {
    place(Some(Kind::Memory))
}

pub(crate) fn file() -> Option<Place> {
    place(Some(Kind::File))
}

pub(crate) fn sqlite() -> Option<Place> {
    place(Some(Kind::Sqlite))
}

pub(crate) fn postgres() -> Option<Place> {
    place(servers::url("CLOAKROOM_TEST_POSTGRES_URL").map(|_| Kind::Postgres))
}

pub(crate) fn mysql() -> Option<Place> {
    place(servers::url("CLOAKROOM_TEST_MYSQL_URL").map(|_| Kind::MySql))
}

pub(crate) fn redis() -> Option<Place> {
    place(servers::url("CLOAKROOM_TEST_REDIS_URL").map(Kind::Redis))
}

pub(crate) fn redis_cluster() -> Option<Place> {
    place(servers::url("CLOAKROOM_TEST_REDIS_CLUSTER_URLS").map(Kind::RedisCluster))
}

impl Place {
    /// A store in which nothing is yet.
    pub(crate) async fn store(&self) -> Arc<dyn SessionStore> {
        match &self.kind {
            Kind::Memory => Arc::new(MemoryStore::new()),
            Kind::File => {
                // Syncing takes most of the time, and is tested with the store itself.
                let builder = FileStore::builder(self.folder().join("sessions"));
                Arc::new(builder.without_sync().open().await.unwrap())
            }
            Kind::Sqlite => {
                let store = SqliteStore::connect(self.folder().join("sessions.db")).await;
                let store = store.unwrap();
                store.migrate().await.unwrap();
                Arc::new(store)
            }
            Kind::Postgres => {
                let place = PostgresPlace::new().await.unwrap();
                let store = place.migrated(CONNECTIONS).await;
                self.keep(place);
                Arc::new(store)
            }
            Kind::MySql => {
                let place = MySqlPlace::new().await.unwrap();
                let store = place.migrated(CONNECTIONS).await;
                self.keep(place);
                Arc::new(store)
            }
            Kind::Redis(url) => {
                let client = redis::Client::open(url.as_str()).unwrap();
                on_redis(client.get_connection_manager().await.unwrap())
            }
            Kind::RedisCluster(urls) => {
                let client = redis::cluster::ClusterClient::new(urls.split(',')).unwrap();
                on_redis(client.get_async_connection().await.unwrap())
            }
        }
    }

    fn folder(&self) -> std::path::PathBuf {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        self.keep(folder);
        path
    }

    fn keep(&self, what: impl Send + 'static) {
        self.kept.lock().unwrap().push(Box::new(what));
    }
}

fn on_redis(connection: impl Into<RedisConnection>) -> Arc<dyn SessionStore> {
    let prefix = format!("user-sessions-{:x}:", rand::random::<u64>());
    Arc::new(RedisStore::new(connection).with_prefix(&prefix).unwrap())
}
