//! Stores on SQL servers, each in a place of its own.
#![allow(dead_code)]

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use cloakroom::store::{
    Handle, MemoryStore, MySqlStore, Outcome, PostgresStore, Record, SessionStore, StoreError,
    UserIndex, Version, async_trait,
};
use sqlx::mysql::{MySqlConnectOptions, MySqlPool, MySqlPoolOptions};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection};
use time::OffsetDateTime;

use crate::servers;

/// A schema of its own in PostgreSQL, gone when it is dropped.
pub(crate) struct PostgresPlace {
    pub(crate) options: PgConnectOptions,
    pub(crate) schema: String,
}

impl PostgresPlace {
    /// `None` where there is no server to test with.
    pub(crate) async fn new() -> Option<Self> {
        let url = servers::url("CLOAKROOM_TEST_POSTGRES_URL")?;
        Some(Self {
            options: url.parse().unwrap(),
            schema: unique_name(),
        })
    }

    /// A pool as it is advised, with so many connections.
    pub(crate) async fn pool(&self, connections: u32) -> PgPool {
        self.pool_with(connections, self.options.clone()).await
    }

    pub(crate) async fn pool_with(&self, connections: u32, options: PgConnectOptions) -> PgPool {
        PgPoolOptions::new()
            .max_connections(connections)
            .test_before_acquire(false)
            .connect_with(options)
            .await
            .unwrap()
    }

    /// A store without a table as yet.
    pub(crate) async fn store(&self, connections: u32) -> PostgresStore {
        self.store_on(self.pool(connections).await)
    }

    pub(crate) fn store_on(&self, pool: PgPool) -> PostgresStore {
        PostgresStore::new(pool).with_schema(&self.schema).unwrap()
    }

    pub(crate) async fn migrated(&self, connections: u32) -> PostgresStore {
        let store = self.store(connections).await;
        store.migrate().await.unwrap();
        store
    }

    /// A store on a table in so many partitions by the hash of the handle, made as the page on sizing says.
    pub(crate) async fn partitioned(&self, connections: u32, partitions: u32) -> PostgresStore {
        let store = self.migrated(connections).await;
        let table = self.table();
        let mut sql = format!(
            "ALTER TABLE {table} RENAME TO cloakroom_sessions_plain;
            CREATE TABLE {table} (LIKE {table}_plain INCLUDING ALL) PARTITION BY HASH (handle);
            DROP TABLE {table}_plain;"
        );
        for partition in 0..partitions {
            sql += &format!(
                "CREATE TABLE {table}_{partition} PARTITION OF {table}
                FOR VALUES WITH (MODULUS {partitions}, REMAINDER {partition});"
            );
        }
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(store.pool())
            .await
            .unwrap();
        store
    }

    /// The table as it stands in SQL.
    pub(crate) fn table(&self) -> String {
        format!("{}.cloakroom_sessions", self.schema)
    }
}

impl Drop for PostgresPlace {
    fn drop(&mut self) {
        let options = self.options.clone();
        let sql = format!("DROP SCHEMA IF EXISTS {} CASCADE", self.schema);
        finally(async move {
            let mut connection = sqlx::PgConnection::connect_with(&options).await?;
            sqlx::query(AssertSqlSafe(sql))
                .execute(&mut connection)
                .await?;
            connection.close().await
        });
    }
}

/// A database of its own in MySQL or MariaDB, gone when it is dropped.
pub(crate) struct MySqlPlace {
    server: MySqlConnectOptions,
    pub(crate) options: MySqlConnectOptions,
    pub(crate) database: String,
}

impl MySqlPlace {
    /// `None` where there is no server to test with.
    pub(crate) async fn new() -> Option<Self> {
        let url = servers::url("CLOAKROOM_TEST_MYSQL_URL")?;
        let server: MySqlConnectOptions = url.parse().unwrap();
        let database = unique_name();
        let mut connection = sqlx::MySqlConnection::connect_with(&server).await.unwrap();
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {database}")))
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        Some(Self {
            options: server.clone().database(&database),
            server,
            database,
        })
    }

    /// A pool as it is advised, with so many connections.
    pub(crate) async fn pool(&self, connections: u32) -> MySqlPool {
        self.pool_with(connections, self.options.clone()).await
    }

    pub(crate) async fn pool_with(
        &self,
        connections: u32,
        options: MySqlConnectOptions,
    ) -> MySqlPool {
        MySqlPoolOptions::new()
            .max_connections(connections)
            .test_before_acquire(false)
            .connect_with(options)
            .await
            .unwrap()
    }

    /// A store without a table as yet.
    pub(crate) async fn store(&self, connections: u32) -> MySqlStore {
        MySqlStore::new(self.pool(connections).await)
    }

    pub(crate) async fn migrated(&self, connections: u32) -> MySqlStore {
        let store = self.store(connections).await;
        store.migrate().await.unwrap();
        store
    }
}

impl Drop for MySqlPlace {
    fn drop(&mut self) {
        let options = self.server.clone();
        let sql = format!("DROP DATABASE IF EXISTS {}", self.database);
        finally(async move {
            let mut connection = sqlx::MySqlConnection::connect_with(&options).await?;
            sqlx::query(AssertSqlSafe(sql))
                .execute(&mut connection)
                .await?;
            connection.close().await
        });
    }
}

fn unique_name() -> String {
    format!("cloakroom_test_{:016x}", RandomState::new().hash_one(0))
}

/// Runs what has to be waited for in a `drop`.
fn finally(future: impl Future<Output = sqlx::Result<()>> + Send + 'static) {
    let cleanup = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        // A test that failed may have left a transaction open, which this would wait for.
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), future).await })
    });
    let result = cleanup.join().unwrap();
    // A test that failed says more than what comes of it.
    if !std::thread::panicking() {
        result.expect("the test left a transaction open").unwrap();
    }
}

/// A store, and what is to be dropped after it.
#[derive(Debug)]
pub(crate) struct Guarded {
    store: Arc<dyn SessionStore>,
    _place: Place,
}

struct Place(Option<Box<dyn Send + Sync>>);

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Place")
    }
}

impl Guarded {
    pub(crate) fn new(store: impl SessionStore, place: impl Send + Sync + 'static) -> Self {
        Self {
            store: Arc::new(store),
            _place: Place(Some(Box::new(place))),
        }
    }

    /// Stands in where there is no server, since a rule of the suite cannot be left out.
    pub(crate) fn left_out() -> Self {
        Self {
            store: Arc::new(MemoryStore::new()),
            _place: Place(None),
        }
    }
}

#[async_trait]
impl SessionStore for Guarded {
    async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        self.store.create(handle, record).await
    }

    async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        self.store.load(handle).await
    }

    async fn update(
        &self,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        self.store.update(handle, record, expected, now).await
    }

    async fn touch(
        &self,
        handle: &Handle,
        expires_at: OffsetDateTime,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        self.store.touch(handle, expires_at, expected, now).await
    }

    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        self.store.delete(handle).await
    }

    async fn delete_expired(&self, now: OffsetDateTime, limit: usize) -> Result<usize, StoreError> {
        self.store.delete_expired(now, limit).await
    }

    fn user_index(&self) -> Option<&dyn UserIndex> {
        self.store.user_index()
    }
}
