//! What becomes of sessions when a Redis server crashes, stalls, or is replaced.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::routing::{get, post};
use axum::{Router, http::StatusCode};
use cloakroom::store::{
    Handle, Outcome, Record, RedisStore, SessionStore, StoreErrorKind, Version,
};
use cloakroom::testing::TestClient;
use cloakroom::{Session, SessionLayer};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClient;
use tokio::time::timeout;

#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/servers.rs"]
mod servers;
#[path = "support/redis.rs"]
mod support;

use proxy::Proxy;
use support::{PATIENCE, Server, cluster, handle, is_master, now, record, until};

/// Ample for a replica that is there.
const REPLICATED_WITHIN: Duration = Duration::from_secs(2);

/// What one writer knows of its session.
#[derive(Debug)]
struct Known {
    handle: Handle,
    /// What the store said was done: the version that is there, or none after a delete.
    acknowledged: Option<u64>,
    /// What was under way when the server went.
    attempted: Option<u64>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_write_that_was_acknowledged_is_lost_in_a_crash_of_a_server_that_syncs_each() {
    const WRITERS: u64 = 16;
    let options = ["--appendonly", "yes", "--appendfsync", "always"];
    let Some(mut server) = Server::start(&options).await else {
        return;
    };
    let store = server.store().await;
    let done = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| tokio::spawn(write_until_it_fails(store.clone(), number, done.clone())))
        .collect();
    until(async || done.load(Ordering::Relaxed) > 1_000).await;
    server.kill();
    let mut all = Vec::new();
    for writer in writers {
        all.extend(writer.await.unwrap());
    }
    server.restart().await;
    until(async || store.load(&handle(0)).await.is_ok()).await;
    assert!(all.iter().any(|known| known.acknowledged.is_none()));
    for known in all {
        let found = store.load(&known.handle).await.unwrap();
        let found = found.map(|record| record.version.to_u64());
        assert!(
            found == known.acknowledged || found == known.attempted,
            "{found:?} is there of {known:?}"
        );
    }
}

/// Makes sessions, updates each ten times and ends every second one, until the store fails.
async fn write_until_it_fails(
    store: RedisStore,
    number: u64,
    done: Arc<AtomicUsize>,
) -> Vec<Known> {
    let mut all = Vec::new();
    for session in 0.. {
        let handle = handle(number << 32 | session);
        let mut known = Known {
            handle,
            acknowledged: None,
            attempted: Some(1),
        };
        let mut result = store.create(&handle, &record(1)).await;
        for version in 1..=10 {
            if result.is_err() {
                break;
            }
            known.acknowledged = Some(version);
            done.fetch_add(1, Ordering::Relaxed);
            let last = version == 10;
            known.attempted = (!last).then_some(version + 1);
            result = match last {
                true if session % 2 == 1 => break,
                true => store.delete(&handle).await.map(|deleted| {
                    assert!(deleted);
                    known.acknowledged = None;
                }),
                false => {
                    let expected = Version::from_u64(version);
                    let next = record(version + 1);
                    let outcome = store.update(&handle, &next, expected, now()).await;
                    outcome.map(|outcome| assert_eq!(outcome, Outcome::Done))
                }
            };
        }
        all.push(known);
        if result.is_err() {
            break;
        }
    }
    all
}

fn app(layer: SessionLayer) -> Router {
    Router::new()
        .route(
            "/",
            get(async |session: Session| {
                session
                    .update("visits", |n: &mut u64| *n += 1)
                    .map(|n| n.to_string())
            }),
        )
        .route(
            "/login",
            post(async |session: Session| session.login("alice").await),
        )
        .route(
            "/logout",
            post(async |session: Session| {
                session.logout().await.map_err(|error| {
                    let kinds = format!("{:?} {:?}", error.kind(), error.store_error_kind());
                    (StatusCode::SERVICE_UNAVAILABLE, kinds)
                })
            }),
        )
        .route(
            "/who",
            get(async |session: Session| format!("{:?}", session.user_id())),
        )
        .layer(layer)
}

