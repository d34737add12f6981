//! The places where nodes keep their sessions: how a test gets one of its own, and how a node opens it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cloakroom::SessionStore;
use tempfile::TempDir;

/// Longer than a busy machine takes, so that no test fails for being slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// A place of a test's own, gone when it is dropped.
pub(crate) struct Place {
    folder: TempDir,
    name: String,
    _server: Option<Box<dyn Send>>,
}

impl Place {
    /// Tells a node the name of its place.
    pub(crate) const VARIABLE: &str = "CLOAKROOM_TEST_CHILD_PLACE";

    fn new(name: &str) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            name: name.into(),
            _server: None,
        }
    }

    fn on_server(name: &str, server: impl Send + 'static) -> Self {
        Self {
            _server: Some(Box::new(server)),
            ..Self::new(name)
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

fn name_of_this_nodes_place() -> String {
    std::env::var(Place::VARIABLE).unwrap()
}

fn folder_of_this_node() -> PathBuf {
    crate::child::folder().unwrap()
}

#[tokio::main]
async fn block_on<T>(future: impl Future<Output = T>) -> T {
    future.await
}

pub(crate) mod postgres {
    use super::*;
    use crate::servers;
    use crate::sql::PostgresPlace;
    use cloakroom::store::PostgresStore;

    pub(crate) fn new() -> Option<Place> {
        let place = block_on(PostgresPlace::new())?;
        Some(Place::on_server(&place.schema.clone(), place))
    }

    pub(crate) async fn open() -> Arc<dyn SessionStore> {
        let url = servers::url("CLOAKROOM_TEST_POSTGRES_URL").unwrap();
        let store = PostgresStore::connect(&url).await.unwrap();
        let store = store.with_schema(&name_of_this_nodes_place()).unwrap();
        store.migrate().await.unwrap();
        Arc::new(store)
    }
}

pub(crate) mod mariadb {
    use super::*;
    use crate::servers;
    use crate::sql::MySqlPlace;
    use cloakroom::store::MySqlStore;

    pub(crate) fn new() -> Option<Place> {
        let place = block_on(MySqlPlace::new())?;
        Some(Place::on_server(&place.database.clone(), place))
    }

    pub(crate) async fn open() -> Arc<dyn SessionStore> {
        let url = servers::url("CLOAKROOM_TEST_MYSQL_URL").unwrap();
        let (server, _database) = url.rsplit_once('/').unwrap();
        let url = format!("{server}/{}", name_of_this_nodes_place());
        let store = MySqlStore::connect(&url).await.unwrap();
        store.migrate().await.unwrap();
        Arc::new(store)
    }
}

pub(crate) mod redis {
    use super::*;
    use crate::servers;
    use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
    use cloakroom::store::{RedisConnection, RedisStore};

    pub(crate) fn new() -> Option<Place> {
        servers::url("CLOAKROOM_TEST_REDIS_URL")?;
        Some(Place::new(&unique_prefix()))
    }

    pub(crate) async fn open() -> Arc<dyn SessionStore> {
        let url = servers::url("CLOAKROOM_TEST_REDIS_URL").unwrap();
        let client = ::redis::Client::open(url).unwrap();
        let config = ConnectionManagerConfig::new().set_response_timeout(Some(PATIENCE));
        store(
            ConnectionManager::new_with_config(client, config)
                .await
                .unwrap(),
        )
    }

    /// What the tests leave there expires.
    pub(super) fn unique_prefix() -> String {
        format!("two-nodes-{:x}:", rand::random::<u64>())
    }

    pub(super) fn store(connection: impl Into<RedisConnection>) -> Arc<dyn SessionStore> {
        let store = RedisStore::new(connection);
        Arc::new(store.with_prefix(&name_of_this_nodes_place()).unwrap())
    }
}

pub(crate) mod redis_cluster {
    use super::*;
    use crate::servers;
    use ::redis::cluster::ClusterClient;

    pub(crate) fn new() -> Option<Place> {
        servers::url("CLOAKROOM_TEST_REDIS_CLUSTER_URLS")?;
        Some(Place::new(&redis::unique_prefix()))
    }

    pub(crate) async fn open() -> Arc<dyn SessionStore> {
        let urls = servers::url("CLOAKROOM_TEST_REDIS_CLUSTER_URLS").unwrap();
        let client = ClusterClient::builder(urls.split(','))
            .response_timeout(PATIENCE)
            .build()
            .unwrap();
        redis::store(client.get_async_connection().await.unwrap())
    }
}

pub(crate) mod sqlite {
    use super::*;
    use cloakroom::store::SqliteStore;

    pub(crate) fn new() -> Option<Place> {
        Some(Place::new(""))
    }

    pub(crate) async fn open() -> Arc<dyn SessionStore> {
        let file = folder_of_this_node().join("sessions.db");
        let store = SqliteStore::connect(file).await.unwrap();
        store.migrate().await.unwrap();
        Arc::new(store)
    }
}

pub(crate) mod files {
    use super::*;
    use cloakroom::store::FileStore;

    pub(crate) fn new() -> Option<Place> {
        Some(Place::new(""))
    }

    pub(crate) async fn open() -> Arc<dyn SessionStore> {
        let builder = FileStore::builder(folder_of_this_node().join("sessions"));
        Arc::new(builder.lock_timeout(PATIENCE).open().await.unwrap())
    }
}
