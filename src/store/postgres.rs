//! Sessions in a PostgreSQL database.

use std::fmt;
use std::sync::Arc;

use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::{Postgres, Row};
use time::OffsetDateTime;

use self::failure::failed;
use self::statements::Statements;
use super::sql::connections::Connections;
use super::sql::statement::{Statement, execute, fetch, fetch_one, query};
use super::sql::{self, InvalidTableName, TableName, pool};
use super::{Handle, Outcome, Record, SessionStore, StoreError, UserIndex, Version, async_trait};
use crate::clock::to_unix_millis;

mod failure;
mod index;
mod migrate;
mod statements;

/// Keeps sessions in a PostgreSQL database, for any number of nodes.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use cloakroom::SessionLayer;
/// use cloakroom::store::PostgresStore;
///
/// let store = PostgresStore::connect("postgres://app@db.internal/app").await?;
/// store.migrate().await?;
/// let sessions = SessionLayer::new(store);
/// # Ok(())
/// # }
/// ```
///
/// A clone shares the pool. Every operation is one statement, which commits by itself, and one round trip;
/// so none is half done when its future is dropped. These take more:
///
/// - An update or a touch of a session that another one changed meanwhile, or that has ended: a second statement
///   looks which of these it is.
/// - A login puts its session on the user's list in a transaction of 5 round trips, 6 where there is a limit on
///   the sessions of a user.
/// - The ending of everyone marks that in a transaction of 4.
/// - A sweep looks at 250 to 10,000 sessions that are due, by its limit, and at as many more while it has not found as
///   many expired ones as it may delete, until it has put off 50,000 that live on. Then the sweep is over, and the next
///   one goes on: where among those that are due fewer than 250 (the [batch](crate::SweeperBuilder::batch)) in 50,000
///   have expired, it takes one sweep for each 50,000 until all had their turn, which is no harm to anybody but the
///   room that the expired ones take up until then.
///
/// An operation that is dropped while a statement or a transaction runs goes on with that in a task for up to 5
/// seconds, so that its connection can be used again. Statements are prepared once for each connection, which
/// takes one round trip more the first time.
///
/// Nothing rests on the isolation level. Where the database's default is stricter than `READ COMMITTED`, a
/// statement that met another one is rolled back, and run again; `READ COMMITTED` is faster, and what those
/// two transactions have. In a deadlock, what was rolled back is run again, too.
///
/// # Tables
///
/// [`migrate`](Self::migrate) makes three:
///
/// - `cloakroom_sessions` has a row for each session. It may be partitioned by the hash of the handle. Its
///   expiry is in no index, so that a session which lives on is updated in place, and takes no new entry in an
///   index each time (`n_tup_hot_upd` in `pg_stat_user_tables` counts that). A sweep goes by `sweep_at`, which is
///   the expiry or a time before it: what has not expired by then is looked at again at its expiry of then. Who
///   changes `expires_at` by hand to an earlier time sets `sweep_at`, too.
/// - `cloakroom_sessions_links` has a row for each session of a user, until the session's absolute timeout:
///   a login writes it, with two entries of indexes, and a logout deletes it. A session of nobody costs
///   nothing there.
/// - `cloakroom_sessions_marks` has a row for each user who logged in since the last sweep, by which the logins of
///   a user wait for each other, or whose sessions were all ended within 24 hours; and one for everyone.
///
/// What is of no use any more there is deleted by a [`Sweeper`](crate::Sweeper), in the statement in which it
/// deletes sessions that expired. User ids are `bytea` in the last two: `convert_from(user_id, 'UTF8')` shows
/// them.
///
/// # Your own pool
///
/// [`connect`](Self::connect) makes a pool that suits; [`new`](Self::new) takes yours as it is. What to set:
///
/// - **`test_before_acquire(false)`.** By default sqlx asks the server before each use of a connection
///   whether it is still there, which is a round trip more. Without that, the first use of a
///   connection that broke meanwhile fails. `connect`'s pool asks where the connection was idle for a
///   minute, by `before_acquire`.
/// - **`acquire_timeout`**, 30 seconds by default: how long an operation waits for a free connection, and
///   for the server to accept one. The session layer's own
///   [time limit](crate::SessionLayerBuilder::store_timeout) is usually shorter.
/// - **`max_connections`**, 10 by default, times the number of nodes, has to stay below the server's
///   `max_connections`. An operation has its connection for the time of two round trips, since sqlx
///   asks the server again on the way back to the pool; so a few connections serve thousands of requests a
///   second. While operations of the store and its clones wait, a connection goes from one straight to the
///   next, without that second one and without the pool's hooks, and back to the pool after four operations,
///   or more where many wait: a query of your own on the same pool waits for these.
///   **`min_connections`** keeps some open, so that no request waits for one to be opened.
/// - **TLS.** sqlx encrypts only if it is built with one of its `tls-` features: add it to your own
///   dependency on sqlx, and set `sslmode=verify-full` with `sslrootcert` in the URL. Without it, the data of
///   sessions can be read, and changed, on the way.
/// - **The operating system's TCP timeouts**, for a server whose machine is gone without a word. The store gives
///   up connections that do not answer an operation, in about 10 seconds. But one that the pool was
///   just testing, as it does when one comes back, is gone from the pool until the operating system gives it
///   up, which takes about 15 minutes on Linux (`net.ipv4.tcp_retries2`).
///
/// # Durability
///
/// A logout that was acknowledged has to hold after a crash of the server: otherwise the session would be
/// open again. That takes `fsync = on` and `synchronous_commit = on`, which are the defaults; for a failover
/// to a replica, it takes synchronous replication (`synchronous_standby_names`) as well. `migrate` makes no
/// `UNLOGGED` table, which would be empty after a crash.
///
/// # Replicas and poolers
///
/// Give it the primary alone. A replica lags: it would still open a session that had ended.
/// [`migrate`](Self::migrate) refuses a replica. Where a server has become one, writes fail, and the
/// connection is closed, so that the next one can lead to the new primary.
///
/// PgBouncer works in session mode. In transaction mode it has to know prepared statements, which it does
/// from version 1.21 on, with `max_prepared_statements` set. `statement_cache_capacity(0)` does not help:
/// sqlx prepares a statement and runs it in two steps, which PgBouncer would send to different servers.
#[derive(Clone)]
pub struct PostgresStore {
    connections: Connections<Postgres>,
    schema: Option<TableName>,
    table: TableName,
    statements: Arc<Statements>,
}