#[tokio::test]
async fn a_server_that_stalls_is_a_503_and_then_everything_goes_on() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let proxy = Proxy::to(server.port()).await;
    // So that it is the layer's own limit that ends the wait.
    let config = ConnectionManagerConfig::new().set_response_timeout(None);
    let client = redis::Client::open(proxy.url()).unwrap();
    let connection = ConnectionManager::new_with_config(client, config)
        .await
        .unwrap();
    let layer = SessionLayer::builder(RedisStore::new(connection))
        .store_timeout(Duration::from_millis(200))
        .build()
        .unwrap();
    let client = TestClient::new(app(layer));
    assert_eq!(client.get("/").await.text(), "1");

    proxy.stall();
    let response = timeout(PATIENCE, client.get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let response = timeout(PATIENCE, client.post("/login")).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);

    proxy.resume();
    assert_eq!(client.get("/").await.text(), "2");
}

/// A master with one replica, which follows it.
async fn master_and_replica() -> Option<(Server, Server)> {
    let master = Server::start(&[]).await?;
    let port = master.port().to_string();
    let replica = Server::start(&["--replicaof", &format!("127.0.0.1 {port}")]).await?;
    master.until_followed().await;
    Some((master, replica))
}

/// Kills the master, and makes the replica a master in its place. Its store.
async fn fail_over(mut master: Server, replica: &Server) -> RedisStore {
    master.kill();
    replica.ask::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    replica.store().await
}

