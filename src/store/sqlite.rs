//! Sessions in an SQLite database.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{Row, Sqlite, TypeInfo, ValueRef};
use time::OffsetDateTime;

use self::statements::Statements;
use super::sql::{self, InvalidTableName, TableName, index as user_index};
use super::{Handle, Outcome, Record, SessionStore, StoreError, UserIndex, Version, async_trait};
use crate::clock::to_unix_millis;

mod index;
mod migrate;
mod statements;

#[cfg(test)]
mod tests;

/// Keeps sessions in an SQLite database.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("sessions.db");
/// use cloakroom::store::{Handle, SessionStore, SqliteStore};
///
/// let store = SqliteStore::connect(&path).await?;
/// store.migrate().await?;
/// assert!(store.load(&Handle::from_bytes([7; 16])).await?.is_none());
/// # Ok(())
/// # }
/// ```
///
/// A clone shares the pool. Every operation changes what it changes by one statement, which commits by
/// itself, or in a transaction that has the write lock from its beginning; so none is half done when its
/// future is dropped, and none meets `SQLITE_BUSY_SNAPSHOT`, for which no busy timeout would help. Statements
/// are prepared once for each connection.
///
/// # Tables
///
/// [`migrate`](Self::migrate) makes three:
///
/// - `cloakroom_sessions` has a row for each session.
/// - `cloakroom_sessions_links` has a row for each session of a user, until the session's absolute timeout:
///   a login writes one more row, and a logout deletes it. A session of nobody costs nothing there.
/// - `cloakroom_sessions_marks` has a row for each user whose sessions were all ended within 24 hours, and one
///   if everyone's were.
///
/// What is of no use any more there is deleted by a [`Sweeper`](crate::Sweeper), together with the sessions
/// that expired. User ids are BLOBs in the last two.
///
/// # Your own pool
///
/// [`connect`](Self::connect) makes a pool that suits; [`new`](Self::new) takes yours as it is. What to set:
///
/// - **`synchronous` to `FULL`**, which is the default of sqlx. With `NORMAL`, what was committed last can
///   be undone by a power failure (though not by a crash of the process alone): a logout that the user saw
///   succeed would be undone, and the session open again.
/// - **`busy_timeout`**, 5 seconds by default: how long an operation waits while another connection
///   writes. Past it, the operation fails, and has changed nothing.
/// - **No `journal_mode`**: [`migrate`](Self::migrate) switches the file to WAL, which stays.
/// - **No database in memory**, unless with a pool of one connection that is never closed, as in a test:
///   `max_connections(1)`, `idle_timeout(None)`, `max_lifetime(None)`. Each connection would have a
///   database of its own, or share one in a mode in which waiting for a lock is an error; and the
///   sessions would end with the connection. `migrate` refuses such a pool. The memory store is
///   the better choice.
///
/// SQLite's locks need a local file system: on a network file system, use a database server.
#[derive(Clone)]
pub struct SqliteStore {
    pool: SqlitePool,
    table: TableName,
    statements: Arc<Statements>,
}

impl SqliteStore {
    /// How long an operation waits for another connection to finish writing, in a pool of
    /// [`connect`](Self::connect)'s.
    const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

    /// One connection can write at a time; the others read meanwhile. Each is a thread.
    const MAX_CONNECTIONS: u32 = 4;

    /// Keeps sessions in this pool's database, in the table `cloakroom_sessions`.
    ///
    /// Call [`migrate`](Self::migrate) before the first use. What to look out for in the pool's options
    /// stands [above](Self#your-own-pool).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("app.db");
    /// use cloakroom::store::SqliteStore;
    /// use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
    ///
    /// let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    /// let store = SqliteStore::new(SqlitePool::connect_with(options).await?);
    /// store.migrate().await?;
    /// assert!(path.exists());
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(pool: SqlitePool) -> Self {
        Self::with_checked_table(pool, TableName::default())
    }