impl PostgresStore {
    /// Keeps sessions in this pool's database, in the table `cloakroom_sessions`, which is looked for by
    /// the connection's `search_path`.
    ///
    /// Call [`migrate`](Self::migrate) before the first use. What to look out for in the pool's options
    /// stands [above](Self#your-own-pool).
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use cloakroom::store::PostgresStore;
    /// use sqlx::postgres::PgPoolOptions;
    ///
    /// let pool = PgPoolOptions::new()
    ///     .max_connections(20)
    ///     .test_before_acquire(false)
    ///     .connect("postgres://app@db.internal/app")
    ///     .await?;
    /// let store = PostgresStore::new(pool);
    /// store.migrate().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(pool: PgPool) -> Self {
        Self::with_names(Connections::of(pool), None, TableName::default())
    }

    /// Connects to the database of this URL, `postgres://user:password@host:port/database`.
    ///
    /// The pool has up to 10 connections, for one of which an operation waits up to 5 seconds; a
    /// connection that was idle for a minute is tested before its use. Close it with
    /// `store.pool().close()` when the program ends.
    ///
    /// # Errors
    ///
    /// If the URL is none, or the server does not accept a connection within 5 seconds.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        // The error does not say the URL, in which there may be a password.
        let options: PgConnectOptions = url
            .parse()
            .map_err(|error| sql::failed("read the URL of the PostgreSQL database", error))?;
        let server = format!(
            "PostgreSQL at {}:{}",
            options.get_host(),
            options.get_port()
        );
        Ok(Self::new(pool::connect(&server, options).await?))
    }

    /// Keeps sessions in a table of another name: 1 to 48 ASCII letters, digits and underscores, upper and
    /// lower case distinguished. The other tables and the indexes are named after it.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use cloakroom::store::PostgresStore;
    ///
    /// let store = PostgresStore::connect("postgres://app@db.internal/app").await?;
    /// let store = store.with_schema("web")?.with_table("admin_sessions")?;
    /// assert!(store.with_table("admin sessions").is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the name has another character, begins with a digit, or is empty or too long.
    pub fn with_table(self, name: &str) -> Result<Self, InvalidTableName> {
        let table = TableName::parse(name)?;
        Ok(Self::with_names(self.connections, self.schema, table))
    }

    /// Keeps sessions in a table of this schema, whatever the `search_path`. The rules for its name are
    /// those of [`with_table`](Self::with_table).
    ///
    /// # Errors
    ///
    /// If the name has another character, begins with a digit or with `pg_`, or is empty or too long.
    pub fn with_schema(self, name: &str) -> Result<Self, InvalidTableName> {
        let schema = TableName::parse(name)?;
        if name.starts_with("pg_") {
            return Err(InvalidTableName::new(
                name,
                "PostgreSQL keeps schemas that begin with pg_ for itself",
            ));
        }
        Ok(Self::with_names(self.connections, Some(schema), self.table))
    }

    /// The pool in which the sessions are kept.
    pub fn pool(&self) -> &PgPool {
        self.connections.pool()
    }

    fn with_names(
        connections: Connections<Postgres>,
        schema: Option<TableName>,
        table: TableName,
    ) -> Self {
        let statements = Arc::new(Statements::new(schema.as_ref(), &table));
        Self {
            connections,
            schema,
            table,
            statements,
        }
    }

    /// Runs an `update` or a `touch`.
    ///
    /// Not with the look at the row in the same statement: that would see what was there when the statement
    /// began, and the UPDATE may have waited for another one meanwhile. To lock the row first, and to judge
    /// what is locked, would be right in one statement, but writes each row twice.
    async fn change(
        &self,
        doing: &str,
        handle: &Handle,
        now: OffsetDateTime,
        statement: impl Fn() -> Statement<Postgres> + Send + Sync,
    ) -> Result<Outcome, StoreError> {
        let result = execute(&self.connections, statement)
            .await
            .map_err(|error| failed(doing, error))?;
        match result.rows_affected() {
            0 => self.look(doing, handle, now).await,
            _ => Ok(Outcome::Done),
        }
    }

    /// Looks at up to `page` sessions that are due: deletes up to `deletions` of those that have expired, and
    /// puts off those that live on.
    async fn sweep(
        &self,
        now: OffsetDateTime,
        page: usize,
        deletions: usize,
    ) -> Result<Swept, StoreError> {
        let doing = "delete expired sessions from PostgreSQL";
        let rows = fetch(&self.connections, || {
            query(&self.statements.delete_expired)
                .bind(sql::swept_until(now))
                .bind(sql::limit(page))
                .bind(sql::index::marks_swept_until(now))
                .bind(sql::limit(deletions))
        })
        .await
        .map_err(|error| failed(doing, error))?;
        let count = |column| {
            let count: Result<i64, _> = rows
                .first()
                .ok_or(sqlx::Error::RowNotFound)
                .and_then(|row| row.try_get(column));
            count
                .map(|count| sql::count(count.unsigned_abs()))
                .map_err(|error| failed(doing, error))
        };
        Ok(Swept {
            deleted: count(0)?,
            put_off: count(1)?,
            due: count(2)?,
        })
    }

    /// What there is of a session that was not found by an `update` or a `touch`.
    ///
    /// The first statement had no effect, so what this one finds is true of the whole operation at the moment
    /// when it looks: no live row is `Missing`, and a live row is `Conflict`, to which the caller answers by
    /// loading it again.
    async fn look(
        &self,
        doing: &str,
        handle: &Handle,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        let live = fetch(&self.connections, || {
            query(&self.statements.is_live)
                .bind(handle.as_bytes())
                .bind(to_unix_millis(now))
        })
        .await
        .map_err(|error| failed(doing, error))?;
        Ok(match live.as_slice() {
            [] => Outcome::Missing,
            _ => Outcome::Conflict,
        })
    }
}

