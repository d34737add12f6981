//! What is special about sessions in Redis.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use cloakroom::clock::to_unix_millis;
use cloakroom::store::{
    Outcome, Record, RedisStore, SWEEP_GRACE, SessionStore, StoreErrorKind, Version,
};
use cloakroom::{SessionLayer, testing::TestClient};
use redis::RedisResult;
use tokio::task::JoinSet;

mod cluster;
mod eviction_and_rights;
mod replicas;
mod users;

#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/servers.rs"]
mod servers;
#[path = "../support/redis.rs"]
mod support;

use proxy::Proxy;
use support::{Server, connect, handle, key, now, record, until};

const HOUR: Duration = Duration::from_secs(3_600);

/// Starts a server of the test's own, or leaves the test out.
#[macro_export]
macro_rules! server {
    ($($option:expr),*) => {
        match Server::start(&[$($option),*]).await {
            Some(server) => server,
            None => return,
        }
    };
}

/// Runs each operation that is a script, on a record of version 1.
async fn update_and_touch(store: &RedisStore, number: u64) {
    let handle = handle(number);
    let updated = record(2);
    let version = updated.version;
    let update = store.update(&handle, &updated, Version::from_u64(1), now());
    assert_eq!(update.await.unwrap(), Outcome::Done);
    let touch = store.touch(&handle, updated.expires_at + HOUR, version, now());
    assert_eq!(touch.await.unwrap(), Outcome::Done);
}

#[tokio::test]
async fn scripts_survive_a_flush_of_the_servers_scripts() {
    let server = server!();
    let store = server.store().await;
    for number in 0..3 {
        server.ask::<String>(&["SCRIPT", "FLUSH"]).await;
        store.create(&handle(number), &record(1)).await.unwrap();
        update_and_touch(&store, number).await;
    }
}

#[tokio::test]
async fn sessions_and_scripts_survive_a_restart_of_the_server() {
    let mut server = server!("--appendonly", "yes", "--appendfsync", "always");
    let store = server.store().await;
    for number in 0..3 {
        store.create(&handle(number), &record(1)).await.unwrap();
    }
    update_and_touch(&store, 0).await;
    server.kill();
    assert_eq!(
        store.load(&handle(1)).await.unwrap_err().kind(),
        StoreErrorKind::Unavailable
    );
    server.restart().await;
    until(async || store.load(&handle(1)).await.is_ok()).await;
    update_and_touch(&store, 1).await;
    update_and_touch(&store, 2).await;
}

#[tokio::test]
async fn a_key_is_removed_a_grace_period_after_its_session_expires() {
    let server = server!();
    let store = server.store().await;
    let handle = handle(1);
    let removed_at = async || server.ask::<i64>(&["PEXPIRETIME", &key(&handle)]).await;
    let grace = SWEEP_GRACE.as_millis() as i64;

    let created = record(1);
    store.create(&handle, &created).await.unwrap();
    assert_eq!(
        removed_at().await,
        to_unix_millis(created.expires_at) + grace
    );

    let later = created.expires_at + Duration::from_millis(1_234);
    let touch = store.touch(&handle, later, created.version, now());
    assert_eq!(touch.await.unwrap(), Outcome::Done);
    assert_eq!(removed_at().await, to_unix_millis(later) + grace);

    let touch = store.touch(&handle, created.expires_at, created.version, now());
    assert_eq!(touch.await.unwrap(), Outcome::Done);
    assert_eq!(removed_at().await, to_unix_millis(later) + grace);

    let updated = Record {
        expires_at: now() + Duration::from_millis(567_891),
        ..record(2)
    };
    let update = store.update(&handle, &updated, created.version, now());
    assert_eq!(update.await.unwrap(), Outcome::Done);
    assert_eq!(
        removed_at().await,
        to_unix_millis(updated.expires_at) + grace
    );
}

#[tokio::test]
async fn stores_of_different_prefixes_share_nothing() {
    let server = server!();
    let shop = server.store().await.with_prefix("shop:").unwrap();
    let admin = server.store().await.with_prefix("shop:admin:").unwrap();
    shop.create(&handle(1), &record(1)).await.unwrap();
    assert!(admin.load(&handle(1)).await.unwrap().is_none());
    assert!(!admin.delete(&handle(1)).await.unwrap());
    admin.create(&handle(1), &record(3)).await.unwrap();
    assert!(admin.delete(&handle(1)).await.unwrap());
    assert_eq!(
        shop.load(&handle(1)).await.unwrap().unwrap().version,
        Version::from_u64(1)
    );
    let keys: Vec<String> = server.ask(&["KEYS", "*"]).await;
    assert_eq!(keys, [format!("shop:{}", handle(1))]);
}

