//! PostgreSQL and MariaDB.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use cloakroom::SessionStore;
use cloakroom::store::{MySqlStore, PostgresStore};
use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, MySqlPool, PgPool};

use super::answer::By;
use super::app_on::{AppOn, STORE_TIMEOUT, UNDECODABLE, failed, late};
use super::proxy::Proxy;
use super::sql_server::{Engine, Server};

/// A server with the session of a browser.
struct Database {
    engine: Engine,
    server: Server,
    app: AppOn,
}

impl Database {
    /// `None` where there is none to test with.
    async fn new(engine: Engine) -> Option<Self> {
        let server = Server::start(engine)?;
        Some(Self::on(engine, server).await)
    }

    async fn on(engine: Engine, server: Server) -> Self {
        let until = Instant::now() + Duration::from_secs(60);
        let store = loop {
            match store(engine, &server.url()).await {
                Ok(store) => break store,
                Err(error) => assert!(Instant::now() < until, "{error:?}"),
            }
        };
        let app = AppOn::new(store).await;
        Self {
            engine,
            server,
            app,
        }
    }

    /// As an administrator.
    async fn query(&self, sql: &str) {
        self.try_query(sql).await.unwrap();
    }

    async fn try_query(&self, sql: &str) -> Result<(), sqlx::Error> {
        let url = self.server.url();
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        match self.engine {
            Engine::Postgres => {
                let writable = [("default_transaction_read_only", "off")];
                let options: PgConnectOptions = url.parse().unwrap();
                let mut connection = options.options(writable).connect().await.unwrap();
                sqlx::raw_sql(sql).execute(&mut connection).await?;
                connection.close().await
            }
            Engine::MariaDb => {
                let options: MySqlConnectOptions = url.parse().unwrap();
                let mut connection = options.connect().await.unwrap();
                sqlx::raw_sql(sql).execute(&mut connection).await?;
                connection.close().await
            }
        }
    }

    async fn store(&self, url: &str) -> Arc<dyn SessionStore> {
        store(self.engine, url).await.unwrap()
    }
}

async fn store(
    engine: Engine,
    url: &str,
) -> Result<Arc<dyn SessionStore>, cloakroom::store::StoreError> {
    Ok(match engine {
        Engine::Postgres => {
            let store = PostgresStore::connect(url).await?;
            store.migrate().await?;
            Arc::new(store)
        }
        Engine::MariaDb => {
            let store = MySqlStore::connect(url).await?;
            store.migrate().await?;
            Arc::new(store)
        }
    })
}

async fn down(engine: Engine) {
    let Some(mut database) = Database::new(engine).await else {
        return;
    };
    let store = database.store(&database.server.url()).await;
    database.app.impatiently_over(store);
    database.server.kill();
    let answer = database.app.post_in_still_time("/set/a/2").await;
    answer
        .is_unavailable(By::Extractor)
        .logs_what_begins(&[&failed("load")])
        .takes_at_most(STORE_TIMEOUT);
    database.server.restart();
    database.app.is_unharmed_in_the_end("nobody: a=1").await;
}

#[tokio::test]
async fn postgresql_down_is_a_503_in_the_time_for_one_call() {
    down(Engine::Postgres).await;
}

#[tokio::test]
async fn mariadb_down_is_a_503_in_the_time_for_one_call() {
    down(Engine::MariaDb).await;
}

async fn silent(engine: Engine) {
    let Some(mut database) = Database::new(engine).await else {
        return;
    };
    let proxy = Proxy::to(database.server.port).await;
    let (direct, proxied) = (database.server.port.to_string(), proxy.port().to_string());
    let url = database.server.url().replace(&direct, &proxied);
    let store = database.store(&url).await;
    database.app.impatiently_over(store);
    database.app.is_unharmed("nobody: a=1").await;
    proxy.stall();
    let answer = database.app.post_in_still_time("/set/a/2").await;
    answer
        .is_unavailable(By::Extractor)
        .logs(&[&late("load")])
        .takes(STORE_TIMEOUT);
    proxy.resume();
    database.app.is_unharmed_in_the_end("nobody: a=1").await;
}

#[tokio::test]
async fn postgresql_silent_is_a_503_after_the_time_for_one_call() {
    silent(Engine::Postgres).await;
}

#[tokio::test]
async fn mariadb_silent_is_a_503_after_the_time_for_one_call() {
    silent(Engine::MariaDb).await;
}

async fn read_only(database: &Database, writable: &str) {
    let app = &database.app;
    app.refuses_writes_and_logouts().await;
    database.query(writable).await;
}

#[tokio::test]
async fn postgresql_read_only_is_a_503_for_writes_and_reading_goes_on() {
    let Some(mut database) = Database::new(Engine::Postgres).await else {
        return;
    };
    database
        .query("ALTER DATABASE postgres SET default_transaction_read_only = on")
        .await;
    let pool = PgPool::connect(&database.server.url()).await.unwrap();
    database.app.over(PostgresStore::new(pool));
    read_only(
        &database,
        "ALTER DATABASE postgres SET default_transaction_read_only = off",
    )
    .await;
    let pool = PgPool::connect(&database.server.url()).await.unwrap();
    database.app.over(PostgresStore::new(pool));
    let answer = database.app.post("/set/a/2").await;
    answer.is_the_page("nobody: a=2").logs(&[]);
}

