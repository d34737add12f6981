//! What becomes of sessions when an SQL server crashes, stalls, or is a replica.
#![cfg(all(
    feature = "postgres",
    feature = "mysql",
    feature = "testing",
    feature = "axum"
))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::future_not_send)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use cloakroom::store::{
    Handle, MySqlStore, PostgresStore, SessionStore, StoreError, StoreErrorKind,
};
use sqlx::mysql::MySqlPoolOptions;
use sqlx::postgres::PgPoolOptions;

#[path = "support/load.rs"]
mod load;
#[path = "support/counting_proxy.rs"]
mod proxy;
#[path = "support/servers.rs"]
mod servers;
#[path = "support/sql_server.rs"]
mod sql_server;

use load::{End, Known, app};
use proxy::Proxy;
use sql_server::{Engine, Server};

/// After this time, what is not done counts as hanging.
const PATIENCE: Duration = Duration::from_secs(120);

/// The time limit of the layer for a store call.
const STORE_TIMEOUT: Duration = Duration::from_millis(500);

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it hangs")
}

async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    in_time(async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// The store as its `connect` makes it, once the server answers.
async fn store(engine: Engine, server: &Server) -> Arc<dyn SessionStore> {
    let mut store = None;
    until(async || {
        store = try_store(engine, &server.url()).await.ok();
        store.is_some()
    })
    .await;
    store.unwrap()
}

async fn try_store(engine: Engine, url: &str) -> Result<Arc<dyn SessionStore>, StoreError> {
    match engine {
        Engine::Postgres => {
            let store = PostgresStore::connect(url).await?;
            store.migrate().await?;
            Ok(Arc::new(store))
        }
        Engine::MariaDb => {
            let store = MySqlStore::connect(url).await?;
            store.migrate().await?;
            Ok(Arc::new(store))
        }
    }
}

/// Makes sessions, counts in each, and ends every second one, until a request fails.
async fn write_until_it_fails(app: Router, done: Arc<AtomicUsize>) -> Vec<Known> {
    let mut all = Vec::new();
    for number in 0.. {
        let known = in_time(Known::make(&app, number)).await;
        let went_well = known.went_well();
        all.push(known);
        if !went_well {
            break;
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    all
}

/// After a crash, every acknowledged write is there, no session that was ended is back, and the app works on.
async fn crash(engine: Engine) {
    const WRITERS: usize = 8;
    let Some(mut server) = Server::start(engine) else {
        return;
    };
    let app = app(store(engine, &server).await, STORE_TIMEOUT);
    for _ in 0..3 {
        let done = Arc::new(AtomicUsize::new(0));
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| tokio::spawn(write_until_it_fails(app.clone(), done.clone())))
            .collect();
        until(async || done.load(Ordering::Relaxed) >= 50).await;
        server.kill();
        let mut all = Vec::new();
        for writer in writers {
            all.extend(in_time(writer).await.unwrap());
        }
        // While it is down, too, an answer comes, and it is not that of an empty session. Within which time is for
        // the tests in `when_the_store_fails`, whose clock stands still: here eight writers share a machine with
        // a server that starts and ends.
        let client = all[0].client.clone();
        assert_eq!(
            in_time(client.get("/")).await.status(),
            StatusCode::SERVICE_UNAVAILABLE
        );

        server.restart();
        until(async || client.get("/").await.status() == StatusCode::OK).await;
        assert!(all.iter().any(|known| known.end == End::Acknowledged));
        assert!(
            all.iter()
                .any(|known| known.maybe_added > 0 || known.end == End::Maybe)
        );
        for known in all {
            // A connection that was idle when the server went is found broken when it is used.
            until(async || known.is_there_as_acknowledged().await).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_write_that_was_acknowledged_is_lost_in_a_crash_of_postgresql() {
    crash(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_write_that_was_acknowledged_is_lost_in_a_crash_of_mariadb() {
    crash(Engine::MariaDb).await;
}

/// Connections that lead nowhere, as when the server's machine is gone without a word, are given up, and others
/// opened: nobody has to restart the app, or to wait until the operating system gives them up.
async fn stall(engine: Engine) {
    const CONNECTIONS: u32 = 2;
    let Some(server) = Server::start(engine) else {
        return;
    };
    store(engine, &server).await;
    let proxy = Proxy::new(SocketAddr::from(([127, 0, 0, 1], server.port))).await;
    let url = server
        .url()
        .replace(&server.port.to_string(), &proxy.address.port().to_string());
    let (store, idle): (Arc<dyn SessionStore>, Box<dyn Fn() -> usize>) = match engine {
        Engine::Postgres => {
            let pool = PgPoolOptions::new()
                .max_connections(CONNECTIONS)
                .test_before_acquire(false);
            let pool = pool.connect(&url).await.unwrap();
            let store = PostgresStore::new(pool.clone());
            (Arc::new(store), Box::new(move || pool.num_idle()))
        }
        Engine::MariaDb => {
            let pool = MySqlPoolOptions::new()
                .max_connections(CONNECTIONS)
                .test_before_acquire(false);
            let pool = pool.connect(&url).await.unwrap();
            let store = MySqlStore::new(pool.clone());
            (Arc::new(store), Box::new(move || pool.num_idle()))
        }
    };
    let handle = Handle::from_bytes([7; 16]);
    let (one, two) = tokio::join!(store.load(&handle), store.load(&handle));
    assert!(one.unwrap().is_none() && two.unwrap().is_none());
    until(async || idle() == CONNECTIONS as usize).await;

    proxy.freeze_connections();
    let call = || tokio::time::timeout(STORE_TIMEOUT, store.load(&handle));
    let (one, two) = tokio::join!(call(), call());
    assert!(one.is_err() && two.is_err());
    until(async || call().await.is_ok_and(|loaded| loaded.is_ok())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_a_postgresql_that_is_gone_without_a_word_are_replaced() {
    stall(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_a_mariadb_that_is_gone_without_a_word_are_replaced() {
    stall(Engine::MariaDb).await;
}

/// Makes the store until the server answers, and returns why that is refused.
async fn refusal(engine: Engine, server: &Server, reason: &str) -> StoreError {
    let mut refusal = None;
    until(async || {
        let result = try_store(engine, &server.url()).await;
        refusal = result
            .err()
            .filter(|error| error.to_string().contains(reason));
        refusal.is_some()
    })
    .await;
    refusal.unwrap()
}

#[tokio::test]
async fn a_replica_of_postgresql_is_refused() {
    let Some(mut server) = Server::start(Engine::Postgres) else {
        return;
    };
    store(Engine::Postgres, &server).await;
    server.become_replica();
    let error = refusal(Engine::Postgres, &server, "read replica").await;
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);

    let pool = PgPoolOptions::new().connect(&server.url()).await.unwrap();
    let store = PostgresStore::new(pool);
    let error = store
        .delete(&Handle::from_bytes([7; 16]))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("takes no writes"), "{error}");
}

#[tokio::test]
async fn a_read_only_mariadb_is_refused() {
    let Some(server) = Server::start(Engine::MariaDb) else {
        return;
    };
    store(Engine::MariaDb, &server).await;
    let root = MySqlPoolOptions::new()
        .connect(&server.url())
        .await
        .unwrap();
    sqlx::raw_sql(
        "SET GLOBAL read_only = 1; CREATE USER app; GRANT ALL ON mysql.cloakroom_sessions TO app",
    )
    .execute(&root)
    .await
    .unwrap();
    let error = refusal(Engine::MariaDb, &server, "read-only").await;
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);

    let url = server.url().replace("root@", "app@");
    let pool = MySqlPoolOptions::new().connect(&url).await.unwrap();
    let store = MySqlStore::new(pool);
    let error = store
        .delete(&Handle::from_bytes([7; 16]))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("takes no writes"), "{error}");
}