    /// Opens the database file at `path`, and creates it if it is not there.
    ///
    /// The pool has 4 connections, a busy timeout of 5 seconds, and `synchronous` at `FULL`, so that
    /// no logout is undone by a power failure. Close it with `store.pool().close()` when the program ends.
    ///
    /// The file and those that SQLite puts next to it get the permissions that the process's umask gives.
    /// Nothing in them opens a session, but the sessions' data can be read there.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened or created.
    pub async fn connect(path: impl AsRef<Path> + Send) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .busy_timeout(Self::BUSY_TIMEOUT)
            .synchronous(SqliteSynchronous::Full);
        let pool = SqlitePoolOptions::new()
            .max_connections(Self::MAX_CONNECTIONS)
            .connect_with(options)
            .await
            .map_err(|error| {
                failed(
                    &format!("open the SQLite database {}", path.display()),
                    error,
                )
            })?;
        Ok(Self::new(pool))
    }

    /// Keeps sessions in a table of another name: 1 to 48 ASCII letters, digits and underscores. The other
    /// tables and the indexes are named after it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("app.db");
    /// use cloakroom::store::SqliteStore;
    ///
    /// let store = SqliteStore::connect(&path).await?.with_table("admin_sessions")?;
    /// store.migrate().await?;
    /// assert!(store.with_table("admin sessions").is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the name has another character, begins with a digit or with `sqlite_`, or is empty or too long.
    pub fn with_table(self, name: &str) -> Result<Self, InvalidTableName> {
        let table = TableName::parse(name)?;
        if name.to_ascii_lowercase().starts_with("sqlite_") {
            return Err(InvalidTableName::new(
                name,
                "SQLite keeps names that begin with sqlite_ for itself",
            ));
        }
        Ok(Self::with_checked_table(self.pool, table))
    }

    /// The pool in which the sessions are kept.
    pub fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    fn with_checked_table(pool: SqlitePool, table: TableName) -> Self {
        let statements = Arc::new(Statements::new(&table));
        Self {
            pool,
            table,
            statements,
        }
    }

    /// Runs a statement that returns no rows, to its end, and says how many rows it changed.
    ///
    /// Not `RETURNING`, for which there would be use: of a statement that returns rows, sqlx's
    /// `fetch_one` and `fetch_optional` report the first row before the statement has ended, and so before
    /// it is committed; a commit that fails then, of a full disk say, would be taken for a success.
    async fn execute(
        &self,
        doing: &str,
        query: Query<'_, Sqlite, SqliteArguments>,
    ) -> Result<u64, StoreError> {
        query
            .execute(&self.pool)
            .await
            .map(|result| result.rows_affected())
            .map_err(|error| failed(doing, error))
    }

    /// Deletes up to `limit` entries and as many marks that are of no use any more. A session has one entry at
    /// most, and a login leaves one mark at most: so a sweep, which calls again while there are sessions to
    /// delete, gets on with them as fast.
    async fn delete_expired_entries(
        &self,
        doing: &str,
        now: OffsetDateTime,
        limit: usize,
    ) -> Result<(), StoreError> {
        for (statement, until) in [
            (&self.statements.delete_expired_links, sql::swept_until(now)),
            (
                &self.statements.delete_old_marks,
                user_index::marks_swept_until(now),
            ),
        ] {
            let query = sqlx::query(statement.clone())
                .bind(until)
                .bind(sql::limit(limit));
            self.execute(doing, query).await?;
        }
        Ok(())
    }

    /// Why an `update` or a `touch` changed nothing.
    ///
    /// A second statement is as good as one here. The first had no effect, so what this one finds is true of
    /// the whole operation at the moment when it looks: no live row is `Missing`, and a live row is
    /// `Conflict`, to which the caller answers by loading it again.
    async fn refusal(
        &self,
        doing: &str,
        handle: &Handle,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        let live = sqlx::query(self.statements.is_live.clone())
            .bind(&handle.as_bytes()[..])
            .bind(to_unix_millis(now))
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| failed(doing, error))?;
        Ok(match live {
            Some(_) => Outcome::Conflict,
            None => Outcome::Missing,
        })
    }
}