#[tokio::test]
async fn mariadb_read_only_is_a_503_for_writes_and_reading_goes_on() {
    let Some(mut database) = Database::new(Engine::MariaDb).await else {
        return;
    };
    // Administrators write all the same.
    database
        .query("CREATE USER app; GRANT ALL ON mysql.* TO app")
        .await;
    let url = database.server.url().replace("root@", "app@");
    let store = MySqlStore::new(MySqlPool::connect(&url).await.unwrap());
    database.app.over(store);
    database.query("SET GLOBAL read_only = 1").await;
    read_only(&database, "SET GLOBAL read_only = 0").await;
    let answer = database.app.post("/set/a/2").await;
    answer.is_the_page("nobody: a=2").logs(&[]);
}

/// More than fits anywhere but in pages of its own.
fn large() -> String {
    format!("/set/b/{}", "x".repeat(60_000))
}

/// Fills the table of sessions until no more goes in.
async fn full(database: &Database, payload: &str, room: &str) {
    let mut filled = 0;
    while database
        .try_query(&match database.engine {
            Engine::Postgres => format!(
                "INSERT INTO cloakroom_sessions (handle, version, created_at, expires_at, sweep_at, payload) \
                 VALUES (decode(md5('{filled}'), 'hex'), 1, 0, 1, 1, {payload})"
            ),
            Engine::MariaDb => format!(
                "INSERT INTO cloakroom_sessions (handle, version, created_at, expires_at, payload) \
                 VALUES (unhex(md5('{filled}')), 1, 0, 1, {payload})"
            ),
        })
        .await
        .is_ok()
    {
        filled += 1;
        assert!(filled < 2_000, "it is never full");
    }
    assert!(
        filled > 10,
        "only {filled} went in: it is not for want of room"
    );
    let newcomer = database.app.newcomer();
    let answer = newcomer.post(&large()).await;
    answer
        .is_unavailable(By::Commit)
        .logs_what_begins(&[&failed("create")]);
    database.app.is_unharmed("nobody: a=1").await;
    database
        .query("DELETE FROM cloakroom_sessions WHERE created_at = 0")
        .await;
    database.query(room).await;
    // An engine may give the room back some time later.
    let until = Instant::now() + Duration::from_secs(60);
    while newcomer.client.post(&large()).await.status() != StatusCode::OK {
        assert!(Instant::now() < until, "it stays full");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    database.app.is_unharmed("nobody: a=1").await;
}

/// Its files have a limit, at which writing them fails as on a full disk.
#[tokio::test]
async fn postgresql_full_is_a_503_for_newcomers_and_reading_goes_on() {
    // A little more than a segment of its log.
    const LIMIT: &str = "ulimit -f 20000;";
    let options = ["-c", "autovacuum=off"];
    let Some(server) = Server::start_with(Engine::Postgres, LIMIT, &options) else {
        return;
    };
    let database = Database::on(Engine::Postgres, server).await;
    database
        .query("ALTER TABLE cloakroom_sessions ALTER payload SET STORAGE EXTERNAL")
        .await;
    full(
        &database,
        "decode(repeat('ab', 60000), 'hex')",
        "VACUUM cloakroom_sessions",
    )
    .await;
}

#[tokio::test]
async fn mariadb_full_is_a_503_for_newcomers_and_reading_goes_on() {
    let options = [
        "--innodb-file-per-table=0",
        "--innodb-data-file-path=ibdata1:12M:autoextend:max:24M",
    ];
    let Some(server) = Server::start_with(Engine::MariaDb, "", &options) else {
        return;
    };
    let database = Database::on(Engine::MariaDb, server).await;
    full(&database, "repeat('x', 60000)", "SELECT 1").await;
}

async fn garbage(engine: Engine, keep: &str, overwrite: &str, restore: &str) {
    let Some(database) = Database::new(engine).await else {
        return;
    };
    database.query(keep).await;
    database.query(overwrite).await;
    let answer = database.app.get("/show").await;
    answer
        .is_the_page("no session")
        .logs_what_begins(&[UNDECODABLE]);
    database.query(restore).await;
    database.app.is_unharmed("nobody: a=1").await;
}

const KEEP: &str = "CREATE TABLE kept AS SELECT payload FROM cloakroom_sessions";

#[tokio::test]
async fn postgresql_garbage_in_a_record_is_no_session_and_the_record_stays() {
    garbage(
        Engine::Postgres,
        KEEP,
        r"UPDATE cloakroom_sessions SET payload = '\x01AABBCC'",
        r"UPDATE cloakroom_sessions SET payload = kept.payload FROM kept
          WHERE cloakroom_sessions.payload = '\x01AABBCC'",
    )
    .await;
}

#[tokio::test]
async fn mariadb_garbage_in_a_record_is_no_session_and_the_record_stays() {
    garbage(
        Engine::MariaDb,
        KEEP,
        "UPDATE cloakroom_sessions SET payload = x'01AABBCC'",
        "UPDATE cloakroom_sessions SET payload = (SELECT payload FROM kept) WHERE payload = x'01AABBCC'",
    )
    .await;
}
