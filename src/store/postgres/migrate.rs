//! Makes the tables and their indexes.

use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use super::statements::qualified;
use super::{PostgresStore, StoreError, TableName, failed};
use crate::store::sql::dialect::Dialect;
use crate::store::sql::index::{LINKS, MARKS};

/// The tables: that of sessions, and those next to it.
const TABLES: [Table; 3] = [
    Table {
        suffix: "",
        columns: &[
            ("handle", "bytea", true),
            ("version", "bigint", true),
            ("created_at", "bigint", true),
            ("expires_at", "bigint", true),
            ("user_id", "text", false),
            ("payload", "bytea", true),
            ("sweep_at", "bigint", true),
        ],
        key: "handle",
        // User ids are compared byte by byte. No checks of lengths, which the server would make with each update:
        // what this crate writes has them.
        definition: r#"
            handle BYTEA NOT NULL PRIMARY KEY,
            version BIGINT NOT NULL,
            created_at BIGINT NOT NULL,
            expires_at BIGINT NOT NULL,
            user_id TEXT COLLATE "C",
            payload BYTEA NOT NULL,
            sweep_at BIGINT NOT NULL"#,
        // Room in each page for the next versions of its rows: without, they would go to other pages, and take
        // an entry in each index.
        storage: "WITH (fillfactor = 85)",
        // None of what changes while a session lives: each change would take an entry in each index. The sessions
        // of a user are found by the next table.
        indexes: &["sweep_at"],
    },
    Table {
        suffix: LINKS,
        columns: &[
            ("user_id", "bytea", true),
            ("handle", "bytea", true),
            ("linked_at", "bigint", true),
            ("expires_at", "bigint", true),
            ("pending", "boolean", true),
        ],
        key: "user_id",
        definition: "
            user_id BYTEA NOT NULL CHECK (octet_length(user_id) <= 255),
            handle BYTEA NOT NULL CHECK (octet_length(handle) = 16),
            linked_at BIGINT NOT NULL,
            expires_at BIGINT NOT NULL,
            pending BOOLEAN NOT NULL,
            PRIMARY KEY (user_id, handle)",
        storage: "",
        indexes: &["expires_at"],
    },
    Table {
        suffix: MARKS,
        columns: &[("user_id", "bytea", true), ("marked_at", "bigint", true)],
        key: "user_id",
        definition: "
            user_id BYTEA NOT NULL PRIMARY KEY CHECK (octet_length(user_id) <= 255),
            marked_at BIGINT NOT NULL",
        storage: "",
        indexes: &["marked_at"],
    },
];

struct Table {
    suffix: &'static str,
    /// Name, type, and whether it is NOT NULL, of each column.
    columns: &'static [(&'static str, &'static str, bool)],
    /// The first column of the primary key.
    key: &'static str,
    definition: &'static str,
    /// How the server keeps it.
    storage: &'static str,
    /// The columns of which each has an index.
    indexes: &'static [&'static str],
}

/// Held by whoever makes a table of sessions: in a database, one at a time. "cloakroo", so that it is no
/// application's own by chance.
const ADVISORY_LOCK: i64 = i64::from_be_bytes(*b"cloakroo");

/// What there is of a table.
#[derive(PartialEq, Eq)]
enum Found {
    Nothing,
    /// Without an index on these columns.
    Unfinished(Vec<&'static str>),
    Complete,
    /// Its columns are others, or its key.
    Another,
}

impl PostgresStore {
    /// Makes the database ready for sessions: creates the tables, their indexes, and the schema if one was
    /// [named](Self::with_schema).
    ///
    /// Call it whenever the program starts: where all is there already, nothing changes, and no right to
    /// create anything is needed, `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the tables being enough. Any
    /// number of tasks and nodes may do so at once. It has no time limit once it is connected: where a server
    /// that hangs must not hold up the start, put it into a `tokio::time::timeout`.
    ///
    /// # Errors
    ///
    /// If the engine failed or refused, if the server is a read replica, or if there is a table of this
    /// name that is none of sessions.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let mut connection = self.pool().acquire().await.map_err(migration_failed)?;
        self.refuse_a_replica(&mut connection).await?;
        if !self.is_complete(&mut connection).await? {
            self.create(&mut connection).await?;
        }
        Ok(())
    }

