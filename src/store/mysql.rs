//! Sessions in a MySQL or MariaDB database.

use std::fmt;
use std::sync::Arc;

use sqlx::mysql::{MySqlConnectOptions, MySqlPool, MySqlRow};
use sqlx::{MySql, SqlStr};
use time::OffsetDateTime;

use self::failure::failed;
use self::statements::{EXPIRED, OTHER_VERSION, Statements};
use super::sql::connections::Connections;
use super::sql::statement::{Statement, execute, fetch, query};
use super::sql::{self, InvalidTableName, TableName, USER_ID, pool};
use super::{Handle, Outcome, Record, SessionStore, StoreError, UserIndex, Version, async_trait};
use crate::clock::to_unix_millis;

mod failure;
mod index;
mod migrate;
mod statements;

/// Keeps sessions in a MySQL 8 or MariaDB database, for any number of nodes.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use cloakroom::SessionLayer;
/// use cloakroom::store::MySqlStore;
///
/// let store = MySqlStore::connect("mysql://app@db.internal/app").await?;
/// store.migrate().await?;
/// let sessions = SessionLayer::new(store);
/// # Ok(())
/// # }
/// ```
///
/// A clone shares the pool. Every operation is one statement, which commits by itself, and one round trip;
/// so none is half done when its future is dropped. These take more:
///
/// - An update or a touch of a session that is no longer there: the server's answer does not tell that for
///   sure from what a proxy may have left out of it, so a second statement looks.
/// - A login puts its session on the user's list in a transaction of 5 round trips, 6 where there is a limit on
///   the sessions of a user.
/// - A batch of a sweep, or of the ending of everyone, is three statements.
///
/// An operation that is dropped while a statement or a transaction runs goes on with that in a task for up to 5
/// seconds, so that its connection can be used again. Statements are prepared once for each connection, which
/// takes one round trip more the first time.
///
/// Nothing rests on the isolation level. What the server rolls back since it was in a deadlock with another is
/// run again. Where sweeps and requests get in each other's way, `READ COMMITTED` locks less than the
/// default: under `REPEATABLE READ`, a sweep also locks the gaps between the rows that it deletes, and the row
/// that expires next, until its batch is done. Reading waits for neither.
///
/// # Tables
///
/// [`migrate`](Self::migrate) makes three:
///
/// - `cloakroom_sessions` has a row for each session.
/// - `cloakroom_sessions_links` has a row for each session of a user, until the session's absolute timeout:
///   a login writes it, with two entries of indexes, and a logout deletes it. A session of nobody costs
///   nothing there.
/// - `cloakroom_sessions_marks` has a row for each user who logged in since the last sweep, by which the logins of
///   a user wait for each other, or whose sessions were all ended within 24 hours; and one for everyone.
///
/// What is of no use any more there is deleted by a [`Sweeper`](crate::Sweeper), together with the sessions
/// that expired. User ids are `VARBINARY`: bytes, which no collation takes for others.
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
///   **`min_connections`** keeps some open, so that no request waits for one to be opened. **`max_lifetime`**
///   and **`idle_timeout`** have to stay below the server's `wait_timeout`.
/// - **TLS.** sqlx encrypts only if it is built with one of its `tls-` features: add it to your own
///   dependency on sqlx, and set `ssl-mode=VERIFY_IDENTITY` with `ssl-ca` in the URL. Without it, the data of
///   sessions can be read, and changed, on the way; and MySQL 8's default way to log in needs it, or
///   sqlx's feature `mysql-rsa`.
/// - **No `autocommit = 0`**: nothing would ever be committed. [`migrate`](Self::migrate) refuses it.
/// - **The operating system's TCP timeouts**, for a server whose machine is gone without a word. The store gives
///   up connections that do not answer an operation, in about 10 seconds. But one that the pool was
///   just testing, as it does when one comes back, is gone from the pool until the operating system gives it
///   up, which takes about 15 minutes on Linux (`net.ipv4.tcp_retries2`).
///
/// # Durability
///
/// A logout that was acknowledged has to hold after a crash of the server: otherwise the session would be
/// open again. That takes `innodb_flush_log_at_trx_commit = 1`, which is the default, and `sync_binlog = 1`
/// where there is a binary log, which is the default of MySQL and not of MariaDB; for a failover to a
/// replica, it takes semi-synchronous replication as well.
///
/// # Replicas and clusters
///
/// Give it the primary alone, and to a proxy a rule that does not send reads elsewhere. A replica lags: it
/// would still open a session that had ended. `migrate` refuses a server that is read-only. Where a server has
/// become so, writes fail, and the connection is closed, so that the next one can lead to the new primary.
/// In a Galera cluster, other nodes lag, too: set `wsrep_sync_wait = 1`, or use one node.
#[derive(Clone)]
pub struct MySqlStore {
    connections: Connections<MySql>,
    table: TableName,
    statements: Arc<Statements>,
}

