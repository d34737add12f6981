//! Redis as a place of programs.
//!
//! Redis removes keys by its own clock, which a program cannot set: to it hours pass in a moment, in which
//! nothing of a program is ever removed. So a sweep does it: it removes each key whose time has come by the
//! program's clock, as a server with that clock would do, and one after the other as that does.
//! What is left out is that Redis removes a key at the very millisecond, also between the steps of a request;
//! programs remove it at any later step. That it does so by the time that it was given is a matter of the
//! store's own tests.

use std::fmt;

use cloakroom::SessionStore;
use cloakroom::clock::to_unix_millis;
use cloakroom::store::{
    Handle, Outcome, Record, RedisConnection, RedisStore, StoreError, UserIndex, Version,
    async_trait,
};
use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::cluster::ClusterClient;
use time::OffsetDateTime;

/// Say where the servers are.
pub(crate) const SERVER: &str = "CLOAKROOM_TEST_REDIS_URL";
pub(crate) const CLUSTER: &str = "CLOAKROOM_TEST_REDIS_CLUSTER_URLS";

/// Longer than a busy machine takes.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Removes a key if its time has come; the second argument is what the time is.
const REMOVE_IF_DUE: &str = "
    local due = redis.call('PEXPIRETIME', KEYS[1])
    if due >= 0 and due <= tonumber(ARGV[1]) then
        return redis.call('DEL', KEYS[1])
    end
    return 0";

/// A Redis store under a prefix of its own, whose keys are removed by the clock of the program.
pub(crate) struct Store {
    store: RedisStore,
    /// One to each server that has keys.
    masters: Vec<MultiplexedConnection>,
    prefix: String,
}

impl Store {
    pub(crate) async fn on_server(url: &str) -> Self {
        let client = redis::Client::open(url).unwrap();
        let config = ConnectionManagerConfig::new().set_response_timeout(Some(PATIENCE));
        let connection = ConnectionManager::new_with_config(client, config).await;
        Self::on(connection.unwrap(), &[url]).await
    }

    pub(crate) async fn on_cluster(urls: &str) -> Self {
        let urls: Vec<_> = urls.split(',').collect();
        let client = ClusterClient::builder(urls.iter().copied())
            .response_timeout(PATIENCE)
            .build()
            .unwrap();
        Self::on(client.get_async_connection().await.unwrap(), &urls).await
    }

    async fn on(connection: impl Into<RedisConnection>, urls: &[&str]) -> Self {
        let prefix = format!("model-{:x}:", rand::random::<u64>());
        let mut masters = Vec::new();
        for url in urls {
            let client = redis::Client::open(*url).unwrap();
            let mut server = client.get_multiplexed_async_connection().await.unwrap();
            let role: Vec<redis::Value> =
                redis::cmd("ROLE").query_async(&mut server).await.unwrap();
            if role[0] == redis::Value::BulkString(b"master".to_vec()) {
                masters.push(server);
            }
        }
        Self {
            store: RedisStore::new(connection).with_prefix(&prefix).unwrap(),
            masters,
            prefix,
        }
    }

    /// Removes every key whose time has come at `now`, and returns how many that were.
    async fn remove_due(&self, now: i64) -> redis::RedisResult<usize> {
        let mut removed = 0;
        for master in &self.masters {
            let mut master = master.clone();
            for key in self.keys_of(&mut master).await? {
                let mut command = redis::cmd("EVAL");
                command.arg(REMOVE_IF_DUE).arg(1).arg(key).arg(now);
                let one: usize = command.query_async(&mut master).await?;
                removed += one;
            }
        }
        Ok(removed)
    }

    /// Removes what the program has left.
    pub(crate) async fn remove_all(&self) {
        self.remove_due(i64::MAX).await.unwrap();
        for master in &self.masters {
            let left = self.keys_of(&mut master.clone()).await.unwrap();
            assert!(left.is_empty(), "keys would stay for ever: {left:?}");
        }
    }

    async fn keys_of(&self, server: &mut MultiplexedConnection) -> redis::RedisResult<Vec<String>> {
        let mut keys = Vec::new();
        let mut cursor = 0_u64;
        loop {
            let mut command = redis::cmd("SCAN");
            command
                .arg(cursor)
                .arg("MATCH")
                .arg(format!("{}*", self.prefix));
            command.arg("COUNT").arg(1_000);
            let (next, some): (u64, Vec<String>) = command.query_async(server).await?;
            keys.extend(some);
            cursor = next;
            if cursor == 0 {
                return Ok(keys);
            }
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.store).finish()
    }
}

#[async_trait]
impl SessionStore for Store {
    async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        self.store.create(handle, record).await
    }

    async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        self.store.load(handle).await
    }

    async fn update(
        &self,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        self.store.update(handle, record, expected, now).await
    }

    async fn touch(
        &self,
        handle: &Handle,
        expires_at: OffsetDateTime,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        self.store.touch(handle, expires_at, expected, now).await
    }

    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        self.store.delete(handle).await
    }

    async fn delete_expired(&self, now: OffsetDateTime, limit: usize) -> Result<usize, StoreError> {
        let by_store = self.store.delete_expired(now, limit).await?;
        let removed = self.remove_due(to_unix_millis(now)).await;
        Ok(by_store + removed.expect("the server answers"))
    }

    fn user_index(&self) -> Option<&dyn UserIndex> {
        self.store.user_index()
    }
}