    /// # Errors
    ///
    /// If a table of one of the names is none of ours.
    async fn is_complete(&self, connection: &mut PgConnection) -> Result<bool, StoreError> {
        let mut is_complete = true;
        for table in &TABLES {
            match self.find(connection, table).await? {
                Found::Complete => {}
                Found::Another => return Err(self.not_ours(table)),
                Found::Nothing | Found::Unfinished(_) => is_complete = false,
            }
        }
        Ok(is_complete)
    }

    /// All or nothing, in one transaction.
    ///
    /// Under a lock, since `IF NOT EXISTS` is none: of two that run it at once, both find nothing, and one
    /// fails with a violation of a catalog's unique index. Under it, what is there is looked at again.
    async fn create(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let mut transaction = sqlx::Connection::begin_with(connection, Postgres::BEGIN)
            .await
            .map_err(migration_failed)?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(ADVISORY_LOCK)
            .execute(&mut *transaction)
            .await
            .map_err(migration_failed)?;
        if let Some(schema) = &self.schema {
            create_schema(&mut transaction, schema)
                .await
                .map_err(migration_failed)?;
        }
        for table in &TABLES {
            let found = self.find(&mut transaction, table).await?;
            for statement in self.missing(table, found) {
                sqlx::query(AssertSqlSafe(statement))
                    .execute(&mut *transaction)
                    .await
                    .map_err(migration_failed)?;
            }
            if self.find(&mut transaction, table).await? != Found::Complete {
                return Err(self.not_ours(table));
            }
        }
        transaction.commit().await.map_err(migration_failed)
    }

    /// What makes the rest of a table. An index is missed by its columns, and not by its name: that of a table
    /// that was partitioned has another one, and none is wanted twice.
    fn missing(&self, table: &Table, found: Found) -> Vec<String> {
        let name = self.qualified(table);
        let mut statements = Vec::new();
        let columns = match found {
            Found::Complete | Found::Another => Vec::new(),
            Found::Unfinished(columns) => columns,
            Found::Nothing => {
                let (definition, storage) = (table.definition, table.storage);
                statements.push(format!("CREATE TABLE {name} ({definition}) {storage}"));
                table.indexes.to_vec()
            }
        };
        for column in table.indexes {
            if columns.contains(column) {
                let index = format!("{}{}_{column}", self.table.as_str(), table.suffix);
                statements.push(format!(
                    r#"CREATE INDEX IF NOT EXISTS "{index}" ON {name} ({column})"#
                ));
            }
        }
        statements
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
    async fn find(
        &self,
        connection: &mut PgConnection,
        table: &Table,
    ) -> Result<Found, StoreError> {
        let columns: Vec<(String, String, bool)> = sqlx::query_as(
            "SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
            FROM pg_attribute
            WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
            ORDER BY attnum",
        )
        .bind(self.qualified(table))
        .fetch_all(&mut *connection)
        .await
        .map_err(migration_failed)?;
        if columns.is_empty() {
            return Ok(Found::Nothing);
        }
        let are_ours = columns
            .iter()
            .map(|(name, kind, not_null)| (name.as_str(), kind.as_str(), *not_null))
            .eq(table.columns.iter().copied());
        if !are_ours {
            return Ok(Found::Another);
        }
        let indexed: Vec<(String, bool)> = sqlx::query_as(
            "SELECT attname::text, indisprimary FROM pg_index JOIN pg_attribute
            ON attrelid = indrelid AND attnum = indkey[0]
            WHERE indrelid = to_regclass($1) AND indisvalid",
        )
        .bind(self.qualified(table))
        .fetch_all(connection)
        .await
        .map_err(migration_failed)?;
        if !indexed.contains(&(table.key.to_owned(), true)) {
            return Ok(Found::Another);
        }
        let missing: Vec<_> = table
            .indexes
            .iter()
            .copied()
            .filter(|column| !indexed.iter().any(|(indexed, _)| indexed == column))
            .collect();
        Ok(match missing.is_empty() {
            true => Found::Complete,
            false => Found::Unfinished(missing),
        })
    }

    fn qualified(&self, table: &Table) -> String {
        qualified(self.schema.as_ref(), &self.table, table.suffix)
    }

    fn not_ours(&self, table: &Table) -> StoreError {
        StoreError::unavailable(
            format!(
                "the table {} is there and is none of sessions",
                self.qualified(table)
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