impl MySqlStore {
    /// What the columns hold at most: a server whose `sql_mode` is not strict cuts the rest off.
    const MAX_USER_ID_BYTES: usize = 255;
    const MAX_PAYLOAD_BYTES: usize = (1 << 24) - 1;

    /// Keeps sessions in this pool's database, in the table `cloakroom_sessions`.
    ///
    /// Call [`migrate`](Self::migrate) before the first use. What to look out for in the pool's options
    /// stands [above](Self#your-own-pool).
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use cloakroom::store::MySqlStore;
    /// use sqlx::mysql::MySqlPoolOptions;
    ///
    /// let pool = MySqlPoolOptions::new()
    ///     .max_connections(20)
    ///     .test_before_acquire(false)
    ///     .connect("mysql://app@db.internal/app")
    ///     .await?;
    /// let store = MySqlStore::new(pool);
    /// store.migrate().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(pool: MySqlPool) -> Self {
        Self::with_checked_table(Connections::of(pool), TableName::default())
    }

    /// Connects to the database of this URL, `mysql://user:password@host:port/database`.
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
        let options: MySqlConnectOptions = url
            .parse()
            .map_err(|error| sql::failed("read the URL of the MySQL database", error))?;
        let server = format!("MySQL at {}:{}", options.get_host(), options.get_port());
        Ok(Self::new(pool::connect(&server, options).await?))
    }

    /// Keeps sessions in a table of another name: 1 to 48 ASCII letters, digits and underscores. Whether upper
    /// and lower case are distinguished is the server's choice. The other tables and the indexes are named after
    /// it.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use cloakroom::store::MySqlStore;
    ///
    /// let store = MySqlStore::connect("mysql://app@db.internal/app").await?;
    /// let store = store.with_table("admin_sessions")?;
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
        Ok(Self::with_checked_table(self.connections, table))
    }

    /// The pool in which the sessions are kept.
    pub fn pool(&self) -> &MySqlPool {
        self.connections.pool()
    }

    fn with_checked_table(connections: Connections<MySql>, table: TableName) -> Self {
        let statements = Arc::new(Statements::new(&table));
        Self {
            connections,
            table,
            statements,
        }
    }

    /// Runs an `update` or a `touch`.
    ///
    /// sqlx has the server count the rows that were found, and not only those that are different afterwards.
    async fn change(
        &self,
        doing: &str,
        handle: &Handle,
        now: OffsetDateTime,
        statement: impl Fn() -> Statement<MySql> + Send + Sync,
    ) -> Result<Outcome, StoreError> {
        let result = execute(&self.connections, statement)
            .await
            .map_err(|error| failed(doing, error))?;
        match (result.rows_affected(), result.last_insert_id()) {
            (0, OTHER_VERSION) => Ok(Outcome::Conflict),
            (0, EXPIRED) => Ok(Outcome::Missing),
            (0, _) => self.look(doing, handle, now).await,
            _ => Ok(Outcome::Done),
        }
    }

    /// What there is of a session that was not found by an `update` or a `touch`.
    ///
    /// A second statement is as good as one here. The first had no effect, so what this one finds is true of
    /// the whole operation at the moment when it looks: no live row is `Missing`, and a live row is
    /// `Conflict`, to which the caller answers by loading it again.
    async fn look(
        &self,
        doing: &str,
        handle: &Handle,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        let live = fetch(&self.connections, || {
            query(&self.statements.is_live)
                .bind(&handle.as_bytes()[..])
                .bind(to_unix_millis(now))
        })
        .await
        .map_err(|error| failed(doing, error))?;
        Ok(match live.as_slice() {
            [] => Outcome::Missing,
            _ => Outcome::Conflict,
        })
    }

    /// Deletes up to `limit` entries and as many marks that are of no use any more. A session has one entry at
    /// most, and a login leaves one mark at most: so a sweep, which calls again while there are sessions to
    /// delete, gets on with them as fast.
    async fn delete_expired_entries(
        &self,
        now: OffsetDateTime,
        limit: usize,
    ) -> Result<(), StoreError> {
        let statements = &self.statements;
        let links = &statements.delete_expired_links;
        self.sweep(links, sql::swept_until(now), limit).await?;
        let marks = &statements.delete_old_marks;
        self.sweep(marks, sql::index::marks_swept_until(now), limit)
            .await?;
        Ok(())
    }

    async fn sweep(&self, statement: &SqlStr, until: i64, limit: usize) -> Result<u64, StoreError> {
        execute(&self.connections, || {
            query(statement).bind(until).bind(sql::limit(limit))
        })
        .await
        .map(|result| result.rows_affected())
        .map_err(|error| failed("delete expired sessions from MySQL", error))
    }

    /// See [`MAX_USER_ID_BYTES`](Self::MAX_USER_ID_BYTES).
    fn refuse_to_cut(doing: &str, record: &Record) -> Result<(), StoreError> {
        Self::refuse_to_cut_user_id(doing, record.user_id.as_deref().unwrap_or_default())?;
        let payload = record.payload.len();
        refuse_beyond(Self::MAX_PAYLOAD_BYTES, doing, "payload", payload)
    }

    fn refuse_to_cut_user_id(doing: &str, user_id: &str) -> Result<(), StoreError> {
        refuse_beyond(Self::MAX_USER_ID_BYTES, doing, "user id", user_id.len())
    }
}

