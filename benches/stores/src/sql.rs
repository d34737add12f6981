//! The stores on SQL servers, found by the variables that `tests/with_servers.sh` sets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cloakroom::store::{Handle, MySqlStore, PostgresStore, SessionStore, async_trait};
use sqlx::mysql::MySqlPool;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Row};

use crate::Result;
use crate::engine::{Engine, Sizes};
use crate::options::Options;
use crate::report::Report;

const TABLE: &str = "cloakroom_bench";

pub(crate) fn url(variable: &str) -> Result<String> {
    std::env::var(variable)
        .map_err(|_| format!("{variable} is not set: run this under tests/with_servers.sh").into())
}

pub(crate) struct Postgres {
    store: Arc<PostgresStore>,
    filler: Arc<PostgresStore>,
}

impl Postgres {
    pub(crate) async fn open() -> Result<Self> {
        let url = url("CLOAKROOM_TEST_POSTGRES_URL")?;
        let options: PgConnectOptions = url.parse()?;
        let pool = |options, connections| {
            PgPoolOptions::new()
                .max_connections(connections)
                .test_before_acquire(false)
                .connect_with(options)
        };
        let store = PostgresStore::new(pool(options.clone(), 16).await?).with_table(TABLE)?;
        let table = format!("DROP TABLE IF EXISTS {TABLE}");
        sqlx::query(AssertSqlSafe(table))
            .execute(store.pool())
            .await?;
        store.migrate().await?;
        let unsynced = options.options([("synchronous_commit", "off")]);
        let filler = PostgresStore::new(pool(unsynced, 8).await?).with_table(TABLE)?;
        Ok(Self {
            store: Arc::new(store),
            filler: Arc::new(filler),
        })
    }

    fn pool(&self) -> &PgPool {
        self.store.pool()
    }

    async fn ask(&self, sql: &str) -> Result<i64> {
        let sql = AssertSqlSafe(sql.replace("{TABLE}", TABLE));
        Ok(sqlx::query_scalar(sql).fetch_one(self.pool()).await?)
    }

    async fn run(&self, sql: &str) -> Result<()> {
        let sql = AssertSqlSafe(sql.replace("{TABLE}", TABLE));
        sqlx::query(sql).execute(self.pool()).await?;
        Ok(())
    }
}

#[async_trait]
impl Engine for Postgres {
    fn store(&self) -> Arc<dyn SessionStore> {
        self.store.clone()
    }

    fn filler(&self) -> Arc<dyn SessionStore> {
        self.filler.clone()
    }

    async fn settings(&self) -> Result<Vec<String>> {
        let mut settings = Vec::new();
        for name in [
            "server_version",
            "fsync",
            "synchronous_commit",
            "full_page_writes",
            "shared_buffers",
            "max_wal_size",
            "autovacuum",
        ] {
            let show = AssertSqlSafe(format!("SHOW {name}"));
            let value: String = sqlx::query_scalar(show).fetch_one(self.pool()).await?;
            settings.push(format!("{name} = {value}"));
        }
        settings.push("16 connections; filled with synchronous_commit = off".into());
        Ok(settings)
    }

    async fn sizes(&self) -> Result<Sizes> {
        let mut sizes = Vec::new();
        for (what, sql) in [
            (
                "table and indexes",
                "SELECT pg_total_relation_size('{TABLE}')",
            ),
            ("table", "SELECT pg_table_size('{TABLE}')"),
            (
                "index of the key",
                "SELECT pg_relation_size('{TABLE}_pkey')",
            ),
            (
                "index for sweeps",
                "SELECT pg_relation_size('{TABLE}_sweep_at')",
            ),
        ] {
            sizes.push((what, self.ask(sql).await?.cast_unsigned()));
        }
        Ok(sizes)
    }

    async fn settle(&self) -> Result<()> {
        self.run("VACUUM ANALYZE {TABLE}").await?;
        self.run("CHECKPOINT").await
    }

