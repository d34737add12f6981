//! The calls of `PostgresStore`.

use cloakroom::store::PostgresStore;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Row as _, SqlSafeStr, SqlStr};

use super::super::CONNECTIONS;
use super::{Calls, Id, Row, Sample, expiry};
use crate::Result;
use crate::scenarios::Store;
use crate::stores::postgres_url;

/// What the connection is called that the store is listened to on.
const LISTENED_TO: &str = "cloakroom_bench_sample";

#[derive(Clone)]
pub(super) struct Postgres {
    pool: PgPool,
    load: SqlStr,
    touch: SqlStr,
    update: SqlStr,
    create: SqlStr,
}

impl Postgres {
    pub(super) async fn open(store: Store) -> Result<Self> {
        let options: PgConnectOptions = postgres_url(store)?.parse()?;
        let pool = |connections| {
            PgPoolOptions::new()
                .max_connections(connections)
                .test_before_acquire(false)
        };
        let listened_to = pool(1)
            .connect_with(options.clone().application_name(LISTENED_TO))
            .await?;
        let pool = pool(CONNECTIONS).connect_with(options).await?;
        let store = PostgresStore::new(listened_to.clone());
        store.migrate().await?;
        let sample = Sample::of(&store);
        sample.create().await?;
        let create = last_statement(&pool).await?;
        sample.load().await?;
        let load = last_statement(&pool).await?;
        sample.touch().await?;
        let touch = last_statement(&pool).await?;
        sample.update().await?;
        let update = last_statement(&pool).await?;
        listened_to.close().await;
        Ok(Self {
            pool,
            load,
            touch,
            update,
            create,
        })
    }
}

impl Calls for Postgres {
    async fn load(&self, id: &Id) -> Result<Option<Row>> {
        let row = sqlx::query(self.load.clone())
            .bind(&id[..])
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let n = row.try_get::<&[u8], _>(4)?;
        Ok(Some(Row {
            version: row.try_get::<i64, _>(0)?.cast_unsigned(),
            created_at: row.try_get(1)?,
            expires_at: row.try_get(2)?,
            n: std::str::from_utf8(n)?.parse()?,
        }))
    }

    async fn touch(&self, id: &Id, version: u64, now: i64) -> Result<bool> {
        let changed = sqlx::query(self.touch.clone())
            .bind(&id[..])
            .bind(version.cast_signed())
            .bind(now)
            .bind(expiry(now))
            .execute(&self.pool)
            .await?;
        Ok(changed.rows_affected() == 1)
    }

    async fn update(&self, id: &Id, version: u64, row: &Row, now: i64) -> Result<bool> {
        let changed = sqlx::query(self.update.clone())
            .bind(&id[..])
            .bind(version.cast_signed())
            .bind(now)
            .bind(row.version.cast_signed())
            .bind(row.created_at)
            .bind(row.expires_at)
            .bind(None::<&str>)
            .bind(row.n.to_string().as_bytes())
            .execute(&self.pool)
            .await?;
        Ok(changed.rows_affected() == 1)
    }

    async fn create(&self, id: &Id, row: &Row) -> Result<()> {
        sqlx::query(self.create.clone())
            .bind(&id[..])
            .bind(row.version.cast_signed())
            .bind(row.created_at)
            .bind(row.expires_at)
            .bind(None::<&str>)
            .bind(row.n.to_string().as_bytes())
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

/// What the store sent last, as the server has it.
async fn last_statement(pool: &PgPool) -> Result<SqlStr> {
    let sql: String =
        sqlx::query_scalar("SELECT query FROM pg_stat_activity WHERE application_name = $1")
            .bind(LISTENED_TO)
            .fetch_one(pool)
            .await?;
    // The server keeps 1023 bytes, or what it is set to.
    if sql.len() >= 1_000 {
        return Err(
            "a statement of the store may be longer than what the server shows of it".into(),
        );
    }
    Ok(AssertSqlSafe(sql).into_sql_str())
}