fn refuse_beyond(limit: usize, doing: &str, what: &str, bytes: usize) -> Result<(), StoreError> {
    if bytes <= limit {
        return Ok(());
    }
    Err(StoreError::unavailable(
        format!("cannot {doing}"),
        format!("its {what} has more than {limit} bytes"),
    ))
}

#[async_trait]
impl SessionStore for MySqlStore {
    async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        const DOING: &str = "create a session in MySQL";
        Self::refuse_to_cut(DOING, record)?;
        execute(&self.connections, || {
            query(&self.statements.create)
                .bind(&handle.as_bytes()[..])
                .bind(sql::version_bits(record.version))
                .bind(to_unix_millis(record.created_at))
                .bind(to_unix_millis(record.expires_at))
                .bind(record.user_id.as_deref().map(str::as_bytes))
                .bind(&record.payload[..])
        })
        .await
        .map_err(|error| {
            if sql::is_unique_violation(&error) {
                StoreError::handle_in_use()
            } else {
                failed(DOING, error)
            }
        })?;
        Ok(())
    }

    async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        fetch(&self.connections, || {
            query(&self.statements.load).bind(&handle.as_bytes()[..])
        })
        .await
        .map_err(|error| failed("load a session from MySQL", error))?
        .first()
        .map(decode)
        .transpose()
    }

    async fn update(
        &self,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        const DOING: &str = "update a session in MySQL";
        Self::refuse_to_cut(DOING, record)?;
        self.change(DOING, handle, now, || {
            query(&self.statements.update)
                .bind(sql::version_bits(record.version))
                .bind(to_unix_millis(record.created_at))
                .bind(to_unix_millis(record.expires_at))
                .bind(record.user_id.as_deref().map(str::as_bytes))
                .bind(&record.payload[..])
                .bind(&handle.as_bytes()[..])
                .bind(to_unix_millis(now))
                .bind(sql::version_bits(expected))
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
        self.change("touch a session in MySQL", handle, now, || {
            query(&self.statements.touch)
                .bind(to_unix_millis(expires_at))
                .bind(&handle.as_bytes()[..])
                .bind(to_unix_millis(now))
                .bind(sql::version_bits(expected))
        })
        .await
    }

    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        let result = execute(&self.connections, || {
            query(&self.statements.delete).bind(&handle.as_bytes()[..])
        })
        .await
        .map_err(|error| failed("delete a session from MySQL", error))?;
        Ok(result.rows_affected() > 0)
    }

    async fn delete_expired(&self, now: OffsetDateTime, limit: usize) -> Result<usize, StoreError> {
        let statements = &self.statements;
        let deleted = self.sweep(&statements.delete_expired, sql::swept_until(now), limit);
        let deleted = deleted.await?;
        self.delete_expired_entries(now, limit).await?;
        Ok(sql::count(deleted))
    }

    fn user_index(&self) -> Option<&dyn UserIndex> {
        Some(self)
    }
}

impl fmt::Debug for MySqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlStore")
            .field("table", &self.table.as_str())
            .finish_non_exhaustive()
    }
}

fn decode(row: &MySqlRow) -> Result<Record, StoreError> {
    let user_id = sql::optional::<&[u8], _>(row, USER_ID)?
        .map(std::str::from_utf8)
        .transpose()
        .map_err(sql::undecodable)?;
    sql::record_of(row, user_id)
}
