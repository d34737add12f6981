//! The Redis store keeps the store contract, on one server and on a cluster.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cloakroom::store::{MemoryStore, RedisConnection, RedisStore, SessionStore};

#[path = "support/servers.rs"]
mod servers;

/// A store under a prefix that no other test has, on a server that may be used by others, too.
fn store(connection: impl Into<RedisConnection>) -> Arc<dyn SessionStore> {
    static TESTS: AtomicU32 = AtomicU32::new(0);
    let test = TESTS.fetch_add(1, Ordering::Relaxed);
    let prefix = format!("contract-{:x}-{test}:", rand_of_this_process());
    Arc::new(RedisStore::new(connection).with_prefix(&prefix).unwrap())
}

fn rand_of_this_process() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    use std::sync::LazyLock;

    static NUMBER: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
    *NUMBER
}

/// Stands in where there is no server, since a rule of the suite cannot be left out.
fn stand_in() -> Arc<dyn SessionStore> {
    Arc::new(MemoryStore::new())
}

mod single_server {
    use super::*;

    async fn make_store() -> Arc<dyn SessionStore> {
        let Some(url) = servers::url("CLOAKROOM_TEST_REDIS_URL") else {
            return stand_in();
        };
        let client = redis::Client::open(url).unwrap();
        store(client.get_connection_manager().await.unwrap())
    }

    cloakroom::store_tests!(make_store);

    mod by_user {
        cloakroom::user_index_tests!(super::make_store);
    }
}

mod cluster {
    use super::*;

    async fn make_store() -> Arc<dyn SessionStore> {
        let Some(urls) = servers::url("CLOAKROOM_TEST_REDIS_CLUSTER_URLS") else {
            return stand_in();
        };
        let client = redis::cluster::ClusterClient::new(urls.split(',')).unwrap();
        store(client.get_async_connection().await.unwrap())
    }

    cloakroom::store_tests!(make_store);

    mod by_user {
        cloakroom::user_index_tests!(super::make_store);
    }
}