#[tokio::test]
async fn what_cannot_be_read_is_an_error_and_stays_as_it_is() {
    let server = server!();
    let store = server.store().await;
    let mut newer = record(1).encode();
    newer[0] = 2;
    let mut of_no_format = record(1).encode();
    of_no_format[0] = 0;
    let cut_short = record(1).encode()[..26].to_vec();
    let cases = [
        (b"".to_vec(), StoreErrorKind::Undecodable),
        (b"\x01".to_vec(), StoreErrorKind::Undecodable),
        (
            b"{\"visits\":1}, but much longer than a header is".to_vec(),
            StoreErrorKind::NewerFormat,
        ),
        (of_no_format, StoreErrorKind::Undecodable),
        (cut_short, StoreErrorKind::Undecodable),
        (newer, StoreErrorKind::NewerFormat),
    ];
    let mut connection = server.connect().await;
    for (number, (bytes, kind)) in (0..).zip(cases) {
        let handle = handle(number);
        let set: RedisResult<()> = redis::cmd("SET")
            .arg(key(&handle))
            .arg(&bytes)
            .query_async(&mut connection)
            .await;
        set.unwrap();
        refuses(&store, number, kind).await;
        let left: Vec<u8> = redis::cmd("GET")
            .arg(key(&handle))
            .query_async(&mut connection)
            .await
            .unwrap();
        assert_eq!(left, bytes);
        let ttl: i64 = server.ask(&["PTTL", &key(&handle)]).await;
        assert_eq!(ttl, -1);
    }
}

#[tokio::test]
async fn a_key_of_another_type_is_an_error_and_stays_as_it_is() {
    let server = server!();
    let store = server.store().await;
    server
        .ask::<i64>(&["RPUSH", &key(&handle(1)), "a", "b"])
        .await;
    refuses(&store, 1, StoreErrorKind::Undecodable).await;
    let left: Vec<String> = server.ask(&["LRANGE", &key(&handle(1)), "0", "-1"]).await;
    assert_eq!(left, ["a", "b"]);
}

/// Checks that nothing but a delete gets at what lies under this handle.
async fn refuses(store: &RedisStore, number: u64, kind: StoreErrorKind) {
    let handle = handle(number);
    let (any, later) = (Version::from_u64(1), now() + HOUR);
    let load = store.load(&handle).await;
    assert_eq!(load.unwrap_err().kind(), kind, "load of case {number}");
    let update = store.update(&handle, &record(2), any, now()).await;
    assert_eq!(update.unwrap_err().kind(), kind, "update of case {number}");
    let touch = store.touch(&handle, later, any, now()).await;
    assert_eq!(touch.unwrap_err().kind(), kind, "touch of case {number}");
    let create = store.create(&handle, &record(2)).await;
    assert_eq!(create.unwrap_err().kind(), StoreErrorKind::HandleInUse);
}

#[tokio::test]
async fn a_server_without_memory_refuses_writes_and_keeps_what_it_has() {
    let server = server!("--maxmemory-policy", "noeviction");
    let store = server.store().await;
    let kept = record(1);
    store.create(&handle(1), &kept).await.unwrap();
    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;

    let version = kept.version;
    let create = store.create(&handle(2), &record(1)).await.unwrap_err();
    let update = store
        .update(&handle(1), &record(2), version, now())
        .await
        .unwrap_err();
    let touch = store
        .touch(&handle(1), kept.expires_at + HOUR, version, now())
        .await
        .unwrap_err();
    for error in [create, update, touch] {
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert!(error.to_string().contains("maxmemory"), "{error}");
    }
    assert_eq!(store.load(&handle(1)).await.unwrap(), Some(kept.clone()));
    let removed_at: i64 = server.ask(&["PEXPIRETIME", &key(&handle(1))]).await;
    let grace = SWEEP_GRACE.as_millis() as i64;
    assert_eq!(removed_at, to_unix_millis(kept.expires_at) + grace);
    assert!(store.delete(&handle(1)).await.unwrap());
}

/// It is behind its master, and may not know yet that a session has ended.
#[tokio::test]
async fn a_replica_is_asked_nothing() {
    let master = server!();
    let replica = server!();
    let store = replica.store().await;
    store.create(&handle(1), &record(1)).await.unwrap();
    // A demoted master goes on with the connections that it has.
    let port = master.port().to_string();
    replica.ask::<()>(&["REPLICAOF", "127.0.0.1", &port]).await;
    replica
        .until_info_says("replication", "master_link_status:up")
        .await;
    master
        .store()
        .await
        .create(&handle(2), &record(1))
        .await
        .unwrap();

    let version = Version::from_u64(1);
    for error in [
        store.load(&handle(2)).await.unwrap_err(),
        store.create(&handle(3), &record(1)).await.unwrap_err(),
        store
            .update(&handle(2), &record(2), version, now())
            .await
            .unwrap_err(),
        store
            .touch(&handle(2), now() + HOUR, version, now())
            .await
            .unwrap_err(),
        store.delete(&handle(2)).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert!(error.to_string().contains("read-only replica"), "{error}");
    }
}