/// At how many sessions one statement of a sweep looks: at no fewer, however few are to be deleted, since the next
/// ones take another round trip; and at no more, since it locks them.
const SMALLEST_PAGE: usize = 250;
const LARGEST_PAGE: usize = 10_000;

/// After how many sessions that live on and were put off a call ends, however few expired ones it has found by then: each
/// takes a write. The next sweep goes on from there. What is put off goes behind all that is due now, so that those
/// which expired have their turn however many sessions there are.
const MOST_PUT_OFF: usize = 50_000;

/// How many sessions a sweep deleted, how many it put off, and how many were due.
struct Swept {
    deleted: usize,
    put_off: usize,
    due: usize,
}

#[async_trait]
impl SessionStore for PostgresStore {
    async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        execute(&self.connections, || {
            query(&self.statements.create)
                .bind(handle.as_bytes())
                .bind(sql::version_bits(record.version))
                .bind(to_unix_millis(record.created_at))
                .bind(to_unix_millis(record.expires_at))
                .bind(record.user_id.as_deref())
                .bind(&record.payload[..])
        })
        .await
        .map_err(|error| {
            if sql::is_unique_violation(&error) {
                StoreError::handle_in_use()
            } else {
                failed("create a session in PostgreSQL", error)
            }
        })?;
        Ok(())
    }

    async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        let row = fetch_one(&self.connections, || {
            query(&self.statements.load).bind(handle.as_bytes())
        })
        .await
        .map_err(|error| failed("load a session from PostgreSQL", error))?;
        row.as_ref().map(sql::record).transpose()
    }

    async fn update(
        &self,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        self.change("update a session in PostgreSQL", handle, now, || {
            query(&self.statements.update)
                .bind(handle.as_bytes())
                .bind(sql::version_bits(expected))
                .bind(to_unix_millis(now))
                .bind(sql::version_bits(record.version))
                .bind(to_unix_millis(record.created_at))
                .bind(to_unix_millis(record.expires_at))
                .bind(record.user_id.as_deref())
                .bind(&record.payload[..])
        })
        .await
    }

    async fn touch(
        &self,
        handle: &Handle,
        expires_at: OffsetDateTime,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        self.change("touch a session in PostgreSQL", handle, now, || {
            query(&self.statements.touch)
                .bind(handle.as_bytes())
                .bind(sql::version_bits(expected))
                .bind(to_unix_millis(now))
                .bind(to_unix_millis(expires_at))
        })
        .await
    }

    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        let result = execute(&self.connections, || {
            query(&self.statements.delete).bind(handle.as_bytes())
        })
        .await
        .map_err(|error| failed("delete a session from PostgreSQL", error))?;
        Ok(result.rows_affected() > 0)
    }

    async fn delete_expired(&self, now: OffsetDateTime, limit: usize) -> Result<usize, StoreError> {
        let page = limit.clamp(SMALLEST_PAGE, LARGEST_PAGE);
        let (mut deleted, mut put_off) = (0, 0);
        while deleted < limit && put_off < MOST_PUT_OFF {
            let swept = self.sweep(now, page, limit - deleted).await?;
            deleted += swept.deleted;
            put_off += swept.put_off;
            // Fewer than asked for were due, so none is left. Where neither was deleted nor put off what is
            // due, others are just at it, and the next sweep looks again.
            if swept.due < page || swept.deleted + swept.put_off == 0 {
                break;
            }
        }
        Ok(deleted)
    }

    fn user_index(&self) -> Option<&dyn UserIndex> {
        Some(self)
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("schema", &self.schema.as_ref().map(TableName::as_str))
            .field("table", &self.table.as_str())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_unix_millis;

    /// Each is allocated anew. What it takes to make a connection is no part of it: that would be kilobytes.
    #[tokio::test]
    async fn the_futures_of_operations_on_a_session_are_small() {
        let pool = PgPool::connect_lazy("postgres://localhost").unwrap();
        let store = PostgresStore::new(pool);
        let (handle, version, now) = (
            Handle::from_bytes([1; 16]),
            Version::from_u64(1),
            from_unix_millis(0),
        );
        let record = Record {
            version,
            created_at: now,
            expires_at: now,
            user_id: None,
            payload: Arc::default(),
        };
        for (name, size) in [
            ("create", size_of_val(&*store.create(&handle, &record))),
            ("load", size_of_val(&*store.load(&handle))),
            (
                "update",
                size_of_val(&*store.update(&handle, &record, version, now)),
            ),
            (
                "touch",
                size_of_val(&*store.touch(&handle, now, version, now)),
            ),
            ("delete", size_of_val(&*store.delete(&handle))),
        ] {
            assert!(size <= 1_032, "{name}: {size} bytes");
        }
    }
}