    async fn log_bytes(&self) -> Result<Option<u64>> {
        let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
        Ok(Some(self.ask(sql).await?.cast_unsigned()))
    }

    /// How many updates found place on their page without a change of an index (HOT), and what a vacuum costs.
    async fn extra(&self, _: &[Handle], _: &Options, report: &mut Report) -> Result<()> {
        // The server's processes report what they counted once they are idle.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let of = |column| {
            format!("SELECT {column} FROM pg_stat_user_tables WHERE relname = '{{TABLE}}'")
        };
        for column in [
            "n_tup_upd",
            "n_tup_hot_upd",
            "n_dead_tup",
            "autovacuum_count",
        ] {
            let count = self.ask(&of(column)).await? as f64;
            report.figure(column, "", &[count])?;
        }
        let started = Instant::now();
        self.run("VACUUM {TABLE}").await?;
        report.figure("vacuum, time", "s", &[started.elapsed().as_secs_f64()])
    }

    async fn close(&self) -> Result<()> {
        self.run("DROP TABLE {TABLE}").await?;
        self.filler.pool().close().await;
        self.pool().close().await;
        Ok(())
    }
}

pub(crate) struct MySql(Arc<MySqlStore>);

impl MySql {
    pub(crate) async fn open() -> Result<Self> {
        let pool = sqlx::mysql::MySqlPoolOptions::new()
            .max_connections(16)
            .test_before_acquire(false)
            .connect(&url("CLOAKROOM_TEST_MYSQL_URL")?)
            .await?;
        let store = MySqlStore::new(pool).with_table(TABLE)?;
        let table = format!("DROP TABLE IF EXISTS {TABLE}");
        sqlx::query(AssertSqlSafe(table))
            .execute(store.pool())
            .await?;
        store.migrate().await?;
        Ok(Self(Arc::new(store)))
    }

    fn pool(&self) -> &MySqlPool {
        self.0.pool()
    }

    async fn run(&self, sql: String) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(self.pool())
            .await?;
        Ok(())
    }
}

#[async_trait]
impl Engine for MySql {
    fn store(&self) -> Arc<dyn SessionStore> {
        self.0.clone()
    }

    async fn settings(&self) -> Result<Vec<String>> {
        let mut settings = Vec::new();
        for name in [
            "version",
            "innodb_flush_log_at_trx_commit",
            "log_bin",
            "innodb_buffer_pool_size",
            "innodb_log_file_size",
            "tx_isolation",
        ] {
            let sql = AssertSqlSafe(format!("SELECT CAST(@@{name} AS CHAR)"));
            let value: String = sqlx::query_scalar(sql).fetch_one(self.pool()).await?;
            settings.push(format!("{name} = {value}"));
        }
        settings.push("16 connections".into());
        Ok(settings)
    }

    async fn sizes(&self) -> Result<Sizes> {
        self.run(format!("ANALYZE TABLE {TABLE}")).await?;
        let row = sqlx::query(
            "SELECT CAST(data_length AS SIGNED), CAST(index_length AS SIGNED) FROM information_schema.tables
            WHERE table_schema = DATABASE() AND table_name = ?",
        )
        .bind(TABLE)
        .fetch_one(self.pool())
        .await?;
        let [data, indexes] =
            [row.try_get::<i64, _>(0)?, row.try_get::<i64, _>(1)?].map(i64::cast_unsigned);
        Ok(vec![
            ("table and indexes", data + indexes),
            ("table", data),
            ("indexes", indexes),
        ])
    }

    async fn log_bytes(&self) -> Result<Option<u64>> {
        let sql = "SELECT CAST(variable_value AS SIGNED) FROM information_schema.global_status
            WHERE variable_name = 'Innodb_lsn_current'";
        let written: i64 = sqlx::query_scalar(sql).fetch_one(self.pool()).await?;
        Ok(Some(written.cast_unsigned()))
    }

    async fn close(&self) -> Result<()> {
        self.run(format!("DROP TABLE {TABLE}")).await?;
        self.pool().close().await;
        Ok(())
    }
}