#[tokio::test]
async fn what_the_server_refuses_is_named() {
    let server = server!();
    server
        .ask::<()>(&["CONFIG", "SET", "requirepass", "secret"])
        .await;
    // Without the password no connection comes about, and no store.
    let client = redis::Client::open(server.url()).unwrap();
    let config = redis::aio::ConnectionManagerConfig::new().set_number_of_retries(0);
    let manager = redis::aio::ConnectionManager::new_lazy_with_config(client, config).unwrap();
    let error = RedisStore::new(manager).load(&handle(1)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("authenticated"), "{error}");
}

#[tokio::test]
async fn each_operation_is_one_round_trip() {
    let server = server!();
    let proxy = Proxy::to(server.port()).await;
    let store = RedisStore::new(connect(proxy.url()).await);
    // The first call of each script tells the server about it.
    store.create(&handle(0), &record(1)).await.unwrap();
    update_and_touch(&store, 0).await;

    let before = proxy.round_trips();
    let counted = async |trips: usize| {
        assert_eq!(proxy.round_trips() - before, trips);
    };
    store.create(&handle(1), &record(1)).await.unwrap();
    counted(1).await;
    store.load(&handle(1)).await.unwrap();
    counted(2).await;
    update_and_touch(&store, 1).await;
    counted(4).await;
    store.delete(&handle(1)).await.unwrap();
    counted(5).await;
    store.delete_expired(now(), 100).await.unwrap();
    counted(5).await;
}

/// While one is under way, the others that begin go in one pipeline.
#[tokio::test]
async fn of_loads_that_go_together_one_may_fail() {
    let server = server!();
    let store = server.store().await;
    for number in 0..17 {
        let (handle, record) = (handle(number), record(number));
        store.create(&handle, &record).await.unwrap();
    }
    let of_another_type = key(&handle(7));
    server.ask::<i64>(&["DEL", &of_another_type]).await;
    server.ask::<i64>(&["LPUSH", &of_another_type, "a"]).await;

    let mut loads = JoinSet::new();
    for number in 0..17 {
        let store = store.clone();
        loads.spawn(async move { (number, store.load(&handle(number)).await) });
    }
    while let Some(load) = loads.join_next().await {
        match load.unwrap() {
            (7, load) => assert_eq!(load.unwrap_err().kind(), StoreErrorKind::Undecodable),
            (number, load) => assert_eq!(load.unwrap().unwrap().version.to_u64(), number),
        }
    }
}

/// As a cluster's client does by itself when the connection breaks before the answer.
#[tokio::test]
async fn an_update_that_is_sent_twice_is_done_and_not_a_conflict() {
    let server = server!();
    let store = server.store().await;
    store.create(&handle(1), &record(1)).await.unwrap();
    let (handle, updated) = (handle(1), record(2));
    for _ in 0..2 {
        let update = store.update(&handle, &updated, Version::from_u64(1), now());
        assert_eq!(update.await.unwrap(), Outcome::Done);
        assert_eq!(store.load(&handle).await.unwrap(), Some(updated.clone()));
    }
}

/// The rest of a session's size is the layer's, so this goes through one.
#[tokio::test]
async fn a_session_with_one_small_key_takes_as_much_memory_as_documented() {
    const SESSIONS: i64 = 4_096;
    let server = server!();
    let app = axum::Router::new()
        .route(
            "/",
            axum::routing::get(async |session: cloakroom::Session| {
                session.insert("visits", 1).map(|()| "")
            }),
        )
        .layer(SessionLayer::new(server.store().await));
    let before = used_memory_less_clients(&server).await;
    for _ in 0..SESSIONS {
        TestClient::new(app.clone()).get("/").await;
    }
    let each = (used_memory_less_clients(&server).await - before) / SESSIONS;
    let keys: i64 = server.ask(&["DBSIZE"]).await;
    assert_eq!(keys, SESSIONS);
    if is_redis_7(&server).await {
        assert!((255..=310).contains(&each), "{each} bytes");
    }
}

/// The version whose use of memory is documented. Valkey says it, too, for the sake of clients, and takes less.
async fn is_redis_7(server: &Server) -> bool {
    let info: String = server.ask(&["INFO", "server"]).await;
    info.contains("redis_version:7.") && !info.contains("valkey_version")
}

async fn used_memory(server: &Server) -> i64 {
    memory(server, "used_memory").await
}

/// What the data takes, and not the buffers of clients: Redis gives one to a client that has much to say, and takes it
/// back from one that was idle for a while.
async fn used_memory_less_clients(server: &Server) -> i64 {
    used_memory(server).await - memory(server, "mem_clients_normal").await
}

/// A figure of `INFO memory`, in bytes.
async fn memory(server: &Server, name: &str) -> i64 {
    let info: String = server.ask(&["INFO", "memory"]).await;
    let figure = info
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    figure.unwrap().parse().unwrap()
}
