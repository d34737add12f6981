//! Makes the table and its indexes.

use sqlx::{AssertSqlSafe, PgConnection};

use super::statements::qualified;
use super::{PostgresStore, StoreError, TableName, failed};

/// Name, type, and whether it is NOT NULL, of each column of the table.
const COLUMNS: [(&str, &str, bool); 6] = [
    ("handle", "bytea", true),
    ("version", "bigint", true),
    ("created_at", "bigint", true),
    ("expires_at", "bigint", true),
    ("user_id", "text", false),
    ("payload", "bytea", true),
];

/// The columns that are the first of an index, the first of them of the primary key.
const INDEXED: [&str; 3] = ["handle", "expires_at", "user_id"];

/// Held by whoever makes a table of sessions: in a database, one at a time. "cloakroo", so that it is no
/// application's own by chance.
const ADVISORY_LOCK: i64 = i64::from_be_bytes(*b"cloakroo");

/// What there is of a table.
enum Found {
    Nothing,
    /// Without an index, or some.
    Unfinished,
    Complete,
    /// Its columns are others.
    Another,
}

impl PostgresStore {
    /// Makes the database ready for sessions: creates the table, its indexes, and the schema if one was
    /// [named](Self::with_schema).
    ///
    /// Call it whenever the program starts: where all is there already, nothing changes, and no right to
    /// create anything is needed, `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the table being enough. Any
    /// number of tasks and nodes may do so at once.
    ///
    /// # Errors
    ///
    /// If the engine failed or refused, if the server is a read replica, or if there is a table of this
    /// name that is none of sessions.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let mut connection = self.pool().acquire().await.map_err(migration_failed)?;
        self.refuse_a_replica(&mut connection).await?;
        match self.find(&mut connection).await? {
            Found::Complete => return Ok(()),
            Found::Another => return Err(self.not_ours()),
            Found::Nothing | Found::Unfinished => {}
        }
        self.create(&mut connection)
            .await
            .map_err(migration_failed)?;
        match self.find(&mut connection).await? {
            Found::Complete => Ok(()),
            Found::Nothing | Found::Unfinished | Found::Another => Err(self.not_ours()),
        }
    }

    /// All or nothing, in one transaction.
    ///
    /// Under a lock, since `IF NOT EXISTS` is none: of two that run it at once, both find nothing, and one
    /// fails with a violation of a catalog's unique index.
    async fn create(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let mut transaction = sqlx::Connection::begin(connection).await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(ADVISORY_LOCK)
            .execute(&mut *transaction)
            .await?;
        if let Some(schema) = &self.schema {
            create_schema(&mut transaction, schema).await?;
        }
        for statement in self.table_statements() {
            sqlx::query(AssertSqlSafe(statement))
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await
    }

    fn table_statements(&self) -> [String; 3] {
        let name = self.table.as_str();
        let table = self.qualified_table();
        [
            // User ids are compared byte by byte, and their index does not depend on a collation, which
            // another version of the operating system may order differently.
            format!(
                r#"CREATE TABLE IF NOT EXISTS {table} (
                    handle BYTEA NOT NULL PRIMARY KEY CHECK (octet_length(handle) = 16),
                    version BIGINT NOT NULL,
                    created_at BIGINT NOT NULL,
                    expires_at BIGINT NOT NULL,
                    user_id TEXT COLLATE "C" CHECK (octet_length(user_id) <= 255),
                    payload BYTEA NOT NULL
                )"#
            ),
            format!(r#"CREATE INDEX IF NOT EXISTS "{name}_expires_at" ON {table} (expires_at)"#),
            format!(
                r#"CREATE INDEX IF NOT EXISTS "{name}_user_id" ON {table} (user_id)
                WHERE user_id IS NOT NULL"#
            ),
        ]
    }

    async fn refuse_a_replica(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let is_replica: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()")
            .fetch_one(connection)
            .await
            .map_err(migration_failed)?;
        if is_replica {
            return Err(StoreError::unavailable(
                "the PostgreSQL server is a read replica",
                "it lags, and would open sessions that have ended: connect to the primary",
            ));
        }
        Ok(())
    }

    /// By the catalogs, which any role may read.
    async fn find(&self, connection: &mut PgConnection) -> Result<Found, StoreError> {
        let columns: Vec<(String, String, bool)> = sqlx::query_as(
            "SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
            FROM pg_attribute
            WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
            ORDER BY attnum",
        )
        .bind(self.qualified_table())
        .fetch_all(&mut *connection)
        .await
        .map_err(migration_failed)?;
        if columns.is_empty() {
            return Ok(Found::Nothing);
        }
        let are_ours = columns
            .iter()
            .map(|(name, kind, not_null)| (name.as_str(), kind.as_str(), *not_null))
            .eq(COLUMNS);
        if !are_ours {
            return Ok(Found::Another);
        }
        let indexed: Vec<String> = sqlx::query_scalar(
            "SELECT attname::text FROM pg_index JOIN pg_attribute
            ON attrelid = indrelid AND attnum = indkey[0]
            WHERE indrelid = to_regclass($1) AND indisvalid AND (attname <> 'handle' OR indisprimary)",
        )
        .bind(self.qualified_table())
        .fetch_all(connection)
        .await
        .map_err(migration_failed)?;
        let is_complete = INDEXED
            .iter()
            .all(|column| indexed.iter().any(|indexed| indexed == column));
        Ok(if is_complete {
            Found::Complete
        } else {
            Found::Unfinished
        })
    }

    fn qualified_table(&self) -> String {
        qualified(self.schema.as_ref(), &self.table)
    }

    fn not_ours(&self) -> StoreError {
        StoreError::unavailable(
            format!(
                "the table {} is there and is none of sessions",
                self.qualified_table()
            ),
            "its columns or indexes are others; choose another name by with_table",
        )
    }
}

/// Asks first: the statement wants the right to create schemas, even where it has nothing to do.
async fn create_schema(connection: &mut PgConnection, schema: &TableName) -> sqlx::Result<()> {
    let schema = format!(r#""{}""#, schema.as_str());
    let is_there: bool = sqlx::query_scalar("SELECT to_regnamespace($1) IS NOT NULL")
        .bind(&schema)
        .fetch_one(&mut *connection)
        .await?;
    if !is_there {
        sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA {schema}")))
            .execute(connection)
            .await?;
    }
    Ok(())
}

fn migration_failed(error: sqlx::Error) -> StoreError {
    failed("make the table of sessions in PostgreSQL", error)
}
