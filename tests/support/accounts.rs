//! The example `accounts` in this process, where time passes when told.

use std::time::Duration;

use axum::Router;
use cloakroom::store::{SessionStore, SqliteStore};
use cloakroom::testing::ManualClock;
use tempfile::TempDir;

#[path = "../../examples/accounts/main.rs"]
#[allow(dead_code)]
mod program;

pub(crate) struct Accounts {
    pub(crate) app: Router,
    pub(crate) clock: ManualClock,
    #[allow(dead_code)]
    pub(crate) database: SqliteStore,
    _folder: TempDir,
}

impl Accounts {
    pub(crate) async fn new() -> Self {
        Self::with_store(|database| database).await
    }

    /// With its sessions in a store around the usual one.
    pub(crate) async fn with_store<S: SessionStore>(around: impl FnOnce(SqliteStore) -> S) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = SqliteStore::connect(folder.path().join("accounts.db")).await;
        let database = database.unwrap();
        database.migrate().await.unwrap();
        let pool = database.pool().clone();
        let users = program::users::Users::open(pool).await.unwrap();
        let clock = ManualClock::new();
        let sessions = program::sessions(around(database.clone())).clock(clock.clone());
        Self {
            app: program::app(users, sessions.build().unwrap()),
            clock,
            database,
            _folder: folder,
        }
    }
}

/// The app on a port of localhost, until this value ends.
#[allow(dead_code)]
pub(crate) struct Served {
    pub(crate) port: u16,
    pub(crate) clock: ManualClock,
    _accounts: Accounts,
    _runtime: tokio::runtime::Runtime,
}

#[allow(dead_code)]
impl Served {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (listener, accounts) = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("localhost:0").await;
            (listener.unwrap(), Accounts::new().await)
        });
        let port = listener.local_addr().unwrap().port();
        let app = accounts.app.clone();
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self {
            port,
            clock: accounts.clock.clone(),
            _accounts: accounts,
            _runtime: runtime,
        }
    }
}

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