#[async_trait]
impl SessionStore for SqliteStore {
    async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        sqlx::query(self.statements.create.clone())
            .bind(&handle.as_bytes()[..])
            .bind(sql::version_bits(record.version))
            .bind(to_unix_millis(record.created_at))
            .bind(to_unix_millis(record.expires_at))
            .bind(record.user_id.as_deref())
            .bind(&record.payload[..])
            .execute(&self.pool)
            .await
            .map_err(|error| {
                if sql::is_unique_violation(&error) {
                    StoreError::handle_in_use()
                } else {
                    failed("create a session in SQLite", error)
                }
            })?;
        Ok(())
    }

    async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        sqlx::query(self.statements.load.clone())
            .bind(&handle.as_bytes()[..])
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| failed("load a session from SQLite", error))?
            .map(|row| decode(&row))
            .transpose()
    }

    async fn update(
        &self,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        const DOING: &str = "update a session in SQLite";
        let query = sqlx::query(self.statements.update.clone())
            .bind(&handle.as_bytes()[..])
            .bind(sql::version_bits(record.version))
            .bind(to_unix_millis(record.created_at))
            .bind(to_unix_millis(record.expires_at))
            .bind(record.user_id.as_deref())
            .bind(&record.payload[..])
            .bind(sql::version_bits(expected))
            .bind(to_unix_millis(now));
        match self.execute(DOING, query).await? {
            0 => self.refusal(DOING, handle, now).await,
            _ => Ok(Outcome::Done),
        }
    }

    async fn touch(
        &self,
        handle: &Handle,
        expires_at: OffsetDateTime,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        const DOING: &str = "touch a session in SQLite";
        let query = sqlx::query(self.statements.touch.clone())
            .bind(&handle.as_bytes()[..])
            .bind(to_unix_millis(expires_at))
            .bind(sql::version_bits(expected))
            .bind(to_unix_millis(now));
        match self.execute(DOING, query).await? {
            0 => self.refusal(DOING, handle, now).await,
            _ => Ok(Outcome::Done),
        }
    }

    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        let query = sqlx::query(self.statements.delete.clone()).bind(&handle.as_bytes()[..]);
        let deleted = self.execute("delete a session from SQLite", query).await?;
        Ok(deleted > 0)
    }

    async fn delete_expired(&self, now: OffsetDateTime, limit: usize) -> Result<usize, StoreError> {
        const DOING: &str = "delete expired sessions from SQLite";
        let query = sqlx::query(self.statements.delete_expired.clone())
            .bind(sql::swept_until(now))
            .bind(sql::limit(limit));
        let deleted = self.execute(DOING, query).await?;
        self.delete_expired_entries(DOING, now, limit).await?;
        Ok(sql::count(deleted))
    }

    fn user_index(&self) -> Option<&dyn UserIndex> {
        Some(self)
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("table", &self.table.as_str())
            .finish_non_exhaustive()
    }
}

fn decode(row: &SqliteRow) -> Result<Record, StoreError> {
    const PAYLOAD: usize = 4;
    // sqlx reads text as bytes if asked to.
    let payload = row.try_get_raw(PAYLOAD).map_err(sql::undecodable)?;
    if !payload.is_null() && payload.type_info().name() != "BLOB" {
        return Err(sql::undecodable("the payload is no BLOB"));
    }
    sql::record(row)
}

/// The error for an operation that SQLite failed at; `doing` completes "cannot …".
fn failed(doing: &str, error: sqlx::Error) -> StoreError {
    if is_busy(&error) {
        StoreError::unavailable(
            format!(
                "cannot {doing}: another connection kept the database locked for longer than this \
                 pool's busy timeout"
            ),
            error,
        )
    } else if is_missing_table(&error) {
        sql::table_is_missing(doing, error)
    } else {
        sql::failed(doing, error)
    }
}

/// By its text: SQLite has no code of its own for it.
fn is_missing_table(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.message().starts_with("no such table"))
}

/// Whether another connection's lock was in the way. Then nothing was changed.
fn is_busy(error: &sqlx::Error) -> bool {
    const SQLITE_BUSY: i32 = 5;
    let code = error.as_database_error().and_then(|error| error.code());
    // The upper bytes of a code only say more about the lowest one.
    code.and_then(|code| code.parse::<i32>().ok())
        .is_some_and(|code| code & 0xFF == SQLITE_BUSY)
}
