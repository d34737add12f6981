//! Makes the tables and their indexes.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use tokio::time::{Instant, sleep};

use super::{SqliteStore, StoreError, failed, is_busy};
use crate::store::sql::index::{LINKS, MARKS};

/// How often and for how long the switch to WAL is tried.
const WAL_RETRY: Duration = Duration::from_millis(20);
const WAL_PATIENCE: Duration = Duration::from_secs(10);

/// Name, type, whether it is NOT NULL, and place in the primary key.
type Column = (&'static str, &'static str, bool, i64);

/// The columns of the table of sessions, and of those next to it, by what their names end with.
const TABLES: [(&str, &[Column]); 3] = [("", &SESSIONS), (LINKS, &ENTRIES), (MARKS, &MARKED)];

const SESSIONS: [Column; 6] = [
    ("handle", "BLOB", true, 1),
    ("version", "INTEGER", true, 0),
    ("created_at", "INTEGER", true, 0),
    ("expires_at", "INTEGER", true, 0),
    ("user_id", "TEXT", false, 0),
    ("payload", "BLOB", true, 0),
];

const ENTRIES: [Column; 5] = [
    ("user_id", "BLOB", true, 1),
    ("handle", "BLOB", true, 2),
    ("linked_at", "INTEGER", true, 0),
    ("expires_at", "INTEGER", true, 0),
    ("pending", "INTEGER", true, 0),
];

const MARKED: [Column; 2] = [
    ("user_id", "BLOB", true, 1),
    ("marked_at", "INTEGER", true, 0),
];

impl SqliteStore {
    /// Makes the database ready for sessions: switches the file to WAL, in which reading and writing do not
    /// wait for each other, and creates the tables and their indexes.
    ///
    /// Call it whenever the program starts: where all is there already, nothing changes. Any number of
    /// tasks, processes and pools may do so at once.
    ///
    /// # Errors
    ///
    /// If the engine failed, if the file cannot be switched to WAL, if there is a table of this name that is
    /// none of sessions, or if the database is in memory and the pool would lose it (see
    /// [above](Self#your-own-pool)).
    pub async fn migrate(&self) -> Result<(), StoreError> {
        if self.is_in_memory().await? {
            self.refuse_to_lose_memory()?;
        } else {
            self.switch_to_wal().await?;
        }
        // Each of these is atomic, and does nothing if its work is done, so they need no transaction: one
        // that comes between two of them, or is cut off there, is completed by the next.
        for statement in self.schema() {
            sqlx::query(AssertSqlSafe(statement))
                .execute(self.pool())
                .await
                .map_err(migration_failed)?;
        }
        for (suffix, columns) in TABLES {
            let table = format!("{}{suffix}", self.table.as_str());
            self.check_columns(&table, columns).await?;
        }
        Ok(())
    }

