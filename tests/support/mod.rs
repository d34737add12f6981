//! What the tests of the guarantees share: each of them runs on every store of the crate, against an app
//! like those of users, by a client with a browser's cookies.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use cloakroom::store::{FileStore, MemoryStore, SqliteStore};
use cloakroom::testing::{FailingStore, ManualClock, PausingStore, SpyStore};
use cloakroom::{SessionLayer, SessionLayerBuilder, SessionStore};
use tempfile::TempDir;

mod app;
mod hooked;
mod id;
mod transport;

pub(crate) use self::app::{app, contents, with_errors_shown};
pub(crate) use self::hooked::{Hooked, nothing};
pub(crate) use self::id::{COOKIE, forged, handle_of, secret_of};
pub(crate) use self::transport::{Client, Transport, poll_times};

/// Makes one test for each store of each of these functions, which take a [`Setup`].
///
/// Those after `over TCP` run once more with a server that listens on a port, and a client that connects
/// to it.
macro_rules! on_every_store {
    ($($test:ident),+ $(,)? $(; over TCP: $($over_tcp:ident),+ $(,)?)?) => {
        mod memory_store {
            $(#[tokio::test] async fn $test() { crate::support::in_time(super::$test(crate::support::in_memory())).await; })+
        }
        mod file_store {
            $(#[tokio::test] async fn $test() { crate::support::in_time(super::$test(crate::support::in_files().await)).await; })+
        }
        mod sqlite_store {
            $(#[tokio::test] async fn $test() { crate::support::in_time(super::$test(crate::support::in_sqlite().await)).await; })+
        }
        $(mod over_tcp {
            $(#[tokio::test] async fn $over_tcp() { crate::support::in_time(super::$over_tcp(crate::support::in_memory().over_tcp())).await; })+
        })?
    };
}
pub(crate) use on_every_store;

/// Runs a test to its end, or fails: one that waits for what never comes would hang.
pub(crate) async fn in_time(test: impl Future<Output = ()>) {
    const LIMIT: Duration = Duration::from_secs(120);
    if tokio::time::timeout(LIMIT, test).await.is_err() {
        panic!("the test waits for something that does not come");
    }
}

/// What a test is given: a store, a clock that the test advances, and a way to an app.
pub(crate) struct Setup {
    pub(crate) store: Arc<dyn SessionStore>,
    pub(crate) clock: ManualClock,
    /// Where the store keeps its files, if it does.
    pub(crate) folder: Option<TempDir>,
    over_tcp: bool,
    /// Tasks of the store's own that run all the time.
    tasks: usize,
}

pub(crate) fn in_memory() -> Setup {
    Setup::new(Arc::new(MemoryStore::new()), None)
}

pub(crate) async fn in_files() -> Setup {
    let folder = tempfile::tempdir().unwrap();
    // No power fails in these tests.
    let store = FileStore::builder(folder.path().join("sessions")).without_sync();
    Setup::new(Arc::new(store.open().await.unwrap()), Some(folder))
}

pub(crate) async fn in_sqlite() -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::connect(database_in(&folder)).await.unwrap();
    store.migrate().await.unwrap();
    let mut setup = Setup::new(Arc::new(store), Some(folder));
    // Some end soon after the migration, and some never.
    setup.tasks = alive_tasks();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        setup.tasks = setup.tasks.min(alive_tasks());
    }
    setup
}

fn alive_tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}

fn database_in(folder: &TempDir) -> PathBuf {
    folder.path().join("sessions.db")
}

impl Setup {
    fn new(store: Arc<dyn SessionStore>, folder: Option<TempDir>) -> Self {
        Self {
            store,
            clock: ManualClock::new(),
            folder,
            over_tcp: false,
            tasks: 0,
        }
    }

    pub(crate) fn over_tcp(self) -> Self {
        Self {
            over_tcp: true,
            ..self
        }
    }

    pub(crate) fn pausing(&self) -> PausingStore<Arc<dyn SessionStore>> {
        PausingStore::new(self.store.clone())
    }

    pub(crate) fn failing(&self) -> FailingStore<Arc<dyn SessionStore>> {
        FailingStore::new(self.store.clone())
    }

    pub(crate) fn spy(&self) -> SpyStore<Arc<dyn SessionStore>> {
        SpyStore::new(self.store.clone())
    }

    /// A layer over this store, which is this setup's or one around it.
    ///
    /// It goes on trying for longer than a busy machine takes, so that no test fails for being slow.
    pub(crate) fn builder(&self, store: impl SessionStore) -> SessionLayerBuilder {
        SessionLayer::builder(store)
            .clock(self.clock.clone())
            .retry_for(Duration::from_secs(600))
            .store_timeout(Duration::from_secs(600))
    }

    /// A browser at the app whose sessions are in this store.
    pub(crate) async fn client(&self, store: impl SessionStore) -> Client {
        self.client_of(self.builder(store).build().unwrap()).await
    }

    /// A browser at the app with this layer.
    pub(crate) async fn client_of(&self, layer: SessionLayer) -> Client {
        self.client_at(layer, Router::new()).await
    }

    /// A browser at the app whose sessions are in this store, with a few routes more.
    pub(crate) async fn client_with(&self, store: impl SessionStore, routes: Router) -> Client {
        self.client_at(self.builder(store).build().unwrap(), routes)
            .await
    }

    /// A browser at the app with this layer and a few routes more.
    pub(crate) async fn client_at(&self, layer: SessionLayer, routes: Router) -> Client {
        self.browser(with_errors_shown(app().merge(routes).layer(layer)))
            .await
    }

    /// A browser at this app.
    pub(crate) async fn browser(&self, app: Router) -> Client {
        let transport = match self.over_tcp {
            true => Transport::listen(app).await,
            false => Transport::InProcess(app),
        };
        Client::with_body(transport).clock(self.clock.clone())
    }

    /// Waits until what requests have left behind has come to its end.
    pub(crate) async fn settled(&self) {
        while alive_tasks() > self.tasks {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn holds(&self, handle: &cloakroom::store::Handle) -> bool {
        self.store.load(handle).await.unwrap().is_some()
    }
}

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
