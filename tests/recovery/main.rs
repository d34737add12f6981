//! Whatever happens to a server or to the way to it, the app is told with a 503, works again by itself once the
//! server does, and keeps nothing of it: no task, and no connection that it does not use.
//!
//! The app has a runtime of its own, whose tasks are counted. Connections are counted by the server.
#![cfg(all(
    unix,
    feature = "axum",
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "testing"
))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use cloakroom::testing::TestClient;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

mod engines;
#[path = "../support/load.rs"]
mod load;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/redis.rs"]
mod redis_server;
#[path = "../support/servers.rs"]
mod servers;
#[path = "../support/sql_server.rs"]
mod sql_server;

use engines::{Cluster, Engine, Redis, Sql};
use load::{End, Known, app};

/// After this time, what is not done counts as hanging.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between one look and the next.
const PAUSE: Duration = Duration::from_millis(10);

/// The time limit of the layer for a store call.
const STORE_TIMEOUT: Duration = Duration::from_millis(500);

/// Requests that are under way at once.
const WRITERS: usize = 8;

/// How often each fault happens.
const TIMES: usize = 3;

#[test]
fn from_faults_of_postgresql() {
    run(|| Sql::start(sql_server::Engine::Postgres));
}

#[test]
fn from_faults_of_mariadb() {
    run(|| Sql::start(sql_server::Engine::MariaDb));
}

#[test]
fn from_faults_of_redis() {
    run(Redis::start);
}

#[test]
fn from_faults_of_a_redis_cluster() {
    run(Cluster::start);
}

fn run<E: Engine>(start: impl AsyncFn() -> Option<E>) {
    let apps_runtime = Runtime::new().unwrap();
    Runtime::new().unwrap().block_on(async {
        let Some(mut engine) = start().await else {
            return;
        };
        let store = apps_runtime.spawn(engine.store()).await.unwrap();
        let app = App {
            runtime: &apps_runtime,
            router: app(store, STORE_TIMEOUT),
        };
        // All connections come about that the app has use for.
        let load = app.load();
        load.until_written(100).await;
        load.stop().await;
        let tasks = app.tasks_at_rest().await;
        let connections = engine.connections().await;
        assert!(connections > 0);

        app.survives(&mut engine, async |engine| assert!(engine.cut().await > 0))
            .await;
        app.survives(&mut engine, async |engine| {
            assert!(engine.end_connections().await > 0)
        })
        .await;
        app.survives(&mut engine, async |engine| {
            engine.hang().await;
            app.until_it_answers(StatusCode::SERVICE_UNAVAILABLE).await;
            engine.go_on().await;
        })
        .await;
        app.survives(&mut engine, async |engine| {
            engine.kill().await;
            app.until_it_answers(StatusCode::SERVICE_UNAVAILABLE).await;
            engine.restart().await;
        })
        .await;

        // It may have opened all connections only now, some of which are a task each.
        let most = connections.max(engine.most_connections());
        let tasks = tasks + most - connections;
        comes_down_to("tasks", tasks, async || app.tasks()).await;
        comes_down_to("connections", most, async || engine.connections().await).await;
    });
}

async fn comes_down_to(what: &str, most: usize, count: impl AsyncFn() -> usize) {
    let start = Instant::now();
    loop {
        let counted = count().await;
        if counted <= most {
            return;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{counted} {what} are there, and not {most} at most"
        );
        tokio::time::sleep(PAUSE).await;
    }
}

struct App<'a> {
    runtime: &'a Runtime,
    router: Router,
}

impl App<'_> {
    /// Lets this fault happen some times in the middle of load. The app has to work again after each, and to
    /// have what it had acknowledged.
    async fn survives<E: Engine>(&self, engine: &mut E, fault: impl AsyncFn(&mut E)) {
        for _ in 0..TIMES {
            let load = self.load();
            load.until_written(30).await;
            fault(engine).await;
            self.until_it_answers(StatusCode::OK).await;
            // The connections that broke without being used are found by using them.
            load.until_written(30).await;
            let written = load.stop().await;
            let endings_alone = !E::KEEPS_ALL;
            self.in_the_app(async move {
                for known in written {
                    if endings_alone && known.end != End::Acknowledged {
                        continue;
                    }
                    while !known.is_there_as_acknowledged().await {
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            })
            .await;
        }
    }

    async fn until_it_answers(&self, status: StatusCode) {
        let router = self.router.clone();
        self.in_the_app(async move {
            // Each time a session of its own, since only some may be on the server that is at fault.
            while TestClient::new(router.clone()).post("/add").await.status() != status {
                tokio::time::sleep(PAUSE).await;
            }
        })
        .await;
    }

    /// So that what a request leaves behind is in the app's runtime.
    async fn in_the_app(&self, requests: impl Future<Output = ()> + Send + 'static) {
        in_time(self.runtime.spawn(requests)).await.unwrap();
    }

    fn load(&self) -> Load {
        let state = Arc::<State>::default();
        let writers = (0..WRITERS).map(|_| {
            let (router, state) = (self.router.clone(), state.clone());
            self.runtime.spawn(async move {
                let mut all = Vec::new();
                while !state.is_over.load(Ordering::Relaxed) {
                    let known = Known::make(&router, all.len()).await;
                    state
                        .written
                        .fetch_add(usize::from(known.went_well()), Ordering::Relaxed);
                    all.push(known);
                }
                all
            })
        });
        Load {
            writers: writers.collect(),
            state,
        }
    }

    fn tasks(&self) -> usize {
        self.runtime.metrics().num_alive_tasks()
    }

    /// Some end soon after what they are for.
    async fn tasks_at_rest(&self) -> usize {
        let mut tasks = self.tasks();
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            tasks = tasks.min(self.tasks());
        }
        tasks
    }
}

/// Browsers that write all the time.
struct Load {
    writers: Vec<JoinHandle<Vec<Known>>>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    written: AtomicUsize,
    is_over: AtomicBool,
}

impl Load {
    /// Waits for so many more sessions that were written without a failure.
    async fn until_written(&self, more: usize) {
        let enough = self.state.written.load(Ordering::Relaxed) + more;
        until(async || self.state.written.load(Ordering::Relaxed) >= enough).await;
    }

    async fn stop(self) -> Vec<Known> {
        self.state.is_over.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for writer in self.writers {
            all.extend(writer.await.unwrap());
        }
        all
    }
}

async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    in_time(async {
        while !is_so().await {
            tokio::time::sleep(PAUSE).await;
        }
    })
    .await;
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("what is waited for does not come")
}
