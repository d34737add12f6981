//! The example `accounts` in this process, where time passes when told.

use std::time::Duration;

use axum::Router;
use cloakroom::store::{SessionStore, SqliteStore};
use cloakroom::testing::ManualClock;
use tempfile::TempDir;

#[path = "../../examples/accounts/main.rs"]
#[allow(dead_code)]
mod accounts;

pub(crate) struct Accounts {
    pub(crate) app: Router,
    pub(crate) clock: ManualClock,
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
        let users = accounts::users::Users::open(pool).await.unwrap();
        let clock = ManualClock::new();
        let sessions = accounts::sessions(around(database.clone())).clock(clock.clone());
        Self {
            app: accounts::app(users, sessions.build().unwrap()),
            clock,
            database,
            _folder: folder,
        }
    }
}

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