/// What waiting is for: both endings are undone, and only one of them was said to be done.
#[tokio::test]
async fn a_failover_undoes_an_ending_that_no_replica_has() {
    let Some((mut master, mut replica)) = master_and_replica().await else {
        return;
    };
    let store = master.store().await;
    let waiting = store
        .clone()
        .wait_for_replicas(1, REPLICATED_WITHIN, master.connect().await);
    let patient = store
        .clone()
        .wait_for_replicas(1, PATIENCE, master.connect().await);
    for number in [1, 2] {
        patient.create(&handle(number), &record(1)).await.unwrap();
    }
    replica.ask::<()>(&["SAVE"]).await;
    replica.kill();

    assert!(store.delete(&handle(1)).await.unwrap());
    let error = waiting.delete(&handle(2)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unconfirmed);

    master.kill();
    replica.restart().await;
    let store = fail_over(master, &replica).await;
    for number in [1, 2] {
        assert!(store.load(&handle(number)).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_failover_undoes_no_login_and_no_ending_that_was_waited_for() {
    const SESSIONS: u64 = 50;
    let Some((master, replica)) = master_and_replica().await else {
        return;
    };
    let store = master.store().await;
    let store = store.wait_for_replicas(1, PATIENCE, master.connect().await);
    for number in 0..SESSIONS {
        store.create(&handle(number), &record(1)).await.unwrap();
        let login = store
            .update(&handle(number), &record(2), Version::from_u64(1), now())
            .await;
        assert_eq!(login.unwrap(), Outcome::Done);
        if number % 2 == 0 {
            assert!(store.delete(&handle(number)).await.unwrap());
        }
    }
    let store = fail_over(master, &replica).await;
    for number in 0..SESSIONS {
        let found = store.load(&handle(number)).await.unwrap();
        let version = found.map(|record| record.version.to_u64());
        assert_eq!(version, (number % 2 == 1).then_some(2));
    }
}

/// As behind Sentinel, or whatever else leads clients to the master.
#[tokio::test]
async fn a_proxy_that_follows_the_master_leads_to_the_new_one_without_a_restart_of_the_app() {
    let Some((mut master, replica)) = master_and_replica().await else {
        return;
    };
    let proxy = Proxy::to(master.port()).await;
    let connect = || support::connect(proxy.url());
    let store = RedisStore::new(connect().await);
    let waiting = store
        .clone()
        .wait_for_replicas(1, PATIENCE, connect().await);
    for number in [1, 2] {
        waiting.create(&handle(number), &record(1)).await.unwrap();
    }
    assert!(waiting.delete(&handle(1)).await.unwrap());

    // It still leads to what is no master any more, and then to nobody.
    let port = replica.port().to_string();
    replica.ask::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    master.ask::<()>(&["REPLICAOF", "127.0.0.1", &port]).await;
    for refused in [store.load(&handle(2)).await, store.load(&handle(1)).await] {
        assert_eq!(refused.unwrap_err().kind(), StoreErrorKind::Unavailable);
    }
    master.kill();
    assert!(store.load(&handle(2)).await.is_err());

    proxy.lead_to(replica.port());
    let found = load_in_the_end(&store, &handle(2)).await;
    assert_eq!(found.unwrap().version, Version::from_u64(1));
    assert_eq!(load_in_the_end(&store, &handle(1)).await, None);
    let update = store
        .update(&handle(2), &record(2), Version::from_u64(1), now())
        .await;
    assert_eq!(update.unwrap(), Outcome::Done);
}

#[tokio::test]
async fn an_ending_or_a_login_that_no_replica_confirms_is_an_error_to_the_handler() {
    let Some((master, mut replica)) = master_and_replica().await else {
        return;
    };
    let store = master.store().await;
    let store = store.wait_for_replicas(1, REPLICATED_WITHIN, master.connect().await);
    // More than the store waits for replicas.
    let layer = SessionLayer::builder(store).store_timeout(PATIENCE);
    let layer = layer.build().unwrap();
    let client = TestClient::new(app(layer.clone()));
    let other = TestClient::new(app(layer));
    assert_eq!(client.post("/login").await.status(), StatusCode::OK);

    replica.kill();
    master
        .until_info_says("replication", "connected_slaves:0")
        .await;
    let response = other.post("/login").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(other.cookies().is_empty());
    let response = client.post("/logout").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.text(), "EndingFailed Some(Unconfirmed)");
    assert_eq!(client.get("/who").await.text(), "None");

    replica.restart().await;
    master.until_followed().await;
    assert_eq!(other.post("/login").await.status(), StatusCode::OK);
    assert_eq!(other.get("/who").await.text(), "Some(\"alice\")");
    assert_eq!(other.post("/logout").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_clusters_master_is_replaced_without_a_restart_of_the_app_and_ended_sessions_stay_ended()
{
    const SESSIONS: u64 = 60;
    let Some(mut nodes) = cluster().await else {
        return;
    };
    let client = ClusterClient::new(nodes.iter().map(Server::url)).unwrap();
    let store = RedisStore::new(client.get_async_connection().await.unwrap());
    let waiting = client.get_async_connection().await.unwrap();
    let store = store.wait_for_replicas(1, PATIENCE, waiting);
    for number in 0..SESSIONS {
        store.create(&handle(number), &record(1)).await.unwrap();
        if number % 2 == 0 {
            assert!(store.delete(&handle(number)).await.unwrap());
        }
    }
    let mut master = None;
    for (index, node) in nodes.iter().enumerate() {
        if is_master(node).await && node.ask::<i64>(&["DBSIZE"]).await > 0 {
            master = Some(index);
        }
    }
    let slots = slots_of(&nodes[master.unwrap()]).await;
    nodes[master.unwrap()].kill();

    for number in 0..SESSIONS {
        let found = load_in_the_end(&store, &handle(number)).await;
        assert_eq!(found.is_some(), number % 2 == 1, "{number}");
    }
    let left = nodes
        .iter()
        .enumerate()
        .filter(|(index, _)| Some(*index) != master);
    let mut taken_over = false;
    for (_, node) in left {
        taken_over |= slots_of(node).await == slots;
    }
    assert!(taken_over, "no replica took the slots of the master over");
    // And it is written as before. Nobody replicates those slots now, so without waiting.
    let store = RedisStore::new(client.get_async_connection().await.unwrap());
    for number in (1..SESSIONS).step_by(2) {
        let update = store
            .update(&handle(number), &record(2), Version::from_u64(1), now())
            .await;
        assert_eq!(update.unwrap(), Outcome::Done);
        assert!(store.delete(&handle(number)).await.unwrap());
    }
}

/// What is loaded once a load succeeds. Until then each one has to say that the store is at fault.
async fn load_in_the_end(store: &RedisStore, handle: &Handle) -> Option<Record> {
    let mut loaded = store.load(handle).await;
    let failing = async {
        while let Err(error) = &loaded {
            let kind = error.kind();
            let at_fault = [StoreErrorKind::Unavailable, StoreErrorKind::TimedOut].contains(&kind);
            assert!(at_fault, "{error:?}");
            loaded = store.load(handle).await;
        }
    };
    timeout(PATIENCE, failing).await.unwrap();
    loaded.unwrap()
}

/// The slots that this node says it serves.
async fn slots_of(node: &Server) -> Option<String> {
    let nodes: String = node.ask(&["CLUSTER", "NODES"]).await;
    let own = nodes.lines().find(|line| line.contains("myself"))?;
    let slots = own.split(' ').nth(8)?;
    Some(slots.to_owned())
}