    fn schema(&self) -> [String; 7] {
        let table = self.table.as_str();
        [
            // STRICT: a value of another type is refused when it is written, and not found out when it
            // is read.
            //
            // Not WITHOUT ROWID, though the key is no integer: such a table keeps its rows in the tree of
            // the key, and payloads of up to 64 KiB there would leave hardly a key on a page. So the key
            // has a small index of its own. The payload is last, so that the columns before it are read
            // without following its overflow pages.
            format!(
                r#"CREATE TABLE IF NOT EXISTS "{table}" (
                    handle BLOB NOT NULL PRIMARY KEY CHECK (length(handle) = 16),
                    version INTEGER NOT NULL,
                    created_at INTEGER NOT NULL,
                    expires_at INTEGER NOT NULL,
                    user_id TEXT,
                    payload BLOB NOT NULL
                ) STRICT"#
            ),
            format!(r#"CREATE INDEX IF NOT EXISTS "{table}_expires_at" ON "{table}" (expires_at)"#),
            format!(
                r#"CREATE INDEX IF NOT EXISTS "{table}_user_id" ON "{table}" (user_id)
                WHERE user_id IS NOT NULL"#
            ),
            // These rows are small, so they are kept in the tree of the key.
            format!(
                r#"CREATE TABLE IF NOT EXISTS "{table}{LINKS}" (
                    user_id BLOB NOT NULL,
                    handle BLOB NOT NULL CHECK (length(handle) = 16),
                    linked_at INTEGER NOT NULL,
                    expires_at INTEGER NOT NULL,
                    pending INTEGER NOT NULL,
                    PRIMARY KEY (user_id, handle)
                ) STRICT, WITHOUT ROWID"#
            ),
            format!(
                r#"CREATE INDEX IF NOT EXISTS "{table}{LINKS}_expires_at"
                ON "{table}{LINKS}" (expires_at)"#
            ),
            format!(
                r#"CREATE TABLE IF NOT EXISTS "{table}{MARKS}" (
                    user_id BLOB NOT NULL PRIMARY KEY,
                    marked_at INTEGER NOT NULL
                ) STRICT, WITHOUT ROWID"#
            ),
            format!(
                r#"CREATE INDEX IF NOT EXISTS "{table}{MARKS}_marked_at"
                ON "{table}{MARKS}" (marked_at)"#
            ),
        ]
    }

    /// Asks SQLite itself, since there are many ways to spell such a database.
    async fn is_in_memory(&self) -> Result<bool, StoreError> {
        sqlx::query_scalar::<_, Option<String>>(
            "SELECT file FROM pragma_database_list WHERE name = 'main'",
        )
        .fetch_one(self.pool())
        .await
        .map(|file| file.is_none_or(|file| file.is_empty()))
        .map_err(migration_failed)
    }

    fn refuse_to_lose_memory(&self) -> Result<(), StoreError> {
        let options = self.pool().options();
        if options.get_max_connections() == 1
            && options.get_idle_timeout().is_none()
            && options.get_max_lifetime().is_none()
        {
            return Ok(());
        }
        Err(StoreError::unavailable(
            "an SQLite database in memory cannot keep the sessions of this pool",
            "it lives and ends with a connection: set max_connections(1), idle_timeout(None) and \
             max_lifetime(None), or use a file or the memory store",
        ))
    }

    /// The switch needs the file for itself, and SQLite does not wait for that by the busy timeout; so where
    /// several start at once, all but the first are refused at first.
    async fn switch_to_wal(&self) -> Result<(), StoreError> {
        let deadline = Instant::now() + WAL_PATIENCE;
        loop {
            let switched = sqlx::query_scalar::<_, String>("PRAGMA journal_mode = WAL")
                .fetch_all(self.pool())
                .await;
            match switched {
                Ok(modes) if modes == ["wal"] => return Ok(()),
                Ok(modes) => {
                    return Err(StoreError::unavailable(
                        "cannot switch the SQLite database to WAL",
                        format!("its journal mode is {}", modes.concat()),
                    ));
                }
                Err(error) if is_busy(&error) && Instant::now() < deadline => {
                    sleep(WAL_RETRY).await;
                }
                Err(error) => return Err(failed("switch the SQLite database to WAL", error)),
            }
        }
    }

    /// `IF NOT EXISTS` is content with any table of that name.
    async fn check_columns(&self, table: &str, columns: &[Column]) -> Result<(), StoreError> {
        let found: Vec<(String, String, bool, i64)> =
            sqlx::query_as(r#"SELECT name, type, "notnull", pk FROM pragma_table_info(?1)"#)
                .bind(table)
                .fetch_all(self.pool())
                .await
                .map_err(migration_failed)?;
        let are_ours = found
            .iter()
            .map(|(name, kind, not_null, key)| (name.as_str(), kind.as_str(), *not_null, *key))
            .eq(columns.iter().copied());
        if are_ours {
            return Ok(());
        }
        Err(StoreError::unavailable(
            format!("the table {table:?} is there and is none of sessions"),
            "its columns are others; choose another name by with_table",
        ))
    }
}

fn migration_failed(error: sqlx::Error) -> StoreError {
    failed("make the table of sessions in SQLite", error)
}
