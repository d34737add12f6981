//! SQLite.

use std::path::PathBuf;
use std::time::Duration;

use cloakroom::store::SqliteStore;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use tempfile::TempDir;

use super::answer::By;
use super::app_on::{AppOn, STORE_TIMEOUT, UNDECODABLE, failed, late};
use super::child;
use super::limited::{Room, WITHOUT_SIGNALS, again, block_on};

/// A database with the session of a browser.
struct Database {
    folder: TempDir,
    app: AppOn,
}

impl Database {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::connect(folder.path().join("sessions.db"))
            .await
            .unwrap();
        store.migrate().await.unwrap();
        let app = AppOn::new(store).await;
        Self { folder, app }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("sessions.db")
    }

    async fn pool(&self, options: SqliteConnectOptions) -> SqlitePool {
        let options = options.filename(self.path());
        let pool = SqlitePoolOptions::new().max_connections(1);
        pool.connect_with(options).await.unwrap()
    }

    async fn query(&self, sql: &'static str) {
        let pool = self.pool(SqliteConnectOptions::new()).await;
        sqlx::raw_sql(sql).execute(&pool).await.unwrap();
        pool.close().await;
    }
}

#[tokio::test]
async fn sqlite_read_only_is_a_503_for_writes_and_reading_goes_on() {
    let mut database = Database::new().await;
    let options = SqliteConnectOptions::new().read_only(true);
    let pool = database.pool(options).await;
    database.app.over(SqliteStore::new(pool));
    let app = &database.app;
    app.refuses_writes_and_logouts().await;
}

#[tokio::test]
async fn sqlite_full_is_a_503_for_newcomers_and_the_others_go_on() {
    let mut database = Database::new().await;
    // As many pages as there are.
    let options = SqliteConnectOptions::new().pragma("max_page_count", "1");
    let pool = database.pool(options).await;
    database.app.over(SqliteStore::new(pool));
    let app = &database.app;
    let large = format!("/set/b/{}", "x".repeat(20_000));
    let newcomer = app.newcomer();
    let answer = newcomer.post(&large).await;
    answer
        .is_unavailable(By::Commit)
        .logs_what_begins(&[&failed("create")]);
    let answer = app.post("/set/a/2").await;
    answer.is_the_page("nobody: a=2").logs(&[]);

    let pool = database.pool(SqliteConnectOptions::new()).await;
    database.app.over(SqliteStore::new(pool));
    let newcomer = database.app.newcomer();
    newcomer.post(&large).await.logs(&[]);
    database.app.is_unharmed("nobody: a=2").await;
}

#[test]
fn sqlite_on_a_disk_without_any_room_is_a_503_for_writes_and_reading_goes_on() {
    const THIS: &str =
        "sqlite::sqlite_on_a_disk_without_any_room_is_a_503_for_writes_and_reading_goes_on";
    if child::folder().is_none() {
        return again(WITHOUT_SIGNALS, THIS);
    }
    block_on(async {
        let database = Database::new().await;
        let app = &database.app;
        Room::None.for_files();
        app.refuses_writes_and_logouts().await;
        Room::Plenty.for_files();
        app.is_unharmed("nobody: a=1").await;
        app.post("/set/a/2").await.is_the_page("nobody: a=2");
    });
}

/// Another process holds the lock for writers.
#[tokio::test]
async fn sqlite_locked_is_a_503_for_writes_after_the_time_for_two_calls() {
    let mut database = Database::new().await;
    let patient = SqliteConnectOptions::new().busy_timeout(Duration::from_secs(60));
    let pool = database.pool(patient).await;
    database.app.impatiently_over(SqliteStore::new(pool));
    let other = database.pool(SqliteConnectOptions::new()).await;
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let app = &database.app;
    app.is_unharmed("nobody: a=1").await;
    let answer = app.post("/set/a/2").await;
    // The one connection is still waiting for the lock, so nothing can be looked up either.
    answer
        .is_unavailable(By::Commit)
        .logs(&[&late("update"), &late("load")])
        .takes_more_than(STORE_TIMEOUT);
    // What nobody waits for any more takes effect all the same.
    lock.rollback().await.unwrap();
    app.is_unharmed_in_the_end("nobody: a=2").await;
}

#[tokio::test]
async fn sqlite_garbage_in_a_record_is_no_session_and_the_record_stays() {
    let database = Database::new().await;
    let app = &database.app;
    database
        .query(
            "CREATE TABLE kept AS SELECT payload FROM cloakroom_sessions;
             UPDATE cloakroom_sessions SET payload = x'01AABBCC'",
        )
        .await;
    let answer = app.get("/show").await;
    answer
        .is_the_page("no session")
        .logs_what_begins(&[UNDECODABLE]);
    database
        .query("UPDATE cloakroom_sessions SET payload = (SELECT payload FROM kept) WHERE payload = x'01AABBCC'")
        .await;
    app.is_unharmed("nobody: a=1").await;
}

#[tokio::test]
async fn sqlite_with_a_damaged_file_is_a_503_and_the_file_stays() {
    let mut database = Database::new().await;
    database.query("PRAGMA wal_checkpoint(TRUNCATE)").await;
    let whole = std::fs::read(database.path()).unwrap();
    // All but the header and the schema.
    let mut damaged = whole.clone();
    damaged[4_096..].fill(0x5A);
    std::fs::write(database.path(), &damaged).unwrap();
    let pool = database.pool(SqliteConnectOptions::new()).await;
    database.app.over(SqliteStore::new(pool.clone()));
    for path in ["/set/a/2", "/logout"] {
        let answer = database.app.post(path).await;
        answer
            .is_unavailable(By::Extractor)
            .logs_what_begins(&[&failed("load")]);
    }
    pool.close().await;
    assert_eq!(std::fs::read(database.path()).unwrap(), damaged);
    std::fs::write(database.path(), &whole).unwrap();
    let pool = database.pool(SqliteConnectOptions::new()).await;
    database.app.over(SqliteStore::new(pool));
    database.app.is_unharmed("nobody: a=1").await;
}
